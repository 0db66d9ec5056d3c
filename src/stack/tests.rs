use insta::assert_snapshot;

use super::*;
use crate::engine::container::tests_support::container;

/// A container that compose made.
fn compose(project: &str, service: &str, labels: &[(&str, &str)]) -> Container {
    replica(project, service, 1, labels)
}

fn replica(project: &str, service: &str, number: u32, labels: &[(&str, &str)]) -> Container {
    let mut container = container(&format!("{project}-{service}-{number}"));
    container.image_id = format!("sha256:{service}");
    let number = number.to_string();
    for (key, value) in [
        (COMPOSE_PROJECT, project),
        (COMPOSE_SERVICE, service),
        (COMPOSE_NUMBER, number.as_str()),
    ]
    .iter()
    .chain(labels)
    {
        container
            .labels
            .insert((*key).to_owned(), (*value).to_owned());
    }
    container
}

fn plain(name: &str, labels: &[(&str, &str)]) -> Container {
    let mut container = container(name);
    container.image_id = format!("sha256:{name}");
    for (key, value) in labels {
        container
            .labels
            .insert((*key).to_owned(), (*value).to_owned());
    }
    container
}

fn names(stack: &Stack) -> Vec<&str> {
    let names = stack.services.iter().map(|service| service.name.as_str());
    names.collect()
}

fn project(name: &str) -> Scope {
    Scope::Projects(vec![name.to_owned()])
}

#[test]
fn our_own_project_is_the_scope_by_default() {
    let own = compose("candig", "cofferdam", &[]);
    let all = vec![
        own.clone(),
        compose("candig", "db", &[("cofferdam.postgres", "*")]),
        compose("candig", "web", &[]),
        compose("other", "db", &[]),
    ];
    let stacks = discover(all, Some(&own), &Scope::Own, None).unwrap();
    assert_eq!(stacks.len(), 1);
    assert_eq!(stacks[0].project, "candig");
    assert_eq!(names(&stacks[0]), ["db", "web"]);
    assert_eq!(
        stacks[0].left_out,
        [LeftOut {
            container: "candig-cofferdam-1".to_owned(),
            reason: LeftOutReason::Cofferdam
        }]
    );
}

#[test]
fn a_stack_of_cofferdam_alone_is_empty_and_no_error() {
    let own = compose("candig", "cofferdam", &[]);
    let stacks = discover(vec![own.clone()], Some(&own), &Scope::Own, None).unwrap();
    assert!(stacks[0].services.is_empty());
}

#[test]
fn scopes_choose_projects() {
    let all = || {
        vec![
            compose("b", "db", &[]),
            compose("a", "db", &[]),
            plain("lonely", &[]),
            plain("nomad", &[("cofferdam.project", "apiary")]),
        ]
    };
    let projects = |scope: &Scope| {
        let stacks = discover(all(), None, scope, None).unwrap();
        let names: Vec<String> = stacks.into_iter().map(|stack| stack.project).collect();
        names
    };
    assert_eq!(projects(&Scope::All), ["a", "apiary", "b", "default"]);
    let chosen = Scope::Projects(vec!["b".to_owned(), "apiary".to_owned()]);
    assert_eq!(projects(&chosen), ["b", "apiary"]);
}

#[test]
fn the_labels_of_one_project_are_nothing_to_another() {
    let all = vec![
        compose("bad", "db", &[("cofferdam.postgress", "*")]),
        compose("good", "db", &[("cofferdam.postgres", "*")]),
    ];
    let stacks = discover_each(all.clone(), None, &Scope::All, None).unwrap();
    let found: Vec<(&str, bool)> = stacks
        .iter()
        .map(|(project, stack)| (project.as_str(), stack.is_ok()))
        .collect();
    assert_eq!(found, [("bad", false), ("good", true)]);
    assert!(discover_each(all, None, &project("gud"), None).is_err());
}

