//! The Tethys example: a portal whose data lies in a database, in volumes, in single configuration files and in a
//! container's own layer, lost with its containers and put back. Tests are named after what an administrator of such a
//! system needs.

use crate::support::compose::{ComposeStack, Sidecar};
use crate::support::docker;
use crate::support::example::{Answer, run_demo};
use serde_json::json;

const SERVICES: [&str; 3] = ["db", "web", "thredds"];
const THREDDS: &str = "/usr/local/tomcat/content/thredds";
const WORKSPACE_FILE: &str = "/apps/streamflow/app_workspace/forecasts/2026.csv";
const STATIC_FILE: &str = "/static/streamflow/legend.svg";
const STYLES: &str = "/static/streamflow/main.css";

#[test]
#[ignore = "a demo beside the tests of its stack: make test-full"]
fn the_demo_saves_loses_and_restores() {
    run_demo(
        "tethys",
        &["12 targets saved", "Restored 12 targets", "River Portal"],
    );
}

struct Tethys {
    stack: ComposeStack,
}

impl Tethys {
    fn up() -> Self {
        let stack = ComposeStack::new("tethys", Sidecar::Beside);
        stack.compose("up --detach");
        stack.wait_until_healthy(&SERVICES);
        let tethys = Self { stack };
        tethys
            .stack
            .exec("web", &["tethys", "manage", "collectall"]);
        tethys
    }

    fn portal(&self, path: &str) -> Answer {
        self.stack.get("web", &format!(":8000{path}"))
    }

    fn post(&self, path: &str, body: &str) {
        let address = format!(":8000{path}");
        self.stack.post("web", &address, body).expect(201);
    }

    fn thredds(&self, path: &str) -> Answer {
        self.stack.get("thredds", &format!(":8080{path}"))
    }

    fn sh(&self, service: &str, line: &str) -> String {
        self.stack.exec(service, &["sh", "-c", line])
    }

    /// Name, mode, owner and content of each configuration file.
    fn configuration(&self) -> String {
        self.sh(
            "web",
            "cd ~/.tethys && stat -c '%n %a %U:%G' * && sha256sum *",
        )
    }

    /// As after the loss of the machine: containers and volumes are new, only the repository is there.
    fn lose_everything_but_the_repository(&self) {
        let stack = &self.stack;
        stack.compose("rm --stop --force -v db web thredds");
        for volume in ["db-data", "workspaces", "static"] {
            docker(["volume", "rm", &format!("{}_{volume}", stack.project)]);
        }
        stack.compose("up --detach");
        stack.wait_until_healthy(&SERVICES);
    }
}

