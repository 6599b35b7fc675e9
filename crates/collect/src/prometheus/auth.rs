//! How a store wants to be asked: headers, tokens, certificates, AWS signatures. Nothing of it is ever printed.

use crate::input;
use crate::options::{CONNECT_TIMEOUT, StoreAuth, goes_without_proxies};
use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

/// Amazon Managed Service for Prometheus, as its signatures name it.
const SERVICE: &str = "aps";

/// Credentials in the form requests need them.
pub(super) struct Auth {
    headers: HeaderMap,
    signer: Option<Signer>,
}

struct Signer {
    region: String,
    credentials: Credentials,
}

impl Auth {
    /// Reads files and, for `--prometheus-sigv4-region`, AWS's own environment variables.
    pub(super) fn new(auth: &StoreAuth) -> Result<Self> {
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str, flag: &str| -> Result<()> {
            let name = HeaderName::try_from(name).map_err(|_| {
                anyhow::anyhow!(
                    "{flag}: what stands before the colon is no name of an HTTP header (is the value there?)"
                )
            })?;
            let mut value =
                HeaderValue::from_str(value).with_context(|| format!("{flag}: the value is no HTTP header"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok(())
        };
        for header in &auth.headers {
            let Some((name, value)) = header.split_once(':') else {
                bail!("--prometheus-header: write 'NAME: VALUE'");
            };
            set(name.trim(), value.trim(), "--prometheus-header")?;
        }
        let read = |path: &std::path::Path, flag: &str| {
            input::named_text(path, input::WRITTEN)
                .with_context(|| format!("{flag}: could not read {}", path.display()))
        };
        if let Some(path) = &auth.token_file {
            let token = read(path, "--prometheus-token-file")?;
            set(
                "authorization",
                &format!("Bearer {}", token.trim()),
                "--prometheus-token-file",
            )?;
        }
        if let Some(user) = &auth.user {
            let password = match &auth.password_file {
                Some(path) => read(path, "--prometheus-password-file")?,
                None => String::new(),
            };
            let both = format!("{user}:{}", password.trim_end_matches(['\r', '\n']));
            set(
                "authorization",
                &format!("Basic {}", STANDARD.encode(&both)),
                "--prometheus-user",
            )?;
        }
        let signer = auth.sigv4_region.as_ref().map(|region| signer(region)).transpose()?;
        Ok(Self { headers, signer })
    }

    /// Adds what is needed to one request.
    pub(super) fn apply(&self, method: &str, url: &str, body: &[u8], headers: &mut HeaderMap) -> Result<(), String> {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let Some(signer) = &self.signer else {
            return Ok(());
        };
        let identity = signer.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&signer.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| e.to_string())?;
        let plain: Vec<(String, String)> = headers
            .iter()
            .filter_map(|(n, v)| Some((n.as_str().to_string(), v.to_str().ok()?.to_string())))
            .collect();
        let request = SignableRequest::new(
            method,
            url,
            plain.iter().map(|(n, v)| (n.as_str(), v.as_str())),
            SignableBody::Bytes(body),
        )
        .map_err(|e| e.to_string())?;
        let (instructions, _) = sign(request, &parameters.into())
            .map_err(|e| e.to_string())?
            .into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
        }
        Ok(())
    }
}

fn signer(region: &str) -> Result<Signer> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let (Some(key), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) else {
        bail!(
            "--prometheus-sigv4-region: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: \
             'eval \"$(aws configure export-credentials --format env)\"' sets them for any profile, SSO or role"
        );
    };
    Ok(Signer {
        region: region.into(),
        credentials: Credentials::new(key, secret, variable("AWS_SESSION_TOKEN"), None, "environment"),
    })
}

/// Redirects are not followed: they lead to login pages, and a header with a token goes to the named host alone. Proxies of the
/// environment are for TLS alone: what goes through them in the clear they read.
fn builder(url: &str, timeout: Duration) -> reqwest::ClientBuilder {
    // No client is made without a TLS provider; one that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("gpuwaste/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https://") || goes_without_proxies() {
        builder.no_proxy()
    } else {
        builder
    }
}

/// For another server that the user named.
pub(crate) fn plain_client(url: &str, timeout: Duration) -> Result<reqwest::Client> {
    builder(url, timeout).build().context("could not make an HTTP client")
}

/// A client for a URL that the user gave.
pub(super) fn client(url: &str, auth: &StoreAuth, timeout: Duration) -> Result<reqwest::Client> {
    let mut builder = builder(url, timeout);
    if let Some(path) = &auth.ca_file {
        let flag = "--prometheus-ca-file";
        let pem =
            input::named(path, input::WRITTEN).with_context(|| format!("{flag}: could not read {}", path.display()))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{flag}: {} holds no PEM certificates", path.display()))?;
        if authorities.is_empty() {
            bail!("{flag}: {} holds no PEM certificates", path.display());
        }
        builder = builder.tls_certs_merge(authorities);
    }
    if let (Some(cert), Some(key)) = (&auth.client_cert, &auth.client_key) {
        let flag = "--prometheus-client-cert";
        let mut pem =
            input::named(cert, input::WRITTEN).with_context(|| format!("{flag}: could not read {}", cert.display()))?;
        pem.push(b'\n');
        pem.extend(
            input::named(key, input::WRITTEN)
                .with_context(|| format!("--prometheus-client-key: could not read {}", key.display()))?,
        );
        let identity = reqwest::Identity::from_pem(&pem)
            .with_context(|| format!("{flag}: {} and its key are no PEM pair", cert.display()))?;
        builder = builder.identity(identity);
    }
    builder.build().context("could not make a client for --prometheus")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_request_names_key_region_and_service() {
        let auth = Auth {
            headers: HeaderMap::new(),
            signer: Some(Signer {
                region: "eu-west-1".into(),
                credentials: Credentials::new("AKIDEXAMPLE", "secret", Some("session".into()), None, "test"),
            }),
        };
        let mut headers = HeaderMap::new();
        auth.apply(
            "POST",
            "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/query",
            b"query=up",
            &mut headers,
        )
        .unwrap();
        let signed = headers["authorization"].to_str().unwrap();
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{signed}"
        );
        assert!(signed.contains("/eu-west-1/aps/aws4_request"), "{signed}");
        assert_eq!(headers["x-amz-security-token"], "session");
    }
}
