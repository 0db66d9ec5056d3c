//! What stands behind the `?` of a store's URL.

use std::path::PathBuf;

use super::{BadUrl, Scheme, decoded};
use crate::text::nearest_word;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// A server that is not the provider's own, as `https://s3.example.org:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `false`: the bucket is part of the host's name (`bucket.s3.example.org`).
    pub path_style: Option<bool>,
    /// Of Azure.
    pub account: Option<String>,
    /// Certificates in PEM that are trusted besides those of the public authorities.
    pub ca_file: Option<PathBuf>,
    /// `NAME=value` lines that go before the variables of the same names.
    pub credentials_file: Option<PathBuf>,
    pub server_side_encryption: Option<ServerSideEncryption>,
    pub storage_class: Option<String>,
    /// In bytes: how much is sent, and kept in memory, at a time.
    pub part_size: Option<usize>,
    /// A private key of OpenSSH.
    pub key_file: Option<PathBuf>,
    /// Keys of servers, as OpenSSH's `known_hosts` has them.
    pub known_hosts: Option<PathBuf>,
}

/// What the server encrypts with keys of its own; cofferdam's encryption is another thing, and goes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// `sse=AES256`: the keys are the store's.
    Aes256,
    /// `sse=aws:kms`, with `kms-key=…` or the bucket's own key.
    Kms { key: Option<String> },
}

const MIB: usize = 1024 * 1024;
/// Parts but the last must have 5 MiB at least, says S3; above 1 GiB no machine has the memory.
const PART_SIZES: std::ops::RangeInclusive<usize> = 5 * MIB..=1024 * MIB;

impl Scheme {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "endpoint",
                "region",
                "path-style",
                "ca-file",
                "credentials-file",
                "sse",
                "kms-key",
                "storage-class",
                "part-size",
            ],
            Self::Azure => &[
                "account",
                "endpoint",
                "ca-file",
                "credentials-file",
                "part-size",
            ],
            Self::Google => &["endpoint", "ca-file", "credentials-file", "part-size"],
            Self::WebDav { .. } => &["ca-file", "credentials-file"],
            Self::Sftp => &["key-file", "known-hosts", "credentials-file"],
        }
    }
}

impl StoreOptions {
    pub(super) fn parse(scheme: Scheme, query: &str) -> Result<Self, BadUrl> {
        let mut options = Self::default();
        let mut kms_key = None;
        let mut sse = None;
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value_of(name, value)?;
            if seen.contains(&name) {
                return Err(BadUrl::new(
                    format!("has the option `{name}` twice"),
                    "remove one of them",
                ));
            }
            seen.push(name);
            match name {
                _ if !scheme.options().contains(&name) => return Err(unknown(scheme, name)),
                "endpoint" => options.endpoint = Some(endpoint(value)?),
                "region" => options.region = Some(value),
                "path-style" => options.path_style = Some(switch(name, &value)?),
                "account" => options.account = Some(value),
                "ca-file" => options.ca_file = Some(value.into()),
                "credentials-file" => options.credentials_file = Some(value.into()),
                "sse" => sse = Some(value),
                "kms-key" => kms_key = Some(value),
                "storage-class" => options.storage_class = Some(value),
                "part-size" => options.part_size = Some(part_size(&value)?),
                "key-file" => options.key_file = Some(value.into()),
                "known-hosts" => options.known_hosts = Some(value.into()),
                _ => return Err(unknown(scheme, name)),
            }
        }
        options.server_side_encryption = server_side_encryption(sse.as_deref(), kms_key)?;
        Ok(options)
    }
}

fn value_of(name: &str, value: &str) -> Result<String, BadUrl> {
    let bad = |what| {
        BadUrl::new(
            format!("has {} {what}", told(name)),
            "write options as `name=value`, with `&` between them",
        )
    };
    match decoded(value) {
        None => Err(bad("with a value that is not text")),
        Some(value) if value.is_empty() => Err(bad("without a value")),
        Some(value) => Ok(value),
    }
}

/// Only what looks like an option is repeated: it may be a piece of a key.
fn told(name: &str) -> String {
    let looks_like_one = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    match !name.is_empty() && name.bytes().all(looks_like_one) {
        true => format!("the option `{name}`"),
        false => "an option".to_owned(),
    }
}

fn unknown(scheme: Scheme, name: &str) -> BadUrl {
    let known = scheme.options();
    let hint = match nearest_word(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    BadUrl::new(
        format!(
            "has {}, which {}:// does not know",
            told(name),
            scheme.name()
        ),
        hint,
    )
}

fn endpoint(value: String) -> Result<String, BadUrl> {
    let host = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['@', '?', '#']) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err(BadUrl::new(
            "has an endpoint that is not the URL of a server",
            "write it as `endpoint=https://s3.example.org`",
        )),
    }
}

fn switch(name: &str, value: &str) -> Result<bool, BadUrl> {
    value.parse().map_err(|_| {
        BadUrl::new(
            format!("has the option `{name}` set to neither `true` nor `false`"),
            "write one of them",
        )
    })
}

fn part_size(value: &str) -> Result<usize, BadUrl> {
    let count = value
        .strip_suffix("MiB")
        .and_then(|count| count.trim().parse::<usize>().ok());
    match count.and_then(|count| count.checked_mul(MIB)) {
        Some(bytes) if PART_SIZES.contains(&bytes) => Ok(bytes),
        _ => Err(BadUrl::new(
            "has a part size that cannot be used",
            "write `part-size=5MiB` to `part-size=1024MiB`",
        )),
    }
}

fn server_side_encryption(
    sse: Option<&str>,
    key: Option<String>,
) -> Result<Option<ServerSideEncryption>, BadUrl> {
    match (sse, key) {
        (None, None) => Ok(None),
        (Some("AES256"), None) => Ok(Some(ServerSideEncryption::Aes256)),
        (Some("aws:kms"), key) => Ok(Some(ServerSideEncryption::Kms { key })),
        _ => Err(BadUrl::new(
            "asks for a server-side encryption that is unknown",
            "write `sse=AES256`, or `sse=aws:kms` with `kms-key=…` where it is not the bucket's own",
        )),
    }
}
