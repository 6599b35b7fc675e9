//! Snapshots that are JSON of the right shape and say absurd things: negative, huge, empty, contradictory.

use super::invariants::hold;
use super::{Dice, fleets, judge};
use crate::snapshot::Snapshot;
use serde_json::{Value, json};

/// Replaces a few leaves of the document.
fn distort(value: &mut Value, dice: &mut Dice, odds: u64) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|v| distort(v, dice, odds)),
        Value::Array(items) => {
            match dice.below(odds * 4) {
                0 => items.clear(),
                1 => items.extend(items.clone()),
                _ => {}
            }
            for item in items {
                distort(item, dice, odds);
            }
        }
        Value::Number(_) if dice.below(odds) == 0 => {
            let absurd = [
                json!(0),
                json!(-1.5),
                json!(1e300),
                json!(u64::MAX),
                json!(3),
                json!(1e-300),
            ];
            *value = dice.pick(&absurd).clone();
        }
        Value::String(text) if dice.below(odds) == 0 => {
            let absurd = [
                json!(""),
                json!("9999-12-31T23:59:59Z"),
                json!("1971-01-01T00:00:00Z"),
                json!("99999999999999999999"),
                json!("é\u{202e}\u{1b}[31m/../"),
                json!(format!("{text}{text}")),
            ];
            *value = dice.pick(&absurd).clone();
        }
        Value::Bool(yes) if dice.below(odds) == 0 => *value = json!(!*yes),
        _ => {}
    }
}

#[test]
fn absurd_figures_neither_panic_nor_break_a_sum() {
    let mut dice = Dice(23);
    let mut read = 0;
    for seed in 0..600 {
        let made = fleets::make(seed % 60);
        let mut document = serde_json::to_value(&made.snapshot).unwrap();
        distort(&mut document, &mut dice, 60 + 400 * (seed % 3));
        // What the format itself refuses is refused in words; the rest must be judged.
        let Ok(snapshot) = serde_json::from_value::<Snapshot>(document) else {
            continue;
        };
        read += 1;
        hold(&judge(&snapshot, &made.prices), &format!("distorted {seed}"));
    }
    assert!(read >= 100, "{read} distorted snapshots could be read");
}
