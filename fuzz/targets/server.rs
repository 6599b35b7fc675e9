//! A whole scan of a cluster whose API server, exporters, engines and store answer what the fuzzer chooses.
//!
//! Where reads only failed, nothing may rise and no gate may turn green.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use gpuwaste_collect::kube::api::Api;
use gpuwaste_collect::kube::{connect::Target, read_cluster};
use gpuwaste_collect::options::{CollectOptions, StoreOptions};
use gpuwaste_facts::snapshot::history::BinLimits;
use gpuwaste_facts::snapshot::{SCHEMA, Snapshot, Source, SourceKind, SourceStatus, bounds, secrets};
use gpuwaste_fuzz::{judged, shown, spoil};
use gpuwaste_judge::analyze::finding::Confidence;
use gpuwaste_judge::report::document::Report;
use gpuwaste_judge::settings::{Gates, Settings};
use http::{Request, Response};
use http_body_util::Full;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

#[derive(serde::Deserialize)]
struct World {
    at: Timestamp,
    answers: BTreeMap<String, (u16, String, String)>,
}

#[derive(Clone)]
struct Answer {
    code: u16,
    kind: String,
    body: Vec<u8>,
    /// Seconds that the server's clock is ahead.
    ahead: i64,
}

/// What is done to one answer.
#[derive(Arbitrary, Debug)]
enum How {
    Code(u8),
    Cut(u8),
    Empty,
    OtherKind,
    Garbage,
    Odd(u16, u8),
    Body(Vec<u8>),
    Ahead(i16),
    Html,
    /// The answer to another question.
    Another(u8),
}

static WORLD: LazyLock<World> = LazyLock::new(|| serde_json::from_str(include_str!("../seeds/world.json")).unwrap());
static WHOLE: LazyLock<Report> = LazyLock::new(|| {
    scan(&WORLD.untouched())
        .map(|s| judged(&s, &Settings::default()).0)
        .unwrap()
});

impl World {
    fn untouched(&self) -> Arc<BTreeMap<String, Answer>> {
        let answer = |(code, kind, body): &(u16, String, String)| Answer {
            code: *code,
            kind: kind.clone(),
            body: body.clone().into_bytes(),
            ahead: 0,
        };
        Arc::new(self.answers.iter().map(|(k, a)| (k.clone(), answer(a))).collect())
    }
}

impl How {
    /// Whether the answer now fails, rather than tells something else.
    fn apply(self, answer: &mut Answer, others: &[Answer]) -> bool {
        const CODES: [u16; 10] = [204, 301, 401, 403, 404, 410, 429, 500, 503, 504];
        let json = answer.kind.contains("json");
        match self {
            Self::Code(code) => {
                answer.code = CODES[usize::from(code) % CODES.len()];
                answer.body = b"refused".to_vec();
                true
            }
            Self::Cut(at) => {
                let keep = (answer.body.len() * usize::from(at) / 256).min(answer.body.len().saturating_sub(2));
                answer.body.truncate(keep);
                json
            }
            Self::Empty => {
                answer.body.clear();
                true
            }
            Self::OtherKind => {
                answer.body = br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[],"items":[]}"#.to_vec();
                json
            }
            Self::Garbage => {
                answer.body = b"\0\xff{{{".to_vec();
                true
            }
            Self::Html => {
                answer.kind = "text/html".into();
                answer.body = b"<html>log in</html>".to_vec();
                true
            }
            Self::Odd(at, value) => {
                if let Ok(mut document) = serde_json::from_slice::<Value>(&answer.body) {
                    spoil(&mut document, usize::from(at), usize::from(value));
                    answer.body = serde_json::to_vec(&document).unwrap();
                }
                false
            }
            Self::Body(body) => {
                answer.body = body;
                false
            }
            Self::Ahead(seconds) => {
                answer.ahead = i64::from(seconds);
                false
            }
            Self::Another(which) => {
                answer.body.clone_from(&others[usize::from(which) % others.len()].body);
                false
            }
        }
    }
}

