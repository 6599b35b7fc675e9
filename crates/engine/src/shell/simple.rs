//! Simple commands: assignments, words, redirections; and what is made of them.

use super::lex::{Redirect, Token};
use super::{Cursor, MAX_STEPS, Ran, Shell, Status, Value, is_identifier};
use crate::unread::{self, Place};

/// A simple command, expanded.
pub(super) struct Simple {
    pub(super) words: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) redirects: Vec<Redirect>,
}

impl Simple {
    /// The text of a here-document or here-string that it reads.
    fn reads(&self, shell: &mut Shell<'_>) -> Option<String> {
        let redirect = self
            .redirects
            .iter()
            .rev()
            .find(|r| r.here.is_some() || r.operator == "<<<")?;
        match &redirect.here {
            Some(here) if here.literal => Some(here.text.clone()),
            Some(here) => Some(shell.quoted(&here.text)),
            None => Some(shell.text(&redirect.target) + "\n"),
        }
    }

    /// Where its output goes, and whether it is added there.
    fn writes(&self, shell: &mut Shell<'_>) -> Option<(String, bool)> {
        let is = |r: &&Redirect| matches!(r.operator.as_str(), ">" | ">>" | ">|" | "&>" | "&>>");
        let redirect = self.redirects.iter().find(is)?;
        let path = shell.text(&redirect.target);
        Some((path, redirect.operator.ends_with(">>")))
    }
}

