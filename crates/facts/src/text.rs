//! Text that somebody else wrote, on its way out: without what steers a terminal or a log's reader, and without secrets.

/// Characters that nobody sees, or that turn the direction of what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'
            | '\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Steers a terminal, hides text, or cannot be held by XML.
pub fn is_harmful(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Text for people: no control, bidirectional or invisible characters (line breaks and tabs become spaces), and no command of a
/// CI system's log ("::error::", "##[add-mask]", "##vso[").
pub fn harmless(text: &str) -> String {
    let shown: String = text
        .chars()
        .filter_map(|c| match c {
            '\n' | '\t' | '\r' => Some(' '),
            c if is_harmful(c) => None,
            c => Some(c),
        })
        .collect();
    no_log_commands(&shown)
}

/// GitHub's runner reads a line that begins with `::word` as a command, and `##[word]` anywhere; Azure's and TeamCity's read
/// `##word[`. Where lines break is the reader's affair, so no word may begin so.
fn no_log_commands(text: &str) -> String {
    if !text.contains("::") && !text.contains("##") {
        return text.into();
    }
    let mut all = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        all.push(c);
        let starts_command = c == ':' && before.is_whitespace() || c == '#';
        if starts_command && rest.peek() == Some(&c) {
            all.push(' ');
        }
        before = c;
    }
    all
}

/// One line of an error or a message on stderr: our own line breaks stay, what is in them is harmless and holds no secret.
pub fn message(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let indent = line.len() - line.trim_start_matches(' ').len();
            format!("{}{}", &line[..indent], harmless(&without_secrets(&line[indent..])))
        })
        .collect();
    lines.join("\n")
}

/// Tokens by the prefixes that their issuers gave them to be found by (GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS, JWT).
const TOKENS: &[&str] = &[
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "sk-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "eyJ",
    "ya29.",
    "nvapi-",
];
/// Shorter words are names.
const TOKEN: usize = 20;
const RANDOM: usize = 32;
const GONE: &str = "…";

/// Text without URLs' users, passwords, queries and secret path parts, without what follows "Bearer" or "Basic", and
/// without tokens known by their prefix.
pub fn without_secrets(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut hide_next = false;
    for piece in text.split_inclusive(is_break) {
        let end = piece
            .char_indices()
            .next_back()
            .filter(|(_, c)| is_break(*c))
            .map_or(piece.len(), |(i, _)| i);
        let (word, tail) = piece.split_at(end);
        let bare = word.trim_end_matches(':');
        if hide_next && bare.len() >= 4 {
            all.push_str(GONE);
        } else {
            all.push_str(&of_word(word));
        }
        // "Authorization: Bearer x": the scheme is shown, what follows it is not.
        let scheme = ["bearer", "basic"].iter().any(|s| bare.eq_ignore_ascii_case(s));
        hide_next = (scheme && !tail.is_empty() && tail.trim().is_empty()) || (hide_next && word.is_empty());
        all.push_str(tail);
    }
    all
}

fn is_break(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\'' | '"' | '<' | '>' | '`')
}

fn of_word(word: &str) -> String {
    if let Some((before, after)) = word.split_once("://") {
        let start = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        if !before[start..].is_empty() {
            return format!("{}{}://{}", &before[..start], &before[start..], of_url(after));
        }
    }
    // "user:password@host" without a scheme.
    if let Some((user, host)) = word.rsplit_once('@')
        && user.contains(':')
        && !user.contains('/')
    {
        return host.to_string();
    }
    word.split_inclusive(['=', '@', '/', ':', ','])
        .map(|piece| {
            let part = piece.trim_end_matches(['=', '@', '/', ':', ',']);
            format!("{}{}", of_part(part), &piece[part.len()..])
        })
        .collect()
}

/// What stands behind "://".
fn of_url(rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A port is a number: what else follows a colon is a password, which may hold a slash or a question mark, and whatever
    // follows one may be a password where an "@" comes later.
    let port = |p: &str| {
        p.trim_end_matches([':', ')', ',', '.'])
            .bytes()
            .all(|b| b.is_ascii_digit())
    };
    let named = authority.split_once(':').filter(|_| !authority.starts_with('['));
    let later = rest.len() > authority.len() && rest[authority.len()..].contains('@');
    let password = named.is_some_and(|(_, p)| !port(p) || later && !authority.contains('@'));
    let rest = match (authority.rsplit_once('@'), rest.rsplit_once('@')) {
        (Some((user, _)), _) if !password => &rest[user.len() + 1..],
        (_, Some((_, host))) if password => host,
        _ if password => return GONE.into(),
        _ => rest,
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.split('/').map(of_part).collect::<Vec<_>>().join("/")
}

fn of_part(part: &str) -> &str {
    let known = part.len() >= TOKEN && TOKENS.iter().any(|t| part.starts_with(t));
    if known || is_random(part) { GONE } else { part }
}

/// Long, of one word, with digits and letters of both cases: no name is like that, and hexadecimal digests are not.
fn is_random(part: &str) -> bool {
    part.len() >= RANDOM
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'~'))
        && part.bytes().any(|b| b.is_ascii_digit())
        && part.bytes().any(|b| b.is_ascii_lowercase())
        && part.bytes().any(|b| b.is_ascii_uppercase())
        && part.split(['-', '_']).any(|word| word.len() >= 20)
}

