//! Multi-head self-attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

use super::{Linear, softmax};

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
    /// If a tensor is missing or has another shape.
    pub fn load(width: usize, heads: usize, causal: bool, vb: VarBuilder) -> Result<Self> {
        let linear = |name| Linear::load(width, width, vb.pp(name));
        let (query, key, value, output) = (linear("q_proj")?, linear("k_proj")?, linear("v_proj")?, linear("out_proj")?);
        Ok(Self { query, key, value, output, heads, causal })
    }

    /// Self-attention: `[batch, tokens, width]` → `[batch, tokens, width]`.
    ///
    /// # Errors
    /// If `x` has another width or rank.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.attend(x, x)
    }

    /// Attention of the tokens `x` over the tokens `context`: `[batch, n, width]`, `[batch, m, width]` → `[batch, n, width]`.
    ///
    /// # Errors
    /// If `x` or `context` has another width or rank.
    pub fn attend(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let [query, key, value] = [self.query.forward(x)?, self.key.forward(context)?, self.value.forward(context)?];
        self.output.forward(&self.mix(&query, &key, &value)?)
    }

    /// The same, built from Candle's own operations: the reference.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn attend_plain(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let [query, key, value] = [self.query.forward(x)?, self.key.forward(context)?, self.value.forward(context)?];
        self.output.forward(&self.mix_plain(&query, &key, &value)?)
    }

    /// softmax(q kᵀ / √d + mask) v: queries `[batch, n, width]`, keys and values `[batch, m, width]` → `[batch, n, width]`.
    fn mix(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        fast::prefer!(fast::attention(query, key, value, self.heads, self.causal));
        self.mix_plain(query, key, value)
    }

    fn mix_plain(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let mixed = self.scores(query, key)?.matmul(&self.split(value)?)?; // [batch, heads, n, width / heads]
        mixed.transpose(1, 2)?.reshape(query.shape())
    }

    /// The attention weights alone, `[batch, heads, n, m]`; each row sums to 1.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn weights(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        self.scores(&self.query.forward(x)?, &self.key.forward(context)?)
    }

    /// softmax(q kᵀ / √d + mask), `[batch, heads, n, m]`.
    fn scores(&self, query: &Tensor, key: &Tensor) -> Result<Tensor> {
        let scale = ((query.dim(2)? / self.heads.max(1)) as f64).powf(-0.5);
        let (query, key) = (self.split(&(query * scale)?)?, self.split(key)?);
        let scores = query.matmul(&key.transpose(2, 3)?.contiguous()?)?; // [batch, heads, n, m]
        if !self.causal {
            return softmax(&scores);
        }
        let (n, m) = (scores.dim(2)?, scores.dim(3)?);
        let mask: Vec<f32> = (0..n * m).map(|i| if i % m > i / m { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (1, 1, n, m), query.device())?.to_dtype(query.dtype())?;
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
    pub fn detached(&self) -> Self {
        Self {
            query: self.query.detached(),
            key: self.key.detached(),
            value: self.value.detached(),
            output: self.output.detached(),
            heads: self.heads,
            causal: self.causal,
        }
    }
}
