//! Bits per weight of each quantization, what it leaves alone, and where it cannot run.

use super::defaults::Engine;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::engine::{self, MemoryRules};
use crate::snapshot::server::EngineSettings;

/// A family of quantizations that one engine flag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    None,
    Fp8,
    Mxfp8,
    Int8,
    Awq,
    Gptq,
    /// compressed-tensors, AutoRound, HQQ and the like.
    Int4,
    Bnb,
    Nvfp4,
    Mxfp4,
    Gguf,
    Other,
}

/// nf4 with scales of 64 elements in 8 bit and their own scales; with fp32 scales.
const BNB_NESTED: f64 = 4.127;
const BNB_PLAIN: f64 = 4.5;

/// Bits of each part of the weights, scales included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scheme {
    pub(super) family: Family,
    /// Dense layers, and what has no name of its own.
    pub(super) linear_bits: f64,
    pub(super) attention_bits: f64,
    pub(super) shared_bits: f64,
    pub(super) expert_bits: f64,
    /// Projections of recurrent layers.
    pub(super) state_bits: f64,
    /// Embedding.
    pub(super) vocab_bits: f64,
    pub(super) head_bits: f64,
    /// Each part's bits are stated (a configuration's ignore list, a row), not taken from what most repositories do.
    pub(super) parts_stated: bool,
    /// Quantization groups along the input dimension; tensor parallelism must not cut one.
    pub(super) group: Option<u32>,
    /// Blocks of both dimensions (fp8 128 × 128).
    pub(super) block: Option<u32>,
    /// The checkpoint declares an fp8 KV cache.
    pub(super) kv_fp8: bool,
    /// How far the loaded bytes may exceed the estimate: mixed repositories leave layers at 16 bit.
    pub(super) spread: f64,
    /// Bits a weight is computed in on cards that have the units.
    pub(super) compute_bits: u32,
}

impl Scheme {
    pub(super) fn plain(bits: f64) -> Self {
        Self {
            family: Family::None,
            linear_bits: bits,
            attention_bits: bits,
            shared_bits: bits,
            expert_bits: bits,
            state_bits: bits,
            vocab_bits: bits,
            head_bits: bits,
            parts_stated: true,
            group: None,
            block: None,
            kv_fp8: false,
            spread: 1.02,
            compute_bits: 16,
        }
    }

    fn quantized(family: Family, bits: f64) -> Self {
        Self {
            family,
            linear_bits: bits,
            attention_bits: bits,
            shared_bits: bits,
            expert_bits: bits,
            state_bits: bits,
            ..Self::plain(16.0)
        }
    }

    /// bitsandbytes quantizes its scales once more; vLLM since 0.9 undoes that when it loads (`dequantize_dq` of its loader: in
    /// 0.9.2, not in 0.8.5; logged 5.31 GiB of an 8B at 0.5, 3.91 of a 7B at 0.9.1), so that each 64 elements keep an fp32 scale.
    pub(super) fn as_loaded(mut self, engine: &Engine) -> Self {
        if self.family == Family::Bnb && engine.is_vllm() && engine.since(0, 9) {
            for bits in [
                &mut self.linear_bits,
                &mut self.attention_bits,
                &mut self.shared_bits,
                &mut self.expert_bits,
                &mut self.state_bits,
            ] {
                if (*bits - BNB_NESTED).abs() < 1e-9 {
                    *bits = BNB_PLAIN;
                }
            }
        }
        self
    }

    /// Everything but the routed experts.
    fn set_rest(&mut self, bits: f64) {
        self.linear_bits = bits;
        self.attention_bits = bits;
        self.shared_bits = bits;
        self.state_bits = bits;
    }

