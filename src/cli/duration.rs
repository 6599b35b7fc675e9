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

/// One hour to 60 days: shorter is no history, longer is beyond what stores keep at full resolution.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    if (3600..=60 * 86_400).contains(&window.as_secs()) {
        Ok(window)
    } else {
        Err(format!("'{text}' is not between 1h and 60d"))
    }
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
        assert!(duration("7 parsecs").is_err_and(|e| e.contains("parsecs")));
    }
}
