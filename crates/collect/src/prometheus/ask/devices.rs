//! Questions about devices: activity, power and memory of each, and under whom they were.

use super::{Asker, Cut, Part, Tagged, coalesced, distribution, parts, stemmed};
use crate::prometheus::tag::{DeviceStat, Held, Life, Stat, Tag};
use crate::prometheus::words::{DEVICE_FIGURES, DeviceName, Maker, Owner, VIDEO};

impl Asker<'_> {
    /// One figure under all its names: `function(name[range])`, scaled, one after the other.
    pub(super) fn device_union(&self, id: DeviceStat, function: &str, range: &str) -> Option<String> {
        let union = self.union_of(id, |n| Some(self.named(n, function, range, "", false)))?;
        let video = (id == DeviceStat::Utilization)
            .then(|| self.video(function, range))
            .flatten();
        Some(
            [Some(union), video]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" or "),
        )
    }

    /// Video engines at work, kept apart by a label until the maximum is taken; that they are not says nothing.
    fn video(&self, function: &str, range: &str) -> Option<String> {
        let known = VIDEO.iter().filter(|n| self.words.has(n.name));
        let parts: Vec<String> = known
            .map(|n| {
                let read = self.named(n, function, range, "", false);
                format!("label_replace(({read})>0,\"f\",\"{}\",\"\",\"\")", n.name)
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }

    /// Whatever shows that a device did something, each figure kept apart: one of them may stick at 0.
    fn any_union(&self, function: &str, range: &str) -> Option<String> {
        let engine = self.device_union(DeviceStat::Engine, function, range);
        let engine = engine.map(|e| format!("label_replace({e},\"f\",\"engine\",\"\",\"\")"));
        let all: Vec<String> = [engine, self.device_union(DeviceStat::Utilization, function, range)]
            .into_iter()
            .flatten()
            .collect();
        (!all.is_empty()).then(|| all.join(" or "))
    }

    fn union_of(&self, id: DeviceStat, each: impl Fn(&DeviceName) -> Option<String>) -> Option<String> {
        let figure = DEVICE_FIGURES.iter().find(|f| f.id == id)?;
        let known = figure.names.iter().filter(|n| self.words.has(n.name));
        let parts: Vec<String> = known.filter_map(each).collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }

    /// One name's devices under DCGM's labels. `model`: with the model's name under its label, too.
    fn named(&self, of: &DeviceName, function: &str, range: &str, matcher: &str, model: bool) -> String {
        let uuid = self.words.uuid();
        let whole = of.maker.matcher();
        let selector = self
            .words
            .selector(of.name, &format!("{whole}{}{matcher}", self.scope.devices));
        let read = format!("{function}({selector}{range}){}", of.scale);
        let copied =
            |x: String, to: &str, from: &str| format!("label_replace({x},\"{to}\",\"$1\",\"{from}\",\"(.+)\")");
        match of.maker {
            Maker::Nvidia => read,
            Maker::Amd => {
                // serial_number may be empty, gpu_uuid is optional.
                let one = format!("label_join({read},\"{uuid}\",\"/\",\"hostname\",\"gpu_id\")");
                if model {
                    copied(copied(one, "modelName", "card_model"), "modelName", "card_series")
                } else {
                    one
                }
            }
            Maker::Gaudi => {
                let one = copied(
                    copied(read, "exported_pod", "pod_name"),
                    "exported_namespace",
                    "pod_namespace",
                );
                if uuid == "UUID" { one } else { copied(one, uuid, "UUID") }
            }
            Maker::Jobstats => {
                let one = copied(self.hosted(read), "pod", "jobid");
                if uuid == "uuid" { one } else { copied(one, uuid, "uuid") }
            }
            Maker::SlurmJob => {
                // A card has no name of its own there, but its place; the instance's host stands in front of it.
                let host = ["node", "Hostname", "hostname"];
                let host = host.into_iter().find(|l| self.words.gpu_labels.contains(*l));
                let one = copied(self.hosted(read), "pod", "slurmjobid");
                format!(
                    "label_join({one},\"{uuid}\",\"/\",\"{}\",\"gpu\")",
                    host.unwrap_or("Hostname")
                )
            }
        }
    }

    /// The host of the address that a series was scraped at, where nothing else says it.
    fn hosted(&self, read: String) -> String {
        if self.words.hosts_by_address {
            format!("label_replace({read},\"Hostname\",\"$1\",\"instance\",\"(.+?)(?::[0-9]+)?\")")
        } else {
            read
        }
    }

    /// Share of time that any kernel ran: GR_ENGINE, of other makers' devices their own figure; else GPU_UTIL.
    pub(super) fn active_union(&self, function: &str, range: &str) -> Option<String> {
        let Some(engine) = self.device_union(DeviceStat::Engine, function, range) else {
            return self.device_union(DeviceStat::Utilization, function, range);
        };
        let foreign = self.union_of(DeviceStat::Utilization, |n| {
            (n.maker != Maker::Nvidia).then(|| self.named(n, function, range, "", false))
        });
        Some(
            [Some(engine), foreign]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" or "),
        )
    }

    /// The labels that name a device's holder, and the union with the holder's name under them.
    fn owned(&self, union: &str) -> (String, &'static str) {
        match self.words.owner {
            Owner::Nobody => (union.to_string(), ""),
            Owner::Plain => (union.to_string(), ",namespace,pod"),
            Owner::Exported => (union.to_string(), ",exported_namespace,exported_pod"),
            Owner::Both => (coalesced(union), ",namespace,pod"),
        }
    }

    fn device(&self, union: &str, more: &str) -> String {
        let (union, owner) = self.owned(union);
        format!("max by({},GPU_I_ID{owner}{more})({union})", self.words.uuid())
    }

    /// Devices under `namespace`, `pod`, whatever the scrape made of these labels.
    pub(super) fn device_by_pod(&self, union: &str, more: &str) -> String {
        let uuid = self.words.uuid();
        let union = match self.words.owner {
            Owner::Plain | Owner::Nobody => union.to_string(),
            Owner::Exported | Owner::Both => coalesced(union),
        };
        format!("max by({uuid},GPU_I_ID,namespace,pod{more})({union})")
    }

    /// max(SM, tensor, DRAM) of each bin: kept apart by a label until the maximum is taken. Memory alone says little of
    /// other makers' devices.
    pub(super) fn busy_union(&self) -> Option<String> {
        let parts: Vec<String> = [DeviceStat::Sm, DeviceStat::Tensor, DeviceStat::Dram]
            .into_iter()
            .filter_map(|id| {
                let range = format!("[{}s]", self.scope.bin);
                let union = self.union_of(id, |n| {
                    (n.maker == Maker::Nvidia).then(|| self.named(n, "avg_over_time", &range, "", false))
                })?;
                Some(format!("label_replace({union},\"f\",\"{}\",\"\",\"\")", id.text()))
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }

    pub(in crate::prometheus) fn device_parts(&self) -> Vec<Part> {
        let mut out: Vec<Tagged> = Vec::new();
        let bin = format!("[{}s]", self.scope.bin);
        let (w, wb) = (self.w(), self.wb());
        for figure in DEVICE_FIGURES {
            let Some(union) = self.device_union(figure.id, "avg_over_time", &bin) else {
                continue;
            };
            let each = self.device(&union, "");
            out.extend(distribution(&each, &wb, |stat| Tag::Device(figure.id, stat)));
            // Peaks are of raw samples: a bin's mean hides them.
            if let Some(raw) = self.device_union(figure.id, "max_over_time", &w) {
                out.push((Tag::Device(figure.id, Stat::Max), self.device(&raw, "")));
            }
        }
        if let Some(busy) = self.busy_union() {
            let each = self.device(&busy, "");
            let busy = |stat| Tag::Device(DeviceStat::Busy, stat);
            out.extend(distribution(&each, &wb, busy));
            out.push((busy(Stat::Max), format!("max_over_time(({each}){wb})")));
        }
        if let Some(alive) = self.presence() {
            let more: String = ["GPU_I_PROFILE", "Hostname", "hostname", "node"]
                .iter()
                .filter(|l| self.words.gpu_labels.contains(**l))
                .map(|l| format!(",{l}"))
                .collect();
            let each = self.device(&alive, &more);
            out.push((Tag::Life(Life::First), format!("min_over_time(timestamp({each}){wb})")));
            out.push((Tag::Life(Life::Last), format!("max_over_time(timestamp({each}){wb})")));
            // When anything last computed there: of a host's devices, which others may have held, by the one figure that jobs are
            // judged by; else by all that may tell it.
            let of_host = self.words.owner == Owner::Nobody || self.words.of_jobs();
            let active = if of_host {
                self.active_union("avg_over_time", &bin)
            } else {
                self.any_union("avg_over_time", &bin)
            };
            if let Some(active) = active {
                let each = self.device(&active, "");
                out.push((
                    Tag::Life(Life::Active),
                    format!("max_over_time(timestamp(({each})>0.01){wb})"),
                ));
            }
            // Where devices do not name their holders, one without a holder may be anybody's.
            if self.words.owner != Owner::Nobody {
                let day = format!("count_over_time(({each})[1d:{}s])", self.scope.bin);
                out.push((Tag::Life(Life::Day), day));
            }
        }
        parts(Cut::Devices, out)
    }

    /// Any figure that every device has: it is there when the device is.
    pub(super) fn presence(&self) -> Option<String> {
        self.presence_of("", false)
    }

    fn presence_of(&self, matcher: &str, model: bool) -> Option<String> {
        let range = format!("[{}s]", self.scope.bin);
        let of = |id| self.union_of(id, |n| Some(self.named(n, "last_over_time", &range, matcher, model)));
        let always = [
            DeviceStat::Power,
            DeviceStat::Engine,
            DeviceStat::Utilization,
            DeviceStat::Memory,
        ];
        always.into_iter().find_map(of)
    }

    /// Devices × bins under each workload, shared devices in equal parts; instances without their parents.
    pub(in crate::prometheus) fn usage_parts(&self) -> Vec<Part> {
        // Where devices do not name their holders nobody knows which of them are free.
        let named = self.words.owner != Owner::Nobody && !self.words.of_jobs();
        let (Some(alive), true) = (self.presence(), named) else {
            return Vec::new();
        };
        let uuid = self.words.uuid();
        let more: String = ["GPU_I_PROFILE", "modelName", "model_name"]
            .iter()
            .filter(|l| self.words.gpu_labels.contains(**l) || (**l == "modelName" && self.words.foreign()))
            .map(|l| format!(",{l}"))
            .collect();
        let Some(named) = self.presence_of("", true) else {
            return Vec::new();
        };
        let mut all = self.device_by_pod(&named, &more);
        if self.words.gpu_labels.contains("GPU_I_ID")
            && let Some(children) = self.presence_of("GPU_I_ID!=\"\",", false)
        {
            // A card cut into instances may have rows of its own too, without an instance: never add parent and children.
            all = format!("({all} unless on({uuid},GPU_I_ID)max by({uuid})({children}))");
        }
        let wb = self.wb();
        let keys = format!("namespace,w{more}");
        let shares = format!("({all})*0+1");
        let split = format!("({shares})/on({uuid},GPU_I_ID)group_left()count by({uuid},GPU_I_ID)({all})");
        let held = format!("sum by({keys})({})", stemmed(&split));
        let mut out = vec![
            (Tag::Held(Held::Gpus), format!("sum_over_time(({held}){wb})")),
            (Tag::Held(Held::Bins), format!("count_over_time((count({alive})){wb})")),
        ];
        let bin = format!("[{}s]", self.scope.bin);
        if let Some(active) = self.active_union("avg_over_time", &bin) {
            let busy = format!("sum by({keys})({})", stemmed(&self.device_by_pod(&active, &more)));
            out.push((Tag::Held(Held::Busy), format!("sum_over_time(({busy}){wb})")));
        }
        parts(Cut::Nothing, out)
    }
}
