//! What was recorded, wherever it lies: files, folders, stdin, and objects of a store. Opened when it is its turn, one at a time.
//!
//! Who names a file wants that file, and an error where it cannot be read. Of a folder, and of a store, which may be away for a
//! while, what can be read is read; the rest is told and is a failed source.

mod fleet;

use super::{slips, snapshot_file};
use crate::collect::input;
use crate::snapshot::{Gap, Snapshot, Source, SourceKind, SourceStatus};
use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[cfg(feature = "object-store")]
use gpuwaste_objects::{Address, Store};
#[cfg(feature = "object-store")]
use std::rc::Rc;

pub(super) use fleet::{fleet, whole};

/// By which names snapshots and reports are known where nobody named them.
const NAMES: [&str; 3] = [".json", ".json.gz", ".json.zst"];
/// In a folder, with those below it: more is no folder of snapshots.
const MOST_FILES: usize = 100_000;
const DEEPEST: usize = 16;

/// One snapshot or report, not opened yet.
pub(super) struct Recorded {
    /// As it is told: the path, or the address.
    pub(super) name: String,
    place: Place,
}

enum Place {
    Stdin,
    /// Named: may be a pipe.
    File(PathBuf),
    /// Lies in a folder that was named.
    Found(PathBuf),
    #[cfg(feature = "object-store")]
    Object(Rc<Store>, String),
    /// A prefix that could not be listed.
    #[cfg(feature = "object-store")]
    Unlisted(String),
}

/// What could not be read, and why.
pub(super) struct Lost {
    pub(super) name: String,
    pub(super) why: anyhow::Error,
}

/// A series or a fleet, and whether its order is the user's own.
pub(super) struct Series {
    pub(super) all: Vec<Recorded>,
    as_named: bool,
}

/// What the user named, folders and prefixes opened up.
pub(super) fn named(paths: &[PathBuf]) -> Result<Series> {
    let mut series = Series {
        all: Vec::new(),
        as_named: true,
    };
    #[cfg(feature = "object-store")]
    let mut stores: Vec<Rc<Store>> = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        if text == "-" {
            series.push("stdin", Place::Stdin);
            continue;
        }
        #[cfg(feature = "object-store")]
        if let Some(address) = Address::parse(&text) {
            series.objects(&address.map_err(|why| anyhow!(why))?, &mut stores)?;
            continue;
        }
        if let Some((scheme, _)) = text.split_once("://").filter(|(s, _)| !s.contains('/')) {
            if scheme.eq_ignore_ascii_case("file") {
                series.file(&path_of_url(&text)?)?;
                continue;
            }
            bail!("{}", unknown_scheme(scheme));
        }
        series.file(path)?;
    }
    Ok(series)
}

fn unknown_scheme(scheme: &str) -> String {
    let known = ["s3", "gs", "az"].contains(&scheme.to_ascii_lowercase().as_str());
    if known && !cfg!(feature = "object-store") {
        return format!("{scheme}:// is read by a gpuwaste that was built with the feature 'object-store'");
    }
    format!("{scheme}://…: nothing is read there; s3://, gs://, az:// and file:// are known, and paths")
}

/// `file:///a%20b`: the path of this machine.
fn path_of_url(url: &str) -> Result<PathBuf> {
    let rest = url.get("file://".len()..).unwrap_or_default();
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    if !rest.starts_with('/') {
        bail!("{url}: file:///PATH is expected, with the whole path");
    }
    let path = percent_encoding::percent_decode_str(rest).decode_utf8();
    let path = path.map_err(|_| anyhow!("{url}: it is no UTF-8 text once decoded"))?;
    Ok(PathBuf::from(path.as_ref()))
}

fn is_snapshot(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    NAMES.iter().any(|end| name.ends_with(end)) && !name.starts_with('.')
}

fn nothing(others: usize) -> String {
    let names = NAMES.map(|n| format!("*{n}")).join(", ");
    match others {
        0 => "nothing lies there: look at the name".into(),
        n => format!("of the {n} there none is a snapshot by its name ({names}): name the folder that they are in"),
    }
}

