//! Which repository was used where, so that a disk that is not mounted does not become a new repository.
//!
//! For each project and place the engine keeps a record: an empty volume whose labels name the repository. Where a place is
//! empty and a record says that it held a repository, none is made, whichever project that was: what they share is missing
//! for all of them. Records are written after the repository is there, and only read before; a run that ends in between is
//! made up for by the next one. Where the engine keeps none, or has lost them (`docker volume prune --all`; before Docker 23
//! also without `--all`, and `docker system prune --volumes`), a place counts as never used: a repository is made, and that is
//! told.
//!
//! A volume that was removed and made again under its name is another place. Older engines (Docker 20.10) tell
//! of a volume when something was last made or removed at its root: there, one that has lost its files counts as never used.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use tracing::warn;

use crate::engine::{Container, Endpoint, Engine, EngineError, MountKind, Volume};
use crate::pipe::Digester;
use crate::repository::url::RepositoryUrl;
use crate::repository::{Prepared, Repository, RepositoryError};
use crate::text::printable;

/// Its value is the repository's id.
const LABEL_REPOSITORY: &str = "cofferdam.repository";
const LABEL_PROJECT: &str = "cofferdam.repository.project";
const LABEL_PLACE: &str = "cofferdam.repository.place";

/// Where a new repository may be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreatePolicy {
    /// Where none is known to have been.
    #[default]
    WhereUnused,
    /// Also where one is missing: the user knows of it.
    Anywhere,
    Nowhere,
}

/// What the user says of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceTerms {
    pub create: CreatePolicy,
    /// The only repository that is right there.
    pub id: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "--new-repository conflicts with --existing (COFFERDAM_EXISTING) and --repository-id (COFFERDAM_REPOSITORY_ID); leave \
     one of them out"
)]
pub struct Contradiction;

impl PlaceTerms {
    /// The user knows that a repository is lost.
    pub fn allow_making(&mut self) -> Result<(), Contradiction> {
        if self.create == CreatePolicy::Nowhere || self.id.is_some() {
            return Err(Contradiction);
        }
        self.create = CreatePolicy::Anywhere;
        Ok(())
    }

    /// A second place has a repository of its own, which may be there when the first is lost.
    pub fn of_second_place(&self) -> Self {
        let create = match self.create {
            CreatePolicy::WhereUnused | CreatePolicy::Anywhere => CreatePolicy::WhereUnused,
            CreatePolicy::Nowhere => CreatePolicy::Nowhere,
        };
        Self { create, id: None }
    }
}

/// A repository in its place, ready to be written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsedPlace {
    /// As the user named it, without secrets.
    pub place: String,
    pub id: String,
    /// This run has made it.
    pub is_new: bool,
    /// It is another one than before.
    #[serde(skip)]
    pub is_another: bool,
    /// What to look into: another repository than before, or nothing to remember it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl UsedPlace {
    /// Whether somebody should hear of it at once. That it is not kept in mind is told by each report.
    pub fn is_remarkable(&self) -> bool {
        self.is_new || self.is_another
    }

    /// What is to be told of it.
    pub fn news(&self) -> Vec<String> {
        let made = self.is_new.then(|| {
            format!(
                "made a new repository at {}, with the id {}: it holds no earlier snapshots",
                self.place,
                printable(&self.id)
            )
        });
        made.into_iter().chain(self.warnings.clone()).collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "the repository is missing at {place}: nothing is there, but project {} has kept its snapshots in repository {} at \
         {kept_at}. Is the disk or volume mounted? If a container was started before it was, restart that container. To \
         start over with an empty repository, run `cofferdam {command} --new-repository`",
        printable(project),
        printable(id)
    )]
    Gone {
        place: String,
        project: String,
        id: String,
        kept_at: String,
        command: &'static str,
    },
    #[error(
        "the repository is missing at {place}: nothing is mounted there in Cofferdam's container, and project {} has kept its \
         snapshots in repository {} at {kept_at}; mount the volume or directory of the repository there",
        printable(project),
        printable(id)
    )]
    NotMounted {
        place: String,
        project: String,
        id: String,
        kept_at: String,
    },
    #[error(
        "there is no repository at {place}, and --existing (COFFERDAM_EXISTING) or --repository-id (COFFERDAM_REPOSITORY_ID) \
         forbids making one. Is the disk or volume mounted? For a first backup, leave these settings out"
    )]
    Forbidden { place: String },
    #[error(
        "the repository at {place} is {}, and --repository-id (COFFERDAM_REPOSITORY_ID) wants {}; mount the right disk or \
         volume, or change the setting",
        printable(found),
        printable(wanted)
    )]
    Another {
        place: String,
        found: String,
        wanted: String,
    },
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Whose repository it is, and what the command is called that may begin anew.
#[derive(Clone, Copy)]
pub struct Users<'a> {
    pub projects: &'a [String],
    pub command: &'static str,
}

