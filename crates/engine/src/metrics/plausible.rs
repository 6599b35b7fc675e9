//! What a cluster's figures say that cannot be true: found wherever it was read (exporters, engines, NVML, a store, an older
//! recording), dropped, and told as a gap. The limits are `facts::limits`; here is which figure is held against which.

use super::devices::DeviceFigure;
use super::figures::{LOAD, LoadRow, Place};
use crate::snapshot::Gap;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::engine::{EngineReading, EngineScrape};
use crate::snapshot::figure::Figure;
use crate::snapshot::gpu::{GpuReading, GpuScrape};
use crate::snapshot::history::{GpuHistory, LoadHistory};
use gpuwaste_catalog::gpus::{self, GpuFacts};
use gpuwaste_facts::limits::{self, Card, Impossible, Quantity};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// Exporters collect every 30 s (dcgm-exporter's default) and are read in between: two reads of a counter may be so much
/// further apart than the clock says.
const COLLECTED_EVERY: f64 = 60.0;

/// One figure that cannot be true.
pub struct Dropped {
    /// Whose: "GPU-…", "pod ml/chat-0".
    pub of: String,
    /// Of what: "power".
    pub figure: &'static str,
    pub why: Impossible,
}

/// The card that a device is, as far as its name tells.
pub fn card(model: Option<&str>) -> Card {
    card_of(model.and_then(gpus::find))
}

/// What is known of a card's limits.
pub fn card_of(gpu: Option<&GpuFacts>) -> Card {
    gpu.map_or(Card::UNKNOWN, |gpu| Card {
        tdp: gpu.tdp,
        memory: Some(gpu.memory.max(gpu.memory_usable.unwrap_or_default())),
    })
}

/// The cluster without what cannot be true, and what that was; `None`: all of it can be.
pub fn sift(cluster: &Cluster) -> Option<(Cluster, Vec<Gap>)> {
    let mut found = Found::default();
    found.devices(cluster);
    found.engines(cluster);
    found.history(cluster);
    if found.dropped.is_empty() {
        return None;
    }
    let mut sifted = cluster.clone();
    for remove in found.removals {
        remove(&mut sifted);
    }
    Some((sifted, gaps(&cluster.name, &found.dropped)))
}

/// A gap for each figure, with whose it is.
pub fn gaps(cluster: &str, dropped: &[Dropped]) -> Vec<Gap> {
    let mut by_figure: BTreeMap<&str, Vec<&Dropped>> = BTreeMap::new();
    for one in dropped {
        by_figure.entry(one.figure).or_default().push(one);
    }
    let told = by_figure.into_iter().map(|(figure, all)| {
        let mut whose: Vec<&str> = all.iter().map(|d| d.of.as_str()).collect();
        whose.sort_unstable();
        whose.dedup();
        let shown = whose.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = match whose.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Gap {
            source: format!("cluster {cluster}"),
            what: format!("{figure} of {shown}{more}"),
            reason: all
                .first()
                .map_or(String::new(), |d| format!("it cannot be: {}", d.why)),
            effect: "it is dropped: no proof of work, and none of idleness".into(),
            remedy: "look at the unit that the exporter or a recording rule writes".into(),
        }
    });
    told.collect()
}

type Removal = Box<dyn FnOnce(&mut Cluster)>;

#[derive(Default)]
struct Found {
    dropped: Vec<Dropped>,
    removals: Vec<Removal>,
}

impl Found {
    fn add(&mut self, of: &str, figure: &'static str, why: Impossible, remove: Removal) {
        self.dropped.push(Dropped {
            of: of.into(),
            figure,
            why,
        });
        self.removals.push(remove);
    }

    fn devices(&mut self, cluster: &Cluster) {
        for (at, scrape) in cluster.gpus.iter().enumerate() {
            let card = card(scrape.model.as_deref());
            let of = scrape.uuid.as_deref().unwrap_or(&scrape.node);
            for (i, reading) in scrape.readings.iter().enumerate() {
                for field in READING {
                    let value = (field.get)(reading);
                    if let Some(why) = value.and_then(|v| limits::check(field.figure.quantity(), v, &card).err()) {
                        let clear = field.clear;
                        let remove = move |c: &mut Cluster| clear(&mut c.gpus[at].readings[i]);
                        self.add(of, field.figure.name(), why, Box::new(remove));
                    }
                }
            }
            if let Some(why) = energy(scrape, &card) {
                let remove = move |c: &mut Cluster| {
                    let readings = c.gpus[at].readings.iter_mut();
                    readings.for_each(|r| r.energy_joules = None);
                };
                self.add(of, DeviceFigure::Energy.name(), why, Box::new(remove));
            }
        }
    }

