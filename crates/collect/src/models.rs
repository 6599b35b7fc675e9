//! `--models DIR`: config.json files, weight headers and GGUF files of the user's own, and Hugging Face caches.

use crate::catalog::models::{ModelBook, ModelFacts, ModelSource, gguf, of_modelopt, parse_config, safetensors};
use crate::input;
use crate::snapshot::Gap;
use crate::units::Bytes;
use anyhow::{Context, Result, bail};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Folders below the named one: `hub/models--org--name/snapshots/<commit>/file`, with one to spare.
const MAX_DEPTH: usize = 6;
/// Entries looked at; a directory with more is not one of models.
const MAX_ENTRIES: usize = 100_000;
/// A config.json is some kilobytes, an index of 1,000 shards a few megabytes.
const MAX_TEXT: u64 = 64 << 20;

/// Reads every model under `root`. A file that cannot be read is a gap, beside the others.
///
/// # Errors
/// When `root` cannot be read, or holds no model at all.
pub fn read(root: &Path) -> Result<(ModelBook, Vec<Gap>)> {
    let shown = root.display();
    let mut found = Found::default();
    walk(root, 0, &mut found).with_context(|| format!("could not read the models in {shown}"))?;
    if found.configs.is_empty() && found.gguf.is_empty() {
        bail!(
            "no config.json and no .gguf file under {shown}: --models takes a folder of models, or a Hugging Face cache"
        );
    }
    let mut book = ModelBook::default();
    let mut gaps = Vec::new();
    let mut add = |path: &Path, facts: std::result::Result<ModelFacts, String>| match facts {
        Ok(facts) => book.add(facts),
        Err(reason) => gaps.push(Gap {
            source: format!("models {shown}"),
            what: path.display().to_string(),
            reason,
            effect: "the model is looked up in the built-in catalogue instead".into(),
            remedy: "mend or remove the file".into(),
        }),
    };
    for path in &found.configs {
        add(path, of_config(root, path));
    }
    for path in &found.gguf {
        add(path, of_gguf(path));
    }
    Ok((book, gaps))
}

#[derive(Default)]
struct Found {
    configs: Vec<PathBuf>,
    gguf: Vec<PathBuf>,
    seen: usize,
}

fn walk(folder: &Path, depth: usize, found: &mut Found) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.filter_map(std::result::Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        found.seen += 1;
        if found.seen > MAX_ENTRIES {
            return Err(std::io::Error::other(format!(
                "more than {MAX_ENTRIES} files: name the models' own folder"
            )));
        }
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        // A folder behind a link could lead anywhere; files of a Hugging Face cache are links into its blobs.
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let skip = depth >= MAX_DEPTH || matches!(name.as_str(), "blobs" | ".git" | ".locks") || stale(&path);
            // One folder without permission does not hide the others.
            if !skip {
                let _ = walk(&path, depth + 1, found);
            }
        } else if name == "config.json" {
            found.configs.push(path);
        } else if has_extension(&name, "gguf") && !is_later_part(&name) {
            found.gguf.push(path);
        }
    }
    Ok(())
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// "-00002-of-00003": the first part has the metadata.
fn is_later_part(name: &str) -> bool {
    name.contains("-of-") && !name.contains("-00001-of-")
}

/// A snapshot of a Hugging Face cache that `refs/main` does not name.
fn stale(folder: &Path) -> bool {
    let current = || {
        let snapshots = folder
            .parent()
            .filter(|p| p.file_name().is_some_and(|n| n == "snapshots"))?;
        let main = text(&snapshots.parent()?.join("refs/main")).ok()?;
        snapshots
            .join(main.trim())
            .is_dir()
            .then(|| folder.file_name() != Some(main.trim().as_ref()))
    };
    current().unwrap_or(false)
}

/// `org/name` of a cache folder or of two nested folders, else the folder's name.
fn id(root: &Path, folder: &Path) -> String {
    let parts: Vec<String> = folder.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if let Some(cached) = parts.iter().rev().find_map(|p| p.strip_prefix("models--")) {
        return cached.replacen("--", "/", 1);
    }
    let below = folder.strip_prefix(root).map_or(0, |p| p.iter().count());
    let from = parts.len().saturating_sub(below.clamp(1, 2));
    let name = parts.get(from..).unwrap_or_default().join("/");
    if name.is_empty() || name == "." {
        "model".into()
    } else {
        name
    }
}

fn text(path: &Path) -> std::result::Result<String, String> {
    let bytes = input::found(path, MAX_TEXT).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_string())
}

fn of_config(root: &Path, path: &Path) -> std::result::Result<ModelFacts, String> {
    let folder = path.parent().unwrap_or(root);
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let top = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let mut facts = parse_config(&id(&top, &absolute), &text(path)?)?;
    if facts.quantization.is_none() {
        facts.quantization = text(&folder.join("hf_quant_config.json"))
            .ok()
            .and_then(|t| of_modelopt(&t));
    }
    if let Some(bytes) = weights(folder, facts.layers())? {
        facts.file_bytes = Some(Bytes(bytes));
        facts.source = ModelSource::Weights;
    }
    Ok(facts)
}