    /// `attention=bf16 linear=fp8 head=nvfp4`: parts that the checkpoint holds otherwise (its ignore list, in the words of
    /// `parts` of the catalogue's models).
    fn set_parts(&mut self, text: &str) {
        for word in text.split([' ', ',', ';']) {
            let Some((part, value)) = word.split_once('=') else {
                continue;
            };
            let Some(bits) = part_bits(value) else { continue };
            self.parts_stated = true;
            match part {
                "attention" => self.attention_bits = bits,
                "linear" => self.state_bits = bits,
                "shared" => self.shared_bits = bits,
                "dense" => self.linear_bits = bits,
                "experts" => self.expert_bits = bits,
                "head" => self.head_bits = bits,
                "embedding" => self.vocab_bits = bits,
                _ => {}
            }
        }
    }
}

/// Bits of a part by the name of its format, or as a number where several are mixed.
fn part_bits(value: &str) -> Option<f64> {
    Some(match value {
        "bf16" | "fp16" => 16.0,
        "fp8" => 8.01,
        "nvfp4" => 4.5,
        "mxfp4" => 4.25,
        "int8" => 8.125,
        "int4" => 4.156,
        other => other.parse().ok().filter(|b| (1.0..=32.0).contains(b))?,
    })
}

/// Whole-file bits of llama.cpp's mixes (Llama-3.1-8B, `tools/quantize/README.md`), embedding included.
const GGUF_MIXES: &[(&str, f64)] = &[
    ("IQ1_S", 2.00),
    ("IQ1_M", 2.15),
    ("TQ1_0", 1.9),
    ("TQ2_0", 2.3),
    ("IQ2_XXS", 2.38),
    ("IQ2_XS", 2.59),
    ("IQ2_S", 2.74),
    ("IQ2_M", 2.93),
    ("Q2_K_S", 2.97),
    ("Q2_K", 3.16),
    ("IQ3_XXS", 3.25),
    ("IQ3_XS", 3.50),
    ("Q3_K_S", 3.64),
    ("IQ3_S", 3.66),
    ("IQ3_M", 3.76),
    ("Q3_K_M", 4.00),
    ("Q3_K_L", 4.30),
    ("IQ4_XS", 4.46),
    ("Q4_K_S", 4.67),
    ("IQ4_NL", 4.68),
    ("Q4_0", 4.65),
    ("Q4_1", 5.1),
    ("Q4_K_M", 4.89),
    ("Q4_K_XL", 5.0),
    ("Q5_0", 5.6),
    ("Q5_1", 6.0),
    ("Q5_K_S", 5.57),
    ("Q5_K_M", 5.70),
    ("Q5_K_XL", 5.8),
    ("Q6_K", 6.56),
    ("Q6_K_XL", 7.0),
    ("Q8_0", 8.50),
    ("Q8_K_XL", 10.0),
    ("F16", 16.0),
    ("BF16", 16.0),
];

/// The family a flag or a checkpoint's description belongs to; words about single parts (`head=nvfp4`) say nothing of it.
fn family(text: &str) -> Family {
    let whole: Vec<&str> = text.split_whitespace().filter(|w| !w.contains('=')).collect();
    let text = whole.join(" ");
    let text = text.as_str();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    match () {
        () if text.is_empty() || matches!(text, "none" | "auto") => Family::None,
        () if has(&["mxfp8"]) => Family::Mxfp8,
        () if has(&["nvfp4", "modelopt_fp4", "petit"]) => Family::Nvfp4,
        () if has(&["mxfp4", "mx_fp4", "experts fp4"]) => Family::Mxfp4,
        () if has(&["bitsandbytes", "bnb", "nf4"]) => Family::Bnb,
        () if has(&["awq"]) => Family::Awq,
        () if has(&["gptq"]) => Family::Gptq,
        () if is_gguf(text) => Family::Gguf,
        () if has(&["w8a8", "int8", "w8a16", "quanto-8", "mlx-8bit", "smooth", "eetq"]) => Family::Int8,
        () if has(&[
            "int4",
            "w4a16",
            "w4a8",
            "auto_round",
            "auto-round",
            "autoround",
            "inc",
            "hqq",
            "mlx-4bit",
            "w4afp8",
        ]) =>
        {
            Family::Int4
        }
        () if has(&["fp8", "float8"]) => Family::Fp8,
        () => Family::Other,
    }
}

