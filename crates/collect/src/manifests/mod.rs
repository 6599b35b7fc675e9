//! Manifests before they are deployed: files, folders and stdin to pods, by the same parsing as a live cluster's.

mod amounts;
mod around;
mod claims;
mod count;
mod environments;
mod kinds;
mod live;
mod planned;
mod pods;
mod serving;
mod shape;
mod spark;
mod template;
mod training;
mod yaml;

pub use live::{Described, described};
pub use planned::{Asked, snapshot};

use crate::snapshot::cluster::{Controller, Pod, Unread};
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use gpuwaste_facts::text::plural;
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
    /// The first is everything that stands once.
    pub environments: Vec<Environment>,
    pub sources: Vec<Source>,
    pub gaps: Vec<Gap>,
    /// Objects of any kind.
    pub objects: usize,
    /// GPUs of an instance type, from the catalogue.
    gpus_of_type: fn(&str) -> Option<u32>,
    /// Labels and annotations that tell whose something is.
    keep_labels: Vec<String>,
}

/// Objects of which none has another's kind, namespace and name.
#[derive(Debug, Default)]
pub struct Environment {
    /// The end of the path that tells it from others; `None`: all that stands once.
    pub name: Option<String>,
    pub pods: Vec<Pod>,
    pub controllers: Vec<Controller>,
    /// Workloads that ask for nobody knows how many GPUs.
    pub unread: Vec<Unread>,
}

impl Manifests {
    fn new(gpus_of_type: fn(&str) -> Option<u32>) -> Self {
        Self {
            environments: vec![Environment::default()],
            sources: Vec::new(),
            gaps: Vec::new(),
            objects: 0,
            gpus_of_type,
            keep_labels: Vec::new(),
        }
    }

    /// Pods of all environments.
    fn made(&self) -> usize {
        self.environments.iter().map(|e| e.pods.len()).sum()
    }
}

/// Reads files, folders (with what is below them) and `-`.
pub fn read(paths: &[PathBuf], gpus_of_type: fn(&str) -> Option<u32>) -> Manifests {
    read_keeping(paths, Vec::new(), gpus_of_type)
}

/// [`read`], keeping these labels and annotations of objects and their pods, too.
pub fn read_keeping(paths: &[PathBuf], labels: Vec<String>, gpus_of_type: fn(&str) -> Option<u32>) -> Manifests {
    let mut all = Manifests::new(gpus_of_type);
    all.keep_labels = labels;
    let mut documents = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let before = documents.len();
        let mut reading = Reading {
            documents: &mut documents,
            all: &mut all,
            failed: None,
        };
        if name == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin()
                .lock()
                .take(MAX_BYTES + 1)
                .read_to_end(&mut bytes)
                .map(|_| bytes);
            reading.add("<stdin>", parsed("<stdin>", read));
        } else if path.is_dir() {
            let found = below(path, reading.all);
            let parsed = in_parallel(&found, |found| match found {
                Found::File(file) => parsed(&file.display().to_string(), bounded(file)),
                Found::Unrendered(_, reason) => Err(reason.clone()),
            });
            for (Found::File(file) | Found::Unrendered(file, _), parsed) in found.iter().zip(parsed) {
                reading.add(&file.display().to_string(), parsed);
            }
        } else {
            reading.add(&name, parsed(&name, bounded(path)));
        }
        let failed = reading.failed.take();
        let found = documents.len() - before;
        all.sources.push(Source {
            kind: SourceKind::Manifest,
            name,
            // What lies in a folder loses only itself; what was named alone and gave nothing has failed.
            status: match (&failed, found) {
                (Some(_), 0) => SourceStatus::Failed,
                (Some(_), _) => SourceStatus::Partial,
                (None, _) => SourceStatus::Ok,
            },
            detail: match failed {
                Some(reason) if found == 0 => reason,
                _ => plural(found as u64, "object"),
            },
            named: true,
        });
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

/// The objects of a file, and what of it was not read.
struct OfFile {
    objects: Vec<Document>,
    /// It has nothing but documents that name no kind.
    nameless: bool,
    broken: Vec<yaml::Unread>,
    /// Lines of keys that stand twice.
    twice: Vec<u64>,
}

