//! What a server answers to PROPFIND: the properties of a resource, and of those right below it (RFC 4918, section 9.1).

use std::time::SystemTime;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::directories::{Entry, Kind};

pub(super) const QUESTION: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?>"#,
    r#"<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"#
);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// What was asked for.
    pub itself: Kind,
    pub children: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Multistatus {
    #[serde(rename = "response", default)]
    responses: Vec<Response>,
}

#[derive(Debug, Deserialize)]
struct Response {
    href: String,
    #[serde(rename = "propstat", default)]
    propstats: Vec<Propstat>,
}

/// Properties that share a status. Those that the server does not have come in one of their own, empty.
#[derive(Debug, Deserialize)]
struct Propstat {
    #[serde(default)]
    status: String,
    prop: Prop,
}

#[derive(Debug, Deserialize)]
struct Prop {
    resourcetype: Option<ResourceType>,
    getcontentlength: Option<String>,
    getlastmodified: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ResourceType {
    collection: Option<IgnoredAny>,
}

impl Listing {
    /// An error says what is wrong with the answer.
    pub(super) fn parse(xml: &[u8]) -> Result<Self, String> {
        let answer: Multistatus =
            quick_xml::de::from_reader(xml).map_err(|error| error.to_string())?;
        let mut found: Vec<(Vec<String>, Response)> = answer
            .responses
            .into_iter()
            .map(|response| (segments(&response.href), response))
            .collect();
        // A server behind a proxy may know itself under another path than we do: what was asked for is what all others
        // lie in.
        found.sort_by_key(|(segments, _)| segments.len());
        let mut found = found.into_iter();
        let Some((top, response)) = found.next() else {
            return Err("it names nothing".to_owned());
        };
        let itself = entry(String::new(), &response)?.kind;
        let mut children = Vec::new();
        for (mut segments, response) in found {
            let name = segments.pop().unwrap_or_default();
            if segments != top {
                return Err(format!(
                    "`{}` is outside what was asked for",
                    response.href.escape_debug()
                ));
            }
            children.push(entry(name, &response)?);
        }
        if !children.is_empty() && itself != Kind::Directory {
            return Err("it lists things in something that is not a collection".to_owned());
        }
        Ok(Self { itself, children })
    }
}

/// Of the path of a URL, or of a path.
fn segments(href: &str) -> Vec<String> {
    let href = href.trim();
    let path = match href.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => href,
    };
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8();
            // Nothing of ours has a name that is not UTF-8; the listing as a whole is good.
            decoded.map_or_else(|_| segment.to_owned(), Into::into)
        })
        .collect()
}

fn entry(name: String, response: &Response) -> Result<Entry, String> {
    let props: Vec<&Prop> = response
        .propstats
        .iter()
        .filter(|propstat| propstat.status.contains(" 200"))
        .map(|propstat| &propstat.prop)
        .collect();
    let text = |of: fn(&Prop) -> &Option<String>| {
        let values = props.iter().filter_map(|prop| of(prop).as_deref());
        values.map(str::trim).find(|value| !value.is_empty())
    };
    let is_collection = props
        .iter()
        .filter_map(|prop| prop.resourcetype.as_ref())
        .any(|kind| kind.collection.is_some());
    let kind = if is_collection {
        Kind::Directory
    } else {
        let length = text(|prop| &prop.getcontentlength);
        let bytes = length.and_then(|length| length.parse().ok());
        Kind::File {
            bytes: bytes
                .ok_or_else(|| format!("`{}` has no length", response.href.escape_debug()))?,
        }
    };
    let modified = text(|prop| &prop.getlastmodified)
        .and_then(|time| jiff::fmt::rfc2822::parse(time).ok())
        .map(|time| time.timestamp().into());
    Ok(Entry {
        name,
        kind,
        // Unknown is young: nothing is taken for left over on doubt.
        modified: modified.unwrap_or_else(SystemTime::now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const APACHE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/">
<D:href>/b/candig/</D:href>
<D:propstat><D:prop><lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getlastmodified>Thu, 26 Nov 2026 00:00:00 GMT</lp1:getlastmodified></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat>
<D:propstat><D:prop><getcontentlength/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>
</D:response>
<D:response xmlns:lp1="DAV:">
<D:href>/b/candig/a%2520b.zst</D:href>
<D:propstat><D:prop><lp1:resourcetype/><lp1:getcontentlength>4</lp1:getcontentlength>
<lp1:getlastmodified>Thu, 26 Nov 2026 00:00:00 GMT</lp1:getlastmodified></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat>
</D:response>
</D:multistatus>"#;

    const NEXTCLOUD: &str = r#"<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:response>
<d:href>https://cloud/remote.php/dav/files/me/x/1/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop>
<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response><d:response>
<d:href>https://cloud/remote.php/dav/files/me/x/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop>
<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"#;

    #[test]
    fn answers_of_servers_are_read() {
        let listing = Listing::parse(APACHE.as_bytes()).unwrap();
        assert_eq!(listing.itself, Kind::Directory);
        let time: jiff::Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        let expected = Entry {
            name: "a%20b.zst".to_owned(),
            kind: Kind::File { bytes: 4 },
            modified: time.into(),
        };
        assert_eq!(listing.children, [expected]);
        let listing = Listing::parse(NEXTCLOUD.as_bytes()).unwrap();
        assert_eq!(listing.itself, Kind::Directory);
        assert_eq!(listing.children.len(), 1);
        assert_eq!(listing.children[0].name, "1");
        assert_eq!(listing.children[0].kind, Kind::Directory);
    }

    #[test]
    fn answers_without_sense_are_refused() {
        let told = |xml: &str| Listing::parse(xml.as_bytes()).unwrap_err();
        let swapped = APACHE.replace("/b/candig/a", "/c/a");
        insta::assert_snapshot!(told(&swapped), @"`/c/a%2520b.zst` is outside what was asked for");
        let endless = APACHE.replace("<lp1:getcontentlength>4</lp1:getcontentlength>", "");
        insta::assert_snapshot!(told(&endless), @"`/b/candig/a%2520b.zst` has no length");
        let flat = APACHE.replace("<D:collection/>", "");
        insta::assert_snapshot!(told(&flat), @"`/b/candig/` has no length");
        insta::assert_snapshot!(told(r#"<multistatus xmlns="DAV:"/>"#), @"it names nothing");
        assert!(Listing::parse(&APACHE.as_bytes()[..600]).is_err());
        assert!(Listing::parse(b"<html><body>Log in</body></html>").is_err());
    }
}
