//! Flags that only the memory model asks for: drafts, towers, adapters, recurrent state, the pools' proportions.

use super::Candidate;
use super::flags::Flags;
use crate::snapshot::server::{EngineSettings, Setting};
use serde_json::Value;

/// vLLM's, into settings that have the others already.
pub(super) fn vllm(flags: &Flags, settings: &mut EngineSettings) {
    let draft = json(flags, &["speculative-config", "sc"]).unwrap_or(Value::Null);
    let word = |key: &str, dotted: &str, flag: &[&str]| {
        let own = draft[key].as_str().map(String::from);
        own.or_else(|| flags.owned(&[dotted])).or_else(|| flags.owned(flag))
    };
    let model = word(
        "model",
        "speculative-config.model",
        &["speculative-model", "spec-model"],
    );
    settings.speculative_method = word("method", "speculative-config.method", &["spec-method"])
        .or_else(|| model.as_deref().map(|m| method_of(m).to_string()))
        .map(|m| m.to_ascii_lowercase());
    settings.speculative_tokens = draft["num_speculative_tokens"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .or_else(|| {
            flags.small(&[
                "speculative-config.num-speculative-tokens",
                "num-speculative-tokens",
                "spec-tokens",
            ])
        });
    if settings.speculative.is_none() && (settings.speculative_method.is_some() || flags.has(&["sc"])) {
        settings.speculative = Some(true);
    }
    settings.language_model_only = flags.switch("language-model-only");
    settings.images_per_prompt = images(flags);
    settings.max_lora_rank = flags.count(&["max-lora-rank"]);
    settings.hybrid_kv_off = flags.switch("disable-hybrid-kv-cache-manager");
    settings.mamba_cache_dtype = stated(flags, &["mamba-cache-dtype"]);
    settings.mamba_ssm_dtype = stated(flags, &["mamba-ssm-cache-dtype"]);
}

/// SGLang's.
pub(super) fn sglang(flags: &Flags, settings: &mut EngineSettings) {
    settings.speculative_method = flags
        .text(&["speculative-algorithm", "speculative-algo"])
        .map(str::to_ascii_lowercase);
    settings.speculative_tokens = flags
        .small(&["speculative-num-draft-tokens"])
        .or_else(|| flags.small(&["speculative-num-steps"]));
    settings.max_lora_rank = flags.count(&["max-lora-rank"]);
    settings.hybrid_kv_off = flags.switch("disable-hybrid-swa-memory");
    settings.mamba_ssm_dtype = stated(flags, &["mamba-ssm-dtype"]);
    settings.swa_full_tokens_ratio = ratio(flags, "swa-full-tokens-ratio");
    settings.mamba_full_memory_ratio = ratio(flags, "mamba-full-memory-ratio");
    settings.max_total_tokens = flags.count(&["max-total-tokens"]);
}

/// llama.cpp's that keep a part of the weights or of the cache off the card, or divide them unevenly (tools/server/README.md).
/// How much that is hangs on each tensor's size: it is not known here.
pub(super) fn llamacpp(flags: &Flags, candidate: &Candidate<'_>) {
    const ELSEWHERE: &[(&str, &[&str], &str)] = &[
        ("cpu-moe", &["cpu-moe", "cmoe"], "LLAMA_ARG_CPU_MOE"),
        ("n-cpu-moe", &["n-cpu-moe", "ncmoe"], "LLAMA_ARG_N_CPU_MOE"),
        (
            "override-tensor",
            &["override-tensor", "ot"],
            "LLAMA_ARG_OVERRIDE_TENSOR",
        ),
        ("no-kv-offload", &["no-kv-offload", "nkvo"], "LLAMA_ARG_NO_KV_OFFLOAD"),
        ("tensor-split", &["tensor-split", "ts"], "LLAMA_ARG_TENSOR_SPLIT"),
        ("rpc", &["rpc"], "LLAMA_ARG_RPC"),
    ];
    for (name, given, variable) in ELSEWHERE {
        let off = |v: &str| matches!(v, "0" | "false" | "off" | "");
        let by_flag = flags.has(given) && !flags.text(given).is_some_and(off);
        if by_flag || candidate.env(variable).is_some_and(|v| !off(v)) {
            candidate.is_unread(Setting::Sizing, format!("the tensors that --{name} keeps elsewhere"));
        }
    }
}

/// SGLang's that keep weights off the card: prefetched groups of layers, experts that KTransformers computes on the host.
pub(super) fn sglang_elsewhere(flags: &Flags, candidate: &Candidate<'_>) {
    for name in [
        "offload-group-size",
        "kt-weight-path",
        "kt-num-gpu-experts",
        "kt-cpuinfer",
    ] {
        if flags.text(&[name]).is_some_and(|v| !matches!(v, "0" | "-1")) {
            candidate.is_unread(
                Setting::Sizing,
                format!("the weights that --{name} keeps in the host's memory"),
            );
        }
    }
}

/// vLLM's beside `--cpu-offload-gb`: groups of layers that are fetched when they are due (`OffloadConfig`, 0.15).
pub(super) fn vllm_elsewhere(flags: &Flags, candidate: &Candidate<'_>) {
    for name in ["offload-group-size", "offload-params", "offload-num-in-group"] {
        if flags.text(&[name]).is_some_and(|v| v != "0") {
            candidate.is_unread(
                Setting::Sizing,
                format!("the weights that --{name} keeps in the host's memory"),
            );
        }
    }
}

/// An instance that runs the encoders of a model for others loads no language model, and keeps no cache of keys and values (vLLM: docs
/// on disaggregated encoders, `is_mm_encoder_only`, no KV specification of an `ec_producer`; SGLang: `--encoder-only`).
pub(super) fn encoder_alone(flags: &Flags, candidate: &Candidate<'_>) {
    let config = json(flags, &["ec-transfer-config"]).unwrap_or(Value::Null);
    let role = config["ec_role"].as_str().map(String::from);
    let producer = role
        .or_else(|| flags.owned(&["ec-transfer-config.ec-role"]))
        .is_some_and(|r| r == "ec_producer");
    let switched = ["mm-encoder-only", "encoder-only"]
        .iter()
        .any(|name| flags.switch(name) == Some(true));
    if producer || switched || flags.text(&["convert"]) == Some("mm_encoder_only") {
        candidate.is_unread(
            Setting::Sizing,
            "the encoder that it runs for others, without the language model",
        );
    }
}

/// What a draft's name says of the method, as vLLM reads it (`SpeculativeConfig.__post_init__`).
fn method_of(model: &str) -> &'static str {
    let name = model.to_ascii_lowercase();
    ["ngram", "eagle3", "eagle", "medusa", "mtp", "mlp_speculator"]
        .into_iter()
        .find(|m| name.contains(m))
        .unwrap_or("draft_model")
}