fn scan(answers: &Arc<BTreeMap<String, Answer>>) -> Option<Snapshot> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let answers = Arc::clone(answers);
    let served = tower::service_fn(move |request: Request<kube::client::Body>| {
        let answers = Arc::clone(&answers);
        async move {
            let query = request.uri().query().unwrap_or_default();
            let asked = query.split('&').find_map(|pair| pair.strip_prefix("query="));
            let key = asked.map_or_else(
                || request.uri().path().to_owned(),
                |q| format!("{}?{}", request.uri().path(), unescaped(q)),
            );
            let answer = answers.get(&key);
            let (code, kind, body) = answer.map_or((404, "text/plain", &b"404 page not found\n"[..]), |a| {
                (a.code, &*a.kind, &*a.body)
            });
            let date = WORLD.at + jiff::SignedDuration::from_secs(answer.map_or(0, |a| a.ahead));
            let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&date)
                .unwrap();
            Ok::<_, Infallible>(
                Response::builder()
                    .status(code)
                    .header("content-type", kind)
                    .header("date", date)
                    .body(Full::new(Bytes::copy_from_slice(body)))
                    .unwrap(),
            )
        }
    });
    let options = CollectOptions {
        contexts: Vec::new(),
        all_contexts: false,
        kubeconfig: None,
        namespaces: Vec::new(),
        selector: None,
        cluster_name: Some("fuzz".into()),
        scrape: true,
        scrape_budget: Duration::from_secs(20),
        observe: Duration::ZERO,
        timeout: Duration::from_secs(2),
        store: StoreOptions::default(),
        window: Duration::from_secs(7 * 86_400),
        limits: BinLimits::default(),
        keep_labels: Vec::new(),
        is_gpu_instance: |_| false,
    };
    let read = runtime.block_on(async {
        let api = Api::new(kube::Client::new(served, "default"), &options);
        let target = Target {
            name: "fuzz".into(),
            named: true,
            inside: false,
            client: Ok(api.clone()),
        };
        read_cluster(&api, &target, &options, WORLD.at).await.ok()
    })?;
    let mut snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: "fuzz".into(),
        taken_at: WORLD.at,
        window_seconds: read.cluster.history.is_some().then_some(7 * 86_400),
        observe_seconds: None,
        sources: vec![Source {
            kind: SourceKind::Kubernetes,
            name: "fuzz".into(),
            status: if read.gaps.is_empty() {
                SourceStatus::Ok
            } else {
                SourceStatus::Partial
            },
            detail: read.detail,
            named: true,
        }],
        gaps: read.gaps,
        clusters: vec![read.cluster],
    };
    snapshot.sources.extend(read.sources);
    snapshot.sources.extend(read.history.sources);
    snapshot.gaps.extend(read.history.gaps);
    let odd = bounds::check(&mut snapshot);
    snapshot.gaps.extend(odd);
    secrets::scrub(&mut snapshot);
    Some(snapshot)
}

/// `%28` and `+` of a query.
fn unescaped(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair: String = bytes.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&pair, 16).unwrap_or(b'%')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn faulty(input: &mut Unstructured) -> (Arc<BTreeMap<String, Answer>>, bool, Vec<String>) {
    let mut answers = WORLD.untouched();
    let all = Arc::get_mut(&mut answers).unwrap();
    let others: Vec<Answer> = all.values().cloned().collect();
    let keys: Vec<String> = all.keys().cloned().collect();
    let (mut only_failed, mut said) = (true, Vec::new());
    for _ in 0..5 {
        let (Ok(which), Ok(how)) = (input.arbitrary::<u8>(), input.arbitrary::<How>()) else {
            break;
        };
        let key = &keys[usize::from(which) % keys.len()];
        said.push(format!("{key}: {how:?}"));
        only_failed &= how.apply(all.get_mut(key).unwrap(), &others);
    }
    (answers, only_failed, said)
}

fuzz_target!(|data: &[u8]| {
    let (answers, only_failed, said) = faulty(&mut Unstructured::new(data));
    let Some(snapshot) = scan(&answers) else { return };
    let (report, _) = judged(&snapshot, &Settings::default());
    shown(&report);
    if !only_failed {
        return;
    }
    let (whole, part) = (&WHOLE.totals, &report.totals);
    for (what, before, after) in [
        ("waste", whole.waste_usd_per_hour, part.waste_usd_per_hour),
        ("at risk", whole.at_risk_usd_per_hour, part.at_risk_usd_per_hour),
    ] {
        assert!(
            after.unwrap_or_default() <= before.unwrap_or_default(),
            "{what} rises from {before:?} to {after:?}: {said:#?}"
        );
    }
    let limit = |usd: Option<gpuwaste_facts::units::UsdPerHour>| usd.map(|u| u.micros() as f64 / 1e6 - 0.01);
    let gates = Gates {
        max_waste: limit(whole.waste_usd_per_hour),
        max_at_risk: limit(whole.at_risk_usd_per_hour),
        min_coverage: Some(0.0),
        confidence: Some(Confidence::Assumed),
        ..Gates::default()
    };
    let (_, verdict) = judged(
        &snapshot,
        &Settings {
            gates,
            ..Settings::default()
        },
    );
    assert!(
        matches!(verdict.code, 1 | 3),
        "exit {}: a failed read turned a gate green: {said:#?}",
        verdict.code
    );
});
