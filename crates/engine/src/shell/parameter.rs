//! `$X`, `${X:-default}`, `${X[@]}`, `$((…))` and `$(…)`.

use super::arithmetic::evaluate;
use super::expand::Expansion;
use super::lex::{self, Token};
use super::{Shell, Value, is_identifier};
use crate::unread::{self, Place};

/// What a name stands for.
enum Found {
    Text(String),
    List(Vec<String>),
    Unset,
    Unread(Place),
}

fn nothing_sets(name: &str) -> Place {
    Place::named(name, format!("the variable {name}, which nothing here sets"))
}

impl Shell<'_> {
    fn find(&self, name: &str) -> Found {
        match self.env.values.get(name) {
            Some(Value::Text(text)) => Found::Text(text.clone()),
            Some(Value::List(items)) => Found::List(items.clone()),
            None => match &self.env.open {
                Some(place) => Found::Unread(Place::named(
                    name,
                    format!("the variable {name}, maybe of {}", place.text),
                )),
                None => Found::Unset,
            },
        }
    }

    /// `$X`. A variable that nothing sets may be the image's, or the placeholder of a template: nobody knows.
    pub(super) fn value(&self, name: &str) -> Expansion {
        match self.find(name) {
            Found::Text(text) => Expansion::Text(text),
            // An array without its brackets is its first item.
            Found::List(items) => Expansion::Text(items.into_iter().next().unwrap_or_default()),
            Found::Unset => Expansion::Text(self.one(nothing_sets(name))),
            Found::Unread(place) => Expansion::Text(self.one(place)),
        }
    }

    /// `$1`, `$@`, `$#`, `$?`.
    pub(super) fn special(&self, name: &str) -> Expansion {
        let place = || Place::named("ARGS", "the arguments of the start script");
        let missing = |many: bool| if many { self.many(place()) } else { self.one(place()) };
        let params = self.env.params.as_ref();
        match (name, params) {
            ("@" | "*", Some(params)) => Expansion::Words(params.clone()),
            ("@" | "*", None) => Expansion::Words(vec![missing(true)]),
            ("#", Some(params)) => Expansion::Text(params.len().to_string()),
            (digit, Some(params)) if digit.starts_with(|c: char| c.is_ascii_digit()) => {
                let at = digit.parse::<usize>().unwrap_or(usize::MAX);
                // $0 is the shell's own name, or the word behind the script.
                let found = at.checked_sub(1).map_or(self.env.name.as_ref(), |at| params.get(at));
                Expansion::Text(found.cloned().unwrap_or_default())
            }
            (digit, None) if digit.starts_with(|c: char| c.is_ascii_digit()) => Expansion::Text(missing(false)),
            _ => Expansion::Text(self.one(Place::new(format!("${name} of the start script")))),
        }
    }

    /// What stands between `${` and `}`.
    pub(super) fn parameter(&mut self, body: &str, quoted: bool) -> Expansion {
        let unknown = |shell: &Self| Expansion::Text(shell.one(Place::new("an expression of the start script")));
        if let Some(counted) = body.strip_prefix('#').filter(|b| !b.is_empty()) {
            return self.length(counted);
        }
        let end = body
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(body.len());
        let (name, rest) = match end {
            // "${@:2}", "${?}".
            0 => match body.chars().next().filter(|c| "@*?$".contains(*c)) {
                Some(c) => body.split_at(c.len_utf8()),
                None => return unknown(self),
            },
            _ => body.split_at(end),
        };
        let (index, operator) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((index, operator)) => (Some(index), operator),
            None => (None, rest),
        };
        let found = self.indexed(name, index);
        if operator.is_empty() {
            return match found {
                Found::Text(text) => Expansion::Text(text),
                Found::List(items) => Expansion::Words(items),
                Found::Unset if index.is_some() => Expansion::Words(Vec::new()),
                Found::Unset => Expansion::Text(self.one(nothing_sets(name))),
                Found::Unread(place) if index.is_some() => Expansion::Words(vec![self.many(place)]),
                Found::Unread(place) => Expansion::Text(self.one(place)),
            };
        }
        for (sign, word) in [(":-", true), (":=", true), ("-", false), ("=", false)] {
            if let Some(default) = operator.strip_prefix(sign) {
                return self.or_default(name, found, default, word, sign.ends_with('='), quoted);
            }
        }
        for (sign, word) in [(":+", true), ("+", false)] {
            if let Some(instead) = operator.strip_prefix(sign) {
                return self.instead(found, instead, word, quoted);
            }
        }
        for sign in [":?", "?"] {
            if operator.starts_with(sign) {
                return match found {
                    Found::Text(text) => Expansion::Text(text),
                    Found::List(items) => Expansion::Words(items),
                    Found::Unset => Expansion::Text(self.one(nothing_sets(name))),
                    Found::Unread(place) => Expansion::Text(self.one(place)),
                };
            }
        }
        match found {
            Found::Text(text) if !unread::has(&text) => match self.changed(&text, operator) {
                Some(text) => Expansion::Text(text),
                None => unknown(self),
            },
            Found::Text(text) => Expansion::Text(text),
            Found::List(items) => match operator.strip_prefix(':').and_then(|n| n.trim().parse::<usize>().ok()) {
                // "${@:2}" counts from one, "${A[@]:2}" from none.
                Some(from) => {
                    let from = if name == "@" || name == "*" {
                        from.saturating_sub(1)
                    } else {
                        from
                    };
                    Expansion::Words(items.into_iter().skip(from).collect())
                }
                None => unknown(self),
            },
            Found::Unset => Expansion::Text(self.one(nothing_sets(name))),
            Found::Unread(place) => Expansion::Text(self.one(place)),
        }
    }

    fn indexed(&self, name: &str, index: Option<&str>) -> Found {
        if !is_identifier(name) {
            return match self.special(name) {
                Expansion::Text(text) => Found::Text(text),
                Expansion::Words(words) => Found::List(words),
            };
        }
        match (index, self.find(name)) {
            (None, Found::List(items)) => Found::Text(items.into_iter().next().unwrap_or_default()),
            (Some("@" | "*"), Found::Text(text)) => Found::List(vec![text]),
            (None | Some("@" | "*"), found) => found,
            (Some(at), Found::List(items)) => {
                let at = at.trim().parse::<usize>().ok();
                // Behind what was not read nobody knows the positions.
                let known = at.is_some_and(|at| !items.iter().take(at + 1).any(|i| unread::is_many(i)));
                match at.and_then(|at| items.get(at)).filter(|_| known) {
                    Some(item) => Found::Text(item.clone()),
                    None => Found::Unread(Place::new("an item of an array of the start script")),
                }
            }
            (Some("0"), found) => found,
            (Some(_), _) => Found::Unread(Place::new("an item of an array of the start script")),
        }
    }

    fn length(&self, body: &str) -> Expansion {
        let (name, index) = match body.strip_suffix("[@]").or_else(|| body.strip_suffix("[*]")) {
            Some(name) => (name, Some("@")),
            None => (body, None),
        };
        let known = |n: usize| Expansion::Text(n.to_string());
        match self.indexed(name, index) {
            Found::Text(text) if !unread::has(&text) => known(text.chars().count()),
            Found::List(items) if !items.iter().any(|i| unread::is_many(i)) => known(items.len()),
            Found::Unset if index.is_some() => known(0),
            _ => Expansion::Text(self.one(Place::new("an expression of the start script"))),
        }
    }

    fn or_default(
        &mut self,
        name: &str,
        found: Found,
        default: &str,
        empty_too: bool,
        assigns: bool,
        quoted: bool,
    ) -> Expansion {
        match found {
            Found::Text(text) if !(empty_too && text.is_empty()) => return Expansion::Text(text),
            Found::List(items) if !items.is_empty() => return Expansion::Words(items),
            Found::Unread(place) => return Expansion::Text(self.one(place)),
            Found::Text(_) | Found::List(_) | Found::Unset => {}
        }
        let text = self.inner(default, quoted);
        if assigns && is_identifier(name) && self.runs() {
            self.env.set(name, text.clone());
        }
        Expansion::Text(text)
    }

    /// `${X:+--flag $X}`.
    fn instead(&mut self, found: Found, instead: &str, empty_too: bool, quoted: bool) -> Expansion {
        match found {
            Found::Unset => Expansion::Text(String::new()),
            Found::Text(text) if empty_too && text.is_empty() => Expansion::Text(String::new()),
            Found::List(items) if items.is_empty() => Expansion::Text(String::new()),
            Found::Text(text) if unread::has(&text) => {
                let place = self.places.of(&text).unwrap_or_else(|| Place::new("the start script"));
                Expansion::Text(self.many(place))
            }
            Found::Unread(place) => Expansion::Text(self.many(place)),
            Found::Text(_) | Found::List(_) => Expansion::Text(self.inner(instead, quoted)),
        }
    }

    fn inner(&mut self, raw: &str, quoted: bool) -> String {
        if quoted {
            let bare = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).unwrap_or(raw);
            self.quoted(bare)
        } else {
            self.text(raw)
        }
    }

    /// Cut, replaced and recased texts; `None`: in a way that is not followed.
    fn changed(&mut self, text: &str, operator: &str) -> Option<String> {
        // Every place where the text may be cut is tried.
        if text.len() > 512 || !self.affordable(text.len() * text.len() / 16) {
            return None;
        }
        let plain = |shell: &mut Self, raw: &str| Some(shell.text(raw)).filter(|t| !unread::has(t));
        if let Some(raw) = operator.strip_prefix("##") {
            let pattern = plain(self, raw)?;
            return Some(cut(text, &pattern, true, true));
        }
        if let Some(raw) = operator.strip_prefix('#') {
            let pattern = plain(self, raw)?;
            return Some(cut(text, &pattern, true, false));
        }
        if let Some(raw) = operator.strip_prefix("%%") {
            let pattern = plain(self, raw)?;
            return Some(cut(text, &pattern, false, true));
        }
        if let Some(raw) = operator.strip_prefix('%') {
            let pattern = plain(self, raw)?;
            return Some(cut(text, &pattern, false, false));
        }
        if let Some(raw) = operator.strip_prefix('/') {
            let (all, raw) = raw.strip_prefix('/').map_or((false, raw), |r| (true, r));
            // A slash of the pattern itself is escaped.
            let escaped = |at: &usize| raw[..*at].ends_with('\\');
            let end = raw.match_indices('/').map(|(at, _)| at).find(|at| !escaped(at));
            let (from, to) = end.map_or((raw, ""), |at| (&raw[..at], &raw[at + 1..]));
            let (from, to) = (plain(self, from)?, plain(self, to)?);
            if from.is_empty() || from.contains(['*', '?', '[', '#', '%']) {
                return None;
            }
            return Some(if all {
                text.replace(&from, &to)
            } else {
                text.replacen(&from, &to, 1)
            });
        }
        match operator {
            "^^" => Some(text.to_uppercase()),
            ",," => Some(text.to_lowercase()),
            _ => None,
        }
    }

    pub(super) fn arithmetic(&mut self, sum: &str) -> String {
        let text = self.quoted(sum);
        if let Some(place) = self.places.of(&text) {
            return self.one(place);
        }
        let value = |name: &str| match self.find(name) {
            Found::Text(text) => match (self.places.of(&text), text.trim().parse()) {
                (Some(place), _) => Err(place),
                (None, Ok(number)) => Ok(number),
                (None, Err(_)) => Err(Place::new("a calculation of the start script")),
            },
            Found::List(_) => Err(Place::new("a calculation of the start script")),
            Found::Unset => Err(nothing_sets(name)),
            Found::Unread(place) => Err(place),
        };
        match evaluate(&text, &value) {
            Ok(number) => number.to_string(),
            Err(place) => self.one(place),
        }
    }

    /// What a command prints: of `echo`, `seq` and `cat` of a known text it can be known.
    pub(super) fn output(&mut self, command: &str) -> String {
        let unknown = |shell: &Self| shell.one(Place::new("the output of a command"));
        let lexed = lex::lex(command);
        let mut words = Vec::new();
        let mut here = None;
        let mut from = None;
        for token in &lexed.tokens {
            match token {
                Token::Word(word) => words.push(word.clone()),
                Token::Redirect(r) if r.here.is_some() => here.clone_from(&r.here),
                Token::Redirect(r) if r.operator == "<" => from = Some(r.target.clone()),
                Token::Redirect(_) | Token::Newline => {}
                _ => return unknown(self),
            }
        }
        let words: Vec<String> = words.iter().flat_map(|w| self.expand(w)).collect();
        let first = words.first().map(String::as_str);
        let file = |shell: &Self, path: &str| {
            let text = shell.files.get(path).cloned().flatten();
            text.map_or_else(|| unknown(shell), |t| t.trim_end_matches('\n').to_string())
        };
        match (first, &words[1.min(words.len())..]) {
            (Some("echo"), rest) => {
                let rest: Vec<&str> = rest
                    .iter()
                    .map(String::as_str)
                    .filter(|w| !matches!(*w, "-n" | "-e"))
                    .collect();
                rest.join(" ")
            }
            (Some("cat"), []) => match (here, from) {
                (Some(here), _) if here.literal => here.text.trim_end_matches('\n').to_string(),
                (Some(here), _) => self.quoted(here.text.trim_end_matches('\n')),
                (None, Some(path)) => {
                    let path = self.text(&path);
                    file(self, &path)
                }
                _ => unknown(self),
            },
            (Some("cat"), [path]) => file(self, path),
            (None, _) => match from {
                Some(path) => {
                    let path = self.text(&path);
                    file(self, &path)
                }
                None => unknown(self),
            },
            (Some("seq"), rest) => sequence(rest).unwrap_or_else(|| unknown(self)),
            _ => unknown(self),
        }
    }
}

