//! How pods can share nodes, as a bound: a Lagrangian relaxation (each pod pays for its place; a node stays where it is paid more than it
//! costs). For any prices it is no less than the best plan; a subgradient search looks for prices that make it small. At its best it is
//! the bound of Gilmore and Gomory's patterns (1961), which is rarely a whole node off.

use super::{Group, gcd, may_be_item};
use std::collections::BTreeMap;

/// Rounds of the search at most (ours), rounds without gain until its steps are halved, and its first step (Held and Karp's
/// range is 0 to 2).
const ROUNDS: usize = 250;
const PATIENCE: usize = 8;
const STEP: f64 = 1.5;
/// Steps into which a node's GPUs and its other room are cut (ours): whatever is asked for is rounded down, so the bound holds.
const GPU_STEPS: u64 = 64;
const ROOM_STEPS: u64 = 240;
/// Table entries that one group's search may fill, a node of it and in all (ours: about a tenth of a second for 100 nodes).
const WORK: (u64, u64) = (600_000, 300_000_000);

/// Pods that ask for the same and may be at the same places.
struct Kind {
    /// Index into the group's GPUs: the one that it asks for (the first of them).
    gpu: usize,
    /// In steps: GPUs, then each of the other resources that count.
    steps: Vec<u64>,
    places: usize,
    count: u64,
}

/// Nodes between which the search sees no difference.
struct Class {
    /// Kinds that may be put there, by index.
    may: usize,
    /// In steps: by GPU resource, then by other resource.
    gpus: Vec<u64>,
    room: Vec<Vec<u64>>,
    /// Kinds that are there and could not come: they may remain.
    own: Vec<(usize, u64)>,
    /// What each gives to the headroom.
    gives: i64,
    /// Prices of those that could go.
    prices: Vec<i64>,
    staying: u64,
}

/// One kind of GPU, and the other resources that can run out before it does.
struct Axis {
    gpu: usize,
    unit: u64,
    most: u64,
    /// Resource, its unit, the most steps.
    others: Vec<(usize, u64, u64)>,
}

struct Packing {
    axes: Vec<Axis>,
    kinds: Vec<Kind>,
    classes: Vec<Class>,
    /// Sets of kinds that may be put on some node.
    sets: Vec<Vec<usize>>,
    /// What all must give to the headroom.
    must: i64,
}

/// What is paid: for the place of a pod, by kind, and for what is given to the headroom.
struct Prices {
    kinds: Vec<i64>,
    headroom: i64,
}

/// No plan saves more in this group. The search ends where `found`, which some plan saves, is proven to be the best.
pub(super) fn most(group: &Group<'_>, found: i64) -> i64 {
    let all: i64 = group.can_go.iter().map(|(price, _)| price).sum();
    if group.items.is_empty() || all <= found {
        return all;
    }
    let packing = Packing::of(group);
    let unit = group
        .can_go
        .iter()
        .fold(0, |unit, (price, _)| gcd(unit, price.unsigned_abs()));
    let unit = i64::try_from(unit).unwrap_or(1).max(1);
    // What goes is a sum of prices.
    let whole = |kept: i64| (all - kept.clamp(0, all)) / unit * unit;
    let mut work = (group.nodes.len() as u64 * WORK.0).min(WORK.1);
    let mut prices = packing.first_prices(group);
    let (mut most, mut best, mut idle, mut step) = (all, i64::MIN, 0, STEP);
    for _ in 0..ROUNDS {
        let Some((kept, missing)) = packing.value(&prices, &mut work) else {
            break;
        };
        most = most.min(whole(kept));
        idle += 1;
        if kept > best {
            (best, idle) = (kept, 0);
        }
        if idle > PATIENCE {
            (step, idle) = (step / 2.0, 0);
        }
        let length: f64 = missing.iter().map(|m| m * m).sum();
        if most <= found || length <= 0.0 || step < 1e-3 {
            break;
        }
        let far = ((all - found) - kept).max(unit) as f64;
        let all = prices.kinds.iter_mut().chain([&mut prices.headroom]);
        for (price, missing) in all.zip(&missing) {
            *price = ((*price as f64 + step * far / length * missing).floor() as i64).max(0);
        }
    }
    most
}