/// Makes sure that the place can be written to and holds the repository that is meant. It is made where the terms allow
/// that. `engine` remembers it; without one nothing is remembered, and a place where a new one was made is told of.
pub async fn prepare(
    engine: Option<&Engine>,
    repository: &dyn Repository,
    url: &RepositoryUrl,
    users: Users<'_>,
    terms: &PlaceTerms,
) -> Result<UsedPlace, PlaceError> {
    let memory = match engine {
        Some(engine) => Some(Memory::read(engine, url).await?),
        None => None,
    };
    let known = memory.as_ref().and_then(|it| it.known(users.projects));
    let is_allowed = terms.create != CreatePolicy::Nowhere && terms.id.is_none();
    let may_make = is_allowed && (terms.create == CreatePolicy::Anywhere || known.is_none());
    let Prepared { id, is_new } = if may_make {
        repository.prepare().await?
    } else {
        match repository.prepare_existing().await {
            Err(RepositoryError::NoRepository { place }) => {
                let is_mounted = memory
                    .as_ref()
                    .is_some_and(|it| !matches!(it.site, Site::OwnContainer));
                return Err(match known.filter(|_| is_allowed) {
                    None => PlaceError::Forbidden { place },
                    Some(record) if is_mounted => record.gone_from(place, users.command),
                    Some(record) => record.not_mounted_at(place),
                });
            }
            prepared => prepared?,
        }
    };
    let place = repository.location();
    if let Some(wanted) = terms.id.as_ref().filter(|wanted| **wanted != id) {
        let (found, wanted) = (id, wanted.clone());
        return Err(PlaceError::Another {
            place,
            found,
            wanted,
        });
    }
    let mut used = UsedPlace {
        place,
        id,
        is_new,
        is_another: false,
        warnings: Vec::new(),
    };
    match memory {
        Some(memory) => memory.write(users.projects, &mut used, terms).await,
        None if is_new && terms.create != CreatePolicy::Anywhere => used.warnings.push(format!(
            "without an engine, Cofferdam cannot remember whether there was a repository at {} before: is the disk or volume mounted?",
            used.place
        )),
        None => {}
    }
    for news in used.news() {
        warn!("{news}");
    }
    Ok(used)
}

/// Where a repository lies, the same for every container that sees it.
enum Site {
    Directory {
        path: String,
        /// Whose files go with it.
        volume: Option<Volume>,
    },
    /// In our own container, with which it goes.
    OwnContainer,
    Server(String),
}

impl Site {
    async fn of(engine: &Engine, url: &RepositoryUrl) -> Result<Self, EngineError> {
        let path = match url {
            RepositoryUrl::Store(url) => return Ok(Self::Server(url.to_string())),
            // With or without a slash at its end.
            RepositoryUrl::Directory(path) => path.components().collect::<PathBuf>(),
        };
        let path = path.display().to_string();
        let Some(own) = engine.own_container().await? else {
            return Ok(Self::of_machine(&path, engine.endpoint()));
        };
        Self::seen_by(engine, &own, &path).await
    }