#[test]
fn a_scope_that_fits_nothing_is_told() {
    let all = || {
        vec![
            compose("candigv2", "db", &[]),
            compose("other", "db", &[]),
            plain("lonely", &[]),
        ]
    };
    let bad = |own: Option<&Container>, scope: &Scope| {
        discover(all(), own, scope, None).unwrap_err().to_string()
    };
    assert_snapshot!(bad(None, &Scope::Own), @r"no project is named, and Cofferdam does not run as part of one; use `--project NAME` or `--all-projects`; the engine has these projects: `candigv2`, `default`, `other`");
    assert_snapshot!(bad(Some(&plain("cofferdam", &[])), &Scope::Own), @r"no project is named, and Cofferdam does not run as part of one; use `--project NAME` or `--all-projects`; the engine has these projects: `candigv2`, `default`, `other`");
    assert_snapshot!(bad(None, &project("candig2")), @r"project `candig2` has no container; did you mean `candigv2`? the engine has these projects: `candigv2`, `default`, `other`");
    assert_snapshot!(bad(None, &project("xyzzy")), @r"project `xyzzy` has no container; the engine has these projects: `candigv2`, `default`, `other`");
    let own = compose("mine", "cofferdam", &[]);
    assert_snapshot!(discover(vec![own.clone()], Some(&own), &project("a"), None).unwrap_err(), @r"project `a` has no container; the engine has no other containers");
}

#[test]
fn cofferdam_is_never_part_of_a_stack() {
    let mut own = compose("p", "cofferdam", &[("com.docker.compose.oneoff", "True")]);
    own.name = "p-cofferdam-run-1".to_owned();
    own.image_id = "sha256:cofferdam".to_owned();
    own.id = "own".to_owned();
    let daemon = compose("p", "cofferdam", &[("cofferdam.enable", "true")]);
    let mut by_hand = plain("by-hand", &[("cofferdam.project", "p")]);
    by_hand.image_id = own.image_id.clone();
    let inherited = plain(
        "of-image",
        &[("cofferdam.project", "p"), ("cofferdam.agent-image", "1")],
    );
    let all = vec![
        own.clone(),
        daemon,
        by_hand,
        inherited,
        compose("p", "db", &[]),
    ];
    let stacks = discover(all, Some(&own), &Scope::Own, None).unwrap();
    assert_eq!(names(&stacks[0]), ["db"]);
    assert_eq!(stacks[0].left_out.len(), 4);
    assert!(
        stacks[0]
            .left_out
            .iter()
            .all(|it| it.reason == LeftOutReason::Cofferdam)
    );
}

#[test]
fn a_labelled_container_that_shares_the_image_by_accident_is_saved() {
    let mut own = plain("tool", &[("cofferdam.project", "p")]);
    own.image_id = "sha256:debian".to_owned();
    let mut neighbour = compose("p", "db", &[("cofferdam.volumes", "*")]);
    neighbour.image_id = own.image_id.clone();
    let stacks = discover(vec![own.clone(), neighbour], Some(&own), &Scope::Own, None).unwrap();
    assert_eq!(names(&stacks[0]), ["db"]);
}

#[test]
fn helpers_and_the_hold_journal_belong_to_no_project() {
    let helper = ("cofferdam.helper", "20261121T020000Z-9f2c61aa");
    // As earlier versions made them.
    let mut unnamed = plain("quirky_name", &[helper, ("cofferdam.agent-image", "1")]);
    unnamed.agent_image = Some(true);
    let all = vec![
        unnamed,
        plain(
            "cofferdam-helper-20261121T020000Z-9f2c61aa-0badcafe",
            &[helper],
        ),
        plain(
            "cofferdam-hold-p",
            &[("cofferdam.hold", "x"), ("cofferdam.project", "p")],
        ),
        compose("p", "db", &[]),
    ];
    let stacks = discover(all, None, &Scope::All, None).unwrap();
    assert_eq!(stacks.len(), 1);
    assert_eq!(names(&stacks[0]), ["db"]);
    assert!(stacks[0].left_out.is_empty());
}

