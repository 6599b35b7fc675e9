//! The way to a pod: through the API server, or straight to its address.

use super::jobs::Job;
use crate::kube::api::{Api, ReadError};
use crate::kube::clock::Look;
use crate::kube::path::{ApiPath, Name};
use crate::options::{CONNECT_TIMEOUT, CollectOptions};
use futures::StreamExt;
use jiff::Timestamp;
use std::time::Duration;

/// A page is read to here; what is longer is a gap (a 200 MB page has been seen from a mislabelled exporter).
const MAX_PAGE_BYTES: usize = 8 << 20;

/// How pods are reached.
pub(super) enum Fetcher<'a> {
    /// Through the API server: from a laptop.
    Proxy(&'a Api),
    /// Straight to pod addresses: inside the cluster.
    Direct(reqwest::Client, Duration),
}

pub(super) fn direct<'a>(options: &CollectOptions) -> Option<Fetcher<'a>> {
    // Metrics are plain HTTP, but a client cannot be made without a TLS provider; one that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .ok()?;
    Some(Fetcher::Direct(client, options.timeout))
}

/// A page, and what its Date tells of the clock of whoever wrote it.
pub(super) struct Page {
    pub(super) body: Vec<u8>,
    pub(super) cut: bool,
    pub(super) look: Option<Look>,
}

pub(super) async fn fetch(fetcher: &Fetcher<'_>, job: &Job, path: &'static str) -> Result<Page, ReadError> {
    match fetcher {
        Fetcher::Proxy(api) => {
            let named = Name::parse(&job.namespace).and_then(|ns| Ok((ns, Name::parse(&job.pod)?)));
            let (namespace, pod) = named.map_err(|odd| ReadError::Body(odd.to_string()))?;
            let full = ApiPath::of_pod(&namespace, &pod, job.port, path);
            let answer = api.once(&full, MAX_PAGE_BYTES).await?;
            if answer.code == 404 {
                return Err(ReadError::Status {
                    code: 404,
                    message: format!("nothing at port {} path {path}", job.port),
                    own: false,
                });
            }
            let (cut, look) = (answer.cut, answer.look);
            let body = answer.ok(&full)?;
            Ok(Page { body, cut, look })
        }
        Fetcher::Direct(client, timeout) => {
            let ip = job
                .ip
                .as_deref()
                .ok_or_else(|| ReadError::Body("the pod has no address".into()))?;
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_string()
            };
            let url = format!("http://{host}:{}{path}", job.port);
            let read = async {
                let begun = Timestamp::now();
                let response = client.get(url).send().await.map_err(|e| ReadError::Body(plain(&e)))?;
                let look = Look::of(response.headers(), begun, Timestamp::now());
                let code = response.status().as_u16();
                if code != 200 {
                    return Err(ReadError::Status {
                        code,
                        message: String::new(),
                        own: false,
                    });
                }
                let mut body = Vec::new();
                let mut chunks = response.bytes_stream();
                while let Some(chunk) = chunks.next().await {
                    let chunk = chunk.map_err(|e| ReadError::Body(plain(&e)))?;
                    let room = MAX_PAGE_BYTES - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        return Ok(Page { body, cut: true, look });
                    }
                }
                Ok(Page { body, cut: false, look })
            };
            tokio::time::timeout(*timeout, read)
                .await
                .map_err(|_| ReadError::TimedOut(*timeout))?
        }
    }
}

fn plain(error: &reqwest::Error) -> String {
    let kind = if error.is_connect() {
        "no connection to the pod"
    } else if error.is_timeout() {
        "the pod did not answer"
    } else {
        "the answer was cut off"
    };
    kind.into()
}
