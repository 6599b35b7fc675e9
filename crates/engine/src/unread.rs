//! What is stated and could not be read: a mark of one character stands for it in every word it would have been in, so that
//! nothing on the way takes it for a value, whatever is cut, joined or parsed.

use std::borrow::Cow;
use std::cell::RefCell;

/// Where a value stands that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// For people: "key tp of ConfigMap serving", "the placeholder ${TP}".
    pub(crate) text: String,
    /// Its name says that it holds whole arguments (`EXTRA_ARGS`, `VLLM_OPTS`), not one value.
    pub(crate) arguments: bool,
}

impl Place {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            arguments: false,
        }
    }

    /// Of something with a name of its own.
    pub(crate) fn named(name: &str, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            arguments: holds_arguments(name),
        }
    }
}

/// Names that people give to variables with several arguments in them.
fn holds_arguments(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["ARG", "OPT", "FLAG", "EXTRA", "PARAMS", "CMD", "COMMAND"]
        .iter()
        .any(|w| name.contains(w))
}

/// Marks are private-use characters of the planes 15 and 16, of which nobody writes command lines: part of one word, and
/// any number of words.
const ONE: u32 = 0xF_0000;
const MANY: u32 = 0x10_0000;
const PLANE: u32 = 0xFFFD;

/// The places that the marks stand for.
#[derive(Debug, Default)]
pub(crate) struct Places(RefCell<Vec<Place>>);

impl Places {
    /// A mark for (a part of) one word.
    pub(crate) fn one(&self, place: Place) -> char {
        self.mark(place, ONE)
    }

    /// A mark for any number of words.
    pub(crate) fn many(&self, place: Place) -> char {
        self.mark(place, MANY)
    }

    fn mark(&self, place: Place, first: u32) -> char {
        let mut all = self.0.borrow_mut();
        let at = all.iter().position(|p| *p == place).unwrap_or_else(|| {
            all.push(place);
            all.len() - 1
        });
        let at = u32::try_from(at).unwrap_or(PLANE).min(PLANE);
        char::from_u32(first + at).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// The first place that is missing in `text`; `None`: all of it was read.
    pub(crate) fn of(&self, text: &str) -> Option<Place> {
        let at = text.chars().find_map(index)?;
        let known = self.0.borrow().get(at as usize).cloned();
        Some(known.unwrap_or_else(|| Place::new("its command")))
    }
}

fn index(c: char) -> Option<u32> {
    match u32::from(c) {
        code @ ONE..=0xF_FFFD => Some(code - ONE),
        code @ MANY..=0x10_FFFD => Some(code - MANY),
        _ => None,
    }
}

/// A part of `text` was not read.
pub(crate) fn has(text: &str) -> bool {
    text.chars().any(|c| index(c).is_some())
}

/// Nothing but what was not read, and of which nobody knows how many words it is.
pub(crate) fn is_many(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| u32::from(c) >= MANY) && chars.all(|c| index(c).is_some())
}

/// Marks as they are where the shell splits words: any number of them.
pub(crate) fn unquoted(text: &str) -> String {
    text.chars()
        .map(|c| index(c).and_then(|at| char::from_u32(MANY + at)).unwrap_or(c))
        .collect()
}

/// Marks as they are inside of quotes.
pub(crate) fn quoted(text: &str) -> String {
    text.chars()
        .map(|c| index(c).and_then(|at| char::from_u32(ONE + at)).unwrap_or(c))
        .collect()
}

/// Longer ones are no placeholders but text.
const MAX_PLACEHOLDER: usize = 200;

/// `text` with a mark for each placeholder in it: `${X}`, `$X`, `$(X)`, `{{ x }}`, `<x>`, `__X__`, `@X@`, `%X%`. Nothing in a
/// cluster fills them in: whoever rendered the text was to.
pub(crate) fn mark_placeholders<'t>(text: &'t str, places: &Places) -> Cow<'t, str> {
    if !text.contains(['$', '{', '<', '_', '@', '%']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut rest = text;
    let mut found = false;
    while !rest.is_empty() {
        if let Some((length, name)) = placeholder(rest) {
            found = true;
            out.push(places.one(place_of(&rest[..length], name)));
            rest = &rest[length..];
        } else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
        }
    }
    if found { Cow::Owned(out) } else { Cow::Borrowed(text) }
}