#[test]
fn t1_t2_t3_t4_t5_a_portal_is_put_back_into_new_containers() {
    let tethys = Tethys::up();
    let stack = &tethys.stack;

    tethys.post(WORKSPACE_FILE, "day,flow\n1,42\n");
    tethys.post(STATIC_FILE, "<svg/>");
    tethys.post(
        "/users",
        r#"{"username": "hydro", "email": "hydro@tethys.test"}"#,
    );
    tethys.sh("thredds", &format!("cd {THREDDS} && mkdir -p basin logs && echo netcdf > basin/flow.nc && echo old > logs/access.log"));
    // Every one of them is changed, the modules of SELinux are binary.
    tethys.sh(
        "web",
        "cd ~/.tethys && for file in *.conf *.te; do echo '# ours' >> $file; done \
         && head -c 5000 /dev/urandom > tethys-selinux.mod && head -c 5000 /dev/urandom > tethys-selinux.pp \
         && sed -i 's/PORTAL_NAME: .*/PORTAL_NAME: River Portal/' portal_config.yml && chmod 600 portal_config.yml",
    );
    stack.compose("restart --timeout 5 web");
    stack.wait_until_healthy(&["web"]);
    let configuration = tethys.configuration();
    assert_eq!(configuration.lines().count(), 14, "{configuration}");
    let users = tethys.portal("/users").expect(200).json();

    let plan = stack.cofferdam("plan --json").expect(0).json();
    assert_eq!(
        plan[0]["findings"],
        json!([]),
        "nothing is left out by accident"
    );
    stack.cofferdam("backup").expect_says(0, "12 targets saved");

    tethys.lose_everything_but_the_repository();
    // By now the app has a newer release, and THREDDS has served for a while.
    tethys.sh(
        "web",
        "echo '#streamflow { color: teal; }' > /usr/lib/tethys/apps/streamflow/public/main.css",
    );
    tethys.sh(
        "thredds",
        &format!("cd {THREDDS} && mkdir logs && echo new > logs/access.log && touch later.nc"),
    );
    assert_eq!(tethys.portal(WORKSPACE_FILE).status, 404);
    assert_eq!(tethys.portal(STATIC_FILE).status, 404);
    assert_ne!(tethys.portal("/users").expect(200).json(), users);
    assert_ne!(tethys.configuration(), configuration);
    assert_eq!(
        tethys.portal("/").expect(200).json()["portal"],
        "Tethys Portal"
    );

    stack
        .cofferdam("restore latest --yes")
        .expect_says(0, "Restored 12 targets");

    t1_workspaces_are_back_and_linked_to(&tethys);
    t2_saved_static_files_are_back_where_no_newer_ones_were_collected(&tethys);
    assert_eq!(
        tethys.portal("/users").expect(200).json(),
        users,
        "T3: the database"
    );
    t4_configuration_files_are_back_and_in_force(&tethys, &configuration);
    t5_files_in_the_layer_of_a_container_are_the_saved_ones(&tethys);
    t4_one_file_comes_back_alone(&tethys, &configuration);
}

fn t1_workspaces_are_back_and_linked_to(tethys: &Tethys) {
    let file = tethys.portal(WORKSPACE_FILE).expect(200);
    assert_eq!(file.body, "day,flow\n1,42\n");
    // What `tethys manage collectworkspaces` does: new containers had a directory of their own here.
    let link = tethys.sh("web", "readlink /usr/lib/tethys/apps/streamflow/workspaces");
    assert_eq!(link, "/var/lib/tethys_persist/workspaces/streamflow");
}

fn t2_saved_static_files_are_back_where_no_newer_ones_were_collected(tethys: &Tethys) {
    assert_eq!(tethys.portal(STATIC_FILE).expect(200).body, "<svg/>");
    let styles = tethys.portal(STYLES).expect(200).body;
    assert!(
        styles.contains("teal"),
        "the collected file was replaced: {styles}"
    );
}

fn t4_configuration_files_are_back_and_in_force(tethys: &Tethys, configuration: &str) {
    assert_eq!(tethys.configuration(), configuration);
    assert_eq!(
        tethys.portal("/").expect(200).json()["portal"],
        "River Portal"
    );
}

fn t5_files_in_the_layer_of_a_container_are_the_saved_ones(tethys: &Tethys) {
    let data = tethys.thredds("/basin/flow.nc").expect(200);
    assert_eq!(data.body, "netcdf\n");
    assert_eq!(
        tethys.thredds("/later.nc").status,
        404,
        "what is extra goes"
    );
    let log = tethys.thredds("/logs/access.log").expect(200);
    assert_eq!(log.body, "new\n", "what a pattern leaves out is left alone");
}

fn t4_one_file_comes_back_alone(tethys: &Tethys, configuration: &str) {
    tethys.sh(
        "web",
        "cd ~/.tethys && echo broken > tethys_nginx.conf && echo newer > tethys-selinux.te",
    );
    let restore = "restore latest web/files/tethys_nginx.conf --yes";
    tethys
        .stack
        .cofferdam(restore)
        .expect_says(0, "Restored 1 target");
    tethys.stack.wait_until_healthy(&["web"]);
    let now = tethys.configuration();
    let differing: Vec<&str> = now
        .lines()
        .filter(|line| !configuration.contains(line))
        .collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert!(differing[0].ends_with("tethys-selinux.te"), "{differing:?}");
}