    fn engines(&mut self, cluster: &Cluster) {
        for (at, scrape) in cluster.engines.iter().enumerate() {
            let of = format!("pod {}/{}", scrape.namespace, scrape.pod);
            for row in LOAD {
                if let Some(why) = load(scrape, row) {
                    let place = row.place;
                    let remove = move |c: &mut Cluster| {
                        let readings = c.engines[at].readings.iter_mut();
                        readings.for_each(|r| place.clear(r));
                    };
                    self.add(&of, row.name, why, Box::new(remove));
                }
            }
        }
    }

    fn history(&mut self, cluster: &Cluster) {
        let Some(history) = cluster.history.as_deref() else {
            return;
        };
        let models: HashMap<&str, &str> = cluster
            .gpus
            .iter()
            .filter_map(|g| Some((g.uuid.as_deref()?, g.model.as_deref()?)))
            .collect();
        let labelled: HashMap<&str, &str> = cluster
            .nodes
            .iter()
            .flatten()
            .filter_map(|n| Some((n.name.as_str(), n.labels.get("nvidia.com/gpu.product")?.as_str())))
            .collect();
        for (at, gpu) in history.gpus.iter().enumerate() {
            let on_node = || labelled.get(gpu.node.as_deref()?).copied();
            let card = card(models.get(gpu.uuid.as_str()).copied().or_else(on_node));
            for field in DEVICE {
                if let Some((why, left)) = (field.get)(gpu).and_then(|f| broken(field.quantity, f, &card)) {
                    let set = field.set;
                    let remove = move |c: &mut Cluster| {
                        if let Some(history) = c.history.as_deref_mut() {
                            set(&mut history.gpus[at], left);
                        }
                    };
                    self.add(&gpu.uuid, field.name, why, Box::new(remove));
                }
            }
        }
        for (of_pods, loads) in [(true, &history.pods), (false, &history.workloads)] {
            for (at, load) in loads.iter().enumerate() {
                let of = format!("{}/{}", load.namespace, load.name);
                for field in LOADS {
                    let figure = (field.get)(load);
                    if let Some((why, left)) = figure.and_then(|f| broken(field.quantity, f, &Card::UNKNOWN)) {
                        let set = field.set;
                        let remove = move |c: &mut Cluster| {
                            if let Some(history) = c.history.as_deref_mut() {
                                let loads = if of_pods {
                                    &mut history.pods
                                } else {
                                    &mut history.workloads
                                };
                                set(&mut loads[at], left);
                            }
                        };
                        self.add(&of, field.name, why, Box::new(remove));
                    }
                }
            }
        }
    }
}

/// Between two reads, and since the process started: what a counter grew by a second.
fn load(scrape: &EngineScrape, row: &LoadRow) -> Option<Impossible> {
    let value = |reading: &EngineReading| match row.place {
        Place::Number(get, _) => get(reading),
        Place::Histogram(..) => None,
    };
    let wrong = |reading: &EngineReading| match row.place {
        Place::Number(get, _) => get(reading).and_then(|v| limits::check(row.quantity, v, &Card::UNKNOWN).err()),
        Place::Histogram(get, _) => get(reading).and_then(|h| super::impossible(row.quantity, h)),
    };
    if let Some(why) = scrape.readings.iter().find_map(wrong) {
        return Some(why);
    }
    let (rate, first, last) = (row.rate?, scrape.readings.first()?, scrape.readings.last()?);
    let grown = |from: f64, since: Timestamp| {
        let seconds = last.at.duration_since(since).as_secs_f64();
        let rate_of = (value(last)? - from) / (seconds.max(0.0) + COLLECTED_EVERY);
        limits::check(rate, rate_of.max(0.0), &Card::UNKNOWN).err()
    };
    let since_start = scrape.process_started_at.and_then(|start| grown(0.0, start));
    since_start.or_else(|| grown(value(first)?, first.at))
}

/// The mean power that an energy counter tells between the passes.
fn energy(scrape: &GpuScrape, card: &Card) -> Option<Impossible> {
    let (first, last) = (scrape.readings.first()?, scrape.readings.last()?);
    let joules = last.energy_joules? - first.energy_joules?;
    let seconds = last.at.duration_since(first.at).as_secs_f64().max(0.0) + COLLECTED_EVERY;
    limits::check(Quantity::Power, (joules / seconds).max(0.0), card).err()
}

