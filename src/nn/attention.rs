//! Multi-head self-attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Linear, softmax};

/// Attention(x) = softmax(q kᵀ / √d + mask) v, then the output projection (Vaswani et al. 2017, eq. 1).
///
/// # Shapes
/// input and output [batch, tokens, width]; `mask` broadcasts to [batch, heads, tokens, tokens] and is added.
#[derive(Clone, Debug)]
pub struct Attention {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub heads: usize,
}

impl Attention {
    /// Reads `q_proj`, `k_proj`, `v_proj`, `out_proj` below `vb`.
    pub fn load(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        let linear = |name| Linear::load(width, width, vb.pp(name));
        Ok(Self { query: linear("q_proj")?, key: linear("k_proj")?, value: linear("v_proj")?, output: linear("out_proj")?, heads })
    }

    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        self.attend(x, x, mask)
    }

    /// Attention of the tokens `x` over the tokens `context`: [batch, n, width], [batch, m, width] → [batch, n, width].
    pub fn attend(&self, x: &Tensor, context: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let weights = self.weights(x, context, mask)?; // [batch, heads, n, m]
        let value = self.split(&self.value.forward(context)?)?;
        let mixed = weights.matmul(&value)?; // [batch, heads, n, width / heads]
        self.output.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, width))?)
    }

    /// The attention weights alone, [batch, heads, n, m]; each row sums to 1.
    pub fn weights(&self, x: &Tensor, context: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let scale = ((x.dim(2)? / self.heads) as f64).powf(-0.5);
        let query = self.split(&(self.query.forward(x)? * scale)?)?;
        let key = self.split(&self.key.forward(context)?)?;
        let scores = query.matmul(&key.transpose(2, 3)?)?; // [batch, heads, n, m]
        match mask {
            Some(mask) => softmax(&scores.broadcast_add(mask)?),
            None => softmax(&scores),
        }
    }

    /// [batch, tokens, width] → [batch, heads, tokens, width / heads]
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        x.reshape((batch, tokens, self.heads, width / self.heads))?.transpose(1, 2)?.contiguous()
    }

    /// The same values without a graph.
    pub fn frozen(&self) -> Self {
        Self {
            query: self.query.frozen(),
            key: self.key.frozen(),
            value: self.value.frozen(),
            output: self.output.frozen(),
            heads: self.heads,
        }
    }
}
