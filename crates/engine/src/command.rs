//! Command lines as people write them: `$(VAR)`, `sh -c` scripts, two words in one list item.

use super::ContainerSpec;
use std::collections::BTreeMap;

/// Scripts longer than this are no launch commands; the rest is not read.
const MAX_SCRIPT: usize = 64 * 1024;
/// `sh -c` inside `eval` inside `sh -c`…
const MAX_DEPTH: usize = 4;

/// The simple commands that a container would run, each as words.
pub(crate) fn commands(spec: &ContainerSpec) -> Vec<Vec<String>> {
    let (env, words) = launch(spec);
    if let Some(script) = script_of(&words) {
        let mut out = Vec::new();
        run(script, &mut env.clone(), 0, &mut out);
        return out;
    }
    if let Some(script) = script_file(spec, &words) {
        let mut out = Vec::new();
        run(script, &mut env.clone(), 0, &mut out);
        return out;
    }
    vec![words.iter().flat_map(|w| split_item(w)).collect()]
}

/// The environment as far as it is known, and the command line with Kubernetes' own substitutions.
fn launch(spec: &ContainerSpec) -> (BTreeMap<String, String>, Vec<String>) {
    let env: BTreeMap<String, String> = spec
        .env
        .iter()
        .filter_map(|(k, v)| Some((k.clone(), v.clone()?)))
        .collect();
    let words = spec.command.iter().chain(&spec.args);
    let words = words.map(|w| substitute(w, &env)).collect();
    (env, words)
}

/// Files that the container's script writes before it starts a server: `cat > FILE <<EOF`, by path.
pub(crate) fn written(spec: &ContainerSpec) -> Vec<(String, String)> {
    let (env, words) = launch(spec);
    let Some(script) = script_of(&words).or_else(|| script_file(spec, &words)) else {
        return Vec::new();
    };
    let (_, files) = here_documents(script);
    let named = files.into_iter().map(|here| {
        let text = if here.literal {
            here.text
        } else {
            expand(&here.text, &env)
        };
        (expand(&here.path, &env), text)
    });
    named.collect()
}

struct Here {
    path: String,
    text: String,
    /// The shell leaves `$` alone in it.
    literal: bool,
}

/// A script without its here-documents, and those that go to a file. One without an end leaves the script as it is.
fn here_documents(script: &str) -> (String, Vec<Here>) {
    if !script.contains("<<") || script.len() > MAX_SCRIPT {
        return (script.to_string(), Vec::new());
    }
    let (mut rest, mut files) = (String::new(), Vec::new());
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        rest.push_str(line);
        rest.push('\n');
        let Some((before, after)) = line.split_once("<<").filter(|(_, a)| !a.starts_with('<')) else {
            continue;
        };
        let after = after.trim_start_matches('-').trim_start();
        let (word, behind) = after.split_at(after.find(|c: char| " \t;|&>)".contains(c)).unwrap_or(after.len()));
        let end = word.trim_matches(['\'', '"']);
        // "1 << 2" is no document.
        if !end.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            continue;
        }
        let mut text = String::new();
        loop {
            match lines.next() {
                Some(line) if line.trim() == end => break,
                Some(line) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None => return (script.to_string(), Vec::new()),
            }
        }
        let target = |part: &str| {
            let written = part.split_once('>').map(|(_, path)| path.trim_start_matches('>'));
            let teed = || Some(part.split_once("tee ")?.1);
            let path = written
                .or_else(teed)?
                .split_whitespace()
                .find(|w| !w.starts_with('-'))?;
            Some(path.trim_matches(['\'', '"']).to_string())
        };
        files.extend(target(behind).or_else(|| target(before)).map(|path| Here {
            path,
            text,
            literal: end != word,
        }));
    }
    (rest, files)
}

/// `bash /scripts/start.sh`, or the script alone, where its text is known.
#[expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "file names in a container are case-sensitive"
)]
fn script_file<'a>(spec: &'a ContainerSpec, words: &[String]) -> Option<&'a str> {
    let word = words
        .iter()
        .take(4)
        .find(|w| w.starts_with('/') && w.ends_with(".sh"))?;
    let (_, text) = spec.files.iter().find(|(path, _)| path == word)?;
    Some(text)
}