/// Bytes of all tensors: from the files' headers, else as the index says; `None` without weights.
fn weights(folder: &Path, layers: Option<u32>) -> std::result::Result<Option<u64>, String> {
    let index = text(&folder.join("model.safetensors.index.json")).ok();
    let mut parts: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|e| e.to_string())?
        .filter_map(std::result::Result::ok)
        .map(|e| e.path())
        .filter(|p| {
            let name = p
                .file_name()
                .map(|n| n.to_string_lossy().to_ascii_lowercase())
                .unwrap_or_default();
            // "consolidated…" are the same weights in the maker's own layout.
            has_extension(&name, "safetensors") && name.starts_with("model")
        })
        .collect();
    parts.sort();
    let mentioned = |p: &PathBuf| {
        let name = p
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        index.as_ref().is_none_or(|text| text.contains(&name))
    };
    parts.retain(mentioned);
    let shards = index.as_deref().map_or(1, shards);
    if parts.len() < shards || parts.is_empty() {
        // Not all files are here: the index knows the whole.
        return Ok(index.as_deref().and_then(safetensors::index_total));
    }
    let mut total = 0_u64;
    for part in &parts {
        let bytes = header(part, layers).map_err(|e| format!("{}: {e}", part.display()))?;
        total = total.saturating_add(bytes);
    }
    Ok(Some(total))
}

/// Files that an index names.
fn shards(index: &str) -> usize {
    let parsed: Option<serde_json::Value> = serde_json::from_str(index).ok();
    let map = parsed.as_ref().and_then(|v| v.get("weight_map")?.as_object());
    map.map_or(1, |map| {
        let mut files: Vec<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files.len().max(1)
    })
}

fn header(path: &Path, layers: Option<u32>) -> std::result::Result<u64, String> {
    let mut file = input::open_found(path).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut prefix = [0; safetensors::PREFIX];
    file.read_exact(&mut prefix)
        .map_err(|_| "shorter than a safetensors header".to_string())?;
    let size = safetensors::header_length(prefix, length)?;
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(|e| e.to_string())?;
    safetensors::bytes(&header, length, layers)
}

fn of_gguf(path: &Path) -> std::result::Result<ModelFacts, String> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut reader = BufReader::new(input::open_found(path).map_err(|e| e.to_string())?);
    gguf::parse(&name, &mut reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CONFIG: &str = r#"{"model_type":"llama","hidden_size":1024,"intermediate_size":4096,"num_hidden_layers":8,"num_attention_heads":8,"vocab_size":1000}"#;

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn safetensors_file(bytes: u64) -> Vec<u8> {
        let header = format!(r#"{{"a":{{"dtype":"BF16","shape":[1],"data_offsets":[0,{bytes}]}}}}"#);
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.resize(out.len() + bytes as usize, 0);
        out
    }

    #[test]
    fn folders_caches_and_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        put(root, "acme/Chat/config.json", CONFIG.as_bytes());
        put(root, "acme/Chat/model.safetensors", &safetensors_file(64));
        let cache = "hub/models--acme--Cached";
        put(root, &format!("{cache}/refs/main"), b"new");
        put(root, &format!("{cache}/snapshots/new/config.json"), CONFIG.as_bytes());
        put(
            root,
            &format!("{cache}/snapshots/new/model.safetensors.index.json"),
            br#"{"metadata":{"total_size":4096},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
        );
        put(root, &format!("{cache}/snapshots/old/config.json"), b"{}");
        put(root, "broken/config.json", br#"{"model_type":"llama"}"#);
        put(root, "broken.gguf", b"GGUF");
        let (book, gaps) = read(root).expect("models");
        assert_eq!(book.ids().collect::<Vec<_>>(), ["acme/Chat", "acme/Cached"]);
        let chat = book.find("acme/chat").expect("read");
        assert_eq!((chat.source, chat.file_bytes), (ModelSource::Weights, Some(Bytes(64))));
        let cached = book.find("acme/Cached").expect("read");
        assert_eq!(
            cached.file_bytes,
            Some(Bytes(4096)),
            "not all shards are here: the index knows"
        );
        let reasons: Vec<&str> = gaps.iter().map(|g| g.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["field 'hidden_size' is missing", "the GGUF header is cut off"]
        );
    }

    #[test]
    fn a_folder_of_one_model_and_corrupt_weights() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), "config.json", CONFIG.as_bytes());
        let (book, _) = read(folder.path()).expect("one model");
        assert_eq!(book.ids().count(), 1);
        put(folder.path(), "model.safetensors", &u64::MAX.to_le_bytes());
        let (book, gaps) = read(folder.path()).expect("read");
        assert!(
            book.ids().count() == 0 && gaps[0].reason.contains("safetensors header"),
            "{gaps:?}"
        );
    }

    #[test]
    fn what_holds_no_models_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = read(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("no config.json"), "{error}");
        assert!(read(&folder.path().join("absent")).is_err());
    }
}
