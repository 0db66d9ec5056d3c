//! What docs/recipes.md says of OpenLDAP and Redis, on real servers, with the labels that stand there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::stack::{PASSWORD, TestStack, eventually};
use crate::support::{TestContainer, docker, docker_succeeds};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/compose-examples/recipes/openldap/openldap.sh"
);

/// The labels of a service in the page.
fn recipe(service: &str) -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../docs/recipes.md");
    let head = format!("\n  {service}:\n");
    let (_, after) = page.split_once(&head).expect("the service is in the page");
    let own = after
        .lines()
        .take_while(|line| line.starts_with("    ") && !line.starts_with("```"));
    own.filter_map(|line| line.trim().split_once(": "))
        .filter(|(key, _)| key.starts_with("cofferdam."))
        .collect()
}

fn server(stack: &TestStack, service: &str, options: &[&str], image: &str) -> TestContainer {
    assert!(
        docker_succeeds(["image", "inspect", image]),
        "there is no image {image}: run scripts/test-images.sh openldap redis"
    );
    stack.service(service, &recipe(service), options, &[image])
}

struct Ldap(TestContainer);

impl Ldap {
    const PEOPLE: &'static str = "ou=people,dc=example,dc=org";

    fn start(stack: &TestStack) -> Self {
        let password = format!("LDAP_ADMIN_PASSWORD={PASSWORD}");
        let script = format!("{SCRIPT}:/usr/local/bin/openldap.sh:ro");
        let options = [
            "--env",
            "LDAP_DOMAIN=example.org",
            "--env",
            &password,
            "--volume",
            &script,
        ];
        let ldap = Self(server(stack, "ldap", &options, "cofferdam-test/openldap:1"));
        ldap.wait();
        ldap
    }

    fn wait(&self) {
        let bind = ["exec", &self.0.id, "openldap.sh", "check"];
        eventually("slapd answers", || docker_succeeds(bind));
    }

    /// Runs a program in the container on this input; whether it succeeds.
    fn run(&self, argv: &[&str], input: &str) -> bool {
        let mut child = Command::new("docker")
            .args(["exec", "-i", &self.0.id])
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the docker program");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait().expect("it ends").success()
    }

    #[track_caller]
    fn change(&self, ldif: &str) {
        let admin = ["-x", "-D", "cn=admin,dc=example,dc=org", "-w", PASSWORD];
        let argv = [&["ldapmodify", "-H", "ldapi:///"], &admin[..]].concat();
        assert!(self.run(&argv, ldif), "{ldif}");
    }

    fn can_log_in(&self, person: &str, password: &str) -> bool {
        let name = format!("{person},{}", Self::PEOPLE);
        docker_succeeds([
            "exec",
            &self.0.id,
            "ldapwhoami",
            "-x",
            "-H",
            "ldap://127.0.0.1",
            "-D",
            &name,
            "-w",
            password,
        ])
    }

    /// Entries by their names, without what a restore makes anew. Of an entry that LDIF cannot tell plainly, the name is
    /// in base64.
    fn entries(&self) -> BTreeMap<String, Vec<String>> {
        let ldif = self.0.sh("slapcat -n 1 -o ldif-wrap=no");
        let entries = ldif.split("\n\n").map(|entry| {
            let mut lines: Vec<String> = entry
                .lines()
                .filter(|line| !line.starts_with("entryCSN: "))
                .map(str::to_owned)
                .collect();
            lines.sort();
            let name = lines.iter().find(|line| line.starts_with("dn:"));
            (name.cloned().unwrap_or_default(), lines)
        });
        entries.filter(|(name, _)| !name.is_empty()).collect()
    }
}

/// A subtree that was moved below a younger one, names with a comma and beyond ASCII, a hash, a binary value.
const PEOPLE: &str = "\
dn: ou=people,dc=example,dc=org
changetype: add
objectClass: organizationalUnit
ou: people

dn: ou=équipe,dc=example,dc=org
changetype: add
objectClass: organizationalUnit
ou: équipe

dn: cn=Doe\\, Jane,ou=équipe,dc=example,dc=org
changetype: add
objectClass: inetOrgPerson
cn: Doe, Jane
sn: Doe
description:: IGEKYg==
audio:: AAH/IHgK

dn: ou=équipe,dc=example,dc=org
changetype: modrdn
newrdn: ou=équipe
deleteoldrdn: 0
newsuperior: ou=people,dc=example,dc=org

dn: uid=ann,ou=people,dc=example,dc=org
changetype: add
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: Bell
userPassword: first-password
";

const DAMAGE: &str = "\
dn: uid=ann,ou=people,dc=example,dc=org
changetype: modify
replace: userPassword
userPassword: second-password

dn: uid=eve,ou=people,dc=example,dc=org
changetype: add
objectClass: inetOrgPerson
uid: eve
cn: Eve
sn: Extra

dn: cn=Doe\\, Jane,ou=équipe,ou=people,dc=example,dc=org
changetype: delete
";

