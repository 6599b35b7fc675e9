//! Answers: what a store said, or why that is none.

use crate::kube::clock::Look;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AskError {
    Status {
        code: u16,
        message: String,
    },
    TimedOut(Duration),
    /// It wants credentials of its own.
    Unauthorized(u16),
    /// No right to reach it through the API server.
    ProxyForbidden,
    Connect(String),
    /// Something answered, but no Prometheus: a login page, a cut-off body.
    NotPrometheus(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, message } if message.is_empty() => write!(f, "it answered {code}"),
            Self::Status { code, message } => write!(f, "it answered {code}: {message}"),
            Self::TimedOut(limit) => write!(f, "no answer within {} s", limit.as_secs()),
            Self::Unauthorized(code) => write!(f, "it answered {code}: it wants credentials of its own"),
            Self::ProxyForbidden => f.write_str("403 Forbidden on services/proxy"),
            Self::Connect(reason) | Self::NotPrometheus(reason) => f.write_str(reason),
        }
    }
}

impl AskError {
    /// The server found the question too large, or had no time for it: smaller ones may pass.
    pub(super) fn is_too_much(&self) -> bool {
        match self {
            Self::Status { code, message } => {
                // A 422 about labels is a question that no smaller piece makes right.
                (matches!(code, 422 | 500 | 502 | 503 | 504 | 429) && !message.contains("labelset"))
                    || (*code == 400 && (message.contains("exceed") || message.contains("limit")))
            }
            Self::TimedOut(_) => true,
            _ => false,
        }
    }

    pub(super) fn is_momentary(&self) -> bool {
        matches!(self, Self::Status { code, .. } if matches!(code, 429 | 502 | 503 | 504))
    }
}

/// One series of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    #[serde(default)]
    pub(super) metric: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) value: Option<(f64, String)>,
    #[serde(default)]
    pub(super) values: Vec<(f64, String)>,
}

impl Row {
    /// `None`: NaN and infinities tell nothing.
    pub(super) fn number(&self) -> Option<f64> {
        self.value
            .as_ref()
            .and_then(|(_, v)| v.parse().ok())
            .filter(|v: &f64| v.is_finite())
    }

    pub(super) fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    result_type: String,
    #[serde(deserialize_with = "rows")]
    pub(super) result: Vec<Row>,
}

/// Series of one answer: every question is of a part of a fleet, or adds up.
const MOST_ROWS: usize = 100_000;

/// An answer of more is none; it is left before it fills the memory.
fn rows<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Row>, D::Error> {
    struct Rows;
    impl<'de> Visitor<'de> for Rows {
        type Value = Vec<Row>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of series")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut rows = Vec::new();
            while let Some(row) = list.next_element()? {
                if rows.len() == MOST_ROWS {
                    return Err(A::Error::custom(format!("{TOO_MANY}{MOST_ROWS} series")));
                }
                rows.push(row);
            }
            Ok(rows)
        }
    }
    from.deserialize_seq(Rows)
}

const TOO_MANY: &str = "more than ";

impl Data {
    /// What the question has for an answer: a value a series of one moment ("vector"), several of a range ("matrix").
    pub(super) fn check(self, wanted: &str) -> Result<Self, AskError> {
        let whole = |r: &Row| {
            if wanted == "matrix" {
                !r.values.is_empty()
            } else {
                r.value.is_some()
            }
        };
        if self.result_type == wanted && self.result.iter().all(whole) {
            return Ok(self);
        }
        Err(AskError::NotPrometheus(format!(
            "the answer is no {wanted}, which the question has for one"
        )))
    }
}

