//! The one way out to a store: what is asked, of whom, how much of an answer is taken, and what went wrong.
//!
//! Only GET and HEAD, and POST to whoever hands out tokens. No redirect is followed. Plain HTTP goes to the endpoint that the user
//! named alone. Instances' metadata services hand credentials to whoever asks: they are asked only where the user said so.

use crate::INSTANCE;
use async_trait::async_trait;
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Of a list, a token or an error.
const MOST_SAID: usize = 64 << 20;
/// Of an object, as it lies there: as large as a snapshot may be unpacked.
pub(crate) const MOST_OF_OBJECT: usize = 2 << 30;
/// The reason of an error is looked for in so much of it.
const MOST_OF_ERROR: usize = 64 << 10;

/// What went wrong with the last request.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// The status, and the store's own word for it: "403", "AccessDenied".
    Status(StatusCode, Option<String>),
    /// No answer, or not all of one: in words.
    Lost(String),
    /// The user did not say that this host may be asked for credentials.
    Metadata(String),
    /// This host would be asked without encryption.
    Plain(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Of TLS: through the environment's proxies, which see whom is called, and no signature.
    client: reqwest::Client,
    /// Of what goes in the clear: a proxy would read signatures and credentials.
    direct: reqwest::Client,
    /// `host` or `host:port` of an endpoint that was named with http://.
    plain: Option<String>,
    /// `host` or `host:port` of metadata services that the environment names beside the known ones.
    metadata: Vec<String>,
    /// Instances' metadata services may be asked.
    instance: bool,
    last: Arc<Mutex<Option<Trouble>>>,
}

impl Gate {
    pub(crate) fn new(
        [client, direct]: [reqwest::Client; 2],
        endpoint: Option<&str>,
        metadata: &[String],
        instance: bool,
    ) -> Self {
        let place = |rest: &str| rest.split(['/', '?']).next().unwrap_or_default().to_ascii_lowercase();
        Self {
            client,
            direct,
            plain: endpoint.and_then(|e| e.strip_prefix("http://")).map(place),
            metadata: metadata
                .iter()
                .map(|m| place(m.split_once("://").map_or(m.as_str(), |(_, rest)| rest)))
                .collect(),
            instance,
            last: Arc::default(),
        }
    }

    /// What went wrong since it was asked last.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, trouble: Trouble) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    fn allows(&self, method: &Method, uri: &Uri) -> Result<(), Trouble> {
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let named = uri.authority().map(|a| a.as_str().to_ascii_lowercase());
        if is_metadata(&host) || named.as_ref().is_some_and(|n| self.metadata.contains(n)) {
            return if self.instance {
                Ok(())
            } else {
                Err(Trouble::Metadata(host))
            };
        }
        if ![Method::GET, Method::HEAD, Method::POST].contains(method) {
            return Err(Trouble::Lost(format!("{method} is never asked")));
        }
        if uri.scheme_str() != Some("https") && named != self.plain {
            return Err(Trouble::Plain(host));
        }
        Ok(())
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        if let Err(trouble) = self.allows(&parts.method, &parts.uri) {
            self.note(trouble);
            return Err(HttpError::new(HttpErrorKind::Unknown, Refused));
        }
        let list = parts.uri.query().is_some_and(|q| q.contains("list"));
        let text = parts.uri.to_string();
        let url = text
            .parse()
            .map_err(|_| HttpError::new(HttpErrorKind::Unknown, Refused))?;
        let mut ask = reqwest::Request::new(parts.method, url);
        *ask.headers_mut() = parts.headers;
        if let Some(bytes) = body.as_bytes().filter(|b| !b.is_empty()) {
            *ask.body_mut() = Some(bytes.clone().into());
        }
        let host = parts.uri.host().unwrap_or_default().to_owned();
        let client = if parts.uri.scheme_str() == Some("https") {
            &self.client
        } else {
            &self.direct
        };
        let answer = client.execute(ask).await.map_err(|e| self.lost(&host, e))?;
        let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        if parts.status.is_success() {
            let most = if list { MOST_SAID } else { MOST_OF_OBJECT };
            let gate = self.clone();
            let body = Limited::new(body, most).map_err(move |e| {
                if let Ok(e) = e.downcast::<reqwest::Error>() {
                    return gate.lost(&host, *e);
                }
                gate.note(Trouble::Lost(format!("it is larger than {} MiB", most >> 20)));
                HttpError::new(HttpErrorKind::Unknown, Refused)
            });
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let told = Limited::new(body, MOST_OF_ERROR).collect().await;
        let told = told.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let code = code(&String::from_utf8_lossy(&told)).or_else(|| {
            let header = parts.headers.get("x-ms-error-code")?.to_str().ok()?;
            Some(header.to_owned())
        });
        self.note(Trouble::Status(parts.status, code));
        Ok(HttpResponse::from_parts(parts, told.into()))
    }

