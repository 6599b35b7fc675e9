//! A script's text as tokens. Nothing is refused: what is not understood is a word, and the end of what is open is the end of
//! the text.

use super::quote::{Span, span};

/// One token; words as they stand, with their quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Newline,
    Semi,
    /// `;;`, `;&`, `;;&`.
    CaseEnd,
    And,
    Or,
    Pipe,
    Amp,
    Open,
    Close,
    Redirect(Redirect),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Redirect {
    /// `<`, `>`, `>>`, `<<`, `<<<`, `>&`, `&>`, …
    pub(super) operator: String,
    /// The word behind it; of a here-document the word that ends it.
    pub(super) target: String,
    pub(super) here: Option<Here>,
}

/// A here-document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) text: String,
    /// The shell leaves `$` alone in it.
    pub(super) literal: bool,
}

pub(super) struct Lexed {
    pub(super) tokens: Vec<Token>,
    /// Every quote, bracket and here-document has its end.
    pub(super) whole: bool,
}

pub(super) fn lex(script: &str) -> Lexed {
    let mut lexer = Lexer {
        chars: script.replace("\r\n", "\n").chars().collect(),
        at: 0,
        tokens: Vec::new(),
        pending: Vec::new(),
        whole: true,
    };
    while lexer.step() {}
    // A here-document that the text's end cuts off.
    lexer.whole &= lexer.pending.is_empty();
    Lexed {
        tokens: lexer.tokens,
        whole: lexer.whole,
    }
}

/// The longest first.
const OPERATORS: &[(&str, Token)] = &[
    (";;&", Token::CaseEnd),
    (";;", Token::CaseEnd),
    (";&", Token::CaseEnd),
    (";", Token::Semi),
    ("&&", Token::And),
    ("||", Token::Or),
    ("|&", Token::Pipe),
    ("|", Token::Pipe),
    (")", Token::Close),
    ("(", Token::Open),
];

struct Lexer {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    /// Tokens of here-documents whose text begins behind this line.
    pending: Vec<(usize, bool)>,
    whole: bool,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c))
    }

    /// One token; `false` at the end.
    fn step(&mut self) -> bool {
        self.blanks();
        let Some(c) = self.peek(0) else { return false };
        if c == '#' {
            while self.peek(0).is_some_and(|c| c != '\n') {
                self.at += 1;
            }
            return true;
        }
        if c == '\n' {
            self.at += 1;
            self.tokens.push(Token::Newline);
            self.here_documents();
            return true;
        }
        if self.starts("&>") {
            return self.redirect();
        }
        if let Some((text, token)) = OPERATORS.iter().find(|(text, _)| self.starts(text)) {
            self.at += text.len();
            self.tokens.push(token.clone());
            return true;
        }
        if c == '&' {
            self.at += 1;
            self.tokens.push(Token::Amp);
            return true;
        }
        // "<(command)" is a word.
        if matches!(c, '<' | '>') && self.peek(1) != Some('(') {
            return self.redirect();
        }
        let from = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > from && matches!(self.peek(0), Some('<' | '>')) && self.peek(1) != Some('(') {
            return self.redirect();
        }
        self.at = from;
        let word = self.word();
        self.tokens.push(Token::Word(word));
        true
    }

    fn blanks(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('\\'), Some('\n')) => self.at += 2,
                (Some(c), _) if c != '\n' && c.is_whitespace() => self.at += 1,
                _ => return,
            }
        }
    }

    fn redirect(&mut self) -> bool {
        const REDIRECTIONS: &[&str] = &["<<<", "<<-", "<<", "<&", "<>", "&>>", "&>", ">>", ">&", ">|", ">", "<"];
        let operator = REDIRECTIONS.iter().find(|o| self.starts(o)).copied().unwrap_or("<");
        self.at += operator.len();
        self.blanks();
        let target = if self.peek(0).is_some_and(|c| !"\n;&|()<>".contains(c)) {
            self.word()
        } else {
            String::new()
        };
        let document = matches!(operator, "<<" | "<<-");
        if document && !target.is_empty() {
            self.pending.push((self.tokens.len(), operator == "<<-"));
        }
        self.tokens.push(Token::Redirect(Redirect {
            operator: operator.into(),
            target,
            here: None,
        }));
        true
    }

    /// The texts of the here-documents of the line that has just ended.
    fn here_documents(&mut self) {
        for (at, dedent) in std::mem::take(&mut self.pending) {
            let Some(Token::Redirect(redirect)) = self.tokens.get(at) else {
                continue;
            };
            let literal = redirect.target.contains(['\'', '"', '\\']);
            let end: String = redirect.target.chars().filter(|c| !"'\"\\".contains(*c)).collect();
            let mut text = String::new();
            let mut found = false;
            while self.at < self.chars.len() {
                let from = self.at;
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
                let line: String = self.chars[from..self.at].iter().collect();
                self.at = (self.at + 1).min(self.chars.len());
                // In YAML's blocks the ending word is often further in than the shell would take it.
                if line.trim() == end {
                    found = true;
                    break;
                }
                text.push_str(if dedent { line.trim_start_matches('\t') } else { &line });
                text.push('\n');
            }
            self.whole &= found;
            if let Some(Token::Redirect(redirect)) = self.tokens.get_mut(at) {
                redirect.here = Some(Here { text, literal });
            }
        }
    }

    /// A word with its quotes, and whatever brackets belong to it.
    fn word(&mut self) -> String {
        let from = self.at;
        let mut word = String::new();
        while let Some(c) = self.peek(0) {
            match c {
                c if c.is_whitespace() || ";&|)".contains(c) => break,
                '(' if self.at > from && is_array(&word) => self.take(&mut word, Span::Parentheses),
                '<' | '>' if self.peek(1) == Some('(') && self.at == from => {
                    word.push(c);
                    self.at += 1;
                    self.take(&mut word, Span::Parentheses);
                }
                '(' | '<' | '>' => break,
                _ => self.part(&mut word),
            }
        }
        word
    }

    /// One character of a word, or what is quoted or bracketed from it on.
    fn part(&mut self, word: &mut String) {
        let Some(c) = self.peek(0) else { return };
        match (c, self.peek(1)) {
            ('\\', Some('\n')) => self.at += 2,
            ('\\', next) => {
                word.push(c);
                word.extend(next);
                self.at = (self.at + 2).min(self.chars.len());
            }
            ('\'', _) => self.take(word, Span::Single),
            ('"', _) => self.take(word, Span::Double),
            ('`', _) => self.take(word, Span::Backticks),
            ('$', Some('{')) => {
                word.push(c);
                self.at += 1;
                self.take(word, Span::Braces { quoted: false });
            }
            ('$', Some('(')) => {
                word.push(c);
                self.at += 1;
                self.take(word, Span::Parentheses);
            }
            // $'text' is a quoted text.
            ('$', Some('\'')) => self.at += 1,
            _ => {
                word.push(c);
                self.at += 1;
            }
        }
    }

    /// From an opening quote or bracket to what closes it.
    fn take(&mut self, word: &mut String, kind: Span) {
        let (end, closed) = span(&self.chars, self.at, kind);
        word.extend(&self.chars[self.at..end]);
        self.at = end;
        if !closed {
            self.whole = false;
            word.push(kind.closing());
        }
    }
}

