//! Numbers for Prometheus, in its text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Pure.
//!
//! All are gauges, made anew from what is shown at each scrape. Labels hold names from outside, so their values are escaped.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::shown::{Overview, Project};
use super::standing::{Standing, latest_trouble, of_interest, shrunken, standings};
use crate::amounts::between;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn metrics(overview: &Overview, healthy: bool, now: Timestamp) -> String {
    let projects: Vec<Row<'_>> = of_interest(overview)
        .map(|(name, project)| Row {
            name,
            standings: standings(project, now),
            project,
        })
        .collect();
    let mut text = Text::default();
    text.head("build_info", "Version of the running daemon.");
    text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    text.head(
        "healthy",
        "Whether the daemon is alive and the engine answers it.",
    );
    text.sample("healthy", &[], truth(healthy));
    for Of { name, help, value } in OF_PROJECTS {
        text.head(name, help);
        for row in &projects {
            if let Some(value) = value(row, now) {
                text.sample(name, &[("project", row.name)], value);
            }
        }
    }
    for Of { name, help, value } in OF_TARGETS {
        text.head(name, help);
        for row in &projects {
            for standing in row.standings.iter().filter(|it| it.is_asked_for()) {
                if let Some(value) = value(standing, now) {
                    let target = standing.target.to_string();
                    let labels = [("project", row.name.as_str()), ("target", &target)];
                    text.sample(name, &labels, value);
                }
            }
        }
    }
    text.0
}

struct Row<'a> {
    name: &'a String,
    project: &'a Project,
    standings: Vec<Standing<'a>>,
}

/// A metric, and its value where there is one.
struct Of<T> {
    name: &'static str,
    help: &'static str,
    value: T,
}

