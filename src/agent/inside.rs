//! Cofferdam's side of an agent inside a target's container: a visit.
//!
//! A visit has a directory of its own (`.cofferdam-<run>-<digits>/`, mode 0700, owned by the user that execs run as). It
//! holds our own binary and whatever comes and goes. Everything is removed when the visit ends, also when its future is
//! dropped, and what a killed cofferdam left is removed by the next visit.
//!
//! Whether the agent can run is decided in one place, [`Visit::begin`]: it is asked to arrive. Where it cannot (a mount
//! without exec, another architecture) the directory is still there for files: [`Visit::hands`].

mod lifeline;
mod owner;
mod place;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::owner::Owner;
use super::JOB;
use super::job::{
    ArriveJob, Arrived, DIRECTORY_PREFIX, DumpJob, Dumped, Errand, Failure, LeaveJob, Left,
    LoadJob, Loaded, Report,
};
use crate::engine::archive::NewFile;
use crate::engine::{Container, Engine, EngineError, ExecOutput, ExecSpec};
use crate::pipe::ByteStream;
use crate::target::RunId;

const PROGRAM: &str = "cofferdam";
/// For steps that only look or remove.
const SHORT: Duration = Duration::from_secs(60);
/// How long the engine may be silent while a file comes out.
const FILE_IDLE: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// Nothing can be written in this container by the archive API.
    #[error("container {container} has no place for temporary files: {}", why.join("; "))]
    NoPlace { container: String, why: Vec<String> },
    #[error("there is no room left in {place} of container {container}")]
    NoRoom { container: String, place: String },
    #[error("container {container} knows no user {user}")]
    NoUser { container: String, user: String },
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the agent in container {container} did not report: {why}")]
    NoReport { container: String, why: String },
    #[error("cannot read cofferdam's own program {program}: {source}")]
    Program {
        program: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for VisitError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSpace {
                container, path, ..
            } => Self::NoRoom {
                container,
                place: path,
            },
            other => Self::Engine(other),
        }
    }
}

/// What the visit of a container needs to know.
#[derive(Clone)]
pub struct Visitor<'a> {
    pub engine: &'a Engine,
    pub container: &'a Container,
    /// Who execs run as; `None`: the container's own user.
    pub user: Option<&'a str>,
    /// Where the label wants temporary files.
    pub scratch: Option<&'a str>,
    pub run: &'a RunId,
    /// Our own binary, which must be static.
    pub program: &'a Path,
    pub removals: &'a Removals,
}

/// Removals of visits whose futures were dropped. They go on by themselves; wait for them before the process ends.
#[derive(Clone, Debug, Default)]
pub struct Removals(TaskTracker);

impl Removals {
    /// Waits until everything that was dropped up to now has been removed, or could not be.
    pub async fn done(&self) {
        self.0.close();
        self.0.wait().await;
        self.0.reopen();
    }

    /// Runs `removal` by itself.
    pub(crate) fn spawn(&self, removal: impl Future<Output = ()> + Send + 'static) {
        match Handle::try_current() {
            Ok(runtime) => drop(self.0.spawn_on(removal, &runtime)),
            Err(_) => warn!("files of cofferdam's stay in a container until the next run"),
        }
    }
}

/// Who does the work in the container.
#[derive(Clone, Debug, PartialEq)]
pub enum Hands {
    Agent(Arrived),
    /// The agent cannot run there; clients can.
    Clients {
        why: String,
    },
}

/// The environment of a client.
#[derive(Clone, Debug, Default)]
pub struct ClientEnvironment {
    pub plain: Vec<(String, String)>,
    pub secret: Vec<(String, crate::secret::Secret)>,
}

/// A directory of ours in a running container.
pub struct Visit {
    stay: Stay,
    hands: Hands,
    owner: Owner,
    removals: Removals,
    /// Nothing is left to be removed.
    over: bool,
}

