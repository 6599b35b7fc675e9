//! How an engine names its figures, on its pages and in a store.

use super::figures::LoadFigure;
use crate::snapshot::server::EngineKind;

/// One engine's names.
#[derive(Debug)]
pub struct Vocabulary {
    /// What stands before every name: "vllm:". Several where platforms rename them. Empty: the names are bare, as other
    /// programs' are.
    pub prefixes: &'static [&'static str],
    /// A label that stands beside bare names, or they are another program's.
    pub label: Option<&'static str>,
    /// Believed only of a server that the spec calls this engine: anybody may have these names.
    pub only_if_expected: bool,
    /// Names, one of which is on every page of this engine.
    pub markers: &'static [&'static str],
    /// Its figures. One that is missing: the engine does not tell it.
    pub figures: &'static [Told],
    /// Engines of which its page may be instead: the backend that it runs.
    pub instead: &'static [EngineKind],
    /// Engines whose figures may stand beside its own.
    pub beside: &'static [EngineKind],
}

impl Vocabulary {
    /// An engine that tells nothing.
    pub const SILENT: Self = Self {
        prefixes: &[],
        label: None,
        only_if_expected: false,
        markers: &[],
        figures: &[],
        instead: &[],
        beside: &[],
    };

    pub fn series(&self, figure: LoadFigure) -> &'static [Series] {
        let told = self.figures.iter().find(|t| t.figure == figure);
        told.map_or(&[], |t| t.series)
    }

    /// Every name under every prefix, as the server writes it, preferred ones first.
    pub fn names<'a>(&self, name: &'a str) -> impl Iterator<Item = String> + use<'a> {
        let prefixes = if self.prefixes.is_empty() {
            &[""][..]
        } else {
            self.prefixes
        };
        prefixes.iter().map(move |prefix| format!("{prefix}{name}"))
    }

    /// Whether a store is asked for them: bare names without a label that tells them apart are anybody's there.
    pub fn in_stores(&self) -> bool {
        self.bare().is_none_or(|label| label.is_some())
    }

    /// Of bare names, the label that has to stand beside them.
    pub fn bare(&self) -> Option<Option<&'static str>> {
        let bare = self.prefixes.iter().all(|p| p.is_empty());
        (bare && !self.figures.is_empty()).then_some(self.label)
    }
}

/// A figure and its names, in the order of preference: of several that are there the first counts.
#[derive(Debug)]
pub struct Told {
    pub figure: LoadFigure,
    pub series: &'static [Series],
}

pub const fn told(figure: LoadFigure, series: &'static [Series]) -> Told {
    Told { figure, series }
}

/// One way to tell a figure.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Without the prefix. Of a histogram, its base name.
    pub name: &'static str,
    /// Which rows count, by the value of a label.
    pub rows: Rows,
    /// Not every version or backend has it: that it is missing means nothing.
    pub sometimes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// Those whose label has one of these values; "" is a row without the label.
    Only(&'static str, &'static [&'static str]),
    /// Those whose label has none of these values.
    Except(&'static str, &'static [&'static str]),
}

impl Rows {
    /// Whether a row counts, by the value of one of its labels.
    pub fn count<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All => true,
            Self::Only(name, values) => values.contains(&label(name).unwrap_or_default()),
            Self::Except(name, values) => !values.contains(&label(name).unwrap_or_default()),
        }
    }

    /// As a matcher of PromQL, with a comma behind; empty for all rows.
    pub fn matcher(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Only(name, values) => format!("{name}=~\"{}\",", values.join("|")),
            Self::Except(name, values) => format!("{name}!~\"{}\",", values.join("|")),
        }
    }
}

impl Series {
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            rows: Rows::All,
            sometimes: false,
        }
    }

    pub const fn only(mut self, label: &'static str, values: &'static [&'static str]) -> Self {
        self.rows = Rows::Only(label, values);
        self
    }

    pub const fn except(mut self, label: &'static str, values: &'static [&'static str]) -> Self {
        self.rows = Rows::Except(label, values);
        self
    }

    pub const fn sometimes(mut self) -> Self {
        self.sometimes = true;
        self
    }
}

/// Whether an engine tells a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tells {
    Never,
    /// Some versions or backends do.
    Sometimes,
    Always,
}