/// "NAME=" or "NAME+=": what follows in parentheses is an array.
fn is_array(word: &str) -> bool {
    let Some(name) = word.strip_suffix('=') else {
        return false;
    };
    let name = name.strip_suffix('+').unwrap_or(name);
    super::is_identifier(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        let words = lex(script).tokens.into_iter().filter_map(|t| match t {
            Token::Word(word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn words_keep_their_quotes_and_brackets() {
        assert_eq!(
            words("a 'b c' \"d ${e} $(f \"g )\" h)\" i\\ j # k\n A=(1 \"2 3\") B+=($l) c=$((1 + (2)))"),
            [
                "a",
                "'b c'",
                "\"d ${e} $(f \"g )\" h)\"",
                "i\\ j",
                "A=(1 \"2 3\")",
                "B+=($l)",
                "c=$((1 + (2)))"
            ]
        );
        assert_eq!(words("vllm \\\n  serve x\\\ny"), ["vllm", "serve", "xy"]);
        assert_eq!(words("a#b $# #c"), ["a#b", "$#"]);
    }

    #[test]
    fn operators_and_redirections_are_told_apart() {
        let lexed = lex("a 2>&1 >/x|b&&c||d&\ne &>f;g 1 2");
        let redirects: Vec<&str> = lexed
            .tokens
            .iter()
            .filter_map(|t| match t {
                Token::Redirect(r) => Some(r.operator.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(redirects, [">&", ">", "&>"]);
        assert!(lexed.whole);
        for token in [
            Token::Pipe,
            Token::And,
            Token::Or,
            Token::Amp,
            Token::Semi,
            Token::Newline,
        ] {
            assert!(lexed.tokens.contains(&token), "{token:?}");
        }
        assert_eq!(
            words("g 1 2"),
            ["g", "1", "2"],
            "digits are no redirection by themselves"
        );
    }

    #[test]
    fn here_documents_are_no_commands() {
        let lexed = lex("cat <<EOF > /a; b\nx $y\nEOF\ncat <<-'END'\n\tz\n\tEND\nc");
        let here: Vec<Here> = lexed
            .tokens
            .iter()
            .filter_map(|t| match t {
                Token::Redirect(r) => r.here.clone(),
                _ => None,
            })
            .collect();
        assert_eq!(
            (
                here[0].text.as_str(),
                here[0].literal,
                here[1].text.as_str(),
                here[1].literal
            ),
            ("x $y\n", false, "z\n", true)
        );
        assert!(lexed.whole);
        assert!(!lex("cat <<EOF\nx").whole);
    }

    #[test]
    fn what_is_open_ends_with_the_text() {
        for script in ["a 'b", "a \"b", "a $(b", "a ${b", "a `b", "A=(b", "$(\"", "\\"] {
            let lexed = lex(script);
            assert!(!lexed.tokens.is_empty(), "{script}");
            assert!(!lexed.whole || script == "\\", "{script}");
        }
        let deep = format!("echo {}", "$(".repeat(30_000));
        assert!(!lex(&deep).whole);
    }
}
