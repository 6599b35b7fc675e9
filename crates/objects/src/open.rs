//! A bucket's client, by the environment variables that the clouds' own tools read.

use crate::gate::{self, Gate, Trouble};
use crate::{Address, Both, Cloud, Failure, INSTANCE, What};
use http::StatusCode;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, RetryConfig};
use std::env;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// Of a request that failed for a reason that passes.
const TRIES: usize = 4;
/// By which variables another metadata service than the known ones is named.
const METADATA: [&str; 6] = [
    "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "AZURE_MSI_ENDPOINT",
    "IDENTITY_ENDPOINT",
];
/// Certificates of one's own.
const MOST_PEM: u64 = 16 << 20;

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(|n| variable(n))
}

pub(crate) fn open(address: &Address) -> Result<(Arc<dyn Both>, Gate), Failure> {
    match address.cloud {
        Cloud::S3 => s3(&address.bucket),
        Cloud::Gcs => gcs(&address.bucket),
        Cloud::Azure => azure(&address.bucket),
    }
}

fn s3(bucket: &str) -> Result<(Arc<dyn Both>, Gate), Failure> {
    let endpoint = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
    let gate = gate(endpoint.as_deref(), variable("AWS_CA_BUNDLE").as_deref())?;
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(gate.clone())
        .with_retry(retry())
        .build();
    Ok((Arc::new(store.map_err(odd)?), gate))
}

fn gcs(bucket: &str) -> Result<(Arc<dyn Both>, Gate), Failure> {
    // The variable of Google's own libraries; an emulator asks nobody who he is.
    let emulator = variable("STORAGE_EMULATOR_HOST").map(|host| {
        if host.contains("://") {
            host
        } else {
            format!("http://{host}")
        }
    });
    let endpoint = first(&["GOOGLE_BASE_URL"]).or_else(|| emulator.clone());
    let gate = gate(endpoint.as_deref(), None)?;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(gate.clone())
        .with_retry(retry());
    if let Some(url) = emulator {
        builder = builder
            .with_base_url(url.trim_end_matches('/'))
            .with_skip_signature(true);
    }
    Ok((Arc::new(builder.build().map_err(odd)?), gate))
}

fn azure(container: &str) -> Result<(Arc<dyn Both>, Gate), Failure> {
    let connection = variable("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
    let part = |name: &str| {
        let mut parts = connection.split(';').filter_map(|p| p.trim().split_once('='));
        parts
            .find(|(n, v)| n.eq_ignore_ascii_case(name) && !v.is_empty())
            .map(|(_, v)| v.to_owned())
    };
    let emulated = variable("AZURE_STORAGE_USE_EMULATOR").is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
    let endpoint = first(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]).or_else(|| part("BlobEndpoint"));
    let plain = if emulated {
        Some(variable("AZURITE_BLOB_STORAGE_URL").unwrap_or_else(|| "http://127.0.0.1:10000".into()))
    } else {
        endpoint.clone()
    };
    let gate = gate(plain.as_deref(), None)?;
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_http_connector(gate.clone())
        .with_retry(retry());
    // As the az command calls them.
    let account = first(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]).or_else(|| part("AccountName"));
    if let Some(account) = account {
        builder = builder.with_account(account);
    } else if !emulated {
        return Err(Failure(
            "whose container? AZURE_STORAGE_ACCOUNT names the storage account, or AZURE_STORAGE_CONNECTION_STRING"
                .into(),
        ));
    }
    if let Some(key) = variable("AZURE_STORAGE_KEY").or_else(|| part("AccountKey")) {
        builder = builder.with_access_key(key);
    }
    if let Some(sas) = part("SharedAccessSignature") {
        builder = builder.with_config(object_store::azure::AzureConfigKey::SasKey, sas);
    }
    if let Some(url) = endpoint.filter(|_| !emulated) {
        builder = builder.with_endpoint(url.trim_end_matches('/').to_owned());
    }
    Ok((Arc::new(builder.build().map_err(odd)?), gate))
}

fn gate(endpoint: Option<&str>, authorities: Option<&str>) -> Result<Gate, Failure> {
    // No client is made without a TLS provider; one that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            // What lies there is unpacked by its content, not by a header.
            .no_gzip()
            .user_agent(concat!("gpuwaste/", env!("CARGO_PKG_VERSION")))
    };
    let mut client = builder();
    if let Some(path) = authorities {
        let pem = certificates(path).map_err(|why| Failure(format!("AWS_CA_BUNDLE: {path}: {why}")))?;
        client = client.tls_certs_merge(pem);
    }
    let made = |builder: reqwest::ClientBuilder| {
        let client = builder.build();
        client.map_err(|e| Failure(format!("could not make a client: {}", e.without_url())))
    };
    let clients = [made(client)?, made(builder().no_proxy())?];
    let metadata: Vec<String> = METADATA.iter().filter_map(|name| variable(name)).collect();
    Ok(Gate::new(clients, endpoint, &metadata, instance_allowed()))
}

