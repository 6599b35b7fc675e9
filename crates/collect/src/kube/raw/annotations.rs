//! The annotations that are read; all others are skipped where they stand.

use crate::snapshot::cluster::RegisteredGpu;
use crate::units::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// No node has more cards; more is an error of whoever wrote it.
const MAX_CARDS: usize = 256;

#[derive(Default)]
pub(super) struct RawAnnotations {
    pub(super) ignore: Option<String>,
    pub(super) mirror: bool,
    /// Its owner asked the autoscaler to let it be.
    pub(super) do_not_disrupt: bool,
    /// What keeps the object as its repository has it.
    pub(super) applied_by: Option<&'static str>,
    /// Where KServe's model comes from, on volumes too, which no init container fetches.
    pub(super) model_uri: Option<String>,
    /// Cards of which a sharing layer hands out shares, all layers together.
    pub(super) registered: Vec<RegisteredGpu>,
}

impl<'de> Deserialize<'de> for RawAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Annotations)
    }
}

struct Annotations;

impl<'de> Visitor<'de> for Annotations {
    type Value = RawAnnotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = RawAnnotations::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "gpuwaste.dev/ignore" => found.ignore = map.next_value()?,
                "karpenter.sh/do-not-disrupt" | "karpenter.sh/do-not-evict" => {
                    found.do_not_disrupt |= map.next_value::<Option<String>>()?.as_deref() == Some("true");
                }
                "cluster-autoscaler.kubernetes.io/safe-to-evict" => {
                    found.do_not_disrupt |= map.next_value::<Option<String>>()?.as_deref() == Some("false");
                }
                "internal.serving.kserve.io/storage-initializer-sourceuri" => found.model_uri = map.next_value()?,
                key if applier(key).is_some() => {
                    found.applied_by = applier(key);
                    map.next_value::<IgnoredAny>()?;
                }
                "kubernetes.io/config.mirror" => {
                    map.next_value::<IgnoredAny>()?;
                    found.mirror = true;
                }
                // HAMi and its fork in Volcano: hami.io/node-nvidia-register, volcano.sh/node-vgpu-register.
                key if key.ends_with("-register")
                    && key.split_once('/').is_some_and(|(_, k)| k.starts_with("node-")) =>
                {
                    let text: Option<String> = map.next_value()?;
                    found.registered.extend(registered(&text.unwrap_or_default()));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Argo CD's tracking (<https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/>), Flux's and Fleet's own keys: labels
/// of some, annotations of others.
pub(super) fn applier(key: &str) -> Option<&'static str> {
    let known = [
        ("argocd.argoproj.io/", "Argo CD"),
        ("kustomize.toolkit.fluxcd.io/", "Flux"),
        ("helm.toolkit.fluxcd.io/", "Flux"),
        ("objectset.rio.cattle.io/", "Fleet"),
    ];
    known.iter().find(|(prefix, _)| key.starts_with(prefix)).map(|k| k.1)
}

/// HAMi writes a JSON array, before 2.6 "ID,shares,MiB,cores,model,numa,healthy:" a card; Volcano leaves fields out of it.
fn registered(text: &str) -> Vec<RegisteredGpu> {
    #[derive(Deserialize)]
    struct Card {
        id: String,
        #[serde(default)]
        count: u64,
        #[serde(default)]
        devmem: Option<f64>,
        #[serde(default, rename = "type")]
        model: String,
    }
    let cards: Vec<RegisteredGpu> = if text.trim_start().starts_with('[') {
        let cards: Vec<Card> = serde_json::from_str(text).unwrap_or_default();
        let of = |c: Card| card(&c.id, c.count, c.devmem, &c.model);
        cards.into_iter().filter_map(of).collect()
    } else {
        text.split(':').filter_map(of_fields).collect()
    };
    if cards.len() > MAX_CARDS { Vec::new() } else { cards }
}

fn of_fields(text: &str) -> Option<RegisteredGpu> {
    let mut fields = text.split(',').map(str::trim);
    let (id, count) = (fields.next()?, fields.next()?.parse().ok()?);
    let memory = fields.next().and_then(|m| m.parse().ok());
    let words = fields.filter(|f| f.parse::<f64>().is_err() && !matches!(*f, "true" | "false" | ""));
    card(id, count, memory, words.into_iter().next().unwrap_or_default())
}

fn card(id: &str, shares: u64, mebibytes: Option<f64>, model: &str) -> Option<RegisteredGpu> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let named = !id.is_empty() && id.len() <= 128 && id.chars().all(plain);
    // "NVIDIA-NVIDIA A100-PCIE-40GB": the layer puts the vendor in front.
    let model = model.split_once('-').map_or(model, |(vendor, rest)| {
        if vendor.chars().all(|c| c.is_ascii_uppercase()) && rest.len() > 3 {
            rest
        } else {
            model
        }
    });
    named.then(|| RegisteredGpu {
        uuid: id.into(),
        model: model
            .chars()
            .filter(|c| c.is_ascii_graphic() || *c == ' ')
            .take(80)
            .collect(),
        memory: mebibytes.filter(|m| (1.0..1e7).contains(m)).map(Bytes::from_mib),
        shares,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_layers_register_their_cards_in_three_forms() {
        for (text, cards, shares, model) in [
            (
                "GPU-1,10,40960,100,NVIDIA-NVIDIA A100-PCIE-40GB,0,true:GPU-2,10,40960,100,NVIDIA-NVIDIA A100-PCIE-40GB,0,true:",
                2,
                10,
                "NVIDIA A100-PCIE-40GB",
            ),
            ("GPU-1,4,15360,Tesla-T4,true:", 1, 4, "Tesla-T4"),
            (
                r#"[{"id":"GPU-1","index":0,"count":8,"devmem":46068,"devcore":100,"type":"NVIDIA-NVIDIA L40S","health":true}]"#,
                1,
                8,
                "NVIDIA L40S",
            ),
        ] {
            let found = registered(text);
            assert_eq!(found.len(), cards, "{text}");
            assert_eq!((found[0].shares, found[0].model.as_str()), (shares, model), "{text}");
            assert!(found[0].memory.is_some(), "{text}");
        }
        for odd in ["", ":::", "[{]", "GPU-1", "a b,3,4", "[{\"id\":5}]"] {
            assert!(registered(odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn only_known_annotations_are_kept() {
        let text = r#"{"secret":"s3cr3t","gpuwaste.dev/ignore":"all a reason","kubernetes.io/config.mirror":"x",
            "hami.io/node-nvidia-register":"GPU-1,10,40960,100,NVIDIA-T4,0,true:","hami.io/node-handshake":"Reported"}"#;
        let found: RawAnnotations = serde_json::from_str(text).unwrap();
        assert!(found.mirror && found.ignore.is_some() && found.registered.len() == 1);
    }
}
