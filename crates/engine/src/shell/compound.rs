//! Lists, pipelines, branches, loops and functions.

use super::lex::Token;
use super::{Cursor, Env, MAX_DEPTH, MAX_TURNS, Shell, Status, Value, is_identifier, test};
use crate::unread::{self, Place};
use std::rc::Rc;

/// Words that end a list, where a command would begin.
const CLOSING: &[&str] = &["then", "do", "done", "fi", "else", "elif", "esac", "}"];

impl Shell<'_> {
    /// Commands up to a closing word; the status of the last.
    pub(super) fn list(&mut self, cursor: &mut Cursor) -> Status {
        let mut status = Status::Works;
        if self.depth >= MAX_DEPTH {
            self.done.whole = false;
            cursor.at = cursor.tokens.len();
            return status;
        }
        self.depth += 1;
        loop {
            cursor.blank_lines();
            match cursor.peek() {
                None | Some(Token::Close | Token::CaseEnd) => break,
                Some(Token::Word(word)) if CLOSING.contains(&word.as_str()) => break,
                Some(Token::And | Token::Or | Token::Pipe | Token::Amp) => cursor.at += 1,
                Some(_) => {
                    let begun = self.done.ran.len();
                    status = self.and_or(cursor);
                    if matches!(cursor.peek(), Some(Token::Amp)) {
                        cursor.at += 1;
                        for ran in &mut self.done.ran[begun..] {
                            ran.background = true;
                        }
                    }
                }
            }
        }
        self.depth -= 1;
        status
    }

    fn and_or(&mut self, cursor: &mut Cursor) -> Status {
        let mut status = self.pipeline(cursor);
        loop {
            let and = match cursor.peek() {
                Some(Token::And) => true,
                Some(Token::Or) => false,
                _ => return status,
            };
            cursor.at += 1;
            while matches!(cursor.peek(), Some(Token::Newline)) {
                cursor.at += 1;
            }
            status = match (status, and) {
                (Status::True | Status::Works, true) | (Status::False, false) => self.pipeline(cursor),
                (Status::False, true) | (Status::True, false) => {
                    self.skipping += 1;
                    self.pipeline(cursor);
                    self.skipping -= 1;
                    status
                }
                // What works needs no other way.
                (Status::Works, false) => {
                    self.maybe(|shell| shell.pipeline(cursor));
                    Status::Works
                }
                (Status::Unknown, _) => {
                    self.maybe(|shell| shell.pipeline(cursor));
                    Status::Unknown
                }
            };
        }
    }

    /// What may run or may not.
    fn maybe<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.env.clone(), self.ended);
        let choice = self.choice();
        self.branches.push((choice, 1));
        let result = run(self);
        self.branches.pop();
        let ways = vec![before.0, std::mem::take(&mut self.env)];
        // A way that ends the script leaves nothing behind.
        self.env = if self.ended && !before.1 {
            ways.into_iter().next().unwrap_or_default()
        } else {
            self.merged(ways)
        };
        self.ended = before.1;
        result
    }

    fn choice(&mut self) -> u32 {
        self.choices += 1;
        self.choices
    }

    /// The variables behind several ways: what differs is not known.
    fn merged(&self, ways: Vec<Env>) -> Env {
        let mut ways = ways.into_iter();
        let Some(mut all) = ways.next() else {
            return Env::default();
        };
        for way in ways {
            let names: Vec<String> = all.values.keys().chain(way.values.keys()).cloned().collect();
            for name in names {
                let (a, b) = (all.values.get(&name), way.values.get(&name));
                if a != b {
                    let place = Place::named(
                        &name,
                        format!("the variable {name}, which the start script sets in one of its branches"),
                    );
                    let value = match (a, b) {
                        (Some(Value::List(_)), _) | (_, Some(Value::List(_))) => {
                            let common: Vec<String> = match (a, b) {
                                (Some(Value::List(a)), Some(Value::List(b))) => a
                                    .iter()
                                    .zip(b)
                                    .take_while(|(a, b)| a == b)
                                    .map(|(a, _)| a.clone())
                                    .collect(),
                                _ => Vec::new(),
                            };
                            Value::List(common.into_iter().chain([self.many(place)]).collect())
                        }
                        _ => Value::Text(self.one(place)),
                    };
                    all.values.insert(name, value);
                }
            }
            all.open = all.open.or(way.open);
            if all.params != way.params {
                all.params = None;
            }
        }
        all
    }

    fn pipeline(&mut self, cursor: &mut Cursor) -> Status {
        let mut negated = false;
        while cursor.take_word("!") {
            negated = !negated;
        }
        let mut status = self.command(cursor);
        while matches!(cursor.peek(), Some(Token::Pipe)) {
            cursor.at += 1;
            while matches!(cursor.peek(), Some(Token::Newline)) {
                cursor.at += 1;
            }
            let ended = self.ended;
            status = self.command(cursor);
            // `exec` in a pipeline ends that part alone.
            self.ended = ended;
        }
        match (status, negated) {
            (Status::True, true) => Status::False,
            (Status::False, true) => Status::True,
            (Status::Works, true) => Status::Unknown,
            (status, _) => status,
        }
    }

    fn command(&mut self, cursor: &mut Cursor) -> Status {
        let status = match cursor.peek() {
            Some(Token::Open) => self.parentheses(cursor),
            Some(Token::Word(word)) => match word.as_str() {
                "if" => self.branches(cursor),
                "case" => self.case(cursor),
                "while" | "until" => self.endless(cursor),
                "for" | "select" => self.each(cursor),
                "{" => {
                    cursor.at += 1;
                    let status = self.list(cursor);
                    cursor.take_word("}");
                    status
                }
                "[[" => self.brackets(cursor),
                "function" => self.function(cursor),
                _ => {
                    let defines = matches!(cursor.tokens.get(cursor.at + 1), Some(Token::Open))
                        && matches!(cursor.tokens.get(cursor.at + 2), Some(Token::Close));
                    if defines {
                        self.function(cursor)
                    } else {
                        return self.simple(cursor);
                    }
                }
            },
            Some(Token::Redirect(_)) => return self.simple(cursor),
            _ => {
                cursor.at += 1;
                return Status::Unknown;
            }
        };
        // `done < file`, `} > log`.
        while matches!(cursor.peek(), Some(Token::Redirect(_))) {
            cursor.at += 1;
        }
        status
    }

    /// `( … )`, a shell of its own; `(( … ))`, arithmetic.
    fn parentheses(&mut self, cursor: &mut Cursor) -> Status {
        cursor.at += 1;
        if matches!(cursor.peek(), Some(Token::Open)) {
            let mut open = 1_usize;
            while open > 0 {
                match cursor.next() {
                    Some(Token::Open) => open += 1,
                    Some(Token::Close) => open -= 1,
                    // What is counted there is not followed.
                    Some(Token::Word(word)) if self.runs() => {
                        let end = word
                            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                            .unwrap_or(word.len());
                        if is_identifier(&word[..end]) {
                            let mark = self.one(Place::new("a calculation of the start script"));
                            self.env.set(&word[..end], mark);
                        }
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            return Status::Unknown;
        }
        let before = (self.env.clone(), self.ended);
        let status = self.list(cursor);
        if matches!(cursor.peek(), Some(Token::Close)) {
            cursor.at += 1;
        }
        (self.env, self.ended) = before;
        status
    }

    /// `[[ … ]]`.
    fn brackets(&mut self, cursor: &mut Cursor) -> Status {
        cursor.at += 1;
        let mut words = Vec::new();
        let mut known = true;
        loop {
            match cursor.next() {
                None => break,
                Some(Token::Word(word)) if word == "]]" => break,
                Some(Token::Word(word)) => {
                    known &= word != "=~";
                    // Nothing is split here.
                    words.push(self.text(&word));
                }
                Some(Token::And) => words.push("&&".into()),
                Some(Token::Or) => words.push("||".into()),
                Some(Token::Newline) => {}
                Some(_) => known = false,
            }
        }
        if known { test::of(&words) } else { Status::Unknown }
    }

    fn branches(&mut self, cursor: &mut Cursor) -> Status {
        let choice = self.choice();
        let before = (self.env.clone(), self.ended);
        let mut ways: Vec<Env> = Vec::new();
        let mut all_end = true;
        let mut way = 0;
        // The way is certain so far, and whether one was taken for certain.
        let mut taken = false;
        let mut otherwise = true;
        cursor.at += 1;
        loop {
            if taken {
                self.skipping += 1;
            }
            let asked = self.list(cursor);
            if taken {
                self.skipping -= 1;
            }
            cursor.take_word("then");
            let skips = taken || asked == Status::False;
            way += 1;
            let at_test = self.env.clone();
            self.way(cursor, choice, way, skips);
            if !skips {
                if !self.ended || before.1 {
                    ways.push(self.env.clone());
                    all_end = false;
                }
                taken |= asked == Status::True;
            }
            self.env = at_test;
            self.ended = before.1;
            if cursor.take_word("elif") {
                continue;
            }
            if cursor.take_word("else") {
                way += 1;
                self.way(cursor, choice, way, taken);
                if !taken {
                    if !self.ended || before.1 {
                        ways.push(self.env.clone());
                        all_end = false;
                    }
                    otherwise = false;
                }
                self.ended = before.1;
            }
            cursor.take_word("fi");
            break;
        }
        if otherwise && !taken {
            ways.push(before.0.clone());
            all_end = false;
        }
        self.ended = before.1 || (all_end && self.skipping == 0);
        self.env = if ways.is_empty() { before.0 } else { self.merged(ways) };
        Status::Works
    }

    /// One branch.
    fn way(&mut self, cursor: &mut Cursor, choice: u32, way: u32, skips: bool) {
        self.skipping += usize::from(skips);
        self.branches.push((choice, way));
        self.list(cursor);
        self.branches.pop();
        self.skipping -= usize::from(skips);
    }

    fn case(&mut self, cursor: &mut Cursor) -> Status {
        cursor.at += 1;
        let subject = match cursor.next() {
            Some(Token::Word(word)) => self.text(&word),
            _ => return Status::Unknown,
        };
        cursor.blank_lines();
        cursor.take_word("in");
        let known = !unread::has(&subject);
        let choice = self.choice();
        let before = (self.env.clone(), self.ended);
        let mut ways: Vec<Env> = Vec::new();
        let (mut taken, mut any, mut way, mut all_end) = (false, false, 0, true);
        loop {
            cursor.blank_lines();
            while matches!(cursor.peek(), Some(Token::CaseEnd)) {
                cursor.at += 1;
                cursor.blank_lines();
            }
            if cursor.take_word("esac") || cursor.peek().is_none() {
                break;
            }
            if matches!(cursor.peek(), Some(Token::Open)) {
                cursor.at += 1;
            }
            let mut fitting = false;
            loop {
                match cursor.next() {
                    Some(Token::Word(pattern)) => {
                        let pattern = self.text(&pattern);
                        any |= pattern == "*";
                        fitting |= super::parameter::fits(&subject, &pattern);
                    }
                    Some(Token::Close) | None => break,
                    Some(_) => {}
                }
            }
            way += 1;
            let skips = known && (taken || !fitting);
            self.env = before.0.clone();
            self.ended = before.1;
            self.way(cursor, choice, way, skips);
            if !skips && (!self.ended || before.1) {
                ways.push(self.env.clone());
                all_end = false;
            }
            taken |= known && fitting;
        }
        if !(taken || any && !known) {
            ways.push(before.0.clone());
            all_end = false;
        }
        self.ended = before.1 || (all_end && way > 0 && self.skipping == 0);
        self.env = if ways.is_empty() { before.0 } else { self.merged(ways) };
        Status::Works
    }

    /// `while … do … done`: once round, and what changes on the way is not known behind it.
    fn endless(&mut self, cursor: &mut Cursor) -> Status {
        cursor.at += 1;
        let before = self.env.clone();
        self.looping += 1;
        self.list(cursor);
        cursor.take_word("do");
        let ended = self.ended;
        self.list(cursor);
        self.ended = ended;
        cursor.take_word("done");
        self.looping -= 1;
        self.settle(before);
        Status::Works
    }

    /// Behind a loop of unknown length: what it changes may be anything; a list keeps what it had.
    fn settle(&mut self, before: Env) {
        let after = std::mem::take(&mut self.env);
        let mut all = before.clone();
        for (name, value) in after.values {
            if before.values.get(&name) == Some(&value) {
                continue;
            }
            let place = Place::named(
                &name,
                format!("the variable {name}, which a loop of the start script sets"),
            );
            let settled = match (before.values.get(&name), value) {
                (Some(Value::List(had)), Value::List(now)) if now.starts_with(had) => {
                    Value::List(had.iter().cloned().chain([self.many(place)]).collect())
                }
                (Some(Value::Text(had)), Value::Text(now)) if now.starts_with(had.as_str()) => {
                    Value::Text(format!("{had} {}", self.many(place)))
                }
                (_, Value::List(_)) => Value::List(vec![self.many(place)]),
                _ => Value::Text(self.one(place)),
            };
            all.values.insert(name, settled);
        }
        all.open = after.open;
        all.params = if after.params == before.params {
            before.params
        } else {
            None
        };
        self.env = all;
    }

    /// `for X in …; do … done`; `for ((…))` is a loop of unknown length.
    fn each(&mut self, cursor: &mut Cursor) -> Status {
        cursor.at += 1;
        if matches!(cursor.peek(), Some(Token::Open)) {
            self.parentheses(cursor);
            cursor.blank_lines();
            cursor.take_word("do");
            return self.turns(cursor, None, &[]);
        }
        let Some(Token::Word(name)) = cursor.next() else {
            return Status::Unknown;
        };
        cursor.blank_lines();
        let mut raw = Vec::new();
        let mut of_params = true;
        if cursor.take_word("in") {
            of_params = false;
            while let Some(Token::Word(word)) = cursor.peek() {
                raw.push(word.clone());
                cursor.at += 1;
            }
        }
        cursor.blank_lines();
        cursor.take_word("do");
        let items: Vec<String> = if of_params {
            let params = self.env.params.clone();
            params.unwrap_or_else(|| vec![self.many(Place::new("the arguments of the start script"))])
        } else if self.runs() {
            raw.iter().flat_map(|w| self.expand(w)).collect()
        } else {
            Vec::new()
        };
        self.turns(cursor, Some(&name), &items)
    }

    /// The turns of a loop; behind it the cursor stands behind `done`.
    fn turns(&mut self, cursor: &mut Cursor, name: Option<&str>, items: &[String]) -> Status {
        let from = cursor.at;
        let known = name.is_some() && items.len() <= MAX_TURNS && !items.iter().any(|i| unread::has(i));
        let name = name.unwrap_or_default();
        if known && !items.is_empty() && self.runs() {
            for item in items {
                cursor.at = from;
                self.env.set(name, item.clone());
                self.list(cursor);
            }
        } else {
            let before = self.env.clone();
            self.looping += 1;
            // No turn at all, of a known list.
            let none = known && items.is_empty();
            self.skipping += usize::from(none);
            let mark = self.one(Place::named(name, "the start script, whose loop is of unknown length"));
            if is_identifier(name) && self.runs() {
                self.env.set(name, mark);
            }
            let ended = self.ended;
            self.list(cursor);
            self.ended = ended;
            self.skipping -= usize::from(none);
            self.looping -= 1;
            self.settle(before);
        }
        cursor.take_word("done");
        Status::Works
    }

    /// `name() { … }`, `function name { … }`: kept for when it is called.
    fn function(&mut self, cursor: &mut Cursor) -> Status {
        cursor.take_word("function");
        let Some(Token::Word(name)) = cursor.next() else {
            return Status::Unknown;
        };
        while matches!(cursor.peek(), Some(Token::Open | Token::Close | Token::Newline)) {
            cursor.at += 1;
        }
        let from = cursor.at;
        self.skipping += 1;
        self.command(cursor);
        self.skipping -= 1;
        if self.runs() {
            let body: Rc<[Token]> =
                cursor.tokens[from.min(cursor.tokens.len())..cursor.at.min(cursor.tokens.len())].into();
            self.functions.insert(name, body);
        }
        Status::Works
    }

    /// A function, with its arguments.
    pub(super) fn call(&mut self, body: Rc<[Token]>, params: &[String]) {
        if self.depth >= MAX_DEPTH {
            self.done.whole = false;
            return;
        }
        self.depth += 1;
        let own = self.env.params.replace(params.to_vec());
        let mut cursor = Cursor::new(body);
        // What a `return` ends is the function, if it was certain to be reached.
        let ended = self.ended;
        self.command(&mut cursor);
        self.ended = ended;
        self.env.params = own;
        self.depth -= 1;
    }
}
