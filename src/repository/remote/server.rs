//! Real servers for the tests of this module's implementations, each in a container.

mod line;
mod place;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

pub(crate) use line::{Cut, Line};
pub(crate) use place::Place;

/// A container that lives as long as this process, however that ends.
pub(crate) struct Server {
    name: String,
}

impl Server {
    /// `image` is one that `scripts/test-images.sh` makes.
    pub(crate) fn start(image: &str) -> Self {
        Self::start_with(image, &[])
    }

    /// `options` are those of `docker run`.
    pub(crate) fn start_with(image: &str, options: &[&str]) -> Self {
        let name = format!("cofferdam-test-server-{:08x}", rand::random::<u32>());
        let image = format!("cofferdam-test/{image}");
        let label = "cofferdam.test=1";
        let mut run = vec!["run", "--detach", "--name", &name, "--label", label];
        run.extend(options);
        run.push(&image);
        docker(&run);
        // It waits for the other end of its input to go, and that is this process.
        let watcher = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM; read -r _; exec docker rm --force --volumes \"$0\"",
                &name,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        std::mem::forget(watcher);
        Self { name }
    }

    pub(crate) fn address(&self) -> String {
        let template = "{{.NetworkSettings.IPAddress}}";
        docker(&["inspect", "--format", template, &self.name])
    }

    pub(crate) fn wait_for(&self, port: u16) {
        let address = format!("{}:{port}", self.address()).parse().unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a script in the container, and returns what it prints.
    pub(crate) async fn run(
        &self,
        user: &str,
        script: &str,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Vec<u8> {
        let mut child = tokio::process::Command::new("docker")
            .args(["exec", "--interactive", "--user", user, &self.name])
            .args(["sh", "-c", script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the docker program");
        let mut input = child.stdin.take().unwrap();
        input.write_all(stdin).await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{script}");
        output.stdout
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.expect("the docker program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