impl Packing {
    fn of(group: &Group<'_>) -> Self {
        let axes: Vec<Axis> = group.gpus.iter().filter_map(|&gpu| Axis::of(group, gpu)).collect();
        let places = &group.problem.places;
        let mut known: BTreeMap<(usize, Vec<u64>, usize), usize> = BTreeMap::new();
        let mut kinds: Vec<Kind> = Vec::new();
        let mut kind_of = |pod: &crate::model::Pod, count: u64| {
            let gpu = axes.iter().position(|a| pod.request[a.gpu] > 0)?;
            let steps = axes[gpu].steps(&pod.request);
            let key = (gpu, steps.clone(), pod.places);
            let kind = *known.entry(key).or_insert_with(|| {
                kinds.push(Kind {
                    gpu,
                    steps,
                    places: pod.places,
                    count: 0,
                });
                kinds.len() - 1
            });
            kinds[kind].count += count;
            Some(kind)
        };
        for pod in &group.items {
            kind_of(pod, 1);
        }
        let mut own: Vec<BTreeMap<usize, u64>> = vec![BTreeMap::new(); group.nodes.len()];
        for (at, &node) in group.nodes.iter().enumerate() {
            let closed = !group.problem.nodes[node].open;
            let on_gpus = |p: &&&crate::model::Pod| group.gpus.iter().any(|r| p.request[*r] > 0);
            let there = group.on[at]
                .iter()
                .filter(|p| may_be_item(group.problem, p))
                .filter(on_gpus);
            for pod in there.filter(|p| closed || !places[p.places][node]) {
                if let Some(kind) = kind_of(pod, 0) {
                    *own[at].entry(kind).or_insert(0) += 1;
                }
            }
        }
        let (gives, must) = group.headroom().unwrap_or((vec![0; group.nodes.len()], 0));
        let mut price: Vec<Option<i64>> = vec![None; group.nodes.len()];
        group.can_go.iter().for_each(|(p, at)| price[*at] = Some(*p));
        let mut sets: Vec<Vec<usize>> = Vec::new();
        let mut classes: BTreeMap<_, (Vec<i64>, u64)> = BTreeMap::new();
        for (at, &node) in group.nodes.iter().enumerate() {
            let open = group.problem.nodes[node].open;
            let may: Vec<usize> = (0..kinds.len())
                .filter(|k| open && places[kinds[*k].places][node])
                .collect();
            let set = sets.iter().position(|s| *s == may).unwrap_or_else(|| {
                sets.push(may);
                sets.len() - 1
            });
            let room = &group.room[at];
            let gpus: Vec<u64> = axes.iter().map(|a| (room[a.gpu] / a.unit).min(a.most)).collect();
            let others: Vec<Vec<u64>> = axes
                .iter()
                .map(|a| {
                    a.others
                        .iter()
                        .map(|(r, unit, most)| (room[*r] / unit).min(*most))
                        .collect()
                })
                .collect();
            let own: Vec<(usize, u64)> = own[at].iter().map(|(k, n)| (*k, *n)).collect();
            let class = classes.entry((set, gpus, others, own, gives[at])).or_default();
            match price[at] {
                Some(price) => class.0.push(price),
                None => class.1 += 1,
            }
        }
        let classes = classes
            .into_iter()
            .map(|((may, gpus, room, own, gives), (prices, staying))| Class {
                may,
                gpus,
                room,
                own,
                gives,
                prices,
                staying,
            })
            .collect();
        Self {
            axes,
            kinds,
            classes,
            sets,
            must,
        }
    }

