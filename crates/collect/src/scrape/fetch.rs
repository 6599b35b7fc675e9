//! The way to a pod: through the API server, or straight to its address.

use super::jobs::Job;
use crate::kube::api::{Api, ReadError};
use crate::kube::clock::Look;
use crate::kube::path::{ApiPath, Name};
use crate::options::{CONNECT_TIMEOUT, CollectOptions};
use futures::StreamExt;
use jiff::Timestamp;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A page is read to here; what is longer is a gap (a 200 MB page has been seen from a mislabelled exporter).
const MAX_PAGE_BYTES: usize = 8 << 20;

/// How pods are reached.
pub(super) enum Fetcher<'a> {
    /// Through the API server: from a laptop.
    Proxy(&'a Api),
    /// Straight to addresses: of pods inside the cluster, or of this host's servers.
    Direct(reqwest::Client, Duration, Reach),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Pods,
    Host,
}

/// Where clouds serve metadata and credentials beside link-local addresses: AWS over IPv6, Alibaba, Azure, Oracle (their docs).
const METADATA: &[&str] = &["fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"];

impl Reach {
    /// The address, where it is one that a pod can have: not this machine's own, not everybody's, not a cloud's metadata.
    fn address(self, ip: &str) -> Option<IpAddr> {
        let ip = ip.parse::<IpAddr>().ok()?.to_canonical();
        let odd = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let metadata = METADATA.iter().any(|m| m.parse() == Ok(ip));
        let own = ip.is_loopback() && self == Self::Pods;
        (!odd && !metadata && !own && !ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
    }
}

pub(super) fn direct<'a>(options: &CollectOptions, reach: Reach) -> Option<Fetcher<'a>> {
    // Metrics are plain HTTP, but a client cannot be made without a TLS provider; one that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .ok()?;
    Some(Fetcher::Direct(client, options.timeout, reach))
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
        Fetcher::Direct(client, timeout, reach) => {
            let ip = job.ip.as_deref().unwrap_or_default();
            let Some(ip) = reach.address(ip) else {
                let shown: String = ip.chars().filter(|c| !c.is_control()).take(60).collect();
                return Err(ReadError::Body(format!(
                    "the pod has no address that a pod can have: '{shown}'"
                )));
            };
            let url = format!("http://{}{path}", SocketAddr::new(ip, job.port));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_a_pod_can_have_are_asked() {
        for ip in [
            "10.0.0.7",
            "192.168.3.4",
            "100.64.9.9",
            "fd12::7",
            "2001:db8::1",
            "::ffff:10.0.0.7",
        ] {
            assert!(Reach::Pods.address(ip).is_some(), "{ip}");
        }
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "metadata.google.internal",
            "10.0.0.7@evil.example",
            "10.0.0.7/x?",
            "",
        ] {
            assert!(Reach::Pods.address(ip).is_none(), "{ip}");
            assert!(Reach::Host.address(ip).is_none(), "{ip}");
        }
        let own = "127.0.0.1";
        assert!(Reach::Pods.address(own).is_none() && Reach::Host.address(own).is_some());
    }
}
