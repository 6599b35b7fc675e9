//! DeepSeek-V4's compressed attention: entries of several tokens, a window of all tokens in every layer, and the compressors'
//! own windows.

use super::Holds;
use crate::defaults::{Engine, Rules};
use crate::memory::Case;

/// One latent entry: 448 fp8 + 64 bf16 + 8 scales (vLLM `MLAAttentionSpec` of model version deepseek_v4; SGLang
/// `DSV4PoolConfigurator`).
pub(super) const ENTRY: f64 = 584.0;
/// Tokens of a block in vLLM, whatever their compression.
const BLOCK: f64 = 256.0;
/// Packing the kinds of a layer into one layout: three logged starts need 1.04 to 1.05 of the pages' sum (262,144 and
/// 131,072 tokens in 32.08 GiB at 8.30 and 9.52 requests; 256,000 in 37.93 GiB at 9.76). Two threads.
const PACKING: f64 = 1.045;

/// A page of vLLM's, padded to a multiple of 576 bytes (`alignment` of its cache specifications, 0.20 to 0.33).
fn page(bytes: f64) -> f64 {
    (bytes / 576.0).ceil() * 576.0 * PACKING
}

/// Every layer, compressed or not, keeps a window of all tokens; vLLM has 64 a page.
pub(super) fn window(case: &Case<'_>, window: u64) -> Holds {
    let bytes = if case.engine.rules == Rules::Sglang {
        ENTRY
    } else {
        page(64.0 * ENTRY) / 64.0
    };
    Holds::Window { bytes, window }
}

/// Entries of a layer that compresses `ratio` tokens into one, its index keys (fp8 and one fp32 scale), and the fp32 keys
/// and scores of the compressors: a window of 2 × ratio tokens at ratio 4, of one ratio above.
pub(super) fn layer(case: &Case<'_>, ratio: u32, index: Option<u32>) -> Vec<Holds> {
    let r = f64::from(ratio.max(1));
    let (overlap, tokens) = if ratio <= 4 { (2.0, 4.0) } else { (1.0, 8.0) };
    let sliding = u64::from(ratio) * overlap as u64;
    let state = |dim: f64| 2.0 * overlap * dim * 4.0;
    if case.engine.rules == Rules::Sglang {
        return pools(r, sliding, index, &state);
    }
    // All compressors of the latent share one page size.
    let compressor = page((tokens * state(512.0)).max(64.0 * ENTRY)) / tokens;
    let mut held = vec![
        Holds::All(page(BLOCK / r * ENTRY) / BLOCK),
        Holds::Window {
            bytes: compressor,
            window: sliding,
        },
    ];
    if let Some(dim) = index.map(f64::from) {
        held.push(Holds::All(page(BLOCK / r * (dim + 4.0)) / BLOCK));
        let bytes = page(tokens * state(dim)) / tokens;
        held.push(Holds::Window { bytes, window: sliding });
    }
    held
}

/// SGLang's pools hold plain rows (`DSV4PoolConfigurator._get_bytes_per_full_token`, 0.5.12).
fn pools(ratio: f64, sliding: u64, index: Option<u32>, state: &dyn Fn(f64) -> f64) -> Vec<Holds> {
    let mut held = vec![
        Holds::All(ENTRY / ratio),
        Holds::Window {
            bytes: state(512.0),
            window: sliding,
        },
    ];
    if let Some(dim) = index.map(f64::from) {
        held.push(Holds::All((dim + (dim / 128.0).floor() * 4.0) / ratio));
        held.push(Holds::Window {
            bytes: state(dim),
            window: sliding,
        });
    }
    held
}

/// Older layouts pad more, and the tokens of a step, which no default tells for sure, decide the windows: a start that needed
/// 6.66 GiB for 30,000 tokens had twice the step and 1.1 times the padding.
pub(super) fn doubt(engine: &Engine) -> (f64, f64) {
    match engine.rules {
        // The share of the windows is a ratio of the full tokens until 0.5.12, and a cap by requests in 0.5.23.
        Rules::Sglang => (0.6, 1.5),
        _ if engine.version.is_some() && engine.since(0, 21) => (0.95, 1.2),
        _ => (0.9, 2.5),
    }
}
