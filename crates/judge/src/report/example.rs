//! `gpuwaste explain`'s examples: a finding of the demo put into its sentence.
//!
//! Places: {title}, {cluster}, {sure}, {usd}, {now}, {gpus}; {price} (of one GPU), {node} (its node's price), {node_gpus},
//! {instance}; and any evidence by its name, with ":expected" for what it was judged by, and ":%" or ":ms" for another unit.

use super::document::{Report, ReportFinding, ReportNode};
use super::text::{self, plain};
use crate::analyze::examples::Example;
use crate::analyze::finding::EvidenceValue;
use crate::units::UsdPerHour;

/// `None`: the report has no such finding, or not all of the figures.
pub fn fill(report: &Report, example: &Example) -> Option<String> {
    let finding = report.findings.iter().find(|f| {
        f.check == example.check
            && f.part.as_deref() == example.part
            && f.subject.name.as_deref() == Some(example.subject)
    })?;
    let mut filled = String::new();
    let mut rest = example.text;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, behind) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(&figure(report, finding, place)?);
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled)
}

fn figure(report: &Report, finding: &ReportFinding, place: &str) -> Option<String> {
    let node = || node(report, finding);
    Some(match place {
        "title" => plain(&finding.title),
        "cluster" => plain(finding.subject.cluster.as_deref()?),
        "sure" => finding.confidence.name().into(),
        "usd" => text::money(finding.usd_per_hour?),
        "now" => text::money(finding.waste_now_usd_per_hour?),
        "gpus" => text::claimed_gpus(finding)?.to_string(),
        "node" => exact(node()?.price.usd_per_hour?),
        "node_gpus" => node()?.gpus.to_string(),
        "instance" => node()?.instance_type.clone()?,
        "price" => {
            let node = node()?;
            let gpus = i64::try_from(node.gpus).ok().filter(|n| *n > 0)?;
            exact(UsdPerHour::from_micros(node.price.usd_per_hour?.micros() / gpus))
        }
        name => return evidence(finding, name),
    })
}

/// The node of the claims, where they are all on nodes of one kind and price.
fn node<'r>(report: &'r Report, finding: &ReportFinding) -> Option<&'r ReportNode> {
    let of = |name: &str| {
        report
            .nodes
            .iter()
            .find(|n| n.name == name && n.cluster == finding.subject.cluster)
    };
    let first = of(&finding.claims.first()?.node)?;
    let alike = |n: &ReportNode| (n.price.usd_per_hour, n.gpus) == (first.price.usd_per_hour, first.gpus);
    finding
        .claims
        .iter()
        .all(|c| of(&c.node).is_some_and(alike))
        .then_some(first)
}

/// Prices that do not end at the cent keep what a sum needs.
fn exact(usd: UsdPerHour) -> String {
    let text = format!("{:.4}", usd.usd());
    let cents = text.len().saturating_sub(2);
    format!("${}/h", text.strip_suffix("00").unwrap_or(&text[..cents + 2]))
}

