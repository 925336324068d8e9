//! The frozen layers of a tower in the form in which this processor multiplies fastest: what the crate `lafter-fast` makes of
//! the blocks.

use candle_core::{DType, Result, Tensor};
use lafter_fast::{self as fast, Isa, Joined, Layer, Norm, Packed, Precision};

use super::{Activation, Attention, Block, LayerNorm, Linear, Weight, more};

impl LayerNorm {
    pub(super) fn norm(&self) -> Norm<'_> {
        Norm { weight: &self.weight, bias: &self.bias, eps: self.eps }
    }
}

impl Linear {
    pub(crate) fn layer(&self) -> Layer<'_> {
        let weight = match &self.weight {
            Weight::Plain(weight) => fast::Weight::Plain(weight),
            Weight::Packed(weight) => fast::Weight::Packed(weight),
        };
        Layer { weight, bias: self.bias.as_ref(), joined: self.joined.as_ref() }
    }

    /// [`forward`](Self::forward) in one operation, if there is one for this weight.
    pub(super) fn fused(&self, x: &Tensor) -> Result<Option<Tensor>> {
        fast::linear(x, self.layer())?.map(|y| more::changed(self, x, y)).transpose()
    }

    /// The same layer with its weight put into the order in which the processor multiplies fastest, and in no other; it no longer sees
    /// updates of the tensor. On a GPU, [`Precision::Bf16`] is [`rounded`](Self::rounded), [`Precision::F32`] changes nothing, and
    /// layers that read the same input become parts of one matrix.
    /// A layer that learns stays as it is.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        let [layer] = Self::stacked([self], precision, isa)?;
        Ok(layer)
    }

    /// [`packed`](Self::packed) for layers that read the same input: one product computes them all.
    fn stacked<const N: usize>(layers: [&Self; N], precision: Precision, isa: Isa) -> Result<[Self; N]> {
        if layers.iter().all(|layer| layer.weight.device().is_cuda()) {
            let rounded = |layer: &Self| if precision == Precision::Bf16 { layer.rounded() } else { Ok(layer.clone()) };
            let own = layers.into_iter().map(rounded).collect::<Result<Vec<_>>>()?;
            let joined = if N > 1 { Joined::of(std::array::from_fn::<_, N, _>(|i| own[i].layer()))? } else { None };
            let mut own = match joined {
                Some(parts) => {
                    let joined = parts.into_iter().zip(own);
                    let place = |((weight, bias, joined), own): ((Tensor, _, _), _)| Self {
                        weight: weight.into(),
                        bias: Some(bias),
                        joined: Some(joined),
                        ..own
                    };
                    joined.map(place).collect()
                }
                None => own,
            }
            .into_iter();
            return Ok(layers.map(|layer| own.next().unwrap_or_else(|| layer.clone())));
        }
        let mut packed = Packed::stack(layers.map(Self::layer), precision, isa)?.into_iter().flatten();
        Ok(layers.map(|layer| Self { weight: packed.next().map_or_else(|| layer.weight.clone(), Weight::Packed), ..layer.clone() }))
    }

    /// The same layer with weight and bias in bf16, if it is frozen: it multiplies in bf16, sums in f32, and answers in
    /// the type of its input.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn rounded(&self) -> Result<Self> {
        let round = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_dtype(DType::BF16)?.detach()) };
        let weight = self.weight.tensor();
        if weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op) {
            return Ok(self.clone());
        }
        let rounded = Self::new(round(&weight)?, self.bias.as_ref().map(round).transpose()?);
        Ok(Self { tuning: self.tuning.clone(), ..rounded })
    }

    /// Memory of the weight in bytes, in whatever forms it is held for now: as a tensor, or packed for one direction, or for both.
    /// Layers that were packed together each report what all of them take.
    pub fn weight_bytes(&self) -> usize {
        match &self.weight {
            Weight::Plain(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Weight::Packed(weight) => weight.bytes(),
        }
    }

    /// The number format in which it really multiplies: [`Precision::F32`] also if it was packed in
    /// [`Precision::Bf16`] for a processor without such products; `None` for a weight in any other type.
    pub fn precision(&self) -> Option<Precision> {
        self.layer().precision()
    }
}

impl Attention {
    /// The same with packed layers ([`Linear::packed`]); query, key and value become one product.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        let [query, key, value] = Linear::stacked([&self.query, &self.key, &self.value], precision, isa)?;
        Ok(Self { query, key, value, output: self.output.packed(precision, isa)?, heads: self.heads, causal: self.causal })
    }
}

impl Block {
    /// The same with packed layers: each branch then is one operation, in which only the norms and the input have
    /// gradients. The weights must be frozen; later updates of their tensors are not seen. A layer that is replaced
    /// takes effect: its branch is then computed layer by layer.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        Ok(Self {
            attention: self.attention.packed(precision, isa)?,
            fc1: self.fc1.packed(precision, isa)?,
            fc2: self.fc2.packed(precision, isa)?,
            ..self.clone()
        })
    }

    /// The layers with a weight, in the order of their use.
    pub(crate) fn layers(&self) -> [&Linear; 6] {
        let Attention { query, key, value, output, .. } = &self.attention;
        [query, key, value, output, &self.fc1, &self.fc2]
    }

    /// x + attention(norm₁(x)) in one operation, if the layers are packed.
    pub(super) fn fused_attention(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Attention { query, key, value, output, heads, causal } = &self.attention;
        if [query, key, value, output].iter().any(|layer| layer.change().is_some()) {
            return Ok(None); // the branch knows nothing of it
        }
        fast::attention_branch(x, self.norm1.norm(), [query, key, value, output].map(Linear::layer), *heads, *causal)
    }

    /// The same for the first token alone, on a GPU.
    pub(super) fn fused_first_attention(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Attention { query, key, value, output, heads, causal } = &self.attention;
        if *causal || [query, key, value, output].iter().any(|layer| layer.change().is_some()) {
            return Ok(None);
        }
        fast::first_attention_branch(x, self.norm1.norm(), [query, key, value, output].map(Linear::layer), *heads)
    }

    /// x + fc2(act(fc1(norm₂(x)))) in one operation, if the layers are packed.
    pub(super) fn fused_mlp(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let layers = [&self.fc1, &self.fc2].map(Linear::layer);
        if self.fc1.change().is_some() || self.fc2.change().is_some() {
            return Ok(None);
        }
        fast::mlp_branch(x, self.norm2.norm(), layers, self.activation == Activation::QuickGelu)
    }
}
