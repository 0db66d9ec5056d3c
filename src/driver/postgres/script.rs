//! A script of `pg_dump` or `pg_dumpall` with another search path, changed while it passes.
//!
//! ```text
//!   SET standard_conforming_strings = on;
//!   SELECT pg_catalog.set_config('search_path', '', false);      ◀ this line, wherever a database begins
//!   SET check_function_bodies = false;
//! ```
//!
//! The same line may stand in a function, a comment or a row of a table: so the script is read as psql does, as far as it takes
//! to know where a statement begins. What is held back is never more than that line.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::session::EMPTIED;
use super::sql::quote_literal;
use crate::pipe::ByteStream;

/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// How a statement begins and ends that rows follow.
const COPY: &[u8] = b"COPY ";
const FROM_STDIN: &[u8] = b" FROM stdin";
const END_OF_ROWS: &[u8] = b"\\.";

/// The script, in which every database is filled in its own search path and then in that of `more`.
pub fn with_search_path(script: ByteStream, more: &str) -> ByteStream {
    let own = "(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path')";
    let more = match more {
        "" => "NULL".to_owned(),
        more => quote_literal(more),
    };
    let command = format!(
        "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', {own}, {more}), false);"
    );
    Box::pin(Changing {
        inner: script,
        editor: Editor::new(command.into_bytes()),
        changed: Vec::new(),
        given: 0,
    })
}

/// Where in a script the next byte stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning of a line where a statement may begin.
    Between,
    Statement,
    /// After a semicolon.
    Ended,
    String,
    /// `is_open`: a backslash came last.
    EscapedString {
        is_open: bool,
    },
    Identifier,
    /// What may be the beginning of a dollar quote.
    Tag(Vec<u8>),
    /// Up to this delimiter, of which so much has come.
    Dollar(Vec<u8>, usize),
    Comment,
    BlockComment {
        depth: u32,
    },
    /// A command of psql's own, to the end of its line.
    Command,
    /// What a row has so far, as much as decides whether it is the last.
    Row(Vec<u8>),
}

/// Reads a script as psql does.
struct Reader {
    place: Place,
    last: u8,
    /// How the statement begins.
    beginning: Vec<u8>,
    /// Its last bytes outside of quotes.
    end: Vec<u8>,
    /// A string with escapes ended with the last byte: another quote goes on with it.
    was_escaped: bool,
}

impl Reader {
    fn new() -> Self {
        Self {
            place: Place::Between,
            last: b'\n',
            beginning: Vec::new(),
            end: Vec::new(),
            was_escaped: false,
        }
    }

    fn step(&mut self, byte: u8) {
        let place = std::mem::replace(&mut self.place, Place::Between);
        self.place = self.next(place, byte);
        self.last = byte;
    }

    fn next(&mut self, place: Place, byte: u8) -> Place {
        match place {
            Place::Between => {
                self.beginning.clear();
                self.end.clear();
                match byte {
                    b'\n' => Place::Between,
                    b'\\' => Place::Command,
                    _ => self.in_statement(byte),
                }
            }
            Place::Statement => self.in_statement(byte),
            Place::Ended if byte == b'\n' => {
                let is_copy = self.beginning == COPY && self.end.ends_with(FROM_STDIN);
                if is_copy {
                    Place::Row(Vec::new())
                } else {
                    Place::Between
                }
            }
            Place::Ended => Place::Ended,
            Place::String if byte == b'\'' => Place::Statement,
            Place::EscapedString { is_open: false } if byte == b'\'' => {
                self.was_escaped = true;
                Place::Statement
            }
            Place::EscapedString { is_open } => Place::EscapedString {
                is_open: !is_open && byte == b'\\',
            },
            Place::Identifier if byte == b'"' => Place::Statement,
            Place::Tag(mut tag) => {
                tag.push(byte);
                match byte {
                    b'$' => Place::Dollar(tag, 0),
                    _ if is_word(byte) => Place::Tag(tag),
                    _ => self.in_statement(byte),
                }
            }
            Place::Dollar(delimiter, came) => match (byte == delimiter[came], byte) {
                (true, _) if came + 1 == delimiter.len() => Place::Statement,
                (true, _) => Place::Dollar(delimiter, came + 1),
                (false, b'$') => Place::Dollar(delimiter, 1),
                (false, _) => Place::Dollar(delimiter, 0),
            },
            Place::Comment if byte == b'\n' => match self.beginning.as_slice() {
                b"--" => Place::Between,
                _ => Place::Statement,
            },
            Place::BlockComment { depth } => match (self.last, byte) {
                (b'*', b'/') if depth == 1 => Place::Statement,
                (b'*', b'/') => Place::BlockComment { depth: depth - 1 },
                (b'/', b'*') => Place::BlockComment { depth: depth + 1 },
                _ => Place::BlockComment { depth },
            },
            Place::Command if byte == b'\n' => Place::Between,
            Place::Row(row) if byte == b'\n' && row.trim_ascii_end() == END_OF_ROWS => {
                Place::Between
            }
            Place::Row(_) if byte == b'\n' => Place::Row(Vec::new()),
            Place::Row(mut row) => {
                // A row that is longer is not the last.
                if row.len() < END_OF_ROWS.len() + 2 {
                    row.push(byte);
                }
                Place::Row(row)
            }
            same @ (Place::String | Place::Identifier | Place::Comment | Place::Command) => same,
        }
    }

