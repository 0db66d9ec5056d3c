//! What an object store refused, in words: its own code and message, and what mends it.

use crate::repository::RepositoryError;
use crate::repository::url::Scheme;
use crate::text::full_text;

pub(super) fn explain(
    scheme: Scheme,
    action: &'static str,
    place: String,
    error: &object_store::Error,
) -> RepositoryError {
    let text = full_text(error);
    let code = element(&text, "Code");
    let why = match (code, element(&text, "Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        (None, _) => without_noise(&text),
    };
    RepositoryError::Remote {
        action,
        place,
        hint: hint(scheme, code, &text).map(str::to_owned),
        refused: matches!(error, object_store::Error::PermissionDenied { .. }),
        why,
    }
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim())
}

/// Servers answer with pages; one line is enough. `Generic S3 error:` says nothing.
fn without_noise(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or("it gave no reason");
    let said = line
        .strip_prefix("Generic ")
        .and_then(|rest| rest.split_once(" error: "));
    said.map_or(line, |(_, said)| said).to_owned()
}

fn hint(scheme: Scheme, code: Option<&str>, text: &str) -> Option<&'static str> {
    let credentials = match scheme {
        Scheme::S3 => "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Scheme::Azure => "check the account and AZURE_STORAGE_ACCOUNT_KEY",
        _ => "check the credentials",
    };
    Some(match code.unwrap_or_default() {
        "NoSuchBucket" | "ContainerNotFound" => {
            "create it first, or check its name and the endpoint"
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed" => credentials,
        // Garage's word for it.
        "AccessDenied" if text.contains("signature") => credentials,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => {
            "set the bucket's region with `region=` in the URL"
        }
        "AccessDenied" | "AuthorizationPermissionMismatch" => {
            "docs/stores.md lists the permissions that are needed"
        }
        "RequestTimeTooSkewed" => "correct this machine's clock",
        "SlowDown" | "ServerBusy" => "the store is busy; try again later",
        "QuotaExceeded" | "InsufficientStorage" => "make room there, or name another place",
        _ if text.contains("certificate") || text.contains("UnknownIssuer") => {
            "name the CA certificate with `ca-file=` in the URL"
        }
        _ if text.contains("onnection refused") || text.contains("dns error") => {
            "check the endpoint, and that this container can reach it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let error = object_store::Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        explain(Scheme::S3, "store", "a/b in s3://bucket".to_owned(), &error).to_string()
    }

    #[test]
    fn the_servers_own_words_come_out() {
        insta::assert_snapshot!(
            told(concat!(
                "Error performing PUT http://x in 3ms - Server returned non-2xx status code: 403 Forbidden: ",
                "<?xml version=\"1.0\"?>\n<Error><Code>InvalidAccessKeyId</Code><Message>No such key: GK1</Message></Error>"
            )),
            @"cannot store a/b in s3://bucket: InvalidAccessKeyId: No such key: GK1; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        );
        insta::assert_snapshot!(
            told("Error performing GET http://x in 3ms - HTTP error: error sending request: tcp connect error: Connection refused (os error 111)"),
            @"cannot store a/b in s3://bucket: Error performing GET http://x in 3ms - HTTP error: error sending request: tcp connect error: Connection refused (os error 111); check the endpoint, and that this container can reach it"
        );
        insta::assert_snapshot!(
            told("502 Bad Gateway: <html>\n<body>\n"),
            @"cannot store a/b in s3://bucket: 502 Bad Gateway: <html>"
        );
    }
}
