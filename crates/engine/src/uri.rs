//! Where a model comes from, as far as that names it.

use crate::snapshot::server::{EngineSettings, Setting, UnreadSetting};

/// A path or a bucket is a place; its last part is a name that somebody gave it.
pub(crate) const PATH: &str = "the files in its path, of which only the name is known";

/// The model behind a storage URI: of "hf://org/model:revision" and its like the id; of a volume the path on it, since a
/// claim is no model; anything else as it is written, without what may hold credentials. `None`: it names none.
pub fn model_of_uri(uri: &str) -> Option<String> {
    let uri = uri.trim();
    for scheme in ["hf://", "huggingface://", "hf-mirror://", "modelscope://"] {
        if let Some(id) = uri.strip_prefix(scheme) {
            return some(
                id.split([':', '@', '?', '#'])
                    .next()
                    .unwrap_or(id)
                    .trim_end_matches('/'),
            );
        }
    }
    let plain = uri.split(['?', '#']).next().unwrap_or(uri);
    let Some((scheme, rest)) = plain.split_once("://") else {
        return some(plain);
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let host = host.rsplit('@').next().unwrap_or(host);
    match scheme.to_ascii_lowercase().as_str() {
        // A volume's claim, or this file system: what counts is where it lies there.
        "pvc" | "pv" | "volume" | "file" | "hostpath" => some(path).map(|p| format!("/{p}")),
        "http" | "https" if matches!(host, "huggingface.co" | "www.huggingface.co" | "hf.co") => {
            let mut parts = path.split('/').filter(|p| !p.is_empty());
            match (parts.next(), parts.next()) {
                (Some(org), Some(name)) => Some(format!("{org}/{name}")),
                _ => None,
            }
        }
        _ if path.is_empty() => some(host).map(|h| format!("{scheme}://{h}")),
        _ => Some(format!("{scheme}://{host}/{path}")),
    }
}

fn some(text: &str) -> Option<String> {
    Some(text).filter(|t| !t.is_empty()).map(String::from)
}

/// Names the model where a container knows only the place it is mounted at.
pub fn mounted(settings: &mut EngineSettings, model: &str) {
    let own = settings.model.as_deref();
    if own.is_none_or(|m| m.starts_with('/') || m == "dir") {
        settings.model = Some(model.to_string());
        settings.unread.retain(|u| u.setting != Setting::Model);
        if model.starts_with('/') || model.contains("://") {
            settings.unread.push(UnreadSetting {
                setting: Setting::Model,
                place: PATH.into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_models_or_places() {
        for (uri, model) in [
            ("hf://org/model", Some("org/model")),
            ("hf://org/model:main", Some("org/model")),
            ("hf://org/model@abc", Some("org/model")),
            ("org/model", Some("org/model")),
            ("https://huggingface.co/org/model/tree/main", Some("org/model")),
            (
                "s3://bucket/a/Llama-3.1-8B-Instruct/",
                Some("s3://bucket/a/Llama-3.1-8B-Instruct"),
            ),
            ("s3://key:secret@bucket/a?X-Amz-Signature=abc", Some("s3://bucket/a")),
            ("pvc://claim/", None),
            ("pvc://claim", None),
            ("pvc://claim/models/Llama-3.1-8B", Some("/models/Llama-3.1-8B")),
            ("file:///models/x", Some("/models/x")),
            (
                "oci://registry/cars:granite-3.1-8b",
                Some("oci://registry/cars:granite-3.1-8b"),
            ),
            ("", None),
        ] {
            assert_eq!(model_of_uri(uri).as_deref(), model, "{uri}");
        }
    }
}
