//! Bodies that the user writes, with placeholders: `{"text": "{{title}}"}`.

use super::notice::Notice;
use super::{BadNotify, Kind};
use crate::text::{nearest_word, printable, quoted};

#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// What the user has written may hold a token.
impl std::fmt::Debug for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Written(String),
    Placeholder(Field),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Title,
    Body,
    Kind,
    Project,
    Snapshot,
    Failed,
    Bytes,
    Duration,
    Time,
}

/// What a value becomes, so that it stays within its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// For the inside of a string.
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    None,
}

impl Field {
    const ALL: [(&str, Self); 9] = [
        ("title", Self::Title),
        ("body", Self::Body),
        ("kind", Self::Kind),
        ("project", Self::Project),
        ("snapshot", Self::Snapshot),
        ("failed", Self::Failed),
        ("bytes", Self::Bytes),
        ("duration", Self::Duration),
        ("time", Self::Time),
    ];

    fn of(self, notice: &Notice) -> String {
        let listed = |names: &[String]| {
            let names: Vec<String> = names.iter().map(|name| printable(name)).collect();
            names.join(", ")
        };
        match self {
            Self::Title => notice.headline(),
            Self::Body => notice.text(),
            Self::Kind => notice.kind.as_str().to_owned(),
            Self::Project => listed(&notice.projects),
            Self::Snapshot => listed(&notice.facts.snapshots),
            Self::Failed => listed(&notice.facts.failed),
            Self::Bytes => notice.facts.bytes.unwrap_or(0).to_string(),
            Self::Duration => notice.facts.seconds().unwrap_or(0).to_string(),
            Self::Time => notice.time.to_string(),
        }
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, BadNotify> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((written, behind)) = rest.split_once("{{") {
            let line = 1 + text[..text.len() - behind.len()].matches('\n').count();
            let inside = behind.split_once("}}");
            let Some((name, after)) = inside.filter(|(name, _)| !name.contains(['{', '\n'])) else {
                return Err(BadNotify::new(
                    format!("has a `{{{{` in line {line} without a closing `}}}}`"),
                    format!("write a placeholder as `{{{{title}}}}`; {}", choice()),
                ));
            };
            pieces.push(Piece::Written(written.to_owned()));
            pieces.push(Piece::Placeholder(field(name.trim())?));
            rest = after;
        }
        if pieces.is_empty() {
            return Err(BadNotify::new(
                "has no placeholder, so every notification would be the same",
                choice(),
            ));
        }
        pieces.push(Piece::Written(rest.to_owned()));
        Ok(Self(pieces))
    }

    pub(super) fn fill(&self, notice: &Notice, escaping: Escaping) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Written(text) => text.clone(),
            Piece::Placeholder(field) => escaping.of(&field.of(notice)),
        });
        pieces.collect()
    }

    /// Whether what comes of it is JSON, which a sample shows that has everything.
    pub(super) fn ensure_json(&self) -> Result<(), BadNotify> {
        let sample = Notice {
            kind: Kind::Test,
            projects: vec!["project".to_owned()],
            title: "a \"title\"".to_owned(),
            body: "two\nlines".to_owned(),
            facts: super::Facts::default(),
            is_overshadowed: false,
            is_remarkable: false,
            time: jiff::Timestamp::UNIX_EPOCH,
        };
        let filled = self.fill(&sample, Escaping::Json);
        match serde_json::from_str::<serde::de::IgnoredAny>(&filled) {
            Ok(_) => Ok(()),
            Err(error) => Err(BadNotify::new(
                format!("is not JSON once filled in: {error}"),
                "write texts as `\"{{title}}\"`, in quotation marks, and only `{{bytes}}` and `{{duration}}` without; for \
                 another format, use `contenttype=text/plain` in the URL",
            )),
        }
    }

    /// Words that may be tokens.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let written = self.0.iter().filter_map(|piece| match piece {
            Piece::Written(text) => Some(text.as_str()),
            Piece::Placeholder(_) => None,
        });
        written.flat_map(|text| {
            text.split(|char: char| !char.is_ascii_alphanumeric() && !"-_.".contains(char))
        })
    }
}

