//! What tuning adds to a linear layer: a change of low rank, a bias of its own.
//!
//! A copy of `layers.rs` leaves it out.

use candle_core::{Result, Tensor};

use super::Linear;

/// What is another than in the checkpoint, so that it is saved with what was tuned; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// A change of the weight that learns while the weight stays as it is.
    pub low_rank: Option<LowRank>,
    /// Whether the bias is another than the checkpoint's.
    pub bias: bool,
}

impl Tuning {
    /// The same values without a graph.
    pub(super) fn detached(&self) -> Self {
        Self { low_rank: self.low_rank.as_ref().map(LowRank::detached), bias: self.bias }
    }
}

/// y + s (x Aᵀ) Bᵀ, if the layer has a change that is not part of its weight.
pub(super) fn changed(layer: &Linear, x: &Tensor, y: Tensor) -> Result<Tensor> {
    match layer.change() {
        Some(change) => y + change.forward(x)?,
        None => Ok(y),
    }
}

impl Linear {
    /// The change of the weight that is not part of the weight itself.
    pub(crate) fn change(&self) -> Option<&LowRank> {
        self.tuning.low_rank.as_ref().filter(|change| !change.folded)
    }

    /// The same layer with its [change](Tuning::low_rank) folded into the weight: faster, equal but for rounding. The change is kept, so
    /// that it can be saved; the layer is no longer packed.
    ///
    /// # Errors
    /// If the change does not fit the weight (Candle's).
    pub fn folded(&self) -> Result<Self> {
        let Some(change) = self.change() else { return Ok(self.clone()) };
        let weight = (self.weight.tensor().to_dtype(change.down.dtype())? + change.weight()?)?.to_dtype(self.weight.dtype())?.detach();
        let low_rank = Some(LowRank { folded: true, ..change.clone() });
        Ok(Self { tuning: Tuning { low_rank, ..self.tuning }, ..Self::new(weight, self.bias.clone()) })
    }
}

/// ΔW = s B A, a change of a weight by a matrix of low rank (LoRA, Hu et al. 2022, eq. 3): y = x Wᵀ + b + s (x Aᵀ) Bᵀ.
///
/// With B = 0 the layer answers as without it.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use lafter::nn::{Linear, LowRank};
/// let a = Var::new(&[[1f32, -1.]], &Device::Cpu)?;
/// let b = Var::new(&[[3f32]], &Device::Cpu)?;
/// let change = LowRank { down: a.as_tensor().clone(), up: b.as_tensor().clone(), scale: 2.0, folded: false };
/// let mut layer = Linear::new(Tensor::new(&[[1f32, 2.]], &Device::Cpu)?, None);
/// layer.tuning.low_rank = Some(change);
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[11. - 6.]]);
/// assert_eq!(y.backward()?.get(&b).unwrap().to_vec2::<f32>()?, [[-2.]]);
/// assert_eq!(layer.folded()?.forward(&x)?.to_vec2::<f32>()?, [[5.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, `[rank, in]`.
    pub down: Tensor,
    /// B, `[out, rank]`.
    pub up: Tensor,
    /// s = α / rank.
    pub scale: f64,
    /// Whether the weight has it in it already.
    pub folded: bool,
}

impl LowRank {
    /// s (x Aᵀ) Bᵀ: `[.., in]` → `[.., out]`, in the number type of `x`.
    ///
    /// # Errors
    /// If `x` has another width (Candle's).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = (self.up.dim(0)?, self.down.dim(1)?);
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        let rows = x.to_dtype(self.down.dtype())?.reshape(((), inputs))?;
        let inner = rows.matmul(&self.down.t()?)?; // [rows, rank]
        (inner.matmul(&self.up.t()?)? * self.scale)?.reshape(dims)?.to_dtype(x.dtype())
    }

    /// s B A `[out, in]`.
    ///
    /// # Errors
    /// If the two do not fit (Candle's).
    pub fn weight(&self) -> Result<Tensor> {
        self.up.matmul(&self.down)? * self.scale
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn detached(&self) -> Self {
        Self { down: self.down.detach(), up: self.up.detach(), ..self.clone() }
    }
}
