//! slurmrestd: nodes, jobs and accounting over HTTP, with a token of the user's. GET only; the release of its API is what it says of itself.

use super::commands::days;
use super::{Output, Outputs};
use crate::prometheus::{cause, plain_client, without_credentials};
use crate::{held, input};
use anyhow::{Context, Result, bail};
use base64::Engine;
use futures::StreamExt;
use gpuwaste_slurm::config::Config;
use gpuwaste_slurm::rest::{self, About};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its own description.
const MOST_WORDS: usize = 16 << 20;
const DESCRIPTIONS: [&str; 2] = ["/openapi/v3", "/openapi"];

const OLD_TOKEN: &str = "a token that has expired or is another cluster's ('scontrol token > FILE' writes a new one)";

/// How slurmrestd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub url: String,
    pub token_file: PathBuf,
}

impl Rest {
    /// For reports: never with credentials.
    pub fn name(&self) -> String {
        without_credentials(self.base())
    }

    fn base(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// Says what would be asked (`--dry-run`).
    pub fn dry_run(&self) -> Vec<String> {
        let told = |path: &str, why: &str| format!("GET {}{path}  # {why}", self.name());
        vec![
            told(DESCRIPTIONS[0], "which releases of the API it speaks"),
            told("/slurm/VERSION/nodes/", "nodes, GPUs, states and reasons"),
            told("/slurm/VERSION/jobs/", "jobs and the GPUs that they hold or wait for"),
            told(
                "/slurmdb/VERSION/jobs/?start_time=DAY&end_time=NEXT_DAY",
                "GPU-hours of jobs that have ended, one request a day; comments are read for jobstats' figures and dropped",
            ),
        ]
    }
}

/// What `scontrol token` prints, or the token alone; and whose it is, which slurmrestd wants to be told, too.
struct Token {
    text: String,
    user: String,
}

/// The user's name, under the claims that Slurm reads.
#[derive(Deserialize)]
struct Claims {
    sun: Option<String>,
    username: Option<String>,
    sub: Option<String>,
}

fn token(path: &Path) -> Result<Token> {
    const FLAG: &str = "--slurm-token-file";
    let text = input::named_text(path, input::WRITTEN)
        .with_context(|| format!("{FLAG}: could not read {}", path.display()))?;
    let text = text.trim();
    let text = text.strip_prefix("SLURM_JWT=").unwrap_or(text).trim().to_owned();
    let claims = text.split('.').nth(1).and_then(|part| {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Claims>(&bytes).ok()
    });
    let user = claims.and_then(|c| c.sun.or(c.username).or(c.sub));
    let Some(user) = user.filter(|u| !u.is_empty()) else {
        bail!(
            "{FLAG}: {} holds no token of Slurm's (a JWT with a user's name): 'scontrol token > FILE' writes one",
            path.display()
        );
    };
    Ok(Token { text, user })
}

fn headers(token: &Token) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).context("--slurm-token-file: the token is no HTTP header")?;
        value.set_sensitive(true);
        anyhow::Ok(value)
    };
    headers.insert("x-slurm-user-token", secret(&token.text)?);
    headers.insert("x-slurm-user-name", secret(&token.user)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

pub(super) async fn read(rest: &Rest, limit: Duration) -> Result<Outputs> {
    let base = rest.base();
    if !base.starts_with("http://") && !base.starts_with("https://") {
        bail!(
            "--slurm-rest {}: it is no URL: http:// or https:// is missing",
            rest.name()
        );
    }
    let server = Server {
        client: plain_client(base, limit * 2)?,
        headers: headers(&token(&rest.token_file)?)?,
        base: base.to_owned(),
        limit,
    };
    let mut described = Err(String::new());
    for path in DESCRIPTIONS {
        described = server.get(path, MOST_WORDS).await;
        // A release without this page says 404; a token that is refused is refused everywhere.
        if !matches!(&described, Err(why) if why.starts_with("404")) {
            break;
        }
    }
    let described = described.map_err(|why| anyhow::anyhow!("slurmrestd at {}: {why}", rest.name()))?;
    let paths = rest::paths(&described).map_err(|why| anyhow::anyhow!("slurmrestd at {}: {why}", rest.name()))?;
    let at = Timestamp::now();
    // Its description is told to anybody who has a token's form: that the token is worth nothing shows here (22.05: 500).
    let nodes = server.json(&paths.nodes).await.map_err(|why| match why {
        why if why.starts_with("500") => format!("{why}; it says so, too, of {OLD_TOKEN}"),
        why => why,
    });
    let jobs = server.json(&paths.jobs).await;
    let mut about = About::default();
    for text in nodes.iter().chain(&jobs) {
        about.learn(text);
    }
    let mut accounting = Vec::new();
    match &paths.past {
        None => accounting.push(Err("slurmrestd was started without slurmdbd's part of the API".into())),
        Some(path) => {
            for (from, to) in days(at) {
                let day = server.json(&format!("{path}?start_time={from}&end_time={to}")).await;
                let failed = day.is_err();
                accounting.push(day.map(Output::Json));
                if failed {
                    break;
                }
            }
        }
    }
    Ok(Outputs {
        at,
        at_unsure: None,
        config: Config {
            cluster: about.cluster,
            version: about.release,
            ..Config::default()
        },
        hidden: "slurmrestd does not tell PrivateData",
        nodes: nodes.map(Output::Json),
        jobs: jobs.map(Output::Json),
        steps: None,
        accounting,
        zone: TimeZone::UTC,
    })
}

struct Server {
    client: reqwest::Client,
    headers: HeaderMap,
    base: String,
    limit: Duration,
}

impl Server {
    /// An answer of the API, without errors of its own.
    async fn json(&self, path: &str) -> Result<String, String> {
        let text = self
            .get(path, usize::try_from(held::max_read()).unwrap_or(usize::MAX))
            .await?;
        rest::refusal(&text).map_or(Ok(text), Err)
    }

    async fn get(&self, path: &str, most: usize) -> Result<String, String> {
        match tokio::time::timeout(self.limit, self.exchange(path, most)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s (--timeout)", self.limit.as_secs())),
        }
    }

    async fn exchange(&self, path: &str, most: usize) -> Result<String, String> {
        let asked = self
            .client
            .get(format!("{}{path}", self.base))
            .headers(self.headers.clone());
        let response = asked.send().await.map_err(|e| cause(&e))?;
        let code = response.status().as_u16();
        let json = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let json = json.is_some_and(|t| t.contains("json"));
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| format!("the answer was cut off after {} bytes", body.len()))?;
            body.extend_from_slice(&chunk);
            if body.len() > most {
                return Err(held::too_much(most as u64));
            }
        }
        let text = String::from_utf8(body).map_err(|_| "the answer is no text".to_owned())?;
        match code {
            200 if json => Ok(text),
            200 => Err("it answered 200 without JSON: something else than slurmrestd answers there".into()),
            401 | 403 => Err(format!("{code}: it refused the token; it says so of {OLD_TOKEN}")),
            300..=399 => Err(format!("{code}: a redirect (to a login?); no redirect is followed")),
            _ => Err(match rest::refusal(&text) {
                Some(why) => format!("{code}: {why}"),
                None => format!("{code} for {}", path.split('?').next().unwrap_or(path)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Token> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        token(file.path())
    }

    #[test]
    fn a_token_tells_whose_it_is_and_what_is_none_is_not_shown() {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1,"sun":"ann"}"#);
        for text in [format!("SLURM_JWT=h.{payload}.s\n"), format!(" h.{payload}.s ")] {
            let token = of(&text).unwrap();
            assert_eq!((token.user.as_str(), token.text), ("ann", format!("h.{payload}.s")));
            assert!(
                headers(&of(&text).unwrap())
                    .unwrap()
                    .values()
                    .any(HeaderValue::is_sensitive)
            );
        }
        for text in ["", "SECRET", "a.SECRET.c", "SLURM_JWT="] {
            let error = format!("{:#}", of(text).err().unwrap());
            assert!(error.contains("scontrol token") && !error.contains("SECRET"), "{error}");
        }
    }
}
