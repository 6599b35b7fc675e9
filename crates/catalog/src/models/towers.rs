//! Vision towers by family: one row a model type, some with sizes of their own (`data/towers.csv`).

use super::Tower;
use std::sync::LazyLock;

const ROWS: &str = include_str!("../data/towers.csv");

/// A row: whom it is of, and what it has.
pub(super) struct Row {
    pub(super) model_type: String,
    /// What the id must contain; empty: the rest of the family.
    name: String,
    pub(super) tower: Tower,
}

pub(super) static TOWERS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    reader
        .records()
        .flatten()
        .filter_map(|r| {
            let number = |i: usize| r.get(i)?.parse::<u32>().ok();
            Some(Row {
                model_type: r.get(0)?.into(),
                name: r.get(1)?.to_ascii_lowercase(),
                tower: Tower {
                    hidden: number(3)?,
                    inner: number(4)?,
                    patches_per_token: r.get(6)?.parse().ok()?,
                    tokens_per_item: r.get(7)?.parse().ok()?,
                },
            })
        })
        .collect()
});

/// The tower of a model of this type; rows that name a size come first.
pub(super) fn of(model_type: &str, id: &str) -> Option<Tower> {
    let id = id.to_ascii_lowercase();
    TOWERS
        .iter()
        .find(|r| r.model_type == model_type && id.contains(&r.name))
        .map(|r| r.tower)
}