impl Shell<'_> {
    /// One simple command, where the cursor is.
    pub(super) fn simple(&mut self, cursor: &mut Cursor) -> Status {
        let mut raw = Vec::new();
        let mut redirects = Vec::new();
        while let Some(Token::Word(_) | Token::Redirect(_)) = cursor.peek() {
            match cursor.next() {
                Some(Token::Word(word)) => raw.push(word),
                Some(Token::Redirect(redirect)) => redirects.push(redirect),
                _ => break,
            }
        }
        if !self.runs() {
            return Status::Unknown;
        }
        self.steps += 1;
        if self.steps > MAX_STEPS {
            self.done.whole = false;
            self.ended = true;
            return Status::Unknown;
        }
        let assigns = raw.iter().take_while(|w| assignment(w).is_some()).count();
        let (assigned, rest) = raw.split_at(assigns);
        if rest.is_empty() {
            for word in assigned {
                self.assign(word);
            }
            return Status::Works;
        }
        let mut env = Vec::new();
        for word in assigned {
            if let Some((name, _, value)) = assignment(word) {
                let value = self.text(value);
                env.push((name.to_string(), value));
            }
        }
        let declares = matches!(
            rest[0].as_str(),
            "export" | "declare" | "local" | "readonly" | "typeset"
        );
        if declares {
            self.declare(&rest[1..]);
            return Status::Works;
        }
        let words: Vec<String> = rest.iter().flat_map(|w| self.expand(w)).collect();
        self.command_of(Simple { words, env, redirects })
    }

    /// `export A=b`, `declare -a A=(b)`.
    fn declare(&mut self, words: &[String]) {
        for word in words.iter().filter(|w| !w.starts_with('-')) {
            if assignment(word).is_some() {
                self.assign(word);
                continue;
            }
            // `export $(cat file)`: any variable may be set so.
            for word in self.expand(word) {
                match word.split_once('=') {
                    Some((name, value)) if is_identifier(name) => self.env.set(name, value.to_string()),
                    _ if unread::has(&word) => {
                        let place = self.places.of(&word).unwrap_or_else(|| Place::new("the start script"));
                        self.forget(place);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Any variable may be another from here on.
    pub(super) fn forget(&mut self, place: Place) {
        self.env.values.clear();
        self.env.open = Some(place);
    }

    fn assign(&mut self, word: &str) {
        let Some((name, how, raw)) = assignment(word) else {
            return;
        };
        let name = name.to_string();
        match how {
            How::Item => {
                let mark = self.many(Place::new("an array of the start script"));
                self.env.values.insert(name, Value::List(vec![mark]));
            }
            How::Set | How::Add if raw.starts_with('(') => {
                let inner = raw[1..].strip_suffix(')').unwrap_or(&raw[1..]);
                let mut items = match (how, self.env.values.get(&name)) {
                    (How::Add, Some(Value::List(items))) => items.clone(),
                    (How::Add, Some(Value::Text(text))) => vec![text.clone()],
                    (How::Add, None) => self.unset(&name),
                    _ => Vec::new(),
                };
                for token in super::lex::lex(inner).tokens {
                    if let Token::Word(word) = token {
                        items.extend(self.expand(&word));
                    }
                }
                // An array that grows in a loop must not grow without end.
                let size = items.iter().map(|i| i.len() + 8).sum();
                if self.affordable(size) {
                    self.env.values.insert(name, Value::List(items));
                }
            }
            How::Set => {
                let value = self.text(raw);
                self.env.set(&name, value);
            }
            How::Add => {
                let added = self.text(raw);
                let value = match self.env.values.get(&name) {
                    Some(Value::Text(text)) => text.clone() + &added,
                    Some(Value::List(_)) => self.many(Place::new("an array of the start script")),
                    None => self.unset(&name).concat() + &added,
                };
                if self.affordable(value.len()) {
                    self.env.set(&name, value);
                }
            }
        }
    }

    /// What a variable that nothing sets may already hold.
    fn unset(&self, name: &str) -> Vec<String> {
        match &self.env.open {
            Some(place) => vec![self.many(Place::named(name, place.text.clone()))],
            None => Vec::new(),
        }
    }

    /// A command with its words.
    pub(super) fn command_of(&mut self, mut simple: Simple) -> Status {
        let written = simple.writes(self);
        let Some(name) = simple.words.first().cloned() else {
            // `$EMPTY`, or `> file`.
            if let Some((path, _)) = written {
                self.files.insert(path, Some(String::new()));
            }
            return Status::Works;
        };
        if let Some(status) = self.builtin(&mut simple, &name, written.as_ref()) {
            return status;
        }
        if let Some((path, _)) = written {
            self.files.insert(path, None);
        }
        self.start(simple)
    }

    /// A program, a function, or a script whose text is known.
    fn start(&mut self, simple: Simple) -> Status {
        let Some(name) = simple.words.first().cloned() else {
            return Status::Works;
        };
        if let Some(body) = self.functions.get(&name).cloned() {
            self.call(body, &simple.words[1..]);
            return Status::Works;
        }
        if let Some(nested) = nested(&simple.words, |path| self.files.get(path).cloned().flatten()) {
            // `bash <<EOF`
            let Some(text) = nested.text.or_else(|| simple.reads(self)) else {
                self.record(simple);
                return Status::Works;
            };
            self.child(&unread::unquoted(&text), nested.name, nested.params);
            return Status::Works;
        }
        self.record(simple);
        Status::Works
    }

    pub(super) fn record(&mut self, simple: Simple) {
        let Simple { words, env, .. } = simple;
        self.done.ran.push(Ran {
            words,
            env,
            background: false,
            repeated: self.looping > 0,
            branches: self.branches.clone(),
        });
    }

    /// A script in a shell of its own: it leaves the variables as they are.
    pub(super) fn child(&mut self, text: &str, name: Option<String>, params: Vec<String>) {
        let before = self.env.clone();
        self.env.name = name;
        self.env.params = Some(params);
        self.script(text);
        self.env = before;
        self.ended = false;
    }

    pub(super) fn text_read(&mut self, simple: &Simple) -> Option<String> {
        simple.reads(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Set,
    Add,
    /// `A[0]=b`
    Item,
}

/// `NAME=value`, `NAME+=value`, `NAME[0]=value`.
pub(super) fn assignment(word: &str) -> Option<(&str, How, &str)> {
    let (front, value) = word.split_once('=')?;
    if let Some(name) = front.strip_suffix('+') {
        return is_identifier(name).then_some((name, How::Add, value));
    }
    if let Some((name, index)) = front.split_once('[') {
        return (is_identifier(name) && index.ends_with(']')).then_some((name, How::Item, value));
    }
    is_identifier(front).then_some((front, How::Set, value))
}

/// A shell that is started with a script.
pub(crate) struct Nested {
    /// `None`: it reads the script.
    pub(crate) text: Option<String>,
    /// What the script sees as `$0`: the word behind the text of `-c`.
    pub(crate) name: Option<String>,
    pub(crate) params: Vec<String>,
}

pub(crate) fn is_shell(word: &str) -> bool {
    matches!(
        word.rsplit('/').next(),
        Some("sh" | "bash" | "dash" | "ash" | "zsh" | "ksh")
    )
}

/// `sh -c SCRIPT`, `bash FILE`, or the file alone; wherever the shell stands (after `tini --`, `env`). `file` knows texts.
pub(crate) fn nested(words: &[String], file: impl Fn(&str) -> Option<String>) -> Option<Nested> {
    let rest_of = |at: usize| words[(at + 1).min(words.len())..].to_vec();
    let Some(shell) = words.iter().take(12).position(|w| is_shell(w)) else {
        // A script that says itself what runs it.
        let (at, text) = words
            .iter()
            .enumerate()
            .take(4)
            .find_map(|(at, w)| Some((at, file(w)?)))?;
        let runs = text.starts_with("#!")
            && text
                .lines()
                .next()
                .is_some_and(|l| l.ends_with("sh") || l.contains("sh "));
        let named = [".sh", ".bash"].iter().any(|e| words[at].ends_with(e));
        return (runs || named).then(|| Nested {
            text: Some(text),
            name: None,
            params: rest_of(at),
        });
    };
    let mut reads = false;
    let mut at = shell + 1;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            // Options end here; the next word is the script, or a file.
            "--" => {
                at += 1;
                break;
            }
            "-o" | "+o" | "--rcfile" | "--init-file" => at += 2,
            option if option.starts_with(['-', '+']) && option.len() > 1 => {
                reads |= !option.starts_with("--") && option.contains('c');
                // "-euo pipefail".
                at += 1 + usize::from(!option.starts_with("--") && option.ends_with('o'));
            }
            _ => break,
        }
    }
    match words.get(at) {
        Some(script) if reads => Some(Nested {
            text: Some(script.clone()),
            name: words.get(at + 1).cloned(),
            params: rest_of(at + 1),
        }),
        Some(path) => file(path).map(|text| Nested {
            text: Some(text),
            name: None,
            params: rest_of(at),
        }),
        None => (!reads).then(|| Nested {
            text: None,
            name: None,
            params: Vec::new(),
        }),
    }
}
