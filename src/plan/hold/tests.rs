use insta::assert_snapshot;

use super::*;
use crate::engine::container::tests_support::container;
use crate::plan::tests_support::{service, survey};
use crate::stack::Service;
use crate::target::DriverKind;

const STOP: (&str, &str) = ("stop", "backup,restore");

fn volume(service: &str) -> TargetId {
    TargetId::new(service, DriverKind::Volume, "data")
}

/// Its container with that of `host` as its network.
fn in_network_of(host: &Service, mut guest: Service) -> Service {
    guest.container.namespaces_of = vec![host.container.id.clone()];
    guest
}

fn planned(services: Vec<Service>, targets: &[TargetId]) -> Result<Vec<PlannedHold>, PlanError> {
    let services = services.into_iter().map(|service| (service, &[][..]));
    plan_holds(&survey(services.collect()), Operation::Backup, targets)
}

fn held(holds: &[PlannedHold]) -> Vec<(&str, Action)> {
    let holds = holds.iter();
    holds.map(|hold| (&*hold.service, hold.action)).collect()
}

#[test]
fn what_lives_in_the_network_of_a_container_that_stops_is_stopped_before_it() {
    let vpn = service("vpn", &[], &[STOP]);
    // Named as compose 1.29 names it; in a namespace of the web's; only to be frozen.
    let mut web = in_network_of(&vpn, service("web", &[], &[("pause", "backup")]));
    web.container.namespaces_of = vec![vpn.container.name.clone()];
    let proxy = in_network_of(&web, service("a-proxy", &[], &[]));
    let mut ended = in_network_of(&vpn, service("ended", &[], &[]));
    ended.container.state = State::Exited;
    let other = service("other", &[], &[]);
    let holds = planned(vec![ended, other, proxy, web, vpn], &[volume("vpn")]).unwrap();
    let stops = ["vpn", "web", "a-proxy"].map(|name| (name, Action::Stop));
    assert_eq!(held(&holds), stops);
    assert!(holds.iter().all(|hold| hold.serves == [volume("vpn")]));
}

#[test]
fn a_frozen_container_keeps_its_network() {
    let vpn = service("vpn", &[], &[("pause", "backup")]);
    let web = in_network_of(&vpn, service("web", &[], &[]));
    let holds = planned(vec![vpn, web], &[volume("vpn")]).unwrap();
    assert_eq!(held(&holds), [("vpn", Action::Pause)]);
}

#[test]
fn what_is_paused_in_the_network_of_a_container_that_stops_is_refused() {
    let vpn = service("vpn", &[], &[STOP]);
    let mut web = in_network_of(&vpn, service("web", &[], &[STOP]));
    web.container.state = State::Paused;
    web.container.name = "shop-web-1".to_owned();
    assert_snapshot!(
        planned(vec![vpn, web.clone()], &[volume("vpn")]).unwrap_err(),
        @"web is paused and shares a namespace with vpn, which would be stopped: once unpaused, it would be cut off for good; unpause it first (docker unpause shop-web-1), so that it is stopped with vpn and started after it"
    );
    let frozen = service("vpn", &[], &[("pause", "backup")]);
    let holds = planned(vec![frozen, web], &[volume("vpn")]).unwrap();
    assert_eq!(held(&holds), [("vpn", Action::Pause)]);
}

#[test]
fn what_would_cut_off_a_database_or_cofferdam_itself_is_refused() {
    let vpn = service("vpn", &[], &[STOP]);
    let db = in_network_of(&vpn, service("db", &[], &[]));
    let target = TargetId::new("db", DriverKind::Postgres, "shop");
    assert_snapshot!(
        planned(vec![vpn.clone(), db], &[target]).unwrap_err(),
        @"service db shares a namespace with vpn, which would be stopped, cutting it off while db/postgres/shop needs it; give it its own network, or remove the label `cofferdam.stop` from vpn"
    );

    let mut cofferdam = container("cofferdam");
    cofferdam.namespaces_of = vec![vpn.container.id.clone()];
    let mut survey = survey(vec![(vpn, &[])]);
    survey.cofferdams = [cofferdam].into();
    assert_snapshot!(
        plan_holds(&survey, Operation::Backup, &[volume("vpn")]).unwrap_err(),
        @"service vpn would be stopped, but cofferdam, in which Cofferdam runs, shares a namespace with it: Cofferdam would cut itself off; give it its own network"
    );
}