/// What removing needs to know.
#[derive(Clone)]
struct Stay {
    engine: Engine,
    /// The container's id.
    container: String,
    /// Its name, for messages.
    name: String,
    user: Option<String>,
    directory: String,
}

impl Visit {
    /// Puts an agent into the container: into the first place where it can run, else into the first that takes files.
    pub async fn begin(visitor: Visitor<'_>) -> Result<Self, VisitError> {
        let owner = resolve_owner(&visitor).await?;
        let mut without_agent: Option<Self> = None;
        let mut refused = Vec::new();
        for candidate in place::candidates(visitor.scratch) {
            let place = match place::resolve(visitor.engine, visitor.container, candidate).await? {
                Ok(place) => place,
                Err(why) => {
                    refused.push(why);
                    continue;
                }
            };
            match Self::begin_at(&visitor, &place, owner).await {
                Ok(visit) => match visit.hands {
                    Hands::Agent(_) => {
                        if let Some(other) = without_agent {
                            other.end().await?;
                        }
                        return Ok(visit);
                    }
                    Hands::Clients { .. } => without_agent = without_agent.or(Some(visit)),
                },
                Err(VisitError::Engine(EngineError::ReadOnly { message, .. })) => {
                    refused.push(format!("{place}: {message}"));
                }
                Err(error) => return Err(error),
            }
        }
        without_agent.ok_or_else(|| VisitError::NoPlace {
            container: visitor.container.name.clone(),
            why: refused,
        })
    }

    async fn begin_at(
        visitor: &Visitor<'_>,
        place: &str,
        owner: Owner,
    ) -> Result<Self, VisitError> {
        let digits: u32 = rand::random();
        let name = format!("{DIRECTORY_PREFIX}{}-{digits:08x}", visitor.run);
        let directory = format!("{}/{name}", place.trim_end_matches('/'));
        // From here on there may be something to remove.
        let mut visit = Self {
            stay: Stay {
                engine: visitor.engine.clone(),
                container: visitor.container.id.clone(),
                name: visitor.container.name.clone(),
                user: visitor.user.map(str::to_owned),
                directory,
            },
            hands: Hands::Clients {
                why: "it was not tried".to_owned(),
            },
            owner,
            removals: visitor.removals.clone(),
            over: false,
        };
        match visit.settle_in(visitor, place, &name).await {
            Ok(hands) => {
                visit.hands = hands;
                Ok(visit)
            }
            Err(error) => {
                if let Err(left) = visit.end().await {
                    warn!("{left}");
                }
                Err(error)
            }
        }
    }

    async fn settle_in(
        &self,
        visitor: &Visitor<'_>,
        place: &str,
        name: &str,
    ) -> Result<Hands, VisitError> {
        self.put_in(visitor, place, name).await?;
        self.greet(visitor.run).await
    }

    async fn put_in(
        &self,
        visitor: &Visitor<'_>,
        place: &str,
        name: &str,
    ) -> Result<(), VisitError> {
        let unreadable = |source| VisitError::Program {
            program: visitor.program.display().to_string(),
            source,
        };
        let program = tokio::fs::File::open(visitor.program)
            .await
            .map_err(unreadable)?;
        let bytes = program.metadata().await.map_err(unreadable)?.len();
        let Stay {
            engine, container, ..
        } = &self.stay;
        engine
            .archive_put(container, place, directory_archive(name, self.owner))
            .await?;
        let file = NewFile {
            name: PROGRAM,
            bytes,
            mode: 0o500,
            uid: self.owner.uid,
            gid: self.owner.gid,
        };
        engine
            .file_put(container, &self.stay.directory, file, Box::pin(program))
            .await?;
        Ok(())
    }

