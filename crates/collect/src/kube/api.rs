//! One API server: GET with time limits, backoff and size limits; lists in pages.

use crate::snapshot::Gap;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Objects in a page (what kubectl and the API server's own docs use).
const PAGE: usize = 500;
/// Tries of one request that the server or the network refused for the moment.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(400);
/// A server may ask for more patience than a scan has.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Restarts of a list whose continue token expired (410) before it is given up.
const RESTARTS: u32 = 3;
/// No page of 500 objects is larger; more is a mistake or an attack.
const MAX_PAGE_BYTES: usize = 256 << 20;

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The server answered with an error; message is its own short reason, never a body of unknown content.
    Status {
        code: u16,
        message: String,
    },
    /// The API group or resource is not served.
    NotServed(String),
    TimedOut(Duration),
    /// No connection, TLS refused, credentials could not be made.
    Connect {
        reason: String,
        remedy: String,
    },
    /// The answer could not be understood.
    Body(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code: 401, .. } => write!(
                f,
                "401 Unauthorized: the credentials are not accepted (expired?); {}",
                self.remedy("")
            ),
            Self::Status { code: 403, message } => {
                write!(f, "403 Forbidden: {message}; {}", self.remedy("nodes and pods"))
            }
            Self::Status { code, message } if message.is_empty() => write!(f, "the server answered {code}"),
            Self::Status { code, message } => write!(f, "the server answered {code}: {message}"),
            Self::NotServed(path) => write!(f, "{path} is not served"),
            Self::TimedOut(limit) => write!(f, "no answer within {} s; {}", limit.as_secs(), self.remedy("")),
            Self::Connect { reason, remedy } => write!(f, "{reason}; {remedy}"),
            Self::Body(reason) => write!(f, "the answer could not be read: {reason}"),
        }
    }
}

impl ReadError {
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { code: 403, .. })
    }

    /// Every further read would fail in the same way.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Status { code: 401, .. } | Self::Connect { .. })
    }

    fn reason(&self) -> String {
        match self {
            Self::Status { code: 403, .. } => "403 Forbidden".into(),
            Self::Status { code: 401, .. } => "401 Unauthorized".into(),
            Self::Connect { reason, .. } => reason.clone(),
            Self::TimedOut(limit) => format!("no answer within {} s", limit.as_secs()),
            other => other.to_string(),
        }
    }

    fn remedy(&self, what: &str) -> String {
        match self {
            Self::Status { code: 401, .. } => "log in again ('kubectl get nodes' must work)".into(),
            Self::Status { code: 403, .. } => {
                format!("'gpuwaste rbac | kubectl apply -f -' grants what a scan reads, {what} among it")
            }
            Self::NotServed(_) => "install it, or do without".into(),
            Self::TimedOut(_) => "raise --timeout, or check the network between you and the API server".into(),
            Self::Connect { remedy, .. } => remedy.clone(),
            Self::Status { .. } | Self::Body(_) => {
                "try again; if it persists, look at the API server's own health".into()
            }
        }
    }

    /// This failure as a gap of the report.
    pub fn gap(&self, source: &str, what: &str, effect: &str) -> Gap {
        Gap {
            source: source.into(),
            what: what.into(),
            reason: self.reason(),
            effect: effect.into(),
            remedy: self.remedy(what),
        }
    }
}

/// A connection to one API server.
#[derive(Clone)]
pub struct Api {
    pub client: kube::Client,
    pub timeout: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[derive(serde::Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Default, serde::Deserialize)]
struct HeadMeta {
    #[serde(default, rename = "continue")]
    token: String,
}

#[derive(serde::Deserialize)]
#[serde(bound = "T: serde::de::DeserializeOwned")]
struct Page<T> {
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    items: Vec<T>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(<Option<Vec<T>> as serde::Deserialize>::deserialize(d)?.unwrap_or_default())
}

/// A Status object, as far as an error needs it.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Status {
    reason: Option<String>,
    message: Option<String>,
}

