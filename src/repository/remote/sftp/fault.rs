//! What an SFTP server refused, in words, and what mends it.

use std::io;

use russh_sftp::client::error::Error;
use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::protocol::StatusCode;

use super::super::fault::Fault;

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        match error {
            Error::Status(status) => match status.status_code {
                StatusCode::PermissionDenied => Self {
                    refused: true,
                    ..Self::hinting(
                        "permission denied",
                        "allow that user to read, write and delete there",
                    )
                },
                StatusCode::NoSuchFile => Self::hinting(
                    "no such file or directory",
                    "check the URL's path: it begins at the server's root, or with `/~/` in the user's home",
                ),
                // Version 3 of the protocol has no better word.
                StatusCode::Failure => Self::hinting(
                    "the server answered `Failure`",
                    "the disk may be full, or a quota reached; see the server's log",
                ),
                code => Self::new(format!("the server answered `{code}`")),
            },
            Error::Timeout => Self::new("the server no longer answers"),
            other => Self::new(format!("the connection broke: {other}")),
        }
    }
}

/// That of a file that is being read or written. What a server answered to a single read or write has lost its code on
/// the way.
impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>())
        {
            Some(inner) => Self::from(inner),
            None => Self::new(format!("the server answered `{error}`")),
        }
    }
}

/// Whether a new connection may help.
pub(super) fn is_about_the_line(error: &Error) -> bool {
    match error {
        Error::Status(status) => matches!(
            status.status_code,
            StatusCode::NoConnection | StatusCode::ConnectionLost
        ),
        Error::Limited(_) => false,
        Error::IO(_) | Error::Timeout | Error::UnexpectedPacket | Error::UnexpectedBehavior(_) => {
            true
        }
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Status(status) if status.status_code == StatusCode::NoSuchFile)
}

pub(super) fn none_if_missing<T>(outcome: SftpResult<T>) -> SftpResult<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
