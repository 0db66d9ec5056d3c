//! `cofferdam.couchdb` and `cofferdam.elasticsearch`, with their options.

use super::values::{self, BadValue};
use crate::labels::table::{CouchdbLabel, ElasticsearchLabel};
use crate::labels::{CouchdbLabels, ElasticsearchLabels, OptIn, Selection};

/// What was read of a store's labels; `is_asked` when it is to be saved.
#[derive(Default)]
pub(super) struct StoreDraft<L> {
    is_asked: bool,
    labels: L,
}

impl<L: Default + PartialEq> StoreDraft<L> {
    /// Options ask for it too, where no label names what is saved.
    pub(super) fn finish(self, opt_in: OptIn) -> Option<L> {
        let has_options = self.labels != L::default();
        let is_asked = self.is_asked || (opt_in == OptIn::Detection && has_options);
        is_asked.then_some(self.labels)
    }
}

impl StoreDraft<CouchdbLabels> {
    pub(super) fn set(&mut self, option: CouchdbLabel, value: &str) -> Result<(), BadValue> {
        let labels = &mut self.labels;
        match option {
            CouchdbLabel::Databases => {
                values::word(value.trim(), &[("*", ())]).map_err(|_| {
                    BadValue::new(
                        "is not `*`",
                        "write `*`: a node is saved as a whole; to save a part of it, replicate that part to another node",
                    )
                })?;
                self.is_asked = true;
            }
            CouchdbLabel::User => labels.user = Some(values::text(value, "an administrator")?),
            CouchdbLabel::PasswordFile => labels.password_file = Some(values::path(value)?),
            CouchdbLabel::PasswordVariable => {
                labels.password_variable = Some(values::variable(value)?);
            }
            CouchdbLabel::Port => labels.port = values::port(value)?,
            CouchdbLabel::DataDirectory => labels.data_directory = values::path(value)?,
        }
        Ok(())
    }
}

impl StoreDraft<ElasticsearchLabels> {
    pub(super) fn set(&mut self, option: ElasticsearchLabel, value: &str) -> Result<(), BadValue> {
        let labels = &mut self.labels;
        match option {
            ElasticsearchLabel::Indices => {
                labels.indices = values::selection(value, "names of indices, or `*`")?;
                if let Selection::Names(names) = &labels.indices {
                    names.iter().try_for_each(|name| ensure_index(name))?;
                }
                self.is_asked = true;
            }
            ElasticsearchLabel::User => labels.user = Some(values::text(value, "a user's name")?),
            ElasticsearchLabel::PasswordFile => labels.password_file = Some(values::path(value)?),
            ElasticsearchLabel::PasswordVariable => {
                labels.password_variable = Some(values::variable(value)?);
            }
            ElasticsearchLabel::Port => labels.port = values::port(value)?,
            ElasticsearchLabel::Tls => labels.tls = values::boolean(value)?,
            ElasticsearchLabel::Location => labels.location = Some(values::path(value)?),
            ElasticsearchLabel::Repository => {
                let name = values::text(value, "the name of a repository")?;
                if name.starts_with("cofferdam-") {
                    return Err(BadValue::new(
                        format!("is `{name}`, a name reserved for Cofferdam"),
                        "name a repository of your own; Cofferdam deletes what is in its repositories",
                    ));
                }
                labels.repository = Some(name);
            }
            ElasticsearchLabel::DataDirectory => labels.data_directory = Some(values::path(value)?),
        }
        Ok(())
    }
}

/// The server would read patterns, exclusions and paths out of a name.
fn ensure_index(name: &str) -> Result<(), BadValue> {
    let is_plain = !name.starts_with(['-', '_', '+', '.'])
        && !name.contains(|c: char| {
            c.is_whitespace() || c.is_uppercase() || "*?\"<>|\\/,#:".contains(c)
        });
    if is_plain {
        return Ok(());
    }
    Err(BadValue::new(
        format!("contains `{name}`, which is not an index name"),
        "write whole names of indices or data streams, or `*` for all",
    ))
}
