//! Generic resources as Slurm writes them: `gpu:h100:8`, `gpu:h100:6(S:0-1)(IDX:0-2,5-7)`, `gres/gpu:a100_1g.5gb:2`,
//! `shard:l40s:16`, and the TRES form `gres/gpu:h100=2`. Several stand with commas between them.

use std::collections::BTreeSet;

/// More devices than one node has; Slurm's own limit of a GRES bitmap is far lower.
const MOST: u64 = 4096;

/// One resource of a node or a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gres {
    /// "gpu", "shard", "mps", "license" …
    pub name: String,
    /// As gres.conf types it; `None`: without a type.
    pub kind: Option<String>,
    pub count: u64,
    /// Which of the node's devices; `None`: not told. An empty set: none of them.
    pub indices: Option<BTreeSet<u32>>,
}

impl Gres {
    pub fn is_gpu(&self) -> bool {
        self.name == "gpu"
    }

    pub fn is_shard(&self) -> bool {
        self.name == "shard" || self.name == "mps"
    }

    /// The MIG profile that its type names ("1g.5gb" of "a100_1g.5gb"), and what stands in front of it.
    pub fn mig(&self) -> Option<(&str, &str)> {
        self.kind.as_deref().and_then(mig_of)
    }
}

/// "a100_1g.5gb" → ("a100", "1g.5gb"); "1g.10gb" → ("", "1g.10gb"). Media extensions ("+me") belong to the profile.
pub fn mig_of(kind: &str) -> Option<(&str, &str)> {
    let at = kind.match_indices("g.").find_map(|(at, _)| {
        let digit = at.checked_sub(1).filter(|d| kind.as_bytes()[*d].is_ascii_digit())?;
        let rest = &kind[at + 2..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0 && rest[digits..].starts_with("gb")).then_some(digit)
    })?;
    Some((kind[..at].trim_end_matches(['_', '-', '.', ' ']), &kind[at..]))
}

/// Every entry of a list. What is no resource is left out; `None`: the text holds one that cannot be read.
pub fn parse(text: &str) -> Option<Vec<Gres>> {
    let text = crate::lenient::told(text);
    let mut all = Vec::new();
    for part in split(text) {
        all.push(one(part)?);
    }
    Some(all)
}

/// At commas that stand in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn one(text: &str) -> Option<Gres> {
    let text = text
        .strip_prefix("gres:")
        .or_else(|| text.strip_prefix("gres/"))
        .unwrap_or(text);
    let (head, brackets) = text.split_at(text.find('(').unwrap_or(text.len()));
    let (head, amount) = match head.split_once('=') {
        Some((head, amount)) => (head, Some(number(amount)?)),
        None => (head, None),
    };
    let mut words = head.split(':').map(str::trim);
    let name = words.next().filter(|n| is_word(n))?.to_ascii_lowercase();
    let rest: Vec<&str> = words.filter(|w| !w.is_empty()).collect();
    let (kind, count) = match rest.as_slice() {
        [] => (None, None),
        [only] if number(only).is_some() => (None, number(only)),
        [kind] => (Some(*kind), None),
        // "no_consume" stands between type and count.
        [kind, .., count] => (Some(*kind), Some(number(count)?)),
    };
    let kind = match kind.filter(|k| *k != "no_consume") {
        Some(kind) if is_word(kind) => Some(kind.to_string()),
        Some(_) => return None,
        None => None,
    };
    let indices = brackets
        .split('(')
        .find_map(|b| b.trim_end().strip_prefix("IDX:"))
        .map(|b| index_set(b.trim_end_matches(')')));
    let indices = match indices {
        Some(set) => Some(set?),
        None => None,
    };
    Some(Gres {
        name,
        kind,
        count: amount.or(count).unwrap_or(1),
        indices,
    })
}

/// Types and names are words that an administrator chose.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | ' ');
    !text.is_empty() && text.len() <= 128 && text.chars().all(plain)
}

/// 8, 4K, 2M: counts may have a power of 1024 behind them.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.chars().next_back()? {
        'k' | 'K' => (&text[..text.len() - 1], 1 << 10),
        'm' | 'M' => (&text[..text.len() - 1], 1 << 20),
        'g' | 'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// "0-2,5,7-9"; "N/A": none.
pub fn index_set(text: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in crate::lenient::told(text)
        .split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || u64::from(last) >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// A TRES string: "cpu=4,mem=20000M,node=1,gres/gpu=2,gres/gpu:h100=2".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tres {
    pub cpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub nodes: Option<u64>,
    /// GPUs of all types; `None`: the string names none.
    pub gpus: Option<u64>,
    /// The one type that is named; `None`: none, or several.
    pub kind: Option<String>,
}

