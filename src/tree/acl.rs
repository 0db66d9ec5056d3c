//! POSIX ACLs: the kernel's binary form and the text form that archives carry beside it.
//!
//! The binary form (`linux/posix_acl_xattr.h`): a version of 4 bytes, then 8 bytes an entry: tag, permissions, id, all
//! little-endian. The text form (`acl(5)`), always with numeric ids, is what GNU tar and bsdtar call `SCHILY.acl.access`
//! and `SCHILY.acl.default`.

use std::fmt::Write;

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// `None` when this is not a version 2 ACL.
pub fn to_text(binary: &[u8]) -> Option<String> {
    let (version, entries) = binary.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, name, named) = TAGS.iter().find(|(known, ..)| *known == tag)?;
        let letter = |bit: u16, letter: char| if permissions & bit != 0 { letter } else { '-' };
        let separator = if text.is_empty() { "" } else { "\n" };
        let id = if *named {
            id.to_string()
        } else {
            String::new()
        };
        let _ = write!(
            text,
            "{separator}{name}:{id}:{}{}{}",
            letter(4, 'r'),
            letter(2, 'w'),
            letter(1, 'x')
        );
    }
    Some(text)
}

/// `None` when the text is malformed, or names users by names: no user database is at hand.
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut binary = VERSION.to_le_bytes().to_vec();
    for line in text.split(['\n', ',']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut fields = line.split(':');
        let (name, who, permissions) = (fields.next()?, fields.next()?, fields.next()?);
        // A fourth field repeats the id in numbers, beside the name.
        let who = fields.next().unwrap_or(who);
        let (tag, ..) = TAGS
            .iter()
            .find(|(_, known, named)| *known == name && *named != who.is_empty())?;
        let id = if who.is_empty() {
            NO_ID
        } else {
            who.parse().ok()?
        };
        let mut bits = 0u16;
        for letter in permissions.chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        binary.extend_from_slice(&tag.to_le_bytes());
        binary.extend_from_slice(&bits.to_le_bytes());
        binary.extend_from_slice(&id.to_le_bytes());
    }
    Some(binary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gnu_tar_s_text_is_read() {
        let text =
            "user::rw-\nuser:12345:rw-\ngroup::r--\ngroup:54321:r--\nmask::rw-\nother::r--\n";
        let binary = from_text(text).unwrap();
        assert_eq!(to_text(&binary).unwrap(), text.trim_end());
        assert_eq!(binary.len(), 4 + 6 * 8);
    }

    #[test]
    fn star_s_fourth_field_is_the_id() {
        assert_eq!(from_text("user:joe:r--:7"), from_text("user:7:r--"));
    }

    #[test]
    fn what_is_not_an_acl_is_refused() {
        for text in ["user:joe:r--", "user::rwz", "nobody::r--", "user"] {
            assert_eq!(from_text(text), None, "{text}");
        }
        for binary in [&b""[..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 9]] {
            assert_eq!(to_text(binary), None, "{binary:?}");
        }
    }

    proptest! {
        #[test]
        fn an_acl_survives_its_text(entries in proptest::collection::vec((0usize..6, 0u16..8, 0u32..u32::MAX), 0..9)) {
            let mut binary = VERSION.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                let (tag, _, named) = TAGS[tag];
                binary.extend_from_slice(&tag.to_le_bytes());
                binary.extend_from_slice(&permissions.to_le_bytes());
                binary.extend_from_slice(&if named { id } else { NO_ID }.to_le_bytes());
            }
            let text = to_text(&binary).unwrap();
            prop_assert_eq!(from_text(&text), Some(binary));
        }
    }
}