#[test]
fn labels_alone_make_nothing_cofferdams() {
    for label in [
        "cofferdam.helper",
        "cofferdam.hold",
        "cofferdam.hold.journal",
    ] {
        let db = plain("db", &[("cofferdam.project", "p"), (label, "x")]);
        let error = discover(vec![db], None, &Scope::All, None).unwrap_err();
        let words =
            format!("container db: label `{label}` is reserved for Cofferdam's own containers");
        assert!(error.to_string().contains(&words), "{error}");
    }
    let mut db = compose("p", "db", &[("cofferdam.agent-image", "1")]);
    db.agent_image = Some(false);
    let stacks = discover(vec![db], None, &Scope::All, None).unwrap();
    assert_eq!(names(&stacks[0]), ["db"]);
    assert!(stacks[0].left_out.is_empty());
}

#[test]
fn what_is_left_out_is_known() {
    let all = vec![
        compose("p", "db", &[]),
        compose("p", "cache", &[("cofferdam.enable", "false")]),
        compose(
            "p",
            "job",
            &[
                ("com.docker.compose.oneoff", "True"),
                ("cofferdam.enabl", "x"),
            ],
        ),
    ];
    let stacks = discover(all, None, &project("p"), None).unwrap();
    assert_eq!(names(&stacks[0]), ["db"]);
    let left_out = [
        ("p-cache-1", LeftOutReason::Disabled),
        ("p-job-1", LeftOutReason::OneOff),
    ]
    .map(|(container, reason)| LeftOut {
        container: container.to_owned(),
        reason,
    });
    assert_eq!(stacks[0].left_out, left_out);
}

#[test]
fn replicas_have_names_of_their_own() {
    let mut stray = plain("worker", &[("cofferdam.project", "p")]);
    stray.id = "stray".to_owned();
    let all = vec![
        replica("p", "worker", 3, &[]),
        replica("p", "worker", 1, &[]),
        replica("p", "web", 2, &[]),
        stray,
    ];
    let stacks = discover(all, None, &project("p"), None).unwrap();
    let services: Vec<(&str, &str)> = stacks[0]
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.container.name.as_str()))
        .collect();
    assert_eq!(
        services,
        [
            ("web", "p-web-2"),
            ("worker", "p-worker-1"),
            ("worker@3", "p-worker-3"),
            ("worker@worker", "worker"),
        ]
    );
}

#[test]
fn what_compose_did_not_start_is_called_as_its_label_says() {
    // As Nomad names them: the task, and its allocation. For a moment there may be two.
    let labels = [("cofferdam.project", "p"), ("cofferdam.service", "web")];
    let all = ["web-7c1a", "web-0b8f"].map(|name| plain(name, &labels));
    let stacks = discover(all.into(), None, &project("p"), None).unwrap();
    assert_eq!(names(&stacks[0]), ["web", "web@web-7c1a"]);
    assert_eq!(stacks[0].services[1].container.service(), "web");
}