pub fn tres(text: &str) -> Tres {
    let mut out = Tres::default();
    let (mut typed, mut kinds) = (0_u64, BTreeSet::new());
    for part in crate::lenient::told(text).split(',') {
        let Some((key, value)) = part.split_once('=') else {
            continue;
        };
        match key.trim() {
            "cpu" => out.cpus = number(value),
            "mem" => out.memory = memory(value),
            "node" => out.nodes = number(value),
            "gres/gpu" => out.gpus = number(value),
            key => {
                if let (Some(kind), Some(count)) = (key.strip_prefix("gres/gpu:"), number(value)) {
                    typed = typed.saturating_add(count);
                    kinds.insert(kind.to_string());
                }
            }
        }
    }
    if out.gpus.is_none() && !kinds.is_empty() {
        out.gpus = Some(typed);
    }
    out.kind = if kinds.len() == 1 { kinds.pop_first() } else { None };
    out
}

/// "20000M", "500G", "1.5T"; without a unit: MiB.
pub fn memory(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches(['c', 'n']);
    let (digits, unit) = match text.chars().next_back()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        'T' => (&text[..text.len() - 1], 40),
        'P' => (&text[..text.len() - 1], 50),
        _ => (text, 20),
    };
    let value: f64 = digits.parse().ok()?;
    let bytes = value * f64::from(unit).exp2();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gres(name: &str, kind: Option<&str>, count: u64, indices: Option<&[u32]>) -> Gres {
        Gres {
            name: name.into(),
            kind: kind.map(String::from),
            count,
            indices: indices.map(|i| i.iter().copied().collect()),
        }
    }

    #[test]
    fn the_grammar_of_every_release() {
        for (text, expected) in [
            ("gpu:h100:8", vec![gres("gpu", Some("h100"), 8, None)]),
            ("gpu:8", vec![gres("gpu", None, 8, None)]),
            ("gpu:h100:8(S:0-1)", vec![gres("gpu", Some("h100"), 8, None)]),
            (
                "gpu:h100:6(IDX:0-2,5-7)",
                vec![gres("gpu", Some("h100"), 6, Some(&[0, 1, 2, 5, 6, 7]))],
            ),
            (
                "gpu:h100:0(IDX:N/A),shard:0",
                vec![gres("gpu", Some("h100"), 0, Some(&[])), gres("shard", None, 0, None)],
            ),
            (
                "gpu:a100:4(S:0),gpu:v100:2(S:1)",
                vec![gres("gpu", Some("a100"), 4, None), gres("gpu", Some("v100"), 2, None)],
            ),
            (
                "gpu:a100_1g.5gb:2(IDX:0-1)",
                vec![gres("gpu", Some("a100_1g.5gb"), 2, Some(&[0, 1]))],
            ),
            ("shard:l40s:16", vec![gres("shard", Some("l40s"), 16, None)]),
            ("gres:gpu:2", vec![gres("gpu", None, 2, None)]),
            ("gres/gpu:h100:2", vec![gres("gpu", Some("h100"), 2, None)]),
            ("gres/gpu:h100=2", vec![gres("gpu", Some("h100"), 2, None)]),
            ("gpu", vec![gres("gpu", None, 1, None)]),
            ("gpu:h100", vec![gres("gpu", Some("h100"), 1, None)]),
            ("gpu:tesla:no_consume:4", vec![gres("gpu", Some("tesla"), 4, None)]),
            (
                "craynetwork:4,bandwidth:lustre:4K",
                vec![
                    gres("craynetwork", None, 4, None),
                    gres("bandwidth", Some("lustre"), 4096, None),
                ],
            ),
            ("(null)", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_unread() {
        for text in [
            "gpu:h100:8(IDX:7-0)",
            "gpu:h100:8(IDX:0-99999999)",
            "gpu:h100:99999999999999999999",
            "gpu:a\u{1b}[0m:1",
            "=2",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn mig_profiles_stand_behind_their_card() {
        assert_eq!(mig_of("a100_1g.5gb"), Some(("a100", "1g.5gb")));
        assert_eq!(
            mig_of("nvidia_h100_80gb_hbm3_2g.20gb"),
            Some(("nvidia_h100_80gb_hbm3", "2g.20gb"))
        );
        assert_eq!(mig_of("1g.10gb+me"), Some(("", "1g.10gb+me")));
        assert_eq!(mig_of("h100"), None);
        assert_eq!(mig_of("rtx_a6000"), None);
    }

    #[test]
    fn tres_add_up_once() {
        let read = tres("cpu=4,mem=20000M,node=2,billing=4,gres/gpu=4,gres/gpu:h100=4");
        assert_eq!(
            (read.cpus, read.memory, read.nodes, read.gpus),
            (Some(4), Some(20_971_520_000), Some(2), Some(4))
        );
        assert_eq!(read.kind.as_deref(), Some("h100"));
        assert_eq!(
            tres("gres/gpu:a100=2,gres/gpu:v100=1").gpus,
            Some(3),
            "no total is told"
        );
        assert_eq!(tres("cpu=4").gpus, None);
        assert_eq!(memory("1.5T"), Some(3 << 39));
    }
}
