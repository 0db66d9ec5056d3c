//! Where the daemon listens, and who may ask it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{BadSetting, Given, Reader};
use crate::cli::Settings;
use crate::secret::Secret;

const ADDRESS: &str = "COFFERDAM_LISTEN";
const TOKEN: &str = "COFFERDAM_TOKEN";
const TOKEN_FILE: &str = "COFFERDAM_TOKEN_FILE";

const EXAMPLES: &str =
    "write an address and a port, as `127.0.0.1:8080`, or `:8080` for every address of this host";
const MAKE_ONE: &str = "generate one with `openssl rand -hex 32`";

/// Nobody guesses it over the network, whatever it is made of.
const SHORTEST_TOKEN: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    /// There is one wherever others than this host can come.
    pub token: Option<Secret>,
}

/// `None` when nobody is to listen: a token has no effect then.
pub(super) fn listen_of(reader: &mut Reader<'_>, settings: &Settings) -> Option<Listen> {
    let given = Given::new("--listen", &settings.listen, ADDRESS);
    let setting = given.setting();
    let address = reader.read(given, None, |text| address_of(text).map(Some))?;
    let before = reader.problems.len();
    let token = reader
        .variable_or_file(TOKEN, TOKEN_FILE)
        .and_then(|(setting, text)| reader.good(setting, token_of(&text)));
    if token.is_none() && reader.problems.len() == before && !address.ip().is_loopback() {
        reader.problem(
            setting,
            format!("is `{address}`, which other hosts can reach, but no token is set"),
            format!(
                "set {TOKEN_FILE} or {TOKEN} ({MAKE_ONE}), or listen on `127.0.0.1:{}`",
                address.port()
            ),
        );
    }
    Some(Listen { address, token })
}

fn address_of(text: &str) -> Result<SocketAddr, BadSetting> {
    let bad = || BadSetting::new(format!("is `{}`", text.escape_debug()), EXAMPLES);
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    let host = match host {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return Err(bad()),
    };
    Ok(SocketAddr::new(host, port))
}

/// It has to fit into a header as it is. An error never repeats it.
fn token_of(text: &str) -> Result<Secret, BadSetting> {
    let token = Secret::from_file_content(text);
    let length = token.expose().len();
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadSetting::new(
            "contains blanks or non-ASCII characters",
            MAKE_ONE,
        ));
    }
    if length < SHORTEST_TOKEN {
        return Err(BadSetting::new(
            format!(
                "has {length} characters, but needs at least {SHORTEST_TOKEN} to be hard to guess"
            ),
            MAKE_ONE,
        ));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_port() {
        for (text, expected) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            (":8080", Some("0.0.0.0:8080")),
            ("0.0.0.0:8080", Some("0.0.0.0:8080")),
            ("localhost:8080", Some("127.0.0.1:8080")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("[::]:8080", Some("[::]:8080")),
            ("8080", None),
            ("127.0.0.1", None),
            ("example.org:8080", None),
            ("http://127.0.0.1:8080", None),
            (":80800", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address_of(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_token_fits_a_header_and_is_not_repeated() {
        let good = "0123456789abcdef";
        assert_eq!(token_of(&format!("{good}\n")), Ok(Secret::new(good)));
        for bad in [
            "hunter2",
            "",
            "hunter2 hunter2 hunter2",
            "größer-als-hunter2",
        ] {
            let error = token_of(bad).unwrap_err();
            assert!(!error.what.contains("hunter2"), "{}", error.what);
        }
    }
}
