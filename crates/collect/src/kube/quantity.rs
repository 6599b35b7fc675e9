//! Kubernetes quantities: "500m", "1.5", "96Gi", "1e3", "123456789n".

/// The plain number; `None` for what is no quantity, negative, or not finite.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    // "1e3", "12E6" are exponents, "12E" is exa.
    if let Ok(plain) = text.parse::<f64>() {
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '+');
        return (digits && plain.is_finite()).then_some(plain);
    }
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, suffix) = text.split_at(split);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// A device count: whole, as the API server demands of extended resources, and no more than any node has.
pub(crate) fn count(text: &str) -> Option<u64> {
    parse(text)
        .filter(|n| *n <= 1_000_000.0 && n.fract() == 0.0)
        .map(|n| n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_as_kubernetes_writes_them() {
        for (text, value) in [
            ("500m", 0.5),
            ("1.5", 1.5),
            ("2Gi", 2_147_483_648.0),
            ("1e3", 1000.0),
            ("250000000n", 0.25),
            ("12k", 12_000.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "abc", "-1", "1Zi", "1e999", "NaN", "inf", "1 Gi"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(
            (count("8"), count("1k"), count("0.5"), count("500m")),
            (Some(8), Some(1000), None, None)
        );
        assert_eq!(count("99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            let _ = (parse(&text), count(&text));
        }
    }
}