#[test]
fn label_errors_of_the_scope_are_told_together_and_others_are_not_heard() {
    let all = || {
        vec![
            compose("a", "web", &[("cofferdam.stp", "backup")]),
            compose(
                "a",
                "db",
                &[
                    ("cofferdam.postgres.restore", "swp"),
                    ("cofferdam.postgres", "*"),
                ],
            ),
            compose("b", "db", &[("cofferdam.enabl", "true")]),
            compose("c", "db", &[]),
        ]
    };
    assert!(discover(all(), None, &project("c"), None).is_ok());
    let scope = Scope::Projects(vec!["a".to_owned(), "b".to_owned()]);
    // With its causes, as the command line tells it.
    let error = anyhow::Error::from(discover(all(), None, &scope, None).unwrap_err());
    assert_snapshot!(format!("{error:#}"), @r"
    container a-db-1: label `cofferdam.postgres.restore` is `swp`; did you mean `swap`? (accepted: `swap`, `recreate` or `clean`)
    container a-web-1: label `cofferdam.stp` is unknown; did you mean `cofferdam.stop` (stop this container during `backup`, `restore` or both)?
    container b-db-1: label `cofferdam.enabl` is unknown; did you mean `cofferdam.enable` (`true`: back this container up; `false`: ignore it)?
    ");
}

#[test]
fn a_hold_for_a_service_that_is_not_there_is_told() {
    let all = |hold_for: &str| {
        vec![
            compose("p", "postgres-db", &[("cofferdam.enable", "false")]),
            compose(
                "p",
                "katsu",
                &[
                    ("cofferdam.stop", "restore"),
                    ("cofferdam.hold-for", hold_for),
                ],
            ),
        ]
    };
    assert!(discover(all("postgres-db"), None, &project("p"), None).is_ok());
    assert_snapshot!(discover(all("postgres"), None, &project("p"), None).unwrap_err(), @r"container p-katsu-1: label `cofferdam.hold-for` names the service `postgres`, which does not exist in its project; did you mean `postgres-db`?");
    assert_snapshot!(discover(all("x"), None, &project("p"), None).unwrap_err(), @r"container p-katsu-1: label `cofferdam.hold-for` names the service `x`, which does not exist in its project; its services are katsu, postgres-db");
}

#[test]
fn a_skip_that_overrules_labels_is_warned_of() {
    let all = vec![
        compose(
            "p",
            "a",
            &[("cofferdam.skip", "moved"), ("cofferdam.postgres", "*")],
        ),
        compose("p", "b", &[("cofferdam.skip", "cache only")]),
    ];
    let stacks = discover(all, None, &project("p"), None).unwrap();
    assert_eq!(names(&stacks[0]), ["a", "b"]);
    assert_snapshot!(stacks[0].warnings.join("\n"), @r"container p-a-1: `cofferdam.skip` overrides the labels that name what to save; nothing of it is saved");
}

mod swarm {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::State;
    use crate::engine::swarm::{Mode, SwarmService};

    fn task(service: &str, replica: &str, labels: &[(&str, &str)]) -> Container {
        let mut task = plain(&format!("shop_{service}.{replica}.t1"), labels);
        for (key, value) in [
            ("com.docker.stack.namespace", "shop".to_owned()),
            ("com.docker.swarm.service.id", format!("{service}-id")),
            ("com.docker.swarm.service.name", format!("shop_{service}")),
            (
                "com.docker.swarm.task.name",
                format!("shop_{service}.{replica}.t1"),
            ),
        ] {
            task.labels.insert(key.to_owned(), value);
        }
        task
    }

    fn service(name: &str, mode: Mode, nodes: &[&str], labels: &[(&str, &str)]) -> SwarmService {
        let task = task(name, "1", labels);
        SwarmService {
            id: format!("{name}-id"),
            name: format!("shop_{name}"),
            labels: task.labels,
            own_labels: BTreeMap::new(),
            image: "image".to_owned(),
            mounts: Vec::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
            mode,
            held_by: None,
            running_on: nodes.iter().map(|&node| node.to_owned()).collect(),
        }
    }

    fn view(services: Result<Vec<SwarmService>, String>) -> SwarmView {
        SwarmView {
            node: "a".to_owned(),
            services,
        }
    }

    fn stack(
        containers: Vec<Container>,
        own: Option<&Container>,
        view: &SwarmView,
    ) -> Result<Stack, String> {
        let scope = project("shop");
        let stacks = discover(containers, own, &scope, Some(view));
        stacks
            .map(|mut stacks| stacks.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tasks_are_called_after_their_slots_and_their_nodes() {
        let mut over = task("web", "1", &[]);
        over.state = State::Exited;
        let containers = vec![
            task("web", "2", &[]),
            task("web", "3", &[]),
            over,
            task("db", "1", &[]),
            task("agent", "nc1nqddfbjuk8lossvsrpakxk", &[]),
        ];
        let stack = stack(containers, None, &view(Ok(Vec::new()))).unwrap();
        assert_eq!(names(&stack), ["agent@a", "db", "web@2", "web@3"]);
        assert_eq!(stack.left_out[0].reason, LeftOutReason::EndedTask);
        assert_eq!(stack.node(), Some("a"));
    }

    #[test]
    fn of_two_tasks_in_one_slot_the_one_that_runs_counts_and_then_the_newer_one() {
        let of = |id: &str, state: State, second: i64| Container {
            id: id.to_owned(),
            name: id.to_owned(),
            state,
            created: jiff::Timestamp::from_second(second).unwrap(),
            ..task("db", "1", &[])
        };
        for [one, other] in [
            [
                of("current", State::Running, 2),
                of("old", State::Running, 1),
            ],
            [
                of("current", State::Running, 1),
                of("next", State::Created, 2),
            ],
            [
                of("current", State::Created, 2),
                of("old", State::Created, 1),
            ],
        ] {
            for containers in [[one.clone(), other.clone()], [other, one]] {
                let stack = stack(containers.into(), None, &view(Ok(Vec::new()))).unwrap();
                assert_eq!(names(&stack), ["db"]);
                assert_eq!(stack.services[0].container.id, "current");
                assert_eq!(stack.left_out[0].reason, LeftOutReason::EndedTask);
            }
        }
    }

    #[test]
    fn a_manager_knows_services_of_other_nodes_and_never_holds_our_own() {
        let own = task("cofferdam", "nc1nqddfbjuk8lossvsrpakxk", &[]);
        let stops = [("cofferdam.stop", "restore")];
        let services = vec![
            service("cofferdam", Mode::Global, &["a", "b"], &stops),
            service("web", Mode::Replicated(2), &["b", "b"], &stops),
            service(
                "off",
                Mode::Replicated(1),
                &[],
                &[("cofferdam.enable", "false")],
            ),
        ];
        let containers = vec![
            own.clone(),
            task(
                "db",
                "1",
                &[("cofferdam.hold-for", "web"), ("cofferdam.stop", "restore")],
            ),
        ];
        let stack = stack(containers, Some(&own), &view(Ok(services))).unwrap();
        let services: Vec<_> = stack.swarm_services().collect();
        assert_eq!(services.len(), 1);
        assert_eq!((services[0].name.as_str(), services[0].tasks), ("web", 2));
        assert_eq!(services[0].nodes, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn labels_where_no_container_gets_them_are_refused() {
        let mut web = service("web", Mode::Replicated(2), &[], &[]);
        for (key, value) in [("cofferdam.stop", "backup"), ("cofferdam.hold.run", "x")] {
            web.own_labels.insert(key.to_owned(), value.to_owned());
        }
        assert_snapshot!(stack(vec![task("db", "1", &[])], None, &view(Ok(vec![web]))).unwrap_err(), @"container of service shop_web: label `cofferdam.stop` is among the labels of the service (`deploy: labels:`), which its containers do not get; move it to `labels:` of the service itself");
    }

    #[test]
    fn what_is_out_of_sight_is_said() {
        let nobody = view(Err("none is named".to_owned()));
        let holds_for_others = task(
            "db",
            "1",
            &[("cofferdam.hold-for", "web"), ("cofferdam.stop", "restore")],
        );
        let unseen = stack(vec![holds_for_others], None, &nobody).unwrap();
        assert_snapshot!(unseen.warnings.join("\n"), @"cannot see the services of this stack that have no task on node a, or whether they have to be held: none is named");
        let hook = [("cofferdam.hook.after-restore", "migrate")];
        let web = service("web", Mode::Replicated(1), &["b"], &hook);
        let far = stack(vec![task("db", "1", &[])], None, &view(Ok(vec![web]))).unwrap();
        assert_snapshot!(far.warnings.join("\n"), @"service web: its hooks do not run when node a saves or restores, because it has no task there (it has one on b)");
        // A compose project on a node is no business of the swarm's.
        let compose = discover(
            vec![compose("p", "db", &[])],
            None,
            &project("p"),
            Some(&nobody),
        );
        assert_eq!(compose.unwrap()[0].node(), None);
    }
}
