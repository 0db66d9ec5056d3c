//! URLs of places where snapshots can live.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::repository::url::{BadUrl, RepositoryUrl};

/// The directory of the repository within a place: one that holds other things is refused.
pub(super) const OWN: &str = "cofferdam";

/// What stands as itself in a path and in an option; a comma does not, since it separates URLs.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':');

/// A place on a server, on its way to become a URL.
pub(super) struct Place {
    scheme: &'static str,
    /// A bucket or a host.
    authority: String,
    path: String,
    options: Vec<(&'static str, String)>,
}

impl Place {
    /// `path` is where the other tool's archives are; the repository lies in a directory of its own there.
    pub fn new(scheme: &'static str, authority: impl Into<String>, path: &str) -> Self {
        Self {
            scheme,
            authority: authority.into(),
            path: format!("{path}/{OWN}"),
            options: Vec::new(),
        }
    }

    pub fn option(&mut self, name: &'static str, value: impl Into<String>) {
        self.options.push((name, value.into()));
    }

    /// A URL that Cofferdam reads.
    pub fn url(&self) -> Result<String, BadUrl> {
        let segments = self.path.split('/').filter(|segment| !segment.is_empty());
        let path: Vec<String> = segments.map(encoded).collect();
        let mut url = format!("{}://{}/{}", self.scheme, self.authority, path.join("/"));
        for (at, (name, value)) in self.options.iter().enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            url.push_str(&format!("{mark}{name}={}", encoded(value)));
        }
        RepositoryUrl::parse(&url, Path::new("/"))?;
        Ok(url)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_with_a_directory_of_its_own() {
        let mut place = Place::new("s3", "bucket", "/a b//c,d/");
        place.option("endpoint", "https://s3.example.org:9000");
        assert_eq!(
            place.url().as_deref(),
            Ok("s3://bucket/a%20b/c%2Cd/cofferdam?endpoint=https://s3.example.org:9000")
        );
        let home = Place::new("sftp", "me@host:23", "~/backups");
        assert_eq!(
            home.url().as_deref(),
            Ok("sftp://me@host:23/~/backups/cofferdam")
        );
    }

    #[test]
    fn what_cofferdam_would_not_read_is_no_place() {
        for (authority, path) in [
            ("", ""),
            ("a b", ""),
            ("user:word@bucket", ""),
            ("b", "../c"),
        ] {
            assert!(
                Place::new("s3", authority, path).url().is_err(),
                "{authority} {path}"
            );
        }
    }
}