#[derive(Debug, Deserialize)]
struct Envelope<T> {
    status: String,
    #[serde(default)]
    error: Option<String>,
    data: Option<T>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What was asked for, and what the store had to say beside it (parts it could not reach).
#[derive(Debug)]
pub(super) struct Told<T> {
    pub(super) data: T,
    pub(super) warnings: Vec<String>,
}

pub(super) struct Raw {
    pub(super) code: u16,
    pub(super) json: bool,
    pub(super) body: Vec<u8>,
    pub(super) retry_after: Option<Duration>,
    pub(super) look: Option<Look>,
}
pub(super) fn decode<T: for<'de> Deserialize<'de>>(raw: &Raw) -> Result<Told<T>, AskError> {
    let start = raw.body.iter().copied().find(|b| !b.is_ascii_whitespace());
    let page = start == Some(b'<');
    match raw.code {
        401 | 407 => return Err(AskError::Unauthorized(raw.code)),
        403 => return Err(AskError::Unauthorized(403)),
        300..=399 => {
            return Err(AskError::NotPrometheus(format!(
                "it answered {} with a redirect (to a login?); no redirect is followed",
                raw.code
            )));
        }
        _ if page => {
            return Err(AskError::NotPrometheus(format!(
                "it answered {} with an HTML page (a login page?), not with Prometheus' JSON",
                raw.code
            )));
        }
        code if code >= 400 => {
            let error = serde_json::from_slice::<Envelope<serde_json::Value>>(&raw.body)
                .ok()
                .and_then(|e| e.error)
                .unwrap_or_default();
            let message = error.chars().filter(|c| !c.is_control()).take(160).collect();
            return Err(AskError::Status { code, message });
        }
        _ => {}
    }
    if !raw.json {
        return Err(AskError::NotPrometheus(
            "the answer's content type is not JSON: something else than Prometheus' API answers there".into(),
        ));
    }
    if raw.code != 200 {
        return Err(AskError::NotPrometheus(format!(
            "it answered {} instead of 200",
            raw.code
        )));
    }
    let envelope: Envelope<T> = serde_json::from_slice(&raw.body).map_err(|e| {
        AskError::NotPrometheus(if e.is_eof() {
            format!("the answer was cut off after {} bytes", raw.body.len())
        } else if e.to_string().starts_with(TOO_MANY) {
            format!("the answer has {TOO_MANY}{MOST_ROWS} series")
        } else {
            "the answer is JSON, but not Prometheus'".into()
        })
    })?;
    match (envelope.status.as_str(), envelope.data) {
        ("success", Some(data)) => Ok(Told {
            data,
            warnings: envelope.warnings,
        }),
        _ => Err(AskError::Status {
            code: raw.code,
            message: envelope.error.unwrap_or_default().chars().take(160).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(code: u16, json: bool, body: &str) -> Raw {
        Raw {
            code,
            json,
            body: body.as_bytes().to_vec(),
            retry_after: None,
            look: None,
        }
    }

    #[test]
    fn every_kind_of_wrong_answer_is_named() {
        let error = |raw: &Raw| decode::<Data>(raw).unwrap_err().to_string();
        assert!(error(&raw(200, false, "<!doctype html><title>Sign in</title>")).contains("login page"));
        assert!(error(&raw(302, false, "")).contains("redirect"));
        assert!(error(&raw(200, true, r#"{"status":"success","data":{"resu"#)).contains("cut off"));
        assert!(error(&raw(200, false, r#"{"status":"success","data":{"result":[]}}"#)).contains("content type"));
        assert!(error(&raw(200, true, r#"{"hello":1}"#)).contains("not Prometheus'"));
        assert!(error(&raw(401, true, "")).contains("credentials"));
        assert_eq!(
            decode::<Data>(&raw(422, true, r#"{"status":"error","error":"too many samples"}"#)).unwrap_err(),
            AskError::Status {
                code: 422,
                message: "too many samples".into()
            }
        );
    }

    #[test]
    fn warnings_are_kept() {
        let told = decode::<Data>(&raw(
            200,
            true,
            r#"{"status":"success","warnings":["store gone"],"data":{"resultType":"vector","result":[{"metric":{"s":"x"},"value":[1,"NaN"]}]}}"#,
        ))
        .unwrap();
        assert_eq!(told.warnings, ["store gone"]);
        assert_eq!(told.data.result[0].number(), None);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let data = |text: &str| decode::<Data>(&raw(200, true, text)).map(|t| t.data);
        let of = |kind: &str, rows: &str| {
            data(&format!(
                r#"{{"status":"success","data":{{"resultType":"{kind}","result":{rows}}}}}"#
            ))
        };
        let value = r#"[{"metric":{},"value":[1,"2"]}]"#;
        assert!(of("vector", value).unwrap().check("vector").is_ok());
        assert!(of("vector", "[]").unwrap().check("vector").is_ok());
        for (kind, rows) in [("matrix", "[]"), ("scalar", "[]"), ("vector", r#"[{"metric":{}}]"#)] {
            assert!(of(kind, rows).unwrap().check("vector").is_err(), "{kind} {rows}");
        }
        assert!(of("vector", value).unwrap().check("matrix").is_err());
        for text in [
            r#"{"status":"success","data":{}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":null}}"#,
            r#"{"status":"success","data":{"resultType":"vector"}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"s":1},"value":[1,"2"]}]}}"#,
        ] {
            assert!(data(text).is_err(), "{text}");
        }
        assert!(decode::<Data>(&raw(206, true, "{}")).is_err());
        let row = r#"{"metric":{},"value":[1,"1"]}"#;
        let many = |n: usize| of("vector", &format!("[{}]", vec![row; n].join(",")));
        assert!(many(MOST_ROWS).is_ok());
        assert_eq!(
            many(MOST_ROWS + 1).unwrap_err().to_string(),
            "the answer has more than 100000 series"
        );
    }
}