fn evidence(finding: &ReportFinding, place: &str) -> Option<String> {
    let mut words = place.split(':');
    let name = words.next()?;
    let mut how = words.collect::<Vec<_>>();
    let expected = how.contains(&"expected");
    how.retain(|w| *w != "expected");
    let item = finding.evidence.iter().find(|e| e.name == name)?;
    let value = match &item.value {
        _ if expected => item.expected?,
        EvidenceValue::Number(value) => *value,
        EvidenceValue::Text(text) => return Some(plain(text)),
        EvidenceValue::Unknown => return None,
    };
    let unit = item.unit.as_deref().unwrap_or_default();
    Some(match (how.first().copied(), unit) {
        (Some("%"), _) => format!("{:.1} %", value * 100.0),
        (Some("ms"), _) => format!("{:.0} ms", value * 1e3),
        (_, "usd/h") => exact(UsdPerHour::from_usd(value)?),
        (_, "ratio") => format!("{value:.2}"),
        (_, "bytes") => format!("{:.1} GiB", value / f64::from(1 << 30)),
        // The sentence says what these are.
        (_, "gpus" | "replicas" | "hours" | "restarts" | "requests") => text::figure(value),
        (_, "tokens") if value == 0.0 => "0".into(),
        (_, unit) => format!("{} {unit}", text::figure(value)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::CHECKS;
    use crate::analyze::examples::EXAMPLES;
    use crate::settings::Settings;

    /// A sum of numbers with units: + - x / and brackets; "%" divides by a hundred.
    struct Sum<'t> {
        words: std::iter::Peekable<std::str::Chars<'t>>,
    }

    impl Sum<'_> {
        fn of(text: &str) -> f64 {
            let mut sum = Sum {
                words: text.chars().peekable(),
            };
            let value = sum.terms();
            assert!(sum.words.next().is_none(), "{text}");
            value
        }

        fn next_is(&mut self, wanted: &[char]) -> Option<char> {
            while self.words.next_if(|c| *c == ' ').is_some() {}
            self.words.next_if(|c| wanted.contains(c))
        }

        fn terms(&mut self) -> f64 {
            let mut value = self.factors();
            while let Some(sign) = self.next_is(&['+', '-']) {
                let more = self.factors();
                value = if sign == '+' { value + more } else { value - more };
            }
            value
        }

        fn factors(&mut self) -> f64 {
            let mut value = self.number();
            while let Some(sign) = self.next_is(&['x', '/']) {
                let more = self.number();
                value = if sign == 'x' { value * more } else { value / more };
            }
            value
        }

        fn number(&mut self) -> f64 {
            if self.next_is(&['(']).is_some() {
                let value = self.terms();
                assert!(self.next_is(&[')']).is_some());
                return value;
            }
            self.next_is(&['$']);
            while self.words.next_if(|c| *c == ' ').is_some() {}
            let mut digits = String::new();
            while let Some(c) = self.words.next_if(|c| c.is_ascii_digit() || ".,".contains(*c)) {
                digits.push(c);
            }
            let value: f64 = digits.replace(',', "").parse().expect("a number");
            if self.next_is(&['%']).is_some() {
                return value / 100.0;
            }
            value
        }
    }

    /// Units are for people.
    fn bare(text: &str) -> String {
        ["/h", " tokens", " cores", " requests", " bins"]
            .iter()
            .fold(text.to_owned(), |t, unit| t.replace(unit, ""))
    }

    #[test]
    fn sums_are_worked_out() {
        assert!((Sum::of("2 x (1 + 1 + 1) - 4 / 2") - 4.0).abs() < 1e-9);
        assert!((Sum::of("1,000 x 21.5 % x (1 - 10 % / 50 %)") - 172.0).abs() < 1e-9);
    }

    #[test]
    fn every_example_is_the_demos_and_its_sums_hold() {
        let report = crate::report_of(&crate::guards::recorded_demo(), &Settings::default());
        let mut sums = 0;
        for example in EXAMPLES {
            let name = format!("{} {:?} {}", example.check, example.part, example.subject);
            let text = fill(&report, example).unwrap_or_else(|| panic!("the demo does not show {name}"));
            let found = report
                .findings
                .iter()
                .filter(|f| {
                    f.check == example.check
                        && f.part.as_deref() == example.part
                        && f.subject.name.as_deref() == Some(example.subject)
                })
                .count();
            assert_eq!(found, 1, "which one is meant by {name}?");
            for line in text.lines().filter(|l| l.starts_with("    ")) {
                let (left, right) = line.split_once(" = ").expect("a sum");
                let (left, right) = (Sum::of(&bare(left)), Sum::of(&bare(right)));
                // Both sides are rounded as they are shown.
                assert!((left - right).abs() <= 0.005 + 0.005 * right.abs(), "{line}: {left}");
                sums += 1;
            }
        }
        assert!(sums >= 14, "{sums} sums");
    }

    /// Checks without an example, and why.
    const WITHOUT: &[(&str, &str)] = &[
        ("spec-hygiene", "it reads manifests, and the demo is a running fleet"),
        ("mig-layout", "no card of the demo is cut into instances"),
        ("low-utilization", "built after the demo's recording"),
    ];

    #[test]
    fn every_check_has_an_example() {
        for check in CHECKS {
            let has = EXAMPLES.iter().any(|e| e.check == check.id());
            let excused = WITHOUT.iter().any(|(id, _)| *id == check.id());
            assert!(has != excused, "{}", check.id());
        }
        assert!(
            EXAMPLES.iter().all(|e| CHECKS.iter().any(|c| c.id() == e.check)),
            "an example of no check"
        );
    }
}
