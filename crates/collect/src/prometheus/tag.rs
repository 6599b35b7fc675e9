//! What a result row tells: every expression carries one of these in its label `s`, and every row is read by it, so that a
//! figure that is asked for and not read does not compile.

use std::fmt;

/// Names of one part of a tag, each with its text in the label.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name { $($(#[$of])* $word),+ }

        impl $name {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$word),+];

            pub(super) const fn text(self) -> &'static str {
                match self { $(Self::$word => $text),+ }
            }

            pub(super) fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$word),)+ _ => None }
            }
        }
    };
}

named!(
    /// Of a figure over the bins of the window.
    Stat { Mean = "mean", P50 = "p50", P95 = "p95", P99 = "p99", Max = "max", /** Bins that have it. */ Bins = "n" }
);
named!(
    /// A figure of a device. `Busy`: the most of SM, tensor and DRAM activity of each bin.
    DeviceStat {
        Utilization = "util", Engine = "gr", Sm = "sm", Tensor = "tensor", Dram = "dram", Power = "power", Memory = "fb", Busy = "busy"
    }
);
named!(
    /// When a device was there.
    Life { First = "first", Last = "last", /** When anything last computed there. */ Active = "active", /** Bins of the last day. */ Day = "day" }
);
named!(
    /// A figure of a pod or a workload.
    Load {
        Running = "run", Waiting = "wait", Kv = "kv", KvSum = "kvsum", Requests = "req", Prompt = "in", Output = "out",
        Preemptions = "pre", Cpu = "cpu", Throttled = "thr", Busy = "busy", Engine = "eng", Replicas = "rep"
    }
);
named!(
    /// What was done in the whole window.
    Done { Requests = "req", Prompt = "in", Output = "out", Preemptions = "pre" }
);
named!(
    /// One value of a workload.
    Value {
        First = "first", EngineFirst = "engfirst", Traffic = "traffic", KvBad = "kvbad", Capacity = "cap", Starved = "starved",
        StarvedBusy = "starvedbusy", Fed = "fed", FedBusy = "fedbusy", Restarts = "restarts", OomKills = "oom", Crashes = "crash"
    }
);
named!(
    /// What a histogram observes.
    Observed {
        FirstToken = "ttft", InterToken = "itl", Request = "e2e", PromptLength = "plen", OutputLength = "olen"
    }
);
named!(Series { Bucket = "_bucket", Sum = "_sum", Count = "_count" });
named!(
    /// Devices × bins under each holder.
    Held { Gpus = "gpus", Busy = "busy", Bins = "bins" }
);
named!(
    /// Devices handed out on a node, over the last day.
    Handed { P80 = "p80", Bins = "n" }
);
named!(
    /// How much a store has: decides the bins.
    Size {
        Devices = "devices", Engines = "engines", GpuScrapes = "gpuscrapes", EngineScrapes = "enginescrapes",
        /** Devices that carry a foreign pod in `pod` itself. */ Plain = "plain"
    }
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    Size(Size),
    Held(Held),
    Device(DeviceStat, Stat),
    Life(Life),
    Pod(Load, Stat),
    PodFirst,
    Workload(Load, Stat),
    WorkloadTotal(Done),
    /// Replicas in the times with the fewest.
    WorkloadLeast,
    WorkloadValue(Value),
    Histogram(Observed, Series),
    Handed(Handed),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(what) => write!(f, "size.{}", what.text()),
            Self::Held(what) => write!(f, "use.{}", what.text()),
            Self::Device(figure, stat) => write!(f, "{}.{}", figure.text(), stat.text()),
            Self::Life(what) => write!(f, "dev.{}", what.text()),
            Self::Pod(load, stat) => write!(f, "p.{}.{}", load.text(), stat.text()),
            Self::PodFirst => write!(f, "p.first"),
            Self::Workload(load, stat) => write!(f, "w.{}.{}", load.text(), stat.text()),
            Self::WorkloadTotal(done) => write!(f, "w.{}.total", done.text()),
            Self::WorkloadLeast => write!(f, "w.rep.low"),
            Self::WorkloadValue(value) => write!(f, "w.{}", value.text()),
            Self::Histogram(of, series) => write!(f, "h.{}{}", of.text(), series.text()),
            Self::Handed(what) => write!(f, "n.{}", what.text()),
        }
    }
}

impl Tag {
    /// `None`: nothing that was ever asked for.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        Some(match parts.as_slice() {
            ["size", what] => Self::Size(Size::parse(what)?),
            ["use", what] => Self::Held(Held::parse(what)?),
            ["dev", what] => Self::Life(Life::parse(what)?),
            ["n", what] => Self::Handed(Handed::parse(what)?),
            ["p", "first"] => Self::PodFirst,
            ["p", load, stat] => Self::Pod(Load::parse(load)?, Stat::parse(stat)?),
            ["w", "rep", "low"] => Self::WorkloadLeast,
            ["w", done, "total"] => Self::WorkloadTotal(Done::parse(done)?),
            ["w", load, stat] => Self::Workload(Load::parse(load)?, Stat::parse(stat)?),
            ["w", value] => Self::WorkloadValue(Value::parse(value)?),
            ["h", what] => {
                let (of, _) = what.split_once('_')?;
                Self::Histogram(Observed::parse(of)?, Series::parse(&what[of.len()..])?)
            }
            [figure, stat] => Self::Device(DeviceStat::parse(figure)?, Stat::parse(stat)?),
            _ => return None,
        })
    }

    /// The expression's rows, tagged.
    pub(super) fn of(self, expression: &str) -> String {
        format!("label_replace({expression},\"s\",\"{self}\",\"\",\"\")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Tag> {
        let each = |load: &Load| {
            Stat::ALL
                .iter()
                .flat_map(|s| [Tag::Pod(*load, *s), Tag::Workload(*load, *s)])
                .collect::<Vec<_>>()
        };
        let mut all = vec![Tag::PodFirst, Tag::WorkloadLeast];
        all.extend(Size::ALL.iter().map(|w| Tag::Size(*w)));
        all.extend(Held::ALL.iter().map(|w| Tag::Held(*w)));
        all.extend(Life::ALL.iter().map(|w| Tag::Life(*w)));
        all.extend(Handed::ALL.iter().map(|w| Tag::Handed(*w)));
        all.extend(Done::ALL.iter().map(|w| Tag::WorkloadTotal(*w)));
        all.extend(Value::ALL.iter().map(|w| Tag::WorkloadValue(*w)));
        all.extend(Load::ALL.iter().flat_map(each));
        all.extend(
            DeviceStat::ALL
                .iter()
                .flat_map(|d| Stat::ALL.iter().map(|s| Tag::Device(*d, *s))),
        );
        all.extend(
            Observed::ALL
                .iter()
                .flat_map(|o| Series::ALL.iter().map(|s| Tag::Histogram(*o, *s))),
        );
        all
    }

    #[test]
    fn each_tag_has_a_text_of_its_own_that_reads_back() {
        let all = all();
        for tag in &all {
            assert_eq!(Tag::parse(&tag.to_string()), Some(*tag), "{tag}");
        }
        let texts: std::collections::BTreeSet<String> = all.iter().map(Tag::to_string).collect();
        assert_eq!(texts.len(), all.len());
    }

    #[test]
    fn what_was_never_asked_for_is_no_tag() {
        for text in [
            "",
            "w",
            "w.nonsense",
            "w.run.p42",
            "h.ttft",
            "h.ttft_mean",
            "fb.p95.more",
            "size.",
            "dev.gone",
        ] {
            assert_eq!(Tag::parse(text), None, "{text}");
        }
    }
}