fn is_gguf(text: &str) -> bool {
    text.contains("gguf") || gguf_bits(text).is_some()
}

fn gguf_bits(text: &str) -> Option<f64> {
    let upper = text.to_ascii_uppercase();
    GGUF_MIXES
        .iter()
        .filter(|(name, _)| {
            upper
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .any(|w| w == *name)
        })
        .map(|(_, bits)| *bits)
        .next()
}

/// Names of loaders, which do not say how the weights are stored.
fn is_generic(text: &str) -> bool {
    matches!(
        text,
        "compressed-tensors"
            | "compressed_tensors"
            | "modelopt"
            | "gguf"
            | "auto-round"
            | "auto_round"
            | "inc"
            | "quark"
            | "torchao"
            | "marlin"
            | "ipex"
            | "moe_wna16"
    )
}

/// A flag's value that names a way to quantize, or a loader of several.
pub fn is_known(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    is_generic(&text) || family(&text) != Family::Other
}

/// A quantization whose bits no source tells, the checkpoint's own or what the engine is told to make of one that names none;
/// its weights cannot be sized.
pub(super) fn unsized_of<'a>(model: &'a ModelFacts, settings: &'a EngineSettings) -> Option<&'a str> {
    if let Some(own) = model.quantization.as_deref() {
        let text = own.to_ascii_lowercase();
        return (family(&text) == Family::Other && !is_generic(&text) && stated_bits(&text).is_none()).then_some(own);
    }
    let asked = settings.quantization.as_deref()?.trim();
    let text = asked.to_ascii_lowercase();
    (family(&text) == Family::Other && stated_bits(&text).is_none()).then_some(asked)
}

/// "exl 4.0bpw": bits per weight, as EXL2's and EXL3's names state them.
fn stated_bits(text: &str) -> Option<f64> {
    let word = text.split_whitespace().find_map(|w| w.strip_suffix("bpw"))?;
    word.parse().ok().filter(|b| (1.0..=16.0).contains(b))
}

/// Two quantizations that exclude each other, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contradiction(pub(super) String);

/// How the weights are held: the checkpoint's own quantization, else what the engine is told to make while loading.
pub(super) fn scheme(model: &ModelFacts, settings: &EngineSettings) -> Result<Scheme, Contradiction> {
    // ChatGLM's own int4 is not implemented by engines: its weights are loaded at 16 bit.
    if model.model_type == "chatglm" && model.quantization.as_deref().is_some_and(|q| q.starts_with("int")) {
        return Ok(Scheme::plain(element_bits(model, settings)));
    }
    let own = model.quantization.as_deref().unwrap_or_default().to_ascii_lowercase();
    let asked = settings
        .quantization
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let bits = element_bits(model, settings);
    let said = family(&asked);
    if own.is_empty() {
        let mut scheme = of(&asked, bits, true);
        if said == Family::Other && !asked.is_empty() {
            scheme.spread = 1.3;
        }
        return Ok(scheme);
    }
    let has = family(&own);
    // Small-integer schemes load through several loaders (compressed-tensors, Marlin, AutoRound).
    let integers = [Family::Awq, Family::Gptq, Family::Int4];
    let same = said == has
        || matches!(said, Family::None | Family::Other)
        || is_generic(&asked)
        || integers.contains(&said) && (integers.contains(&has) || has == Family::Gguf)
        || said == Family::Fp8 && matches!(has, Family::Mxfp4 | Family::Nvfp4 | Family::Mxfp8)
        || said == Family::Int8 && matches!(has, Family::Gptq | Family::Fp8);
    if !same {
        return Err(Contradiction(format!(
            "the checkpoint is quantized as {own}, but the engine is told {asked}"
        )));
    }
    Ok(of(&own, bits, false))
}

/// Bits of an unquantized element: engines cast float32 checkpoints to 16 bit unless told otherwise.
fn element_bits(model: &ModelFacts, settings: &EngineSettings) -> f64 {
    let full = |d: &str| matches!(d, "float32" | "float" | "fp32");
    let keeps = engine::facts(settings.engine).is_some_and(|f| f.keeps_float32);
    match settings.dtype.as_deref() {
        Some(stated) if full(stated) => 32.0,
        None | Some("auto") if keeps && model.dtype.as_deref().is_some_and(full) => 32.0,
        _ => 16.0,
    }
}

