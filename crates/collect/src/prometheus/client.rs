//! One store, asked politely: few requests at once, patience where it asks for it.

use super::answer::{AskError, Data, Raw, Told, decode};
use super::auth::Auth;
use crate::kube::api::{Api, ReadError};
use crate::kube::clock::{Clock, Look};
use crate::kube::path::ApiPath;
use futures::StreamExt;
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Queries in flight: Prometheus runs 20 at most by default, for everybody together.
const AT_ONCE: usize = 3;
/// No answer of aggregated rows is larger; more is a mistake.
const MAX_ANSWER: usize = 64 << 20;
/// Of all answers together: a thousand GPUs over a fortnight take a tenth.
const MAX_ANSWERS: u64 = 512 << 20;
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
    Proxy { api: Api, path: ApiPath },
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
    /// Its clock: by its own word, and by the Dates of its answers.
    own: Clock,
    dates: Clock,
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
            own: Clock::default(),
            dates: Clock::default(),
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
        let told = self.ask::<Data>(path, parameters, post).await?;
        let wanted = if path.ends_with("query_range") {
            "matrix"
        } else {
            "vector"
        };
        Ok(Told {
            data: told.data.check(wanted)?,
            warnings: told.warnings,
        })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        post: bool,
    ) -> Result<Told<T>, AskError> {
        // What `--dry-run` does not list is not asked.
        if !super::PATHS.iter().any(|(known, _)| *known == path) {
            return Err(AskError::NotPrometheus(format!(
                "{path} is nothing that a store is asked for"
            )));
        }
        let form: Vec<String> = parameters
            .iter()
            .map(|(k, v)| format!("{k}={}", utf8_percent_encode(v, QUERY)))
            .collect();
        let form = form.join("&");
        let _turn = self.gate.acquire().await;
        let mut tried = 0;
        loop {
            tried += 1;
            if self.bytes.load(Relaxed) > MAX_ANSWERS {
                return Err(AskError::NotPrometheus(format!(
                    "its answers together are larger than {} MiB",
                    MAX_ANSWERS >> 20
                )));
            }
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
                let full = base.below(path).with_form(form);
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
                        // The API server breaks off where the store did.
                        ReadError::Connect { reason, .. } if reason.contains("before message completed") => {
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
                    look: answer.look,
                }
            }
            Place::Url { client, base, auth } => direct(client, base, auth, path, form, post, self.timeout).await?,
        };
        self.bytes.fetch_add(raw.body.len() as u64, Relaxed);
        if let Some(look) = raw.look.filter(|_| raw.code == 200) {
            self.dates.keep(look);
        }
        Ok(raw)
    }

    /// Asks what time it is there: what stands in front of a store answers with a Date of its own. No answer, or one that is no
    /// time, is none.
    pub(super) async fn ask_time(&self) {
        let begun = Timestamp::now();
        let Ok(told) = self.query("/api/v1/query", &[("query", "vector(time())")]).await else {
            return;
        };
        let ended = Timestamp::now();
        let [row] = told.data.result.as_slice() else { return };
        let (Some((evaluated, _)), Some(time)) = (&row.value, row.number()) else {
            return;
        };
        let is_time = row.metric.is_empty() && (evaluated - time).abs() < 1.0;
        let time = Timestamp::from_millisecond((time * 1e3).round() as i64).ok();
        if let Some(time) = time.filter(|_| is_time) {
            self.own.keep(Look::at(begun, time, 0.0005, ended));
        }
    }

    fn clock(&self) -> &Clock {
        if self.own.is_told() { &self.own } else { &self.dates }
    }

    /// It told its time, in one way or the other.
    pub(super) fn tells_time(&self) -> bool {
        self.clock().is_told()
    }

    /// Whole seconds that its clock is ahead of this machine's, where that is more than a minute.
    pub(super) fn ahead(&self) -> Option<i64> {
        self.clock().ahead()
    }

    /// This machine's moment by the store's clock: what it scraped just now stands there.
    pub(super) fn by_its_clock(&self, at: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead().unwrap_or(0));
        at.checked_add(ahead).unwrap_or(at)
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
    limit: Duration,
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
    let begun = Timestamp::now();
    let response = client
        .request(method, &url)
        .headers(headers)
        .body(body)
        .send()
        .await
        .map_err(|e| explain(&e, limit))?;
    let code = response.status().as_u16();
    let look = Look::of(response.headers(), begun, Timestamp::now());
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
                explain(&e, limit)
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
        look,
    })
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Why a server that the user named did not answer. Without the URL: it may hold credentials.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let cause = innermost(error);
    match () {
        () if error.is_timeout() && !error.is_connect() => "no answer in time (--timeout)".into(),
        () if error.is_connect() => format!("no connection ({cause})"),
        () => format!("the request failed ({cause})"),
    }
}

/// Without the URL: it may hold credentials.
fn explain(error: &reqwest::Error, limit: Duration) -> AskError {
    if error.is_timeout() && !error.is_connect() {
        return AskError::TimedOut(limit);
    }
    let cause = innermost(error);
    AskError::Connect(if cause.contains("UnknownIssuer") {
        "TLS: its certificate is signed by a CA that this machine does not know; name it with --prometheus-ca-file"
            .into()
    } else if error.is_connect() {
        format!("no connection ({cause})")
    } else {
        format!("the request failed ({cause})")
    })
}
