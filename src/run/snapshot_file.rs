//! Snapshots on disk: plain, gzip or zstd JSON, by their content when read and by their name when written.

use super::file;
use super::slips::{self, Document};
use crate::snapshot::{SCHEMA, Snapshot, bounds, secrets};
use anyhow::{Context, Result, bail};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// No fleet's snapshot is larger decompressed (50,000 pods take about 100 MB); more is a bomb or a mistake.
const MAX_BYTES: u64 = 2 << 30;
/// What is held as text: of a larger one the rest is decoded as it comes, which is slower.
const HELD_BYTES: u64 = 256 << 20;

/// `taken_at` stands in them where gpuwaste wrote it.
const HEAD_BYTES: usize = 4 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Decodes a snapshot, whatever its compression.
pub(crate) fn decode(source: impl Read) -> Result<Snapshot> {
    whole_or_stream(unpacked(source).map_err(broken)?)
}

fn unpacked<'r>(source: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut source = BufReader::new(source);
    let mut magic = [0; 4];
    let seen = read_up_to(&mut source, &mut magic)?;
    let whole = io::Cursor::new(magic[..seen].to_vec()).chain(source);
    Ok(if magic.starts_with(&GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if magic == ZSTD {
        Box::new(zstd::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    })
}

/// So much of the beginning, unpacked, as holds what a document says of itself.
pub(crate) fn head(source: impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let seen = read_up_to(&mut unpacked(source)?, &mut head)?;
    head.truncate(seen);
    Ok(head)
}

const DAMAGED: &str = "the file is cut off or damaged: record it again with 'gpuwaste collect'";

/// A connection that broke off is no damaged file.
fn broken(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return error.into();
    }
    anyhow::Error::from(error).context(DAMAGED)
}

fn whole_or_stream(mut source: impl Read) -> Result<Snapshot> {
    let mut text = Vec::new();
    source
        .by_ref()
        .take(HELD_BYTES)
        .read_to_end(&mut text)
        .map_err(broken)?;
    if (text.len() as u64) < HELD_BYTES {
        return parse(&text);
    }
    let mut rest = io::Cursor::new(text).chain(source).take(MAX_BYTES);
    let read = serde_json::from_reader::<_, Snapshot>(BufReader::new(&mut rest));
    if rest.limit() == 0 {
        bail!("it is larger than 2 GiB decompressed, which no snapshot is");
    }
    match read {
        Err(error) if error.is_io() => Err(broken(error.into())),
        Err(error) => Err(explain(&error)),
        Ok(snapshot) => checked(snapshot),
    }
}

/// A newer snapshot is refused in words rather than by a field: the schema is looked at alone where the whole does not read.
fn parse(text: &[u8]) -> Result<Snapshot> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema: Option<u32>,
    }
    let text = slips::without_mark(text);
    if text.iter().all(u8::is_ascii_whitespace) {
        bail!(
            "it is empty: record it again with 'gpuwaste collect'; from a pipe, look whether the command before wrote anything"
        );
    }
    if let Some(what) = slips::instead(text) {
        bail!("not a gpuwaste snapshot: {what}");
    }
    match slips::document(text) {
        Document::Report => bail!(
            "not a gpuwaste snapshot: it is a report: 'gpuwaste show --report FILE 1' looks into it, 'gpuwaste diff' compares it; scan reads what 'gpuwaste collect -o FILE' records"
        ),
        Document::Baseline => bail!("not a gpuwaste snapshot: it is a baseline: give it with --baseline"),
        Document::Snapshot | Document::Unknown => {}
    }
    let whole: Result<Snapshot, serde_json::Error> = serde_json::from_slice(text);
    let schema = match &whole {
        Ok(snapshot) => Some(snapshot.schema),
        Err(_) => serde_json::from_slice::<Head>(text).map_err(|e| explain(&e))?.schema,
    };
    match schema {
        None => {
            bail!("it has no 'schema' field: not a gpuwaste snapshot (a report? 'gpuwaste collect' records snapshots)")
        }
        Some(schema) if schema > SCHEMA => Err(newer(schema)),
        Some(_) => checked(whole.map_err(|e| explain(&e))?),
    }
}

fn newer(schema: u32) -> anyhow::Error {
    anyhow::anyhow!(
        "it has schema {schema}, this gpuwaste reads up to {SCHEMA}: use the gpuwaste that recorded it, or a newer one"
    )
}

