//! Manifests before they are deployed: files, folders and stdin to pods, by the same parsing as a live cluster's.

mod kinds;
mod live;
mod pods;
mod serving;

mod yaml;

pub(crate) use live::{Described, described};

use crate::snapshot::cluster::{Controller, Pod};
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use yaml::{Document, MAX_BYTES};

/// What the manifests hold.
#[derive(Debug)]
pub(crate) struct Manifests {
    pub(crate) pods: Vec<Pod>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) sources: Vec<Source>,
    pub(crate) gaps: Vec<Gap>,
    /// Objects of any kind.
    pub(crate) objects: usize,
    /// GPUs of an instance type, from the catalogue.
    gpus_of_type: fn(&str) -> Option<u32>,
}

/// Reads files, folders (with what is below them) and `-`.
pub(crate) fn read(paths: &[PathBuf], gpus_of_type: fn(&str) -> Option<u32>) -> Manifests {
    let mut all = Manifests {
        pods: Vec::new(),
        controllers: Vec::new(),
        sources: Vec::new(),
        gaps: Vec::new(),
        objects: 0,
        gpus_of_type,
    };
    let mut documents = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let before = (documents.len(), all.sources.len());
        if name == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin()
                .lock()
                .take(MAX_BYTES + 1)
                .read_to_end(&mut bytes)
                .map(|_| bytes);
            one("<stdin>", read, &mut documents, &mut all);
        } else if path.is_dir() {
            for file in below(path, &mut all) {
                one(&file.display().to_string(), bounded(&file), &mut documents, &mut all);
            }
        } else {
            one(&name, bounded(path), &mut documents, &mut all);
        }
        let found = documents.len() - before.0;
        if all.sources.len() == before.1 || path.is_dir() || name == "-" {
            let failed = all.sources.len() > before.1;
            all.sources.push(Source {
                kind: SourceKind::Manifest,
                name,
                status: match (failed, found) {
                    (true, 0) => SourceStatus::Failed,
                    (true, _) => SourceStatus::Partial,
                    _ => SourceStatus::Ok,
                },
                detail: format!("{found} objects"),
                named: true,
            });
        }
    }
    all.objects = documents.len();
    pods::build(&documents, &mut all);
    all
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn one(name: &str, read: io::Result<Vec<u8>>, documents: &mut Vec<Document>, all: &mut Manifests) {
    let parsed = match read {
        Ok(bytes) if bytes.len() as u64 > MAX_BYTES => {
            Err("it is larger than 32 MiB, which no manifest is".to_string())
        }
        Ok(bytes) => yaml::parse(name, &bytes).map_err(|e| match e.line {
            Some(line) => format!("line {line}: {}", e.reason),
            None => e.reason,
        }),
        Err(error) => Err(error.to_string()),
    };
    match parsed {
        Ok(found) => {
            for document in found {
                flatten(document, documents, 0);
            }
        }
        Err(reason) => {
            all.gaps.push(Gap {
                source: name.into(),
                what: "its manifests".into(),
                reason: reason.clone(),
                effect: "what they ask for is not in the report".into(),
                remedy: "mend the file, or leave it out".into(),
            });
            all.sources.push(Source {
                kind: SourceKind::Manifest,
                name: name.into(),
                status: SourceStatus::Failed,
                detail: reason,
                named: true,
            });
        }
    }
}

/// `List`s are what they hold.
fn flatten(document: Document, out: &mut Vec<Document>, depth: usize) {
    let is_list = document.value["kind"].as_str().is_some_and(|k| k.ends_with("List"));
    match document.value.get("items").and_then(|i| i.as_array()) {
        Some(items) if is_list && depth < 4 => {
            for (i, item) in items.iter().enumerate() {
                let prefix = format!("items[{i}].");
                let lines = document
                    .lines
                    .range(prefix.clone()..)
                    .take_while(|(k, _)| k.starts_with(&prefix))
                    .map(|(k, v)| (k[prefix.len()..].to_string(), *v))
                    .collect();
                let inner = Document {
                    file: document.file.clone(),
                    line: document.line_of(&format!("items[{i}]")),
                    value: item.clone(),
                    lines,
                };
                flatten(inner, out, depth + 1);
            }
        }
        _ if document.value.is_object() => out.push(document),
        _ => {}
    }
}

/// Manifests below a folder, in the order of their names; hidden folders and links are not followed.
fn below(root: &Path, all: &mut Manifests) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                all.gaps.push(Gap {
                    source: folder.display().to_string(),
                    what: "the folder".into(),
                    reason: error.to_string(),
                    effect: "its manifests are not in the report".into(),
                    remedy: "grant reading it".into(),
                });
                continue;
            }
        };
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if name.starts_with('.') {
                continue;
            }
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                folders.push(path);
            } else if kind.is_ok_and(|k| k.is_file()) && [".yaml", ".yml", ".json"].iter().any(|e| name.ends_with(e)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
