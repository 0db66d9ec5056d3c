//! Known passwords, everything logged: nothing of them anywhere.

use std::path::Path;

use crate::support::docker;
use crate::support::stack::{PASSWORD, TestStack, files_with};

#[test]
fn no_password_reaches_logs_manifests_messages_or_process_lists() {
    let stack = TestStack::new("secrets");
    let postgres = stack.postgres_with(
        "db",
        &[("cofferdam.postgres", "*")],
        &[
            "--env",
            "POSTGRES_INITDB_ARGS=--auth-local=scram-sha-256 --auth-host=scram-sha-256",
        ],
    );
    let as_admin = |sql: &str| {
        docker([
            "exec",
            "--env",
            &format!("PGPASSWORD={PASSWORD}"),
            &postgres.container.id,
            "psql",
            "-U",
            "admin",
            "-d",
            "clinical",
            "-c",
            sql,
        ])
    };
    as_admin("CREATE TABLE patients AS SELECT g AS id FROM generate_series(1, 1000) g");

    // Clients warn of what they meet, and succeed.
    let chatty = format!(
        r#"#!/bin/sh\necho "warning: {PASSWORD} was refused once" >&2\nexec /usr/bin/pg_dump "$@"\n"#
    );
    postgres.container.sh(&format!(
        "printf '{chatty}' >/usr/local/bin/pg_dump; chmod +x /usr/local/bin/pg_dump"
    ));

    let traced = ["--log", "trace"];
    let mut said = String::new();
    for arguments in [
        &["plan"][..],
        &["backup"],
        &["backup", "--json"],
        &["show", "latest"],
        &["list", "--json"],
        &["restore", "latest", "--yes"],
        &["verify", "--read"],
    ] {
        let all: Vec<&str> = arguments.iter().chain(&traced).copied().collect();
        let run = stack.cofferdam(&all).expect(0);
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
    }
    // Failures talk more than successes.
    as_admin("ALTER ROLE admin PASSWORD 'another'");
    let run = stack.cofferdam(&["backup", "--log", "trace"]).expect(1);
    said.push_str(&run.stdout);
    said.push_str(&run.stderr);

    assert!(
        said.len() > 1000,
        "nothing was logged: this test shows nothing"
    );
    assert!(!said.contains(PASSWORD), "the password was printed");
    assert!(said.contains("warning: [redacted] was refused once"));
    assert_eq!(
        files_with(&stack.repository(), PASSWORD),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(
        files_with(Path::new(stack.directory.path()), PASSWORD),
        Vec::<std::path::PathBuf>::new()
    );
}