fn certificates(path: &str) -> Result<Vec<reqwest::Certificate>, String> {
    let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MOST_PEM {
        return Err(format!("it is larger than {} MiB", MOST_PEM >> 20));
    }
    let pem = std::fs::read(path).map_err(|e| e.to_string())?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err("it holds no PEM certificates".into());
    }
    Ok(found)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: TRIES,
        retry_timeout: Duration::from_secs(60),
    }
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn odd(error: object_store::Error) -> Failure {
    Failure(without_secrets(&format!(
        "what the environment says does not go together: {error}"
    )))
}

/// A text of a library: values of variables that hold credentials do not leave.
pub(crate) fn without_secrets(text: &str) -> String {
    let secret = |name: &str| {
        [
            "KEY",
            "SECRET",
            "TOKEN",
            "PASSWORD",
            "SAS",
            "CONNECTION_STRING",
            "CREDENTIALS",
        ]
        .iter()
        .any(|s| name.contains(s))
            && ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|s| name.starts_with(s))
    };
    let values = env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    let mut text = text.to_owned();
    for (_, value) in values.filter(|(n, v)| secret(n) && v.len() > 3) {
        text = text.replace(&value, "***");
    }
    text
}

/// What a status means here, and the way out.
pub(crate) fn explain(bucket: &Address, trouble: &Trouble, what: What) -> String {
    let cloud = bucket.cloud;
    let (status, code) = match trouble {
        Trouble::Lost(why) if why.starts_with("TLS") && cloud == Cloud::S3 => {
            return format!("{why}; name it with AWS_CA_BUNDLE");
        }
        Trouble::Lost(why) => return format!("{why}; look at {}", endpoint_of(cloud)),
        Trouble::Metadata(host) => return no_credentials(cloud, host),
        Trouble::Plain(host) => {
            return format!(
                "{host} would be asked without encryption: only the endpoint itself may be named with http://"
            );
        }
        Trouble::Status(status, code) => (*status, code.as_deref()),
    };
    let told = code.map_or_else(|| status.as_u16().to_string(), |c| format!("{} {c}", status.as_u16()));
    let name = &bucket.bucket;
    match (status, code.unwrap_or_default()) {
        (
            _,
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect",
        )
        | (StatusCode::MOVED_PERMANENTLY | StatusCode::TEMPORARY_REDIRECT, _)
            if cloud == Cloud::S3 =>
        {
            format!(
                "the bucket {name} is in another region ({told}): say which with AWS_REGION ('aws s3api get-bucket-location --bucket {name}' tells it)"
            )
        }
        (_, "NoSuchBucket" | "ContainerNotFound") => {
            format!(
                "there is no bucket {name} ({told}): look at its name, and at {}",
                endpoint_of(cloud)
            )
        }
        (StatusCode::NOT_FOUND, _) => match what {
            What::List => format!(
                "there is no bucket {name} ({told}): look at its name, and at {}",
                endpoint_of(cloud)
            ),
            What::Object => format!("there is no such object ({told}), and none below it"),
        },
        (_, "ExpiredToken" | "ExpiredTokenException" | "RequestTimeTooSkewed" | "invalid_grant") => {
            format!("the credentials are no longer good ({told}): get new ones, and look at this machine's clock")
        }
        (_, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AuthenticationFailed" | "invalid_client") => {
            format!(
                "the store does not know these credentials ({told}): look at {}, and at {}",
                variables(cloud),
                endpoint_of(cloud)
            )
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            let needed = match (cloud, what) {
                (Cloud::S3, What::List) => "s3:ListBucket on the bucket",
                (Cloud::S3, What::Object) => {
                    "s3:GetObject on it (and s3:ListBucket, without which what is not there looks the same)"
                }
                (Cloud::Gcs, _) => "roles/storage.objectViewer on the bucket",
                (Cloud::Azure, _) => "the role Storage Blob Data Reader, or a SAS with read and list",
            };
            format!(
                "refused ({told}): the credentials of {} need {needed}",
                variables(cloud)
            )
        }
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) | (_, "SlowDown" | "ServerBusy") => {
            format!(
                "the store asks to be asked less ({told}), also the {TRIES}th time again: try later, or name fewer snapshots at once"
            )
        }
        (s, _) if s.is_server_error() => {
            format!("the store failed ({told}), also the {TRIES}th time again: try later")
        }
        _ => format!("the store answered {told}; look at {}", endpoint_of(cloud)),
    }
}

fn no_credentials(cloud: Cloud, host: &str) -> String {
    let (set, open) = match cloud {
        Cloud::S3 => (
            "'eval \"$(aws configure export-credentials --format env)\"' sets them for any profile, SSO or role",
            "AWS_SKIP_SIGNATURE=true",
        ),
        Cloud::Gcs => (
            "'gcloud auth application-default login' or GOOGLE_APPLICATION_CREDENTIALS=FILE gives them",
            "GOOGLE_SKIP_SIGNATURE=true",
        ),
        Cloud::Azure => (
            "AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN holds them, or AZURE_USE_AZURE_CLI=true asks the az command",
            "AZURE_SKIP_SIGNATURE=true",
        ),
    };
    format!(
        "no credentials in the environment, and {host} is not asked for any: {set}; {open} reads a public bucket; {}",
        gate::by_instance()
    )
}