/// Kubernetes' own substitution: `$(VAR)`, `$$(VAR)` is literal; unknown variables stay as they are.
fn substitute(word: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let value = rest
            .strip_prefix("$(")
            .and_then(|r| r.split_once(')'))
            .and_then(|(name, after)| Some((env.get(name)?, after)));
        if let Some((value, after)) = value {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The script of `sh -c SCRIPT`, wherever the shell stands (after `tini --`, `env`).
fn script_of(words: &[String]) -> Option<&str> {
    let shell = words
        .iter()
        .position(|w| matches!(w.rsplit('/').next(), Some("sh" | "bash" | "dash" | "ash" | "zsh")))?;
    let mut reads = false;
    let mut rest = words[shell + 1..].iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            // Options end here; the next word is the script, or a file.
            "--" => return rest.next().filter(|_| reads).map(String::as_str),
            "-o" | "+o" => {
                rest.next();
            }
            option if option.starts_with(['-', '+']) => {
                reads |= !option.starts_with("--") && option.contains('c');
                // "-euo pipefail".
                if !option.starts_with("--") && option.ends_with('o') {
                    rest.next();
                }
            }
            script => return reads.then_some(script),
        }
    }
    None
}

/// A YAML list item that holds a flag and its value in one string.
fn split_item(item: &str) -> Vec<String> {
    let inner = item.trim();
    if inner.starts_with('-')
        && inner.contains(char::is_whitespace)
        && !inner.contains('{')
        && let Some(words) = shlex::split(inner)
    {
        return words;
    }
    vec![inner.to_string()]
}

/// Runs a script in the mind: assignments fill `env`, every other simple command is kept.
fn run(script: &str, env: &mut BTreeMap<String, String>, depth: usize, out: &mut Vec<Vec<String>>) {
    if depth >= MAX_DEPTH {
        return;
    }
    let end = script
        .char_indices()
        .map(|(i, _)| i)
        .take_while(|i| *i <= MAX_SCRIPT)
        .last()
        .unwrap_or(0);
    let script = if script.len() > MAX_SCRIPT {
        &script[..end]
    } else {
        script
    };
    let (script, _) = here_documents(script);
    for text in split_commands(&script) {
        let expanded = expand(&text, env);
        let Some(words) = shlex::split(&expanded) else { continue };
        let mut words = without_redirections(words);
        while let Some(first) = words.first() {
            if matches!(
                first.as_str(),
                "exec" | "then" | "do" | "else" | "{" | "(" | "!" | "command" | "nohup" | "export" | "time"
            ) {
                words.remove(0);
            } else if let Some((name, value)) = assignment(first) {
                env.insert(name, value);
                words.remove(0);
            } else {
                break;
            }
        }
        match words.first().map(String::as_str) {
            // They mention a server, they do not start one.
            None
            | Some(
                "echo" | "printf" | "cat" | "pip" | "pip3" | "ls" | "mkdir" | "pkill" | "which" | "grep" | "sleep"
                | "cd" | "set",
            ) => {}
            Some("eval") => run(&words[1..].join(" "), env, depth + 1, out),
            Some(_) => match script_of(&words).map(String::from) {
                Some(inner) => run(&inner, env, depth + 1, out),
                None => out.push(words),
            },
        }
    }
}

/// `> file`, `2>&1`, `>>log`: where output goes is no argument. `split_commands` leaves "2> 1" of "2>&1".
fn without_redirections(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        let after = word.trim_start_matches(|c: char| c.is_ascii_digit());
        match after.strip_prefix('>').or_else(|| after.strip_prefix('<')) {
            // The target is the next word.
            Some(rest) if rest.trim_start_matches(['>', '<', '-']).is_empty() => {
                words.next();
            }
            Some(_) => {}
            None => kept.push(word),
        }
    }
    kept
}

fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then(|| (name.to_string(), value.to_string()))
}

/// Splits at newlines, `;`, `&&`, `||`, `|` and `&` outside quotes; joins continued lines; drops comments.
fn split_commands(script: &str) -> Vec<String> {
    let script = script.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut out = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut chars = script.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        let current = out.last_mut();
        let Some(current) = current else { break };
        match (quote, c) {
            (Some(q), c) if c == q => {
                quote = None;
                current.push(c);
            }
            (Some('"') | None, '\\') => {
                current.push(c);
                current.extend(chars.next());
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                current.push(c);
            }
            (None, '#') if previous.is_whitespace() => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            // "2>&1" and "&>" are redirections, not separators.
            (None, '&') if previous == '>' || chars.peek() == Some(&'>') => current.push(' '),
            (None, '\n' | ';' | '&' | '|') => out.push(String::new()),
            _ => current.push(c),
        }
        previous = c;
    }
    out.retain(|s| !s.trim().is_empty());
    out
}

