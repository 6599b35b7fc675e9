//! What a live read is at, for whoever waits for it: the stages that each cluster came to, and how many requests there were.
//!
//! Of the process, not of a read: a process reads once, and nothing that is read hangs on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static STAGES: Mutex<Vec<Stage>> = Mutex::new(Vec::new());

/// What is waited for, since when.
#[derive(Clone, Debug)]
pub struct Stage {
    pub since: Instant,
    /// A cluster by its context.
    pub whose: String,
    /// "pods on 19 GPU nodes"; empty: it is done.
    pub what: String,
    /// Requests before, of all clusters.
    pub requests: u64,
}

pub(crate) fn at(whose: &str, what: impl Into<String>) {
    let stage = Stage {
        since: Instant::now(),
        whose: whose.to_owned(),
        what: what.into(),
        requests: requests(),
    };
    STAGES.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
}

pub(crate) fn asked() {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
}

/// Requests to API servers so far, what stands behind them included.
pub fn requests() -> u64 {
    REQUESTS.load(Ordering::Relaxed)
}

/// All stages from the `from`-th on, as they came.
pub fn stages(from: usize) -> Vec<Stage> {
    let all = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(from..).unwrap_or_default().to_vec()
}

/// What each cluster waits for now; those that are done are left out.
pub fn waiting() -> Vec<Stage> {
    let mut now: Vec<Stage> = Vec::new();
    for stage in stages(0) {
        now.retain(|s| s.whose != stage.whose);
        if !stage.what.is_empty() {
            now.push(stage);
        }
    }
    now
}