    /// Asks the agent to arrive. Whatever keeps it from reporting, short of an engine that fails, means: no agent here.
    async fn greet(&self, run: &RunId) -> Result<Hands, VisitError> {
        let job = ArriveJob {
            run: run.to_string(),
        };
        let greeted: Result<Arrived, VisitError> = self
            .stay
            .errand(
                Errand::Arrive,
                &job,
                &ClientEnvironment::default(),
                Some(SHORT),
            )
            .await;
        let why = match greeted {
            Ok(arrived) => {
                for name in &arrived.swept {
                    debug!(
                        container = self.stay.name,
                        name, "removed what a dead run left"
                    );
                }
                return Ok(Hands::Agent(arrived));
            }
            Err(VisitError::Engine(EngineError::CannotRun { message, .. })) => message,
            Err(VisitError::NoReport { why, .. }) => why,
            Err(VisitError::Failed(failure)) => failure.to_string(),
            Err(error) => return Err(error),
        };
        Ok(Hands::Clients { why })
    }

    pub fn hands(&self) -> &Hands {
        &self.hands
    }

    /// The path of a file of this visit.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.stay.directory)
    }

    /// Puts a file of a known length beside the agent, for nobody else to read.
    pub async fn put(&self, name: &str, bytes: u64, content: ByteStream) -> Result<(), VisitError> {
        let file = NewFile {
            name,
            bytes,
            mode: 0o600,
            uid: self.owner.uid,
            gid: self.owner.gid,
        };
        let Stay {
            engine,
            container,
            directory,
            ..
        } = &self.stay;
        engine.file_put(container, directory, file, content).await?;
        Ok(())
    }

    /// Brings a file of this visit out: its length and its content.
    pub async fn get(&self, name: &str) -> Result<(u64, ByteStream), VisitError> {
        let path = self.path(name);
        let Stay {
            engine, container, ..
        } = &self.stay;
        Ok(engine.file_get(container, &path, FILE_IDLE).await?)
    }

    /// Runs a client and keeps its standard output as a compressed file. Nothing is left of it after an error.
    pub async fn dump(
        &self,
        job: &DumpJob,
        environment: &ClientEnvironment,
    ) -> Result<Dumped, VisitError> {
        self.stay.errand(Errand::Dump, job, environment, None).await
    }

    /// Runs a client on a file that [`Visit::dump`] made and [`Visit::put`] brought back.
    pub async fn load(
        &self,
        job: &LoadJob,
        environment: &ClientEnvironment,
    ) -> Result<Loaded, VisitError> {
        self.stay.errand(Errand::Load, job, environment, None).await
    }

    /// Removes everything that was put in. An error says what is left, and where.
    pub async fn end(mut self) -> Result<(), VisitError> {
        let removed = self.stay.remove(&self.hands).await;
        self.over = true;
        removed
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (stay, hands) = (self.stay.clone(), self.hands.clone());
        self.removals.spawn(async move {
            if let Err(error) = stay.remove(&hands).await {
                warn!("{error}");
            }
        });
    }
}

impl Stay {
    async fn errand<J: Serialize, T: DeserializeOwned>(
        &self,
        errand: Errand,
        job: &J,
        environment: &ClientEnvironment,
        limit: Option<Duration>,
    ) -> Result<T, VisitError> {
        let job = serde_json::to_string(job).expect("a job has only string keys");
        let mut env = environment.plain.clone();
        env.push((JOB.to_owned(), job));
        let spec = ExecSpec {
            env,
            secret_env: environment.secret.clone(),
            user: self.user.clone(),
            limit,
            ..ExecSpec::new([
                format!("{}/{PROGRAM}", self.directory),
                "agent".to_owned(),
                errand.as_str().to_owned(),
            ])
        };
        let output = self
            .engine
            .exec_with_input(&self.container, &spec, lifeline::lifeline())
            .await?;
        self.report(errand, &output)
    }

