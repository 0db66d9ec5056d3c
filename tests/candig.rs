//! The CanDIG example from beginning to end, as `make demo` runs it: brought up by compose, saved, destroyed, and put back by
//! one `docker run` of the image, its services asked over HTTP.

mod support;

use std::process::Command;

#[test]
fn d1_d2_d5_d6_d7_the_example_is_saved_destroyed_and_put_back() {
    assert!(
        support::docker_succeeds(["image", "inspect", "cofferdam:latest"]),
        "there is no image cofferdam:latest: run `make image`"
    );
    let demo = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/compose-examples/candig/demo.sh"
    );
    let output = Command::new(demo)
        .env("COMPOSE_PROJECT_NAME", support::unique("candig"))
        .output()
        .expect("the demo");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The demo itself compares row counts, checksums and files; what it says was really said.
    for words in [
        "DONOR-DEMO",
        "5 targets saved",
        "Restored 5 targets",
        "restored.",
    ] {
        assert!(
            said.contains(words),
            "the demo does not say `{words}`:\n{said}"
        );
    }
}
