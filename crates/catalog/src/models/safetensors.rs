//! Headers of safetensors files: names and sizes of tensors, without the tensors.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The library's own limit of a header (safetensors `MAX_HEADER_SIZE`).
pub const MAX_HEADER: u64 = 100_000_000;
/// Bytes before the header: its length, little endian.
pub const PREFIX: usize = 8;

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor(Tensor),
    Other {},
}

/// Length of the header by the file's first bytes, checked against the file's own length.
pub fn header_length(prefix: [u8; PREFIX], file_length: u64) -> Result<u64, String> {
    let length = u64::from_le_bytes(prefix);
    if length > MAX_HEADER || length + PREFIX as u64 > file_length {
        return Err(format!(
            "the safetensors header says it is {length} bytes long, in a file of {file_length}"
        ));
    }
    Ok(length)
}

/// Bytes of the tensors that an engine loads by default: layers of multi-token prediction are left out.
///
/// `layers`: the model's own; a layer numbered beyond them is one of prediction.
pub fn bytes(header: &[u8], file_length: u64, layers: Option<u32>) -> Result<u64, String> {
    let entries: BTreeMap<String, Entry> =
        serde_json::from_slice(header).map_err(|e| format!("the safetensors header is not valid: {e}"))?;
    let data = file_length.saturating_sub(header.len() as u64 + PREFIX as u64);
    let mut total = 0_u64;
    for (name, entry) in &entries {
        let Entry::Tensor(Tensor {
            data_offsets: (start, end),
        }) = entry
        else {
            if name == "__metadata__" {
                continue;
            }
            return Err(format!("tensor '{name}' does not say where its data lies"));
        };
        if start > end || *end > data {
            return Err(format!("tensor '{name}' lies at {start}..{end} of {data} bytes"));
        }
        if !is_prediction(name, layers) {
            total = total.saturating_add(end - start);
        }
    }
    if total > data {
        return Err(format!("tensors of {total} bytes overlap in {data}"));
    }
    Ok(total)
}

/// DeepSeek and GLM number their prediction layer after the last; Qwen calls it "mtp".
fn is_prediction(name: &str, layers: Option<u32>) -> bool {
    let numbered = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    name.starts_with("mtp.") || name.contains(".mtp.") || numbered.zip(layers).is_some_and(|(n, layers)| n >= layers)
}

/// `metadata.total_size` of `model.safetensors.index.json`.
pub fn index_total(text: &str) -> Option<u64> {
    let index: serde_json::Value = serde_json::from_str(text).ok()?;
    let total = index.get("metadata")?.get("total_size")?;
    total
        .as_u64()
        .or_else(|| total.as_f64().filter(|f| (0.0..1e15).contains(f)).map(|f| f as u64))
        .filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"model.layers.0.w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"model.layers.1.w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"mtp.w":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]}}"#;

    #[test]
    fn tensors_are_added_up_without_prediction_layers() {
        let length = HEADER.len() as u64 + 8 + 18;
        assert_eq!(bytes(HEADER.as_bytes(), length, None), Ok(16));
        assert_eq!(bytes(HEADER.as_bytes(), length, Some(1)), Ok(8));
        let short = bytes(HEADER.as_bytes(), length - 1, None).expect_err("cut off");
        assert!(short.contains("mtp.w"), "{short}");
    }

    #[test]
    fn a_header_longer_than_its_file_is_refused() {
        assert_eq!(header_length(100_u64.to_le_bytes(), 108), Ok(100));
        assert!(header_length(101_u64.to_le_bytes(), 108).is_err());
        assert!(header_length(u64::MAX.to_le_bytes(), u64::MAX).is_err());
        assert_eq!(
            index_total(r#"{"metadata":{"total_size":16060522496},"weight_map":{}}"#),
            Some(16_060_522_496)
        );
        assert_eq!(index_total("{}"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(mut text in proptest::collection::vec(any::<u8>(), 0..64), at in 0..200usize, byte in any::<u8>()) {
            let _ = bytes(&text, 1000, Some(1));
            text = HEADER.as_bytes().to_vec();
            let at = at % text.len();
            text[at] = byte;
            let _ = bytes(&text, 1000, Some(1));
        }
    }
}
