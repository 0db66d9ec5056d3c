//! What has been read so far, and how it ends.

use std::collections::{BTreeMap, BTreeSet};

use super::instance::Instance;
use super::{Migration, Origin, Remark, RemarkKind, Sidecar};
use crate::discover::Service;
use crate::labels::{self, HookPoint, OptIn};
use crate::secret::secrets_of;
use crate::store::Store;
use crate::survey::Survey;

pub(super) struct Draft<'a> {
    pub survey: &'a Survey,
    /// The project's services but for the other tool's own, one of each.
    pub services: Vec<&'a Service>,
    pub sidecar: Sidecar,
    asked: BTreeMap<&'a str, Asked>,
    remarks: BTreeSet<Remark>,
}

/// What is asked for a service.
#[derive(Default)]
pub(super) struct Asked {
    /// Names as `cofferdam.volumes` takes them.
    pub volumes: BTreeSet<String>,
    /// Every named volume, also those to come.
    pub every_volume: bool,
    /// Paths by the name that the label gives them.
    pub files: BTreeMap<String, String>,
    /// Patterns left out of all of these.
    pub exclude: Vec<String>,
    pub databases: BTreeSet<Store>,
    /// The other tool's label that asks for it.
    pub stop: Option<String>,
    /// Hooks and the like.
    pub labels: BTreeMap<String, String>,
}

impl<'a> Draft<'a> {
    pub fn new(survey: &'a Survey, instances: &[Instance<'_>]) -> Self {
        let is_instance = |service: &Service| {
            let mut ids = instances.iter().map(|instance| &instance.container.id);
            ids.any(|id| *id == service.container.id)
        };
        // The replicas of a service have its labels.
        let is_first = |service: &Service| service.name == service.container.service();
        let services = survey.stack.services.iter();
        Self {
            survey,
            services: services
                .filter(|service| is_first(service) && !is_instance(service))
                .collect(),
            sidecar: Sidecar::default(),
            asked: BTreeMap::new(),
            remarks: BTreeSet::new(),
        }
    }

    pub fn asked(&mut self, service: &'a Service) -> &mut Asked {
        self.asked.entry(&service.name).or_default()
    }

    pub fn remark(&mut self, kind: RemarkKind, service: &str, name: &str, text: impl Into<String>) {
        self.remarks.insert(Remark {
            kind,
            service: service.to_owned(),
            name: (!name.is_empty()).then(|| name.to_owned()),
            text: text.into(),
        });
    }

    /// `by` is the other tool's label.
    pub fn hook(&mut self, service: &'a Service, point: HookPoint, command: &str, by: &str) {
        let label = format!("cofferdam.hook.{point}");
        let secrets = secrets_of(&service.container.env);
        let shown = secrets
            .iter()
            .find(|(_, secret)| command.contains(secret.expose()));
        if let Some((variable, _)) = shown {
            let text = format!(
                "its command has the value of {variable} in it, and is not shown: write it as `{label}`, with \
                 `sh -c '…'` around it and `$${variable}` in the place of the value"
            );
            return self.remark(RemarkKind::ToDo, &service.name, by, text);
        }
        self.asked(service).labels.insert(label, command.to_owned());
    }

    pub fn finish(mut self, origin: Origin) -> Migration {
        let mut services = BTreeMap::new();
        for service in self.services.clone() {
            let Some(asked) = self.asked.remove(service.name.as_str()) else {
                continue;
            };
            let labels = self.labels(service, asked);
            if service.labels.opt_in != OptIn::No {
                let text = "the service has labels that name what is saved already: see whether the new ones belong beside them";
                self.remark(RemarkKind::ToDo, &service.name, "", text);
            }
            let labels = self.without_present(service, labels);
            let labels = self.without_unreadable(service, labels);
            if !labels.is_empty() {
                services.insert(service.name.clone(), labels);
            }
        }
        Migration {
            project: self.survey.stack.project.clone(),
            from: origin,
            services,
            sidecar: self.sidecar,
            remarks: self.remarks.into_iter().collect(),
        }
    }

    fn labels(&mut self, service: &Service, asked: Asked) -> BTreeMap<String, String> {
        let mut labels = asked.labels;
        for store in &asked.databases {
            let driver = match store {
                Store::Mysql => "cofferdam.mysql",
                _ => "cofferdam.postgres",
            };
            labels.insert(driver.to_owned(), "*".to_owned());
        }
        if let Some(by) = asked.stop {
            if asked.databases.is_empty() && !has_database_label(service) {
                let both = "backup,restore".to_owned();
                labels.insert("cofferdam.stop".to_owned(), both);
            } else {
                let text = "it is not stopped: its databases are dumped by their own server, which has to run";
                self.remark(RemarkKind::Differs, &service.name, &by, text);
            }
        }
        let exclude = asked.exclude.join(",");
        let mut option = |tree: String| {
            if !exclude.is_empty() {
                labels.insert(format!("{tree}.exclude"), exclude.clone());
            }
        };
        for name in &asked.volumes {
            option(format!("cofferdam.volumes.{name}"));
        }
        for name in asked.files.keys() {
            option(format!("cofferdam.files.{name}"));
        }
        for (name, path) in asked.files {
            labels.insert(format!("cofferdam.files.{name}"), path);
        }
        if !asked.volumes.is_empty() {
            let names: Vec<String> = asked.volumes.into_iter().collect();
            let value = match asked.every_volume {
                true => "*".to_owned(),
                false => names.join(","),
            };
            labels.insert("cofferdam.volumes".to_owned(), value);
        }
        labels
    }

    /// What a service says already is left as it is.
    fn without_present(
        &mut self,
        service: &Service,
        mut labels: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        labels.retain(|key, value| match service.container.labels.get(key) {
            None => true,
            Some(present) => {
                if present != value {
                    let text =
                        format!("the service has `{key}` already; here it would be `{value}`");
                    self.remark(RemarkKind::ToDo, &service.name, "", text);
                }
                false
            }
        });
        labels
    }

    /// Whatever the other tool accepts, nothing comes out that Cofferdam does not read.
    fn without_unreadable(
        &mut self,
        service: &Service,
        mut labels: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        while !labels.is_empty() {
            let mut container = service.container.clone();
            container.labels.extend(labels.clone());
            let Err(errors) = labels::parse(&container) else {
                break;
            };
            let before = labels.len();
            for problem in errors.problems {
                if labels.remove(&problem.label).is_none() {
                    continue;
                }
                let hint = problem.hint.map(|hint| format!("; {hint}"));
                let text = format!(
                    "`{}` could not be taken over: its value {}{}",
                    problem.label,
                    problem.what,
                    hint.unwrap_or_default()
                );
                self.remark(RemarkKind::ToDo, &service.name, "", text);
            }
            if labels.len() == before {
                // What the service has already stands in the way.
                for key in std::mem::take(&mut labels).into_keys() {
                    let text =
                        format!("`{key}` does not go with the labels that the service has already");
                    self.remark(RemarkKind::ToDo, &service.name, "", text);
                }
            }
        }
        labels
    }
}

fn has_database_label(service: &Service) -> bool {
    service.labels.postgres.is_some() || service.labels.mysql.is_some()
}
