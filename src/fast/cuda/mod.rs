//! The crate's own GPU kernels: CUDA sources and the PTX made of them are next to this file.
//!
//! Products go to cuBLAS, those outside a block's branches through Candle. What Candle has no backward pass for, or builds from
//! five kernels and as many tensors, has one kernel here: layer norm, softmax, the activations, noise on unit features, the
//! smoothed cross entropy, AdamW, the strong view. The operations that use them are those of the CPU, one file each.

/// A source file's kernels: its name, its PTX, and every kernel with the number of its parameters.
#[cfg(any(test, feature = "cuda"))]
struct Module {
    name: &'static str,
    ptx: &'static str,
    kernels: &'static [(&'static str, usize)],
}

#[cfg(any(test, feature = "cuda"))]
const MODULES: [Module; 4] = [
    Module {
        name: "kernels",
        ptx: include_str!("kernels.ptx"),
        kernels: &[
            ("layer_norm", 7),
            ("layer_norm_backward", 8),
            ("layer_norm_sums", 7),
            ("softmax_f32", 4),
            ("softmax_bf16", 4),
            ("softmax_backward_f32", 5),
            ("softmax_backward_bf16", 5),
            ("argmax", 4),
            ("activation_f32", 4),
            ("activation_bf16", 4),
            ("activation_backward_f32", 5),
            ("activation_backward_bf16", 5),
            ("noisy_unit", 8),
            ("unit_backward", 5),
            ("smoothed_rows", 9),
            ("adamw", 10),
        ],
    },
    Module {
        name: "branches",
        ptx: include_str!("branches.ptx"),
        kernels: &[
            ("begin_f32", 11),
            ("begin_bf16", 11),
            ("split_f32", 8),
            ("split_bf16", 8),
            ("from_heads_f32", 6),
            ("from_heads_bf16", 6),
            ("join_f32", 7),
            ("join_bf16", 7),
            ("probabilities_f32", 5),
            ("probabilities_bf16", 5),
            ("probabilities_backward_f32", 4),
            ("probabilities_backward_bf16", 4),
            ("hidden_f32", 6),
            ("hidden_bf16", 6),
            ("hidden_backward_f32", 6),
            ("hidden_backward_bf16", 6),
            ("round_bf16", 3),
            ("begin_backward_f32", 11),
            ("begin_backward_bf16", 11),
            ("strip_sums", 4),
        ],
    },
    Module { name: "views", ptx: include_str!("views.ptx"), kernels: &[("planes", 5), ("patches", 6)] },
    Module { name: "strong", ptx: include_str!("strong.ptx"), kernels: &[("resized", 5), ("strong_steps", 5)] },
];

#[cfg(feature = "cuda")]
mod adamw;
#[cfg(feature = "cuda")]
mod attention_branch;
#[cfg(feature = "cuda")]
mod branch;
#[cfg(feature = "cuda")]
mod elementwise;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod mlp_branch;
#[cfg(feature = "cuda")]
mod norm;
#[cfg(feature = "cuda")]
mod product;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod scratch;
#[cfg(feature = "cuda")]
mod strong;
#[cfg(feature = "cuda")]
mod text;
#[cfg(feature = "cuda")]
mod views;

#[cfg(feature = "cuda")]
pub(super) use {
    adamw::{Parameter, Update, adamw},
    attention_branch::attention_branch,
    elementwise::{gelu, gelu_backward},
    mlp_branch::mlp_branch,
    norm::{layer_norm, layer_norm_backward},
    rows::{argmax, softmax, softmax_backward},
    text::{Stream, linear_loss, noisy_unit, smoothed_rows, unit_backward},
    views::patches,
};

#[cfg(feature = "cuda")]
pub use views::Upload;

use candle_core::{DType, Tensor};

/// True for a tensor without values on a GPU, which takes no launch of nothing.
pub(super) fn nothing(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && tensor.elem_count() == 0
}

/// True if a kernel of this module takes the tensor: on a GPU, of a type that the kernel knows.
pub(super) fn takes(tensor: &Tensor, types: &[DType]) -> bool {
    cfg!(feature = "cuda") && tensor.device().is_cuda() && types.contains(&tensor.dtype()) && tensor.elem_count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const COMMON: &str = include_str!("common.cuh");
    const SOURCES: [&str; 4] =
        [include_str!("kernels.cu"), include_str!("branches.cu"), include_str!("views.cu"), include_str!("strong.cu")];

    #[test]
    fn the_ptx_is_made_of_the_source_and_fits_old_cards() {
        for (Module { name, ptx, .. }, source) in MODULES.iter().zip(SOURCES) {
            let sum: String = Sha256::digest([COMMON, source].concat()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(ptx.starts_with(&format!("// {name}.cu {sum}\n")), "{name}.cu has changed: sh src/fast/cuda/make_ptx.sh");
            assert!(ptx.contains(".target sm_75\n") && ptx.contains(".version 6.5\n"));
        }
    }

    #[test]
    fn the_ptx_has_every_kernel_with_its_parameters() {
        for Module { ptx, kernels, .. } in &MODULES {
            for (name, parameters) in *kernels {
                let (_, rest) = ptx.split_once(&format!(".visible .entry {name}(")).unwrap_or_else(|| panic!("no kernel {name}"));
                let (list, _) = rest.split_once(')').unwrap();
                assert_eq!(list.matches(".param ").count(), *parameters, "parameters of {name}");
            }
            assert_eq!(ptx.matches(".entry ").count(), kernels.len());
        }
    }
}
