//! `[ … ]` and `[[ … ]]`, as far as both sides are known.

use super::Status;
use super::parameter::fits;
use crate::unread;

/// The words between the brackets.
pub(super) fn of(words: &[String]) -> Status {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match truth(&words) {
        Some(true) => Status::True,
        Some(false) => Status::False,
        None => Status::Unknown,
    }
}

fn truth(words: &[&str]) -> Option<bool> {
    // "a -o b", "a && b": each side by itself.
    for (sign, any) in [("-o", true), ("||", true), ("-a", false), ("&&", false)] {
        if words.len() > 3
            && let Some(at) = words.iter().position(|w| *w == sign)
        {
            let (left, right) = (truth(&words[..at]), truth(&words[at + 1..]));
            return match (left, right) {
                (Some(a), Some(b)) => Some(if any { a || b } else { a && b }),
                (Some(a), None) | (None, Some(a)) if a == any => Some(any),
                _ => None,
            };
        }
    }
    match words {
        [] => Some(false),
        ["!", rest @ ..] => truth(rest).map(|t| !t),
        _ if words.iter().any(|w| unread::has(w)) => None,
        [one] => Some(!one.is_empty()),
        ["-z", text] => Some(text.is_empty()),
        ["-n", text] => Some(!text.is_empty()),
        [left, "=" | "==", right] => Some(fits(left, right)),
        [left, "!=", right] => Some(!fits(left, right)),
        [left, operator, right] => {
            let (left, right) = (left.parse::<i64>().ok()?, right.parse::<i64>().ok()?);
            match *operator {
                "-eq" => Some(left == right),
                "-ne" => Some(left != right),
                "-gt" => Some(left > right),
                "-ge" => Some(left >= right),
                "-lt" => Some(left < right),
                "-le" => Some(left <= right),
                _ => None,
            }
        }
        // Files, and what else a test may ask.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_known_values_have_an_answer() {
        for (text, answer) in [
            ("a = a", Some(true)),
            ("a == b", Some(false)),
            ("a != b", Some(true)),
            ("prefill-0 == prefill*", Some(true)),
            ("2 -gt 1", Some(true)),
            ("x -gt 1", None),
            ("-z a", Some(false)),
            ("-n a", Some(true)),
            ("! -n a", Some(false)),
            ("-f /x", None),
            ("a = a -a b = c", Some(false)),
            ("a = a -o -f /x", Some(true)),
            ("a", Some(true)),
            ("", Some(false)),
        ] {
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(truth(&words), answer, "{text}");
        }
        assert_eq!(truth(&["-z", ""]), Some(true));
        assert_eq!(truth(&["\u{F0000}", "=", "a"]), None);
    }
}
