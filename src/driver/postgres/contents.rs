//! What `pg_restore --list` says a dump holds.
//!
//! A line reads `215; 1259 16390 TABLE public patients admin`: the entry's number in the dump, the catalog and the object
//! in it (their OIDs), what it is, and names that may hold anything but line ends. Comments begin with `;`.

use std::collections::BTreeSet;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::pipe::ByteStream;

/// `pg_class`, where tables are.
const PG_CLASS: &str = "1259";
/// Far longer than names can make a line; a bound for what is no list at all.
const MOST_LINE: u64 = 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub entries: u64,
    /// OIDs of the tables that the dump creates.
    pub tables: BTreeSet<u32>,
}

impl Contents {
    pub async fn read(list: ByteStream) -> io::Result<Self> {
        let mut contents = Self::default();
        let mut lines = BufReader::new(list);
        let mut line = Vec::new();
        // Comments are there for a database without anything, too.
        let mut is_empty = true;
        loop {
            line.clear();
            let length = (&mut lines)
                .take(MOST_LINE)
                .read_until(b'\n', &mut line)
                .await?;
            if length == 0 && is_empty {
                return Err(io::Error::other(
                    "pg_restore succeeded, but its list did not arrive",
                ));
            }
            if length == 0 {
                return Ok(contents);
            }
            is_empty = false;
            contents.add(&String::from_utf8_lossy(&line));
        }
    }

    fn add(&mut self, line: &str) {
        let Some((number, rest)) = line.split_once("; ") else {
            return;
        };
        if number.parse::<u64>().is_err() {
            return;
        }
        self.entries += 1;
        let mut fields = rest.split(' ');
        if let (Some(PG_CLASS), Some(object), Some("TABLE")) =
            (fields.next(), fields.next(), fields.next())
            && let Ok(object) = object.parse()
        {
            self.tables.insert(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn entries_are_counted_and_tables_told_apart() {
        let list = b";\n; Archive created at 2026-11-21 04:57:51 UTC\n;     dbname: x\n;\n\
            215; 1259 16390 TABLE public DATABASE x postgres\n\
            3355; 0 0 COMMENT public TABLE \"DATABASE x\" postgres\n\
            214; 1259 16387 TABLE DATA t postgres\n\
            216; 1259 16391 SEQUENCE public TABLE postgres\n\
            217; 1259 16392 VIEW public v postgres\n\
            3345; 0 16390 TABLE DATA public DATABASE x postgres\n\
            no entry\n";
        let contents = Contents::read(Box::pin(&list[..])).await.unwrap();
        assert_eq!(contents.entries, 6);
        assert_eq!(contents.tables, BTreeSet::from([16387, 16390]));
    }

    #[tokio::test]
    async fn a_list_that_got_lost_is_not_one_of_nothing() {
        let nothing = Contents::read(Box::pin(&b";\n; Archive\n"[..])).await;
        assert_eq!(nothing.unwrap(), Contents::default());
        Contents::read(Box::pin(&b""[..])).await.unwrap_err();
    }
}