    /// Where Cofferdam runs in no container of the engine, and sees the files of its own machine. Another one's have its name
    /// before them.
    fn of_machine(path: &str, engine: &Endpoint) -> Self {
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy();
        let path = match engine.is_local() {
            true => path.to_owned(),
            false => format!("{name}:{path}"),
        };
        Self::Directory { path, volume: None }
    }

    async fn seen_by(engine: &Engine, own: &Container, path: &str) -> Result<Self, EngineError> {
        let Some(mount) = own.mount_of(path) else {
            return Ok(Self::OwnContainer);
        };
        let volume = match &mount.volume {
            _ if mount.kind == MountKind::Tmpfs => return Ok(Self::OwnContainer),
            Some(volume) => match engine.volume(volume).await {
                Err(error) if is_refusal(&error) => None,
                found => found?,
            },
            None => None,
        };
        let path = own.place_of(path);
        Ok(Self::Directory { path, volume })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Directory { path, .. } => path,
            Self::Server(url) => url,
            Self::OwnContainer => "its own container",
        })
    }
}

/// That a project has used a repository.
struct Record {
    /// The volume.
    name: String,
    /// By the engine's clock.
    made: Option<jiff::Timestamp>,
    project: String,
    place: String,
    id: String,
}

impl Record {
    fn of(volume: Volume) -> Option<Self> {
        let label = |key: &str| volume.labels.get(key).cloned();
        Some(Self {
            project: label(LABEL_PROJECT)?,
            place: label(LABEL_PLACE)?,
            id: label(LABEL_REPOSITORY)?,
            made: volume.created,
            name: volume.name,
        })
    }

    fn gone_from(&self, place: String, command: &'static str) -> PlaceError {
        PlaceError::Gone {
            place,
            project: self.project.clone(),
            id: self.id.clone(),
            kept_at: self.place.clone(),
            command,
        }
    }

    fn not_mounted_at(&self, place: String) -> PlaceError {
        PlaceError::NotMounted {
            place,
            project: self.project.clone(),
            id: self.id.clone(),
            kept_at: self.place.clone(),
        }
    }

    /// Whether it speaks of what is there now, or of a volume that has had the same name.
    fn is_of(&self, site: &Site) -> bool {
        let Site::Directory { volume, .. } = site else {
            return self.place == site.to_string();
        };
        let volume = volume.as_ref().and_then(|volume| volume.created);
        let is_younger = volume
            .zip(self.made)
            .is_some_and(|(volume, made)| volume > made);
        self.place == site.to_string() && !is_younger
    }
}

struct Memory<'a> {
    engine: &'a Engine,
    site: Site,
    records: Vec<Record>,
    /// Why the engine tells of none.
    refused: Option<EngineError>,
}

impl<'a> Memory<'a> {
    async fn read(engine: &'a Engine, url: &RepositoryUrl) -> Result<Self, EngineError> {
        let site = Site::of(engine, url).await?;
        let (volumes, refused) = match engine.volumes(LABEL_REPOSITORY).await {
            Ok(volumes) => (volumes, None),
            Err(error) if is_refusal(&error) => (Vec::new(), Some(error)),
            Err(error) => return Err(error),
        };
        Ok(Self {
            engine,
            site,
            records: volumes.into_iter().filter_map(Record::of).collect(),
            refused,
        })
    }

    /// What the place is known to hold. What lies in our own container may be there because a volume is not: then it is
    /// whatever these projects have used.
    fn known(&self, projects: &[String]) -> Option<&Record> {
        let is_own = |record: &&Record| projects.contains(&record.project);
        let mut of_place = self.records.iter().filter(|record| match self.site {
            Site::OwnContainer => is_own(record),
            _ => record.is_of(&self.site),
        });
        let first = of_place.clone().next();
        of_place.find(is_own).or(first)
    }