    fn in_statement(&mut self, byte: u8) -> Place {
        if self.beginning.len() < COPY.len() {
            self.beginning.push(byte);
        }
        let was_escaped = std::mem::take(&mut self.was_escaped);
        let before = self.end.len().checked_sub(2).map(|at| self.end[at]);
        let place = match (self.last, byte) {
            (_, b';') => return Place::Ended,
            (b'-', b'-') => Place::Comment,
            (b'/', b'*') => Place::BlockComment { depth: 1 },
            (_, b'\'') if was_escaped => Place::EscapedString { is_open: false },
            (b'e' | b'E', b'\'') if !before.is_some_and(is_word) => {
                Place::EscapedString { is_open: false }
            }
            (_, b'\'') => Place::String,
            (_, b'"') => Place::Identifier,
            (last, b'$') if !is_word(last) => Place::Tag(vec![b'$']),
            _ => Place::Statement,
        };
        if self.end.len() == FROM_STDIN.len() {
            self.end.remove(0);
        }
        self.end.push(byte);
        place
    }
}

/// What identifiers and the tags of dollar quotes are made of.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// Puts another command into the place of the one that empties the search path.
struct Editor {
    reader: Reader,
    command: Vec<u8>,
    /// What a line has so far that may be that command.
    held: Vec<u8>,
}

impl Editor {
    fn new(command: Vec<u8>) -> Self {
        Self {
            reader: Reader::new(),
            command,
            held: Vec::new(),
        }
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let emptied = EMPTIED.as_bytes();
        for &byte in bytes {
            if self.reader.place != Place::Between {
                self.reader.step(byte);
                out.push(byte);
                continue;
            }
            self.held.push(byte);
            if self.held == emptied {
                self.held.clear();
                out.extend_from_slice(&self.command);
                self.reader.place = Place::Ended;
            } else if !emptied.starts_with(&self.held) {
                self.let_go(out);
            }
        }
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        for byte in std::mem::take(&mut self.held) {
            self.reader.step(byte);
            out.push(byte);
        }
    }
}

struct Changing {
    inner: ByteStream,
    editor: Editor,
    changed: Vec<u8>,
    /// So much of it has been read.
    given: usize,
}

impl AsyncRead for Changing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.given == this.changed.len() {
            let mut piece = vec![0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(this.inner.as_mut().poll_read(context, &mut piece))?;
            this.changed.clear();
            this.given = 0;
            if piece.filled().is_empty() {
                this.editor.let_go(&mut this.changed);
                if this.changed.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            this.editor.pass(piece.filled(), &mut this.changed);
        }
        let length = buffer.remaining().min(this.changed.len() - this.given);
        buffer.put_slice(&this.changed[this.given..this.given + length]);
        this.given += length;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn changed(script: &str) -> String {
        let mut editor = Editor::new(b"OWN;".to_vec());
        let mut out = Vec::new();
        for piece in script.as_bytes().chunks(7) {
            editor.pass(piece, &mut out);
        }
        editor.let_go(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Where the line is a command, `HERE` stands in these scripts, and `THERE` where it is anything else.
    #[test]
    fn only_the_command_itself_is_replaced() {
        for script in [
            "HERE",
            "HERE\nHERE\n",
            "-- it's\n\\connect \"x\nHERE\nSET a = 1;\n\nHERE\n",
            "SET a = 'x\nTHERE\n';\nHERE\n",
            "SET a = 'it''s\nTHERE\n';\nHERE\n",
            "SET a = E'it\\'s''\\'\nTHERE\n';\nHERE\n",
            "SET a = type'\\';\nHERE\n",
            "COMMENT ON COLUMN \"a\"\"\nTHERE\n\" IS NULL;\nHERE\n",
            "CREATE FUNCTION f() AS $_$ $$\nTHERE\n$ $_ $_$;\nHERE\n",
            "SELECT a$b, $1 AS c;\nHERE\n",
            "SELECT 1 -- 'x\n, /* a /* ; */ '\nTHERE\n*/ 2;\nHERE\n",
            "CREATE VIEW v AS\nTHERE\nHERE\n",
            "COPY public.t (a) FROM stdin;\nit's\nTHERE\n\\\\.\nTHERE\n\\.\n\n\nHERE\n",
            "COPY \"FROM stdin;\nTHERE\n\" (\" FROM stdin\") FROM stdin;\nTHERE\n\\.\nHERE\n",
            "COPY (SELECT 1) TO stdout;\nHERE\n",
            "SELECT pg_catalog.set_config('search_path', 'x', false);\nHERE\n",
            "SELECT pg_catalog.set_config('search_path', ''",
        ] {
            let before = script
                .replace("THERE", "@")
                .replace("HERE", EMPTIED)
                .replace('@', EMPTIED);
            let after = script
                .replace("THERE", "@")
                .replace("HERE", "OWN;")
                .replace('@', EMPTIED);
            assert_eq!(changed(&before), after, "{script}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_changed_as_it_passes() {
        let rest = "it's a row of a table\n".repeat(20_000);
        let script = format!("{EMPTIED}\nCOPY t (a) FROM stdin;\n{rest}\\.\n{EMPTIED}\n");
        let mut stream =
            with_search_path(Box::pin(io::Cursor::new(script.clone())), "geo, \"it's\"");
        let mut changed = String::new();
        stream.read_to_string(&mut changed).await.unwrap();
        let command = "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', (SELECT reset_val FROM \
            pg_catalog.pg_settings WHERE name = 'search_path'), 'geo, \"it''s\"'), false);";
        assert!(changed == script.replace(EMPTIED, command));
    }
}
