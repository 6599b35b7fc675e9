//! Command lines as people write them: `$(VAR)`, `sh -c` scripts, two words in one list item, placeholders of templates.

use super::ContainerSpec;
use crate::shell::{self, Env, Ran};
use crate::unread::{self, Place, Places};
use std::collections::BTreeMap;

/// What a container starts.
#[derive(Debug, Default)]
pub(crate) struct Launch {
    /// Each simple command that would run, as words.
    pub(crate) ran: Vec<Ran>,
    /// Files that its script writes before it starts a server; `None`: it writes what nobody can know.
    pub(crate) files: BTreeMap<String, Option<String>>,
    /// The environment as far as it is known; marks stand for values that were not read.
    pub(crate) env: BTreeMap<String, String>,
    /// It starts a script, and all of it was understood.
    pub(crate) whole: bool,
}

/// What the container starts; `places` gets what of it could not be read.
pub(crate) fn launch(spec: &ContainerSpec, places: &Places) -> Launch {
    let env = environment(spec, places);
    let words: Vec<String> = spec
        .command
        .iter()
        .chain(&spec.args)
        .map(|w| substitute(w, &env))
        .collect();
    if words.iter().take(12).any(|w| shell::is_shell(w)) || !spec.files.is_empty() {
        let file = |path: &str| spec.files.iter().find(|(p, _)| p == path).map(|(_, text)| text.clone());
        if let Some((text, name, params)) = shell::nested(&words, file).and_then(|n| Some((n.text?, n.name, n.params)))
        {
            let mut shell_env = Env::new(spec.open_place(), name, params);
            for (name, value) in &env {
                shell_env.set(name, value.clone());
            }
            let text = mark_templates(&text, places);
            let done = shell::run(&text, shell_env, &spec.files, places);
            let mut ran = done.ran;
            for command in &mut ran {
                for word in &mut command.words {
                    mark(word, places);
                }
            }
            return Launch {
                ran,
                files: done.files,
                env,
                whole: done.whole,
            };
        }
    }
    let mut words: Vec<String> = words.iter().flat_map(|w| split_item(w)).collect();
    for word in &mut words {
        mark(word, places);
    }
    Launch {
        ran: vec![Ran::of(words)],
        files: BTreeMap::new(),
        env,
        whole: true,
    }
}

fn mark(word: &mut String, places: &Places) {
    if let std::borrow::Cow::Owned(marked) = unread::mark_placeholders(word, places) {
        *word = marked;
    }
}

/// The variables in order, each with those before it filled in, as Kubernetes does; a mark where one was not read.
fn environment(spec: &ContainerSpec, places: &Places) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in &spec.env {
        let value = match value {
            Some(value) => {
                let mut value = substitute(value, &env);
                mark(&mut value, places);
                value
            }
            None => places.one(Place::named(name, spec.place_of(name))).to_string(),
        };
        env.insert(name.clone(), value);
    }
    // KubeRay sets it in each of its containers: it starts Ray, and no server.
    env.entry("KUBERAY_GEN_RAY_START_CMD".into())
        .or_insert_with(|| "ray start".into());
    env
}

