//! Keys as URLs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::repository::url::{Scheme, StoreUrl};

/// All but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The place that the user named.
pub(super) struct Address {
    /// Without a slash at its end.
    origin: String,
    /// The segments of its path, decoded.
    base: Vec<String>,
}

impl Address {
    pub(super) fn new(url: &StoreUrl) -> Self {
        let scheme = match url.scheme {
            Scheme::WebDav { tls: false } => "http",
            _ => "https",
        };
        Self {
            origin: format!("{scheme}://{}", url.authority),
            base: segments(&url.prefix).map(str::to_owned).collect(),
        }
    }

    /// That of an object, or of a collection where `key` is empty or ends in `/`.
    pub(super) fn of(&self, key: &str) -> String {
        format!("{}{}", self.origin, self.path_of(key))
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        let all: Vec<&str> = self.segments_of(key).collect();
        let end = match key {
            "" => "/",
            key if key.ends_with('/') => "/",
            _ => "",
        };
        format!("{}{end}", path(&all))
    }

    /// Those of all collections from the server's root down to that of `prefix`.
    pub(super) fn collections_down_to(&self, prefix: &str) -> Vec<String> {
        let all: Vec<&str> = self.segments_of(prefix).collect();
        (1..=all.len())
            .map(|depth| format!("{}{}/", self.origin, path(&all[..depth])))
            .collect()
    }

    fn segments_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.base.iter().map(String::as_str).chain(segments(key))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn path(segments: &[&str]) -> String {
    segments
        .iter()
        .map(|segment| format!("/{}", utf8_percent_encode(segment, ENCODED)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::repository::url::RepositoryUrl;

    fn address(url: &str) -> Address {
        match RepositoryUrl::parse(url, Path::new("/")).unwrap() {
            RepositoryUrl::Store(url) => Address::new(&url),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn keys_become_urls() {
        let place = address("webdav+https://host:8443/remote.php/dav/a%20b");
        for (key, expected) in [
            ("", "https://host:8443/remote.php/dav/a%20b/"),
            ("x/", "https://host:8443/remote.php/dav/a%20b/x/"),
            ("x/1.zst", "https://host:8443/remote.php/dav/a%20b/x/1.zst"),
            (
                "a%2Fb/ä?#",
                "https://host:8443/remote.php/dav/a%20b/a%252Fb/%C3%A4%3F%23",
            ),
        ] {
            assert_eq!(place.of(key), expected, "{key}");
        }
        assert_eq!(place.path_of("x"), "/remote.php/dav/a%20b/x");
        assert_eq!(address("webdav+http://host").of(""), "http://host/");
        assert_eq!(address("webdav+http://host").of("x"), "http://host/x");
    }

    #[test]
    fn collections_are_named_from_the_top() {
        assert_eq!(
            address("webdav+http://host/dav").collections_down_to("x/1/"),
            [
                "http://host/dav/",
                "http://host/dav/x/",
                "http://host/dav/x/1/"
            ]
        );
        assert!(
            address("webdav+http://host")
                .collections_down_to("")
                .is_empty()
        );
    }
}
