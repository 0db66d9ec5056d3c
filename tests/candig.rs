//! The CanDIG example from beginning to end, as `make demo` runs it: brought up by compose, saved, destroyed, and put back by
//! one `docker run` of the image, its services asked over HTTP.

use crate::support::compose::{ComposeStack, Sidecar};
use age::secrecy::ExposeSecret;
use serde_json::Value;

#[test]
fn d1_d2_d5_d6_d7_d8_the_example_is_saved_destroyed_and_put_back() {
    crate::support::example::run_demo(
        "candig",
        &["DONOR-DEMO", "exited with 0", "Restored 5 targets"],
    );
}

/// What katsu tells the portal, for a day after it was first asked.
fn individual_count(stack: &ComposeStack) -> Value {
    let address = ":8000/v3/discovery/overview/individual_count/";
    let told = stack.get("katsu", address).expect(200).json();
    told["individual_count"].clone()
}

fn sql(stack: &ComposeStack, database: &str, statement: &str) -> String {
    let psql = ["psql", "-U", "admin", "-d", database, "-Atc", statement];
    stack.exec("postgres-db", &psql)
}

/// What the sidecar of the example writes it cannot read: only who brings the identity restores it. Then the old data is there for
/// everybody to see: past the cache that has seen it destroyed, and by a program that is newer than the snapshot.
#[test]
fn d3_d5_backups_that_their_machine_cannot_read_are_put_back_and_visible() {
    let services = ["postgres-db", "redis", "katsu", "htsget", "vault"];
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let mut stack = ComposeStack::new("candig", Sidecar::Beside);
    stack.set("CANDIG_BACKUP_RECIPIENTS", &recipient);
    let key = stack.made_on_host("key.txt");
    std::fs::write(&key, identity.to_string().expose_secret()).expect("a file");
    stack.compose("up --detach");
    stack.wait_until_healthy(&services);
    let donors = stack.get("katsu", ":8000/summary").expect(200).body;
    let object = sql(&stack, "genomic", "SELECT min(id) FROM drs_objects");
    let object = format!(":8000/drs/{object}");
    let served = stack.get("htsget", &object).expect(200).body;
    // As it was before the last of htsget's scripts.
    sql(
        &stack,
        "genomic",
        "ALTER TABLE drs_objects DROP COLUMN version",
    );

    let saved = stack.cofferdam("backup");
    saved.expect_says(0, "5 targets saved");
    let shown = stack.cofferdam("show latest --json").expect(0).json();
    for target in shown["targets"].as_array().expect("targets") {
        for artifact in target["artifacts"].as_array().expect("artifacts") {
            let to = &artifact["encryption"]["age"]["to"]["recipients"];
            assert_eq!(*to, serde_json::json!([recipient]), "{artifact}");
        }
    }
    sql(&stack, "clinical", "TRUNCATE donors CASCADE");
    assert_eq!(individual_count(&stack), 0);
    let alone = stack.cofferdam("restore latest --yes");
    alone.expect_says(2, "--identity-file");
    let volume = format!("{}:/key.txt:ro", key.display());
    let restored =
        stack.cofferdam_with_volume(&volume, "restore latest --yes --identity-file /key.txt");
    let restored = restored.expect_says(0, "Restored 5 targets");
    assert!(!restored.stdout.contains("stale data"), "{restored:?}");
    stack.wait_until_healthy(&services);
    assert_eq!(stack.get("katsu", ":8000/summary").expect(200).body, donors);
    assert_eq!(individual_count(&stack), 2000);
    assert_eq!(stack.get("htsget", &object).expect(200).body, served);
}
