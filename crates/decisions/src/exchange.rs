//! Files that fleets exchange: the record of decisions and the book of measured facts, told apart by what they hold.

use crate::record::{Record, Shared};
use gpuwaste_fit::book::facts::{Facts, SCHEMA};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Clone, Debug, PartialEq)]
pub enum Exchanged {
    Record(Record),
    Facts(Facts),
}

#[derive(Deserialize)]
struct Head {
    schema: Option<u64>,
    record: Option<IgnoredAny>,
    facts: Option<IgnoredAny>,
}

/// Reads either.
///
/// # Errors
/// The line where it can be told, what is wrong, and the way out.
pub fn parse(text: &str) -> Result<Exchanged, String> {
    if text.trim().is_empty() {
        return Err("it is empty: let 'gpuwaste learned -o FILE' write it again".into());
    }
    let marker =
        |line: &str| ["<<<<<<<", ">>>>>>>", "|||||||"].iter().any(|m| line.starts_with(m)) || line == "=======";
    if let Some(at) = text.lines().position(marker) {
        return Err(format!(
            "line {}: a conflict marker of git: take the two versions apart and give both with --learned, which joins them",
            at + 1
        ));
    }
    let head: Head = serde_json::from_str(text).map_err(|e| explained(&e))?;
    let (what, reads) = match (&head.record, &head.facts) {
        (Some(_), None) => ("a record of decisions", u64::from(Shared::SCHEMA)),
        (None, Some(_)) => ("a book of measured facts", u64::from(SCHEMA)),
        _ => {
            return Err(
                "it is neither a record of decisions nor a book of measured facts: 'gpuwaste learned -o FILE' writes the one, 'gpuwaste learned --from SNAPSHOT -o FILE' the other"
                    .into(),
            );
        }
    };
    match head.schema {
        None => {
            return Err(format!(
                "it has no 'schema': {what} has one; let 'gpuwaste learned' write it again"
            ));
        }
        Some(schema) if schema > reads => {
            return Err(format!(
                "it is {what} of schema {schema}, this gpuwaste reads up to {reads}: use the gpuwaste that wrote it, or a newer one"
            ));
        }
        Some(_) => {}
    }
    if head.facts.is_some() {
        let facts: Facts = serde_json::from_str(text).map_err(|e| explained(&e))?;
        facts.check()?;
        return Ok(Exchanged::Facts(facts));
    }
    let shared: Shared = serde_json::from_str(text).map_err(|e| explained(&e))?;
    shared.check()?;
    Ok(Exchanged::Record(shared.record))
}

fn explained(error: &serde_json::Error) -> String {
    if error.is_eof() {
        format!(
            "line {}: the JSON ends in the middle: the file was cut off; write it again with 'gpuwaste learned'",
            error.line()
        )
    } else {
        format!(
            "line {}: it is nothing that 'gpuwaste learned -o FILE' writes: {error}",
            error.line()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_the_way_out() {
        let good = "{\n  \"schema\": 1,\n  \"facts\": []\n}\n";
        assert_eq!(
            parse(good),
            Ok(Exchanged::Facts(Facts {
                schema: 1,
                facts: Vec::new()
            }))
        );
        assert_eq!(
            parse("{\"schema\": 1, \"record\": {}}"),
            Ok(Exchanged::Record(Record::default()))
        );
        for (text, words) in [
            (String::new(), ["empty", "write it again"]),
            (good[..20].into(), ["line 3", "cut off"]),
            (
                format!("<<<<<<< HEAD\n{good}=======\n>>>>>>> b\n"),
                ["line 1", "--learned"],
            ),
            (good.replace(": 1", ": 2"), ["schema 2", "newer"]),
            (
                good.replace("facts", "record")
                    .replace("[]", "{}")
                    .replace(": 1", ": 7"),
                ["schema 7", "newer"],
            ),
            ("{\"schema\": 1, \"clusters\": []}".into(), ["neither", "--from"]),
            ("{\"facts\": []}".into(), ["no 'schema'", "write it again"]),
            (good.replace("[]", "[{}]"), ["line 3", "combination"]),
            ("[1]".into(), ["line 1", "learned -o"]),
        ] {
            let why = parse(&text).unwrap_err();
            assert!(words.iter().all(|w| why.contains(w)), "{text}: {why}");
        }
    }
}
