//! Measured points: what is known of a card with an engine, and of one model on them.
//!
//! `data/speed-points.csv` has, of each point, how far the physics is off there (log measured ÷ predicted) and how far it was
//! expected to be; tests/fit/fit_speed.py writes it beside the constants. Points of the same model on the same card with the
//! same engine correct a prediction as far as such residuals were seen to agree: less across sources than within one.

use super::Engine;
use super::constants::fixed;
use super::step::At;
use crate::Roofline;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

const ROWS: &str = include_str!("../data/speed-points.csv");

/// Residuals beyond this many spreads say that the source measured something else.
const OUTLIER: f64 = 3.0;

/// What tells models, cards and engines apart where residuals are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Likeness {
    layers: u32,
    hidden: u32,
    experts: u32,
    card: String,
    engine: &'static str,
    bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Where {
    running: f64,
    context: f64,
    ranks: f64,
    mix: f64,
}

impl Where {
    fn of(ranks: f64, at: At) -> Self {
        Self {
            running: at.running.max(1.0).ln(),
            context: (at.input + at.output / 2.0).max(1.0).ln(),
            ranks: ranks.max(1.0).log2(),
            mix: at.mix.max(1e-3).ln(),
        }
    }

    fn distance(self, other: Self) -> f64 {
        let axis = |a: f64, b: f64, width: f64| ((a - b) / width).powi(2);
        axis(self.running, other.running, 1.2)
            + axis(self.context, other.context, 1.2)
            + axis(self.ranks, other.ranks, 1.5)
            + axis(self.mix, other.mix, 2.0)
    }
}

/// A residual: log measured ÷ predicted in units of its expected spread.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// Number of the source; [`OWN`] is the fleet itself.
    source: usize,
    at: Where,
    off: f64,
}

/// The fleet's own servers: measured as the prediction will be.
const OWN: usize = usize::MAX;

/// (card, engine, mixture).
type Tier = (String, &'static str, bool);

#[derive(Default)]
struct Book {
    points: HashMap<Likeness, Vec<Point>>,
    /// Points and sources behind a tier.
    tiers: HashMap<Tier, (u32, BTreeSet<usize>)>,
    /// (architecture, bits of a weight, bits of a product).
    precisions: HashSet<(String, u32, u32)>,
    paths: HashSet<(&'static str, String)>,
    /// (engine, index into [`Structure::flags`](super::Structure)).
    structures: HashSet<(&'static str, usize)>,
}

static BOOK: LazyLock<Book> = LazyLock::new(read);

fn read() -> Book {
    let mut book = Book::default();
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let headers = reader.headers().cloned().unwrap_or_default();
    let mut sources: Vec<String> = Vec::new();
    for row in reader.records().flatten() {
        let cell = |name: &str| {
            headers
                .iter()
                .position(|h| h == name)
                .and_then(|i| row.get(i))
                .unwrap_or_default()
        };
        let number = |name: &str| cell(name).parse::<f64>().ok();
        let Some(engine) = family(cell("engine")) else { continue };
        let (Some(running), Some(input), Some(output), Some(residual), Some(spread)) = (
            number("running"),
            number("input"),
            number("output"),
            number("residual"),
            number("spread"),
        ) else {
            continue;
        };
        let source = sources.iter().position(|s| s == cell("source")).unwrap_or_else(|| {
            sources.push(cell("source").into());
            sources.len() - 1
        });
        let whole = |name: &str| number(name).unwrap_or(0.0) as u32;
        let likeness = Likeness {
            layers: whole("layers"),
            hidden: whole("hidden"),
            experts: whole("experts"),
            card: cell("card").into(),
            engine,
            bits: whole("bits"),
        };
        let tier = book
            .tiers
            .entry((likeness.card.clone(), engine, likeness.experts > 0))
            .or_default();
        tier.0 += 1;
        tier.1.insert(source);
        book.precisions
            .insert((cell("architecture").into(), likeness.bits, whole("compute_bits")));
        book.paths.insert((engine, cell("path").into()));
        for (i, name) in ["latent", "sparse", "recurrent", "windowed"].iter().enumerate() {
            if whole(name) > 0 {
                book.structures.insert((engine, i));
            }
        }
        let at = At::new(running, input, output);
        book.points.entry(likeness).or_default().push(Point {
            source,
            at: Where::of(number("ranks").unwrap_or(1.0), at),
            off: (residual / spread).clamp(-OUTLIER, OUTLIER),
        });
    }
    book
}

/// The file's word for an engine of any version.
fn family(word: &str) -> Option<&'static str> {
    ["vllm", "sglang", "trtllm"].into_iter().find(|e| *e == word)
}

fn engine(engine: Engine) -> Option<&'static str> {
    match engine {
        Engine::Vllm | Engine::VllmEarly | Engine::VllmV0 => Some("vllm"),
        Engine::Sglang => Some("sglang"),
        Engine::Trtllm => Some("trtllm"),
        Engine::Other => None,
    }
}

fn bits(weight: f64) -> u32 {
    match weight {
        b if b < 6.0 => 4,
        b if b < 12.0 => 8,
        _ => 16,
    }
}

/// What measured points say for a prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// This card with this engine and this kind of model (dense, mixture) was measured.
    Seen,
    /// That, but not this kind of attention with the engine, this precision on the architecture, or ranks on such a link.
    NewModel,
    #[default]
    NotSeen,
}

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::NewModel => "new-model",
            Self::NotSeen => "not-seen",
        }
    }
}

/// What stands behind a prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub class: Class,
    /// Measured points of this card with this engine and this kind of model.
    pub points: u32,
    /// Independent sources of them.
    pub sources: u32,
    /// Of these points, those of this very model.
    pub of_model: u32,
}