    /// Remembers what is used now. Notes what is not as it was, and what cannot be remembered: a backup is worth more.
    async fn write(&self, projects: &[String], used: &mut UsedPlace, terms: &PlaceTerms) {
        if matches!(self.site, Site::OwnContainer) {
            return;
        }
        let mut refused = self.refused.as_ref().map(ToString::to_string);
        for project in projects {
            if refused.is_some() {
                break;
            }
            refused = self
                .write_one(project, used)
                .await
                .err()
                .map(|it| it.to_string());
        }
        if let Some(why) = refused.filter(|_| terms.id.is_none()) {
            used.warnings.push(format!(
                "the engine could not record that repository {} is at {}, so an unmounted disk would become a new \
                 repository ({why}); set COFFERDAM_REPOSITORY_ID={}",
                printable(&used.id),
                used.place,
                printable(&used.id)
            ));
        }
    }

    async fn write_one(&self, project: &str, used: &mut UsedPlace) -> Result<(), EngineError> {
        let name = record_name(project, &self.site);
        if let Some(record) = self.records.iter().find(|record| record.name == name) {
            let is_still = record.is_of(&self.site);
            if is_still && record.id == used.id {
                return Ok(());
            }
            if is_still && !used.is_new {
                used.is_another = true;
                used.warnings.push(format!(
                    "the repository at {} is {}, but was {} when project {} last used it; is it the right disk or volume?",
                    used.place,
                    printable(&used.id),
                    printable(&record.id),
                    printable(project)
                ));
            }
            self.engine.remove_volume(&name).await?;
        }
        let labels = BTreeMap::from([
            (LABEL_REPOSITORY.to_owned(), used.id.clone()),
            (LABEL_PROJECT.to_owned(), project.to_owned()),
            (LABEL_PLACE.to_owned(), self.site.to_string()),
        ]);
        self.engine.create_volume(&name, labels).await
    }
}

/// A proxy before the engine lets not every call through.
fn is_refusal(error: &EngineError) -> bool {
    match error {
        EngineError::Forbidden { .. } => true,
        EngineError::Api { status, .. } => matches!(status, Some(404 | 405 | 501)),
        _ => false,
    }
}