/// What a snapshot holds that cannot be, or may not leave, is gone.
fn checked(mut snapshot: Snapshot) -> Result<Snapshot> {
    if snapshot.schema > SCHEMA {
        return Err(newer(snapshot.schema));
    }
    let odd = bounds::check(&mut snapshot);
    snapshot.gaps.extend(odd);
    secrets::scrub(&mut snapshot);
    Ok(snapshot)
}

fn explain(error: &serde_json::Error) -> anyhow::Error {
    if error.is_eof() {
        anyhow::anyhow!(
            "the JSON ends in the middle (line {}): the file was cut off; record it again",
            error.line()
        )
    } else {
        anyhow::anyhow!("not a gpuwaste snapshot: {error}")
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut seen = 0;
    while seen < buffer.len() {
        match source.read(&mut buffer[seen..])? {
            0 => break,
            n => seen += n,
        }
    }
    Ok(seen)
}

/// Writes a snapshot; a name ending in .gz or .zst is compressed. A regular file is replaced whole or not at all.
pub(crate) fn write(snapshot: &Snapshot, path: &Path) -> Result<()> {
    if path.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        serde_json::to_writer(&mut out, snapshot)?;
        out.write_all(b"\n")?;
        return Ok(out.flush()?);
    }
    file::replace(path, |out| encode(snapshot, out, path))
        .with_context(|| format!("could not write the snapshot {}", path.display()))
}

fn encode(snapshot: &Snapshot, out: impl Write, path: &Path) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => {
            // No time or name in the header: the same snapshot is the same file.
            let mut out = flate2::GzBuilder::new()
                .mtime(0)
                .write(out, flate2::Compression::best());
            serde_json::to_writer(&mut out, snapshot)?;
            out.finish()?.flush()?;
        }
        Some("zst") => {
            let mut out = zstd::Encoder::new(out, 12)?;
            serde_json::to_writer(&mut out, snapshot)?;
            out.finish()?.flush()?;
        }
        _ => {
            let mut out = out;
            serde_json::to_writer(&mut out, snapshot)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn read(path: &Path) -> Result<Snapshot> {
        decode(File::open(path)?).with_context(|| path.display().to_string())
    }

    fn sample() -> Snapshot {
        Snapshot {
            schema: SCHEMA,
            tool_version: "0.1.0".into(),
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            window_seconds: None,
            observe_seconds: Some(10),
            clusters: Vec::new(),
            sources: Vec::new(),
            gaps: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_survives_every_compression() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s.json", "s.json.gz", "s.json.zst"] {
            let path = dir.path().join(name);
            write(&sample(), &path).unwrap();
            assert_eq!(read(&path).unwrap(), sample(), "{name}");
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            3,
            "no partial files stay behind"
        );
    }

    #[test]
    fn a_snapshot_cut_in_half_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s.json", "s.json.gz", "s.json.zst"] {
            let path = dir.path().join(name);
            write(&sample(), &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains("cut off") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_in_words() {
        let error = format!("{:#}", decode(&br#"{"schema": 99, "unheard": {}}"#[..]).unwrap_err());
        assert!(error.contains("schema 99") && error.contains("newer"), "{error}");
        let error = format!("{:#}", decode(&b"{}"[..]).unwrap_err());
        assert!(error.contains("no 'schema' field"), "{error}");
        assert!(format!("{:#}", decode(&b"\n"[..]).unwrap_err()).contains("empty"));
        assert!(format!("{:#}", decode(&b"PK\x03\x04zip"[..]).unwrap_err()).contains("not a gpuwaste snapshot"));
    }

    #[test]
    fn no_bytes_make_reading_a_snapshot_panic() {
        // A linear congruential generator (Knuth's constants): the same bytes every time.
        let mut state = 29_u64;
        let mut below = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let whole = include_bytes!("../../fixtures/demo/snapshot.json.zst");
        let mut text = zstd::decode_all(&whole[..]).unwrap();
        text.truncate(200_000);
        for _ in 0..400 {
            let mut bytes = text.clone();
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(3) {
                    0 => bytes[at] = below(256) as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.splice(at..at, [b'{', b'"', b'[', 0xff])),
                }
            }
            assert!(!format!("{:#}", decode(bytes.as_slice()).unwrap_err()).is_empty());
        }
    }
}
