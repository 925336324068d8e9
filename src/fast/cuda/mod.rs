//! The crate's own GPU kernels: CUDA source and the PTX made of it are next to this file.
//!
//! Products go to cuBLAS through Candle. What Candle has no backward pass for, or builds from five kernels and as many
//! tensors, has one kernel here: layer norm, softmax, the activations, noise on unit features, the smoothed cross
//! entropy, AdamW. The operations that use them are those of the CPU, one file each.

#[cfg(any(test, feature = "cuda"))]
const PTX: &str = include_str!("kernels.ptx");

/// Every kernel with the number of its parameters.
#[cfg(any(test, feature = "cuda"))]
const KERNELS: [(&str, usize); 14] = [
    ("layer_norm", 7),
    ("layer_norm_backward", 8),
    ("layer_norm_sums", 7),
    ("softmax_f32", 4),
    ("softmax_bf16", 4),
    ("softmax_backward_f32", 5),
    ("softmax_backward_bf16", 5),
    ("activation_f32", 4),
    ("activation_bf16", 4),
    ("activation_backward_f32", 5),
    ("activation_backward_bf16", 5),
    ("noisy_unit", 8),
    ("smoothed_rows", 9),
    ("adamw", 13),
];

#[cfg(feature = "cuda")]
mod adamw;
#[cfg(feature = "cuda")]
mod elementwise;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod norm;
#[cfg(feature = "cuda")]
mod rows;
#[cfg(feature = "cuda")]
mod text;

#[cfg(feature = "cuda")]
pub(super) use {
    adamw::{Update, adamw},
    elementwise::{gelu, gelu_backward},
    norm::{layer_norm, layer_norm_backward},
    rows::{softmax, softmax_backward},
    text::{noisy_unit, smoothed_rows},
};

use candle_core::{DType, Tensor};

/// True if a kernel of this module takes the tensor: on a GPU, of a type that the kernel knows.
pub(super) fn takes(tensor: &Tensor, types: &[DType]) -> bool {
    cfg!(feature = "cuda") && tensor.device().is_cuda() && types.contains(&tensor.dtype()) && tensor.elem_count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const SOURCE: &str = include_str!("kernels.cu");

    #[test]
    fn the_ptx_is_made_of_the_source_and_fits_old_cards() {
        let sum: String = Sha256::digest(SOURCE).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(PTX.starts_with(&format!("// kernels.cu {sum}\n")), "kernels.cu has changed: sh src/fast/cuda/make_ptx.sh");
        assert!(PTX.contains(".target sm_75\n") && PTX.contains(".version 6.5\n"));
    }

    #[test]
    fn the_ptx_has_every_kernel_with_its_parameters() {
        for (name, parameters) in KERNELS {
            let (_, rest) = PTX.split_once(&format!(".visible .entry {name}(")).unwrap_or_else(|| panic!("no kernel {name}"));
            let (list, _) = rest.split_once(')').unwrap();
            assert_eq!(list.matches(".param ").count(), parameters, "parameters of {name}");
        }
        assert_eq!(PTX.matches(".entry ").count(), KERNELS.len());
    }
}