/// What a placeholder is called in messages: as it stands where that is a plain name, since anything may stand in a template
/// or in a default.
fn place_of(whole: &str, name: &str) -> Place {
    let plain =
        !name.is_empty() && name.len() <= 60 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.- ".contains(c));
    match (plain, whole.starts_with("${")) {
        (true, true) => Place::named(name, format!("the placeholder ${{{name}}}")),
        (true, false) => Place::named(name, format!("the placeholder {whole}")),
        (false, _) => Place::new("a placeholder"),
    }
}

/// The placeholder that `text` begins with: its length and its name.
fn placeholder(text: &str) -> Option<(usize, &str)> {
    let closed = |open: &str, close: &str| {
        let inner = text.strip_prefix(open)?;
        let end = inner.find(close).filter(|end| *end <= MAX_PLACEHOLDER)?;
        let name = &inner[..end];
        (!name.contains('\n')).then_some((open.len() + end + close.len(), name))
    };
    let upper = |found: &(usize, &str)| is_token(found.1);
    match text.as_bytes().first()? {
        b'$' => {
            let of_braces = closed("${", "}").map(|(length, name)| {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                (length, &name[..end.unwrap_or(name.len())])
            });
            let of_parentheses = || closed("$(", ")").filter(|(_, name)| is_name(name));
            let plain = || {
                let name = &text[1..];
                let end = name
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(name.len());
                let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                (end > 0 && starts).then(|| (1 + end, &name[..end]))
            };
            of_braces.or_else(of_parentheses).or_else(plain)
        }
        b'{' => closed("{{", "}}").map(|(length, name)| (length, name.trim())),
        // "<think>" is one too, for what no engine takes its size from.
        b'<' => closed("<", ">").filter(|(_, name)| {
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || " _-.:/".contains(c))
        }),
        b'_' => {
            let inner = text.strip_prefix("__")?;
            let end = inner.find("__").filter(|end| *end > 0)?;
            Some((end + 4, &inner[..end])).filter(upper)
        }
        b'@' => closed("@", "@").filter(upper),
        b'%' => closed("%", "%").filter(upper),
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// Capitals, digits and underscores.
fn is_token(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// A whole value that somebody was to replace: `CHANGEME`, `REPLACE_WITH_MODEL`, `YOUR_MODEL`, `your-model-here`,
/// `MODEL_NAME`. Only for names of which none is written so; words of capitals are values elsewhere (`Q4_K_M`).
pub(crate) fn is_stand_in(text: &str) -> bool {
    let text = text.trim();
    is_to_be_replaced(text)
        // Names of cards, models and GGUF types have digits ("GA102GL_A10", "Q4_K_M"), words that wait for a value have none.
        || (is_token(text) && text.contains('_') && !text.contains(|c: char| c.is_ascii_digit()))
        || (text.len() >= 3 && text.bytes().all(|b| matches!(b, b'X' | b'x')))
}

/// A word that says itself that it is to be replaced.
pub fn is_to_be_replaced(text: &str) -> bool {
    let upper = text.trim().to_ascii_uppercase();
    let starts = ["REPLACE", "YOUR-", "YOUR_", "INSERT_", "INSERT-", "FILL_", "FILL-"];
    let contains = ["CHANGEME", "CHANGE_ME", "CHANGE-ME", "CHANGEIT", "PLACEHOLDER"];
    let first = upper
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    starts.iter().any(|w| upper.starts_with(w))
        || contains.iter().any(|w| upper.contains(w))
        || ["TODO", "FIXME", "TBD"].contains(&first)
}

/// A part of a path, id or image reference that somebody was to replace: "meta-llama/MODEL_NAME", "your-org/your-model".
pub fn has_stand_in(text: &str) -> bool {
    text.split(['/', ':', '@']).any(is_stand_in)
}

/// What somebody was to fill in there, for people; `None`: nothing.
pub fn placeholder_in(text: &str) -> Option<String> {
    let places = Places::default();
    let marked = mark_placeholders(text, &places);
    let plain = text.len() <= 60 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    places.of(&marked).map(|p| p.text).or_else(|| {
        let named = if plain {
            format!("the placeholder {text}")
        } else {
            "a placeholder".into()
        };
        has_stand_in(text).then_some(named)
    })
}

/// A text in which somebody was to fill something in.
pub fn has_placeholder(text: &str) -> bool {
    matches!(mark_placeholders(text, &Places::default()), Cow::Owned(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_every_tool_are_marked() {
        for (text, name) in [
            ("${TP}", "the placeholder ${TP}"),
            ("$TP", "the placeholder $TP"),
            ("$(TP)", "the placeholder $(TP)"),
            ("{{ tp }}", "the placeholder {{ tp }}"),
            ("{{ .Values.tp }}", "the placeholder {{ .Values.tp }}"),
            ("{{ .Values.tp | default \"hunter2\" }}", "a placeholder"),
            ("${TP:-hunter2}", "the placeholder ${TP}"),
            ("${TP-hunter2}", "the placeholder ${TP}"),
            ("<tp>", "the placeholder <tp>"),
            ("<NUMBER OF GPUS>", "the placeholder <NUMBER OF GPUS>"),
            ("__TP_SIZE__", "the placeholder __TP_SIZE__"),
            ("@TP@", "the placeholder @TP@"),
            ("%TP%", "the placeholder %TP%"),
        ] {
            let places = Places::default();
            let marked = mark_placeholders(text, &places);
            assert!(has(&marked) && marked.chars().count() == 1, "{text}: {marked:?}");
            let place = places.of(&marked).unwrap();
            assert_eq!(place.text, name, "{text}");
            assert!(!is_many(&marked));
            assert!(is_many(&unquoted(&marked)) && !is_many(&quoted(&unquoted(&marked))));
        }
        let places = Places::default();
        let marked = mark_placeholders("org/${MODEL}-${SIZE}", &places);
        assert_eq!(marked.chars().filter(|c| index(*c).is_some()).count(), 2);
        assert_eq!(places.of(&marked).unwrap().text, "the placeholder ${MODEL}");
    }

    #[test]
    fn values_are_no_placeholders() {
        for text in [
            "meta-llama/Llama-3.1-8B",
            "a_b__c",
            "user@host",
            "50%",
            "{\"a\": {\"b\": 1}}",
            "1 < 2 > 0",
            "$",
            "$$",
            "$5",
            "$(nvidia-smi -L | wc -l)",
            "__init__",
            "",
        ] {
            assert!(!has_placeholder(text), "{text}");
        }
    }

    #[test]
    fn words_that_wait_to_be_replaced() {
        for text in [
            "CHANGEME",
            "changeme",
            "REPLACE_MODEL_SERVER_IMAGE",
            "replace-me",
            "YOUR_MODEL",
            "your-model",
            "TODO",
            "V_IMAGE_NAME",
            "MODEL_NAME",
            "XXX",
        ] {
            assert!(is_stand_in(text), "{text}");
        }
        for text in [
            "meta-llama",
            "Llama-3.1-8B-Instruct",
            "latest",
            "L4",
            "GPTQ",
            "vllm",
            "",
            "AWQ",
            "T5",
            "Q4_K_M",
            "IQ4_XS",
            "GA102GL_A10",
            "ARWKV_7B_R1_16K",
        ] {
            assert!(!is_stand_in(text), "{text}");
        }
        assert!(has_stand_in("meta-llama/MODEL_NAME") && has_stand_in("your-org/x") && !has_stand_in("org/x:latest"));
    }
}
