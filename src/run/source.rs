//! Where the snapshot comes from: a live fleet, files, or the demo.

use super::{recorded, snapshot_file};
use crate::catalog::instances;
use crate::cli::SourceArgs;
use crate::collect::options::{CollectOptions, StoreAuth, StoreMode, StoreOptions};
use crate::collect::slurm::{Place, Rest};
use crate::collect::{self, progress};
use crate::snapshot::history::BinLimits;
use crate::snapshot::{Snapshot, Source, SourceKind, SourceStatus};
use crate::snapshot::{bounds, secrets};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The demo fleet: recorded by `gpuwaste collect` from real API servers seeded with tests/demo/fleet.py.
const DEMO: &[u8] = include_bytes!("../../fixtures/demo/snapshot.json.zst");

/// Ctrl-C.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Reads the snapshot that the flags name.
pub(super) fn snapshot(args: &SourceArgs, keep_labels: Vec<String>, limits: BinLimits) -> Result<Snapshot> {
    if args.demo {
        let mut demo = demo()?;
        within(&mut demo, &args.namespace)?;
        demo.sources.push(Source {
            kind: SourceKind::Demo,
            name: "demo".into(),
            status: SourceStatus::Ok,
            detail: "the built-in demo fleet".into(),
            named: false,
        });
        return Ok(demo);
    }
    let slurm = slurm_places(args);
    if slurm.is_empty() {
        return beside(args, keep_labels, limits);
    }
    let clusters =
        !args.snapshot.is_empty() || !args.context.is_empty() || args.all_contexts || args.kubeconfig.is_some();
    let mut known = Vec::new();
    if clusters {
        known.push(beside(args, keep_labels.clone(), limits)?);
    }
    let mut lost = Vec::new();
    for place in slurm {
        match read_slurm(args, &place, keep_labels.clone(), limits) {
            Ok(one) => known.push(one),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => lost.push((place, error)),
        }
    }
    let Some(mut all) = recorded::whole(known) else {
        return Err(lost.swap_remove(0).1);
    };
    for (place, error) in lost {
        let (source, gap) = collect::slurm::failed(&place, &error);
        all.sources.push(source);
        all.gaps.push(gap);
    }
    Ok(all)
}

/// What is read where Slurm is not, or beside it.
fn beside(args: &SourceArgs, keep_labels: Vec<String>, limits: BinLimits) -> Result<Snapshot> {
    if !args.snapshot.is_empty() {
        let mut fleet = recorded::fleet(&args.snapshot, args.cluster_name.as_deref())?;
        within(&mut fleet, &args.namespace)?;
        return Ok(fleet);
    }
    live(args, keep_labels, limits)
}

/// `-n` of what was recorded: pods of all namespaces are in it, or of those that it was recorded with.
fn within(fleet: &mut Snapshot, namespaces: &[String]) -> Result<()> {
    if namespaces.is_empty() {
        return Ok(());
    }
    for cluster in &mut fleet.clusters {
        let recorded = &cluster.pods_read.namespaces;
        let has = |n: &&String| recorded.is_empty() || recorded.contains(n);
        let wanted: Vec<String> = namespaces.iter().filter(has).cloned().collect();
        if wanted.is_empty() {
            bail!(
                "-n {}: cluster {} was recorded with -n {} alone; leave -n out, or record it anew",
                namespaces.join(", "),
                cluster.name,
                recorded.join(", ")
            );
        }
        cluster.pods_read.namespaces = wanted;
    }
    Ok(())
}

pub(super) fn slurm_places(args: &SourceArgs) -> Vec<Place> {
    let own = args.slurm.then_some(Place::Commands);
    let rest = args.slurm_rest.clone().zip(args.slurm_token_file.clone());
    let rest = rest.map(|(url, token_file)| Place::Rest(Rest { url, token_file }));
    own.into_iter()
        .chain(rest)
        .chain(args.slurm_dir.iter().cloned().map(Place::Folder))
        .collect()
}

fn read_slurm(args: &SourceArgs, place: &Place, keep_labels: Vec<String>, limits: BinLimits) -> Result<Snapshot> {
    let options = options(args, keep_labels, limits);
    run(args, collect::slurm::collect(place, &options))
}

/// The demo fleet as it was recorded.
pub(crate) fn demo() -> Result<Snapshot> {
    snapshot_file::decode(DEMO).context("the built-in demo is damaged")
}

pub(super) fn options(args: &SourceArgs, keep_labels: Vec<String>, limits: BinLimits) -> CollectOptions {
    CollectOptions {
        contexts: args.context.clone(),
        all_contexts: args.all_contexts,
        kubeconfig: args.kubeconfig.clone(),
        namespaces: args.namespace.clone(),
        selector: args.selector.clone(),
        cluster_name: args.cluster_name.clone(),
        scrape: !args.no_scrape,
        scrape_budget: args.scrape_budget,
        observe: args.observe,
        timeout: args.timeout,
        store: store(args),
        window: args.window,
        limits,
        keep_labels,
        is_gpu_instance: |kind| instances::of_type(kind).next().is_some(),
    }
}

