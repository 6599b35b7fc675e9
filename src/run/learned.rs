//! learned: what became of what was decided, what follows from it, and the record for others.

mod html;

use super::recorded::{self, Recorded};
use super::{clock, facts, file, output, policy, print, slips};
use crate::cli::{LearnedArgs, LearnedFormat};
use crate::collect::input;
use crate::report::document::Status;
use crate::report::text::plain;
use crate::settings::{LearnedFact, Settings, laid_over};
use crate::units::sum_known;
use anyhow::{Context, Result, anyhow, bail};
use gpuwaste_decisions::exchange::{self, Exchanged};
use gpuwaste_decisions::record::{Change, Figures, Learned, Record, Shared};
use gpuwaste_decisions::store::Folder;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn learned(args: &LearnedArgs) -> Result<ExitCode> {
    let others = read(&args.learned)?;
    if !args.from.is_empty() || !others.facts.is_empty() {
        return facts::learned(args, others);
    }
    let others = others.record.unwrap_or_default();
    let book = Folder::new(&args.ledger).read().map_err(|why| anyhow!(why))?;
    if let Some(path) = &args.output {
        let mut all = Record::of(&book);
        all.merge(&others);
        let text = serde_json::to_string_pretty(&Shared::new(all))? + "\n";
        file::replace(path, |out| out.write_all(text.as_bytes()))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    let mut learned = Learned::of(&book, &others, clock::now()?);
    if !args.replay.is_empty() {
        let own = policy::text(args.policy.as_deref())?.unwrap_or_default();
        for proposal in &mut learned.proposals {
            proposal.would_change = Some(change(&own, &proposal.policy, &args.replay)?);
        }
    }
    match args.format {
        LearnedFormat::Json => print(serde_json::to_string_pretty(&learned)? + "\n"),
        LearnedFormat::Table => print(table(&learned)),
        LearnedFormat::Html => print(html::page(&learned)),
    }
}

/// A thousand clusters' facts take less; a longer file is a mistake.
const MAX_BYTES: u64 = 256 << 20;

/// What others wrote, joined.
#[derive(Default)]
pub(super) struct Others {
    /// `None`: no file is a record.
    pub(super) record: Option<Record>,
    /// Facts, each with its file.
    pub(super) facts: Vec<LearnedFact>,
}

pub(super) fn read(files: &[PathBuf]) -> Result<Others> {
    let mut all = Others::default();
    let mut seen: BTreeMap<(String, String), LearnedFact> = BTreeMap::new();
    for path in files {
        let name = path.display();
        let bytes = input::named(path, MAX_BYTES).with_context(|| format!("could not read {name}"))?;
        if let Some(what) = slips::instead(&bytes).filter(|_| !bytes.starts_with(b"<<<<<<<")) {
            bail!("{name}: {what}");
        }
        let text = std::str::from_utf8(slips::without_mark(&bytes)).map_err(|e| {
            anyhow!(
                "{name}: byte {}: it is no UTF-8 text; write it again",
                e.valid_up_to() + 1
            )
        })?;
        match exchange::parse(text).map_err(|why| anyhow!("{name}: {why}"))? {
            Exchanged::Record(record) => all.record.get_or_insert_default().merge(&record),
            Exchanged::Facts(told) => {
                for fact in told.facts {
                    let file = name.to_string();
                    let key = fact.key();
                    let older = seen.get(&key).is_none_or(|known| known.fact.is_older(&fact));
                    if older {
                        seen.insert(key, LearnedFact { fact, file });
                    }
                }
            }
        }
    }
    all.facts = seen.into_values().collect();
    Ok(all)
}

/// Facts alone: what a command without a ledger can use.
pub(super) fn facts_of(files: &[PathBuf]) -> Result<Vec<LearnedFact>> {
    let others = read(files)?;
    if others.record.is_some() {
        bail!(
            "--learned: a record of decisions is used by 'scan --ledger' and 'check --ledger' alone; measured facts are what 'gpuwaste learned --from SNAPSHOT -o FILE' writes"
        );
    }
    Ok(others.facts)
}

/// What a proposal takes out of the snapshots: each judged by the user's policy, and by it with the proposal laid over it.
fn change(own: &str, proposal: &str, snapshots: &[PathBuf]) -> Result<Change> {
    let settings = |text: &str| policy::parsed(text, Path::new("with the proposal"));
    let laid = laid_over(own, proposal).map_err(|why| anyhow!("the proposal does not go with the policy: {why}"))?;
    let (now, then) = (settings(own)?, settings(&laid)?);
    let mut change = Change::default();
    let lost = recorded::named(snapshots)?.each(Recorded::snapshot, |_, snapshot| {
        let counted = |s: &Settings| {
            let report = crate::judge::report_of(&snapshot, s);
            let open = report.findings.iter().filter(|f| f.status != Status::Suppressed);
            let waste = sum_known(open.clone().map(|f| f.waste_usd_per_hour));
            (open.count() as u64, waste)
        };
        let (before, after) = (counted(&now), counted(&then));
        change.findings += before.0.saturating_sub(after.0);
        change.waste_usd_per_hour += (before.1 - after.1).usd();
        Ok(())
    })?;
    output::lost(&lost)?;
    Ok(change)
}

fn table(learned: &Learned) -> String {
    let percent = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| format!("{:.0} %", v * 100.0));
    let row = |name: &str, f: &Figures| {
        let accepted = f.acceptance.map_or_else(
            || "–".into(),
            |s| format!("{:.0}–{:.0} %", s.low * 100.0, s.high * 100.0),
        );
        let days = f.median_days_to_act.map_or_else(|| "–".into(), |d| format!("{d:.1}"));
        format!(
            "{:<28} {:>7} {:>8} {accepted:>10} {:>5} {days:>6} {:>7} {:>8} {:>6} {:>6} {:>9}\n",
            plain(name),
            f.decided,
            f.accepted,
            f.wrong,
            f.settled,
            percent(f.realised),
            percent(f.realised_p10),
            percent(f.realised_p90),
            f.regretted,
        )
    };
    let head = format!(
        "{:<28} {:>7} {:>8} {:>10} {:>5} {:>6} {:>7} {:>8} {:>6} {:>6} {:>9}\n",
        "", "decided", "accepted", "90 %", "wrong", "days", "settled", "realised", "p10", "p90", "regretted"
    );
    let mut out = head.clone();
    for (check, figures) in &learned.checks {
        out.push_str(&row(check, figures));
    }
    if !learned.owners.is_empty() {
        out.push_str(&format!("\n{}", head.replacen("      ", "by owner", 1)));
        for (owner, figures) in &learned.owners {
            out.push_str(&row(owner, figures));
        }
    }
    if !learned.months.is_empty() {
        let most = learned
            .months
            .values()
            .map(|m| m.predicted_usd_per_hour)
            .fold(0.0, f64::max);
        out.push_str("\nPredicted ░ and realised █, $/h of what was settled, by month\n");
        for (month, m) in &learned.months {
            let bar = |usd: f64| ((usd / most.max(1e-9)) * 40.0).round().clamp(0.0, 40.0) as usize;
            let (realised, predicted) = (bar(m.realised_usd_per_hour), bar(m.predicted_usd_per_hour));
            let bars = "█".repeat(realised) + &"░".repeat(predicted.saturating_sub(realised));
            out.push_str(&format!(
                "{month}  {bars} {:.2} of {:.2} in {}\n",
                m.realised_usd_per_hour, m.predicted_usd_per_hour, m.settled
            ));
        }
    }
    for p in &learned.proposals {
        let change = p.would_change.map_or_else(String::new, |c| {
            format!(
                "; in the snapshots: {} findings, ${:.2}/h of waste",
                c.findings, c.waste_usd_per_hour
            )
        });
        out.push_str(&format!("\n# proposed: {}{change}\n{}", plain(&p.reason), p.policy));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use std::fs;

    fn demo(folder: &Path) -> PathBuf {
        let path = folder.join("demo.json");
        let snapshot: Snapshot = super::super::source::demo().unwrap();
        fs::write(&path, serde_json::to_vec(&snapshot).unwrap()).unwrap();
        path
    }

    /// What the policy says beside the proposal is the same before and after.
    #[test]
    fn a_proposal_changes_what_it_says_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let demo = [demo(folder.path())];
        let own = "[checks]\nskip = [\"stranded-gpu\"]\n[thresholds.oversized-tier]\nmin_saving_share = 0.3\n";
        let nothing = change(own, "[thresholds.oversized-tier]\nmin_saving_share = 0.3\n", &demo).unwrap();
        assert_eq!(nothing, Change::default());
        let all = change(own, "[thresholds.oversized-tier]\nmin_saving_usd = 1000.0\n", &demo).unwrap();
        let judged = crate::judge::report_of(
            &recorded::fleet(&demo, None).unwrap(),
            &policy::parsed(own, Path::new("own")).unwrap(),
        );
        let oversized: Vec<_> = judged.findings.iter().filter(|f| f.check == "oversized-tier").collect();
        assert!(oversized.len() > 1, "the demo has some");
        assert_eq!(all.findings, oversized.len() as u64);
        assert!(all.waste_usd_per_hour > 0.0);
        let twice = change(
            own,
            "[thresholds.oversized-tier]\nmin_saving_usd = 1000.0\n",
            &[demo[0].clone(), demo[0].clone()],
        )
        .unwrap();
        assert_eq!(
            twice.findings,
            2 * all.findings,
            "as many as in each of the snapshots given"
        );
        assert!(
            change(own, "[thresholds.oversized-tier]\nnone = 1\n", &demo).is_err(),
            "nothing is left out in silence"
        );
    }
}
