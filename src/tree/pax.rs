//! Extended header records of the pax format: `<length> <key>=<value>\n`.

use super::entry::Time;
use super::error::TreeError;

pub const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
pub const ACCESS_ACL_TEXT: &str = "SCHILY.acl.access";
pub const DEFAULT_ACL_TEXT: &str = "SCHILY.acl.default";

/// Records under construction.
#[derive(Default)]
pub struct Records(Vec<u8>);

impl Records {
    pub fn push(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key and its value.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits records; every malformed one is an error.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, TreeError> {
    let malformed = || TreeError::Damaged("an extended header is malformed".to_owned());
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .take(20)
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let length: usize = decimal(&bytes[..space]).ok_or_else(malformed)?;
        if length <= space + 1 || length > bytes.len() {
            return Err(malformed());
        }
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..]
            .strip_suffix(b"\n")
            .ok_or_else(malformed)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = rest;
    }
    Ok(records)
}

/// Digits only: no sign, no space.
pub fn decimal<N: std::str::FromStr>(bytes: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The key of an extended attribute. GNU tar writes `=` and `%` of its name as `%3D` and `%25`.
pub fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = ATTRIBUTE.to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            other => key.push(*other),
        }
    }
    key
}

/// Undoes [`attribute_key`]; `key` comes without [`ATTRIBUTE`].
pub fn attribute_name(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((first, after)) = rest.split_first() {
        let (byte, length) = if rest.starts_with(b"%3D") {
            (b'=', 3)
        } else if rest.starts_with(b"%25") {
            (b'%', 3)
        } else {
            (*first, 1)
        };
        name.push(byte);
        rest = if length == 1 { after } else { &rest[length..] };
    }
    name
}

/// `1700000000.000000001`; before the epoch `-1.5`, which is half a second earlier than -1.
pub fn time_to_text(time: Time) -> String {
    let (sign, seconds, nanoseconds) = if time.seconds >= 0 {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    } else if time.nanoseconds == 0 {
        ("-", time.seconds.unsigned_abs(), 0)
    } else {
        (
            "-",
            time.seconds.unsigned_abs() - 1,
            1_000_000_000 - time.nanoseconds,
        )
    };
    if nanoseconds == 0 {
        format!("{sign}{seconds}")
    } else {
        let text = format!("{sign}{seconds}.{nanoseconds:09}");
        text.trim_end_matches('0').to_owned()
    }
}

pub fn time_from_text(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = decimal(parts.next()?)?;
    let nanoseconds = match parts.next() {
        None | Some(b"") => 0,
        Some(digits) => {
            let mut nine = [b'0'; 9];
            let kept = digits.len().min(9);
            nine[..kept].copy_from_slice(&digits[..kept]);
            digits.iter().all(u8::is_ascii_digit).then_some(())?;
            decimal::<u32>(&nine)?
        }
    };
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_count_themselves() {
        let mut records = Records::default();
        records.push("path", "a");
        assert_eq!(records.as_bytes(), b"9 path=a\n");
        let mut records = Records::default();
        records.push("path", "ab");
        assert_eq!(records.as_bytes(), b"11 path=ab\n");
        for length in [1, 2, 88, 89, 90, 91, 987, 990, 9990] {
            let mut records = Records::default();
            let value = vec![b'x'; length];
            records.push("k", &value);
            assert_eq!(
                parse(records.as_bytes()).unwrap(),
                [(&b"k"[..], &value[..])]
            );
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bytes in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"6 a=bc",
            b"6 abc\n",
            b"x a=b\n",
            b"+6 a=b\n",
            b"0 \n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(
                parse(bytes).is_err(),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(parse(b"6 a=b\n").unwrap(), [(&b"a"[..], &b"b"[..])]);
    }

    proptest! {
        #[test]
        fn attribute_names_survive(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let key = attribute_key(&name);
            prop_assert!(!key.contains(&b'='));
            prop_assert_eq!(attribute_name(key.strip_prefix(ATTRIBUTE).unwrap()), name);
        }

        #[test]
        fn times_survive(seconds in -10_000_000_000i64..100_000_000_000, nanoseconds in 0u32..1_000_000_000) {
            let time = Time { seconds, nanoseconds };
            prop_assert_eq!(time_from_text(time_to_text(time).as_bytes()), Some(time));
        }
    }
}
