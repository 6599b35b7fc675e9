//! Manifests before they are deployed: files, folders and stdin to pods, by the same parsing as a live cluster's.

mod around;
mod kinds;
mod live;
mod pods;
mod serving;
mod shape;
mod training;
mod yaml;

pub use live::{Described, described};

use crate::snapshot::cluster::{Controller, Pod, Unread};
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use yaml::{Document, MAX_BYTES};

/// Fewer files than this are not worth a thread.
const MIN_SHARE: usize = 64;
/// As the main thread has: manifests may nest deep.
const STACK: usize = 8 << 20;

/// What the manifests hold.
#[derive(Debug)]
pub struct Manifests {
    pub pods: Vec<Pod>,
    pub controllers: Vec<Controller>,
    pub sources: Vec<Source>,
    pub gaps: Vec<Gap>,
    /// Workloads that ask for nobody knows how many GPUs.
    pub unread: Vec<Unread>,
    /// Objects of any kind.
    pub objects: usize,
    /// GPUs of an instance type, from the catalogue.
    gpus_of_type: fn(&str) -> Option<u32>,
}

/// Reads files, folders (with what is below them) and `-`.
pub fn read(paths: &[PathBuf], gpus_of_type: fn(&str) -> Option<u32>) -> Manifests {
    let mut all = Manifests {
        pods: Vec::new(),
        controllers: Vec::new(),
        sources: Vec::new(),
        gaps: Vec::new(),
        unread: Vec::new(),
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
            one("<stdin>", parsed("<stdin>", read), &mut documents, &mut all);
        } else if path.is_dir() {
            let found = below(path, &mut all);
            let parsed = in_parallel(&found, |found| match found {
                Found::File(file) => parsed(&file.display().to_string(), bounded(file)),
                Found::Unrendered(_, reason) => Err(reason.clone()),
            });
            for (Found::File(file) | Found::Unrendered(file, _), parsed) in found.iter().zip(parsed) {
                one(&file.display().to_string(), parsed, &mut documents, &mut all);
            }
        } else {
            one(&name, parsed(&name, bounded(path)), &mut documents, &mut all);
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

/// Every item's result, in order, worked out by as many threads as there are cores.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(MIN_SHARE);
    if items.len() <= share {
        return items.iter().map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| {
                let thread = std::thread::Builder::new().stack_size(STACK);
                let task = move || part.iter().map(work).collect::<Vec<R>>();
                (part, thread.spawn_scoped(scope, task))
            })
            .collect();
        // Where no thread could be started, or one fell over, the work is done here.
        let results = parts
            .into_iter()
            .map(|(part, thread)| match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(done)) => done,
                _ => part.iter().map(work).collect(),
            });
        results.flatten().collect()
    })
}