fn of(text: &str, bits: f64, online: bool) -> Scheme {
    let family = family(text);
    let has = |word: &str| text.contains(word);
    let group = ["g32", "g64", "g128"]
        .iter()
        .find(|g| has(g))
        .and_then(|g| g[1..].parse::<u32>().ok());
    let only_experts = has("experts)") || has("expert") && !has("experts=") || has("moe");
    let mut scheme = match family {
        Family::Other => stated_bits(text).map_or_else(
            || Scheme::plain(bits),
            |stated| Scheme {
                spread: 1.06,
                ..Scheme::quantized(family, stated)
            },
        ),
        Family::None => Scheme::plain(bits),
        Family::Fp8 => {
            let block = has("block");
            Scheme {
                block: block.then_some(128),
                compute_bits: 8,
                ..Scheme::quantized(family, if block { 8.002 } else { 8.01 })
            }
        }
        Family::Mxfp8 => Scheme {
            compute_bits: 8,
            ..Scheme::quantized(family, 8.25)
        },
        Family::Int8 => Scheme {
            compute_bits: 8,
            ..Scheme::quantized(family, 8.02)
        },
        Family::Awq | Family::Gptq | Family::Int4 => {
            let base = if has("int8") || has("8bit") { 8.0 } else { 4.0 };
            let g = group.unwrap_or(128);
            // 16-bit scale and packed zero point a group; compressed-tensors are symmetric.
            let extra = if family == Family::Int4 { 16.0 } else { 20.0 };
            Scheme {
                group: Some(g),
                ..Scheme::quantized(family, base + extra / f64::from(g))
            }
        }
        Family::Bnb if has("int8") => Scheme::quantized(family, 8.0),
        // Unsloth's dynamic repositories leave some layers at 16 bit.
        Family::Bnb if has("mixed") => Scheme::quantized(family, 4.6),
        Family::Bnb => Scheme::quantized(family, BNB_NESTED),
        Family::Nvfp4 => Scheme {
            compute_bits: 4,
            ..Scheme::quantized(family, 4.5)
        },
        Family::Mxfp4 => Scheme {
            compute_bits: 4,
            ..Scheme::quantized(family, 4.25)
        },
        Family::Gguf => {
            let known = gguf_bits(text);
            let bits = known.unwrap_or(4.89);
            Scheme {
                vocab_bits: bits,
                head_bits: bits,
                spread: if known.is_some() { 1.04 } else { 1.75 },
                ..Scheme::quantized(family, bits)
            }
        }
    };
    if only_experts && family != Family::None {
        // "experts fp4 (mxfp4), rest fp8": DeepSeek-V4. "mxfp4 (MoE only)": the rest stays at 16 bit.
        scheme.set_rest(if has("rest fp8") { 8.002 } else { 16.0 });
    }
    scheme.kv_fp8 = has("kv fp8");
    // NVFP4 and MXFP4 repositories each leave parts at 16 bit their own way.
    scheme.parts_stated = only_experts || !matches!(family, Family::Nvfp4 | Family::Mxfp4) || online;
    scheme.set_parts(text);
    if has("mixed") {
        scheme.spread = scheme.spread.max(1.10);
    }
    scheme
}

/// A checkpoint that NVIDIA's Model Optimizer wrote, as far as its name or a flag says.
fn of_model_optimizer(settings: &EngineSettings) -> bool {
    let by_flag = settings.quantization.as_deref().is_some_and(|q| q.contains("modelopt"));
    by_flag
        || settings
            .model
            .as_deref()
            .is_some_and(|m| m.to_ascii_lowercase().starts_with("nvidia/"))
}

