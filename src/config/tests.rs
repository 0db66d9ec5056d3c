use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::CommandFactory as _;
use insta::assert_snapshot;

use super::*;
use crate::cli::Cli;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(
        variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn resolved(settings: Settings, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::resolve(&settings, &environment(variables), Path::new("/home/user"))
}

fn good(settings: Settings, variables: &[(&str, &str)]) -> Config {
    resolved(settings, variables).unwrap_or_else(|errors| panic!("{errors}"))
}

fn bad(settings: Settings, variables: &[(&str, &str)]) -> String {
    resolved(settings, variables)
        .expect_err("a problem")
        .to_string()
}

fn directory(path: &str) -> RepositoryUrl {
    RepositoryUrl::Directory(PathBuf::from(path))
}

#[test]
fn without_anything_the_defaults_stand() {
    let config = good(Settings::default(), &[]);
    assert_eq!(config.repository, directory("/backups"));
    assert_eq!(config.scope, Scope::Own);
    assert_eq!(config.compression, Compression::Zstd(3));
    assert_eq!(config.keep, None);
    assert_eq!(config.time_zone, TimeZone::UTC);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.output, Output::Human);
    assert!(config.warnings.is_empty());
}

#[test]
fn a_flag_goes_before_its_variable() {
    let variables = [
        ("COFFERDAM_REPOSITORY", "/from-variable"),
        ("COFFERDAM_COMPRESSION", "gzip:9"),
        ("COFFERDAM_PROJECTS", "a, b"),
        ("COFFERDAM_JSON", "true"),
        ("TZ", ":Europe/Berlin"),
    ];
    let config = good(Settings::default(), &variables);
    assert_eq!(config.repository, directory("/from-variable"));
    assert_eq!(config.compression, Compression::Gzip(9));
    assert_eq!(
        config.scope,
        Scope::Projects(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(config.output, Output::Json);
    assert_eq!(config.time_zone.iana_name(), Some("Europe/Berlin"));

    let settings = Settings {
        repository: Some("here".to_owned()),
        compression: Some("none".to_owned()),
        projects: vec!["c".to_owned(), "c".to_owned()],
        time_zone: Some("UTC".to_owned()),
        ..Settings::default()
    };
    let config = good(settings, &variables);
    assert_eq!(config.repository, directory("/home/user/here"));
    assert_eq!(config.compression, Compression::None);
    assert_eq!(config.scope, Scope::Projects(vec!["c".to_owned()]));
    assert_eq!(config.time_zone, TimeZone::UTC);
}

#[test]
fn scopes_on_the_command_line_outrank_those_of_the_environment() {
    let all = || Settings {
        all_projects: true,
        ..Settings::default()
    };
    let one = || Settings {
        projects: vec!["a".to_owned()],
        ..Settings::default()
    };
    let listed = [("COFFERDAM_PROJECTS", "b")];
    let everything = [("COFFERDAM_ALL_PROJECTS", "true")];
    assert_eq!(good(all(), &listed).scope, Scope::All);
    assert_eq!(good(Settings::default(), &everything).scope, Scope::All);
    assert_eq!(
        good(one(), &everything).scope,
        Scope::Projects(vec!["a".to_owned()])
    );
}

#[test]
fn an_empty_variable_is_no_variable() {
    let config = good(
        Settings::default(),
        &[
            ("COFFERDAM_REPOSITORY", ""),
            ("COFFERDAM_PROJECTS", ""),
            ("COFFERDAM_ALL_PROJECTS", ""),
            ("TZ", ""),
        ],
    );
    assert_eq!(config.repository, directory("/backups"));
    assert_eq!(config.scope, Scope::Own);
}

#[test]
fn rules_of_retention_are_read_and_those_that_add_nothing_are_told() {
    let keep = |text: &str| Settings {
        keep: Some(text.to_owned()),
        ..Settings::default()
    };
    let variables = [("COFFERDAM_KEEP", "daily=7,weekly=4")];
    let kept = |config: Config| config.keep.map(|policy| policy.to_string());
    let from_variable = good(Settings::default(), &variables);
    assert_eq!(kept(from_variable).as_deref(), Some("daily=7,weekly=4"));
    assert_eq!(
        kept(good(keep("last=3"), &variables)).as_deref(),
        Some("last=3")
    );
    assert_snapshot!(bad(keep("daily=0"), &[]), @r"--keep is `daily=0`, which keeps nothing; give one of its rules a number above 0");
    let warnings = good(keep("daily=1,weekly=1"), &[]).warnings;
    assert_snapshot!(warnings.join("\n"), @"--keep: `weekly=1` keeps nothing that the other rules do not: the week that is running counts; write `weekly=2` to keep one of the week before");
}

#[test]
fn posix_time_zones_are_understood() {
    let config = good(Settings::default(), &[("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")]);
    assert_ne!(config.time_zone, TimeZone::UTC);
}

#[test]
fn problems_name_the_flag_or_variable_and_what_to_type() {
    let repository = |url: &str| Settings {
        repository: Some(url.to_owned()),
        ..Settings::default()
    };
    assert_snapshot!(bad(repository("s3://AKIA:hunter2@bucket"), &[]), @"--repository contains a name or password before an `@`; URLs show up in process lists and logs: give credentials in variables or with `credentials-file=`");
    assert_snapshot!(bad(repository("file://backups"), &[]), @r"--repository is not a URL of an absolute path on this machine; write three slashes, such as `file:///backups`");
    assert_snapshot!(
        bad(
            Settings::default(),
            &[
                ("COFFERDAM_ALL_PROJECTS", "true"),
                ("COFFERDAM_COMPRESSION", "zsdt:3"),
                ("COFFERDAM_JSON", "1"),
                ("COFFERDAM_LOG", "inf"),
                ("COFFERDAM_LOG_FORMAT", "yaml"),
                ("COFFERDAM_PROJECTS", "a"),
                ("TZ", "Europe/Belrin"),
            ],
        ),
        @r"
    COFFERDAM_ALL_PROJECTS is `true`, but COFFERDAM_PROJECTS is set too; remove one of them
    COFFERDAM_COMPRESSION is `zsdt:3`; use `zstd[:1-19]`, `gzip[:1-9]` or `none` (did you mean `zstd`?)
    TZ is `Europe/Belrin`, which is not a time zone; give a name such as `UTC` or `Europe/Berlin`
    COFFERDAM_LOG has the unknown level `inf`; did you mean `info`? otherwise use `off`, `error`, `warn`, `info`, `debug` or `trace`, also as `cofferdam::engine=debug`
    COFFERDAM_LOG_FORMAT is `yaml`; use `text` or `json`
    COFFERDAM_JSON is `1`; write `true` or `false`
    "
    );
    assert_snapshot!(bad(Settings::default(), &[("COFFERDAM_PROJECTS", "a,,b")]), @r"COFFERDAM_PROJECTS is `a,,b`, which lacks a project name; write project names separated by commas; `docker compose ls` lists them");
    assert_snapshot!(bad(Settings::default(), &[("COFFERDAM_LOG", "bollard=trace")]), @r"COFFERDAM_LOG names the module `bollard`; use `cofferdam` or a module below it, as `cofferdam::engine=debug`: other modules would log secrets");
}

#[test]
fn a_variable_that_is_not_utf_8_is_told() {
    let environment = Environment::new([(
        OsString::from("COFFERDAM_REPOSITORY"),
        OsString::from_vec(vec![b'/', 0xff]),
    )]);
    let errors = Config::resolve(&Settings::default(), &environment, Path::new("/home/user"));
    assert_snapshot!(errors.unwrap_err(), @r"COFFERDAM_REPOSITORY is not UTF-8; write it in UTF-8");
}

#[test]
fn a_misspelt_variable_is_warned_of() {
    let warnings = good(
        Settings::default(),
        &[
            ("COFFERDAM_REPOSITRY", "/x"),
            ("COFFERDAM_PORT_80_TCP_ADDR", "10.0.0.2"),
            ("COFFERDAM_LOG", "info"),
            ("PATH", "/bin"),
        ],
    )
    .warnings;
    assert_snapshot!(warnings.join("\n"), @r"
    the variable COFFERDAM_PORT_80_TCP_ADDR is unknown and has no effect
    the variable COFFERDAM_REPOSITRY is unknown and has no effect; did you mean COFFERDAM_REPOSITORY?
    ");
}

/// Nobody is told that what the help names has no effect.
#[test]
fn every_variable_of_the_help_is_known() {
    let mut root = Cli::command();
    let subcommands = root.get_subcommands_mut();
    let mut help: String = subcommands
        .map(|it| it.render_long_help().to_string())
        .collect();
    help.push_str(&root.render_long_help().to_string());
    let mut named: Vec<&str> = help
        .split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'))
        .filter(|word| word.starts_with("COFFERDAM_"))
        .collect();
    named.sort_unstable();
    named.dedup();
    assert!(named.len() > 20, "{named:?}");
    let variables: Vec<_> = named.iter().map(|&name| (name, "x")).collect();
    assert_eq!(environment(&variables).warnings(), [] as [&str; 0]);
}

const MAIL: [(&str, &str); 3] = [
    (
        "COFFERDAM_MAIL_TO",
        "ops@example.org, Night <night@example.org>",
    ),
    ("COFFERDAM_MAIL_FROM", "Cofferdam <cofferdam@example.org>"),
    ("COFFERDAM_SMTP_URL", "smtps://mail.example.org"),
];

#[test]
fn mail_goes_to_those_who_are_named() {
    let mail = good(Settings::default(), &MAIL).notify.mail.unwrap();
    assert_eq!(mail.to.len(), 2);
    assert_eq!(mail.server.port, 465);
    assert_eq!(mail.login, None);
    let settings = Settings {
        mail_to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
        ..Settings::default()
    };
    let login = [
        MAIL[1],
        MAIL[2],
        ("COFFERDAM_SMTP_USER", "cofferdam"),
        ("COFFERDAM_SMTP_PASSWORD", "hunter2"),
        ("COFFERDAM_SMTP_CA_FILE", "/ca.pem"),
    ];
    let mail = good(settings, &login).notify.mail.unwrap();
    let to: Vec<_> = mail.to.iter().map(|to| to.email.to_string()).collect();
    assert_eq!(to, ["a@example.org", "b@example.org"]);
    assert_eq!(mail.ca_file, Some(PathBuf::from("/ca.pem")));
    assert!(!format!("{mail:?}").contains("hunter2"));
    // A server alone is no wish for mail.
    assert_eq!(good(Settings::default(), &MAIL[1..]).notify.mail, None);
}

#[test]
fn mail_settings_that_cannot_work_are_refused() {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut all: Vec<(&str, &str)> = MAIL.to_vec();
        for (name, value) in more {
            all.retain(|(known, _)| known != name);
            all.push((name, value));
        }
        bad(Settings::default(), &all)
    };
    assert_snapshot!(bad(Settings::default(), &MAIL[..1]), @r"
    COFFERDAM_SMTP_URL is not set, but --mail-to or COFFERDAM_MAIL_TO is; write `smtps://HOST[:465]` or `smtp+starttls://HOST[:587]`; `smtp://HOST[:25]` is for this machine only
    COFFERDAM_MAIL_FROM is not set, but --mail-to or COFFERDAM_MAIL_TO is; set it to the sender's address
    ");
    assert_snapshot!(with(&[("COFFERDAM_MAIL_TO", "ops"), ("COFFERDAM_MAIL_FROM", "a@b.c, d@e.f")]), @r"
    COFFERDAM_MAIL_TO is `ops`: Invalid input; write addresses separated by commas, as `ops@example.org, Night <night@example.org>`
    COFFERDAM_MAIL_FROM is `a@b.c, d@e.f`; write one address, as `Cofferdam <cofferdam@example.org>`
    ");
    assert_snapshot!(with(&[("COFFERDAM_SMTP_URL", "smtp://mail.example.org")]), @r"COFFERDAM_SMTP_URL would send mail in plain text over the network; use `smtps://` or `smtp+starttls://`, or `smtp+plain://` if that is intended");
    assert_snapshot!(with(&[("COFFERDAM_SMTP_URL", "smtps://me:hunter2@mail.example.org")]), @r"COFFERDAM_SMTP_URL contains a user or a password; set COFFERDAM_SMTP_USER and COFFERDAM_SMTP_PASSWORD_FILE instead");
    assert_snapshot!(with(&[("COFFERDAM_SMTP_USER", "me")]), @r"COFFERDAM_SMTP_USER is set without a password; set COFFERDAM_SMTP_PASSWORD_FILE or COFFERDAM_SMTP_PASSWORD too, or neither");
    assert_snapshot!(with(&[("COFFERDAM_SMTP_PASSWORD", "hunter2"), ("COFFERDAM_SMTP_PASSWORD_FILE", "/run/secrets/smtp")]), @r"COFFERDAM_SMTP_PASSWORD_FILE is set together with COFFERDAM_SMTP_PASSWORD; remove one of them");
    assert_snapshot!(with(&[
        ("COFFERDAM_SMTP_URL", "smtp+plain://relay"),
        ("COFFERDAM_SMTP_USER", "me"),
        ("COFFERDAM_SMTP_PASSWORD", "hunter2"),
    ]), @r"COFFERDAM_SMTP_PASSWORD would be sent in plain text; use `smtps://` or `smtp+starttls://` for a server that requires a login");
}

#[test]
fn status_files_go_to_a_directory() {
    let config = good(Settings::default(), &[("COFFERDAM_STATUS_DIR", "status")]);
    assert_eq!(
        config.status_directory,
        Some(PathBuf::from("/home/user/status"))
    );
    assert_snapshot!(bad(Settings::default(), &[("COFFERDAM_STATUS_DIR", "s3://bucket/status")]), @r"COFFERDAM_STATUS_DIR is `s3://bucket/status`; give the path of a directory");
}

#[test]
fn schedules_and_jitter_are_read() {
    let config = good(Settings::default(), &[]);
    assert_eq!(config.schedule, Schedule::daily());
    assert_eq!(config.jitter, Duration::ZERO);
    let variables = [
        ("COFFERDAM_SCHEDULE", "every 6h"),
        ("COFFERDAM_JITTER", "10m"),
    ];
    let config = good(Settings::default(), &variables);
    assert_eq!(config.schedule.to_string(), "every 6h");
    assert_eq!(config.jitter, Duration::from_secs(600));
    let wrong = [
        ("COFFERDAM_SCHEDULE", "0 24 * * *"),
        ("COFFERDAM_JITTER", "2days"),
    ];
    assert_snapshot!(bad(Settings::default(), &wrong), @r"
    COFFERDAM_SCHEDULE is `0 24 * * *`: Number out of bounds; write `@daily`, `every 6h`, a cron pattern such as `30 2 * * *`, or `off`
    COFFERDAM_JITTER is `2days`; give a time of up to a day, as `10m`
    ");
}
