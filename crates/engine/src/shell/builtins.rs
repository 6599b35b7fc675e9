//! What the shell does itself, and programs that start others or write files.

use super::simple::Simple;
use super::{Shell, Status, Value, is_identifier, test};
use crate::unread::{self, Place};

/// Programs of which nothing that is served comes; some of them mention a server.
const QUIET: &[&str] = &[
    "pip",
    "pip3",
    "ls",
    "mkdir",
    "pkill",
    "which",
    "sleep",
    "cd",
    "wait",
    "trap",
    "ulimit",
    "apt-get",
    "apt",
    "chmod",
    "chown",
    "rm",
    "ln",
    "nvidia-smi",
    "git",
    "huggingface-cli",
    "hf",
    "curl",
    "wget",
    "date",
    "hostname",
    "kill",
    "touch",
    "find",
    "shopt",
    "pushd",
    "popd",
    "umask",
    "tail",
    "head",
    "ps",
    "df",
    "free",
    "env_vars",
    "alias",
    "let",
    "type",
    "hash",
    "jobs",
    "disown",
];

/// Programs that run what follows them, without options of their own.
const PREFIXES: &[&str] = &["exec", "command", "builtin", "nohup", "time", "setsid", "noglob"];

/// Files that set up a shell, not a server.
const SET_UPS: &[&str] = &[
    "/activate",
    ".bashrc",
    ".profile",
    ".bash_profile",
    "conda.sh",
    "setvars.sh",
    "nvm.sh",
    "/etc/environment",
    ".cargo/env",
];

