//! Tables without borders, and fields with wrapped text.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement};

/// A table: headings in capitals, two spaces between columns, wrapped where there is a width.
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    pub fn new<const COLUMNS: usize>(headings: [&str; COLUMNS], width: Option<u16>) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(NOTHING);
        match width {
            Some(width) => inner
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => inner.set_content_arrangement(ContentArrangement::Disabled),
        };
        inner.set_header(headings);
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { inner }
    }

    /// Numbers stand to the right.
    pub fn right(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.inner.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// What somebody may copy is never broken.
    pub fn whole(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.inner.column_mut(column) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self
    }

    pub fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.inner.add_row(cells);
    }

    /// Ends in a line break.
    pub fn render(&self) -> String {
        format!("{}\n", self.inner.trim_fmt())
    }
}

/// A page of headings and named fields, the fields' text indented and wrapped.
pub struct Page {
    text: String,
    width: Option<u16>,
}

const NAME_WIDTH: usize = 11;

impl Page {
    pub fn new(width: Option<u16>) -> Self {
        Self {
            text: String::new(),
            width,
        }
    }

    /// A line of its own, at the left, with an empty line before it.
    pub fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(text);
    }

    pub fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// `  Name       text`; further lines of the text stand below its first.
    pub fn field(&mut self, name: &str, text: &str) {
        const INDENT: usize = 2;
        let taken = INDENT + NAME_WIDTH;
        let room = self
            .width
            .map(|width| usize::from(width).saturating_sub(taken));
        for (at, line) in wrapped(text, room).iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let shown = format!("{:INDENT$}{name:<NAME_WIDTH$}{line}", "");
            self.line(shown.trim_end());
        }
    }

    pub fn finish(self) -> String {
        self.text
    }
}

/// Breaks `text` between words into lines of at most `room` characters; a longer word stands alone, whole, so that it can
/// be copied.
pub fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    const LEAST: usize = 20;
    let Some(room) = room.map(|room| room.max(LEAST)) else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn text_is_wrapped_between_words() {
        let text = "one two three four five six seven";
        assert_eq!(wrapped(text, None), [text]);
        assert_eq!(
            wrapped(text, Some(20)),
            ["one two three four", "five six seven"]
        );
        let long = "a-word-that-is-longer-than-the-line b";
        assert_eq!(
            wrapped(long, Some(20)),
            ["a-word-that-is-longer-than-the-line", "b"]
        );
        assert_eq!(wrapped("", Some(20)), [""]);
    }

    #[test]
    fn tables_fit_their_width() {
        let render = |width| {
            let mut table = Table::new(["TARGET", "SIZE", "WHY"], width)
                .right(&[1])
                .whole(&[0, 1]);
            table.row([
                "a".to_owned(),
                "1 B".to_owned(),
                "because of this and that".to_owned(),
            ]);
            table.row(["long/name".to_owned(), "1023 B".to_owned(), String::new()]);
            table.render()
        };
        assert_snapshot!(render(None), @r"
        TARGET       SIZE  WHY
        a             1 B  because of this and that
        long/name  1023 B
        ");
        assert_snapshot!(render(Some(34)), @r"
        TARGET       SIZE  WHY
        a             1 B  because of
                           this and that
        long/name  1023 B
        ");
    }
}
