//! Doc comments as data: what a check's file says of it is what its users read.

/// A type whose doc comment is its user documentation.
pub trait Documented {
    /// The version that brought it.
    fn since(&self) -> &'static str;

    /// The lines of its doc comment, as written behind `///`.
    fn doc(&self) -> &'static [&'static str];

    /// What it finds, why it costs, how the dollars are computed, when it is wrong, what to do.
    fn explain(&self) -> String {
        let lines: Vec<&str> = self.doc().iter().map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
        lines.join("\n")
    }
}

/// A unit struct with its doc comment and the version that brought it.
macro_rules! documented {
    (since $version:literal; $(#[doc = $line:literal])+ pub(crate) struct $name:ident;) => {
        $(#[doc = $line])+
        pub(crate) struct $name;

        impl $crate::analyze::Documented for $name {
            fn since(&self) -> &'static str {
                $version
            }

            fn doc(&self) -> &'static [&'static str] {
                &[$($line),+]
            }
        }
    };
}

pub(super) use documented;
