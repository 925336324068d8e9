//! Frozen linear layers on a GPU that read the same input, in one matrix.

use candle_core::{Result, Tensor, TensorId};

use super::Layer;

/// One layer of several that lie in one matrix on a GPU, so that one product computes them all: where it begins among their outputs,
/// and the tensors that it is.
#[derive(Clone)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub struct Joined {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) start: usize,
    of: [TensorId; 2],
}

impl Joined {
    /// Puts frozen layers on a GPU that read the same input into one matrix: the weight and the bias of each as a part of it, to take
    /// the place of those that were given, so that nothing is kept twice. `None` for layers on the CPU, of several types or widths,
    /// without a bias, or that learn.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn of<const N: usize>(layers: [Layer; N]) -> Result<Option<Vec<(Tensor, Tensor, Self)>>> {
        let Some(first) = layers.first().and_then(|layer| layer.weight.plain()) else { return Ok(None) };
        let fits = |tensor: &Tensor| tensor.device().is_cuda() && !tensor.track_op() && tensor.dtype() == first.dtype();
        let one_input = |weight: &Tensor| weight.rank() == 2 && weight.dims()[1..] == first.dims()[1..];
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for Layer { weight, bias, .. } in layers {
            let (Some(weight), Some(bias)) = (weight.plain(), bias) else { return Ok(None) };
            if !fits(weight) || !fits(bias) || !one_input(weight) {
                return Ok(None);
            }
            weights.push(weight);
            biases.push(bias);
        }
        let (weight, bias) = (Tensor::cat(&weights, 0)?.detach(), Tensor::cat(&biases, 0)?.detach());
        let (mut start, mut parts) = (0, Vec::with_capacity(N));
        for like in weights {
            let outputs = like.dims()[0];
            let (own, own_bias) = (weight.narrow(0, start, outputs)?.detach(), bias.narrow(0, start, outputs)?.detach());
            let of = [own.id(), own_bias.id()];
            parts.push((own, own_bias, Self { weight: weight.clone(), bias: bias.clone(), start, of }));
            start += outputs;
        }
        Ok(Some(parts))
    }

    /// Whether this is where these tensors lie: a layer whose weight or bias was replaced since is another one.
    #[cfg(feature = "cuda")]
    pub(crate) fn is_of(&self, weight: super::Weight, bias: Option<&Tensor>) -> bool {
        matches!((weight.plain(), bias), (Some(weight), Some(bias)) if self.of == [weight.id(), bias.id()])
    }
}