fn json(flags: &Flags, names: &[&str]) -> Option<Value> {
    serde_json::from_str(flags.text(names)?).ok()
}

fn stated(flags: &Flags, names: &[&str]) -> Option<String> {
    flags.owned(names).filter(|d| d != "auto")
}

fn ratio(flags: &Flags, name: &str) -> Option<f64> {
    let value: f64 = flags.text(&[name])?.parse().ok()?;
    (value.is_finite() && value > 0.0).then_some(value)
}

/// Images and videos that a request may hold: `{"image": 2, "video": 0}`, `{"image": {"count": 2}}`, `image=2,video=0`, or
/// `--limit-mm-per-prompt.image 2`. A kind that is not named keeps the engine's own limit, so that only a statement for images
/// says anything, and 0 only where videos are 0, too, or not named.
fn images(flags: &Flags) -> Option<u64> {
    let name = "limit-mm-per-prompt";
    let count = |kind: &str| -> Option<u64> {
        if let Some(own) = flags.count(&[&format!("{name}.{kind}")]) {
            return Some(own);
        }
        if let Some(value) = json(flags, &[name]) {
            return value[kind].as_u64().or_else(|| value[kind]["count"].as_u64());
        }
        let text = flags.text(&[name])?;
        let pair = text
            .split(',')
            .find_map(|p| p.trim().strip_prefix(kind)?.strip_prefix('='))?;
        pair.parse().ok()
    };
    match (count("image"), count("video")) {
        (Some(image), Some(video)) => Some(image.max(video)),
        (image, _) => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &[&str]) -> Flags {
        let words: Vec<String> = line.iter().map(|w| (*w).to_string()).collect();
        Flags::parse(&words, &["language-model-only"])
    }

    fn of_vllm(line: &[&str]) -> EngineSettings {
        let mut settings = EngineSettings::default();
        vllm(&flags(line), &mut settings);
        settings
    }

    fn drafts(s: &EngineSettings) -> (Option<&str>, Option<u32>) {
        (s.speculative_method.as_deref(), s.speculative_tokens)
    }

    #[test]
    fn a_draft_is_read_in_every_shape() {
        for line in [
            &["--speculative-config", r#"{"method":"MTP","num_speculative_tokens":3}"#][..],
            &["-sc", r#"{"method":"mtp","num_speculative_tokens":3}"#],
            &[
                "--speculative-config.method=mtp",
                "--speculative_config.num_speculative_tokens",
                "3",
            ],
            &["--spec-method", "mtp", "--spec-tokens", "3"],
        ] {
            let s = of_vllm(line);
            assert_eq!(drafts(&s), (Some("mtp"), Some(3)), "{line:?}");
            assert_eq!(s.speculative, Some(true), "{line:?}");
        }
        let old = of_vllm(&["--speculative-model", "[ngram]", "--num-speculative-tokens", "5"]);
        assert_eq!(drafts(&old), (Some("ngram"), Some(5)));
        let other = of_vllm(&[
            "--speculative-config",
            r#"{"model":"org/Small-1B","num_speculative_tokens":4}"#,
        ]);
        assert_eq!(drafts(&other), (Some("draft_model"), Some(4)));
        let broken = of_vllm(&["--speculative-config", "{method: mtp"]);
        assert_eq!(
            drafts(&broken),
            (None, None),
            "what is not JSON says nothing of the method"
        );
        assert_eq!(drafts(&of_vllm(&[])), (None, None));
    }

    #[test]
    fn limits_of_images_are_read_in_every_shape() {
        for (line, expected) in [
            (&["--limit-mm-per-prompt", r#"{"image":0,"video":0}"#][..], Some(0)),
            (&["--limit-mm-per-prompt", "image=2,video=1"], Some(2)),
            (
                &["--limit-mm-per-prompt", r#"{"image":{"count":4,"width":512}}"#],
                Some(4),
            ),
            (&["--limit-mm-per-prompt.image", "3"], Some(3)),
            (&["--limit-mm-per-prompt", r#"{"image":0,"video":2}"#], Some(2)),
            (&["--limit-mm-per-prompt", r#"{"video":0}"#], None),
            (&["--limit-mm-per-prompt", "${LIMIT}"], None),
        ] {
            assert_eq!(of_vllm(line).images_per_prompt, expected, "{line:?}");
        }
    }

    #[test]
    fn towers_state_and_adapters_are_read() {
        let s = of_vllm(&[
            "--language-model-only",
            "--max-lora-rank=64",
            "--mamba-ssm-cache-dtype",
            "float32",
            "--mamba-cache-dtype",
            "auto",
            "--no-disable-hybrid-kv-cache-manager",
        ]);
        assert_eq!((s.language_model_only, s.max_lora_rank), (Some(true), Some(64)));
        assert_eq!(
            (s.mamba_ssm_dtype.as_deref(), s.mamba_cache_dtype),
            (Some("float32"), None)
        );
        assert_eq!(s.hybrid_kv_off, Some(false));
    }

    #[test]
    fn sglangs_proportions_are_read() {
        let mut s = EngineSettings::default();
        let line = [
            "--speculative-algorithm",
            "NEXTN",
            "--speculative-num-draft-tokens",
            "4",
            "--swa-full-tokens-ratio",
            "0.5",
            "--mamba-full-memory-ratio=nan",
            "--max-total-tokens",
            "10240",
        ];
        sglang(&flags(&line), &mut s);
        assert_eq!(drafts(&s), (Some("nextn"), Some(4)));
        assert_eq!((s.swa_full_tokens_ratio, s.mamba_full_memory_ratio), (Some(0.5), None));
        assert_eq!(s.max_total_tokens, Some(10_240));
    }
}
