//! Cofferdam's side of an agent inside a target's container: a visit.
//!
//! A visit has a directory of its own (`.cofferdam-<run>-<digits>/`, mode 0700, owned by the user that execs run as). It
//! holds our own binary and whatever comes and goes. Everything is removed when the visit ends, also when its future is
//! dropped. It lies where nobody but root and that user could put another one in its place ([`place`]). What a killed
//! cofferdam left is removed by whoever recovers its run ([`left`]), or by the next visit.
//!
//! Whether the agent can run is decided in one place, [`Visit::begin`]: it is asked to arrive. Where it cannot (a mount
//! without exec, another architecture) the directory is still there for files: [`Visit::hands`].

pub(crate) mod left;
mod lifeline;
mod owner;
mod place;
mod removals;
mod stay;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{debug, warn};

use self::lifeline::carrying;
use self::owner::Owner;
use self::place::Refusal;
pub use self::place::Unsafe;
pub use self::removals::Removals;
use self::stay::Stay;
use super::job::{
    ArriveJob, Arrived, DIRECTORY_PREFIX, DumpJob, Dumped, Errand, Failure, LoadJob, Loaded,
    RemoveJob, Removed,
};
use super::sqlite::{SqliteDumped, SqliteJob};
use crate::engine::archive::NewFile;
use crate::engine::{Container, Engine, EngineError};
use crate::pipe::ByteStream;
use crate::target::RunId;
use crate::tree::TreePath;

/// Where a process finds its own binary.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

const PROGRAM: &str = "cofferdam";
/// The file of paths that are to be removed.
const LIST: &str = "paths";
/// For steps that only look or remove.
const SHORT: Duration = Duration::from_secs(60);
/// How long the engine may be silent while a file comes out.
const FILE_IDLE: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// Nothing can be written in this container by the archive API.
    #[error("container {container} has no place for temporary files: {}", why.join("; "))]
    NoPlace { container: String, why: Vec<String> },
    /// The label names a directory where somebody else could put a program in the place of the agent.
    #[error("{scratch} cannot hold temporary files in container {container}: {why}")]
    Unsafe {
        container: String,
        scratch: String,
        why: Unsafe,
    },
    #[error("there is no room left in {place} of container {container}")]
    NoRoom { container: String, place: String },
    #[error("container {container} has no user {user}")]
    NoUser { container: String, user: String },
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the agent in container {container} did not report: {why}")]
    NoReport { container: String, why: String },
    /// Some engines (Podman 4) lose what a command prints that ends soon.
    #[error(
        "agent {errand} in container {container} ended with exit code 0, but the engine passed on none of its report, so its \
         result is not known; run the command again"
    )]
    LostReport {
        container: String,
        errand: &'static str,
    },
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

impl ClientEnvironment {
    /// Sets a variable that is no secret.
    pub fn set(&mut self, name: &str, value: &str) {
        self.plain.retain(|(there, _)| there != name);
        self.plain.push((name.to_owned(), value.to_owned()));
    }
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

impl Visit {
    /// Puts an agent into the container: into the first place where it can run, else into the first that takes files.
    pub async fn begin(visitor: Visitor<'_>) -> Result<Self, VisitError> {
        let owner = owner::owner_of(&visitor).await?;
        let mut without_agent: Option<Self> = None;
        let mut refused = Vec::new();
        for candidate in place::candidates(visitor.scratch) {
            let resolved =
                place::resolve(visitor.engine, visitor.container, candidate, Some(owner));
            let place = match resolved.await? {
                Ok(place) => place,
                Err(Refusal::Unsafe(why)) if visitor.scratch.is_some() => {
                    return Err(VisitError::Unsafe {
                        container: visitor.container.name.clone(),
                        scratch: candidate.to_owned(),
                        why,
                    });
                }
                Err(why) => {
                    refused.push(why.to_string());
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
                        name, "removed what a dead run left behind"
                    );
                }
                return Ok(Hands::Agent(arrived));
            }
            Err(VisitError::Engine(EngineError::CannotRun { message, .. })) => message,
            Err(VisitError::NoReport { why, .. }) => why,
            Err(error @ VisitError::LostReport { .. }) => error.to_string(),
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

    /// Runs a client on a file that is there.
    pub async fn load(
        &self,
        job: &LoadJob,
        environment: &ClientEnvironment,
    ) -> Result<Loaded, VisitError> {
        self.stay.errand(Errand::Load, job, environment, None).await
    }

    /// Runs a client on what is sent meanwhile: `content` has to be what the job says of it.
    pub async fn load_incoming(
        &self,
        job: &LoadJob,
        environment: &ClientEnvironment,
        content: ByteStream,
    ) -> Result<Loaded, VisitError> {
        self.stay
            .errand_with(Errand::Load, job, environment, None, carrying(content))
            .await
    }

    /// Copies a database and keeps the copy as a compressed file. Nothing is left of it after an error.
    pub async fn sqlite(&self, job: &SqliteJob) -> Result<SqliteDumped, VisitError> {
        let environment = ClientEnvironment::default();
        self.stay
            .errand(Errand::Sqlite, job, &environment, None)
            .await
    }

    /// Removes exactly these entries, whose paths are relative to the container's root; each has to lie below `within`,
    /// and a directory has to come after what it holds. What the system does not let go stays, and is told.
    pub async fn remove_entries(
        &self,
        within: &TreePath,
        paths: impl Iterator<Item = &TreePath>,
    ) -> Result<Removed, VisitError> {
        // There may be more of them than an argument or an environment can hold.
        let mut list = Vec::new();
        let mut count = 0;
        for path in paths {
            list.extend_from_slice(path.as_bytes());
            list.push(0);
            count += 1;
        }
        let bytes = list.len() as u64;
        self.put(LIST, bytes, Box::pin(std::io::Cursor::new(list)))
            .await?;
        let job = RemoveJob {
            within: within.clone(),
            list: self.path(LIST),
            paths: count,
        };
        let environment = ClientEnvironment::default();
        self.stay
            .errand(Errand::Remove, &job, &environment, None)
            .await
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
