//! Figures in people's units: 2.3 days, 28 GiB, 7 GPUs; a unit is said once.

use super::text::{count, figure, plain, plural};
use crate::analyze::finding::{Evidence, EvidenceValue};

/// "40 ms", "5.0 s", "7 min", "5.0 hours", "2.3 days".
pub fn duration(seconds: f64) -> String {
    let s = seconds.abs();
    match s {
        _ if s <= 0.0 => "0 s".into(),
        _ if s < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if s < 120.0 => format!("{seconds:.1} s"),
        _ if s < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if s < 2.0 * 86_400.0 => format!("{:.1} hours", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// "28.0 GiB", "512 MiB".
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    };
    format!("{digits} {}", UNITS[unit])
}

/// "kv_cache_peak" as "KV cache peak".
pub fn name(evidence: &str) -> String {
    let word = |w: &str| match w {
        "kv" => "KV".into(),
        "gpu" => "GPU".into(),
        "gpus" => "GPUs".into(),
        "cpu" => "CPU".into(),
        "vcpu" => "vCPU".into(),
        "mig" => "MIG".into(),
        "utc" => "UTC".into(),
        "usd" => "dollars".into(),
        "p95" => "(p95)".into(),
        other => other.to_string(),
    };
    evidence.split('_').map(word).collect::<Vec<String>>().join(" ")
}

/// A figure with its unit, where its name does not say it already.
fn say(value: f64, unit: &str, name: &str) -> String {
    let told = name.split('_').any(|w| w == unit || w == unit.trim_end_matches('s'));
    match unit {
        "" => figure(value),
        "ratio" => format!("{} %", figure(value * 100.0)),
        "seconds" => duration(value),
        "bytes" => bytes(value),
        "usd/h" => format!("${}/h", amount(value)),
        "usd/1M tokens" => format!("${}/1M tokens", amount(value)),
        "watts" => format!("{} W", figure(value)),
        "gpus" if told => count(value),
        "gpus" => super::text::gpus(value),
        "tokens" if value.fract() != 0.0 => format!("{} tokens", figure(value.round())),
        _ if told => figure(value),
        _ => {
            // "1 restart", "61 restarts"; rates and the like stay as they are.
            match unit.strip_suffix('s') {
                Some(one) if count(value) == "1" && !one.contains('/') => plural(1, one),
                _ => format!("{} {unit}", figure(value)),
            }
        }
    }
}

fn amount(value: f64) -> String {
    crate::units::UsdPerHour::from_usd(value).map_or_else(|| figure(value), super::text::amount)
}

/// "61", "2.3 days", "crash-loop", "unknown".
pub fn value(e: &Evidence) -> String {
    let unit = e.unit.as_deref().unwrap_or_default();
    match &e.value {
        EvidenceValue::Number(n) => say(*n, unit, &e.name),
        EvidenceValue::Text(text) => plain(text),
        EvidenceValue::Unknown => "unknown".into(),
    }
}

/// What would be all right; `None`: nothing is expected.
pub fn expected(e: &Evidence) -> Option<String> {
    let unit = e.unit.as_deref().unwrap_or_default();
    e.expected.map(|x| say(x, unit, &e.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, number: f64, unit: &str) -> String {
        value(&Evidence::number(name, number, unit, "kubernetes"))
    }

    #[test]
    fn figures_are_peoples() {
        assert_eq!(of("not_ready_for", 198_720.0, "seconds"), "2.3 days");
        assert_eq!(of("inter_token_latency", 0.0393, "seconds"), "39 ms");
        assert_eq!(of("memory_left", 30_064_771_072.0, "bytes"), "28.0 GiB");
        assert_eq!(of("held", 7.0, "gpus"), "7 GPUs");
        assert_eq!(of("held", 1.0, "gpus"), "1 GPU");
        assert_eq!(of("kv_cache_usage", 0.995, "ratio"), "99.50 %");
        assert_eq!(of("spend_now", 368.365_226, "usd/h"), "$368.37/h");
    }

    #[test]
    fn no_unit_is_said_twice() {
        assert_eq!(of("restarts", 61.0, "restarts"), "61");
        assert_eq!(of("free_gpus", 8.0, "gpus"), "8");
        assert_eq!(of("waiting_pods", 1.0, "pods"), "1");
        assert_eq!(of("needed", 1.0, "replicas"), "1 replica");
        assert_eq!(of("peak", 598.5, "tokens/s"), "598.50 tokens/s");
    }

    #[test]
    fn names_are_words() {
        assert_eq!(name("kv_cache_peak"), "KV cache peak");
        assert_eq!(name("free_gpus"), "free GPUs");
    }
}
