//! Durations as people write them.

use std::time::Duration;

/// "60s", "10m", "24h", "7d", "1w", or bare seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("'{text}' is no duration: write 30s, 10m, 24h or 7d"))?;
    let seconds = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(format!("'{unit}' is no unit of time: use s, m, h, d or w")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("'{text}' is out of range"))
}

/// A limit of a server's answers, with its unit: "50" is seconds to one and milliseconds to most.
pub(super) fn latency(text: &str) -> Result<Duration, String> {
    let limit = duration(text)?;
    let text = text.trim();
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("say in which unit: {text}ms or {text}s"));
    }
    Ok(limit)
}

/// One hour to 60 days: shorter is no history, longer is beyond what stores keep at full resolution.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    if (3600..=60 * 86_400).contains(&window.as_secs()) {
        Ok(window)
    } else {
        // "7" is seconds; nobody means them.
        let bare = text.trim().parse::<u64>().ok().filter(|n| (1..=60).contains(n));
        let meant = bare.map(|n| format!(": did you mean {n}d?")).unwrap_or_default();
        Err(format!("a window is between 1h and 60d, such as 7d{meant}"))
    }
}

/// At least a tenth of a second: less reaches no server.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let limit = duration(text)?;
    if limit < Duration::from_millis(100) {
        let number: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        let meant = if text.trim().ends_with("ms") && !number.is_empty() {
            format!(": did you mean {number}m or {number}s?")
        } else {
            String::new()
        };
        return Err(format!(
            "no server answers in that time: a request needs 100ms or more, such as 30s{meant}"
        ));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(duration("-1s").is_err());
        assert!(window("7").is_err_and(|e| e.contains("did you mean 7d?")));
        assert!(timeout("1ms").is_err_and(|e| e.contains("1s")) && timeout("2s").is_ok());
        assert_eq!(latency("50ms"), Ok(Duration::from_millis(50)));
        assert!(latency("50").is_err_and(|e| e.contains("50ms or 50s")));
        assert!(duration("7 parsecs").is_err_and(|e| e.contains("parsecs")));
    }
}
