//! Which container we are in. These tests run themselves again inside containers.

use crate::support::{TestContainer, busybox_image, docker, endpoint, engine};
use cofferdam::engine::Endpoint;

const INSIDE: &str = "COFFERDAM_TEST_INSIDE";

#[tokio::test]
async fn a_container_knows_itself_whatever_its_network_and_name() {
    if std::env::var_os(INSIDE).is_some() {
        return tell().await;
    }
    let Endpoint::Unix(socket) = endpoint() else {
        panic!("this test mounts the engine's socket");
    };
    let socket = format!("{socket}:/var/run/docker.sock");
    let binary = std::env::current_exe().unwrap();
    let binary = format!("{}:/test:ro", binary.display());
    let other = TestContainer::create(&[], &[busybox_image(), "sleep", "600"]);
    docker(["start", &other.id]);
    let of_other = format!("container:{}", &other.id[..12]);
    for network in ["bridge", "host", "none", &of_other] {
        let options = [
            "--network",
            network,
            "--hostname",
            "elsewhere",
            "--volume",
            &socket,
            "--volume",
            &binary,
            "--env",
            "COFFERDAM_TEST_INSIDE=1",
        ];
        // These have the host name of their network.
        let options = if network == "host" || network == of_other {
            options
                .iter()
                .filter(|&&option| option != "--hostname" && option != "elsewhere")
                .copied()
                .collect()
        } else {
            options.to_vec()
        };
        let test = [busybox_image(), "/test", "engine_own::", "--nocapture"];
        let container = TestContainer::create(&options, &test);
        docker(["start", "--attach", &container.id]);
        let said = docker(["logs", &container.id]);
        let loopback = if network == of_other {
            &other
        } else {
            &container
        };
        let expected = format!("own {} loopback container:{}", container.id, loopback.id);
        assert!(said.contains(&expected), "{network}: {said}");
    }
}

async fn tell() {
    let engine = engine().await;
    let own = engine.own_container().await.unwrap().map(|own| own.id);
    let loopback = engine.loopback_network().await.unwrap();
    println!("own {} loopback {}", own.unwrap(), loopback.unwrap());
}

#[tokio::test]
async fn another_machines_engine_shares_no_loopback_with_us() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let engine = engine().await;
    let own = engine.own_container().await.unwrap();
    let expected = own.map_or_else(|| "host".to_owned(), |own| format!("container:{}", own.id));
    assert_eq!(engine.loopback_network().await.unwrap(), Some(expected));
}