#[test]
fn what_cofferdam_speaks_through_is_refused() {
    let refused = |services: Vec<Service>, through: &Service, target: TargetId| {
        let all = services.into_iter().map(|service| (service, &[][..]));
        let mut survey = survey(all.collect());
        survey.spoken_through = [through.container.clone()].into();
        plan_holds(&survey, Operation::Backup, &[target])
    };
    let proxy = service("proxy", &[], &[STOP]);
    assert_snapshot!(
        refused(vec![proxy.clone()], &proxy, volume("app")).unwrap_err(),
        @"service proxy would be stopped, but Cofferdam reaches the Docker Engine through its container proxy and could not start anything again; remove the label, or give Cofferdam its own proxy"
    );
    let frozen = service("proxy", &[], &[("pause", "backup")]);
    let error = refused(vec![frozen.clone()], &frozen, volume("app")).unwrap_err();
    assert!(error.to_string().contains("would be paused"), "{error}");

    let vpn = service("vpn", &[], &[STOP]);
    let guest = in_network_of(&vpn, service("proxy", &[], &[]));
    assert_snapshot!(
        refused(vec![vpn.clone(), guest.clone()], &guest, volume("vpn")).unwrap_err(),
        @"service proxy would be stopped, but Cofferdam reaches the Docker Engine through its container proxy and could not start anything again; it shares a namespace with vpn: give it its own network, or remove the label from vpn"
    );
    // What is not held may carry what it likes.
    let plain = service("proxy", &[], &[]);
    assert!(refused(vec![vpn, plain.clone()], &plain, volume("vpn")).is_ok());
}

#[test]
fn what_the_engine_would_remove_is_not_stopped() {
    let mut app = service("app", &[], &[STOP]);
    app.container.auto_remove = true;
    assert_snapshot!(
        planned(vec![app.clone()], &[volume("app")]).unwrap_err(),
        @"service app would be stopped, but was started with --rm: the engine would remove its container, with its anonymous volumes, and it could not be started again; start it without --rm"
    );
    app.container.state = State::Exited;
    assert_eq!(held(&planned(vec![app], &[volume("app")]).unwrap()), []);
    let mut frozen = service("app", &[], &[("pause", "backup")]);
    frozen.container.auto_remove = true;
    assert_eq!(planned(vec![frozen], &[volume("app")]).unwrap().len(), 1);
}

#[test]
fn what_the_engine_is_about_to_start_again_is_stopped() {
    for labels in [STOP, ("pause", "backup")] {
        let mut app = service("app", &[], &[labels]);
        app.container.state = State::Restarting;
        let holds = planned(vec![app], &[volume("app")]).unwrap();
        assert_eq!(held(&holds), [("app", Action::Stop)]);
        assert_eq!(holds[0].ready_within, None);
    }
}

#[test]
fn a_backup_waits_for_nobody_who_was_not_ready_before() {
    let ready_within = |health, labels: &[(&str, &str)], operation| {
        let mut app = service("app", &[], &[&[STOP][..], labels].concat());
        app.container.health = health;
        let survey = survey(vec![(app, &[])]);
        let holds = plan_holds(&survey, operation, &[volume("app")]).unwrap();
        holds[0].ready_within
    };
    let own = [("ready-timeout", "10m")];
    let (usual, ten) = (Some(READY_TIMEOUT), Some(Duration::from_secs(600)));
    assert_eq!(ready_within(Health::Healthy, &[], Operation::Backup), usual);
    assert_eq!(ready_within(Health::Starting, &own, Operation::Backup), ten);
    assert_eq!(
        ready_within(Health::Unhealthy, &own, Operation::Backup),
        None
    );
    // What was wrong with it may have been the data.
    assert_eq!(
        ready_within(Health::Unhealthy, &[], Operation::Restore),
        usual
    );
}
