//! `--dry-run`: what a run with these options would read, where, and nothing else.

use super::recorded;
use super::source::{options, slurm_places, store};
use crate::cli::SourceArgs;
use crate::collect::kube::connect::{self, Destination};
use crate::collect::kube::plan::Plan;
use crate::collect::options::{CollectOptions, StoreMode};
use crate::collect::slurm::Place;
use crate::collect::{self, prometheus};
use crate::snapshot::history::BinLimits;
use crate::text::message;
use anyhow::Result;
use std::io::{self, Write};

/// Prints it.
///
/// # Errors
/// Where stdout is closed, or a name of the options is none.
pub(super) fn dry_run(args: &SourceArgs) -> Result<()> {
    let mut lines = Vec::new();
    if args.demo || !args.snapshot.is_empty() {
        if args.demo {
            lines.push("no network at all: the demo fleet is built in".into());
        } else {
            lines.extend(recorded::dry_run(&args.snapshot)?);
        }
        // Slurm is read beside snapshots.
        slurm(args, &mut lines);
    } else if args.local {
        lines.extend(collect::local::dry_run().map(String::from));
    } else {
        slurm(args, &mut lines);
        let beside = !args.context.is_empty() || args.all_contexts || args.kubeconfig.is_some();
        if lines.is_empty() || beside {
            live(&options(args, Vec::new(), BinLimits::default()), &mut lines)?;
        }
        lines.extend(prometheus::dry_run(&store(args).mode));
    }
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", message(&line))?;
    }
    Ok(())
}

fn slurm(args: &SourceArgs, lines: &mut Vec<String>) {
    for place in slurm_places(args) {
        match place {
            Place::Commands => lines.extend(collect::slurm::dry_run()),
            Place::Rest(rest) => lines.extend(rest.dry_run()),
            Place::Folder(folder) => {
                let named = collect::slurm::NAMES.iter();
                lines.extend(named.map(|(name, what)| format!("{}  # {what}", folder.join(name).display())));
            }
        }
    }
}

/// The plan that the reads themselves are held to, below the servers of the contexts.
fn live(options: &CollectOptions, lines: &mut Vec<String>) -> Result<()> {
    collect::kube::check_names(options)?;
    let mut direct = false;
    match connect::destinations(options) {
        Ok(all) => {
            for place in &all {
                lines.push(destination(place));
                direct |= place.inside;
            }
        }
        Err(error) if error.is::<connect::NoCluster>() && matches!(options.store.mode, StoreMode::Url(_)) => {
            lines.push("# no cluster: the hosts that the store knows".into());
            return Ok(());
        }
        Err(error) => lines.push(format!("# {error:#}").replace('\n', "\n#")),
    }
    let plan = Plan::of(options);
    lines.extend(plan.lines());
    if direct {
        let line = |page| format!("GET http://POD-ADDRESS:PORT{page}  # instead of pods/proxy, inside the cluster");
        lines.extend(plan.pages().map(line));
    }
    Ok(())
}

fn destination(place: &Destination) -> String {
    let mut line = format!("# context {}: {}", place.context, place.server);
    if let Some(proxy) = &place.proxy {
        line.push_str(&format!(", through the proxy {proxy}"));
    }
    if let Some(plugin) = &place.plugin {
        line.push_str(&format!(", with credentials of the plugin '{plugin}'"));
    }
    line
}