    /// Nothing but one whole report is an answer.
    fn report<T: DeserializeOwned>(
        &self,
        errand: Errand,
        output: &ExecOutput,
    ) -> Result<T, VisitError> {
        let no_report = |why: String| VisitError::NoReport {
            container: self.name.clone(),
            why,
        };
        if output.exit_code != 0 || output.truncated {
            return Err(no_report(format!(
                "agent {} ended with exit code {}: {}",
                errand.as_str(),
                output.exit_code,
                output.last_words()
            )));
        }
        match serde_json::from_slice(&output.stdout) {
            Ok(Report::Done(done)) => Ok(done),
            Ok(Report::Failed(Failure::NoRoom { place })) => Err(VisitError::NoRoom {
                container: self.name.clone(),
                place,
            }),
            Ok(Report::Failed(failure)) => Err(failure.into()),
            Err(error) => Err(no_report(format!(
                "agent {} printed something else: {error}",
                errand.as_str()
            ))),
        }
    }

    /// The agent removes itself. Where it cannot run, or has gone already, the container's own `rm` does.
    async fn remove(&self, hands: &Hands) -> Result<(), VisitError> {
        let mut last_error = String::new();
        if matches!(hands, Hands::Agent(_)) {
            let left: Result<Left, VisitError> = self
                .errand(
                    Errand::Leave,
                    &LeaveJob {},
                    &ClientEnvironment::default(),
                    Some(SHORT),
                )
                .await;
            if let Err(error) = left {
                last_error = error.to_string();
            }
        }
        if self.is_there().await? {
            let spec = ExecSpec {
                user: self.user.clone(),
                limit: Some(SHORT),
                ..ExecSpec::new(["rm", "-rf", "--", &self.directory])
            };
            match self.engine.exec(&self.container, &spec).await {
                Ok(output) if output.exit_code == 0 => {}
                Ok(output) => last_error = output.last_words(),
                Err(error) => last_error = error.to_string(),
            }
            if self.is_there().await? {
                return Err(VisitError::Failed(Failure::Other {
                    message: format!(
                        "{} stays in container {} until the next run: {last_error}",
                        self.directory, self.name
                    ),
                }));
            }
        }
        Ok(())
    }

    async fn is_there(&self) -> Result<bool, VisitError> {
        match self.engine.stat(&self.container, &self.directory).await {
            Ok(stat) => Ok(stat.is_some()),
            // Its files went with it.
            Err(EngineError::NoSuchContainer(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

async fn resolve_owner(visitor: &Visitor<'_>) -> Result<Owner, VisitError> {
    let user = visitor.user.unwrap_or(&visitor.container.user);
    if let Some(owner) = Owner::in_numbers(user) {
        return Ok(owner);
    }
    let passwd = read_text(visitor, "/etc/passwd").await?;
    let group = read_text(visitor, "/etc/group").await?;
    Owner::resolve(user, &passwd, &group).ok_or_else(|| VisitError::NoUser {
        container: visitor.container.name.clone(),
        user: user.to_owned(),
    })
}

/// Far more than any list of users; a bound for what a hostile container may send.
const MOST_TEXT: u64 = 4 * 1024 * 1024;

/// A small text file of the container; empty when there is none.
async fn read_text(visitor: &Visitor<'_>, path: &str) -> Result<String, VisitError> {
    use tokio::io::AsyncReadExt;

    let container = &visitor.container.id;
    let content = match visitor.engine.file_get(container, path, SHORT).await {
        Ok((_, content)) => content,
        Err(EngineError::NoSuchPath { .. } | EngineError::WrongKind { .. }) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    content
        .take(MOST_TEXT)
        .read_to_end(&mut bytes)
        .await
        .map_err(|source| EngineError::Source {
            receiver: path.to_owned(),
            source,
        })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A tar archive of one empty directory.
fn directory_archive(name: &str, owner: Owner) -> ByteStream {
    /// Two zero blocks end an archive.
    const END: usize = 1024;

    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header
        .set_path(format!("{name}/"))
        .expect("the name is short and relative");
    header.set_mode(0o700);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    header.set_size(0);
    header.set_mtime(now.map_or(0, |now| now.as_secs()));
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(archive.len() + END, 0);
    Box::pin(std::io::Cursor::new(archive))
}
