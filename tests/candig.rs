//! The CanDIG example from beginning to end, as `make demo` runs it: brought up by compose, saved, destroyed, and put back by
//! one `docker run` of the image, its services asked over HTTP.

use crate::support::compose::{ComposeStack, Sidecar};
use age::secrecy::ExposeSecret;

#[test]
fn d1_d2_d5_d6_d7_d8_the_example_is_saved_destroyed_and_put_back() {
    crate::support::example::run_demo(
        "candig",
        &["DONOR-DEMO", "has exited with 0", "Restored 5 targets"],
    );
}

/// What the sidecar of the example writes it cannot read: only who brings the identity restores it.
#[test]
fn d3_backups_are_encrypted_so_that_the_machine_that_makes_them_cannot_read_them() {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let mut stack = ComposeStack::new("candig", Sidecar::Beside);
    stack.set("CANDIG_BACKUP_RECIPIENTS", &recipient);
    let key = stack.made_on_host("key.txt");
    std::fs::write(&key, identity.to_string().expose_secret()).expect("a file");
    stack.compose("up --detach");
    stack.wait_until_healthy(&["postgres-db", "katsu", "htsget", "vault"]);
    let donors = stack.get("katsu", ":8000/summary").expect(200).body;

    let saved = stack.cofferdam("backup");
    saved.expect_says(0, "5 targets saved");
    let shown = stack.cofferdam("show latest --json").expect(0).json();
    for target in shown["targets"].as_array().expect("targets") {
        for artifact in target["artifacts"].as_array().expect("artifacts") {
            let to = &artifact["encryption"]["age"]["to"]["recipients"];
            assert_eq!(*to, serde_json::json!([recipient]), "{artifact}");
        }
    }
    stack.exec(
        "postgres-db",
        &[
            "psql",
            "-U",
            "admin",
            "-d",
            "clinical",
            "-c",
            "DROP TABLE donors CASCADE",
        ],
    );
    let alone = stack.cofferdam("restore latest --yes");
    alone.expect_says(2, "--identity-file");
    let volume = format!("{}:/key.txt:ro", key.display());
    let restored =
        stack.cofferdam_with_volume(&volume, "restore latest --yes --identity-file /key.txt");
    restored.expect_says(0, "Restored 5 targets");
    stack.wait_until_healthy(&["postgres-db", "katsu", "htsget", "vault"]);
    assert_eq!(stack.get("katsu", ":8000/summary").expect(200).body, donors);
}
