//! Linear layers as the operations of this crate take them.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Joined, Packed};

/// The number format in which a frozen linear layer multiplies; sums, norms and everything trainable stay in f32, and so does
/// attention on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    F32,
    /// Weights and inputs rounded to bf16 (8 bits of mantissa). On the CPU this is faster on AMD's processors with AVX-512 BF16
    /// and on Intel's with AMX, and the same as [`F32`](Self::F32) on others (see [`Isa::best`](super::Isa::best)). On a GPU
    /// attention and activations between the norms are bf16, too.
    Bf16,
}

/// A linear layer, y = x Wᵀ + b, as the operations of this crate take it.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// W, `[out, in]`.
    pub weight: Weight<'a>,
    /// b, `[out]`.
    pub bias: Option<&'a Tensor>,
    /// The matrix that it lies in with others, on a GPU.
    pub joined: Option<&'a Joined>,
}

/// W of a [`Layer`], in one of two forms.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// A tensor.
    Plain(&'a Tensor),
    /// A packed one, which exists in no other form.
    Packed(&'a Packed),
}

impl<'a> Weight<'a> {
    /// The tensor, unless it is packed.
    pub fn plain(self) -> Option<&'a Tensor> {
        match self {
            Self::Plain(weight) => Some(weight),
            Self::Packed(_) => None,
        }
    }

    /// Its shape.
    pub fn dims(self) -> &'a [usize] {
        match self {
            Self::Plain(weight) => weight.dims(),
            Self::Packed(weight) => weight.dims(),
        }
    }

    /// The same numbers as a tensor.
    pub fn tensor(self) -> Tensor {
        match self {
            Self::Plain(weight) => weight.clone(),
            Self::Packed(weight) => weight.tensor(),
        }
    }
}

impl<'a> Layer<'a> {
    /// A layer whose weight is a tensor.
    pub fn plain(weight: &'a Tensor, bias: Option<&'a Tensor>) -> Self {
        Self { weight: Weight::Plain(weight), bias, joined: None }
    }

    /// The matrix that it lies in with other layers, if it still is what was put there.
    #[cfg(feature = "cuda")]
    pub(crate) fn joined(&self) -> Option<&'a Joined> {
        self.joined.filter(|joined| joined.is_of(self.weight, self.bias))
    }

    /// Its part of a packed stack, if it is packed and has the bias that it was packed with.
    pub(crate) fn part(&self) -> Option<&'a Packed> {
        match self.weight {
            Weight::Packed(part) if part.bias == self.bias.map(Tensor::id) => Some(part),
            _ => None,
        }
    }

    /// The number format in which it really multiplies: [`Precision::F32`] also if it was packed in [`Precision::Bf16`] for a
    /// processor without such products; `None` for a weight in any other type.
    pub fn precision(&self) -> Option<Precision> {
        match self.weight {
            Weight::Packed(part) => Some(part.stack.precision()),
            Weight::Plain(weight) if weight.dtype() == DType::F32 => Some(Precision::F32),
            Weight::Plain(weight) if weight.dtype() == DType::BF16 => Some(Precision::Bf16),
            Weight::Plain(_) => None,
        }
    }
}