fn field(name: &str) -> Result<Field, BadNotify> {
    let known = Field::ALL.into_iter().find(|(known, _)| *known == name);
    known.map(|(_, field)| field).ok_or_else(|| {
        let meant = nearest_word(name, Field::ALL.map(|(name, _)| name));
        let meant = meant.map(|near| format!("did you mean `{{{{{near}}}}}`? "));
        BadNotify::new(
            format!("has the unknown placeholder `{{{{{}}}}}`", quoted(name)),
            format!("{}{}", meant.unwrap_or_default(), choice()),
        )
    })
}

fn choice() -> String {
    let all = Field::ALL.map(|(name, _)| format!("`{{{{{name}}}}}`"));
    format!("the placeholders are {}", all.join(", "))
}

impl Escaping {
    fn of(self, value: &str) -> String {
        match self {
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Form => super::address::encoded(value),
            Self::None => value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::tests::sample;
    use super::*;
    use insta::assert_snapshot;

    fn filled(template: &str, escaping: Escaping) -> String {
        Template::parse(template).unwrap().fill(&sample(), escaping)
    }

    #[test]
    fn placeholders_are_filled_in() {
        let all = Field::ALL.map(|(name, _)| format!("{name}={{{{ {name} }}}}"));
        assert_snapshot!(filled(&all.join("\n"), Escaping::None), @r#"
        title=shop: backup incomplete, 1 target failed
        body=Snapshot 20261121T020000Z-9f2c61aa of project shop: 2 targets saved, 336 MiB
          FAILED: db/postgres/shop: password authentication failed for user "shop" <@here>
        kind=failure
        project=shop
        snapshot=20261121T020000Z-9f2c61aa
        failed=db/postgres/shop
        bytes=352321536
        duration=83
        time=2026-11-21T02:01:23Z
        "#);
        assert_eq!(filled("{{kind}}", Escaping::None), "failure");
        assert_eq!(
            filled("a{{kind}}{{kind}}b}}", Escaping::None),
            "afailurefailureb}}"
        );
    }

    #[test]
    fn values_stay_in_their_place() {
        let json = filled(
            r#"{"a": {"text": "{{body}}"}, "bytes": {{bytes}}}"#,
            Escaping::Json,
        );
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["a"]["text"], sample().text());
        assert_eq!(value["bytes"], 352_321_536);
        let form = filled("message={{body}}&project={{project}}", Escaping::Form);
        assert!(
            form.contains("%0A%20%20FAILED%3A%20db%2Fpostgres%2Fshop"),
            "{form}"
        );
        assert!(form.ends_with("&project=shop"), "{form}");
    }

    #[test]
    fn bad_templates_say_what_is_wrong() {
        let bad = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert_snapshot!(
            [
                bad("{\"text\": \"{{titel}}\"}"),
                bad("{{xyzzy}}"),
                bad("{{title}}\n{{body"),
                bad("{{title}\n{{body}}"),
                bad("{\"text\": \"down\"}"),
                bad("{{}}"),
            ]
            .join("\n"),
            @r"
            has the unknown placeholder `{{titel}}`; did you mean `{{title}}`? the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            has the unknown placeholder `{{xyzzy}}`; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            has a `{{` in line 2 without a closing `}}`; write a placeholder as `{{title}}`; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            has a `{{` in line 1 without a closing `}}`; write a placeholder as `{{title}}`; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            has no placeholder, so every notification would be the same; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            has the unknown placeholder `{{}}`; the placeholders are `{{title}}`, `{{body}}`, `{{kind}}`, `{{project}}`, `{{snapshot}}`, `{{failed}}`, `{{bytes}}`, `{{duration}}`, `{{time}}`
            "
        );
    }

    #[test]
    fn json_is_tried_before_it_is_needed() {
        for (text, good) in [
            (r#"{"text": "{{title}}\n{{body}}"}"#, true),
            (
                r#"["{{title}}", {"bytes": {{bytes}}, "seconds": {{duration}}}]"#,
                true,
            ),
            (r#"{"text": {{title}}}"#, false),
            (r#"{"text": "{{title}}""#, false),
            ("{{title}}", false),
        ] {
            assert_eq!(
                Template::parse(text).unwrap().ensure_json().is_ok(),
                good,
                "{text}"
            );
        }
        let error = Template::parse(r#"{"text": {{title}}}"#)
            .unwrap()
            .ensure_json();
        assert_snapshot!(error.unwrap_err(), @r#"is not JSON once filled in: expected value at line 1 column 10; write texts as `"{{title}}"`, in quotation marks, and only `{{bytes}}` and `{{duration}}` without; for another format, use `contenttype=text/plain` in the URL"#);
    }
}
