//! What tells of a model: config.json, GGUF and safetensors headers, and names.
#![no_main]

use gpuwaste_catalog::models::{self, gguf, parse_config, safetensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let facts = match kind % 4 {
        0 => gguf::parse("fuzz", &mut &*rest).ok(),
        1 => std::str::from_utf8(rest)
            .ok()
            .and_then(|text| parse_config("fuzz", text).ok()),
        2 => {
            let _ = safetensors::bytes(rest, rest.len() as u64 + 8, Some(2));
            if let Some(prefix) = rest.first_chunk() {
                let _ = safetensors::header_length(*prefix, rest.len() as u64);
            }
            std::str::from_utf8(rest).ok().and_then(safetensors::index_total);
            None
        }
        _ => std::str::from_utf8(rest).ok().and_then(|text| {
            models::nearest(text);
            models::resolve(text);
            models::from_name(text)
        }),
    };
    if let Some(layers) = facts.and_then(|f| f.layers()) {
        assert!(layers > 0, "a model without layers");
    }
});