/// Why a distribution is none, and what is left of it: where only the largest values are absurd, quantiles below them may stand.
fn broken(quantity: Quantity, figure: Figure, card: &Card) -> Option<(Impossible, Option<Figure>)> {
    let wrong = |v: f64| limits::check(quantity, v, card).err();
    let why = figure.values().find_map(wrong)?;
    let kept = |v: Option<f64>| v.filter(|v| wrong(*v).is_none());
    // The mean has the absurd values in it.
    let left = Figure {
        mean: None,
        max: None,
        p50: kept(figure.p50),
        p95: kept(figure.p95),
        p99: kept(figure.p99),
        ..figure
    };
    Some((why, Some(left).filter(|f| !f.is_empty())))
}

struct ReadingField {
    figure: DeviceFigure,
    get: fn(&GpuReading) -> Option<f64>,
    clear: fn(&mut GpuReading),
}

macro_rules! reading {
    ($($figure:ident $field:ident $value:expr;)*) => {
        &[$(ReadingField {
            figure: DeviceFigure::$figure,
            get: |r| r.$field.map($value),
            clear: |r| r.$field = None,
        }),*]
    };
}

/// Every figure of a reading.
const READING: &[ReadingField] = reading! {
    GpuUtil gpu_util |v| v.0;
    GrEngine gr_engine |v| v.0;
    SmActive sm_active |v| v.0;
    Tensor tensor |v| v.0;
    Dram dram |v| v.0;
    Power power |v| v.0;
    Energy energy_joules |v| v;
    MemoryUsed memory_used |v| v.0 as f64;
    MemoryTotal memory_total |v| v.0 as f64;
};

struct Field<T> {
    name: &'static str,
    quantity: Quantity,
    get: fn(&T) -> Option<Figure>,
    set: fn(&mut T, Option<Figure>),
}

macro_rules! fields {
    ($($quantity:ident $field:ident $name:literal;)*) => {
        &[$(Field {
            name: $name,
            quantity: Quantity::$quantity,
            get: |h| h.$field,
            set: |h, left| h.$field = left,
        }),*]
    };
}

/// Every figure of a device's history.
const DEVICE: &[Field<GpuHistory>] = fields! {
    Share gpu_util "GPU utilization";
    Share gr_engine "engine activity";
    Share sm_active "SM activity";
    Share tensor "tensor activity";
    Share dram "DRAM activity";
    Share busy "activity";
    Power power_watts "power";
    DeviceMemory memory_used_bytes "memory used";
};

