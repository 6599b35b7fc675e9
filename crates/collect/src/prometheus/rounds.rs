//! Rounds of queries: each is asked once, then in smaller pieces where the server finds it too much.

use super::answer::{AskError, Data, Told};
use super::ask::{Asker, Cut, Packed, Part, Scope, pack};
use super::client::Store;
use super::stamp;
use super::tag::Tag;
use super::words::Words;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

/// Queries of one cluster, shards included.
const MOST_QUERIES: u64 = 160;

pub(super) type Rebuild = fn(&Asker<'_>) -> Vec<Part>;

/// One query, and how to ask it again in smaller pieces.
pub(super) struct Round {
    pub(super) packed: Packed,
    pub(super) before: bool,
    pub(super) again: Rebuild,
}

pub(super) type Answer = Result<(Told<Data>, f64, bool), AskError>;

pub(super) async fn run(store: &Store, words: &Words, scope: &Scope, rounds: Vec<Round>, at: Timestamp) -> Vec<Answer> {
    futures::stream::iter(rounds)
        .map(|round| async move { one(store, words, scope, &round, at).await })
        .buffered(8)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// A query; where the server finds it too much, the same figures once more in shards, then in coarser bins.
async fn one(store: &Store, words: &Words, scope: &Scope, round: &Round, at: Timestamp) -> Vec<Answer> {
    let at = if round.before {
        at - SignedDuration::from_secs(scope.window as i64)
    } else {
        at
    };
    let time = stamp(at);
    let first = store
        .query("/api/v1/query", &[("query", &round.packed.query), ("time", &time)])
        .await;
    let error = match first {
        Ok(told) => return vec![Ok((told, 1.0, round.before))],
        Err(error) if !error.is_too_much() => return vec![Err(error)],
        Err(error) => error,
    };
    let tags = &round.packed.tags;
    let mut answers = Vec::new();
    for cut in [Cut::Devices, Cut::Pods, Cut::Nothing] {
        for shard in shards(cut, words, scope) {
            match smaller(store, words, scope, round, cut, &shard, tags, &time).await {
                Ok(told) => answers.extend(told.into_iter().map(|(t, scale)| Ok((t, scale, round.before)))),
                Err(last) => return vec![Err(last.unwrap_or(error))],
            }
        }
    }
    answers
}

/// One shard of what a query asked for, in its own bins or, if that is still too much, in coarser ones.
#[allow(clippy::too_many_arguments, reason = "all of a round's circumstances")]
async fn smaller(
    store: &Store,
    words: &Words,
    scope: &Scope,
    round: &Round,
    cut: Cut,
    shard: &Scope,
    tags: &BTreeSet<Tag>,
    time: &str,
) -> Result<Vec<(Told<Data>, f64)>, Option<AskError>> {
    let mut last = None;
    for bin in [scope.bin, (scope.bin * 6).min(3600)] {
        if bin == scope.bin && cut == Cut::Nothing {
            continue;
        }
        let coarser = Scope {
            bin,
            rate: scope.rate.max(bin),
            ..shard.clone()
        };
        let asker = Asker { words, scope: &coarser };
        let parts: Vec<Part> = (round.again)(&asker)
            .into_iter()
            .filter(|p| p.cut == cut && tags.contains(&p.tag))
            .collect();
        let queries = pack(parts);
        let scale = bin as f64 / scope.bin as f64;
        let mut told = Vec::new();
        for Packed { query, .. } in &queries {
            if store.queries.load(Relaxed) >= MOST_QUERIES {
                return Err(last);
            }
            match store.query("/api/v1/query", &[("query", query), ("time", time)]).await {
                Ok(answer) => told.push((answer, scale)),
                Err(error) => {
                    last = Some(error);
                    break;
                }
            }
        }
        if told.len() == queries.len() {
            return Ok(told);
        }
    }
    Err(last)
}

/// By a device's own id and by the first letter of a pod: every series of a workload is in one shard, and no list of
/// pods is in any query.
fn shards(cut: Cut, words: &Words, scope: &Scope) -> Vec<Scope> {
    let with = |devices: String, pods: String| Scope {
        devices,
        pods,
        ..scope.clone()
    };
    let uuid = words.uuid();
    let (_, pod) = words.pod_labels();
    match cut {
        Cut::Devices => ["[0-3]", "[4-7]", "[89ab]"]
            .iter()
            .map(|c| with(format!("{uuid}=~\"GPU-{c}.+\","), String::new()))
            .chain([with(format!("{uuid}!~\"GPU-[0-9ab].+\","), String::new())])
            .collect(),
        Cut::Pods => ["[a-f]", "[g-m]", "[n-s]", "[^a-s]"]
            .iter()
            .map(|c| with(String::new(), format!("{pod}=~\"{c}.*\",")))
            .collect(),
        Cut::Nothing => vec![scope.clone()],
    }
}