/// Why the card cannot run this scheme at all; `None`: it can, perhaps without the fast units.
pub(super) fn unsupported(
    scheme: &Scheme,
    engine: &Engine,
    settings: &EngineSettings,
    gpu: &GpuFacts,
) -> Option<String> {
    if gpu.vendor == "amd" {
        // fp8 units since CDNA3; NVFP4 has no ROCm kernels.
        let lacks = match scheme.family {
            Family::Nvfp4 => true,
            Family::Fp8 | Family::Mxfp8 | Family::Mxfp4 => {
                !["CDNA3", "CDNA4", "RDNA4"].contains(&gpu.architecture.as_str())
            }
            _ => false,
        };
        return lacks.then(|| {
            format!(
                "{:?} weights have no kernels on {} ({})",
                scheme.family, gpu.name, gpu.architecture
            )
        });
    }
    let (major, minor) = gpu.compute_capability?;
    let have = f64::from(major) + f64::from(minor) / 10.0;
    // vLLM's table of quantization support: Marlin kernels serve fp8 and fp4 weights from Ampere on. TensorRT-LLM has none
    // (Model Optimizer's support matrix: FP8 from Ada on, FP4 from Blackwell on; gpt-oss' MXFP4 on Hopper, too).
    let trtllm = engine::memory_rules(settings.engine) == MemoryRules::Trtllm;
    let need = match scheme.family {
        Family::Fp8 | Family::Mxfp8 if trtllm => 8.9,
        Family::Nvfp4 if trtllm => 10.0,
        Family::Mxfp4 if trtllm => 9.0,
        // Marlin's kernels for Turing (vllm-project/vllm#29901, #32838); Model Optimizer's own fp8 asks for Ampere (#56660).
        Family::Fp8 if engine.is_vllm() && engine.since(0, 14) && !of_model_optimizer(settings) => 7.5,
        Family::Nvfp4 if engine.is_vllm() && engine.since(0, 15) => 7.5,
        Family::Fp8 | Family::Mxfp8 | Family::Nvfp4 | Family::Mxfp4 => 8.0,
        Family::Awq | Family::Int8 | Family::Int4 => 7.5,
        Family::Gptq | Family::Bnb | Family::Gguf => 6.0,
        Family::None | Family::Other => 0.0,
    };
    if have < need {
        return Some(format!(
            "{:?} weights need compute capability {need:.1}, {} has {major}.{minor}",
            scheme.family, gpu.name
        ));
    }
    let brain = settings
        .dtype
        .as_deref()
        .is_some_and(|d| matches!(d, "bfloat16" | "bf16"));
    (brain && have < 8.0).then(|| {
        format!(
            "bfloat16 needs compute capability 8.0, {} has {major}.{minor}; use --dtype float16",
            gpu.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(own: &str, asked: &str) -> Option<f64> {
        let model = ModelFacts {
            quantization: Some(own.into()).filter(|o: &String| !o.is_empty()),
            ..ModelFacts::default()
        };
        let settings = EngineSettings {
            quantization: Some(asked.into()).filter(|a: &String| !a.is_empty()),
            ..EngineSettings::default()
        };
        scheme(&model, &settings).ok().map(|s| s.linear_bits)
    }

    #[test]
    fn bits_are_those_of_the_formats() {
        assert_eq!(bits("", ""), Some(16.0));
        assert_eq!(bits("", "fp8"), Some(8.01));
        assert_eq!(bits("fp8 block128", "fp8"), Some(8.002));
        assert_eq!(bits("awq-int4 g128", "awq_marlin"), Some(4.15625));
        assert_eq!(bits("bnb-nf4", "bitsandbytes"), Some(4.127));
        assert_eq!(bits("", "bitsandbytes"), Some(4.127));
        assert_eq!(bits("Q4_K_M", "gguf"), Some(4.89));
        assert_eq!(bits("int4 w4a16 g128", "auto_round"), Some(4.125));
    }

    #[test]
    fn contradictions_are_told() {
        assert_eq!(bits("fp8 block128", "awq"), None);
        assert_eq!(bits("awq-int4 g128", "bitsandbytes"), None);
        assert!(bits("awq-int4 g128", "compressed-tensors").is_some());
    }
}