/// This card was measured with this kind of model (dense, mixture), whatever the engine.
pub(super) fn is_measured(card: &str, mixture: bool) -> bool {
    let mut tiers = BOOK.tiers.iter();
    tiers.any(|((name, _, kind), (points, _))| name == card && *kind == mixture && *points > 0)
}

pub(super) fn evidence(r: &Roofline) -> Evidence {
    let book = &*BOOK;
    let Some(engine) = engine(r.engine) else {
        return Evidence::default();
    };
    let mixture = r.experts > 0.0;
    let tier = book.tiers.get(&(r.card.name.clone(), engine, mixture));
    let (points, sources) = tier.map_or((0, 0), |(n, s)| (*n, s.len() as u32));
    // Instances, pipelines and engines that share experts were measured nowhere.
    if points == 0 || r.card.instance || r.pipeline > 1 || r.expert_engines > 1.0 {
        return Evidence {
            points,
            sources,
            ..Evidence::default()
        };
    }
    let precision = (
        r.card.architecture.name().to_string(),
        bits(r.weight_bits),
        r.compute_bits,
    );
    let path = r.card.path(r.tensor).path.name().to_string();
    let flags = [
        r.structure.latent,
        r.structure.sparse,
        r.structure.recurrent,
        r.structure.windowed,
    ];
    let fresh = !book.precisions.contains(&precision)
        || r.tensor > 1 && !book.paths.contains(&(engine, path))
        || (0..flags.len()).any(|i| flags[i] && !book.structures.contains(&(engine, i)));
    Evidence {
        class: if fresh { Class::NewModel } else { Class::Seen },
        points,
        sources,
        of_model: likeness(r)
            .and_then(|l| book.points.get(&l))
            .map_or(0, |p| p.len() as u32),
    }
}

fn likeness(r: &Roofline) -> Option<Likeness> {
    Some(Likeness {
        layers: r.layers,
        hidden: r.hidden as u32,
        experts: r.experts as u32,
        card: r.card.name.clone(),
        engine: engine(r.engine)?,
        bits: bits(r.weight_bits),
    })
}

/// Residuals near a prediction, ready to be asked: the best linear unbiased prediction from correlated points.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    points: Vec<Point>,
    /// Lower triangle of the correlations' Cholesky factor, row by row.
    factor: Vec<Vec<f64>>,
    /// Correlations⁻¹ × residuals.
    solved: Vec<f64>,
    ranks: f64,
    /// The prediction is for this fleet.
    source: Option<usize>,
}

/// A residual of the fleet's own: where it was measured, and log measured ÷ predicted in spreads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OwnResidual {
    pub(super) at: At,
    pub(super) off: f64,
}

fn correlation(same: bool, distance: f64) -> f64 {
    let near = if same {
        fixed().same_source
    } else {
        fixed().other_source
    };
    near / (1.0 + distance / 3.0)
}

impl Neighbours {
    pub(super) fn of(r: &Roofline, own: &[OwnResidual]) -> Self {
        let ranks = f64::from(r.tensor.max(1));
        let mut points: Vec<Point> = own
            .iter()
            .map(|o| Point {
                source: OWN,
                at: Where::of(ranks, o.at),
                off: o.off.clamp(-OUTLIER, OUTLIER),
            })
            .collect();
        // A part of a card is not the card.
        if !r.card.instance
            && let Some(known) = likeness(r).and_then(|l| BOOK.points.get(&l))
        {
            points.extend(known);
        }
        let between = |a: &Point, b: &Point| correlation(a.source == b.source, a.at.distance(b.at));
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(points.len());
        for i in 0..points.len() {
            let mut row = vec![0.0; i + 1];
            for j in 0..=i {
                let own = if i == j { 1.0 } else { between(&points[i], &points[j]) };
                let done: f64 = (0..j)
                    .map(|k| row[k] * if i == j { row[k] } else { factor[j][k] })
                    .sum();
                row[j] = if i == j {
                    (own - done).max(1e-9).sqrt()
                } else {
                    (own - done) / factor[j][j]
                };
            }
            factor.push(row);
        }
        let mut all = Self {
            ranks,
            source: (!own.is_empty()).then_some(OWN),
            factor,
            points,
            solved: Vec::new(),
        };
        let half = all.forward(all.points.iter().map(|p| p.off).collect());
        all.solved = all.backward(half);
        all
    }

    fn forward(&self, mut v: Vec<f64>) -> Vec<f64> {
        for i in 0..v.len() {
            let done: f64 = (0..i).map(|k| self.factor[i][k] * v[k]).sum();
            v[i] = (v[i] - done) / self.factor[i][i];
        }
        v
    }

    fn backward(&self, mut v: Vec<f64>) -> Vec<f64> {
        for i in (0..v.len()).rev() {
            let done: f64 = (i + 1..v.len()).map(|k| self.factor[k][i] * v[k]).sum();
            v[i] = (v[i] - done) / self.factor[i][i];
        }
        v
    }

    /// (expected residual in spreads, share of its variance that the points explain).
    pub(super) fn at(&self, at: At) -> (f64, f64) {
        if self.points.is_empty() {
            return (0.0, 0.0);
        }
        let here = Where::of(self.ranks, at);
        let across: Vec<f64> = self
            .points
            .iter()
            .map(|p| correlation(self.source == Some(p.source), here.distance(p.at)))
            .collect();
        let expected = across.iter().zip(&self.solved).map(|(c, s)| c * s).sum();
        let explained: f64 = self.forward(across).iter().map(|v| v * v).sum();
        (expected, explained.clamp(0.0, 0.9))
    }
}
