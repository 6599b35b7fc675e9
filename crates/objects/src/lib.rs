//! What lies in object storage: listed and read, never written. One bucket is a [`Store`]; an object is a [`Reader`].
//!
//! Nothing is asked of anybody but the endpoint of the named bucket and whoever hands out the tokens that the environment names
//! (see `gate`). No error repeats what a store said beyond its status and its own word for it.

mod address;
mod gate;
mod open;

pub use address::{Address, Cloud};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use gate::{Gate, Trouble};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout_at};

/// Says that the metadata service of the machine may be asked for credentials.
pub const INSTANCE: &str = "GPUWASTE_INSTANCE_CREDENTIALS";
/// More objects below one prefix than anybody wants read at once.
pub const MOST_OBJECTS: usize = 100_000;
/// A list, or one object, takes no longer.
const LONGEST: Duration = Duration::from_secs(600);

/// What would be asked for an address, one request a line; nothing is.
pub fn dry_run(address: &Address, list: bool) -> Vec<String> {
    open::dry_run(address, list)
}

/// Lists and reads.
trait Both: ObjectStore + PaginatedListStore {}
impl<S: ObjectStore + PaginatedListStore> Both for S {}

/// Why something could not be read, and the way out. It names no object: who asked knows it.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// One bucket.
pub struct Store {
    runtime: Arc<Runtime>,
    inner: Arc<dyn Both>,
    gate: Gate,
    bucket: Address,
}

/// What a list says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
}

impl Store {
    /// The bucket of an address, with what the environment says of endpoint, region and credentials. Nothing is asked yet.
    ///
    /// # Errors
    /// What the environment says does not go together.
    pub fn open(address: &Address) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure(format!("could not start the I/O runtime: {e}")))?;
        let (inner, gate) = open::open(address)?;
        Ok(Self {
            runtime: Arc::new(runtime),
            inner,
            gate,
            bucket: address.at(""),
        })
    }

    /// Whether the address is of this bucket.
    pub fn holds(&self, address: &Address) -> bool {
        self.bucket == address.at("")
    }

    /// All objects whose keys begin so, by their keys.
    ///
    /// # Errors
    /// The list could not be read to its end, or is too long.
    pub fn list(&self, prefix: &str) -> Result<Vec<Object>, Failure> {
        let by = Instant::now() + LONGEST;
        let mut all = Vec::new();
        let mut page = None;
        loop {
            let options = PaginatedListOptions {
                page_token: page,
                ..PaginatedListOptions::default()
            };
            let prefix = Some(prefix).filter(|p| !p.is_empty());
            self.gate.trouble();
            let asked = async { timeout_at(by, self.inner.list_paginated(prefix, options)).await };
            let told = self.runtime.block_on(asked).map_err(|_| too_long())?;
            let told = told.map_err(|e| self.explain(&e, What::List))?;
            all.extend(told.result.objects.into_iter().map(|o| Object {
                key: o.location.to_string(),
                bytes: o.size,
            }));
            if all.len() > MOST_OBJECTS {
                return Err(Failure(format!(
                    "more than {MOST_OBJECTS} objects begin so: name a longer prefix, such as one day's"
                )));
            }
            page = told.page_token;
            if page.is_none() {
                break;
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// An object, from its beginning.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    pub fn read(&self, key: &str) -> Result<Reader, Failure> {
        let path = Path::parse(key).map_err(|e| Failure(format!("no store has an object of that name: {e}")))?;
        let by = Instant::now() + LONGEST;
        self.gate.trouble();
        let asked = async { timeout_at(by, self.inner.get_opts(&path, GetOptions::default())).await };
        let got = self.runtime.block_on(asked).map_err(|_| too_long())?;
        let got = got.map_err(|e| self.explain(&e, What::Object))?;
        if got.meta.size > gate::MOST_OF_OBJECT as u64 {
            return Err(Failure(format!(
                "it is larger than {} MiB, which no snapshot is",
                gate::MOST_OF_OBJECT >> 20
            )));
        }
        Ok(Reader {
            runtime: self.runtime.clone(),
            expected: got.meta.size,
            stream: got.into_stream(),
            chunk: Bytes::new(),
            seen: 0,
            by,
            gate: self.gate.clone(),
        })
    }

    fn explain(&self, error: &object_store::Error, what: What) -> Failure {
        Failure(match self.gate.trouble() {
            Some(trouble) => open::explain(&self.bucket, &trouble, what),
            // Nothing was asked: what the environment says is odd, or an answer was.
            None => open::without_secrets(&error.to_string()),
        })
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    List,
    Object,
}

fn too_long() -> Failure {
    Failure(format!("it took longer than {} s", LONGEST.as_secs()))
}

/// The bytes of an object. An answer that breaks off is taken up again where it broke, if the object is still the same.
pub struct Reader {
    runtime: Arc<Runtime>,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    seen: u64,
    expected: u64,
    by: Instant,
    gate: Gate,
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // No damaged file: told apart by its kind.
        let lost = |why: String| io::Error::new(io::ErrorKind::ConnectionAborted, Failure(why));
        while self.chunk.is_empty() {
            self.gate.trouble();
            let next = async { timeout_at(self.by, self.stream.next()).await };
            match self.runtime.block_on(next).map_err(|_| lost(too_long().0))? {
                Some(Ok(bytes)) => {
                    self.seen += bytes.len() as u64;
                    self.chunk = bytes;
                }
                Some(Err(_)) => {
                    let why = match self.gate.trouble() {
                        Some(Trouble::Lost(why)) => why,
                        Some(Trouble::Status(status, _)) => format!("the store answered {status}"),
                        _ => "it changed meanwhile".into(),
                    };
                    return Err(lost(format!(
                        "after {} of {} bytes {why}; try again",
                        self.seen, self.expected
                    )));
                }
                None => return Ok(0),
            }
        }
        let part = self.chunk.split_to(out.len().min(self.chunk.len()));
        out[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}
