//! What is printed without an engine or a repository.

use std::process::{Command, Stdio};

use crate::support::program;
use crate::support::stack::Run;

fn cofferdam(arguments: &[&str]) -> Run {
    let output = Command::new(program()).args(arguments).output();
    output.expect("cofferdam").into()
}

#[test]
fn help_is_a_command_too() {
    cofferdam(&["help"]).expect_says(0, "Usage: cofferdam");
    let help = cofferdam(&["help", "backup"]).expect(0);
    assert_eq!(help.stdout, cofferdam(&["backup", "--help"]).stdout);
}

/// `cofferdam completions bash | head -1`
#[test]
fn whoever_reads_completions_may_stop_early() {
    let mut child = Command::new(program())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cofferdam");
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().expect("its output"));
    assert_eq!(run.expect(0).stderr, "");
}