pub(super) fn store(args: &SourceArgs) -> StoreOptions {
    StoreOptions {
        mode: match args.prometheus.as_str() {
            "auto" => StoreMode::Auto,
            "none" => StoreMode::None,
            url => StoreMode::Url(url.into()),
        },
        matcher: args.prometheus_match.clone(),
        auth: StoreAuth {
            headers: args.prometheus_header.clone(),
            token_file: args.prometheus_token_file.clone(),
            user: args.prometheus_user.clone(),
            password_file: args.prometheus_password_file.clone(),
            ca_file: args.prometheus_ca_file.clone(),
            client_cert: args.prometheus_client_cert.clone(),
            client_key: args.prometheus_client_key.clone(),
            sigv4_region: args.prometheus_sigv4_region.clone(),
        },
    }
}

fn live(args: &SourceArgs, keep_labels: Vec<String>, limits: BinLimits) -> Result<Snapshot> {
    let options = options(args, keep_labels, limits);
    run(args, async {
        if args.local {
            collect::local::collect(&options).await
        } else {
            collect::collect(&options).await
        }
    })
}

/// Runs a read to its end, or to Ctrl-C, and keeps what can be of it.
fn run(args: &SourceArgs, read: impl Future<Output = Result<Snapshot>>) -> Result<Snapshot> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the I/O runtime")?;
    let begun = Instant::now();
    let mut shown = Progress::of(args, begun);
    let read = runtime.block_on(async {
        tokio::select! {
            read = read => read,
            _ = tokio::signal::ctrl_c() => Err(Interrupted.into()),
            never = shown.follow() => match never {},
        }
    });
    shown.done()?;
    // Credential plugins or a slow name server may still hold a thread: nobody waits for them.
    runtime.shutdown_background();
    let mut read = read?;
    if args.verbose {
        tell(&read, begun.elapsed())?;
    }
    let odd = bounds::check(&mut read);
    read.gaps.extend(odd);
    secrets::scrub(&mut read);
    Ok(read)
}

/// `-v`: each source, and what came of it.
fn tell(read: &Snapshot, took: Duration) -> Result<()> {
    let mut err = io::stderr().lock();
    for s in &read.sources {
        let status = if s.status == SourceStatus::Failed {
            "not read"
        } else {
            "read"
        };
        let line = crate::text::message(&format!("{status}: {}: {}", s.name, s.detail));
        writeln!(err, "gpuwaste: {line}")?;
    }
    writeln!(
        err,
        "gpuwaste: {} sources in {:.1} s",
        read.sources.len(),
        took.as_secs_f64()
    )?;
    Ok(())
}

/// What is waited for: a spinner on a terminal, with -v else a line a stage.
enum Progress {
    Bar(indicatif::ProgressBar),
    /// Begun when, and how many stages were told.
    Lines(Instant, usize),
    Nothing,
}

impl Progress {
    const EVERY: Duration = Duration::from_millis(200);

    fn of(args: &SourceArgs, begun: Instant) -> Self {
        if args.quiet {
            return Self::Nothing;
        }
        if !io::stderr().is_terminal() {
            return if args.verbose {
                Self::Lines(begun, 0)
            } else {
                Self::Nothing
            };
        }
        let bar = indicatif::ProgressBar::new_spinner();
        if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message("reading");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    /// Tells until whoever reads is done.
    async fn follow(&mut self) -> std::convert::Infallible {
        loop {
            // A screen that is gone is no reason to end the read.
            let _ = self.tell();
            tokio::time::sleep(Self::EVERY).await;
        }
    }

    fn tell(&mut self) -> io::Result<()> {
        match self {
            Self::Bar(bar) => {
                let waiting: Vec<String> = progress::waiting()
                    .iter()
                    .map(|s| format!("{}: {}", s.whose, s.what))
                    .collect();
                if !waiting.is_empty() {
                    let all = format!("{} · {} requests", waiting.join(" · "), progress::requests());
                    bar.set_message(crate::text::message(&all));
                }
            }
            Self::Lines(begun, told) => {
                let mut err = io::stderr().lock();
                for stage in progress::stages(*told) {
                    *told += 1;
                    let what = if stage.what.is_empty() { "done" } else { &stage.what };
                    let line = crate::text::message(&format!("{}: {what}", stage.whose));
                    let at = stage.since.duration_since(*begun).as_secs_f64();
                    writeln!(err, "gpuwaste: {at:.1} s: {line} ({} requests)", stage.requests)?;
                }
            }
            Self::Nothing => {}
        }
        Ok(())
    }

    fn done(&mut self) -> io::Result<()> {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
            return Ok(());
        }
        self.tell()
    }
}