/// `seq LAST`, `seq FIRST LAST`, `seq FIRST STEP LAST`.
fn sequence(words: &[String]) -> Option<String> {
    let numbers: Vec<i64> = words.iter().map(|w| w.parse().ok()).collect::<Option<_>>()?;
    let (from, step, to) = match numbers[..] {
        [to] => (1, 1, to),
        [from, to] => (from, 1, to),
        [from, step, to] => (from, step, to),
        _ => return None,
    };
    if step <= 0 || to.checked_sub(from)? / step > 256 {
        return None;
    }
    let mut all = Vec::new();
    let mut at = from;
    while at <= to {
        all.push(at.to_string());
        at = at.checked_add(step)?;
    }
    Some(all.join("\n"))
}

/// A text without what the pattern takes off its front or end: the shortest, or the longest.
fn cut(text: &str, pattern: &str, front: bool, longest: bool) -> String {
    let mut ends: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
    // The first that fits is taken.
    if front == longest {
        ends.reverse();
    }
    let taken = ends.into_iter().find(|end| {
        let (before, after) = text.split_at(*end);
        fits(if front { before } else { after }, pattern)
    });
    match taken {
        Some(end) if front => text[end..].to_string(),
        Some(end) => text[..end].to_string(),
        None => text.to_string(),
    }
}

/// A text and a shell's pattern: `*` and `?`.
pub(super) fn fits(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (t, p) = (from + 1, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_cuts() {
        for (text, pattern, yes) in [
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "a?c", true),
            ("abc", "b*", false),
            ("", "*", true),
            ("a/b/c", "*/*", true),
        ] {
            assert_eq!(fits(text, pattern), yes, "{text} {pattern}");
        }
        assert_eq!(cut("org/a/b", "*/", true, true), "b");
        assert_eq!(cut("org/a/b", "*/", true, false), "a/b");
        assert_eq!(cut("a.b.c", ".*", false, false), "a.b");
        assert_eq!(cut("a.b.c", ".*", false, true), "a");
        assert_eq!(cut("abc", "x", true, true), "abc");
    }

    #[test]
    fn sequences() {
        let of = |words: &[&str]| sequence(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["3"]).as_deref(), Some("1\n2\n3"));
        assert_eq!(of(&["0", "2", "4"]).as_deref(), Some("0\n2\n4"));
        assert_eq!(
            (of(&["x"]), of(&["0", "100000"]), of(&["1", "0", "2"])),
            (None, None, None)
        );
    }
}
