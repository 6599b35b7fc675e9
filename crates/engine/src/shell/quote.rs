//! Where what is quoted or bracketed ends.

/// Something that opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Single,
    Double,
    Backticks,
    /// `{…}` behind a `$`. `quoted`: it stands in double quotes, where an apostrophe is a letter.
    Braces {
        quoted: bool,
    },
    Parentheses,
}

impl Span {
    pub(super) const fn closing(self) -> char {
        match self {
            Self::Single => '\'',
            Self::Double => '"',
            Self::Backticks => '`',
            Self::Braces { .. } => '}',
            Self::Parentheses => ')',
        }
    }
}

/// Where the span that opens at `from` ends (behind its closing character), and whether it is closed at all. What is open
/// inside of it is kept in a list, not in calls: nothing can be too deep.
pub(super) fn span(chars: &[char], from: usize, kind: Span) -> (usize, bool) {
    let mut open = vec![kind];
    let mut at = from + 1;
    while let Some(c) = chars.get(at).copied() {
        let Some(inner) = open.last().copied() else { break };
        let next = chars.get(at + 1).copied();
        at += 1;
        if c == '\\' && inner != Span::Single {
            at += 1;
            continue;
        }
        if c == inner.closing() {
            open.pop();
            if open.is_empty() {
                return (at, true);
            }
            continue;
        }
        match (inner, c, next) {
            (Span::Single | Span::Backticks, ..) | (Span::Braces { quoted: true }, '\'', _) => {}
            (_, '$', Some('{')) => {
                let quoted = matches!(inner, Span::Double | Span::Braces { quoted: true });
                open.push(Span::Braces { quoted });
                at += 1;
            }
            (_, '$', Some('(')) => {
                open.push(Span::Parentheses);
                at += 1;
            }
            (Span::Double, ..) => {}
            (_, '`', _) => open.push(Span::Backticks),
            (_, '"', _) => open.push(Span::Double),
            (_, '\'', _) => open.push(Span::Single),
            (Span::Parentheses, '(', _) => open.push(Span::Parentheses),
            _ => {}
        }
    }
    (chars.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_end_where_the_shell_ends_them() {
        for (text, kind, end) in [
            ("'a\\' b", Span::Single, 4),
            ("\"a\\\"$(b \"c\" ) d\" e", Span::Double, 16),
            ("{X:-it's} y", Span::Braces { quoted: true }, 9),
            ("{X:-'}'} y", Span::Braces { quoted: false }, 8),
            ("((1 + (2))) x", Span::Parentheses, 11),
            ("`a \\` b` c", Span::Backticks, 8),
        ] {
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(span(&chars, 0, kind), (end, true), "{text}");
        }
        let chars: Vec<char> = "(a".chars().collect();
        assert_eq!(span(&chars, 0, Span::Parentheses), (2, false));
        assert_eq!(span(&['"'], 0, Span::Double), (1, false));
    }
}
