//! Quantized copies of a model, named by the way they are quantized.

use crate::catalog::models::ModelFacts;

/// Formats that a checkpoint is stored in; an engine does not make them of another quantized checkpoint.
const STORED: &[(&str, &str)] = &[
    ("nvfp4", "nvfp4 g16"),
    ("modelopt_fp4", "nvfp4 g16"),
    ("mxfp4", "mxfp4"),
    ("awq", "awq-int4 g128"),
    ("gptq", "gptq-int4 g128"),
];

/// Turns a model that is published quantized into its copy in the 4-bit format that is asked for ("DeepSeek-R1 in NVFP4"
/// is nvidia/DeepSeek-R1-NVFP4). `false`: it is no such pair, and the flag is for the engine.
pub fn take(model: &mut ModelFacts, quantization: &str) -> bool {
    let asked = quantization.trim().to_ascii_lowercase();
    let published = model
        .quantization
        .as_deref()
        .is_some_and(|own| ["fp8", "int8", "int4"].iter().any(|p| own.starts_with(p)));
    let Some((_, stored)) = STORED.iter().find(|(name, _)| *name == asked).filter(|_| published) else {
        return false;
    };
    model.quantization = Some((*stored).into());
    model.file_bytes = None;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fp8_model_has_a_copy_in_4_bit_and_others_are_quantized_by_the_engine() {
        let of = |own: Option<&str>, asked: &str| {
            let mut model = ModelFacts {
                quantization: own.map(String::from),
                ..ModelFacts::default()
            };
            let taken = take(&mut model, asked);
            (taken, model.quantization)
        };
        assert_eq!(of(Some("fp8 block128"), "nvfp4"), (true, Some("nvfp4 g16".into())));
        assert_eq!(of(Some("fp8 block128"), "fp8"), (false, Some("fp8 block128".into())));
        assert_eq!(of(None, "nvfp4"), (false, None), "quantized while loading");
        assert_eq!(
            of(Some("awq-int4 g128"), "nvfp4"),
            (false, Some("awq-int4 g128".into())),
            "a contradiction"
        );
    }
}