type OfProject = Of<fn(&Row<'_>, Timestamp) -> Option<f64>>;
type OfTarget = Of<fn(&Standing<'_>, Timestamp) -> Option<f64>>;

const OF_PROJECTS: &[OfProject] = &[
    Of {
        name: "backup_last_run_timestamp_seconds",
        help: "When the last backup of the project began.",
        value: |row, _| last_run(row).map(seconds_at),
    },
    Of {
        name: "backup_last_run_success",
        help: "Whether the last backup of the project saved every target and had no other problem.",
        value: |row, _| {
            let whole = || {
                let newest = row.project.history.as_ref()?.newest();
                newest.map(|(_, facts)| facts.failed.is_empty())
            };
            match latest_trouble(row.project) {
                Some(_) => Some(0.0),
                None => whole().map(truth),
            }
        },
    },
    Of {
        name: "backup_last_duration_seconds",
        help: "Duration of the last backup that made a snapshot.",
        value: |row, _| {
            let newest = row.project.history.as_ref()?.newest();
            newest.map(|(_, facts)| facts.took.as_secs_f64())
        },
    },
    Of {
        name: "backup_running",
        help: "Whether a backup of the project is running.",
        value: |row, _| Some(truth(row.project.running.is_some())),
    },
    Of {
        name: "backup_next_timestamp_seconds",
        help: "When the next backup of the project is due.",
        value: |row, _| row.project.next.map(seconds_at),
    },
    Of {
        name: "labels_valid",
        help: "Whether the labels of the project can be read.",
        value: |row, _| Some(truth(row.project.trouble.is_none())),
    },
    Of {
        name: "unprotected",
        help: "How many volumes, databases and services of the project lack a label.",
        value: |row, _| {
            let findings = row.project.plan.as_ref()?.findings.as_ref()?;
            Some(findings.len() as f64)
        },
    },
    Of {
        name: "backup_shrunken",
        help: "How many targets became far smaller in the last backup that made a snapshot.",
        value: |row, _| {
            row.project.history.as_ref()?.newest()?;
            Some(shrunken(row.project).len() as f64)
        },
    },
    Of {
        name: "repository_reachable",
        help: "Whether the last attempt to read the repository succeeded.",
        value: |row, _| {
            let project = row.project;
            let looked = project.history.is_some() || project.history_trouble.is_some();
            looked.then(|| truth(project.history_trouble.is_none()))
        },
    },
    Of {
        name: "repository_snapshots",
        help: "How many snapshots of the project there are.",
        value: |row, _| {
            let history = row.project.history.as_ref();
            history.map(|history| history.total as f64)
        },
    },
    Of {
        name: "repository_stored_bytes",
        help: "Size of the newest 100 snapshots of the project in the repository.",
        value: |row, _| {
            let history = row.project.history.as_ref();
            history.map(|history| history.stored() as f64)
        },
    },
];

const OF_TARGETS: &[OfTarget] = &[
    Of {
        name: "backup_last_success_timestamp_seconds",
        help: "Start of the backup that made the newest good copy of the target.",
        value: |target, _| target.good.as_ref().map(|good| seconds_at(good.time)),
    },
    Of {
        name: "backup_age_seconds",
        help: "Age of the newest good copy of the target.",
        value: |target, now| target.age(now).map(|age| age.as_secs_f64()),
    },
    Of {
        name: "backup_age_goal_seconds",
        help: "Maximum age of the newest good copy, by the schedule of its service.",
        value: |target, _| target.goal.map(|goal| goal.as_secs_f64()),
    },
    Of {
        name: "backup_failing",
        help: "Whether the newest attempt at the target failed, or it cannot be reached.",
        value: |target, _| Some(truth(target.failing.is_some())),
    },
    Of {
        name: "backup_damaged",
        help: "Whether the last check found the newest copy of the target damaged.",
        value: |target, _| Some(truth(target.damage.is_some())),
    },
    Of {
        name: "backup_last_plain_bytes",
        help: "Size of the newest good copy before compression.",
        value: |target, _| target.good.as_ref()?.plain.map(|bytes| bytes as f64),
    },
    Of {
        name: "backup_last_stored_bytes",
        help: "Size of the newest good copy in the repository.",
        value: |target, _| target.good.as_ref().map(|good| good.stored as f64),
    },
];

fn last_run(row: &Row<'_>) -> Option<Timestamp> {
    let newest = row.project.history.as_ref().and_then(|it| it.newest());
    let newest = newest.map(|(_, facts)| facts.started);
    newest.max(latest_trouble(row.project).map(|trouble| trouble.at))
}

fn seconds_at(time: Timestamp) -> f64 {
    between(Timestamp::UNIX_EPOCH, time).as_secs_f64().round()
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP cofferdam_{name} {help}");
        let _ = writeln!(self.0, "# TYPE cofferdam_{name} gauge");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "cofferdam_{name}");
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::serve::samples;
    use insta::assert_snapshot;

    #[test]
    fn numbers_of_a_project() {
        let (overview, now) = samples::overview();
        let text = metrics(&overview, true, now);
        let is_of_interest = |line: &&str| !line.starts_with('#') && !line.contains("script");
        let samples: Vec<&str> = text.lines().filter(is_of_interest).collect();
        // Lines of the hostile name's rest begin otherwise.
        assert!(text.lines().all(|line| line.starts_with(['#', 'c'])));
        assert_snapshot!(samples.join("\n"), @r#"
        cofferdam_build_info{version="0.1.0"} 1
        cofferdam_healthy 1
        cofferdam_backup_last_run_timestamp_seconds{project="candig"} 1795226400
        cofferdam_backup_last_run_success{project="candig"} 1
        cofferdam_backup_last_duration_seconds{project="candig"} 75
        cofferdam_backup_running{project="candig"} 0
        cofferdam_backup_next_timestamp_seconds{project="candig"} 1795302000
        cofferdam_labels_valid{project="candig"} 1
        cofferdam_unprotected{project="candig"} 0
        cofferdam_backup_shrunken{project="candig"} 0
        cofferdam_repository_reachable{project="candig"} 1
        cofferdam_repository_snapshots{project="candig"} 7
        cofferdam_repository_stored_bytes{project="candig"} 129500
        cofferdam_backup_last_success_timestamp_seconds{project="candig",target="app/volume/storage"} 1795226400
        cofferdam_backup_last_success_timestamp_seconds{project="candig",target="db/postgres/clinical"} 1795226400
        cofferdam_backup_age_seconds{project="candig",target="app/volume/storage"} 19800
        cofferdam_backup_age_seconds{project="candig",target="db/postgres/clinical"} 19800
        cofferdam_backup_age_goal_seconds{project="candig",target="app/volume/storage"} 93600
        cofferdam_backup_age_goal_seconds{project="candig",target="db/postgres/clinical"} 93600
        cofferdam_backup_failing{project="candig",target="app/volume/storage"} 0
        cofferdam_backup_failing{project="candig",target="db/postgres/clinical"} 0
        cofferdam_backup_damaged{project="candig",target="app/volume/storage"} 0
        cofferdam_backup_damaged{project="candig",target="db/postgres/clinical"} 0
        cofferdam_backup_last_plain_bytes{project="candig",target="app/volume/storage"} 500
        cofferdam_backup_last_plain_bytes{project="candig",target="db/postgres/clinical"} 21000
        cofferdam_backup_last_stored_bytes{project="candig",target="app/volume/storage"} 500
        cofferdam_backup_last_stored_bytes{project="candig",target="db/postgres/clinical"} 21000
        "#);
    }

    #[test]
    fn names_from_outside_stay_in_their_label() {
        let mut text = Text::default();
        text.sample("up", &[("project", "a\"} 1\nb\\")], 1.5);
        assert_eq!(text.0, "cofferdam_up{project=\"a\\\"} 1\\nb\\\\\"} 1.5\n");
    }
}