#[test]
fn openldap_comes_back_entry_by_entry() {
    let stack = TestStack::new("ldap");
    let ldap = Ldap::start(&stack);
    ldap.change(PEOPLE);
    let saved = ldap.entries();
    assert_eq!(saved.len(), 5, "{saved:?}");

    stack.cofferdam(&["backup"]).expect(0);
    ldap.change(DAMAGE);
    assert!(ldap.can_log_in("uid=ann", "second-password"));
    assert_ne!(ldap.entries(), saved);

    // The configuration has no load, so it is not chosen.
    stack
        .cofferdam(&["restore", "latest", "*/entries", "--yes"])
        .expect(0);
    assert_eq!(ldap.entries(), saved);
    assert!(ldap.can_log_in("uid=ann", "first-password"));
    assert!(!ldap.can_log_in("uid=ann", "second-password"));
    stack.ensure_nothing_is_left();

    docker(["restart", &ldap.0.id]);
    ldap.wait();
    assert_eq!(ldap.entries(), saved);
    assert!(ldap.can_log_in("uid=ann", "first-password"));
    ldap.change(DAMAGE);
}

#[test]
fn openldap_refuses_what_is_not_whole_and_recovers_from_a_load_that_broke_off() {
    let stack = TestStack::new("ldap-broken");
    let ldap = Ldap::start(&stack);
    ldap.change(PEOPLE);
    let present = ldap.entries();
    let dump = ldap.0.sh("openldap.sh dump") + "\n";

    let cut = &dump[..dump.len() / 2];
    let lines = dump.lines().count();
    let without_trailer: Vec<&str> = dump.lines().take(lines - 1).collect();
    let nonsense = dump.replace("objectClass: inetOrgPerson", "objectClass: nonsense");
    for bad in [cut, &without_trailer.join("\n"), "", &nonsense] {
        assert!(!ldap.run(&["openldap.sh", "load"], bad));
        assert_eq!(
            ldap.entries(),
            present,
            "a refused load has touched something"
        );
    }

    // Nobody but slapd sees that its parent is missing, and that only when the others are gone already.
    let orphan = dump.replace("# end of dump", "dn: cn=x,ou=nowhere,dc=example,dc=org\nobjectClass: inetOrgPerson\ncn: x\nsn: x\n\n# end of dump");
    assert!(!ldap.run(&["openldap.sh", "load"], &orphan));
    assert_ne!(ldap.entries(), present);
    // The safety snapshot is loaded by the same command.
    assert!(ldap.run(&["openldap.sh", "load"], &dump));
    assert_eq!(ldap.entries(), present);
}

#[test]
fn i3_redis_is_left_out_on_purpose_and_plan_and_snapshot_say_why() {
    let stack = TestStack::new("broker");
    let _broker = server(&stack, "broker", &[], "cofferdam-test/redis:7");
    let _app = stack.toolbox(
        "app",
        &[("cofferdam.files.conf", "/etc/debian_version")],
        &[],
    );
    let reason = "broker only, queues are filled again";
    stack.cofferdam(&["plan"]).expect_says(0, reason);
    stack.cofferdam(&["backup"]).expect(0);
    let manifest = stack.manifest();
    assert_eq!(
        manifest["skipped"],
        serde_json::json!([{"service": "broker", "reason": reason}])
    );
    assert_eq!(manifest["targets"].as_array().expect("targets").len(), 1);
}

#[test]
fn redis_prints_a_whole_rdb_that_a_new_server_reads() {
    let stack = TestStack::new("redis");
    let image = "cofferdam-test/redis:7";
    let redis = server(&stack, "redis", &[], image);
    let is_ready = |redis: &TestContainer| {
        eventually("redis answers", || {
            docker_succeeds(["exec", &redis.id, "redis-cli", "get", "nothing"])
        });
    };
    is_ready(&redis);
    redis.sh("seq 1 20000 | sed 's/.*/SET key:& value-&/' | redis-cli >/dev/null");
    let all = "redis-cli --scan | sort | xargs redis-cli mget | sha256sum";
    let digest = redis.sh(all);
    stack.cofferdam(&["backup"]).expect(0);

    let place = stack.directory.path().join("rescued");
    stack
        .cofferdam(&[
            "export",
            "latest",
            place.to_str().expect("UTF-8"),
            "redis/command/rdb",
        ])
        .expect(0);
    let rdb = place.join("redis.command.rdb.dump");
    let fresh = TestContainer::create(&["--user", "root"], &[image]);
    docker([
        "cp",
        rdb.to_str().expect("UTF-8"),
        &format!("{}:/data/dump.rdb", fresh.id),
    ]);
    docker(["start", &fresh.id]);
    is_ready(&fresh);
    assert!(
        fresh
            .sh("redis-check-rdb /data/dump.rdb")
            .contains("20000 keys read")
    );
    assert_eq!(fresh.sh(all), digest);
    assert_eq!(fresh.sh("redis-cli get key:20000"), "value-20000");
}

#[test]
fn a_redis_that_does_not_answer_fails_the_dump() {
    let stack = TestStack::new("redis-gone");
    let labels = [("cofferdam.command.rdb.dump", "redis-cli -p 7777 --rdb -")];
    let _redis = stack.service("redis", &labels, &[], &["cofferdam-test/redis:7"]);
    stack
        .cofferdam(&["backup"])
        .expect_says(1, "redis-cli failed with exit code 1: Could not connect");
}
