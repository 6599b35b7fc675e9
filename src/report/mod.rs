//! The report: findings ranked, claims resolved, totals that add up; one file a format.

pub(crate) mod document;
