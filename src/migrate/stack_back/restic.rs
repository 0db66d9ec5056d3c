//! Repositories as restic names them.

use crate::migrate::place::Place;

/// Where a repository lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repository<'a> {
    Directory(&'a str),
    S3 {
        /// `None`: Amazon's own.
        endpoint: Option<String>,
        region: Option<&'a str>,
        bucket: &'a str,
        path: &'a str,
    },
    Sftp {
        /// With the user and the port, where they are named.
        authority: &'a str,
        /// Begins with `~/` where it is in the user's home.
        path: String,
    },
    Azure {
        container: &'a str,
        path: &'a str,
    },
    Google {
        bucket: &'a str,
        path: &'a str,
    },
    /// What stands before the first colon.
    Other(&'a str),
}

impl<'a> Repository<'a> {
    pub fn of(text: &'a str) -> Self {
        let Some((kind, rest)) = text.split_once(':') else {
            return Self::Directory(text);
        };
        match kind {
            _ if text.starts_with('/') => Self::Directory(text),
            "local" => Self::Directory(rest),
            "s3" => s3(rest),
            "sftp" => sftp(rest),
            "azure" => {
                let (container, path) = rest.split_once(':').unwrap_or((rest, ""));
                Self::Azure { container, path }
            }
            "gs" => {
                let (bucket, path) = rest.split_once(':').unwrap_or((rest, ""));
                Self::Google { bucket, path }
            }
            other => Self::Other(other),
        }
    }

    /// The place on a server; `None` for a directory, and for what Cofferdam has no store for.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Directory(_) | Self::Other(_) => None,
            Self::S3 {
                endpoint,
                region,
                bucket,
                path,
            } => {
                let mut place = Place::new("s3", *bucket, path);
                if let Some(endpoint) = endpoint {
                    place.option("endpoint", endpoint);
                }
                if let Some(region) = region {
                    place.option("region", *region);
                }
                Some(place)
            }
            Self::Sftp { authority, path } => Some(Place::new("sftp", *authority, path)),
            Self::Azure { container, path } => Some(Place::new("az", *container, path)),
            Self::Google { bucket, path } => Some(Place::new("gs", *bucket, path)),
        }
    }
}

/// `s3.eu-central-1.amazonaws.com/bucket/path`, `https://s3.example.org:9000/bucket`
fn s3(rest: &str) -> Repository<'_> {
    let (protocol, rest) = match rest.split_once("://") {
        Some((protocol, rest)) => (protocol, rest),
        None => ("https", rest.trim_start_matches('/')),
    };
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let amazon = host
        .strip_suffix("amazonaws.com")
        .and_then(|host| host.strip_prefix("s3."));
    Repository::S3 {
        endpoint: amazon.is_none().then(|| format!("{protocol}://{host}")),
        region: amazon
            .map(|region| region.trim_end_matches('.'))
            .filter(|it| !it.is_empty()),
        bucket,
        path,
    }
}

/// `user@host:path`, and `//user@host:port/path`, in which a path from the root begins with two slashes.
fn sftp(rest: &str) -> Repository<'_> {
    let home = |path: &str| match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("~/{path}"),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    Repository::Sftp {
        authority,
        path: home(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_become_urls() {
        for (text, expected) in [
            (
                "s3:s3.amazonaws.com/bucket/some/path",
                Some("s3://bucket/some/path/cofferdam"),
            ),
            (
                "s3:s3.us-east-1.amazonaws.com/bucket_name",
                Some("s3://bucket_name/cofferdam?region=us-east-1"),
            ),
            (
                "s3:http://minio:9000/bucket",
                Some("s3://bucket/cofferdam?endpoint=http://minio:9000"),
            ),
            (
                "sftp:me@nas:/srv/restic",
                Some("sftp://me@nas/srv/restic/cofferdam"),
            ),
            ("sftp:nas:restic", Some("sftp://nas/~/restic/cofferdam")),
            (
                "sftp://me@nas:23//srv/restic",
                Some("sftp://me@nas:23/srv/restic/cofferdam"),
            ),
            (
                "sftp://me@nas:23/restic",
                Some("sftp://me@nas:23/~/restic/cofferdam"),
            ),
            ("azure:box:/path", Some("az://box/path/cofferdam")),
            ("gs:bucket:/", Some("gs://bucket/cofferdam")),
            ("/restic_data", None),
            ("local:/restic_data", None),
            ("rest:https://me:hunter2@host:8000/", None),
            ("rclone:remote:path", None),
        ] {
            let url = Repository::of(text)
                .place()
                .map(|place| place.url().unwrap());
            assert_eq!(url.as_deref(), expected, "{text}");
        }
        assert_eq!(
            Repository::of("/srv/a:b"),
            Repository::Directory("/srv/a:b")
        );
        assert_eq!(Repository::of("b2:bucket:path"), Repository::Other("b2"));
    }
}