/// `{{ … }}` in a script, before the shell's own brackets are looked at.
fn mark_templates(script: &str, places: &Places) -> String {
    let mut out = String::with_capacity(script.len());
    let mut rest = script;
    while let Some(at) = rest.find("{{") {
        let (before, inner) = rest.split_at(at);
        out.push_str(before);
        let end = inner.find("}}").filter(|end| !inner[..*end].contains('\n'));
        match end {
            Some(end) if !inner[2..end].contains(['{', ':', '"']) || inner[2..].trim_start().starts_with('.') => {
                let whole = &inner[..end + 2];
                out.push_str(&unread::unquoted(&unread::mark_placeholders(whole, places)));
                rest = &inner[end + 2..];
            }
            _ => {
                out.push_str("{{");
                rest = &inner[2..];
            }
        }
    }
    out.push_str(rest);
    out
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(command: &[&str], args: &[&str], env: &[(&str, &str)]) -> ContainerSpec {
        ContainerSpec {
            command: command.iter().map(ToString::to_string).collect(),
            args: args.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(k, v)| ((*k).into(), Some((*v).into()))).collect(),
            ..ContainerSpec::default()
        }
    }

    fn of(command: &[&str], args: &[&str], env: &[(&str, &str)]) -> Vec<Vec<String>> {
        let launch = launch(&spec(command, args, env), &Places::default());
        launch.ran.into_iter().map(|r| r.words).collect()
    }

    #[test]
    fn kubernetes_variables_are_substituted() {
        let found = of(
            &["vllm", "serve"],
            &["$(M)", "--x=$(NO)", "$$(M)", "$(N)"],
            &[("M", "a/b"), ("N", "n-$(M)")],
        );
        assert_eq!(found[0][..3], ["vllm", "serve", "a/b"]);
        assert!(unread::has(&found[0][3]), "nothing sets it");
        assert_eq!(found[0][5], "n-a/b", "a variable in a variable");
    }

    #[test]
    fn scripts_are_taken_apart() {
        let script = "set -e  # strict\nexport TP=${TP:-4}\npip list | grep x && \\\n exec vllm serve \"$MODEL\" \\\n --tensor-parallel-size $TP --name 'a;b' 2>&1";
        let found = of(&["/bin/bash", "-lc"], &[script], &[("MODEL", "org/m")]);
        let serve = found.iter().find(|w| w[0] == "vllm").unwrap();
        assert_eq!(
            serve[..],
            ["vllm", "serve", "org/m", "--tensor-parallel-size", "4", "--name", "a;b"]
        );
    }

    #[test]
    fn files_that_a_script_writes_are_known_and_are_no_commands() {
        let script = "cat <<EOF > /tmp/a.yml\ntensor_parallel_size: ${TP}\nvllm serve wrong\nEOF\ncat > \"/tmp/b.yml\" << 'END'\nx: $TP\nEND\ntee /tmp/c.yml <<-EOT >/dev/null\n\ty: 1\n\tEOT\nx=$((1 << 2)); cat <<< here\necho \"z: $TP\" >> /tmp/c.yml\ncp /tmp/c.yml /tmp/d.yml\nsed -i s/a/b/ /tmp/b.yml\ntrtllm-serve o/m --config /tmp/a.yml\n";
        let spec = spec(&["bash", "-c", script], &[], &[("TP", "4")]);
        let launch = launch(&spec, &Places::default());
        let text = |path: &str| launch.files.get(path).cloned().unwrap();
        assert_eq!(
            text("/tmp/a.yml").as_deref(),
            Some("tensor_parallel_size: 4\nvllm serve wrong\n")
        );
        assert_eq!(text("/tmp/c.yml").as_deref(), Some("y: 1\nz: 4\n"));
        assert_eq!(text("/tmp/d.yml").as_deref(), Some("y: 1\nz: 4\n"));
        assert_eq!(text("/tmp/b.yml"), None, "sed changes it");
        assert!(launch.ran.iter().any(|r| r.words[0] == "trtllm-serve"), "{launch:?}");
        assert!(!launch.ran.iter().any(|r| r.words[0] == "vllm"), "{launch:?}");
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
    fn a_script_gets_the_words_behind_it() {
        for (command, args) in [
            (
                &["sh", "-c", "exec vllm serve \"$@\"", "--"][..],
                &["o/m", "-tp", "4"][..],
            ),
            (&["sh", "-c", "exec vllm serve $1 -tp ${2}", "x"], &["o/m", "4"]),
            (
                &["sh", "-c", "M=$1; shift; exec vllm serve $M \"${@}\"", "x"],
                &["o/m", "-tp", "4"],
            ),
        ] {
            assert_eq!(
                of(command, args, &[]),
                [["vllm", "serve", "o/m", "-tp", "4"]],
                "{command:?}"
            );
        }
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
        fn quoting_a_word_changes_nothing(word in "[a-zA-Z0-9/.=-]{1,20}") {
            let plain = of(&["sh", "-c", &format!("vllm serve x{word}")], &[], &[]);
            let single = of(&["sh", "-c", &format!("vllm serve 'x{word}'")], &[], &[]);
            let double = of(&["sh", "-c", &format!("vllm \\\n  serve \"x{word}\"")], &[], &[]);
            prop_assert_eq!(&plain, &single);
            prop_assert_eq!(&plain, &double);
        }
    }
}
