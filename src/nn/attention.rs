//! Multi-head self-attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::fused_attention::FusedAttention;
use super::{Isa, Linear, Precision, on_cpu_f32, softmax};

/// Attention(x) = softmax(q kᵀ / √d + mask) v, then the output projection (Vaswani et al. 2017, eq. 1).
///
/// # Shapes
/// input and output `[batch, tokens, width]`.
#[derive(Clone, Debug)]
pub struct Attention {
    /// q, width → width.
    pub query: Linear,
    /// k, width → width.
    pub key: Linear,
    /// v, width → width.
    pub value: Linear,
    /// The output projection, width → width.
    pub output: Linear,
    /// Number of heads, at least 1; it divides the width, and d is the width of one.
    pub heads: usize,
    /// Whether a token sees only itself and those before it (the text tower).
    pub causal: bool,
}

impl Attention {
    /// Reads `q_proj`, `k_proj`, `v_proj`, `out_proj` below `vb`.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape.
    pub fn load(width: usize, heads: usize, causal: bool, vb: VarBuilder) -> Result<Self> {
        let linear = |name| Linear::load(width, width, vb.pp(name));
        let (query, key, value, output) = (linear("q_proj")?, linear("k_proj")?, linear("v_proj")?, linear("out_proj")?);
        Ok(Self { query, key, value, output, heads, causal })
    }

    /// Self-attention: `[batch, tokens, width]` → `[batch, tokens, width]`.
    ///
    /// # Errors
    /// Where `x` has another width or rank.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.attend(x, x)
    }

    /// Attention of the tokens `x` over the tokens `context`: `[batch, n, width]`, `[batch, m, width]` → `[batch, n, width]`.
    ///
    /// # Errors
    /// Where `x` or `context` has another width or rank.
    pub fn attend(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        if !on_cpu_f32(x) {
            return self.attend_plain(x, context);
        }
        let (query, key, value) = (self.query.forward(x)?, self.key.forward(context)?, self.value.forward(context)?);
        let mixed = query.apply_op3(&key, &value, FusedAttention { heads: self.heads, causal: self.causal, isa: Isa::best() })?;
        self.output.forward(&mixed)
    }

    /// The same, built from Candle's own operations: the reference, and the path on other devices.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn attend_plain(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let value = self.split(&self.value.forward(context)?)?;
        let mixed = self.weights(x, context)?.matmul(&value)?; // [batch, heads, n, width / heads]
        self.output.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, width))?)
    }

    /// The attention weights alone, `[batch, heads, n, m]`; each row sums to 1.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn weights(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let query = self.query.forward(x)?;
        let scale = ((query.dim(2)? / self.heads.max(1)) as f64).powf(-0.5);
        let query = self.split(&(query * scale)?)?;
        let key = self.split(&self.key.forward(context)?)?;
        let scores = query.matmul(&key.transpose(2, 3)?.contiguous()?)?; // [batch, heads, n, m]
        if !self.causal {
            return softmax(&scores);
        }
        let (n, m) = (scores.dim(2)?, scores.dim(3)?);
        let mask: Vec<f32> = (0..n * m).map(|i| if i % m > i / m { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (1, 1, n, m), x.device())?.to_dtype(x.dtype())?;
        softmax(&scores.broadcast_add(&mask)?)
    }

    /// `[batch, tokens, width]` → `[batch, heads, tokens, width / heads]`
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        if self.heads == 0 || width % self.heads != 0 {
            candle_core::bail!("{} heads do not divide the width {width}: set `heads` to a divisor of it", self.heads);
        }
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
            causal: self.causal,
        }
    }

    /// The same with packed layers ([`Linear::packed`]); query, key and value become one product.
    ///
    /// # Errors
    /// Where a weight is no matrix (Candle's).
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        let [query, key, value] = Linear::stacked([&self.query, &self.key, &self.value], precision, isa)?;
        Ok(Self { query, key, value, output: self.output.packed(precision, isa)?, heads: self.heads, causal: self.causal })
    }
}