/// "1 node", "2 nodes".
pub fn plural<N: std::fmt::Display + Copy + PartialEq + From<u8>>(n: N, word: &str) -> String {
    let end = if n == N::from(1) { "" } else { "s" };
    format!("{n} {word}{end}")
}

/// A word for a POSIX shell, quoted where it must be. What begins with a dash would be an option: it is a file here.
pub fn shell_word(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !is_harmful(*c)).collect();
    let shown = if shown.starts_with('-') {
        format!("./{shown}")
    } else {
        shown
    };
    // It fails on NUL alone, which is gone.
    shlex::try_quote(&shown).map_or_else(|_| "''".into(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_do_not_leave() {
        for (text, left) in [
            ("https://user:CANARY@host/org/model", "https://host/org/model"),
            ("https://h/a?sig=CANARY&X-Amz-Signature=CANARY#CANARY", "https://h/a"),
            ("hf://hf_CANARYcanaryCANARYcanary@org/model", "hf://org/model"),
            ("s3://bucket/a/b", "s3://bucket/a/b"),
            ("s3://bucket/a@v1/b", "s3://bucket/a@v1/b"),
            ("https://u:p,CANARY?CANARY@h:8080/x", "https://h:8080/x"),
            ("http://[::1]:9090/x", "http://[::1]:9090/x"),
            ("model=https://u:CANARY@h/x failed", "model=https://h/x failed"),
            (
                "proxy http://a:p/CANARY@10.0.0.1:80: refused",
                "proxy http://10.0.0.1:80: refused",
            ),
            ("admin:CANARY@prometheus.example:9090", "prometheus.example:9090"),
            ("Authorization: Bearer CANARY.x.y", "Authorization: Bearer …"),
            ("authorization: basic CANARYCANARY==, x", "authorization: basic … x"),
            ("https://h/t/eyJCANARYCANARYCANARYCANARY/api", "https://h/t/…/api"),
            ("token=ghp_CANARYCANARYCANARYCANARY", "token=…"),
            (
                "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4",
                "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4",
            ),
            (
                "/models/0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
                "/models/0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            ),
        ] {
            assert_eq!(without_secrets(text), left);
        }
    }

    #[test]
    fn nothing_steers_a_terminal_or_a_log() {
        for text in [
            "::error::x",
            "a ::add-mask::x",
            "##[error]x",
            "x##vso[task.setvariable]y",
            "\u{1b}[31m",
            "\u{9b}31m",
            "a\u{202e}b",
            "a\u{61c}b",
            "a\u{ad}b",
            "a\u{e0041}b",
            "\u{3164}",
            "a\nb\r\tc",
            "###[x]",
        ] {
            let shown = harmless(text);
            assert!(!shown.contains(is_harmful), "{shown:?}");
            assert!(!shown.contains("##"), "{shown:?}");
            assert!(!shown.split_whitespace().any(|w| w.starts_with("::")), "{shown:?}");
        }
        assert_eq!(harmless("std::vector 日本語 é"), "std::vector 日本語 é");
    }

    proptest! {
        #[test]
        fn whatever_it_is_a_shell_reads_one_word(text in "\\PC{0,16}|[a-z';$`\\\\\"|&<>(){}*?! #~-]{0,16}") {
            let word = shell_word(&text);
            prop_assert!(!word.contains(is_harmful));
            let read = shlex::split(&format!("kubectl kustomize {word} | x")).unwrap();
            prop_assert_eq!(read.len(), 5, "{}", word);
            let shown: String = text.chars().filter(|c| !is_harmful(*c)).collect();
            prop_assert_eq!(read[2].trim_start_matches("./"), shown.trim_start_matches("./"));
        }

        #[test]
        fn no_user_of_a_url_is_left(user in "[a-zA-Z0-9]{4,12}", password in "[a-zA-Z0-9/?#]{4,20}") {
            let text = format!("could not read https://{user}:{password}@h.example/x: refused");
            prop_assert_eq!(without_secrets(&text), "could not read https://h.example/x: refused");
        }
    }
}
