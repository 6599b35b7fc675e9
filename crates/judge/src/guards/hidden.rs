//! A setting that nobody could read never turns a gate green: what was breached with it is breached still, or gives no verdict.

use super::gates::{breached, verdict_of};
use super::unread::{Hidden, all, enrich, findings, hide};
use super::{Dice, Judged, fleets, judge};
use crate::snapshot::server::Setting;
use std::collections::BTreeMap;

const FLEETS: u64 = 100;
/// Things of each fleet that are hidden, one at a time.
const TRIES: usize = 14;

#[derive(Default)]
struct Held {
    /// Gates that were breached before, and those of them that now give no verdict.
    gates: BTreeMap<Hidden, u64>,
    undecided: BTreeMap<Hidden, u64>,
    green: BTreeMap<Hidden, Vec<String>>,
}

/// Findings that are gone, cheaper or less sure.
fn lost(whole: &Judged, part: &Judged) -> String {
    let after = findings(part);
    let gone = findings(whole).into_iter().filter_map(|(key, (usd, _, confidence))| {
        let told = format!("{}/{}", key.0, key.1.unwrap_or("-"));
        match after.get(&key) {
            None if usd > 0 => Some(format!("{told} {confidence:?} gone")),
            Some(now) if now.2 < confidence => Some(format!("{told} {confidence:?}→{:?}", now.2)),
            Some(now) if now.0 + 100 < usd => Some(format!("{told} {usd}→{}", now.0)),
            _ => None,
        }
    });
    gone.collect::<Vec<_>>().join(", ")
}

#[test]
fn no_hidden_setting_turns_a_gate_green() {
    let (mut dice, mut held) = (Dice(59), Held::default());
    // A node's labels come with the node: one that is not there is no lost read.
    let kinds: Vec<Hidden> = all().into_iter().filter(|h| *h != Hidden::Label).collect();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let mut snapshot = made.snapshot.clone();
        enrich(&mut snapshot, &mut dice);
        let whole = judge(&snapshot, &made.prices);
        let gates = breached(&whole);
        if gates.is_empty() {
            continue;
        }
        for n in 0..TRIES {
            let what = kinds[(seed as usize * TRIES + n) % kinds.len()];
            let mut less = snapshot.clone();
            if !hide(&mut less, what, &mut dice) {
                continue;
            }
            let part = judge(&less, &made.prices);
            for gates in &gates {
                let (code, told) = verdict_of(&part, gates);
                *held.gates.entry(what).or_default() += told.len() as u64;
                let undecided = told.iter().filter(|(_, breached, undecided)| !breached && *undecided);
                *held.undecided.entry(what).or_default() += undecided.count() as u64;
                let passes = told.iter().any(|(_, breached, undecided)| !breached && !undecided);
                if passes || code == 0 {
                    let why = format!("fleet {seed}: {gates:?} now {told:?}: {}", lost(&whole, &part));
                    held.green.entry(what).or_default().push(why);
                }
            }
        }
    }
    let sum = |of: &BTreeMap<Hidden, u64>| of.values().sum::<u64>();
    let (gates, undecided) = (sum(&held.gates), sum(&held.undecided));
    println!(
        "{undecided} of {gates} breached gates give no verdict: {:?}",
        held.undecided
    );
    for (what, why) in &held.green {
        println!("{what:?}: {} of {}: {}", why.len(), held.gates[what], why[0]);
    }
    assert!(held.green.is_empty(), "{} kinds", held.green.len());
    assert!(gates >= 5000, "{gates}");
    // It decides something, and not everything: what nothing hangs on costs no verdict.
    assert!(
        undecided * 50 >= gates && undecided * 5 <= gates,
        "{undecided} of {gates}"
    );
    let free = [Setting::Other, Setting::Engine, Setting::MaxModelLen].map(Hidden::Elsewhere);
    for what in free {
        assert_eq!(held.undecided.get(&what), Some(&0), "{what:?}");
    }
}
