//! Headers of GGUF files (llama.cpp's format, versions 2 and 3): metadata and sizes of tensors, without the tensors.

use super::{ModelFacts, ModelSource, parse_config};
use crate::units::Bytes;
use serde_json::{Map, Value, json};
use std::io::Read;

/// Headers hold the tokenizer: 256,000 tokens with their merges are about 12 MB. A header beyond this is corrupt.
const MAX_HEADER: u64 = 256 << 20;
/// A string longer than this is skipped, not kept (chat templates are shorter).
const MAX_TEXT: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 20;

/// Reads no more than the header's budget.
struct Reader<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|_| cut())?;
        Ok(bytes)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), String> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| format!("the GGUF header is longer than {} MiB", MAX_HEADER >> 20))?;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.take().map(u64::from_le_bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.spend(bytes)?;
        let copied = std::io::copy(&mut (&mut *self.inner).take(bytes), &mut std::io::sink()).map_err(|_| cut())?;
        if copied == bytes { Ok(()) } else { Err(cut()) }
    }

    /// Text, or nothing where it is too long to be of use.
    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        if length > MAX_TEXT {
            self.skip(length)?;
            return Ok(String::new());
        }
        self.spend(length)?;
        let mut bytes = vec![0; length as usize];
        self.inner.read_exact(&mut bytes).map_err(|_| cut())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A value of the given type; arrays of text only by their length, arrays of numbers by their largest.
    fn value(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => json!(self.take::<1>()?[0]),
            1 => json!(i8::from_le_bytes(self.take()?)),
            2 => json!(u16::from_le_bytes(self.take()?)),
            3 => json!(i16::from_le_bytes(self.take()?)),
            4 => json!(self.u32()?),
            5 => json!(i32::from_le_bytes(self.take()?)),
            6 => json!(f32::from_le_bytes(self.take()?)),
            7 => json!(self.take::<1>()?[0] != 0),
            8 => json!(self.text()?),
            9 => return self.array(),
            10 => json!(self.u64()?),
            11 => json!(i64::from_le_bytes(self.take()?)),
            12 => json!(f64::from_le_bytes(self.take()?)),
            other => return Err(format!("the GGUF header has a value of unknown type {other}")),
        })
    }

    fn array(&mut self) -> Result<Value, String> {
        let kind = self.u32()?;
        let length = self.u64()?;
        if kind == 9 {
            return Err("the GGUF header nests arrays".into());
        }
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            _ => 8,
        };
        if length.saturating_mul(least) > self.left {
            return Err(format!("the GGUF header has an array of {length} values"));
        }
        let mut largest = Value::Null;
        for _ in 0..length {
            let value = self.value(kind)?;
            if value.as_f64() > largest.as_f64() {
                largest = value;
            }
        }
        Ok(json!({ "length": length, "largest": largest }))
    }
}

fn cut() -> String {
    "the GGUF header is cut off".into()
}

/// Elements and bytes of a block of each tensor type (gguf's `GGML_QUANT_SIZES`), and its name.
fn block(kind: u32) -> Option<(u64, u64, &'static str)> {
    Some(match kind {
        0 => (1, 4, "F32"),
        1 => (1, 2, "F16"),
        2 => (32, 18, "Q4_0"),
        3 => (32, 20, "Q4_1"),
        6 => (32, 22, "Q5_0"),
        7 => (32, 24, "Q5_1"),
        8 => (32, 34, "Q8_0"),
        9 => (32, 40, "Q8_1"),
        10 => (256, 84, "Q2_K"),
        11 => (256, 110, "Q3_K"),
        12 => (256, 144, "Q4_K"),
        13 => (256, 176, "Q5_K"),
        14 => (256, 210, "Q6_K"),
        15 => (256, 292, "Q8_K"),
        16 => (256, 66, "IQ2_XXS"),
        17 => (256, 74, "IQ2_XS"),
        18 => (256, 98, "IQ3_XXS"),
        19 => (256, 50, "IQ1_S"),
        20 => (32, 18, "IQ4_NL"),
        21 => (256, 110, "IQ3_S"),
        22 => (256, 82, "IQ2_S"),
        23 => (256, 136, "IQ4_XS"),
        24 => (1, 1, "I8"),
        25 => (1, 2, "I16"),
        26 => (1, 4, "I32"),
        27 | 28 => (1, 8, "I64"),
        29 => (256, 56, "IQ1_M"),
        30 => (1, 2, "BF16"),
        34 => (256, 54, "TQ1_0"),
        35 => (256, 66, "TQ2_0"),
        39 => (32, 17, "MXFP4"),
        40 => (64, 36, "NVFP4"),
        _ => return None,
    })
}