    /// A share of a node's price, as large as the share of its GPUs.
    fn first_prices(&self, group: &Group<'_>) -> Prices {
        let cost: i64 = group.can_go.iter().map(|(price, _)| price).sum::<i64>() / (group.can_go.len() as i64).max(1);
        let of = |kind: &Kind| {
            let most = self.axes[kind.gpu].most.max(1) as i64;
            cost * kind.steps[0] as i64 / most
        };
        Prices {
            kinds: self.kinds.iter().map(of).collect(),
            headroom: 0,
        }
    }

    /// What the nodes that stay cost at least, and how many pods of each kind, and how much headroom, they lack; `None`: no work is left.
    fn value(&self, prices: &Prices, work: &mut u64) -> Option<(i64, Vec<f64>)> {
        let (headroom, prices) = (prices.headroom, &prices.kinds[..]);
        let mut tables: BTreeMap<(usize, usize, usize), Table> = BTreeMap::new();
        for (s, set) in self.sets.iter().enumerate() {
            for (a, axis) in self.axes.iter().enumerate() {
                let own: Vec<usize> = set.iter().copied().filter(|k| self.kinds[*k].gpu == a).collect();
                // Without another resource there is one of no steps.
                for other in 0..axis.others.len().max(1) {
                    let table = Table::of(self, axis, other, &own, prices);
                    *work = work.checked_sub(table.work)?;
                    tables.insert((s, a, other), table);
                }
            }
        }
        let mut kept = self.must.saturating_mul(headroom);
        let mut missing: Vec<f64> = self
            .kinds
            .iter()
            .map(|k| k.count as f64)
            .chain([self.must as f64])
            .collect();
        let last = self.kinds.len();
        for (kind, price) in self.kinds.iter().zip(prices) {
            kept = kept.saturating_add(price.saturating_mul(kind.count as i64));
        }
        for class in &self.classes {
            let mut worth: i64 = class.own.iter().map(|(k, n)| prices[*k] * *n as i64).sum();
            worth = worth.saturating_add(class.gives.saturating_mul(headroom));
            let mut chosen = Vec::new();
            for (a, axis) in self.axes.iter().enumerate() {
                let all = (0..axis.others.len().max(1)).filter_map(|other| {
                    let table = tables.get(&(class.may, a, other))?;
                    let room = class.room[a].get(other).copied().unwrap_or(0);
                    Some((table.at(class.gpus[a], room).0, table, room))
                });
                if let Some((value, table, room)) = all.min_by_key(|t| t.0) {
                    worth += value;
                    chosen.push((table, class.gpus[a], room));
                }
            }
            let paid = class.prices.iter().filter(|price| **price < worth);
            let (mut nodes, mut gain) = (class.staying, worth.saturating_mul(class.staying as i64));
            for price in paid {
                nodes += 1;
                gain = gain.saturating_add(worth - price);
            }
            kept = kept.saturating_sub(gain);
            if nodes > 0 {
                missing[last] -= class.gives as f64 * nodes as f64;
                class.own.iter().for_each(|(k, n)| missing[*k] -= (*n * nodes) as f64);
                for (table, gpus, room) in chosen {
                    table.take(gpus, room, |kind, count| missing[kind] -= (count * nodes) as f64);
                }
            }
        }
        Some((kept, missing))
    }
}

impl Axis {
    fn of(group: &Group<'_>, gpu: usize) -> Option<Self> {
        let first = |p: &crate::model::Pod| group.gpus.iter().find(|r| p.request[**r] > 0) == Some(&gpu);
        let items: Vec<_> = group.items.iter().filter(|p| first(p)).collect();
        if items.is_empty() {
            return None;
        }
        let largest = |r: usize| group.room.iter().map(|room| room[r]).max().unwrap_or(0);
        let unit = |r: usize, steps: u64| {
            let exact = items.iter().fold(0, |unit, p| gcd(unit, p.request[r])).max(1);
            if largest(r) / exact <= steps {
                exact
            } else {
                largest(r).div_ceil(steps)
            }
        };
        let others = (0..group.problem.resources)
            .filter(|r| !group.gpus.contains(r))
            .filter(|&r| {
                // The most that pods on all of a node's GPUs could ask for of it.
                let asked = |room: &Vec<u64>| {
                    let of = items
                        .iter()
                        .map(|p| u128::from(p.request[r]) * u128::from(room[gpu]) / u128::from(p.request[gpu]));
                    of.max().unwrap_or(0)
                };
                group.room.iter().any(|room| asked(room) > u128::from(room[r]))
            });
        let others = others
            .map(|r| {
                let unit = unit(r, ROOM_STEPS);
                (r, unit, largest(r) / unit)
            })
            .collect();
        let own = unit(gpu, GPU_STEPS);
        Some(Self {
            gpu,
            unit: own,
            most: largest(gpu) / own,
            others,
        })
    }