/// Every figure of a load's history that has a limit; CPU may be used beyond its request.
const LOADS: &[Field<LoadHistory>] = fields! {
    Requests running "requests running";
    Requests waiting "requests waiting";
    RequestRate requests "requests";
    PromptRate prompt_tokens "prompt tokens";
    OutputRate output_tokens "output tokens";
    RequestRate preemptions "preemptions";
    Share cpu_throttled "throttled periods";
    Share gpu_busy "activity";
    Share gpu_engine "engine activity";
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history::History;
    use crate::units::{Bytes, Ratio, Watts};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn device(change: impl Fn(&mut GpuReading)) -> GpuScrape {
        let reading = |t| {
            let mut r = GpuReading {
                at: at(t),
                gpu_util: Some(Ratio(1.0)),
                gr_engine: None,
                sm_active: None,
                tensor: None,
                dram: None,
                power: Some(Watts(390.0)),
                memory_used: Some(Bytes(70 << 30)),
                memory_total: Some(Bytes(80 << 30)),
                energy_joules: Some(1e9 + 400.0 * t as f64),
            };
            change(&mut r);
            r
        };
        GpuScrape {
            node: "n".into(),
            uuid: Some("GPU-a".into()),
            model: Some("NVIDIA A100-SXM4-80GB".into()),
            readings: vec![reading(0), reading(10)],
            ..GpuScrape::default()
        }
    }

    fn cluster(scrape: GpuScrape) -> Cluster {
        Cluster {
            name: "prod".into(),
            gpus: vec![scrape],
            ..Cluster::default()
        }
    }

    #[test]
    fn what_can_be_stays_as_it_is() {
        assert!(sift(&cluster(device(|_| ()))).is_none());
        // Read just before and just after the exporter's own collection.
        assert!(
            sift(&cluster(device(
                |r| r.energy_joules = Some(1e9 + 1200.0 * (r.at.as_second() % 60) as f64)
            )))
            .is_none()
        );
    }

    #[test]
    fn each_figure_of_a_device_is_held_against_its_card() {
        type Case = (&'static str, fn(&mut GpuReading), fn(&GpuReading) -> bool);
        let cases: [Case; 5] = [
            ("power", |r| r.power = Some(Watts(675_928.0)), |r| r.power.is_none()),
            (
                "memory used",
                |r| r.memory_used = Some(Bytes(100 << 30)),
                |r| r.memory_used.is_none(),
            ),
            (
                "GPU utilization",
                |r| r.gpu_util = Some(Ratio(1.2)),
                |r| r.gpu_util.is_none(),
            ),
            (
                "energy",
                |r| r.energy_joules = Some(1e13),
                |r| r.energy_joules.is_none(),
            ),
            (
                "energy",
                |r| r.energy_joules = Some(1e9 * (1 + r.at.as_second() % 60) as f64),
                |r| r.energy_joules.is_none(),
            ),
        ];
        for (name, change, gone) in cases {
            let (sifted, gaps) = sift(&cluster(device(change))).expect(name);
            assert!(sifted.gpus[0].readings.iter().all(gone), "{name}");
            assert!(
                sifted.gpus[0].readings.iter().all(|r| r.memory_total.is_some()),
                "the rest stays"
            );
            assert_eq!(gaps.len(), 1, "{gaps:?}");
            assert_eq!(gaps[0].what, format!("{name} of GPU-a"));
            assert!(gaps[0].reason.contains("the most there can be"), "{}", gaps[0].reason);
        }
    }

    #[test]
    fn counters_cannot_grow_faster_than_servers_work() {
        let reading = |t: i64, tokens: f64| EngineReading {
            output_tokens: Some(tokens),
            running: Some(3.0),
            ..EngineReading::nothing(at(t))
        };
        let scrape = |first: f64, last: f64| EngineScrape {
            namespace: "ml".into(),
            pod: "chat-0".into(),
            process_started_at: Some(at(-86_400)),
            readings: vec![reading(0, first), reading(10, last)],
            ..EngineScrape::default()
        };
        let with = |first: f64, last: f64| {
            let cluster = Cluster {
                engines: vec![scrape(first, last)],
                ..Cluster::default()
            };
            sift(&cluster).map(|(c, gaps)| (c.engines[0].readings[1].clone(), gaps))
        };
        assert!(with(1e9, 1e9 + 1e5).is_none());
        for (first, last) in [(0.0, 1e13), (1e9, 1e9 + 1e10), (-5.0, 5.0)] {
            let (reading, gaps) = with(first, last).expect("impossible");
            assert!(
                reading.output_tokens.is_none() && reading.running.is_some(),
                "{first} {last}"
            );
            assert_eq!(gaps[0].what, "output tokens of pod ml/chat-0");
        }
    }

    #[test]
    fn of_a_recorded_distribution_quantiles_may_stand() {
        let figure = |p95: f64, max: f64| {
            Some(Figure {
                mean: Some(100.0),
                p50: Some(90.0),
                p95: Some(p95),
                max: Some(max),
                ..Figure::default()
            })
        };
        let gpu = |power: Option<Figure>| GpuHistory {
            uuid: "GPU-a".into(),
            power_watts: power,
            ..GpuHistory::default()
        };
        let history = History {
            gpus: vec![
                gpu(figure(380.0, 5e5)),
                gpu(figure(4e5, 5e5)),
                gpu(figure(380.0, 400.0)),
            ],
            ..History::default()
        };
        let cluster = Cluster {
            history: Some(Box::new(history)),
            ..cluster(device(|_| ()))
        };
        let (sifted, gaps) = sift(&cluster).expect("impossible");
        let left: Vec<Option<Figure>> = sifted
            .history
            .iter()
            .flat_map(|h| &h.gpus)
            .map(|g| g.power_watts)
            .collect();
        assert_eq!(left[0].and_then(|f| f.p95), Some(380.0));
        assert_eq!(left[0].map(|f| (f.mean, f.max)), Some((None, None)));
        assert_eq!(
            (left[1].and_then(|f| f.p50), left[1].and_then(|f| f.p95)),
            (Some(90.0), None)
        );
        assert_eq!(left[2], figure(380.0, 400.0));
        assert_eq!(gaps.len(), 1, "one for each figure, whosever it is");
    }
}