impl Api {
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ReadError> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|e| ReadError::Body(e.to_string()))
    }

    /// All items of a list.
    pub async fn list<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Result<Vec<T>, ReadError> {
        let mut all = Vec::new();
        self.pages::<T>(path, |restart, items| {
            if restart {
                all.clear();
            }
            all.extend(items);
        })
        .await?;
        Ok(all)
    }

    /// All items of a namespaced resource: of the whole cluster, or of `namespaces` where there are any.
    pub async fn list_in<T: DeserializeOwned + Send + 'static>(
        &self,
        group: &str,
        resource: &str,
        namespaces: &[String],
    ) -> Result<Vec<T>, ReadError> {
        if namespaces.is_empty() {
            return self.list(&format!("{group}/{resource}")).await;
        }
        let mut all = Vec::new();
        for namespace in namespaces {
            all.extend(self.list(&format!("{group}/namespaces/{namespace}/{resource}")).await?);
        }
        Ok(all)
    }

    /// Reads a list page by page; while one page is decoded the next is fetched. `each` gets `true` with the first page,
    /// and again when the list had to begin anew because its continue token expired (410).
    pub async fn pages<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        mut each: impl FnMut(bool, Vec<T>),
    ) -> Result<(), ReadError> {
        let mut restarts = 0;
        'begin: loop {
            let mut first = true;
            let mut decoding: Option<tokio::task::JoinHandle<Result<Vec<T>, ReadError>>> = None;
            let mut token = String::new();
            loop {
                let fetched = self.get(&page_path(path, &token)).await;
                if let Some(task) = decoding.take() {
                    each(std::mem::take(&mut first), joined(task).await?);
                }
                let body = match fetched {
                    Ok(body) => body,
                    Err(ReadError::Status { code: 410, .. }) if !token.is_empty() && restarts < RESTARTS => {
                        restarts += 1;
                        continue 'begin;
                    }
                    Err(error) => return Err(error),
                };
                token = continue_token(&body)?;
                decoding = Some(tokio::task::spawn_blocking(move || {
                    serde_json::from_slice::<Page<T>>(&body)
                        .map(|p| p.items)
                        .map_err(|e| ReadError::Body(e.to_string()))
                }));
                if token.is_empty() {
                    break;
                }
            }
            if let Some(task) = decoding {
                each(first, joined(task).await?);
            }
            return Ok(());
        }
    }

    /// GET with backoff: 429 and 5xx are tried again after Retry-After or a growing wait.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let mut wait = FIRST_WAIT;
        let mut tried = 0;
        loop {
            tried += 1;
            let (error, retry_after) = match self.once(path, MAX_PAGE_BYTES).await {
                Ok(answer) if answer.code < 300 && !answer.cut => return Ok(answer.body),
                Ok(answer) if answer.cut => {
                    return Err(ReadError::Body(format!("larger than {} MiB", MAX_PAGE_BYTES >> 20)));
                }
                Ok(answer) => (answer.error(path), answer.retry_after),
                Err(error) => (error, None),
            };
            let again = match &error {
                ReadError::Status { code, .. } => *code == 429 || *code >= 500,
                _ => false,
            };
            if !again || tried >= TRIES {
                return Err(error);
            }
            sleep(retry_after.unwrap_or(wait).min(LONGEST_WAIT)).await;
            wait *= 2;
        }
    }

    /// One GET, read to at most `limit` bytes.
    pub async fn once(&self, path: &str, limit: usize) -> Result<Answer, ReadError> {
        self.once_with(path, limit, &[]).await
    }

    /// One GET with further headers, for what stands behind a proxy.
    pub async fn once_with(&self, path: &str, limit: usize, headers: &[(&str, &str)]) -> Result<Answer, ReadError> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            // Exporters and engines behind the proxy answer in text.
            .header(http::header::ACCEPT, "application/json, */*")
            .body(Body::empty())
            .map_err(|e| ReadError::Body(e.to_string()))?;
        timeout(self.timeout, self.exchange(request, limit))
            .await
            .map_err(|_| ReadError::TimedOut(self.timeout))?
    }

    async fn exchange(&self, request: Request<Body>, limit: usize) -> Result<Answer, ReadError> {
        let response = self
            .client
            .send(request)
            .await
            .map_err(|e| super::connect::explain(&e))?;
        let code = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let json = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|t| t.contains("json"));
        let mut stream = response.into_body().into_data_stream();
        let mut body = Vec::new();
        let mut cut = false;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|e| ReadError::Body(format!("cut off after {} bytes ({e})", body.len())))?;
            let room = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                cut = true;
                break;
            }
        }
        Ok(Answer {
            code,
            body,
            cut,
            retry_after,
            json,
        })
    }
}