impl Series {
    fn push(&mut self, name: impl Into<String>, place: Place) {
        self.all.push(Recorded {
            name: name.into(),
            place,
        });
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            self.push(path.display().to_string(), Place::File(path.into()));
            return Ok(());
        }
        let name = path.display().to_string();
        let (mut found, mut others) = (Vec::new(), 0);
        walk(path, 0, &mut found, &mut others).with_context(|| format!("could not read the folder {name}"))?;
        if found.is_empty() {
            bail!("{name}: {}", nothing(others));
        }
        found.sort();
        for path in found {
            self.push(path.display().to_string(), Place::Found(path));
        }
        self.as_named = false;
        Ok(())
    }

    /// An address that ends as snapshots do is one; any other is a folder, or an object if nothing lies below it.
    #[cfg(feature = "object-store")]
    fn objects(&mut self, address: &Address, stores: &mut Vec<Rc<Store>>) -> Result<()> {
        let store = if let Some(store) = stores.iter().find(|s| s.holds(address)) {
            store.clone()
        } else {
            let store = Rc::new(Store::open(address).map_err(|why| anyhow!("{address}: {why}"))?);
            stores.push(store.clone());
            store
        };
        let key = &address.key;
        if is_snapshot(key) {
            self.push(address.to_string(), Place::Object(store, key.clone()));
            return Ok(());
        }
        let folder = match key.as_str() {
            "" => String::new(),
            k if k.ends_with('/') => k.to_owned(),
            k => format!("{k}/"),
        };
        let listed = match store.list(&folder) {
            Ok(listed) => listed,
            Err(why) => {
                self.push(address.to_string(), Place::Unlisted(why.to_string()));
                return Ok(());
            }
        };
        let all = listed.len();
        let found: Vec<_> = listed.into_iter().filter(|o| is_snapshot(&o.key)).collect();
        if found.is_empty() {
            if all == 0 && !folder.is_empty() && folder != *key {
                self.push(address.to_string(), Place::Object(store, key.clone()));
            } else {
                self.push(address.to_string(), Place::Unlisted(nothing(all)));
            }
            return Ok(());
        }
        for object in found {
            self.push(
                address.at(&object.key).to_string(),
                Place::Object(store.clone(), object.key),
            );
        }
        self.as_named = false;
        Ok(())
    }

    /// By the time that each was taken at, where a folder or a prefix was named; as they were named else.
    pub(super) fn in_time(mut self) -> Self {
        if !self.as_named {
            // What cannot be read is told when it is its turn.
            self.all
                .sort_by_cached_key(|r| (r.taken_at().unwrap_or(Timestamp::MAX), r.name.clone()));
        }
        self
    }

    /// Reads one after another; what of a folder or a store cannot be read is told.
    ///
    /// # Errors
    /// A file that was named cannot be read, nothing can, or `take` says so.
    pub(super) fn each<T>(
        &self,
        read: impl Fn(&Recorded) -> Result<T>,
        mut take: impl FnMut(&Recorded, T) -> Result<()>,
    ) -> Result<Vec<Lost>> {
        let mut lost = Vec::new();
        for one in &self.all {
            one.taken(read(one), &mut take, &mut lost)?;
        }
        self.told(lost)
    }

    /// As [`Series::each`], but what is made of the bytes is made of two at a time; they are taken in order all the same.
    pub(super) fn each_judged<T: Send>(
        &self,
        judge: impl Fn(&str, &[u8]) -> Result<T> + Sync,
        mut take: impl FnMut(&Recorded, T) -> Result<()>,
    ) -> Result<Vec<Lost>> {
        let mut lost = Vec::new();
        let mut rest = self.all.iter();
        while let Some(one) = rest.next() {
            let bytes = one.bytes();
            let next = match &bytes {
                Ok(first) if is_small(first) => rest.next().map(|next| (next, next.bytes())),
                _ => None,
            };
            let made = |one: &Recorded, bytes: Result<Vec<u8>>| bytes.and_then(|b| judge(&one.name, &b));
            let Some((next, more)) = next else {
                one.taken(made(one, bytes), &mut take, &mut lost)?;
                continue;
            };
            let beside = more.as_deref().is_ok_and(is_small);
            let (name, judge) = (next.name.as_str(), &judge);
            let (first, second) = std::thread::scope(|threads| {
                let other = match more {
                    Ok(more) if beside => Ok(threads.spawn(move || judge(name, &more))),
                    more => Err(more),
                };
                let first = made(one, bytes);
                let second = match other {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    Err(more) => more.and_then(|b| judge(name, &b)),
                };
                (first, second)
            });
            one.taken(first, &mut take, &mut lost)?;
            next.taken(second, &mut take, &mut lost)?;
        }
        self.told(lost)
    }

    fn told(&self, mut lost: Vec<Lost>) -> Result<Vec<Lost>> {
        if lost.len() == self.all.len() && !lost.is_empty() {
            let n = lost.len();
            let first = lost.swap_remove(0).why;
            return Err(if n == 1 {
                first
            } else {
                first.context(format!("none of the {n} snapshots could be read; the first"))
            });
        }
        Ok(lost)
    }
}