/// `general.file_type` (llama.cpp's `llama_ftype`): the mix that the file was made with.
fn file_type(number: u64) -> Option<&'static str> {
    Some(match number {
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        38 => "MXFP4",
        _ => return None,
    })
}

struct Tensors {
    bytes: u64,
    elements: u64,
    /// The last table of the embedding: hidden × vocabulary.
    vocabulary: Option<u64>,
    separate_head: bool,
    biased: bool,
}

/// Facts of the model in a GGUF file: its own metadata, and the exact bytes of its tensors.
pub fn parse(id: &str, reader: &mut dyn Read) -> Result<ModelFacts, String> {
    let mut reader = Reader {
        inner: reader,
        left: MAX_HEADER,
    };
    if &reader.take::<4>()? != b"GGUF" {
        return Err("not a GGUF file: it does not start with 'GGUF'".into());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version} is not known (2 and 3 are)"));
    }
    let tensors = reader.u64()?;
    let pairs = reader.u64()?;
    if tensors > MAX_TENSORS || pairs > MAX_TENSORS {
        return Err(format!(
            "the GGUF header says it has {tensors} tensors and {pairs} values"
        ));
    }
    let mut metadata = Map::new();
    for _ in 0..pairs {
        let key = reader.text()?;
        let kind = reader.u32()?;
        let value = reader.value(kind)?;
        metadata.insert(key, value);
    }
    let tensors = sizes(&mut reader, tensors)?;
    let config = config(&metadata, &tensors)?;
    let mut facts = parse_config(id, &config.to_string())?;
    facts.source = ModelSource::Weights;
    facts.parameters = Some(tensors.elements);
    facts.file_bytes = Some(Bytes(tensors.bytes));
    facts.tower_parameters = 0;
    let kind = metadata.get("general.file_type").and_then(Value::as_u64);
    facts.quantization = match kind {
        Some(0 | 1 | 32) => None,
        other => Some(other.and_then(file_type).unwrap_or("gguf").into()),
    };
    Ok(facts)
}

fn sizes(reader: &mut Reader<'_>, count: u64) -> Result<Tensors, String> {
    let mut all = Tensors {
        bytes: 0,
        elements: 0,
        vocabulary: None,
        separate_head: false,
        biased: false,
    };
    for _ in 0..count {
        let name = reader.text()?;
        let dimensions = reader.u32()?;
        if dimensions > 8 {
            return Err(format!("tensor '{name}' has {dimensions} dimensions"));
        }
        let mut elements = 1_u64;
        let mut last = 1;
        for _ in 0..dimensions {
            last = reader.u64()?;
            elements = elements
                .checked_mul(last)
                .filter(|n| *n < 1 << 48)
                .ok_or_else(|| format!("tensor '{name}' is impossibly large"))?;
        }
        let kind = reader.u32()?;
        reader.u64()?;
        let (size, bytes, _) = block(kind).ok_or_else(|| format!("tensor '{name}' has unknown type {kind}"))?;
        all.bytes += elements.div_ceil(size) * bytes;
        all.elements += elements;
        match name.as_str() {
            "token_embd.weight" => all.vocabulary = Some(last),
            "output.weight" => all.separate_head = true,
            "blk.0.attn_q.bias" => all.biased = true,
            _ => {}
        }
    }
    Ok(all)
}

