//! `scontrol show config`: the few lines that say what may be missing.

/// What the configuration says of the cluster and of what is hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub cluster: Option<String>,
    /// "22.05.8".
    pub version: Option<String>,
    /// "jobs", "nodes", "usage" …: of whom only the own are shown. Empty: nothing is hidden, or it is not told.
    pub private: Vec<String>,
    pub read: bool,
}

pub fn parse(text: &str) -> Config {
    let mut config = Config::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = crate::lenient::told(value);
        let word = |v: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            (!v.is_empty() && v.len() <= 64 && v.chars().all(plain)).then(|| v.to_string())
        };
        match key.trim() {
            "ClusterName" => config.cluster = word(value),
            "SLURM_VERSION" => config.version = word(value),
            "PrivateData" => {
                config.read = true;
                config.private = value
                    .split(',')
                    .filter_map(|p| word(p.trim()))
                    .filter(|p| p != "none")
                    .collect();
            }
            _ => {}
        }
    }
    config
}

/// "22.05.8" of "slurm 22.05.8"; major and minor for comparing.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let number = text
        .split_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