/// `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:=default}` outside single quotes. An unknown variable without a
/// default becomes nothing, as in a shell; positional parameters too.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    let mut single = false;
    let mut double = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if !double => {
                single = !single;
                out.push(c);
            }
            '"' if !single => {
                double = !double;
                out.push(c);
            }
            '\\' if !single => {
                out.push(c);
                if let Some((_, next)) = chars.next() {
                    out.push(next);
                }
            }
            '$' if !single => {
                let (value, used) = variable(&text[at + 1..], env);
                out.push_str(&value);
                for _ in 0..used {
                    chars.next();
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// `((a * b))`: whole numbers, + - * / %, parentheses, variables. What cannot be worked out becomes nothing.
fn arithmetic(rest: &str, env: &BTreeMap<String, String>) -> Option<(String, usize)> {
    let inner = rest.strip_prefix("((")?;
    let end = inner.find("))")?;
    let text = expand(&inner[..end], env);
    let mut sum = Sum {
        rest: text.trim(),
        env,
        depth: 0,
    };
    let value = sum.terms().filter(|_| sum.rest.is_empty());
    let used = inner[..end].chars().count() + 4;
    Some((value.map(|v| v.to_string()).unwrap_or_default(), used))
}

struct Sum<'a> {
    rest: &'a str,
    env: &'a BTreeMap<String, String>,
    depth: usize,
}

impl Sum<'_> {
    fn operator(&mut self, of: &[char]) -> Option<char> {
        let first = self.rest.chars().next().filter(|c| of.contains(c))?;
        self.rest = self.rest[1..].trim_start();
        Some(first)
    }

    fn terms(&mut self) -> Option<i64> {
        let mut value = self.factors()?;
        while let Some(operator) = self.operator(&['+', '-']) {
            let right = self.factors()?;
            value = if operator == '+' {
                value.checked_add(right)?
            } else {
                value.checked_sub(right)?
            };
        }
        Some(value)
    }

    fn factors(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        while let Some(operator) = self.operator(&['*', '/', '%']) {
            let right = self.atom()?;
            value = match operator {
                '*' => value.checked_mul(right)?,
                '/' => value.checked_div(right)?,
                _ => value.checked_rem(right)?,
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > 64 {
            return None;
        }
        if self.operator(&['(']).is_some() {
            let value = self.terms()?;
            return self.operator(&[')']).map(|_| value);
        }
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let known = || self.env.get(word)?.trim().parse().ok();
        word.parse().ok().or_else(known)
    }
}

/// The value of what follows a `$`, and how many characters it took.
fn variable(rest: &str, env: &BTreeMap<String, String>) -> (String, usize) {
    if let Some(inner) = rest.strip_prefix('{') {
        let Some(end) = inner.find('}') else {
            return ("$".into(), 0);
        };
        let body = &inner[..end];
        let used = body.chars().count() + 2;
        let name_end = body
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(body.len());
        let (name, operator) = body.split_at(name_end);
        let default = [":-", ":=", "-", "="].iter().find_map(|o| operator.strip_prefix(o));
        let value = env.get(name).filter(|v| !v.is_empty()).cloned();
        return (value.or_else(|| default.map(String::from)).unwrap_or_default(), used);
    }
    if let Some((value, used)) = arithmetic(rest, env) {
        return (value, used);
    }
    if rest.starts_with('(') {
        return ("$".into(), 0);
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    if end == 0 {
        return match rest.chars().next() {
            Some('@' | '*' | '#' | '?') => (String::new(), 1),
            _ => ("$".into(), 0),
        };
    }
    (env.get(&rest[..end]).cloned().unwrap_or_default(), end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(command: &[&str], args: &[&str], env: &[(&str, &str)]) -> Vec<Vec<String>> {
        commands(&ContainerSpec {
            command: command.iter().map(ToString::to_string).collect(),
            args: args.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(k, v)| ((*k).into(), Some((*v).into()))).collect(),
            ..ContainerSpec::default()
        })
    }

    #[test]
    fn shell_arithmetic_is_worked_out() {
        let env: BTreeMap<String, String> = [("A", "2"), ("B", "8")].map(|(k, v)| (k.into(), v.into())).into();
        for (text, value) in [
            ("--dp $((A * B))", "--dp 16"),
            ("$(( ${X:-3} * (A + B) - 1 ))", "29"),
            ("$((B/A%3))", "1"),
            ("$((UNKNOWN * 2))x", "x"),
            ("$((1/0))", ""),
            ("$((9223372036854775807 + 1))", ""),
            ("$(date)", "$(date)"),
            ("$((1", "$((1"),
        ] {
            assert_eq!(expand(text, &env), value, "{text}");
        }
        assert_eq!(expand(&format!("$(({}1))", "(".repeat(5000)), &env), "");
    }

    #[test]
    fn kubernetes_variables_are_substituted() {
        assert_eq!(
            of(&["vllm", "serve"], &["$(M)", "--x=$(NO)", "$$(M)"], &[("M", "a/b")]),
            [["vllm", "serve", "a/b", "--x=$(NO)", "$(M)"]]
        );
    }

    #[test]
    fn scripts_are_taken_apart() {
        let script = "set -e  # strict\nexport TP=${TP:-4}\npip list | grep x && \\\n exec vllm serve \"$MODEL\" \\\n --tensor-parallel-size $TP --name 'a;b' 2>&1";
        let found = of(&["/bin/bash", "-lc"], &[script], &[("MODEL", "org/m")]);
        let serve = found.iter().find(|w| w[0] == "vllm").unwrap();
        assert_eq!(
            serve[..6],
            ["vllm", "serve", "org/m", "--tensor-parallel-size", "4", "--name"]
        );
        assert_eq!(serve[6], "a;b");
    }

    #[test]
    fn files_that_a_script_writes_are_known_and_are_no_commands() {
        let script = "cat <<EOF > /tmp/a.yml\ntensor_parallel_size: ${TP}\nvllm serve wrong\nEOF\ncat > \"/tmp/b.yml\" << 'END'\nx: $TP\nEND\ntee /tmp/c.yml <<-EOT >/dev/null\n\ty: 1\n\tEOT\nx=$((1 << 2)); cat <<< here\ntrtllm-serve o/m --config /tmp/a.yml\n";
        let spec = ContainerSpec {
            command: ["bash", "-c", script].map(String::from).to_vec(),
            env: vec![("TP".into(), Some("4".into()))],
            ..ContainerSpec::default()
        };
        let files = written(&spec);
        let text = |path: &str| files.iter().find(|(p, _)| p == path).map(|(_, t)| t.as_str());
        assert_eq!(text("/tmp/a.yml"), Some("tensor_parallel_size: 4\nvllm serve wrong\n"));
        assert_eq!(text("/tmp/b.yml"), Some("x: $TP\n"));
        let found = commands(&spec);
        assert!(found.iter().any(|w| w[0] == "trtllm-serve"), "{found:?}");
        assert!(!found.iter().any(|w| w[0] == "vllm"), "{found:?}");
        let endless = of(&["sh", "-c", "cat <<EOF > /x\nvllm serve o/m\n"], &[], &[]);
        assert!(
            endless.iter().any(|w| w[0] == "vllm"),
            "no end: what is not understood is read as it stands"
        );
    }

    #[test]
    fn the_script_of_a_shell_is_found_behind_its_options() {
        for shell in [
            &["bash", "-lc", "--"][..],
            &["/bin/sh", "-c"],
            &["tini", "--", "bash", "-c", "-e"],
            &["bash", "-euo", "pipefail", "-c"],
            &["bash", "-o", "pipefail", "-c"],
        ] {
            let command = [shell, &["vllm serve o/m"]].concat();
            assert_eq!(of(&command, &[], &[]), [["vllm", "serve", "o/m"]], "{shell:?}");
        }
        assert_eq!(of(&["bash", "--", "start.sh"], &[], &[]), [["bash", "--", "start.sh"]]);
    }

    #[test]
    fn eval_and_nested_shells_are_followed_to_a_bound() {
        let found = of(
            &["sh", "-c", "eval \"vllm serve /mnt/models ${ARGS}\""],
            &[],
            &[("ARGS", "--max-model-len 8k")],
        );
        assert_eq!(found, [["vllm", "serve", "/mnt/models", "--max-model-len", "8k"]]);
        let mut script = "vllm serve x".to_string();
        for _ in 0..20 {
            script = format!("eval '{}'", script.replace('\'', ""));
        }
        assert!(of(&["sh", "-c", &script], &[], &[]).len() <= 1);
    }

    #[test]
    fn two_words_in_one_item_are_two_words() {
        assert_eq!(
            of(&[], &["--model a/b", "--x", "two words"], &[]),
            [["--model", "a/b", "--x", "two words"]]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(script in "\\PC{0,200}", value in "\\PC{0,20}") {
            let _ = of(&["sh", "-c", &script], &[], &[("X", &value)]);
            let _ = of(&[&script], &[&value], &[("X", &value)]);
        }

        #[test]
        fn quoting_a_word_changes_nothing(word in "[a-zA-Z0-9/._=-]{1,20}") {
            let plain = of(&["sh", "-c", &format!("vllm serve x{word}")], &[], &[]);
            let single = of(&["sh", "-c", &format!("vllm serve 'x{word}'")], &[], &[]);
            let double = of(&["sh", "-c", &format!("vllm \\\n  serve \"x{word}\"")], &[], &[]);
            prop_assert_eq!(&plain, &single);
            prop_assert_eq!(&plain, &double);
        }
    }
}
