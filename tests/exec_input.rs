//! Databases go back through the input of an exec, which proxies between cofferdam and the engine may damage, or carry in
//! part only.

use crate::support::proxy::{Fault, FaultProxy};
use crate::support::stack::{Run, TestStack};

fn through(proxy: &FaultProxy, stack: &TestStack, arguments: &[&str]) -> Run {
    let mut command = stack.command(arguments);
    command.env("DOCKER_HOST", proxy.docker_host());
    command.output().expect("cofferdam").into()
}

#[test]
fn what_is_damaged_on_its_way_is_refused_and_the_old_data_stands() {
    for mode in ["swap", "recreate", "clean"] {
        let stack = TestStack::new("damaged");
        let postgres = stack.postgres(
            "db",
            &[
                ("cofferdam.postgres", "clinical"),
                ("cofferdam.postgres.restore", mode),
            ],
        );
        postgres.seed("clinical", 2_000);
        // Compressed, the damage would not even reach the database.
        stack
            .cofferdam(&["backup", "--compression", "none"])
            .expect(0);
        postgres.sql(
            "clinical",
            "UPDATE patients SET note = 'present ' || id WHERE id > 1000",
        );
        let before = postgres.fingerprint("clinical");

        let proxy = FaultProxy::start();
        let damage = Fault::damage_once(b"note ", b"nota ");
        proxy.on("POST", "/exec/*/start", damage);
        let run = through(
            &proxy,
            &stack,
            &["restore", "latest", "*/clinical", "--yes"],
        );
        run.expect_says(1, "damaged");
        assert_eq!(postgres.fingerprint("clinical"), before, "{mode}");
        assert_eq!(
            postgres.databases(),
            ["clinical", "postgres", "template0", "template1"]
        );
        stack.ensure_nothing_is_left();
    }
}

#[test]
fn an_input_whose_end_is_not_carried_is_enough() {
    let stack = TestStack::new("noend");
    let servers = ["copy", "stream"].map(|transfer| {
        stack.postgres(
            transfer,
            &[
                ("cofferdam.postgres", "clinical"),
                ("cofferdam.postgres.transfer", transfer),
            ],
        )
    });
    for postgres in &servers {
        postgres.seed("clinical", 2_000);
        postgres.sql(
            "clinical",
            "CREATE ROLE reader; GRANT SELECT ON patients TO reader",
        );
    }
    let before = servers
        .each_ref()
        .map(|server| server.fingerprint("clinical"));
    let proxy = FaultProxy::start();
    proxy.on("POST", "/exec/*/start", Fault::NoEndOfInput);
    through(&proxy, &stack, &["backup"]).expect(0);
    for postgres in &servers {
        postgres.sql("clinical", "DROP TABLE patients; DROP ROLE reader");
    }
    through(&proxy, &stack, &["restore", "latest", "--yes"]).expect(0);
    let after = servers
        .each_ref()
        .map(|server| server.fingerprint("clinical"));
    assert_eq!(after, before);
}

#[test]
#[ignore = "waits for a minute"]
fn a_proxy_that_carries_no_input_is_named() {
    let stack = TestStack::new("noinput");
    let postgres = stack.postgres("db", &[("cofferdam.postgres", "clinical")]);
    postgres.seed("clinical", 2_000);
    let before = postgres.fingerprint("clinical");
    let proxy = FaultProxy::start();
    proxy.on("POST", "/exec/*/start", Fault::NoInput);
    through(&proxy, &stack, &["backup"]).expect(0);
    through(
        &proxy,
        &stack,
        &["restore", "latest", "*/clinical", "--yes"],
    )
    .expect_says(1, "does not pass on the input of an exec");
    assert_eq!(postgres.fingerprint("clinical"), before);
    stack.ensure_nothing_is_left();
}