/// Two of this size fit into the memory that one command is allowed, with room to spare: a snapshot of 1,000 GPUs is 95 kB
/// compressed and 6 MB not, and its judging takes 60 MiB (tests/bench/ledger.py).
fn is_small(bytes: &[u8]) -> bool {
    const COMPRESSED: usize = 256 << 10;
    const PLAIN: usize = 16 << 20;
    let most = if matches!(bytes.first(), Some(b'{' | b' ' | b'\n' | b'\t' | b'\r')) {
        PLAIN
    } else {
        COMPRESSED
    };
    bytes.len() <= most
}

/// Plain files by snapshots' names; folders that are links are not followed.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, others: &mut usize) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            if depth < DEEPEST {
                walk(&path, depth + 1, found, others)?;
            }
        } else if is_snapshot(&entry.file_name().to_string_lossy()) {
            found.push(path);
        } else {
            *others += 1;
        }
        if found.len() + *others > MOST_FILES {
            let why = format!("more than {MOST_FILES} files lie below it: name a folder of fewer");
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

impl Recorded {
    /// Hands on what was made of it; an error that is not the command's is lost.
    fn taken<T>(
        &self,
        made: Result<T>,
        take: &mut impl FnMut(&Self, T) -> Result<()>,
        lost: &mut Vec<Lost>,
    ) -> Result<()> {
        match made {
            Ok(told) => take(self, told)?,
            Err(why) if self.is_needed() => return Err(why),
            Err(why) => lost.push(Lost {
                name: self.name.clone(),
                why,
            }),
        }
        Ok(())
    }

    /// An error of it is the command's.
    fn is_needed(&self) -> bool {
        matches!(self.place, Place::Stdin | Place::File(_))
    }

    fn open(&self) -> Result<Box<dyn Read>> {
        Ok(match &self.place {
            Place::Stdin => Box::new(io::stdin().lock()),
            Place::File(path) => Box::new(File::open(path)?),
            Place::Found(path) => Box::new(input::open_found(path)?),
            #[cfg(feature = "object-store")]
            Place::Object(store, key) => Box::new(store.read(key)?),
            #[cfg(feature = "object-store")]
            Place::Unlisted(why) => bail!("{why}"),
        })
    }

    /// All of it, of a report or a snapshot.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let read = self.open().and_then(|source| Ok(input::read(source, input::PRINTED)?));
        read.with_context(|| format!("could not read {}", self.name))
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let name = &self.name;
        if let Place::Stdin = self.place {
            return snapshot_file::decode(self.open()?).context("could not read a snapshot from stdin");
        }
        let source = self
            .open()
            .with_context(|| format!("could not open the snapshot {name}"))?;
        snapshot_file::decode(source).with_context(|| format!("could not read the snapshot {name}"))
    }

    /// By its first bytes, where it was written in gpuwaste's own order; by all of it else.
    fn taken_at(&self) -> Option<Timestamp> {
        let head = snapshot_file::head(self.open().ok()?).ok()?;
        slips::taken_at(&head).or_else(|| Some(self.snapshot().ok()?.taken_at))
    }
}

impl Lost {
    /// Without the name, which is told before it.
    pub(super) fn reason(&self) -> String {
        let own = [
            format!("could not open the snapshot {}: ", self.name),
            format!("could not read the snapshot {}: ", self.name),
            format!("could not read {}: ", self.name),
        ];
        let told = format!("{:#}", self.why);
        own.iter()
            .find_map(|o| told.strip_prefix(o.as_str()))
            .map_or(told.clone(), str::to_owned)
    }

    /// For a report: a source that was asked for and failed.
    fn told(&self) -> (Source, Gap) {
        let reason = self.reason();
        let source = Source {
            kind: SourceKind::Snapshot,
            name: self.name.clone(),
            status: SourceStatus::Failed,
            detail: reason.clone(),
            named: true,
        };
        let gap = Gap {
            source: format!("snapshot {}", self.name),
            what: "its clusters".into(),
            reason,
            effect: "nothing of what it holds is in the report".into(),
            remedy: "mend it, or name the others without it".into(),
        };
        (source, gap)
    }
}

/// `--dry-run`: what would be asked for these.
pub(super) fn dry_run(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    #[cfg(feature = "object-store")]
    for path in paths {
        if let Some(address) = Address::parse(&path.to_string_lossy()) {
            let address = address.map_err(|why| anyhow!(why))?;
            lines.extend(gpuwaste_objects::dry_run(&address, !is_snapshot(&address.key)));
        }
    }
    if lines.is_empty() {
        named(paths)?;
        lines.push("no network at all: snapshots are files".into());
    }
    Ok(lines)
}