    fn lost(&self, host: &str, error: reqwest::Error) -> HttpError {
        let mut cause: &dyn Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let cause = cause.to_string();
        let (kind, what) = if error.is_timeout() {
            (HttpErrorKind::Timeout, format!("{host} did not answer in time"))
        } else if cause.contains("UnknownIssuer") {
            let what = format!("TLS: the certificate of {host} is signed by a CA that this machine does not know");
            (HttpErrorKind::Unknown, what)
        } else if error.is_connect() {
            (HttpErrorKind::Connect, format!("no connection to {host} ({cause})"))
        } else {
            let what = format!("the answer of {host} was cut off ({cause})");
            (HttpErrorKind::Interrupted, what)
        };
        self.note(Trouble::Lost(what));
        HttpError::new(kind, error.without_url())
    }
}

impl HttpConnector for Gate {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Gate {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.ask(request).await
    }
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not asked")
    }
}

impl Error for Refused {}

/// Link-local addresses and the names of them: EC2, ECS, EKS, GCE and Azure hand out credentials there.
fn is_metadata(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            let mapped = ip.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local());
            // fd00:ec2::/32 and fd20:ce::/32: Amazon's and Google's.
            mapped || ip.is_unicast_link_local() || matches!(ip.segments(), [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..])
        }
        Err(_) => bare == "metadata" || bare == "metadata.google.internal",
    }
}

/// The store's own word for an error, of XML or JSON; nothing else of it is looked at: it may repeat what was signed.
fn code(body: &str) -> Option<String> {
    let after = |mark: &str| {
        body.split_once(mark)
            .map(|(_, rest)| rest.trim_start_matches([' ', '"', ':']))
    };
    let word = after("<Code>")
        .or_else(|| after("\"code\""))
        .or_else(|| after("\"error\""))?;
    let end = word
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(word.len());
    let word = &word[..end];
    ((1..=64).contains(&word.len()) && !word.bytes().all(|b| b.is_ascii_digit())).then(|| word.to_owned())
}

/// How the way out of [`Trouble::Metadata`] is told.
pub(crate) fn by_instance() -> String {
    format!("{INSTANCE}=1 asks the metadata service of the machine that this runs on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(endpoint: Option<&str>, instance: bool) -> Gate {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Gate::new(
            [(); 2].map(|()| reqwest::Client::new()),
            endpoint,
            &["http://own.metadata:8080/".into()],
            instance,
        )
    }

    fn asked(gate: &Gate, method: &Method, url: &str) -> Result<(), Trouble> {
        gate.allows(method, &url.parse().unwrap())
    }

    #[test]
    fn metadata_services_are_asked_only_where_the_user_said_so() {
        for url in [
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.2/v2/credentials",
            "http://[fd00:ec2::254]/latest",
            "http://[::ffff:169.254.169.254]/latest",
            "http://metadata.google.internal/computeMetadata/v1",
            "http://METADATA.google.internal./computeMetadata/v1",
            "http://own.metadata:8080/latest",
        ] {
            // Not even where it was named as the endpoint.
            let told = asked(&gate(Some(url), false), &Method::GET, url);
            assert!(matches!(told, Err(Trouble::Metadata(_))), "{url}: {told:?}");
            assert!(asked(&gate(None, true), &Method::GET, url).is_ok(), "{url}");
        }
    }

    #[test]
    fn plain_http_goes_to_the_named_endpoint_alone() {
        let gate = gate(Some("http://Store.local:9000/"), false);
        assert!(asked(&gate, &Method::GET, "http://store.local:9000/bucket?list-type=2").is_ok());
        let other = asked(&gate, &Method::GET, "http://store.local:9001/bucket");
        assert!(matches!(other, Err(Trouble::Plain(_))));
        let tokens = asked(&gate, &Method::POST, "http://sts.amazonaws.com/");
        assert!(matches!(tokens, Err(Trouble::Plain(_))));
        assert!(asked(&gate, &Method::GET, "https://bucket.s3.eu-west-1.amazonaws.com/key").is_ok());
    }

    #[test]
    fn nothing_is_written() {
        let gate = gate(Some("http://store:1"), true);
        for method in [Method::PUT, Method::DELETE, Method::PATCH] {
            assert!(asked(&gate, &method, "http://store:1/bucket/key").is_err());
        }
    }

    #[test]
    fn of_an_error_only_the_word_for_it_is_taken() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>x-amz-security-token:SECRET</CanonicalRequest></Error>";
        assert_eq!(code(xml).as_deref(), Some("SignatureDoesNotMatch"));
        assert_eq!(code(r#"{"error": "invalid_grant"}"#).as_deref(), Some("invalid_grant"));
        assert_eq!(code(r#"{"error": {"code": 403, "message": "x"}}"#), None);
        assert_eq!(code("<Code>\u{1b}[31m</Code>"), None);
        assert_eq!(code(""), None);
    }
}