impl Shell<'_> {
    /// `None`: it is a program. `written`: where its output goes.
    pub(super) fn builtin(
        &mut self,
        simple: &mut Simple,
        name: &str,
        written: Option<&(String, bool)>,
    ) -> Option<Status> {
        if PREFIXES.contains(&name) && simple.words.len() > 1 {
            return Some(self.prefixed(simple, name));
        }
        let words = &simple.words;
        match name {
            "exit" | "return" => {
                self.ended = true;
                Some(Status::Works)
            }
            "exec" | "true" | ":" | "break" | "continue" => Some(Status::True),
            "false" => Some(Status::False),
            "test" | "[" => {
                let inner = words[1..].strip_suffix(&["]".to_string()]).unwrap_or(&words[1..]);
                Some(test::of(inner))
            }
            "grep" | "egrep" | "diff" | "cmp" | "pgrep" => Some(Status::Unknown),
            "set" => {
                if let Some(at) = words.iter().position(|w| w == "--") {
                    self.env.params = Some(words[at + 1..].to_vec());
                }
                Some(Status::Works)
            }
            "shift" => {
                let by = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(1);
                if let Some(params) = &mut self.env.params {
                    params.drain(..params.len().min(by));
                }
                Some(Status::Works)
            }
            "unset" => {
                for name in words[1..].iter().filter(|w| is_identifier(w)) {
                    self.env.set(name, String::new());
                }
                Some(Status::Works)
            }
            "read" | "mapfile" | "readarray" | "getopts" => {
                self.read(name, &words[1..]);
                Some(Status::Unknown)
            }
            "source" | "." => {
                let path = words.get(1).cloned().unwrap_or_default();
                self.source(&path, words.get(2..).unwrap_or_default());
                Some(Status::Works)
            }
            "eval" => {
                let text = unread::unquoted(&words[1..].join(" "));
                if unread::has(words.get(1).map_or("", String::as_str)) {
                    // Nobody knows what is run.
                    let place = self.places.of(&text).unwrap_or_else(|| Place::new("the start script"));
                    self.forget(place);
                    self.done.whole = false;
                }
                self.script(&text);
                Some(Status::Works)
            }
            "echo" | "printf" | "cat" | "tee" | "cp" | "mv" | "envsubst" | "sed" | "awk" | "jq" | "yq" => {
                self.writer(simple, name, written);
                Some(Status::Works)
            }
            _ if QUIET.contains(&name) => {
                if let Some((path, _)) = written {
                    self.files.insert(path.clone(), None);
                }
                Some(Status::Works)
            }
            _ => None,
        }
    }

    /// `exec program`: what follows is not reached.
    fn prefixed(&mut self, simple: &mut Simple, name: &str) -> Status {
        simple.words.remove(0);
        while simple.words.first().is_some_and(|w| w.starts_with('-')) {
            // `exec -a NAME`.
            let takes = simple.words[0].ends_with('a') && name == "exec";
            simple.words.drain(..(1 + usize::from(takes)).min(simple.words.len()));
        }
        if name == "command" && simple.words.is_empty() {
            return Status::Unknown;
        }
        let simple = Simple {
            words: std::mem::take(&mut simple.words),
            env: std::mem::take(&mut simple.env),
            redirects: std::mem::take(&mut simple.redirects),
        };
        let status = self.command_of(simple);
        self.ended |= name == "exec";
        status
    }

    /// `read -r A B`, `mapfile -t A`: what comes in is not known.
    fn read(&mut self, name: &str, words: &[String]) {
        let array = name != "read";
        let mut names: Vec<&String> = Vec::new();
        let mut rest = words.iter();
        let mut into_array = array;
        while let Some(word) = rest.next() {
            match word.as_str() {
                "-a" => into_array = true,
                "-d" | "-n" | "-N" | "-p" | "-t" | "-u" if !array => {
                    rest.next();
                }
                option if option.starts_with('-') => {}
                _ => names.push(word),
            }
        }
        for name in names.into_iter().filter(|n| is_identifier(n)) {
            let place = Place::named(name, "what the start script reads");
            let value = if into_array {
                Value::List(vec![self.many(place)])
            } else {
                Value::Text(self.one(place))
            };
            self.env.values.insert(name.clone(), value);
        }
    }

    /// `source FILE`: its variables are the script's.
    fn source(&mut self, path: &str, params: &[String]) {
        if let Some(text) = self.files.get(path).cloned().flatten() {
            let own = self.env.params.clone();
            if !params.is_empty() {
                self.env.params = Some(params.to_vec());
            }
            self.script(&text);
            self.env.params = own;
            return;
        }
        if !SET_UPS.iter().any(|s| path.ends_with(s)) && !path.starts_with("/etc/profile") {
            self.forget(Place::new("a file that the start script includes"));
        }
    }

    /// What writes files: `cat > FILE <<EOF`, `echo text >> FILE`, `cp A B`.
    fn writer(&mut self, simple: &Simple, name: &str, written: Option<&(String, bool)>) {
        let words: Vec<&String> = simple.words[1..].iter().filter(|w| !w.starts_with('-')).collect();
        if let ("cp" | "mv", [from, to]) = (name, &words[..]) {
            let text = self.files.get(*from).cloned().flatten();
            // Into a folder: under its own name.
            let own = from.rsplit('/').next().unwrap_or(from);
            let to = if to.ends_with('/') {
                format!("{to}{own}")
            } else {
                (*to).clone()
            };
            self.files.insert(to, text);
            return;
        }
        let reads = self.text_read(simple);
        let text = match (name, &words[..]) {
            ("echo", _) => {
                let words = simple.words[1..].iter().filter(|w| !matches!(w.as_str(), "-e" | "-n"));
                Some(words.cloned().collect::<Vec<_>>().join(" ") + "\n")
            }
            ("cat", [path]) if reads.is_none() => self.files.get(*path).cloned().flatten(),
            ("cat" | "tee", _) => reads,
            _ => None,
        };
        let mut targets: Vec<(String, bool)> = written.cloned().into_iter().collect();
        if name == "tee" {
            let adds = simple.words.iter().any(|w| w == "-a");
            targets = words.iter().map(|w| ((*w).clone(), adds)).collect();
        }
        // `sed -i … FILE`.
        if matches!(name, "sed" | "yq") && simple.words.iter().any(|w| w.starts_with("-i")) {
            targets.extend(words.last().map(|w| ((*w).clone(), false)));
        }
        for (path, adds) in targets {
            let text = match (adds, self.files.get(&path)) {
                (true, Some(before)) => before.clone().zip(text.clone()).map(|(a, b)| a + &b),
                _ => text.clone(),
            };
            if self.affordable(text.as_ref().map_or(0, String::len)) {
                self.files.insert(path, text);
            }
        }
    }
}
