//! Text on a terminal: widths, lines, colours.

use std::io::{self, Write};
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Columns that a text takes on a terminal.
pub fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Lines of at most `width` columns, broken at spaces; a word longer than a line is broken anywhere.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(1))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = textwrap::wrap(&words, options);
    lines.into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// One line of at most `width` columns; an ellipsis says that there was more.
pub fn cut(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if width_of(&kept) + width_of(c.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

/// Pieces on as few lines as fit, each whole where it can be, a middle dot between them.
pub(super) fn pieces(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if width_of(line) + 3 + width_of(part) <= width => {
                line.push_str(" · ");
                line.push_str(part);
            }
            _ => lines.extend(wrap(part, width)),
        }
    }
    lines
}

/// A paragraph with its first line's indent, then another for the rest.
pub(super) fn wrapped(out: &mut dyn Write, text: &str, width: usize, first: &str, rest: &str) -> io::Result<()> {
    let room = width.saturating_sub(width_of(first).max(width_of(rest)));
    for (i, line) in wrap(text, room).into_iter().enumerate() {
        writeln!(out, "{}{line}", if i == 0 { first } else { rest })?;
    }
    Ok(())
}

/// Colours, where they are wanted.
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn green(&self, text: &str) -> String {
        self.with("32", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_never_exceed_their_width() {
        for width in [5, 10, 40] {
            for line in wrap(
                "a bb ccc 漢字漢字漢字漢字 a-word-that-is-much-longer-than-any-line end",
                width,
            ) {
                assert!(width_of(&line) <= width, "{line:?} in {width}");
            }
        }
        assert_eq!(wrap("one two", 20), ["one two"]);
    }

    #[test]
    fn a_line_is_cut_where_it_must_be() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer than that", 8), "longer…");
        assert!((0..12).all(|w| width_of(&cut("漢字漢字漢字漢字", w)) <= w.max(1)));
    }

    #[test]
    fn pieces_stay_whole_where_they_can() {
        let parts = ["one two", "three", "four five six"].map(String::from);
        assert_eq!(pieces(&parts, 15), ["one two · three", "four five six"]);
        assert_eq!(pieces(&parts, 8), ["one two", "three", "four", "five six"]);
        assert_eq!(pieces(&parts, 60), ["one two · three · four five six"]);
    }
}