/// The engine's names of volumes take few characters, and places are long.
fn record_name(project: &str, site: &Site) -> String {
    let mut digester = Digester::default();
    digester.update(project.as_bytes());
    digester.update(&[0]);
    digester.update(site.to_string().as_bytes());
    format!("cofferdam-repository-{}", &digester.finish().sha256[..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::local::LocalRepository;

    fn directory(path: &str, created: Option<&str>) -> Site {
        Site::Directory {
            path: path.to_owned(),
            volume: created.map(|created| Volume {
                name: "backups".to_owned(),
                created: Some(created.parse().unwrap()),
                labels: BTreeMap::new(),
                is_in_memory: false,
                bound: None,
            }),
        }
    }

    #[test]
    fn a_record_is_of_its_place_and_not_of_a_later_volume() {
        let record = Record {
            name: String::new(),
            made: Some("2026-11-21T02:00:00Z".parse().unwrap()),
            project: "shop".to_owned(),
            place: "/mnt/nas".to_owned(),
            id: "0".to_owned(),
        };
        for (site, expected) in [
            (directory("/mnt/nas", None), true),
            (directory("/mnt/nas", Some("2026-11-21T01:59:00Z")), true),
            (directory("/mnt/nas", Some("2026-11-21T02:00:01Z")), false),
            (directory("/mnt", None), false),
            (Site::Server("/mnt/nas".to_owned()), true),
            (Site::OwnContainer, false),
        ] {
            assert_eq!(record.is_of(&site), expected, "{site}");
        }
    }

    #[test]
    fn a_directory_of_another_machine_than_the_engines_has_its_name() {
        let local = Site::of_machine("/mnt/nas", &Endpoint::Unix("/run/docker.sock".to_owned()));
        assert_eq!(local.to_string(), "/mnt/nas");
        let away = Endpoint::Tcp {
            address: "192.0.2.1:2375".to_owned(),
            tls: None,
        };
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy();
        let site = Site::of_machine("/mnt/nas", &away).to_string();
        assert_eq!(site, format!("{name}:/mnt/nas"));
    }

    #[test]
    fn only_another_repository_than_before_is_remarkable() {
        let used = UsedPlace {
            place: "/backups".to_owned(),
            id: "5ae1".to_owned(),
            is_new: false,
            is_another: false,
            warnings: vec!["not kept in mind".to_owned()],
        };
        assert!(!used.is_remarkable());
        assert_eq!(used.news(), used.warnings);
        for (is_new, is_another) in [(true, false), (false, true)] {
            let used = UsedPlace {
                is_new,
                is_another,
                ..used.clone()
            };
            assert!(used.is_remarkable());
        }
    }

    #[test]
    fn what_is_not_mounted_is_told_with_what_to_do() {
        let record = Record {
            name: String::new(),
            made: None,
            project: "shop".to_owned(),
            place: "/srv/nas".to_owned(),
            id: "5ae1".to_owned(),
        };
        let told = record.not_mounted_at("/backups".to_owned()).to_string();
        insta::assert_snapshot!(told, @"the repository is missing at /backups: nothing is mounted there in Cofferdam's container, and project shop has kept its snapshots in repository 5ae1 at /srv/nas; mount the volume or directory of the repository there");
    }

    #[test]
    fn projects_and_places_have_records_of_their_own() {
        let names = [
            record_name("a", &directory("/b", None)),
            record_name("a/b", &directory("", None)),
            record_name("a", &directory("/c", None)),
            record_name("b", &directory("/b", None)),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    async fn prepared(path: &std::path::Path, terms: PlaceTerms) -> Result<UsedPlace, String> {
        let url = RepositoryUrl::Directory(path.to_owned());
        let users = Users {
            projects: &["shop".to_owned()],
            command: "backup",
        };
        let repository = LocalRepository::new(path);
        let prepared = prepare(None, &repository, &url, users, &terms).await;
        prepared.map_err(|error| {
            error
                .to_string()
                .replace(&path.display().to_string(), "/backups")
        })
    }

    #[tokio::test]
    async fn settings_forbid_to_make_a_repository_and_to_use_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("repository");
        let existing = PlaceTerms {
            create: CreatePolicy::Nowhere,
            id: None,
        };
        let named = |id: &str| PlaceTerms {
            create: CreatePolicy::Anywhere,
            id: Some(id.to_owned()),
        };
        let refused = prepared(&path, existing.clone()).await.unwrap_err();
        assert_eq!(prepared(&path, named("0")).await, Err(refused.clone()));
        insta::assert_snapshot!(refused, @"there is no repository at /backups, and --existing (COFFERDAM_EXISTING) or --repository-id (COFFERDAM_REPOSITORY_ID) forbids making one. Is the disk or volume mounted? For a first backup, leave these settings out");
        assert!(!path.exists());
        let made = prepared(&path, PlaceTerms::default()).await.unwrap();
        assert!(made.is_new);
        let id = made.id.clone();
        let news = made.news().join("\n");
        let news = news.replace(&path.display().to_string(), "/backups");
        insta::assert_snapshot!(news.replace(&id, "5ae1"), @"
        made a new repository at /backups, with the id 5ae1: it holds no earlier snapshots
        without an engine, Cofferdam cannot remember whether there was a repository at /backups before: is the disk or volume mounted?
        ");
        for terms in [existing, named(&id)] {
            let used = prepared(&path, terms).await.unwrap();
            assert_eq!(used.id, id);
            assert!(used.news().is_empty());
        }
        let refused = prepared(&path, named("0")).await.unwrap_err();
        insta::assert_snapshot!(refused.replace(&id, "5ae1"), @"the repository at /backups is 5ae1, and --repository-id (COFFERDAM_REPOSITORY_ID) wants 0; mount the right disk or volume, or change the setting");
    }
}
