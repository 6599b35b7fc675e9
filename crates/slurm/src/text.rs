//! `scontrol -o`: one object a line, `Key=Value` with spaces between, and values that may hold spaces themselves.

use crate::lenient::told;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Names of keys: "CPUTot", "Socks/Node", "NtasksPerN:B:S:C", "AllocNode:Sid".
fn key_of(word: &str) -> Option<(&str, &str)> {
    let (key, value) = word.split_once('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | ':' | '-');
    let named = key.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) && key.chars().all(plain);
    named.then_some((key, value))
}

/// The pairs of one line, in their order.
pub(crate) fn pairs(line: &str) -> Vec<(&str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for word in line.split(' ') {
        match key_of(word) {
            Some((key, value)) => all.push((key, value.to_string())),
            None => {
                if let Some((_, value)) = all.last_mut().filter(|_| !word.is_empty()) {
                    value.push(' ');
                    value.push_str(word);
                }
            }
        }
    }
    all
}

/// Seconds since 1970 of a time as Slurm writes it: with `SLURM_TIME_FORMAT=%s` seconds, else the local time of the host that
/// wrote it.
pub(crate) fn time(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = told(text);
    if text.is_empty() {
        return None;
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return (seconds > 0).then_some(seconds);
    }
    let local: DateTime = text.parse().ok()?;
    zone.to_timestamp(local).ok().map(jiff::Timestamp::as_second)
}

/// Seconds of "7-00:00:00", "01:30:00", "30:00" or, as sacct's raw limits, minutes without a colon.
pub(crate) fn span(text: &str) -> Option<u64> {
    let text = told(text);
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let days: u64 = days.parse().ok()?;
    let parts: Option<Vec<u64>> = rest.split(':').map(|p| p.parse().ok()).collect();
    let seconds = match parts?.as_slice() {
        [minutes] if days == 0 => minutes.checked_mul(60)?,
        [hours] => hours.checked_mul(3600)?,
        [minutes, seconds] => minutes.checked_mul(60)?.checked_add(*seconds)?,
        [hours, minutes, seconds] => hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(*seconds)?,
        _ => return None,
    };
    days.checked_mul(86_400)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_spaces() {
        let line = "NodeName=gpu1 OS=Linux 6.1 #1 SMP @0 Gres=gpu:h100:8 Socks/Node=* CPU_IDs=0-3 Mem=1 ";
        let all = pairs(line);
        assert_eq!(all[1], ("OS", "Linux 6.1 #1 SMP @0".to_string()));
        assert_eq!(all[2], ("Gres", "gpu:h100:8".to_string()));
        assert_eq!(all.last(), Some(&("Mem", "1".to_string())));
    }

    #[test]
    fn times_are_seconds_or_local() {
        let zone = TimeZone::get("Europe/Berlin").expect("bundled or the system's");
        assert_eq!(time("1796004390", &zone), Some(1_796_004_390));
        assert_eq!(time("2026-11-30T03:06:30", &zone), Some(1_796_004_390));
        assert_eq!(time("Unknown", &zone), None);
        assert_eq!(time("None", &zone), None);
        assert_eq!(time("soon", &zone), None);
    }

    #[test]
    fn spans() {
        for (text, expected) in [
            ("7-00:00:00", Some(604_800)),
            ("01:30:00", Some(5400)),
            ("30:00", Some(1800)),
            ("1440", Some(86_400)),
            ("UNLIMITED", None),
            ("Partition_Limit", None),
            ("99999999999999999999-00:00:00", None),
        ] {
            assert_eq!(span(text), expected, "{text}");
        }
    }
}