fn parsed(name: &str, read: io::Result<Vec<u8>>) -> Result<OfFile, String> {
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
            let found = yaml::parse(name, &bytes).map_err(|e| e.to_string())?;
            let mut objects = Vec::new();
            let nameless = found
                .documents
                .iter()
                .any(|d| d.value.is_object() && !d.value["kind"].is_string());
            for document in found.documents {
                flatten(document, &mut objects, 0);
            }
            Ok(OfFile {
                nameless: nameless && objects.is_empty() && found.broken.is_empty(),
                objects,
                broken: found.broken,
                twice: found.twice,
            })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What is read of one path that was named.
struct Reading<'a> {
    documents: &'a mut Vec<Document>,
    all: &'a mut Manifests,
    /// The first thing of it that was not read.
    failed: Option<String>,
}

impl Reading<'_> {
    fn add(&mut self, name: &str, parsed: Result<OfFile, String>) {
        let of_file = match parsed {
            Ok(of_file) => of_file,
            Err(reason) => {
                self.unread(name, "its manifests", reason);
                return;
            }
        };
        if of_file.nameless {
            self.all.gaps.push(Gap {
                source: name.into(),
                what: "its documents".into(),
                reason: "no document has a kind: it is no Kubernetes manifest, but perhaps the values of a Helm chart"
                    .into(),
                effect: "nothing of it is in the report".into(),
                remedy: "render the chart: 'helm template RELEASE CHART -f VALUES | gpuwaste check -'".into(),
            });
        }
        for line in of_file.twice.iter().take(3) {
            self.all.gaps.push(Gap {
                source: format!("{name}:{line}"),
                what: "a key that stands twice in one mapping".into(),
                reason: "the last one counts, as for kubectl and helm".into(),
                effect: "what stands under the first is not in the report".into(),
                remedy: "remove one of them".into(),
            });
        }
        let alone = of_file.objects.is_empty() && of_file.broken.len() == 1;
        for broken in of_file.broken {
            let what = if alone { "its manifests" } else { "one of its documents" };
            self.unread(name, what, broken.to_string());
        }
        self.documents.extend(of_file.objects);
    }

    fn unread(&mut self, name: &str, what: &str, reason: String) {
        self.all.gaps.push(Gap {
            source: name.into(),
            what: what.into(),
            reason: reason.clone(),
            effect: "what they ask for is not in the report".into(),
            remedy: "mend the file, or leave it out".into(),
        });
        self.failed.get_or_insert(if name == "<stdin>" {
            reason
        } else {
            format!("{name}: {reason}")
        });
    }
}

/// kustomize reads these names (sigs.k8s.io/kustomize, `RecognizedKustomizationFileNames`).
fn is_kustomization(path: &Path) -> bool {
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    path.file_name().is_some_and(|n| names.iter().any(|k| n == *k))
}

fn kustomize(folder: &Path) -> String {
    format!(
        "it is a kustomization that is not rendered: 'kubectl kustomize {} | gpuwaste check -' renders and checks it",
        gpuwaste_facts::text::shell_word(&folder.display().to_string())
    )
}

/// `List`s are what they hold.
fn flatten(document: Document, out: &mut Vec<Document>, depth: usize) {
    let Some(kind) = document.value["kind"].as_str() else {
        return;
    };
    if kind.ends_with("List") && depth < 4 && document.value["items"].is_array() {
        for item in document.into_items("items") {
            flatten(item, out, depth + 1);
        }
    } else if kind == "Template" && depth < 4 && document.value["objects"].is_array() {
        let filled = template::parameters(&document.value);
        for mut item in document.into_items("objects") {
            template::fill(&mut item.value, &filled, 0);
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
        value: serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": document.value["metadata"]["name"]}, SLIM: true}),
        lines: yaml::Lines::default(),
        ..document
    }
}

/// Marks what is left of an object that was not kept.
const SLIM: &str = "gpuwaste-not-kept";

fn is_slim(object: &serde_json::Value) -> bool {
    object[SLIM] == true
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
