//! Texts that are to be rendered before they are manifests: Helm's, and placeholders of other tools.

use serde_json::Value;

/// The line of the first Helm directive. KServe's own templates (`{{ .Spec… }}` in a string) are valid YAML and stay.
pub(super) fn helm(text: &str) -> Option<u64> {
    const WORDS: &[&str] = &[
        ".Values",
        ".Release",
        ".Chart",
        "include ",
        "template ",
        "define ",
        ".Files",
        ".Capabilities",
    ];
    if !text.contains("{{") {
        return None;
    }
    text.lines()
        .position(|line| {
            line.match_indices("{{").any(|(at, _)| {
                let rest = &line[at + 2..];
                let inner = rest.split("}}").next().unwrap_or(rest);
                WORDS.iter().any(|w| inner.contains(w))
            })
        })
        .map(|at| at as u64 + 1)
}

/// The parameters of an OpenShift Template that have a value; the others are filled in by whoever processes it.
pub(super) fn parameters(template: &Value) -> Vec<(String, String)> {
    let all = template["parameters"].as_array().into_iter().flatten();
    let named = all.filter_map(|p| Some((p["name"].as_str()?.to_string(), p["value"].as_str()?.to_string())));
    named.collect()
}

/// Objects nest some ten levels deep.
const MAX_DEPTH: usize = 48;

/// Fills parameters in: `${NAME}` in a text, and `${{NAME}}` alone, which is what its value is as JSON.
pub(super) fn fill(value: &mut Value, parameters: &[(String, String)], depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::String(text) if text.contains("${") => {
            for (name, given) in parameters {
                if *text == format!("${{{{{name}}}}}") {
                    let parsed = serde_json::from_str(given);
                    *value = parsed.unwrap_or_else(|_| Value::String(given.clone()));
                    return;
                }
                *text = text.replace(&format!("${{{name}}}"), given);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| fill(v, parameters, depth + 1)),
        Value::Object(map) => map.values_mut().for_each(|v| fill(v, parameters, depth + 1)),
        _ => {}
    }
}

/// The documents of a text, each with the number of lines before it. Three dashes at the beginning of a line begin one,
/// whatever the last one left open (YAML 1.2, 9.1.2).
pub(super) fn documents(text: &str) -> Vec<(u64, &str)> {
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let marks = content
            .strip_prefix("---")
            .is_some_and(|r| r.is_empty() || r.starts_with(char::is_whitespace));
        if marks && at > 0 {
            starts.push((line as u64, at));
        }
        at += content.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]).collect();
    let parts = starts
        .into_iter()
        .zip(ends)
        .map(|((line, from), to)| (line, &text[from..to]));
    let says = |part: &str| {
        part.lines()
            .map(str::trim)
            .any(|l| !l.is_empty() && !l.starts_with(['#', '%']) && l != "---" && l != "...")
    };
    parts.filter(|(_, part)| says(part)).collect()
}

/// Words of templates that make text come and go.
const BRANCHES: &[&str] = &[
    "if", "else", "end", "range", "with", "define", "block", "template", "include",
];

/// The text with `$(name)` for each placeholder that YAML takes for something else: `{{ x }}`, `${x}` in braces, `@X@`,
/// `%X%`. `None`: there is none, or it has branches of its own (`{{ if }}`, `{% for %}`), of which nobody knows which hold.
pub(super) fn without_placeholders(text: &str) -> Option<String> {
    if text.contains("{%") {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while !rest.is_empty() {
        let Some((length, name)) = placeholder(rest) else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        };
        let word = name
            .trim_matches(['-', ' '])
            .split_whitespace()
            .next()
            .unwrap_or_default();
        if BRANCHES.contains(&word) {
            return None;
        }
        found = true;
        let name: String = word
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
            .collect();
        out.push_str("$(");
        out.push_str(if name.is_empty() { "_" } else { &name });
        out.push(')');
        rest = &rest[length..];
    }
    found.then_some(out)
}

/// The placeholder that `text` begins with: its length and what stands inside.
fn placeholder(text: &str) -> Option<(usize, &str)> {
    let closed = |open: &str, close: &str| {
        let inner = text.strip_prefix(open)?;
        let end = inner.find(close).filter(|end| *end > 0 && *end < 200)?;
        let name = &inner[..end];
        (!name.contains('\n')).then_some((open.len() + end + close.len(), name))
    };
    let plain = |found: &(usize, &str)| {
        found.1.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && found.1.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.as_bytes().first()? {
        b'{' => closed("{{", "}}"),
        b'$' => closed("${", "}").and_then(|(length, inner)| {
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &inner[..end.unwrap_or(inner.len())];
            (!name.is_empty()).then_some((length, name))
        }),
        b'@' => closed("@", "@").filter(plain),
        b'%' => closed("%", "%").filter(plain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_their_marks() {
        let text = "a: 1\n---\nb: |\n  ---\n  x\n--- # c\nd: 2\n---x: 3\n";
        assert_eq!(
            documents(text),
            [
                (0, "a: 1\n"),
                (1, "---\nb: |\n  ---\n  x\n"),
                (5, "--- # c\nd: 2\n---x: 3\n")
            ]
        );
        assert_eq!(documents("---\n# only\n---\na: 1"), [(2, "---\na: 1")]);
        assert_eq!(documents(""), []);
    }

    #[test]
    fn placeholders_become_references() {
        assert_eq!(
            without_placeholders("a: {{ x }}\nb: {c: ${N}}\nd: @D@\n").as_deref(),
            Some("a: $(x)\nb: {c: $(N)}\nd: $(D)\n")
        );
        assert_eq!(
            without_placeholders("a: {{ x | default(2) }}").as_deref(),
            Some("a: $(x)")
        );
        assert_eq!(without_placeholders("{a: ${X:-1}}").as_deref(), Some("{a: $(X)}"));
        for text in ["a: 1", "{{ if x }}\na: 1\n{{ end }}", "{% for a in b %}\na: 1", "a: $X"] {
            assert_eq!(without_placeholders(text), None, "{text}");
        }
    }
}
