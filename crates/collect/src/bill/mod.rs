//! A bill in the form of FOCUS (`--focus`): what each machine really cost. A file of CSV, plain or packed by gzip, or a folder of
//! such files; read row by row, and of each machine its last days are kept.

mod rate;
mod row;
#[cfg(test)]
mod tests;

use crate::catalog::bill::Bill;
use crate::input;
use crate::machine;
use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use rate::{Machine, Unused};
use row::{Charge, Columns, Commitment};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Folders below the one that was named: exports lie in one a period.
const DEPTH: usize = 4;
/// Files that one folder may hold.
const MOST_FILES: usize = 10_000;

/// US dollars of one unit of each currency that was given.
pub type Rates = BTreeMap<String, f64>;

/// Reads all files, as one bill.
///
/// # Errors
/// A file that cannot be read or is no FOCUS export, with its name and what was expected; a currency without its rate; a bill in which
/// no row can be read.
pub fn read(paths: &[PathBuf], rates: &Rates) -> Result<Bill> {
    let mut reading = Reading::new(rates);
    let mut names = Vec::new();
    for path in paths {
        let shown = path.display();
        names.push(
            path.file_name()
                .map_or_else(|| shown.to_string(), |n| n.to_string_lossy().into_owned()),
        );
        let folder = path.is_dir();
        let files = if folder { files(path)? } else { vec![path.clone()] };
        if files.is_empty() {
            bail!("--focus {shown}: no .csv or .csv.gz file is in it");
        }
        for file in files {
            let open = if folder {
                input::open_found(&file)
            } else {
                File::open(&file)
            };
            let read = open.map_err(Into::into).and_then(|f| reading.file(f));
            read.with_context(|| format!("--focus {}", file.display()))?;
        }
    }
    reading.done(names.join(", "))
}

/// Exports of a folder and of those in it, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), DEPTH)];
    while let Some((folder, depth)) = open.pop() {
        let entries = folder
            .read_dir()
            .with_context(|| format!("--focus {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if kind.is_dir() && depth > 0 {
                open.push((entry.path(), depth - 1));
            } else if [".csv", ".csv.gz"].iter().any(|end| name.ends_with(end)) {
                found.push(entry.path());
            } else if name.ends_with(".parquet") {
                bail!("--focus {}: {PARQUET}", entry.path().display());
            }
            if found.len() > MOST_FILES {
                bail!("--focus {}: more than {MOST_FILES} files are in it", folder.display());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What stands between the names of the first line: a spreadsheet of some countries writes semicolons.
fn separator(head: &[u8]) -> u8 {
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\n').next().unwrap_or_default());
    let count = |of: u8| line.matches(char::from(of)).count();
    [b',', b';', b'\t']
        .into_iter()
        .rev()
        .max_by_key(|of| count(*of))
        .unwrap_or(b',')
}

const PARQUET: &str =
    "Parquet is not read: export CSV, or turn it into CSV (duckdb -c \"COPY (FROM 'FILE.parquet') TO 'FILE.csv'\")";

struct Reading<'r> {
    rates: &'r Rates,
    machines: BTreeMap<String, Machine>,
    unused: BTreeMap<&'static str, Unused>,
    /// The last day that anything was charged, in days since 1970.
    ends: i64,
    charges: u64,
    /// Rows that were there already.
    repeated: u64,
    /// Rows that could not be read, and why the first could not.
    bad: u64,
    why: Option<String>,
}

impl<'r> Reading<'r> {
    fn new(rates: &'r Rates) -> Self {
        Self {
            rates,
            machines: BTreeMap::new(),
            unused: BTreeMap::new(),
            ends: i64::MIN,
            charges: 0,
            repeated: 0,
            bad: 0,
            why: None,
        }
    }

    fn file(&mut self, source: impl Read) -> Result<()> {
        let mut source = BufReader::new(source);
        let head = source.fill_buf()?;
        if head.is_empty() {
            bail!("it is empty");
        }
        match head {
            [0x1f, 0x8b, ..] => self.csv(MultiGzDecoder::new(source)),
            [b'P', b'A', b'R', b'1', ..] => bail!("{PARQUET}"),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => bail!("it is UTF-16 text: write it as UTF-8"),
            [b'{' | b'[' | b'<', ..] => bail!("it is no CSV: an export in the form of FOCUS 1.0 to 1.2 is expected"),
            _ => self.csv(source),
        }
    }

    fn csv(&mut self, source: impl Read) -> Result<()> {
        let mut source = BufReader::new(source);
        let delimiter = separator(source.fill_buf()?);
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(source);
        let header = reader.byte_headers()?.clone();
        let names: Vec<String> = header.iter().map(|h| String::from_utf8_lossy(h).into_owned()).collect();
        let columns = Columns::of(names.iter().map(String::as_str)).map_err(anyhow::Error::msg)?;
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record)? {
            let field = |at: usize| record.get(at).and_then(|b| std::str::from_utf8(b).ok());
            match row::charge(&columns, field) {
                Ok(Some(charge)) => self.take(&charge, rate::hash(record.as_slice()))?,
                Ok(None) => self.charges += 1,
                Err(why) => {
                    self.bad += 1;
                    let line = record.position().map_or(0, csv::Position::line);
                    self.why.get_or_insert_with(|| format!("line {line}: {why}"));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, charge: &Charge<'_>, row: u64) -> Result<()> {
        self.charges += 1;
        let usd = charge.cost * self.rate(charge.currency)?;
        self.ends = self.ends.max((charge.to.as_second() - 1).div_euclid(86_400));
        if charge.commitment == Commitment::Unused {
            if let Some(kind) = rate::gpu_type(&charge.words) {
                let new = self.unused.entry(kind).or_default().add(charge, usd, row);
                self.repeated += u64::from(!new);
            }
            return Ok(());
        }
        if let Some(name) = machine::of_resource(charge.resource, charge.name) {
            let new = self.machines.entry(name).or_default().add(charge, usd, row);
            self.repeated += u64::from(!new);
        }
        Ok(())
    }

    fn rate(&self, currency: Option<&str>) -> Result<f64> {
        let Some(currency) = currency.filter(|c| !c.eq_ignore_ascii_case("usd")) else {
            return Ok(1.0);
        };
        let currency = currency.to_ascii_uppercase();
        let shown: String = currency.chars().take(8).collect();
        let rate = self.rates.get(&currency).copied();
        rate.with_context(|| {
            format!("it is in {shown}: say what one {shown} is in US dollars, such as --currency-rate {shown}=1.08")
        })
    }

    fn done(self, name: String) -> Result<Bill> {
        if self.charges == 0 {
            match self.why {
                Some(why) => bail!("--focus {name}: no row can be read; {why}"),
                None => bail!("--focus {name}: it has no row"),
            }
        }
        let mut bill = Bill {
            name,
            unused: self
                .unused
                .into_iter()
                .filter_map(|(kind, u)| Some((kind, u.usd_per_hour(self.ends)?)))
                .collect(),
            repeated: self.repeated,
            bad_rows: self.why.map(|why| (self.bad, why)),
            ..Bill::default()
        };
        for (name, machine) in self.machines {
            match machine.billed(self.ends) {
                Ok(billed) => drop(bill.machines.insert(name, billed)),
                Err(why) => drop(bill.unpriced.insert(name, why)),
            }
        }
        Ok(bill)
    }
}
