//! Elements of recurrent state, a layer: the shapes of vLLM's `MambaStateShapeCalculator` (0.33.0), unsharded.

use super::State;

/// Kimi delta attention keeps its state in float32 whatever the model's dtype (vLLM `kda_state_dtype`).
const KDA_STATE_BYTES: f64 = 4.0;

/// State of a layer of the named kind; `dim` gives its dimensions by the names used in the catalogue's rows.
///
/// `default_bytes` is the model's own element size, which vLLM takes where the config names no other.
pub(super) fn of(kind: &str, dim: &dyn Fn(&str) -> Option<u64>, default_bytes: f64) -> Option<State> {
    let tail = |name| dim(name).map(|width: u64| width.saturating_sub(1));
    let bytes = dim("bytes").map_or(default_bytes, |b| b as f64);
    let state = match kind {
        "mamba1" => State {
            conv_elements: dim("inner")? * tail("conv")?,
            recurrent_elements: dim("inner")? * dim("d_state")?,
            recurrent_element_bytes: bytes,
        },
        "mamba2" => {
            let inner = dim("heads")? * dim("hd")?;
            State {
                conv_elements: (inner + 2 * dim("groups")? * dim("d_state")?) * tail("conv")?,
                recurrent_elements: inner * dim("d_state")?,
                recurrent_element_bytes: bytes,
            }
        }
        "gdn" => State {
            conv_elements: (2 * dim("hk")? * dim("dk")? + dim("hv")? * dim("dv")?) * tail("conv")?,
            recurrent_elements: dim("hv")? * dim("dv")? * dim("dk")?,
            recurrent_element_bytes: bytes,
        },
        "kda" => State {
            conv_elements: 3 * dim("heads")? * dim("hd")? * tail("conv")?,
            recurrent_elements: dim("heads")? * dim("hd")? * dim("hd")?,
            recurrent_element_bytes: KDA_STATE_BYTES,
        },
        "lightning" => State {
            conv_elements: 0,
            recurrent_elements: dim("heads")? * dim("hd")? * dim("hd")?,
            recurrent_element_bytes: bytes,
        },
        "shortconv" => State {
            conv_elements: dim("dim")? * tail("conv")?,
            recurrent_elements: 0,
            recurrent_element_bytes: bytes,
        },
        _ => return None,
    };
    Some(state)
}
