//! learned: what became of what was decided, what follows from it, and the record for others.

use super::{decide, policy, print, snapshot_file};
use crate::cli::{LearnedArgs, LearnedFormat};
use crate::report::text::plain;
use crate::settings::Settings;
use crate::units::{UsdPerHour, sum_known};
use anyhow::{Context, Result, anyhow};
use gpuwaste_decisions::record::{Change, Figures, Learned, Record, Shared};
use gpuwaste_decisions::store::Folder;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn learned(args: &LearnedArgs) -> Result<ExitCode> {
    let book = Folder::new(&args.ledger).read().map_err(|why| anyhow!(why))?;
    let others = read(&args.learned)?;
    if let Some(path) = &args.output {
        let mut all = Record::of(&book);
        all.merge(&others);
        let text = serde_json::to_string_pretty(&Shared::new(all))? + "\n";
        std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let mut learned = Learned::of(&book, &others, decide::now()?);
    let settings = policy::file(args.policy.as_deref())?;
    replay(&mut learned, &args.replay, &settings, args.policy.as_deref())?;
    match args.format {
        LearnedFormat::Json => print(serde_json::to_string_pretty(&learned)? + "\n"),
        LearnedFormat::Table => print(table(&learned)),
    }
}

/// What others wrote, joined.
pub(super) fn read(files: &[PathBuf]) -> Result<Record> {
    let mut all = Record::default();
    for path in files {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("could not read {name}"))?;
        let shared: Shared = serde_json::from_str(&text).map_err(|e| {
            anyhow!(
                "{name}: line {}: it is no record that 'gpuwaste learned -o' writes: {e}",
                e.line()
            )
        })?;
        shared.check().map_err(|why| anyhow!("{name}: {why}"))?;
        all.merge(&shared.record);
    }
    Ok(all)
}

/// What each proposal would have changed: every snapshot judged with and without it.
fn replay(learned: &mut Learned, snapshots: &[PathBuf], settings: &Settings, file: Option<&Path>) -> Result<()> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let path = file.unwrap_or(Path::new("gpuwaste.toml"));
    let own = std::fs::read_to_string(path).unwrap_or_default();
    for proposal in &mut learned.proposals {
        let known: Vec<String> = crate::analyze::opt_out::names().collect();
        let checks: Vec<&str> = known.iter().map(String::as_str).collect();
        // A table that the policy has already cannot be written twice: then it is laid over the built-in one.
        let laid = crate::settings::parse(&format!("{own}\n{}", proposal.policy), "proposal", &checks)
            .or_else(|_| crate::settings::parse(&proposal.policy, "proposal", &checks));
        let Ok(laid) = laid else { continue };
        let mut change = Change::default();
        for snapshot in snapshots {
            let snapshot = snapshot_file::read(snapshot)?;
            let counted = |s: &Settings| {
                let report = crate::judge::report_of(&snapshot, s);
                let open = report
                    .findings
                    .iter()
                    .filter(|f| f.status != crate::report::document::Status::Suppressed);
                let (mut n, mut usd) = (0, UsdPerHour::ZERO);
                for f in open {
                    n += 1;
                    usd += sum_known([f.waste_usd_per_hour]);
                }
                (n, usd)
            };
            let (before, after) = (counted(settings), counted(&laid));
            change.findings += u64::abs_diff(before.0, after.0);
            change.waste_usd_per_hour += (before.1 - after.1).usd();
        }
        proposal.would_change = Some(change);
    }
    Ok(())
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