/// An HTTP answer.
pub struct Answer {
    pub code: u16,
    pub body: Vec<u8>,
    /// The body was longer than the limit.
    pub cut: bool,
    pub retry_after: Option<Duration>,
    /// By its content type.
    pub json: bool,
}

impl Answer {
    pub fn error(&self, path: &str) -> ReadError {
        let status: Status = serde_json::from_slice(&self.body).unwrap_or_default();
        let path = path.split('?').next().unwrap_or(path);
        match self.code {
            404 if status.reason.is_none()
                || status
                    .message
                    .as_deref()
                    .is_some_and(|m| m.contains("could not find the requested resource")) =>
            {
                ReadError::NotServed(path.into())
            }
            code => ReadError::Status {
                code,
                message: status
                    .message
                    .or(status.reason)
                    .unwrap_or_default()
                    .chars()
                    .take(200)
                    .collect(),
            },
        }
    }
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T, ReadError>>) -> Result<T, ReadError> {
    task.await.map_err(|e| ReadError::Body(e.to_string()))?
}

fn page_path(path: &str, token: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut full = format!("{path}{sign}limit={PAGE}");
    if !token.is_empty() {
        full.push_str("&continue=");
        full.extend(percent_encoding::utf8_percent_encode(
            token,
            percent_encoding::NON_ALPHANUMERIC,
        ));
    }
    full
}

/// The continue token stands before the items: only that much is decoded here, so that the next page can be asked for.
fn continue_token(body: &[u8]) -> Result<String, ReadError> {
    let needle = b"\"items\"";
    let head = body
        .windows(needle.len())
        .position(|w| w == needle)
        .map(|at| &body[..at]);
    let parsed: Result<Head, _> = match head {
        Some(head) => {
            let mut text = head.to_vec();
            while text.last().is_some_and(|b| b.is_ascii_whitespace() || *b == b',') {
                text.pop();
            }
            text.push(b'}');
            serde_json::from_slice(&text).or_else(|_| serde_json::from_slice(body))
        }
        None => serde_json::from_slice(body),
    };
    parsed
        .map(|h| h.metadata.token)
        .map_err(|e| ReadError::Body(format!("no list: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_wherever_it_stands() {
        for text in [
            r#"{"kind":"PodList","metadata":{"resourceVersion":"1","continue":"abc"},"items":[{"a":1}]}"#,
            r#"{"items":[],"metadata":{"continue":"abc"}}"#,
            "{\n \"metadata\": {\"continue\": \"abc\"},\n \"items\": null}",
        ] {
            assert_eq!(continue_token(text.as_bytes()), Ok("abc".into()), "{text}");
        }
        assert_eq!(continue_token(br#"{"metadata":{},"items":[]}"#), Ok(String::new()));
        assert!(continue_token(b"<html>").is_err());
    }

    #[test]
    fn tokens_are_escaped() {
        assert_eq!(
            page_path("/api/v1/pods", "a+b="),
            "/api/v1/pods?limit=500&continue=a%2Bb%3D"
        );
        assert_eq!(page_path("/api/v1/pods?x=1", ""), "/api/v1/pods?x=1&limit=500");
    }
}
