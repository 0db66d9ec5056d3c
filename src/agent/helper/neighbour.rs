//! A helper in the network of a target's container, through which cofferdam speaks to the server there: over the server's
//! own loopback interface, without a published port, and without a program of the container's.

use std::io::Cursor;
use std::time::Duration;

use super::{HelperContainer, HelperError, Helpers};
use crate::agent::request::{Answer, Method, PASSWORD, RequestJob};
use crate::agent::{IDLE, REQUEST};
use crate::engine::container::is_within;
use crate::engine::ours::{HELPER_NAME, TRIAL_NAME};
use crate::engine::{Container, ExecOutput, ExecSpec, HelperSpec, Substitute};
use crate::secret::{Redactor, Secret, secrets_of};

/// Beyond what the server itself may take.
const MARGIN: Duration = Duration::from_secs(60);
/// How often a server is asked whose answer does not arrive: some engines (Podman 4) lose what a command prints that ends
/// soon.
const MOST_TRIES: u32 = 3;
/// How long the engine may stay silent while it hands out a few small files.
const CARRY: Duration = Duration::from_secs(60);

/// Removes its container when it is dropped.
pub struct Neighbour(HelperContainer);

impl Helpers {
    /// Starts one beside a running container.
    pub async fn neighbour(&self, container: &Container) -> Result<Neighbour, HelperError> {
        // A network that is itself another container's cannot be joined.
        let network = container.network_of.as_ref().unwrap_or(&container.id);
        self.neighbour_in(network).await
    }

    async fn neighbour_in(&self, container: &str) -> Result<Neighbour, HelperError> {
        let spec = HelperSpec {
            name: Some(self.name(HELPER_NAME)),
            image: self.image.clone(),
            argv: ["/cofferdam", "agent", IDLE].map(str::to_owned).to_vec(),
            labels: self.labels(),
            network: format!("container:{container}"),
            ..HelperSpec::default()
        };
        let helper = self.guard(self.engine.create_helper(&spec).await?);
        self.engine.start(&helper.id).await?;
        Ok(Neighbour(helper))
    }

    /// Starts a container like `model` with other data ([`Engine::create_twin`]), and a helper beside it. `carried`: paths in
    /// the model's own layer, which the twin, made of the image, would have as they are there.
    ///
    /// [`Engine::create_twin`]: crate::engine::Engine::create_twin
    pub async fn twin(
        &self,
        model: &Container,
        instead: &Substitute,
        carried: &[String],
    ) -> Result<Twin, HelperError> {
        let id = self
            .engine
            .create_twin(&model.id, &self.name(TRIAL_NAME), instead, &self.labels())
            .await?;
        let container = self.guard(id);
        let secrets = secrets_of(&model.env);
        let redactor = Redactor::new(secrets.iter().map(|(_, secret)| secret));
        for path in carried {
            self.carry(model, &container.id, path).await?;
        }
        self.engine.start(&container.id).await?;
        match self.neighbour_in(&container.id).await {
            Ok(neighbour) => Ok(Twin {
                neighbour,
                container,
                redactor,
            }),
            Err(error) if self.engine.inspect(&container.id).await?.is_running() => Err(error),
            // Nobody can be the neighbour of what has ended.
            Err(_) => Err(HelperError::TwinEnded(
                self.engine.last_words(&container.id, &redactor).await?,
            )),
        }
    }

    /// What is in a mount is the twin's already, and must not be written to.
    async fn carry(&self, model: &Container, twin: &str, path: &str) -> Result<(), HelperError> {
        let mut mounts = model.mounts.iter();
        let is_mounted = mounts.any(|mount| {
            is_within(path, &mount.destination) || is_within(&mount.destination, path)
        });
        let is_layer = !is_mounted && !model.is_on_tmpfs(path) && !model.read_only_root;
        if !is_layer || self.engine.stat(&model.id, path).await?.is_none() {
            return Ok(());
        }
        let (parent, _) = path.rsplit_once('/').unwrap_or_default();
        let archive = self.engine.archive_get(&model.id, path, CARRY).await?;
        let parent = if parent.is_empty() { "/" } else { parent };
        Ok(self.engine.archive_put(twin, parent, archive).await?)
    }
}

impl Neighbour {
    /// Asks the server. Any status is an answer.
    pub async fn ask(
        &self,
        job: &RequestJob,
        password: Option<&Secret>,
    ) -> Result<Answer, HelperError> {
        let mut line = serde_json::to_vec(job).expect("a job has only string keys");
        line.push(b'\n');
        let spec = ExecSpec {
            secret_env: password
                .map(|password| (PASSWORD.to_owned(), password.clone()))
                .into_iter()
                .collect(),
            limit: Some(Duration::from_secs(job.limit_seconds) + MARGIN),
            ..ExecSpec::new(["/cofferdam", "agent", REQUEST])
        };
        let mut tries = 1;
        loop {
            let output = self.run(&spec, line.clone()).await?;
            if !output.stdout.is_empty() {
                return super::parse_report(&output.stdout);
            }
            // Asking for something changes nothing.
            if job.method != Method::Get || tries == MOST_TRIES {
                return Err(HelperError::NoReport(
                    "the engine passed on none of its report, so the server's answer is not known"
                        .to_owned(),
                ));
            }
            tries += 1;
        }
    }

    async fn run(&self, spec: &ExecSpec, line: Vec<u8>) -> Result<ExecOutput, HelperError> {
        let input = Box::pin(Cursor::new(line));
        let engine = &self.0.engine;
        let output = engine.exec_with_input(&self.0.id, spec, input).await?;
        if output.exit_code != 0 || output.truncated {
            return Err(HelperError::NoReport(format!(
                "its request ended with exit code {}: {}",
                output.exit_code,
                output.last_words()
            )));
        }
        Ok(output)
    }
}

/// A container like another one, on other data. Removed when it is dropped, with its neighbour.
pub struct Twin {
    pub neighbour: Neighbour,
    container: HelperContainer,
    redactor: Redactor,
}

impl Twin {
    pub async fn inspect(&self) -> Result<Container, HelperError> {
        let HelperContainer { engine, id, .. } = &self.container;
        Ok(engine.inspect(id).await?)
    }

    /// What it printed last.
    pub async fn last_words(&self) -> String {
        let HelperContainer { engine, id, .. } = &self.container;
        let said = engine.last_words(id, &self.redactor).await;
        said.unwrap_or_default()
    }

    /// Stops it as its image asks for.
    pub async fn stop(self) -> Result<(), HelperError> {
        let HelperContainer { engine, id, .. } = &self.container;
        Ok(engine.stop(id, None).await?)
    }
}