/// The objects of a file; and whether it has nothing but documents that name no kind.
fn parsed(name: &str, read: io::Result<Vec<u8>>) -> Result<(Vec<Document>, bool), String> {
    let path = Path::new(name);
    let folder = || {
        path.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    };
    match read {
        Ok(_) if is_kustomization(path) => Err(kustomize(folder())),
        Ok(bytes) if bytes.len() as u64 > MAX_BYTES => {
            Err("it is larger than 32 MiB, which no manifest is: split it, or name the folder of its parts".to_string())
        }
        Ok(bytes) => {
            let found = yaml::parse(name, &bytes).map_err(|e| match e.line {
                Some(line) => format!("line {line}: {}", e.reason),
                None => e.reason,
            })?;
            let mut objects = Vec::new();
            let nameless = found
                .iter()
                .any(|d| d.value.is_object() && !d.value["kind"].is_string());
            for document in found {
                flatten(document, &mut objects, 0);
            }
            let nameless = nameless && objects.is_empty();
            Ok((objects, nameless))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn one(name: &str, parsed: Result<(Vec<Document>, bool), String>, documents: &mut Vec<Document>, all: &mut Manifests) {
    match parsed {
        Ok((found, nameless)) => {
            documents.extend(found);
            if nameless {
                all.gaps.push(Gap {
                    source: name.into(),
                    what: "its documents".into(),
                    reason:
                        "no document has a kind: it is no Kubernetes manifest, but perhaps the values of a Helm chart"
                            .into(),
                    effect: "nothing of it is in the report".into(),
                    remedy: "render the chart: 'helm template RELEASE CHART -f VALUES | gpuwaste check -'".into(),
                });
            }
        }
        Err(reason) => unread(name, reason, all),
    }
}

fn unread(name: &str, reason: String, all: &mut Manifests) {
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

/// kustomize reads these names (sigs.k8s.io/kustomize, `RecognizedKustomizationFileNames`).
fn is_kustomization(path: &Path) -> bool {
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    path.file_name().is_some_and(|n| names.iter().any(|k| n == *k))
}

fn kustomize(folder: &Path) -> String {
    format!(
        "it is a kustomization that is not rendered: 'kubectl kustomize {} | gpuwaste check -' renders and checks it",
        folder.display()
    )
}

/// `List`s are what they hold.
fn flatten(document: Document, out: &mut Vec<Document>, depth: usize) {
    let Some(kind) = document.value["kind"].as_str() else {
        return;
    };
    if kind.ends_with("List") && depth < 4 && document.value["items"].is_array() {
        for item in document.into_items() {
            flatten(item, out, depth + 1);
        }
    } else {
        out.push(slim(document));
    }
}

/// Objects that neither make pods nor tell anything of those that do are counted, and not kept.
fn slim(document: Document) -> Document {
    const KINDS: &[(&str, &[&str])] = &[
        (
            "v1",
            &[
                "Service",
                "Secret",
                "ServiceAccount",
                "Namespace",
                "PersistentVolume",
                "PersistentVolumeClaim",
            ],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            &["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"],
        ),
        ("networking.k8s.io/v1", &["Ingress", "NetworkPolicy"]),
        ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
        (
            "monitoring.coreos.com/v1",
            &["ServiceMonitor", "PodMonitor", "PrometheusRule"],
        ),
    ];
    let (version, kind) = (&document.value["apiVersion"], &document.value["kind"]);
    let known = KINDS
        .iter()
        .any(|(v, kinds)| *version == *v && kinds.iter().any(|k| *kind == *k));
    if !known {
        return document;
    }
    Document {
        value: serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": document.value["metadata"]["name"]}}),
        lines: yaml::Lines::default(),
        ..document
    }
}

enum Found {
    File(PathBuf),
    /// A chart or kustomization, and how to render it: what lies beside it are its parts, not manifests.
    Unrendered(PathBuf, String),
}

/// Manifests below a folder, in the order of their names; hidden folders and links are not followed.
fn below(root: &Path, all: &mut Manifests) -> Vec<Found> {
    let mut files: Vec<(PathBuf, Option<String>)> = Vec::new();
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
        let entries: Vec<_> = entries.flatten().collect();
        let chart = folder.join("Chart.yaml");
        let kustomization = entries.iter().map(fs::DirEntry::path).find(|p| is_kustomization(p));
        if chart.is_file() {
            let reason = format!(
                "it is a Helm chart that is not rendered: 'helm template RELEASE {} | gpuwaste check -' renders and checks it",
                folder.display()
            );
            files.push((chart, Some(reason)));
            continue;
        }
        if let Some(file) = &kustomization {
            files.push((file.clone(), Some(kustomize(&folder))));
        }
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type());
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if name.starts_with('.') {
                continue;
            }
            let manifest = [".yaml", ".yml", ".json"].iter().any(|e| name.ends_with(e));
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                folders.push(path);
            } else if manifest && kustomization.is_none() && kind.is_ok_and(|k| k.is_file()) {
                files.push((path, None));
            }
        }
    }
    files.sort();
    let found = files.into_iter().map(|(path, reason)| match reason {
        Some(reason) => Found::Unrendered(path, reason),
        None => Found::File(path),
    });
    found.collect()
}
