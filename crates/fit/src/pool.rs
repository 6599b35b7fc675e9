//! What an engine leaves for its cache: a share of the card, of what was free, or of what is free after loading.

use super::amount::Amount;
use super::defaults::{self, Rules};
use super::memory::Case;
use super::sglang;
use super::steps::Ledger;
use crate::snapshot::server::Setting;
use crate::units::Bytes;

/// A share that is stated where it could not be read may differ from the default by this much of the card.
const UNREAD_SHARE: f64 = 0.10;

/// Bytes for the cache at the band's bad end, as estimated, at its good end; negative where nothing is left.
pub(super) fn of(case: &Case<'_>, weights: Amount, ledger: &Ledger) -> Amount {
    let total = case.total.0 as f64;
    let taken = weights.plus(ledger.overhead);
    if let Some(fixed) = case.settings.kv_cache_memory.filter(|_| case.engine.is_v1()) {
        // The cache is as large as told, if it has room.
        let room = free_at_start(case, ledger).minus(taken);
        let kv = fixed.0 as f64;
        return Amount {
            low: kv.min(room.low),
            value: kv.min(room.value),
            high: kv.min(room.high),
        };
    }
    match case.engine.rules {
        Rules::VllmV0 | Rules::VllmV1 => budget(case).minus(taken),
        Rules::Sglang => of_free(case, weights, ledger),
        Rules::Trtllm | Rules::Tgi => {
            let default = if case.engine.rules == Rules::Trtllm { 0.90 } else { 0.95 };
            let stated = case.settings.mem_fraction_static;
            let fraction = stated.unwrap_or(default).clamp(0.0, 1.0);
            let doubt = unread(case);
            let free = Amount::exact(total).minus(taken);
            Amount {
                low: fraction * free.low - doubt,
                value: fraction * free.value,
                high: fraction * free.high + doubt,
            }
        }
        Rules::LlamaCpp | Rules::Plain => Amount::exact(total).minus(taken),
    }
}

fn unread(case: &Case<'_>) -> f64 {
    if case.settings.unread(Setting::MemoryShare).is_some() {
        UNREAD_SHARE * case.total.0 as f64
    } else {
        0.0
    }
}

/// vLLM's budget, a share of the whole card.
fn budget(case: &Case<'_>) -> Amount {
    let total = case.total.0 as f64;
    let share = defaults::utilization(&case.engine, case.settings) * total;
    let doubt = unread(case);
    Amount {
        low: share - doubt,
        value: share,
        high: (share + doubt).min(total),
    }
}

/// Free memory of the card when the engine begins.
pub(super) fn free_at_start(case: &Case<'_>, ledger: &Ledger) -> Amount {
    let total = case.total.0 as f64;
    if let Some(told) = case.settings.free_memory {
        return Amount::exact((told.0 as f64).min(total));
    }
    Amount {
        low: total - ledger.before.high,
        value: total - ledger.before.value,
        high: total - ledger.before.low,
    }
}

/// `free after loading − free before loading × (1 − mem_fraction_static)` (`_profile_available_bytes`, 0.4.9 to 0.5.23).
fn of_free(case: &Case<'_>, weights: Amount, ledger: &Ledger) -> Amount {
    let free = free_at_start(case, ledger);
    let by = |raised| sglang::fraction(case, raised);
    let fraction = by(case.engine.sglang_small_card_raised());
    let most = if case.engine.version.is_none() {
        by(false).max(fraction)
    } else {
        fraction
    };
    let doubt = unread(case);
    let share = Amount {
        low: fraction * free.low - doubt,
        value: fraction * free.value,
        high: (most * free.high + doubt).min(case.total.0 as f64),
    };
    share.minus(weights)
}

/// Room beside the budget, for what comes after the pool, at the bad end of what lies before it.
pub(super) fn beside(case: &Case<'_>, ledger: &Ledger) -> Amount {
    let free = free_at_start(case, ledger);
    let fraction = match case.engine.rules {
        Rules::Sglang => {
            let own = sglang::fraction(case, case.engine.sglang_small_card_raised());
            return free.times(1.0 - own);
        }
        _ => defaults::utilization(&case.engine, case.settings),
    };
    let budget = fraction * case.total.0 as f64;
    Amount {
        low: free.low - budget,
        value: free.value - budget,
        high: free.high - budget,
    }
}

/// "12.3 GiB".
pub(super) fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / Bytes::GIB)
}
