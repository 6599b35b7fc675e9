//! One store, asked politely: few requests at once, patience where it asks for it, and errors that say what answered.

use super::auth::Auth;
use crate::collect::kube::api::{Api, ReadError};
use futures::StreamExt;
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Queries in flight: Prometheus runs 20 at most by default, for everybody together.
const AT_ONCE: usize = 3;
/// No answer of aggregated rows is larger; more is a mistake.
const MAX_ANSWER: usize = 64 << 20;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a query component may carry unescaped (RFC 3986), to keep URLs short.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'(')
    .remove(b')')
    .remove(b',')
    .remove(b'*')
    .remove(b':')
    .remove(b'/')
    .remove(b'!');

/// Where a store is.
pub(super) enum Place {
    /// Through the API server's service proxy: GET only, and the API server keeps the Authorization header.
    Proxy { api: Api, path: String },
    Url {
        client: reqwest::Client,
        base: String,
        auth: Auth,
    },
}

pub(super) struct Store {
    pub(super) place: Place,
    /// For reports: never with credentials.
    pub(super) name: String,
    pub(super) timeout: Duration,
    pub(super) gate: Semaphore,
    pub(super) queries: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Mimir wants a tenant even where there is one only.
    pub(super) tenant: bool,
}

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

    fn is_momentary(&self) -> bool {
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
pub(super) struct Data {
    #[serde(default)]
    pub(super) result: Vec<Row>,
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

struct Raw {
    code: u16,
    json: bool,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Store {
    pub(super) fn new(place: Place, name: String, limit: Duration) -> Self {
        Self {
            place,
            name,
            timeout: limit,
            gate: Semaphore::new(AT_ONCE),
            queries: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            tenant: false,
        }
    }

    /// Metadata: names, labels, build, flags. Always GET.
    pub(super) async fn look_up<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Told<T>, AskError> {
        self.lookups.fetch_add(1, Relaxed);
        self.ask(path, parameters, false).await
    }

    /// A query; POST where the user gave the URL, GET through the proxy.
    pub(super) async fn query(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Told<Data>, AskError> {
        self.queries.fetch_add(1, Relaxed);
        let post = matches!(self.place, Place::Url { .. });
        self.ask(path, parameters, post).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        post: bool,
    ) -> Result<Told<T>, AskError> {
        let form: Vec<String> = parameters
            .iter()
            .map(|(k, v)| format!("{k}={}", utf8_percent_encode(v, QUERY)))
            .collect();
        let form = form.join("&");
        let _turn = self.gate.acquire().await;
        let mut tried = 0;
        loop {
            tried += 1;
            let read = timeout(self.timeout, self.exchange(path, &form, post))
                .await
                .unwrap_or(Err(AskError::TimedOut(self.timeout)));
            let (error, wait) = match read {
                Ok(raw) => {
                    let wait = raw.retry_after;
                    match decode(&raw) {
                        Ok(told) => return Ok(told),
                        Err(error) => (error, wait),
                    }
                }
                Err(error) => (error, None),
            };
            if tried >= 2 || !error.is_momentary() {
                return Err(error);
            }
            sleep(wait.unwrap_or(Duration::from_secs(1)).min(LONGEST_WAIT)).await;
        }
    }

    async fn exchange(&self, path: &str, form: &str, post: bool) -> Result<Raw, AskError> {
        let raw = match &self.place {
            Place::Proxy { api, path: base } => {
                let full = format!("{base}{path}{}{form}", if form.is_empty() { "" } else { "?" });
                let tenant: &[(&str, &str)] = if self.tenant {
                    &[("X-Scope-OrgID", "anonymous")]
                } else {
                    &[]
                };
                let answer = api
                    .once_with(&full, MAX_ANSWER, tenant)
                    .await
                    .map_err(|error| match error {
                        ReadError::TimedOut(limit) => AskError::TimedOut(limit),
                        ReadError::Body(reason) => {
                            AskError::NotPrometheus(format!("the answer was cut off ({reason})"))
                        }
                        other => AskError::Connect(other.to_string()),
                    })?;
                if answer.code == 403 && is_api_servers_own(&answer.body) {
                    return Err(AskError::ProxyForbidden);
                }
                if answer.code >= 400 && is_api_servers_own(&answer.body) {
                    let error = answer.error(&full);
                    return Err(match (answer.code, error) {
                        (code, ReadError::Status { message, .. }) => AskError::Status { code, message },
                        (_, other) => AskError::Connect(other.to_string()),
                    });
                }
                Raw {
                    code: answer.code,
                    json: answer.json,
                    body: answer.body,
                    retry_after: answer.retry_after,
                }
            }
            Place::Url { client, base, auth } => direct(client, base, auth, path, form, post).await?,
        };
        self.bytes.fetch_add(raw.body.len() as u64, Relaxed);
        Ok(raw)
    }
}

/// A Status object is the API server's word, not the store's.
fn is_api_servers_own(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: Option<String>,
    }
    serde_json::from_slice::<Kind>(body).is_ok_and(|k| k.kind.as_deref() == Some("Status"))
}

async fn direct(
    client: &reqwest::Client,
    base: &str,
    auth: &Auth,
    path: &str,
    form: &str,
    post: bool,
) -> Result<Raw, AskError> {
    let (method, url, body) = if post {
        (http::Method::POST, format!("{base}{path}"), form.as_bytes().to_vec())
    } else {
        let url = format!("{base}{path}{}{form}", if form.is_empty() { "" } else { "?" });
        (http::Method::GET, url, Vec::new())
    };
    let mut headers = HeaderMap::new();
    if post {
        let form = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(http::header::CONTENT_TYPE, form);
    }
    auth.apply(method.as_str(), &url, &body, &mut headers)
        .map_err(|e| AskError::Connect(format!("the request could not be signed: {e}")))?;
    let response = client
        .request(method, &url)
        .headers(headers)
        .body(body)
        .send()
        .await
        .map_err(|e| explain(&e))?;
    let code = response.status().as_u16();
    let header = |name: http::HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
    let json = header(http::header::CONTENT_TYPE).is_some_and(|t| t.contains("json"));
    let retry_after = header(http::header::RETRY_AFTER)
        .and_then(|v| v.parse().ok())
        .map(Duration::from_secs);
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| {
            if e.is_timeout() {
                explain(&e)
            } else {
                AskError::NotPrometheus(format!("the answer was cut off after {} bytes", body.len()))
            }
        })?;
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(AskError::NotPrometheus(format!(
                "the answer is larger than {} MiB",
                MAX_ANSWER >> 20
            )));
        }
    }
    Ok(Raw {
        code,
        json,
        body,
        retry_after,
    })
}

/// Without the URL: it may hold credentials.
fn explain(error: &reqwest::Error) -> AskError {
    if error.is_timeout() && !error.is_connect() {
        return AskError::TimedOut(Duration::from_secs(0));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let cause = cause.to_string();
    AskError::Connect(if cause.contains("UnknownIssuer") {
        "TLS: its certificate is signed by a CA that this machine does not know; name it with --prometheus-ca-file"
            .into()
    } else if error.is_connect() {
        format!("no connection ({cause})")
    } else {
        format!("the request failed ({cause})")
    })
}

fn decode<T: for<'de> Deserialize<'de>>(raw: &Raw) -> Result<Told<T>, AskError> {
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
    let envelope: Envelope<T> = serde_json::from_slice(&raw.body).map_err(|e| {
        AskError::NotPrometheus(if e.is_eof() {
            format!("the answer was cut off after {} bytes", raw.body.len())
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
}
