//! The ledger's folder: files read whole, events appended one writer at a time.

use crate::entry::{self, Entry, Event, Outcome};
use crate::select::is_id;
use crate::standing::Book;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder where no other is named.
pub const DEFAULT: &str = "gpuwaste.ledger";

/// A folder of decisions.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// No finding is decided so often that its file is larger.
const LARGEST: u64 = 16 << 20;

/// What is appended to the file of one finding.
#[derive(Clone, Debug)]
pub struct Append {
    /// Written where the finding has no file yet; its events are the first.
    pub entry: Entry,
    pub events: Vec<Event>,
    pub outcomes: Vec<Outcome>,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.toml"))
    }

    /// Everything in it. Other files than `*.toml` are none of ours.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn read(&self) -> Result<Book, String> {
        let name = self.path.display();
        let listed = fs::read_dir(&self.path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no ledger {name}: 'gpuwaste decide' makes one, --ledger DIR names another")
            }
            _ => format!("could not read the ledger {name}: {e}"),
        })?;
        let mut files = Vec::new();
        for item in listed {
            let path = item
                .map_err(|e| format!("could not read the ledger {name}: {e}"))?
                .path();
            if path.extension().is_some_and(|e| e == "toml") {
                files.push(path);
            }
        }
        files.sort();
        // Thousands of small files: the parts of the list are read side by side.
        let parts = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let size = files.len().div_ceil(parts).max(1);
        let read = std::thread::scope(|scope| {
            let workers: Vec<_> = files
                .chunks(size)
                .map(|part| scope.spawn(move || part.iter().map(|f| read_file(f)).collect::<Result<Vec<_>, _>>()))
                .collect();
            workers
                .into_iter()
                .map(|w| w.join().unwrap_or_else(|_| Err("reading the ledger failed".into())))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let entries = read.into_iter().flatten().map(|e| (e.finding.id.clone(), e));
        Ok(Book {
            entries: entries.collect(),
        })
    }

    /// As [`Self::read`]; a folder that is not there is an empty ledger.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn read_or_empty(&self) -> Result<Book, String> {
        if self.path.exists() {
            self.read()
        } else {
            Ok(Book::default())
        }
    }

    /// Appends to the file of one finding. One writer at a time: what another one wrote in between is read first and kept.
    ///
    /// # Errors
    /// Names the file and what is wrong; nothing is written then.
    pub fn append(&self, add: &Append) -> Result<PathBuf, String> {
        let id = &add.entry.finding.id;
        if !is_id(id) {
            return Err(format!("'{}' is no id of a finding", id.escape_debug()));
        }
        let name = self.path.display();
        let failed = |e: io::Error| format!("could not write the ledger {name}: {e}");
        fs::create_dir_all(&self.path).map_err(failed)?;
        let lock = File::open(&self.path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let path = self.file(id);
        let mut text = match fs::read_to_string(&path) {
            Ok(text) => {
                let known = Entry::parse(&text, id).map_err(|why| format!("{}: {why}", path.display()))?;
                forward(&known, &add.events).map_err(|why| format!("{}: {why}", path.display()))?;
                text
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let bare = Entry {
                    events: Vec::new(),
                    outcomes: Vec::new(),
                    ..add.entry.clone()
                };
                bare.print()?
            }
            Err(e) => return Err(failed(e)),
        };
        for event in &add.events {
            text.push_str(&entry::block(Some(event), None)?);
        }
        for outcome in &add.outcomes {
            text.push_str(&entry::block(None, Some(outcome))?);
        }
        // What cannot be read back is not written.
        Entry::parse(&text, id).map_err(|why| format!("{}: {why}", path.display()))?;
        let part = self.path.join(format!(".{id}.part"));
        let written = File::create(&part).and_then(|mut f| {
            f.write_all(text.as_bytes())?;
            f.sync_all()
        });
        written.and_then(|()| fs::rename(&part, &path)).map_err(failed)?;
        Ok(path)
    }
}

/// An event is never older than the last one: of two clocks one is wrong, and the order of events is what they mean.
fn forward(known: &Entry, events: &[Event]) -> Result<(), String> {
    let last = known.events.iter().map(|e| e.at).max();
    let first = events.iter().map(|e| e.at).min();
    match (last, first) {
        (Some(last), Some(first)) if first < last && !events.iter().all(|e| e.inferred) => Err(format!(
            "its last event is of {last}, and this clock says {first}: a clock runs backwards; set it right, or wait"
        )),
        _ => Ok(()),
    }
}

fn read_file(path: &Path) -> Result<Entry, String> {
    let name = path.display();
    let id = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    if !is_id(id) {
        return Err(format!(
            "{name}: its name is no id of a finding: a ledger holds one file a finding"
        ));
    }
    // Nobody waits in a folder for a pipe.
    let plain = path.metadata().and_then(|m| match m.len() {
        _ if !m.is_file() => Err(io::Error::other("it is no plain file")),
        0..=LARGEST => Ok(()),
        _ => Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20))),
    });
    let text = plain
        .and_then(|()| fs::read_to_string(path))
        .map_err(|e| format!("could not read {name}: {e}"))?;
    Entry::parse(&text, id).map_err(|why| format!("{name}: {why}"))
}

/// The second that an event is of.
pub fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
