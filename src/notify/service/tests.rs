use insta::assert_snapshot;

use super::super::notice::tests::sample;
use super::super::{Channel, Kind, Notice, Template, split_urls};
use super::*;

const SLACK: &str = "slack://hook:T00000000-B00000000-xxxxSECRETxxxxSECRETxxxx@webhook";
const SLACK_BOT: &str =
    "slack://xoxb:123456789012-1234567890123-4mt0SECRETYL3g1T5L4cK70k@C0123456789";
const DISCORD: &str = "discord://W3dESECRETz4C13_4z-uHfDOo@693853386302554172";
const TELEGRAM: &str =
    "telegram://110201543:AAHdSECRETvCH1vGW-xfSe_fSAs@telegram?chats=@backups,-1001234567890:42";

fn channel(url: &str) -> Channel {
    Channel::parse(url, None).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn bad(url: &str) -> String {
    match Channel::parse(url, None) {
        Ok(channel) => panic!("{url} is taken as {channel}"),
        Err(error) => error.to_string(),
    }
}

/// All that goes to the server.
fn sent(url: &str, notice: &Notice) -> String {
    let requests = channel(url).requests(notice);
    let shown = requests.iter().map(|request| {
        let headers = request.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {}\n", value.expose()))
            .collect();
        let body = serde_json::from_str::<serde_json::Value>(&request.body);
        let body = body.map_or_else(|_| request.body.clone(), |value| format!("{value:#}"));
        format!(
            "{} {}\n{headers}\n{body}",
            request.method,
            request.url.expose()
        )
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

/// The place that is named, with its headers.
fn place(url: &str) -> String {
    let request = &channel(url).requests(&sample())[0];
    let headers = request.headers.iter().skip(1);
    let headers: String = headers
        .map(|(name, value)| format!(" {name}: {}", value.expose()))
        .collect();
    format!("{} {}{headers}", request.method, request.url.expose())
}

#[test]
fn urls_are_taken_as_shoutrrr_has_them() {
    let hook = "POST https://hooks.slack.com/services/T00000000/B00000000/xxxxSECRETxxxxSECRETxxxx";
    let bot = "POST https://slack.com/api/chat.postMessage authorization: Bearer \
               xoxb-123456789012-1234567890123-4mt0SECRETYL3g1T5L4cK70k";
    let discord =
        "POST https://discord.com/api/webhooks/693853386302554172/W3dESECRETz4C13_4z-uHfDOo";
    for (url, expected) in [
        (SLACK, hook),
        (
            "slack://hook-T00000000-B00000000-xxxxSECRETxxxxSECRETxxxx@webhook",
            hook,
        ),
        ("slack://T00000000/B00000000/xxxxSECRETxxxxSECRETxxxx", hook),
        (
            "slack://bot@T00000000/B00000000/xxxxSECRETxxxxSECRETxxxx/?color=good&title=x",
            hook,
        ),
        (
            "slack://bot@hook:T00000000-B00000000-xxxxSECRETxxxxSECRETxxxx@webhook",
            hook,
        ),
        (SLACK_BOT, bot),
        (
            "slack://bot@xoxb:123456789012-1234567890123-4mt0SECRETYL3g1T5L4cK70k@C0123456789",
            bot,
        ),
        (
            "slack://xoxb-123456789012-1234567890123-4mt0SECRETYL3g1T5L4cK70k@backups",
            bot,
        ),
        (DISCORD, discord),
        (
            "discord://W3dESECRETz4C13_4z-uHfDOo@693853386302554172/?splitLines=No&color=0x50D9ff&username=x",
            discord,
        ),
        (
            TELEGRAM,
            "POST https://api.telegram.org/bot110201543:AAHdSECRETvCH1vGW-xfSe_fSAs/sendMessage",
        ),
        (
            "telegram://1:a@telegram/?channels=@x&notification=no&parseMode=html",
            "POST https://api.telegram.org/bot1:a/sendMessage",
        ),
        ("ntfy://ntfy.sh/backups", "POST https://ntfy.sh/"),
        (
            "ntfy://me:p%40ss@ntfy.lan:8080/backups?scheme=http",
            "POST http://ntfy.lan:8080/ authorization: Basic bWU6cEBzcw==",
        ),
        (
            "ntfy://:tk_x@ntfy.sh/backups?cache=No&at=9am",
            "POST https://ntfy.sh/ authorization: Basic OnRrX3g= delay: 9am cache: no",
        ),
        (
            "gotify://gotify.example.org:443/AzyoeNS.D4iJLVa/?priority=1",
            "POST https://gotify.example.org:443/message x-gotify-key: AzyoeNS.D4iJLVa",
        ),
        (
            "gotify://example.org/path/to/gotify/AzyoeNS.D4iJLVa?disabletls=yes",
            "POST http://example.org/path/to/gotify/message x-gotify-key: AzyoeNS.D4iJLVa",
        ),
        (
            "generic://example.org/hook",
            "POST https://example.org/hook",
        ),
        ("generic://example.org", "POST https://example.org"),
        (
            "generic+http://[::1]:8080/a/b?key=v&x=a%20b%26c",
            "POST http://[::1]:8080/a/b?key=v&x=a%20b%26c",
        ),
        (
            "generic://ha.lan:8123/api/webhook/ID?template=json&disabletls=yes",
            "POST http://ha.lan:8123/api/webhook/ID",
        ),
        (
            "generic+https://me:pass@example.org/?@acceptLanguage=tlh-Piqd&method=put",
            "PUT https://example.org/ accept-language: tlh-Piqd authorization: Basic bWU6cGFzcw==",
        ),
        (
            "generic://example.org/?_contentType=a&__title=b&_other=c",
            "POST https://example.org/?contentType=a&_title=b&_other=c",
        ),
        (
            "hc+https://hc-ping.com/5c1f/",
            "POST https://hc-ping.com/5c1f/fail",
        ),
        (
            "HC+HTTP://hc.lan:8000/ping/key/slug?create=1",
            "POST http://hc.lan:8000/ping/key/slug/fail?create=1",
        ),
    ] {
        assert_eq!(place(url), expected, "{url}");
    }
}

#[test]
fn what_is_no_good_url_is_refused_with_what_to_write() {
    let refused = [
        "hunter2-hunter2",
        "://hunter2",
        "slack://hunter2@webhook",
        "slack://xoxb:hunter2@",
        "slack://hook:A-B@webhook",
        "slack://hook:A-B-C@general",
        "slack://hook:A-B-hunter2@webhook?colour=good",
        "slack://hook:A-B-C@webhook?hunter2",
        "discord://hunter2@general",
        "discord://693853386302554172",
        "discord://hunter2@693853386302554172/raw",
        "telegram://hunter2@telegram?chats=1",
        "telegram://1:hunter2@telegram",
        "telegram://1:hunter2@telegram?chats=hunter2",
        "telegram://1:hunter2@telegram?chats=1&preview=hunter2",
        "ntfy://ntfy.sh",
        "ntfy:///backups",
        "ntfy://hunter2@ntfy.sh/backups",
        "ntfy://ntfy.sh/hunter2/x",
        "ntfy://ntfy.sh/hunter2?priority=hihg",
        "ntfy://ntfy.sh/hunter2?scheme=ftp",
        "gotify://gotify.example.org",
        "gotify://gotify.example.org/hunter2?priority=hunter2",
        "gotify://hunter2@gotify.example.org/x",
        "generic://",
        "generic://host/?template=hunter2",
        "generic://host/?template=%7B%7Btitel%7D%7D",
        "generic://host/?template=%7B%7Btitle%7D%7D",
        "generic://host/?titlekey=hunter2",
        "generic://host/?method=hunter2",
        "generic://host/?@a%20b=hunter2",
        "generic://host/?@a=hunter2%0A",
        "generic://host/hunter2%FF?x=%FF",
        "generic://user:hunter/2@host/",
        "generic://host:99999/hunter2",
        "generic://host/hunter2#x",
        "generic://host/hunter 2",
        "hc+https://hc-ping.com/",
        "hc+https://hc-ping.com/hunter2/fail",
        "https://hooks.slack.com/services/A/B/hunter2",
        "https://discord.com/api/webhooks/1/hunter2",
        "https://hunter2.example.org/x",
        "smtp://user:hunter2@mail.example.org/?to=x",
        "teams://hunter2@x",
        "slak://hunter2@webhook",
        "hunter://2",
    ];
    let told: Vec<String> = refused.iter().map(|url| bad(url)).collect();
    let about_hosts = ["https://hunter2.example.org/x"];
    for (url, told) in refused.iter().zip(&told) {
        assert!(
            about_hosts.contains(url) || !told.contains("hunter2"),
            "{url}: {told}"
        );
    }
    assert_snapshot!(told.join("\n"), @r#"
    is not a URL; write it as `scheme://…`; docs/notifications.md shows one for each service
    has no scheme; write it as `scheme://…`; docs/notifications.md shows one for each service
    has no Slack token; write `slack://hook:A-B-C@webhook` with the three parts of the webhook's URL after `/services/`, or `slack://xoxb:REST-OF-THE-TOKEN@CHANNEL`
    has no Slack token; write `slack://hook:A-B-C@webhook` with the three parts of the webhook's URL after `/services/`, or `slack://xoxb:REST-OF-THE-TOKEN@CHANNEL`
    has no Slack token; write `slack://hook:A-B-C@webhook` with the three parts of the webhook's URL after `/services/`, or `slack://xoxb:REST-OF-THE-TOKEN@CHANNEL`
    has no Slack token; write `slack://hook:A-B-C@webhook` with the three parts of the webhook's URL after `/services/`, or `slack://xoxb:REST-OF-THE-TOKEN@CHANNEL`
    has an unknown option; did you mean `color=`?
    has an unknown option; the options are `botname`, `username`, `icon`, `icon_emoji`, `icon_url`, `color`, `thread_ts`, `title`
    has no id of a Discord webhook, which is a number; write `discord://TOKEN@ID`; in the webhook's URL, the id comes first, then the token
    has no Discord token; write `discord://TOKEN@ID`; in the webhook's URL, the id comes first, then the token
    asks for notifications as Discord's own JSON; leave that out, or use `generic+https://discord.com/api/webhooks/ID/TOKEN` with a template
    has no token of a Telegram bot; write `telegram://TOKEN@telegram?chats=@channel,1234567`
    names no chats, or an invalid one; write `telegram://TOKEN@telegram?chats=@channel,1234567`
    names no chats, or an invalid one; write `telegram://TOKEN@telegram?chats=@channel,1234567`
    has something other than `yes` or `no` for `preview`; write `preview=yes` or `preview=no`
    has no ntfy topic, which consists of letters, digits, `-` and `_`; write `ntfy://[USER:PASSWORD@]HOST/TOPIC`
    has no host; write `ntfy://[USER:PASSWORD@]HOST/TOPIC`
    has a user without a password; write `ntfy://[USER:PASSWORD@]HOST/TOPIC`; an access token goes as `ntfy://:TOKEN@HOST/TOPIC`
    has no ntfy topic, which consists of letters, digits, `-` and `_`; write `ntfy://[USER:PASSWORD@]HOST/TOPIC`
    has an unknown priority; did you mean `high`? use `min`, `low`, `default`, `high`, `max`, or 1 to 5
    has something other than `http` or `https` for `scheme`; leave it out, or write `scheme=http`
    has no token of a Gotify application; write `gotify://HOST[/PATH]/TOKEN`
    has a priority that is not a number; write one, as `priority=5`
    has a user or a password, which this service does not use; leave out everything up to the `@`
    has no host; write `generic+https://HOST/PATH`
    has a template that has no placeholder, so every notification would be the same; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
    has a template that has the unknown placeholder `{{titel}}`; did you mean `{{title}}`? the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
    has a template that is not JSON once filled in: expected value at line 1 column 1; write texts as `"{{title}}"`, in quotation marks, and only `{{bytes}}` and `{{duration}}` without; for another format, use `contenttype=text/plain` in the URL
    has `titlekey` or `messagekey` without `template=json`; add `template=json`, or leave them out
    has an unsuitable `method`; write `POST`, `PUT`, `PATCH` or `GET`
    has something after an `@` that is not a header name; write `@authorization=…`
    has an invalid value for the header `a`; write it in printable ASCII
    is not UTF-8 once decoded; encode it in UTF-8
    has something other than a host and port after its scheme; encode special characters in a user or password: `@` is `%40`, `/` is `%2F`, `:` is `%3A`, `?` is `%3F`
    has something other than a host and port after its scheme; encode special characters in a user or password: `@` is `%40`, `/` is `%2F`, `:` is `%3A`, `?` is `%3F`
    contains a `#`; write it as `%23`
    contains a space or a control character; write a space as `%20`
    has no check; write `hc+https://HOST/UUID`, as the service shows it
    ends with a signal; leave out `/start`, `/fail` or `/log`: cofferdam adds them when needed
    has the scheme `https`, which is not supported; write `slack://hook:A-B-C@webhook`, with the part after `/services/`
    has the scheme `https`, which is not supported; write `discord://TOKEN@ID`, with the two parts after `/webhooks/` swapped
    has the scheme `https`, which is not supported; write `generic+https://…` for a webhook, `hc+https://…` for a service like healthchecks.io
    has the scheme `smtp`, which is not supported; to send mail, set --mail-to, --mail-from and --smtp-url
    has the scheme `teams`, which is not supported; use one of `slack`, `discord`, `ntfy`, `telegram`, `gotify`, `generic`, `generic+https`, `generic+http`, `hc+https`, `hc+http`; for other services that take webhooks, use `generic+https` with a template
    has the scheme `slak`, which is not supported; did you mean `slack://`? use one of `slack`, `discord`, `ntfy`, `telegram`, `gotify`, `generic`, `generic+https`, `generic+http`, `hc+https`, `hc+http`; for other services that take webhooks, use `generic+https` with a template
    has the scheme `hunter`, which is not supported; use one of `slack`, `discord`, `ntfy`, `telegram`, `gotify`, `generic`, `generic+https`, `generic+http`, `hc+https`, `hc+http`; for other services that take webhooks, use `generic+https` with a template
    "#);
}

#[test]
fn of_a_url_only_scheme_and_host_are_shown() {
    for (url, shown) in [
        (SLACK, "slack://webhook"),
        (
            "slack://T00000000/B00000000/xxxxSECRETxxxxSECRETxxxx",
            "slack://webhook",
        ),
        (SLACK_BOT, "slack://C0123456789"),
        (DISCORD, "discord://693853386302554172"),
        (TELEGRAM, "telegram://telegram"),
        (
            "ntfy://me:SECRET@ntfy.sh/SECRET?click=https://x/SECRET",
            "ntfy://ntfy.sh",
        ),
        ("gotify://example.org/SECRET", "gotify://example.org"),
        (
            "generic+https://SECRET:SECRET@host:1/SECRET?@authorization=SECRET&$x=SECRET&y=SECRET",
            "generic+https://host:1",
        ),
        (
            "generic://host/?template=%7B%22SECRET%22:%22%7B%7Btitle%7D%7D%22%7D",
            "generic://host",
        ),
        (
            "hc+https://hc-ping.com/SECRET?x=SECRET",
            "hc+https://hc-ping.com",
        ),
    ] {
        let channel = channel(url);
        assert_eq!(channel.to_string(), shown);
        let debug = format!("{channel:?}");
        assert!(!debug.contains("SECRET"), "{debug}");
    }
}

#[test]
fn each_service_is_told_in_its_own_way() {
    let urls = [
        &format!("{SLACK}?username=Backups&icon=:lock:&color=danger"),
        &SLACK_BOT.replace("slack://", "slack://bot@"),
        &format!("{DISCORD}?username=Backups&avatar=https://x/y.png&thread_id=7"),
        TELEGRAM,
        "ntfy://ntfy.sh/backups?tags=floppy_disk,shop&priority=high&click=https://x/",
        "gotify://example.org/AzyoeNS.D4iJLVa?priority=8",
        "generic://example.org/?$projection=retroazimuthal",
        "generic://example.org/?template=json&titlekey=subject&$x=y",
        "hc+https://hc-ping.com/5c1f",
    ];
    let told: Vec<String> = urls.iter().map(|url| sent(url, &sample())).collect();
    assert_snapshot!(told.join("\n\n---\n\n"), @r#"
    POST https://hooks.slack.com/services/T00000000/B00000000/xxxxSECRETxxxxSECRETxxxx
    content-type: application/json; charset=utf-8

    {
      "text": "*shop: backup incomplete, 1 target failed*",
      "attachments": [
        {
          "color": "danger",
          "text": "```\nSnapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" &lt;@here&gt;\n```",
          "mrkdwn_in": [
            "text"
          ]
        }
      ],
      "username": "Backups",
      "icon_emoji": ":lock:"
    }

    ---

    POST https://slack.com/api/chat.postMessage
    content-type: application/json; charset=utf-8
    authorization: Bearer xoxb-123456789012-1234567890123-4mt0SECRETYL3g1T5L4cK70k

    {
      "text": "*shop: backup incomplete, 1 target failed*\n```\nSnapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" &lt;@here&gt;\n```",
      "username": "bot",
      "channel": "C0123456789"
    }

    ---

    POST https://discord.com/api/webhooks/693853386302554172/W3dESECRETz4C13_4z-uHfDOo?thread_id=7
    content-type: application/json; charset=utf-8

    {
      "content": "**shop: backup incomplete, 1 target failed**\n```\nSnapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" <@here>\n```",
      "allowed_mentions": {
        "parse": []
      },
      "username": "Backups",
      "avatar_url": "https://x/y.png"
    }

    ---

    POST https://api.telegram.org/bot110201543:AAHdSECRETvCH1vGW-xfSe_fSAs/sendMessage
    content-type: application/json; charset=utf-8

    {
      "chat_id": "@backups",
      "text": "<b>shop: backup incomplete, 1 target failed</b>\n<pre>Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" &lt;@here&gt;</pre>",
      "parse_mode": "HTML",
      "disable_notification": false,
      "link_preview_options": {
        "is_disabled": false
      }
    }

    POST https://api.telegram.org/bot110201543:AAHdSECRETvCH1vGW-xfSe_fSAs/sendMessage
    content-type: application/json; charset=utf-8

    {
      "chat_id": "-1001234567890",
      "text": "<b>shop: backup incomplete, 1 target failed</b>\n<pre>Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" &lt;@here&gt;</pre>",
      "parse_mode": "HTML",
      "disable_notification": false,
      "link_preview_options": {
        "is_disabled": false
      },
      "message_thread_id": 42
    }

    ---

    POST https://ntfy.sh/
    content-type: application/json; charset=utf-8
    click: https://x/

    {
      "topic": "backups",
      "title": "shop: backup incomplete, 1 target failed",
      "message": "Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" <@here>",
      "tags": [
        "floppy_disk",
        "shop"
      ],
      "priority": 4
    }

    ---

    POST https://example.org/message
    content-type: application/json; charset=utf-8
    x-gotify-key: AzyoeNS.D4iJLVa

    {
      "title": "shop: backup incomplete, 1 target failed",
      "message": "Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" <@here>",
      "priority": 8
    }

    ---

    POST https://example.org/
    content-type: application/json

    {
      "format": 1,
      "tool": "cofferdam 0.1.0",
      "kind": "failure",
      "time": "2026-11-21T02:01:23Z",
      "projects": [
        "shop"
      ],
      "title": "shop: backup incomplete, 1 target failed",
      "body": "Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" <@here>",
      "snapshots": [
        "20261121T020000Z-9f2c61aa"
      ],
      "failed": [
        "db/postgres/shop"
      ],
      "stored_bytes": 352321536,
      "duration_seconds": 83,
      "projection": "retroazimuthal"
    }

    ---

    POST https://example.org/
    content-type: application/json

    {
      "subject": "shop: backup incomplete, 1 target failed",
      "message": "Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB\n  FAILED: db/postgres/shop: password authentication failed for user \"shop\" <@here>",
      "x": "y"
    }

    ---

    POST https://hc-ping.com/5c1f/fail
    content-type: text/plain; charset=utf-8

    shop: backup incomplete, 1 target failed

    Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB
      FAILED: db/postgres/shop: password authentication failed for user "shop" <@here>
    "#);
}

#[test]
fn what_is_long_is_cut_to_what_a_service_takes() {
    let long = Notice {
        title: "<&\u{1f600}>".repeat(100),
        body: format!("{}\n", "<ü\u{1f600}``` ".repeat(30_000)),
        ..sample()
    };
    let body = |url: &str| -> serde_json::Value {
        serde_json::from_str(&channel(url).requests(&long)[0].body).unwrap()
    };
    let note = "(cut here)";
    let slack = body(SLACK)["text"].as_str().unwrap().to_owned();
    let discord = body(DISCORD)["content"].as_str().unwrap().to_owned();
    let telegram = body(TELEGRAM)["text"].as_str().unwrap().to_owned();
    let ntfy = body("ntfy://ntfy.sh/x")["message"]
        .as_str()
        .unwrap()
        .to_owned();
    let ping = channel("hc+https://hc-ping.com/x")
        .requests(&long)
        .remove(0)
        .body;
    for text in [&slack, &discord, &telegram, &ntfy, &ping] {
        assert!(text.contains(note), "{text}");
    }
    for text in [&slack, &discord] {
        assert!(
            text.ends_with("\n```") && text.matches("```").count() == 2,
            "{text}"
        );
    }
    let decoded = telegram
        .replace("<b>", "")
        .replace("</b>", "")
        .replace("<pre>", "")
        .replace("</pre>", "")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    for (length, most) in [
        (slack.chars().count(), 40_000),
        (discord.encode_utf16().count(), 2_000),
        (decoded.encode_utf16().count(), 4_096),
        (ntfy.len(), 4_095),
        (ping.len(), 100_000),
    ] {
        assert!(length <= most && length > most - 20, "{length} of {most}");
    }
    // Nothing is cut where there is room.
    assert_eq!(body("gotify://x/y")["message"], long.text());
    assert_eq!(body("generic://x/y")["body"], long.text());
}

#[test]
fn signals_are_those_of_the_service() {
    let path = |kind| {
        let notice = Notice { kind, ..sample() };
        place_of("hc+https://hc-ping.com/x", &notice)
    };
    assert_eq!(path(Kind::Success), "https://hc-ping.com/x");
    assert_eq!(path(Kind::Recovery), "https://hc-ping.com/x");
    assert_eq!(path(Kind::Failure), "https://hc-ping.com/x/fail");
    assert_eq!(path(Kind::Stale), "https://hc-ping.com/x/fail");
    assert_eq!(path(Kind::Test), "https://hc-ping.com/x/log");

    let overshadowed = Notice {
        kind: Kind::Success,
        is_overshadowed: true,
        ..sample()
    };
    let place = place_of("hc+https://hc-ping.com/x", &overshadowed);
    assert_eq!(place, "https://hc-ping.com/x/fail");
}

fn place_of(url: &str, notice: &Notice) -> String {
    channel(url).requests(notice)[0].url.expose().to_owned()
}

#[test]
fn a_template_is_for_the_webhooks_without_one() {
    let template = Template::parse("message={{title}}").unwrap();
    let body = |url: &str| {
        let channel = Channel::parse(url, Some(&template))?;
        Ok::<_, BadNotify>(channel.requests(&sample()).remove(0).body)
    };
    let form = "generic://x/?contenttype=application/x-www-form-urlencoded";
    assert_snapshot!(body(form).unwrap(), @"message=shop%3A%20backup%20incomplete%2C%201%20target%20failed");
    let own = "generic://x/?contenttype=text/plain&template=%7B%7Bkind%7D%7D";
    assert_eq!(body(own).unwrap(), "failure");
    assert!(body("generic://x/?template=json").unwrap().starts_with('{'));
    // It is no JSON, and JSON is what is meant unless another type is named.
    assert_snapshot!(body("generic://x/").unwrap_err(), @r#"has COFFERDAM_NOTIFY_TEMPLATE[_FILE] as its template, which is not JSON once filled in: expected value at line 1 column 1; write texts as `"{{title}}"`, in quotation marks, and only `{{bytes}}` and `{{duration}}` without; for another format, use `contenttype=text/plain` in the URL"#);
    assert!(body("gotify://x/y").is_ok());
}

#[test]
fn answers_that_look_like_success_are_read() {
    let slack = channel(SLACK_BOT);
    let ping = channel("hc+https://hc-ping.com/x");
    for (channel, answer, expected) in [
        (&slack, r#"{"ok":true,"warning":"x"}"#, None),
        (
            &slack,
            r#"{"ok":false,"error":"channel_not_found"}"#,
            Some(("channel_not_found", false)),
        ),
        (
            &slack,
            r#"{"ok":false,"error":"ratelimited"}"#,
            Some(("ratelimited", true)),
        ),
        (&slack, "ok", None),
        (&ping, "OK", None),
        (
            &ping,
            "OK (not found)",
            Some(("the check does not exist", false)),
        ),
        (
            &ping,
            "OK (rate limited)\n",
            Some(("too many requests", true)),
        ),
    ] {
        let refusal = channel.service.refusal(answer);
        let refusal = refusal
            .as_ref()
            .map(|(why, may_pass)| (why.as_str(), *may_pass));
        assert_eq!(refusal, expected, "{answer}");
    }
}

#[test]
fn a_list_is_divided_where_a_url_begins() {
    for (text, expected) in [
        ("a://x", vec!["a://x"]),
        ("a://x,b://y", vec!["a://x", "b://y"]),
        (
            " a://x , b+c://y,\n\nd://z\r\n",
            vec!["a://x", "b+c://y", "d://z"],
        ),
        (
            "telegram://1:a@t?chats=1,@b,ntfy://h/t?tags=x,y",
            vec!["telegram://1:a@t?chats=1,@b", "ntfy://h/t?tags=x,y"],
        ),
        ("a://x,typo", vec!["a://x,typo"]),
        (",\n", vec![]),
    ] {
        assert_eq!(split_urls(text), expected, "{text}");
    }
}
