//! Host lists: "gpu[1-4,07]", "rack[1-2]n[01-04],login".

/// Names of one list: Slurm's own limit is of this order.
const MOST: usize = 100_000;

/// Every name; `None`: it is no host list, or one of absurd length.
pub fn expand(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for part in split(crate::lenient::told(text)) {
        names(part, MOST - all.len(), &mut all)?;
    }
    Some(all)
}

fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn names(pattern: &str, most: usize, out: &mut Vec<String>) -> Option<()> {
    let mut heads = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        let (ranges, behind) = after.split_once(']')?;
        let numbers = ranges_of(ranges, most)?;
        if numbers.len().checked_mul(heads.len())? > most {
            return None;
        }
        heads = heads
            .iter()
            .flat_map(|h| numbers.iter().map(move |n| format!("{h}{before}{n}")))
            .collect();
        rest = behind;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if heads.len() > most || rest.contains(']') {
        return None;
    }
    for head in heads {
        let name = format!("{head}{rest}");
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return None;
        }
        out.push(name);
    }
    Some(())
}

/// "1-4,07": leading zeros are kept.
fn ranges_of(text: &str, most: usize) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let width = if first.starts_with('0') { first.len() } else { 0 };
        let (low, high): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if low > high || high - low >= most.saturating_sub(all.len()) {
            return None;
        }
        all.extend((low..=high).map(|n| format!("{n:0width$}")));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_hosts() {
        for (text, expected) in [
            ("gpu1", vec!["gpu1"]),
            ("gpu[1-3]", vec!["gpu1", "gpu2", "gpu3"]),
            ("gpu[08-10,12]", vec!["gpu08", "gpu09", "gpu10", "gpu12"]),
            ("r[1-2]n[1-2],login", vec!["r1n1", "r1n2", "r2n1", "r2n2", "login"]),
            ("", vec![]),
            ("(null)", vec![]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(String::from).collect();
            assert_eq!(expand(text), Some(expected), "{text}");
        }
        for text in [
            "gpu[1-",
            "gpu[3-1]",
            "n[0-99999999999]",
            "a[1-999]b[1-999]",
            "a b",
            "gpu1]",
            "\u{1b}[0m",
        ] {
            assert_eq!(expand(text), None, "{text}");
        }
    }
}
