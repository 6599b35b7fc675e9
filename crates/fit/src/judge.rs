//! The verdict: one request of full length, a state block for each sequence, a budget that is free at the start, and room for
//! what comes after the pool.

use super::FitVerdict;
use super::amount::Amount;
use super::defaults::Rules;
use super::kv::Context;
use super::memory::Case;
use super::pool::{self, gib};
use super::steps::{self, Ledger};
use crate::catalog::models::Task;

/// All that a verdict is made from.
pub(super) struct Judged<'a> {
    pub(super) case: &'a Case<'a>,
    /// The ways that the engine may hold the model.
    pub(super) contexts: &'a [Context],
    /// Left for the cache.
    pub(super) left: Amount,
    pub(super) ledger: &'a Ledger,
    pub(super) weights: Amount,
    /// The capacity is a server's own.
    pub(super) measured: bool,
}

/// Share of the band above the estimate from which on a start is called impossible: six of ten widths hold eleven of twelve
/// logged pools.
const REFUSED_SHARE: f64 = 0.6;

/// A share of the card below it is worth telling: engines take more by themselves.
const SMALL_SHARE: f64 = 0.8;

type Answer = (FitVerdict, String);

impl Judged<'_> {
    pub(super) fn verdict(&self) -> Answer {
        let total = self.case.total.0 as f64;
        let share = self
            .case
            .settings
            .gpu_memory_utilization
            .or(self.case.settings.mem_fraction_static);
        let loaded = format!(
            "weights take {} of {}",
            gib(self.weights.value),
            match share.filter(|s| *s < SMALL_SHARE) {
                Some(share) => format!(
                    "the {} that the engine may take ({share} of {})",
                    gib(share * total),
                    gib(total)
                ),
                None => gib(total),
            }
        );
        let (low, high) = self.ends();
        if high <= 0.0 {
            let overhead = gib(self.ledger.overhead.value);
            return (
                FitVerdict::DoesNotFit,
                format!("{loaded}, the overhead {overhead}: nothing is left"),
            );
        }
        let holds = |ok: bool| if ok { FitVerdict::Fits } else { FitVerdict::Tight };
        if !self.case.pooled() && self.case.engine.rules != Rules::LlamaCpp {
            let set = gib(self.ledger.overhead.value);
            return (holds(low > 0.0), format!("{loaded}, the working set about {set}"));
        }
        let (Some(first), Some(length)) = (self.contexts.first(), self.case.length) else {
            return (
                FitVerdict::Unknown,
                format!("{loaded}; the model's KV cache is not known"),
            );
        };
        if first.is_empty() {
            return self.after((holds(low > 0.0), format!("{loaded}; the model keeps no KV cache")));
        }
        let answer = self.request(&loaded, length, (low, high));
        let answer = self.slots(answer, (low, high));
        let answer = self.free(answer);
        self.after(answer)
    }

    /// The ends that decide. What fits must fit at the band's bad end; that it does not is said a little before the good end,
    /// since it costs a look at the figures and not a server, but only of facts that are the model's own.
    fn ends(&self) -> (f64, f64) {
        let left = self.left;
        let share = if self.case.model.assumed() || self.measured {
            1.0
        } else {
            REFUSED_SHARE
        };
        (left.low, left.value + share * (left.high - left.value))
    }

    /// One request of the full length, at the band's ends and on every path.
    fn request(&self, loaded: &str, length: u64, (low, high): (f64, f64)) -> Answer {
        let ends = |c: &Context| if self.measured { (1.0, 1.0) } else { c.doubt };
        let needs = |c: &Context| self.needed(c, length);
        let least = self
            .contexts
            .iter()
            .map(|c| needs(c).0 * ends(c).0)
            .fold(f64::INFINITY, f64::min);
        let most = self.contexts.iter().map(|c| needs(c).1 * ends(c).1).fold(0.0, f64::max);
        let shown = self.contexts.first().map_or(0.0, |c| needs(c).1.max(c.request(length)));
        let verdict = if high < least {
            FitVerdict::DoesNotFit
        } else if low < most || low <= 0.0 {
            FitVerdict::Tight
        } else {
            FitVerdict::Fits
        };
        let reason = format!(
            "{loaded}, leaving {} for the KV cache; one request of {length} tokens needs {}",
            gib(self.left.value.max(0.0)),
            gib(shown)
        );
        (verdict, reason)
    }

    /// Bytes that a start needs, at least and at most. Some engines start with any pool: only a stated length counts there. Of
    /// one whose backend is not known nobody knows whether it does.
    fn needed(&self, context: &Context, length: u64) -> (f64, f64) {
        let settings = self.case.settings;
        let open = settings.max_model_len.is_none();
        let facts = crate::engine::facts(settings.engine);
        // "Not enough GPU memory available to serve even a single token" (`estimate_max_model_len`).
        let one = || context.request(1);
        let whole = context.request(length);
        match self.case.engine.rules {
            _ if settings.length_by_memory => (one(), one()),
            _ if open && facts.is_some_and(|f| f.cuts_its_context) => (one(), one()),
            // A file beside the model may state a shorter one (sentence_bert_config.json; vllm/config/model.py,
            // `get_sentence_transformer_tokenizer_config`), and it is not in the catalogue.
            _ if open && self.case.engine.is_vllm() && self.case.model.task != Task::Generate => (one(), whole),
            Rules::Sglang if open => {
                let step = context.request(self.case.step.tokens.min(length));
                (step, step)
            }
            _ if open && facts.is_some() && self.case.engine.assumed => (one(), whole),
            _ => (whole, whole),
        }
    }

    /// vLLM refuses when more sequences are admitted than the pool has state blocks.
    fn slots(&self, answer: Answer, (low, high): (f64, f64)) -> Answer {
        let case = self.case;
        // Drafting lowers the number by itself.
        let applies = case.engine.is_v1()
            && case.engine.since(0, 18)
            && case.settings.enforce_eager != Some(true)
            && case.settings.speculative != Some(true);
        let Some(context) = self.contexts.first().filter(|_| applies) else {
            return answer;
        };
        let at = |bytes: f64| context.state_blocks(bytes);
        let (Some(blocks), Some(least), Some(most)) = (at(self.left.value), at(low), at(high)) else {
            return answer;
        };
        let wanted = case.step.sequences as f64;
        let message = format!("max_num_seqs {wanted:.0} against {blocks:.0} state blocks: lower --max-num-seqs");
        match answer.0 {
            _ if most < wanted => (FitVerdict::DoesNotFit, message),
            FitVerdict::Fits if least < wanted => (FitVerdict::Tight, message),
            _ => answer,
        }
    }

    /// The engine refuses to start where less is free than its budget (`request_memory`, vLLM since 0.9).
    fn free(&self, answer: Answer) -> Answer {
        let case = self.case;
        if !case.engine.is_v1() || !case.engine.since(0, 9) || case.settings.kv_cache_memory.is_some() {
            return answer;
        }
        let beside = pool::beside(case, self.ledger);
        let free = pool::free_at_start(case, self.ledger);
        let message = format!(
            "the budget of {} is more than what is free at the start, {}",
            gib(free.value - beside.value),
            gib(free.value)
        );
        match answer.0 {
            _ if beside.high < 0.0 && !case.gpu.is_unified() => (FitVerdict::DoesNotFit, message),
            FitVerdict::Fits if beside.low < 0.0 && !case.gpu.is_unified() => (FitVerdict::Tight, message),
            _ => answer,
        }
    }

    /// What comes after the pool must find room beside it, at every version.
    fn after(&self, answer: Answer) -> Answer {
        let case = self.case;
        let counts = case.engine.is_vllm() || case.engine.rules == Rules::Sglang;
        // Where memory is the host's, too, what lies beside the budget is no limit.
        let limited = counts && !case.gpu.is_unified() && case.settings.kv_cache_memory.is_none();
        if !limited || answer.0 != FitVerdict::Fits {
            return answer;
        }
        let beside = pool::beside(case, self.ledger);
        let after = self.ledger.after;
        if after.high <= beside.value {
            return answer;
        }
        let what = steps::after_names(case);
        let message = format!(
            "after the pool, {what} of up to {} must fit beside the budget, which leaves {}",
            gib(after.high),
            gib(beside.value.max(0.0))
        );
        (FitVerdict::Tight, message)
    }
}
