//! A migration as a file that Compose merges with the project's own, the remarks as comments above.

use std::collections::BTreeMap;

use super::layout::wrapped;
use super::yaml::{scalar, value};
use crate::migrate::{Declaration, Migration, RemarkKind, Sidecar, SidecarMount};
use crate::text::printable;

/// Columns of the comments, whatever the terminal has: they are read in a file.
const WIDTH: usize = 100;

/// One document a project.
pub fn override_files(migrations: &[Migration]) -> String {
    let documents: Vec<String> = migrations.iter().map(override_file).collect();
    documents.join("---\n")
}

fn override_file(migration: &Migration) -> String {
    let mut file = File::default();
    let headline = format!(
        "Project {}: what the labels of {} amount to in cofferdam's. Save it beside the compose file, as \
         compose.cofferdam.yaml, and name both: `docker compose -f compose.yaml -f compose.cofferdam.yaml up -d`.",
        migration.project, migration.from
    );
    file.comment("", &headline);
    for (kind, title) in [
        (RemarkKind::ToDo, "To do, or to look at:"),
        (RemarkKind::Differs, "Different from now on:"),
        (RemarkKind::Lost, "Without an equivalent:"),
    ] {
        let mut remarks = migration
            .remarks
            .iter()
            .filter(|remark| remark.kind == kind)
            .peekable();
        if remarks.peek().is_some() {
            file.line("#");
            file.comment("", title);
        }
        for remark in remarks {
            let name = remark.name.iter().map(|name| format!(", {name}"));
            let about = format!("{}{}", remark.service, name.collect::<String>());
            file.comment("- ", &format!("{about}: {}", remark.text));
        }
    }
    file.line("services:");
    for (service, labels) in &migration.services {
        file.line(&format!("  {}:", scalar(service)));
        file.map("    labels:", labels);
    }
    sidecar(&mut file, &migration.sidecar);
    file.text
}

fn sidecar(file: &mut File, sidecar: &Sidecar) {
    file.line("  cofferdam:");
    file.line("    image: cofferdam");
    file.line("    profiles: [backup]");
    file.map("    environment:", &sidecar.environment);
    if !sidecar.mounts.is_empty() {
        file.line("    volumes:");
    }
    for mount in &sidecar.mounts {
        let SidecarMount {
            target,
            source,
            read_only,
        } = mount;
        let kind = if source.starts_with('/') {
            "bind"
        } else {
            "volume"
        };
        file.line(&format!("      - type: {kind}"));
        file.line(&format!("        source: {}", value(source)));
        file.line(&format!("        target: {}", value(target)));
        if *read_only {
            file.line("        read_only: true");
        }
    }
    if !sidecar.secrets.is_empty() {
        let names: Vec<&str> = sidecar.secrets.iter().map(String::as_str).collect();
        file.line(&format!("    secrets: [{}]", names.join(", ")));
    }
    if !sidecar.new_volumes.is_empty() {
        file.line("volumes:");
    }
    for (name, declaration) in &sidecar.new_volumes {
        match declaration {
            Declaration::Own => file.line(&format!("  {}: {{}}", scalar(name))),
            Declaration::External => {
                file.line(&format!("  {}:", scalar(name)));
                file.line("    external: true");
            }
        }
    }
    if !sidecar.secrets.is_empty() {
        file.line("secrets:");
    }
    for name in &sidecar.secrets {
        file.line(&format!("  {name}:"));
        file.line(&format!("    file: ./secrets/{name}"));
    }
}

#[derive(Default)]
struct File {
    text: String,
}

impl File {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Comment lines, of which the first begins with `mark` and the others are indented as far.
    fn comment(&mut self, mark: &str, text: &str) {
        let room = WIDTH - "# ".len() - mark.len();
        let indent = " ".repeat(mark.len());
        for (at, line) in wrapped(&printable(text), Some(room)).iter().enumerate() {
            let mark = if at == 0 { mark } else { &indent };
            self.line(&format!("# {mark}{line}"));
        }
    }

    fn map(&mut self, heading: &str, entries: &BTreeMap<String, String>) {
        if entries.is_empty() {
            return;
        }
        self.line(heading);
        for (key, text) in entries {
            self.line(&format!("      {}: {}", scalar(key), value(text)));
        }
    }
}
