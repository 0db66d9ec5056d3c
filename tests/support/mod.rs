//! A real engine for tests, and things in it that vanish again.
//!
//! Everything made here carries the label `cofferdam.test=1` and a name that no other run uses. Guards remove it on drop;
//! what a killed test left behind goes with `docker rm -fv $(docker ps -aq --filter label=cofferdam.test=1)`.

pub mod artifacts;
pub mod browser;
pub mod compose;
pub mod daemon;
pub mod example;
pub mod http;
pub mod listener;
pub mod mysql;
pub mod odd_tree;
pub mod planted;
pub mod postgres;
pub mod proxy;
pub mod s3;
pub mod serving;
pub mod stack;
pub mod swarm;
pub mod trees;
pub mod web;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cofferdam::engine::{Endpoint, Engine};

/// `key=value`, as `docker --label` takes it.
pub const TEST_LABEL: &str = "cofferdam.test=1";

/// The engine that `DOCKER_HOST` names.
pub fn endpoint() -> Endpoint {
    Endpoint::from_env(|name| std::env::var(name).ok()).expect("DOCKER_HOST")
}

pub async fn engine() -> Engine {
    Engine::connect(endpoint()).await.expect("an engine")
}

/// The program that is tested: the one that is shipped where `TESTED_COFFERDAM` names it, cargo's otherwise. The tests
/// put it into containers again and again, and the one that is shipped is small.
pub fn program() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let named = std::env::var("TESTED_COFFERDAM");
        named.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cofferdam").to_owned())
    });
    &PROGRAM
}

/// A name that no other test and no other run has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random: u32 = rand::random();
    format!("cofferdam-test-{what}-{random:08x}-{count}")
}

/// Runs `docker` with `arguments` and returns what it printed, without the last newline; panics when it fails.
pub fn docker<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> String {
    let (arguments, output) = run_docker(arguments);
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim_end_matches('\n').to_owned()
}

/// Whether `docker` with `arguments` succeeds.
pub fn docker_succeeds<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> bool {
    run_docker(arguments).1.status.success()
}

fn run_docker<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> (Vec<String>, Output) {
    let arguments: Vec<String> = arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect();
    let output = Command::new("docker")
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the docker program");
    (arguments, output)
}

/// An image with a shell and the usual small programs.
pub fn busybox_image() -> &'static str {
    const IMAGE: &str = "cofferdam-test/busybox:1";
    assert!(
        docker_succeeds(["image", "inspect", IMAGE]),
        "there is no image {IMAGE}: run scripts/test-images.sh busybox"
    );
    IMAGE
}

/// The image of helpers and journals, made of the tested program.
pub fn agent_image() -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let image = engine().await.agent_image_of(Path::new(program())).await;
        image.expect("the image of helpers")
    })
}

/// A container of a test.
pub struct TestContainer {
    pub name: String,
    pub id: String,
}

impl TestContainer {
    /// `docker create` with `options`, an image and its arguments.
    pub fn create(options: &[&str], image_and_command: &[&str]) -> Self {
        Self::named(&unique("container"), options, image_and_command)
    }

    /// The same, by a name that is unique already.
    pub fn named(name: &str, options: &[&str], image_and_command: &[&str]) -> Self {
        let first = ["create", "--name", name, "--label", TEST_LABEL];
        let id = docker(first.iter().chain(options).chain(image_and_command));
        let name = name.to_owned();
        Self { name, id }
    }

    /// A running busybox that does nothing.
    pub fn idle() -> Self {
        Self::idle_with(&[])
    }

    /// A running busybox that does nothing, started with more options of `docker run`.
    pub fn idle_with(options: &[&str]) -> Self {
        Self::running(options, &[busybox_image(), "sleep", "3600"])
    }

    pub fn running(options: &[&str], image_and_command: &[&str]) -> Self {
        let container = Self::create(options, image_and_command);
        docker(["start", &container.id]);
        container
    }

    /// Runs a shell line inside and returns what it printed.
    pub fn sh(&self, line: &str) -> String {
        docker(["exec", &self.id, "sh", "-c", line])
    }

    /// Waits until a shell line succeeds inside. One exec does the waiting: many would cost more than what is waited for.
    pub fn wait_until(&self, line: &str) {
        let waiting = format!("until {line}; do sleep 0.2; done");
        assert!(
            docker_succeeds(["exec", &self.id, "timeout", "180", "sh", "-c", &waiting]),
            "never: {line}\n{}",
            docker(["logs", &self.id])
        );
    }

    /// One value of `docker inspect`, by a Go template.
    pub fn inspect(&self, template: &str) -> String {
        docker(["inspect", "--format", template, &self.id])
    }
}

impl Drop for TestContainer {
    fn drop(&mut self) {
        remove_container(&self.id);
    }
}

/// Removes a container that lives as long as this process, however that ends: a child waits for the other end of its input
/// to go.
pub fn remove_at_exit(container: &TestContainer) {
    let watcher = Command::new("sh")
        .args([
            "-c",
            "trap '' INT TERM; read -r _; exec docker rm --force --volumes \"$0\"",
        ])
        .arg(&container.id)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    std::mem::forget(watcher);
}

/// Removes a container that the code under test made.
pub struct RemoveContainer(pub String);

impl Drop for RemoveContainer {
    fn drop(&mut self) {
        remove_container(&self.0);
    }
}

fn remove_container(id: &str) {
    run_docker(["rm", "--force", "--volumes", id]);
}

/// An image of a test: what a container has become.
pub struct TestImage {
    pub name: String,
}

impl TestImage {
    pub fn of(container: &TestContainer) -> Self {
        let name = unique("image");
        docker(["commit", &container.id, &name]);
        Self { name }
    }
}

impl Drop for TestImage {
    fn drop(&mut self) {
        run_docker(["rmi", "--force", &self.name]);
    }
}

/// A volume of a test.
pub struct TestVolume {
    pub name: String,
}

impl TestVolume {
    pub fn create(options: &[&str]) -> Self {
        let name = unique("volume");
        let first = ["volume", "create", "--label", TEST_LABEL];
        docker(first.iter().chain(options).chain(&[name.as_str()]));
        Self { name }
    }

    /// A volume that holds no more than `size` (`1m`).
    pub fn of_size(size: &str) -> Self {
        let size = format!("o=size={size}");
        Self::create(&[
            "--opt",
            "type=tmpfs",
            "--opt",
            "device=tmpfs",
            "--opt",
            &size,
        ])
    }
}

impl Drop for TestVolume {
    fn drop(&mut self) {
        run_docker(["volume", "rm", "--force", &self.name]);
    }
}
