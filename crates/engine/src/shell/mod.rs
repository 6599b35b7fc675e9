//! Start scripts, run in the mind: which programs a shell would start with which words, and what of them nobody can know.
//!
//! Variables, arrays, here-documents, written files, loops over known words and tests of known values are followed. What
//! depends on anything else is marked as not read ([`crate::unread`]): never empty, never a default. Nothing is executed, and
//! time and memory are bounded.

mod arithmetic;
mod builtins;
mod compound;
mod expand;
mod lex;
mod parameter;
mod quote;
mod simple;
mod test;

use crate::unread::{Place, Places};
use lex::Token;
pub(crate) use simple::{is_shell, nested};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Scripts longer than this are no launch commands; the rest is not read.
const MAX_SCRIPT: usize = 64 * 1024;
/// `sh -c` inside `eval` inside a function inside `sh -c`…
const MAX_DEPTH: usize = 24;
/// Commands looked at, loops included.
const MAX_STEPS: usize = 4_000;
/// Words and text that expansions may make of a script.
const MAX_TEXT: usize = 1 << 20;
/// Turns of a loop that are followed.
const MAX_TURNS: usize = 64;

/// A program that would be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) words: Vec<String>,
    /// Variables for this program alone: `A=b program`.
    pub(crate) env: Vec<(String, String)>,
    /// The script goes on beside it.
    pub(crate) background: bool,
    /// It is started in a loop, nobody knows how often.
    pub(crate) repeated: bool,
    /// Branches that it stands in: which `if` or `case`, and which of its branches.
    branches: Vec<(u32, u32)>,
}

impl Ran {
    /// A command line without a script.
    pub(crate) fn of(words: Vec<String>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    /// Both run at once: the first goes on beside the script, and no branch has one without the other.
    pub(crate) fn runs_beside(&self, later: &Self) -> bool {
        let apart = |a: &(u32, u32)| later.branches.iter().any(|b| a.0 == b.0 && a.1 != b.1);
        self.background && !self.branches.iter().any(apart)
    }
}

/// What a script does.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) ran: Vec<Ran>,
    /// Files as the script leaves them; `None`: it writes what nobody can know.
    pub(crate) files: BTreeMap<String, Option<String>>,
    /// `false`: a part of it was not understood, or is beyond the bounds.
    pub(crate) whole: bool,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<String>),
}

/// Variables, and whether there may be others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    values: BTreeMap<String, Value>,
    /// Any variable may be set, there.
    open: Option<Place>,
    /// `$1`, `$2`, …; `None`: not known.
    params: Option<Vec<String>>,
    /// `$0`; `None`: nothing that a server is told.
    name: Option<String>,
}

impl Env {
    pub(crate) fn new(open: Option<Place>, name: Option<String>, params: Vec<String>) -> Self {
        Self {
            values: BTreeMap::new(),
            open,
            params: Some(params),
            name,
        }
    }

    /// `value` may have marks.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.into(), Value::Text(value));
    }
}

/// Runs a script. `files`: what is known of the file system.
pub(crate) fn run(script: &str, env: Env, files: &[(String, String)], places: &Places) -> Done {
    let mut shell = Shell {
        places,
        env,
        files: files.iter().map(|(p, t)| (p.clone(), Some(t.clone()))).collect(),
        functions: BTreeMap::new(),
        done: Done {
            whole: true,
            ..Done::default()
        },
        branches: Vec::new(),
        choices: 0,
        steps: 0,
        text: 0,
        depth: 0,
        skipping: 0,
        looping: 0,
        ended: false,
    };
    shell.script(script);
    shell.done.files = shell.files;
    shell.done
}

struct Shell<'a> {
    places: &'a Places,
    env: Env,
    files: BTreeMap<String, Option<String>>,
    functions: BTreeMap<String, Rc<[Token]>>,
    done: Done,
    branches: Vec<(u32, u32)>,
    /// Choices seen so far, to tell them apart.
    choices: u32,
    steps: usize,
    text: usize,
    depth: usize,
    /// Inside of what is certainly not run.
    skipping: usize,
    /// Inside of loops, nobody knows how often.
    looping: usize,
    /// `exec`, `exit` or `return` was reached.
    ended: bool,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    True,
    False,
    /// A program that does its work: what follows behind `&&` is the usual way.
    Works,
    Unknown,
}

/// Where in a list of tokens the shell is.
struct Cursor {
    tokens: Rc<[Token]>,
    at: usize,
}

impl Cursor {
    fn new(tokens: Rc<[Token]>) -> Self {
        Self { tokens, at: 0 }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn blank_lines(&mut self) {
        while matches!(self.peek(), Some(Token::Newline | Token::Semi)) {
            self.at += 1;
        }
    }
}

impl Shell<'_> {
    /// A script's text in the present environment.
    fn script(&mut self, text: &str) {
        if self.depth >= MAX_DEPTH {
            self.done.whole = false;
            return;
        }
        let mut end = text.len().min(MAX_SCRIPT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let lexed = lex::lex(&text[..end]);
        self.done.whole &= lexed.whole && end == text.len();
        let mut cursor = Cursor::new(lexed.tokens.into());
        self.depth += 1;
        while cursor.peek().is_some() {
            self.list(&mut cursor);
            // A closing word that nothing opened.
            if cursor.peek().is_some() {
                self.done.whole = false;
                cursor.at += 1;
            }
        }
        self.depth -= 1;
    }

    fn runs(&self) -> bool {
        self.skipping == 0 && !self.ended
    }

    /// A mark for one word, or a part of it.
    fn one(&self, place: Place) -> String {
        self.places.one(place).to_string()
    }

    fn many(&self, place: Place) -> String {
        self.places.many(place).to_string()
    }

    /// `text` was made: `false` when it is too much.
    fn affordable(&mut self, text: usize) -> bool {
        self.text = self.text.saturating_add(text);
        let within = self.text <= MAX_TEXT;
        self.done.whole &= within;
        within
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests;