    fn steps(&self, request: &[u64]) -> Vec<u64> {
        let others = self.others.iter().map(|(r, unit, _)| request[*r] / unit);
        [request[self.gpu] / self.unit].into_iter().chain(others).collect()
    }
}

/// The most that pods on one node could pay, by its room: any number of each kind.
struct Table {
    width: usize,
    /// Value, and the kind that was added last (`usize::MAX`: none).
    cells: Vec<(i64, usize)>,
    /// By kind: GPU steps, steps of the other resource.
    needs: BTreeMap<usize, (usize, usize)>,
    /// Kinds that are so small that they take no step: all of them are there.
    small: Vec<(usize, u64)>,
    extra: i64,
    work: u64,
}

impl Table {
    fn of(packing: &Packing, axis: &Axis, other: usize, kinds: &[usize], prices: &[i64]) -> Self {
        let height = axis.most as usize + 1;
        let width = axis.others.get(other).map_or(1, |o| o.2 as usize + 1);
        let mut table = Self {
            width,
            cells: vec![(0, usize::MAX); height * width],
            needs: BTreeMap::new(),
            small: Vec::new(),
            extra: 0,
            work: (height * width) as u64,
        };
        // Of those that need the same, the one that pays most.
        let mut best: BTreeMap<(usize, usize), (i64, usize)> = BTreeMap::new();
        for &k in kinds {
            let kind = &packing.kinds[k];
            let need = (
                kind.steps[0] as usize,
                kind.steps.get(other + 1).map_or(0, |s| *s as usize),
            );
            if need == (0, 0) {
                table.small.push((k, kind.count));
                table.extra += prices[k] * kind.count as i64;
                continue;
            }
            table.needs.insert(k, need);
            let known = best.entry(need).or_insert((0, usize::MAX));
            if prices[k] > known.0 {
                *known = (prices[k], k);
            }
        }
        let best: Vec<((usize, usize), (i64, usize))> = best.into_iter().filter(|b| b.1.0 > 0).collect();
        table.work += (height * width * best.len()) as u64;
        for gpus in 0..height {
            for room in 0..width {
                let mut cell = (0, usize::MAX);
                for &((g, r), (price, kind)) in &best {
                    if g <= gpus && r <= room {
                        let value = table.cells[(gpus - g) * width + room - r].0 + price;
                        if value > cell.0 {
                            cell = (value, kind);
                        }
                    }
                }
                table.cells[gpus * width + room] = cell;
            }
        }
        table
    }

    fn at(&self, gpus: u64, room: u64) -> (i64, usize) {
        let (value, kind) = self.cells[gpus as usize * self.width + (room as usize).min(self.width - 1)];
        (value + self.extra, kind)
    }

    /// Which kinds pay that.
    fn take(&self, gpus: u64, room: u64, mut one: impl FnMut(usize, u64)) {
        self.small.iter().for_each(|(kind, count)| one(*kind, *count));
        let (mut gpus, mut room) = (gpus as usize, (room as usize).min(self.width - 1));
        while let (_, kind) = self.cells[gpus * self.width + room]
            && let Some((g, r)) = self.needs.get(&kind)
        {
            one(kind, 1);
            (gpus, room) = (gpus - g, room - r);
        }
    }
}
