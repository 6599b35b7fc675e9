//! This machine's clock, for what has no time of its own. `SOURCE_DATE_EPOCH` (reproducible-builds.org) sets it, so that tutorials and
//! tests can be repeated.

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// To the second.
pub(super) fn now() -> Result<Timestamp> {
    seconds(given()?.unwrap_or_else(|| Timestamp::now().as_second()))
}

/// To the day, so that two runs over the same manifests, which have no time of their own, print the same bytes; prices have an age.
pub(super) fn today() -> Result<Timestamp> {
    let day = || {
        let now = Timestamp::now().as_second();
        now - now.rem_euclid(SECONDS_PER_DAY)
    };
    seconds(given()?.unwrap_or_else(day))
}

fn given() -> Result<Option<i64>> {
    let Some(text) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.trim().parse();
    seconds
        .map(Some)
        .map_err(|_| anyhow!("SOURCE_DATE_EPOCH is '{text}': give seconds since 1970, or unset it"))
}

fn seconds(since: i64) -> Result<Timestamp> {
    Timestamp::from_second(since)
        .with_context(|| format!("SOURCE_DATE_EPOCH is {since}: no calendar has that second; unset it"))
}