/// The metadata in the words of a `config.json`.
fn config(metadata: &Map<String, Value>, tensors: &Tensors) -> Result<Value, String> {
    let architecture = metadata
        .get("general.architecture")
        .and_then(Value::as_str)
        .ok_or("the GGUF header has no 'general.architecture'")?;
    let own = |key: &str| {
        let value = metadata.get(&format!("{architecture}.{key}"))?;
        // One value a layer: the largest, so that no layer's cache is underestimated.
        Some(value.get("largest").unwrap_or(value).clone())
    };
    let model_type = match architecture {
        "qwen2moe" => "qwen2_moe",
        "qwen3moe" => "qwen3_moe",
        "qwen3next" => "qwen3_next",
        "gemma3" => "gemma3_text",
        "gemma3n" => "gemma3n_text",
        "gpt-oss" => "gpt_oss",
        "deepseek2" => "deepseek_v3",
        "command-r" => "cohere",
        "glm4moe" => "glm4_moe",
        "granitehybrid" => "granitemoehybrid",
        other => other,
    };
    let mut config = Map::new();
    config.insert("model_type".into(), json!(model_type));
    for (theirs, ours) in [
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "v_head_dim"),
        ("context_length", "max_position_embeddings"),
        ("attention.sliding_window", "sliding_window"),
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("expert_shared_count", "n_shared_experts"),
        ("leading_dense_block_count", "first_k_dense_replace"),
        ("attention.kv_lora_rank", "kv_lora_rank"),
        ("attention.q_lora_rank", "q_lora_rank"),
        ("rope.dimension_count", "qk_rope_head_dim"),
    ] {
        if let Some(value) = own(theirs) {
            config.insert(ours.into(), value);
        }
    }
    if let (Some(key), Some(rope)) = (
        own("attention.key_length_mla")
            .or_else(|| own("attention.key_length"))
            .and_then(|v| v.as_u64()),
        own("rope.dimension_count").and_then(|v| v.as_u64()),
    ) {
        config.insert("qk_nope_head_dim".into(), json!(key.saturating_sub(rope)));
    }
    if let Some(value) = own("attention.value_length_mla") {
        config.insert("v_head_dim".into(), value);
    }
    let listed = metadata
        .get("tokenizer.ggml.tokens")
        .and_then(|t| t.get("length"))
        .and_then(Value::as_u64);
    if let Some(vocabulary) = tensors.vocabulary.or(listed).filter(|v| *v > 0) {
        config.insert("vocab_size".into(), json!(vocabulary));
    }
    config.insert("tie_word_embeddings".into(), json!(!tensors.separate_head));
    config.insert("attention_bias".into(), json!(tensors.biased));
    Ok(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// A small llama: 2 layers, hidden 64, one Q4_K and one F32 tensor.
    fn file() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend(2_u64.to_le_bytes());
        out.extend(9_u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8_u32.to_le_bytes());
        text(&mut out, "llama");
        for (key, value) in [
            ("llama.embedding_length", 64_u32),
            ("llama.block_count", 2),
            ("llama.feed_forward_length", 128),
            ("llama.attention.head_count", 4),
            ("llama.attention.head_count_kv", 2),
            ("llama.context_length", 4096),
            ("general.file_type", 15),
        ] {
            text(&mut out, key);
            out.extend(4_u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend(9_u32.to_le_bytes());
        out.extend(8_u32.to_le_bytes());
        out.extend(2_u64.to_le_bytes());
        text(&mut out, "a");
        text(&mut out, "b");
        for (name, dims, kind) in [
            ("token_embd.weight", [64_u64, 512], 12_u32),
            ("output_norm.weight", [64, 1], 0),
        ] {
            text(&mut out, name);
            out.extend(2_u32.to_le_bytes());
            for d in dims {
                out.extend(d.to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend(0_u64.to_le_bytes());
        }
        out
    }

    #[test]
    fn a_header_tells_shape_and_bytes() {
        let facts = parse("x", &mut file().as_slice()).expect("a header");
        assert_eq!(facts.source, ModelSource::Weights);
        assert_eq!(facts.layers(), Some(2));
        assert_eq!((facts.vocab, facts.max_positions), (Some(512), Some(4096)));
        assert_eq!(facts.quantization.as_deref(), Some("Q4_K_M"));
        // 64·512/256 blocks of 144 bytes, and 64 floats.
        assert_eq!(facts.file_bytes, Some(Bytes(18_432 + 256)));
        assert_eq!(facts.parameters, Some(32_832));
    }

    #[test]
    fn corrupt_headers_are_errors() {
        for (bytes, says) in [
            (b"GGML".to_vec(), "GGUF"),
            ([b"GGUF".as_slice(), &9_u32.to_le_bytes()].concat(), "version 9"),
            (file()[..100].to_vec(), "cut off"),
            (
                [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &[0xff; 16]].concat(),
                "tensors",
            ),
        ] {
            let error = parse("x", &mut bytes.as_slice()).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_change_is_an_answer_or_an_error(at in 0..600usize, byte in any::<u8>(), end in 0..600usize) {
            let mut bytes = file();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length.min(end.max(8)));
            let _ = parse("x", &mut bytes.as_slice());
        }
    }
}