fn variables(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => "AWS_ACCESS_KEY_ID (or the role of AWS_ROLE_ARN)",
        Cloud::Gcs => "GOOGLE_APPLICATION_CREDENTIALS (or of 'gcloud auth application-default login')",
        Cloud::Azure => "AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_CLIENT_ID",
    }
}

/// What would be asked for an address, line by line; with a list where it is a prefix.
pub(crate) fn dry_run(address: &Address, list: bool) -> Vec<String> {
    let (bucket, key) = (&address.bucket, &address.key);
    let (base, tokens) = match address.cloud {
        Cloud::S3 => {
            let region = first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".into());
            let endpoint = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
            let base = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
            let role = variable("AWS_WEB_IDENTITY_TOKEN_FILE").filter(|_| variable("AWS_ACCESS_KEY_ID").is_none());
            (base, role.map(|_| format!("https://sts.{region}.amazonaws.com")))
        }
        Cloud::Gcs => {
            let own = first(&["GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"]);
            let open = variable("STORAGE_EMULATOR_HOST").or_else(|| variable("GOOGLE_SKIP_SIGNATURE"));
            let tokens = open.is_none().then(|| "https://oauth2.googleapis.com/token".to_owned());
            (own.unwrap_or_else(|| "https://storage.googleapis.com".into()), tokens)
        }
        Cloud::Azure => {
            let account = first(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
            let base = first(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]).unwrap_or_else(|| {
                format!(
                    "https://{}.blob.core.windows.net",
                    account.as_deref().unwrap_or("ACCOUNT")
                )
            });
            let tokens = variable("AZURE_CLIENT_ID").map(|_| "https://login.microsoftonline.com".to_owned());
            (base, tokens)
        }
    };
    let base = base
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_end_matches('/')
        .to_owned();
    let mut lines = Vec::new();
    lines.extend(tokens.map(|url| format!("POST {url}  # a token, for the credentials that the environment names")));
    if instance_allowed() {
        lines.push(format!(
            "GET http://169.254.169.254  # the machine's own credentials, where the environment has none ({INSTANCE})"
        ));
    }
    if list {
        lines.push(format!("GET {base}/{bucket}  # list what begins with '{key}'"));
        lines.push(format!("GET {base}/{bucket}/{key}…  # each snapshot there"));
    } else {
        lines.push(format!("GET {base}/{bucket}/{key}"));
    }
    lines
}

fn instance_allowed() -> bool {
    variable(INSTANCE).is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"))
}

fn endpoint_of(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => "AWS_ENDPOINT_URL and AWS_REGION",
        Cloud::Gcs => "GOOGLE_BASE_URL or STORAGE_EMULATOR_HOST, if one is set",
        Cloud::Azure => "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ENDPOINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cloud: Cloud, status: u16, code: Option<&str>, what: What) -> String {
        let bucket = Address {
            cloud,
            bucket: "fleet".into(),
            key: String::new(),
        };
        let status = StatusCode::from_u16(status).unwrap();
        explain(&bucket, &Trouble::Status(status, code.map(str::to_owned)), what)
    }

    #[test]
    fn each_status_has_its_reason_and_its_way_out() {
        let s3 = |status, code, what| told(Cloud::S3, status, code, what);
        for (text, wanted) in [
            (s3(403, Some("AccessDenied"), What::Object), "s3:GetObject"),
            (s3(403, None, What::List), "s3:ListBucket"),
            (s3(301, Some("PermanentRedirect"), What::List), "AWS_REGION"),
            (s3(400, Some("AuthorizationHeaderMalformed"), What::List), "AWS_REGION"),
            (s3(404, Some("NoSuchBucket"), What::List), "no bucket fleet"),
            (s3(404, Some("NoSuchKey"), What::Object), "no such object"),
            (s3(503, Some("SlowDown"), What::Object), "asked less"),
            (s3(400, Some("ExpiredToken"), What::Object), "get new ones"),
            (s3(500, None, What::List), "try later"),
            (
                told(Cloud::Azure, 404, Some("ContainerNotFound"), What::List),
                "no bucket fleet",
            ),
            (told(Cloud::Azure, 403, None, What::List), "Storage Blob Data Reader"),
            (told(Cloud::Gcs, 429, None, What::List), "asked less"),
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn without_credentials_the_ways_out_are_told() {
        let bucket = Address::parse("gs://fleet").unwrap().unwrap();
        let text = explain(&bucket, &Trouble::Metadata("169.254.169.254".into()), What::List);
        assert!(text.contains(INSTANCE) && text.contains("gcloud auth"), "{text}");
    }
}
