//! A word as it stands to the words that the shell makes of it.

use super::quote::{Span, span};
use super::{MAX_DEPTH, Shell};
use crate::unread::{self, Place};

/// Words that are being made.
#[derive(Default)]
pub(super) struct Fields {
    done: Vec<String>,
    /// `None`: no word has begun.
    current: Option<String>,
    /// An array without items stood there: quotes around it make no word.
    vanished: bool,
}

impl Fields {
    pub(super) fn push(&mut self, text: &str) {
        self.current.get_or_insert_with(String::new).push_str(text);
    }

    /// What the shell splits at blanks.
    fn split(&mut self, text: &str) {
        let text = unread::unquoted(text);
        let mut parts = text.split(char::is_whitespace);
        if let Some(first) = parts.next().filter(|p| !p.is_empty()) {
            self.push(first);
        }
        for part in parts {
            self.finish();
            if !part.is_empty() {
                self.push(part);
            }
        }
    }

    fn finish(&mut self) {
        self.done.extend(self.current.take());
    }

    /// Each of `words` is one of its own; the first goes on with what was begun.
    fn extend(&mut self, words: &[String]) {
        self.vanished |= words.is_empty();
        for (i, word) in words.iter().enumerate() {
            if i > 0 {
                self.finish();
            }
            self.push(word);
        }
    }
}

/// What stands for a `$`.
pub(super) enum Expansion {
    Text(String),
    /// An array: each item a word of its own inside of quotes too.
    Words(Vec<String>),
}

impl Shell<'_> {
    /// The words that a word becomes.
    pub(super) fn expand(&mut self, raw: &str) -> Vec<String> {
        if !raw.contains(['\'', '"', '\\', '$', '`', '(', '{']) {
            return vec![raw.to_string()];
        }
        let mut fields = Fields::default();
        for raw in braces(raw) {
            let chars: Vec<char> = raw.chars().collect();
            self.walk(&chars, false, true, &mut fields);
            fields.finish();
        }
        let made = fields.done.iter().map(String::len).sum();
        if self.affordable(made) { fields.done } else { Vec::new() }
    }

    /// The same where nothing is split: assignments, paths, here-documents' words.
    pub(super) fn text(&mut self, raw: &str) -> String {
        let chars: Vec<char> = raw.chars().collect();
        self.joined(&chars, false)
    }

    /// As inside of double quotes: here-documents, arithmetic.
    pub(super) fn quoted(&mut self, raw: &str) -> String {
        let chars: Vec<char> = raw.chars().collect();
        self.joined(&chars, true)
    }

    fn joined(&mut self, chars: &[char], quoted: bool) -> String {
        let mut fields = Fields::default();
        self.walk(chars, quoted, false, &mut fields);
        fields.finish();
        let text = fields.done.join(" ");
        if self.affordable(text.len()) {
            text
        } else {
            String::new()
        }
    }

    /// `quoted`: in double quotes. `split`: unquoted expansions become several words.
    pub(super) fn walk(&mut self, chars: &[char], quoted: bool, split: bool, out: &mut Fields) {
        if self.depth >= MAX_DEPTH {
            self.done.whole = false;
            return;
        }
        self.depth += 1;
        let mut at = 0;
        while let Some(c) = chars.get(at).copied() {
            let next = chars.get(at + 1).copied();
            match c {
                '\'' if !quoted => {
                    let (end, _) = span(chars, at, Span::Single);
                    let inner: String = chars[at + 1..end].iter().collect();
                    out.push(inner.strip_suffix('\'').unwrap_or(&inner));
                    at = end;
                }
                '"' if !quoted => {
                    let (end, closed) = span(chars, at, Span::Double);
                    let inner = &chars[at + 1..end - usize::from(closed)];
                    out.vanished = false;
                    self.walk(inner, true, split, out);
                    if !std::mem::take(&mut out.vanished) {
                        out.push("");
                    }
                    at = end;
                }
                '\\' => {
                    match next {
                        Some('\n') => {}
                        Some(n) if quoted && !"$`\"\\".contains(n) => out.push(&format!("\\{n}")),
                        Some(n) => out.push(&n.to_string()),
                        None => out.push("\\"),
                    }
                    at += 2;
                }
                '`' => {
                    let (end, _) = span(chars, at, Span::Backticks);
                    let inner: String = chars[at + 1..end].iter().collect();
                    let text = self.output(inner.trim_end_matches('`'));
                    put(out, &text, quoted, split);
                    at = end;
                }
                '<' | '>' if next == Some('(') && !quoted => {
                    let (end, _) = span(chars, at + 1, Span::Parentheses);
                    out.push(&self.one(Place::new("the output of a command")));
                    at = end;
                }
                '$' => {
                    let (expansion, used) = self.dollar(&chars[at + 1..], quoted);
                    match expansion {
                        Expansion::Text(text) => put(out, &text, quoted, split),
                        Expansion::Words(words) if quoted && split => out.extend(&words),
                        Expansion::Words(words) => put(out, &words.join(" "), quoted, split),
                    }
                    at += 1 + used;
                }
                _ => {
                    out.push(&c.to_string());
                    at += 1;
                }
            }
        }
        self.depth -= 1;
    }

    /// What follows a `$`: what it stands for, and how many characters it took.
    fn dollar(&mut self, rest: &[char], quoted: bool) -> (Expansion, usize) {
        let text = |t: String| Expansion::Text(t);
        match rest.first().copied() {
            Some('{') => {
                let (end, closed) = span(rest, 0, Span::Braces { quoted });
                if !closed {
                    return (text(self.one(Place::new("the start script"))), end);
                }
                let body: String = rest[1..end - 1].iter().collect();
                (self.parameter(&body, quoted), end)
            }
            Some('(') => {
                let (end, closed) = span(rest, 0, Span::Parentheses);
                let inner: String = rest[1..end - usize::from(closed)].iter().collect();
                let sum = inner.strip_prefix('(').and_then(|i| i.strip_suffix(')'));
                let found = match sum {
                    Some(sum) => self.arithmetic(sum),
                    None => self.output(&inner),
                };
                (text(found), end)
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.iter().position(|c| !c.is_ascii_alphanumeric() && *c != '_');
                let end = end.unwrap_or(rest.len());
                let name: String = rest[..end].iter().collect();
                (self.value(&name), end)
            }
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => (self.special(&c.to_string()), 1),
            _ => (text("$".into()), 0),
        }
    }
}

fn put(out: &mut Fields, text: &str, quoted: bool, split: bool) {
    if quoted || !split {
        out.push(&unread::quoted(text));
    } else {
        out.split(text);
    }
}

/// "a{1..3}" → "a1", "a2", "a3": the one form of braces that start scripts have.
fn braces(raw: &str) -> Vec<String> {
    let whole = || vec![raw.to_string()];
    if raw.contains(['\'', '"', '$']) {
        return whole();
    }
    let Some((before, rest)) = raw.split_once('{') else {
        return whole();
    };
    let Some((inner, after)) = rest.split_once('}') else {
        return whole();
    };
    let ends = inner
        .split_once("..")
        .and_then(|(a, b)| Some((a.parse::<i64>().ok()?, b.parse::<i64>().ok()?)));
    match ends {
        Some((from, to)) if from <= to && to.checked_sub(from).is_some_and(|n| n < 256) => {
            (from..=to).map(|n| format!("{before}{n}{after}")).collect()
        }
        _ => whole(),
    }
}
