//! Keeps secrets out of what a program printed.

use super::Secret;
use super::environment::passwords_in;

const MASK: &[u8] = b"[redacted]";

#[derive(Clone, Debug)]
pub struct Redactor(Vec<Secret>);

impl Redactor {
    /// The passwords of URLs are secrets by themselves too: programs repeat them without the rest.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<Secret> = secrets
            .into_iter()
            .filter(|secret| !secret.expose().is_empty())
            .flat_map(|secret| std::iter::once(secret.clone()).chain(passwords_in(secret)))
            .collect();
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self(secrets)
    }

    /// The beginning of an output; with `cut`, its last bytes may be the first ones of a secret.
    pub fn head(&self, bytes: &[u8], cut: bool) -> Vec<u8> {
        let mut clean = self.masked(bytes);
        if cut {
            let partial = self.longest_partial(|secret, length| clean.ends_with(&secret[..length]));
            clean.truncate(clean.len() - partial);
        }
        clean
    }

    /// The end of an output; with `cut`, its first bytes may be the last ones of a secret.
    pub fn tail(&self, bytes: &[u8], cut: bool) -> Vec<u8> {
        let mut clean = self.masked(bytes);
        if cut {
            let partial = self.longest_partial(|secret, length| {
                clean.starts_with(&secret[secret.len() - length..])
            });
            clean.drain(..partial);
        }
        clean
    }

    /// All of a text. Where `cut` stands in it, what follows may begin with the last ones of a secret.
    pub fn text(&self, text: &str, cut: &str) -> String {
        let clean = self.masked(text.as_bytes());
        let clean = String::from_utf8_lossy(&clean);
        let mut pieces = clean.split(cut);
        let mut whole = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let piece = self.tail(piece.as_bytes(), true);
            whole.push_str(cut);
            whole.push_str(&String::from_utf8_lossy(&piece));
        }
        whole
    }

    /// The last `limit` bytes of an output as text, for messages.
    pub fn last_words(&self, output: &[u8], limit: usize) -> String {
        let clean = self.masked(output);
        let start = clean.len().saturating_sub(limit);
        String::from_utf8_lossy(&clean[start..]).trim().to_owned()
    }

    fn masked(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            let found = self
                .0
                .iter()
                .find_map(|secret| rest.strip_prefix(secret.expose().as_bytes()));
            if let Some(after_secret) = found {
                clean.extend_from_slice(MASK);
                rest = after_secret;
            } else {
                clean.push(*first);
                rest = after;
            }
        }
        clean
    }

    fn longest_partial(&self, found: impl Fn(&[u8], usize) -> bool) -> usize {
        self.0
            .iter()
            .map(|secret| secret.expose().as_bytes())
            .filter_map(|secret| {
                (1..secret.len())
                    .rev()
                    .find(|&length| found(secret, length))
            })
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        Redactor::new(&secrets)
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let table: [(&[&str], &str, &str); 8] = [
            (
                &["hunter2"],
                "hunter2 and hunter2",
                "[redacted] and [redacted]",
            ),
            (&["abc", "abcdef"], "xabcdefx", "x[redacted]x"),
            (&[""], "nothing", "nothing"),
            (&[], "nothing", "nothing"),
            (&["two\nlines"], "a two\nlines b", "a [redacted] b"),
            (
                &["mongodb://admin:hunter2!@db/shop"],
                "bad password hunter2! of admin at mongodb://admin:hunter2!@db/shop",
                "bad password [redacted] of admin at [redacted]",
            ),
            (
                &["amqp://a:p%40ss%3Aword@one,amqp://b:hunter2@two"],
                "p%40ss%3Aword p@ss:word hunter2",
                "[redacted] [redacted] [redacted]",
            ),
            (
                &["redis://:root@db"],
                "root has no rights",
                "root has no rights",
            ),
        ];
        for (secrets, text, expected) in table {
            let clean = redactor(secrets).head(text.as_bytes(), false);
            assert_eq!(String::from_utf8(clean).unwrap(), expected);
        }
    }

    #[test]
    fn a_secret_that_is_cut_in_two_leaves_neither_half() {
        let redactor = redactor(&["hunter2"]);
        assert_eq!(redactor.head(b"password hunt", true), b"password ");
        assert_eq!(redactor.tail(b"ter2 refused", true), b" refused");
        assert_eq!(redactor.head(b"password hunt", false), b"password hunt");
    }

    #[test]
    fn a_text_is_clean_on_both_sides_of_a_cut() {
        let redactor = redactor(&["hunter2", "S3CR3T"]);
        for (text, expected) in [
            ("it said: hunter2", "it said: [redacted]"),
            ("it said: … ter2 S3CR3T", "it said: …  [redacted]"),
            ("2 rows", "2 rows"),
            ("… no part of any", "… no part of any"),
        ] {
            assert_eq!(redactor.text(text, "… "), expected);
        }
    }

    #[test]
    fn the_last_words_are_cut_only_when_they_are_clean() {
        let redactor = redactor(&["hunter2"]);
        let words = redactor.last_words(b"the password hunter2", 5);
        assert_eq!(words, "cted]");
        assert_eq!(redactor.last_words(b" hunter2\n", 100), "[redacted]");
    }

    proptest! {
        #[test]
        fn no_cut_shows_half_a_secret(before in "[a-z ]{0,20}", after in "[a-z ]{0,20}", cut in 0_usize..60) {
            let secret = "S3CR3T#TEXT";
            let text = format!("{before}{secret}{after}");
            let cut = cut.min(text.len());
            let redactor = redactor(&[secret]);
            let parts = [redactor.head(&text.as_bytes()[..cut], true), redactor.tail(&text.as_bytes()[cut..], true)];
            for part in parts {
                let part = String::from_utf8(part).unwrap().replace("[redacted]", "");
                prop_assert!(!part.contains(|c: char| secret.contains(c)), "{}", part);
            }
        }
    }
}
