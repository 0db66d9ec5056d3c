//! A real S3 server.

use std::process::Command;
use std::time::Duration;

use cofferdam::repository::credentials::Credentials;
use cofferdam::repository::url::RepositoryUrl;
use cofferdam::repository::{self, Repository};
use std::sync::Arc;

use super::{TestContainer, docker_succeeds};

const IMAGE: &str = "cofferdam-test/garage:2";

/// Of `docker/test-images/garage`.
pub const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "GK0123456789abcdef01234567"),
    (
        "AWS_SECRET_ACCESS_KEY",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
];

/// Garage, with the bucket `backups`.
pub struct Garage {
    pub container: TestContainer,
}

impl Garage {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> Self {
        assert!(
            docker_succeeds(["image", "inspect", IMAGE]),
            "there is no image {IMAGE}: run scripts/test-images.sh garage"
        );
        let garage = Self {
            container: TestContainer::running(options, &[IMAGE]),
        };
        garage.wait_until_ready();
        garage
    }

    /// `10.0.0.2:3900`
    pub fn address(&self) -> String {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        format!("{}:3900", self.container.inspect(template))
    }

    /// The port opens once the bucket is made.
    pub fn wait_until_ready(&self) {
        let address = self.address().parse().unwrap();
        for _ in 0..200 {
            if std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("Garage does not answer at {address}");
    }

    pub fn url(&self, prefix: &str) -> String {
        url_at(&self.address(), prefix)
    }

    pub fn repository(&self, prefix: &str) -> Arc<dyn Repository> {
        repository_at(&self.url(prefix))
    }
}

/// A place in the bucket, through whatever listens at `address`.
pub fn url_at(address: &str, prefix: &str) -> String {
    format!("s3://backups/{prefix}?endpoint=http://{address}&region=garage")
}

pub fn repository_at(url: &str) -> Arc<dyn Repository> {
    let url = RepositoryUrl::parse(url, std::path::Path::new("/")).unwrap();
    repository::open(&url, &Credentials::among(KEYS)).unwrap()
}

pub fn with_keys(command: &mut Command) -> &mut Command {
    command.envs(KEYS)
}
