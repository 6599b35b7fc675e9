//! Numbers of the command line, refused in words: what was given, why not, what to write instead.

/// Dollars per hour: "50". A sign, a currency or a unit is refused rather than guessed at.
pub(super) fn dollars(text: &str) -> Result<f64, String> {
    let bare = text.trim().trim_start_matches(['$', '€', '£']);
    let bare = bare.trim_end_matches("/h").trim_end_matches(['$', '€', '£']).trim();
    let number = text.trim().parse::<f64>();
    match (number, bare.parse::<f64>()) {
        (Ok(n), _) if n.is_finite() && n >= 0.0 => Ok(n),
        (Ok(n), _) if n.is_nan() || n.is_infinite() => {
            Err("a number of at least 0 is expected: dollars per hour".into())
        }
        (Ok(_), _) => Err("a number of at least 0 is expected: US dollars per hour".into()),
        (Err(_), Ok(n)) => Err(format!("write the bare number, in US dollars per hour: {n}")),
        _ => Err("write a number of US dollars per hour, such as 50 or 12.5".into()),
    }
}

/// A share in percent, 0 to 100: "90".
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let bare = text.trim().trim_end_matches('%').trim();
    match (text.trim().parse::<f64>(), bare.parse::<f64>()) {
        (Ok(n), _) if n.is_nan() => Err("a number of at least 0 is expected: percent".into()),
        (Ok(n), _) if n < 0.0 => Err("a number of at least 0 is expected: percent".into()),
        (Ok(n), _) if n > 100.0 => Err(format!("{n} % is more than all of it: write 0 to 100")),
        (Ok(n), _) => Ok(n),
        (Err(_), Ok(n)) => Err(format!("write the bare number of percent: {n}")),
        _ => Err("write a number of percent, such as 90".into()),
    }
}

/// As [`percent`], but a share of 1 is a slip: nobody asks for less than one percent of coverage.
pub(super) fn coverage(text: &str) -> Result<f64, String> {
    let n = percent(text)?;
    if (0.05..=1.0).contains(&n) {
        return Err(format!(
            "{n} would be {n} percent: write {} for {} %",
            n * 100.0,
            n * 100.0
        ));
    }
    Ok(n)
}

/// How many rows: 0 or more.
pub(super) fn rows(text: &str) -> Result<usize, String> {
    text.trim()
        .parse()
        .map_err(|_| "write how many to list: 0, or a whole number above".to_string())
}

/// Tokens: "8192", and as vLLM reads them (`human_readable_int` of its `arg_utils.py`) "8k" for 8,000 and "8K" for 8,192.
pub(super) fn tokens(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let refused = || format!("'{text}' is no number of tokens: write 8192, 8k (8,000) or 8K (8,192)");
    let units = [("k", 1e3), ("m", 1e6), ("K", 1024.0), ("M", 1_048_576.0)];
    let unit = units
        .iter()
        .find_map(|(end, size)| Some((text.strip_suffix(end)?, *size)));
    let Some((number, size)) = unit else {
        let thousands = text.replace([',', '_'], "");
        return text.parse().map_err(|_| match thousands.parse::<u64>() {
            Ok(n) if !text.starts_with([',', '_']) => format!("write the bare number of tokens: {n}"),
            _ => refused(),
        });
    };
    let n = number
        .parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n > 0.0)
        .ok_or_else(refused)?;
    let all = n * size;
    if all.fract().abs() > 1e-6 && (1.0 - all.fract()).abs() > 1e-6 || all > 1e12 {
        return Err(refused());
    }
    Ok(all.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_refused_with_the_way_out() {
        assert_eq!(dollars("50"), Ok(50.0));
        assert_eq!(dollars("0"), Ok(0.0));
        for slip in ["$50", "50$", "€50", "50/h"] {
            assert!(dollars(slip).is_err_and(|e| e.ends_with(": 50")), "{slip}");
        }
        for wrong in ["-1", "nan", "inf", "much"] {
            assert!(dollars(wrong).is_err(), "{wrong}");
        }
        assert!(percent("90%").is_err_and(|e| e.ends_with(": 90")));
        assert!(percent("150").is_err_and(|e| e.contains("0 to 100")));
        assert_eq!(percent("0.5"), Ok(0.5));
        assert!(coverage("0.9").is_err_and(|e| e.contains("write 90")));
        assert_eq!((coverage("0"), coverage("90")), (Ok(0.0), Ok(90.0)));
        let read = |t: &str| tokens(t).ok();
        assert_eq!(
            (read("8192"), read("8k"), read("8K"), read("25.6k")),
            (Some(8192), Some(8000), Some(8192), Some(25_600))
        );
        assert_eq!(
            (read("1M"), read("0"), read("1.5K")),
            (Some(1_048_576), Some(0), Some(1536))
        );
        for slip in ["8 kk", "-8k", "k", "8192 tokens", "0.0001k", "nank"] {
            assert!(tokens(slip).is_err_and(|e| e.contains("8K (8,192)")), "{slip}");
        }
        assert!(tokens("8,192").is_err_and(|e| e.ends_with(": 8192")));
        assert!(rows("-1").is_err() && rows("12") == Ok(12));
    }
}
