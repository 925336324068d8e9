//! One residual block of a CLIP tower, and what it is made of next to its layers: softmax, attention, activation.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

use super::{LayerNorm, Linear};

/// pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) over the last dimension; `candle_nn::ops::softmax_last_dim` has no backward pass.
///
/// # Shapes
/// `[.., n]` → `[.., n]`.
///
/// # Errors
/// If the device has no memory left (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let p = lafter::nn::softmax(&Tensor::new(&[[0f32, 0.]], &Device::Cpu)?)?;
/// assert_eq!(p.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    fast::prefer!(fast::softmax(x));
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return softmax(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype()); // a sum in half precision misses what is small
    }
    candle_nn::ops::softmax(x, D::Minus1)
}

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
        let part = |name| Linear::load(width, width, vb.pp(name));
        Ok(Self { query: part("q_proj")?, key: part("k_proj")?, value: part("v_proj")?, output: part("out_proj")?, heads, causal })
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
        self.scores(query, key)?.matmul(&self.split(value)?)?.transpose(1, 2)?.reshape(query.shape())
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
        let (_, _, n, m) = scores.dims4()?;
        let mask = Tensor::from_iter((0..n * m).map(|i| if i % m > i / m { f32::NEG_INFINITY } else { 0.0 }), query.device())?;
        softmax(&scores.broadcast_add(&mask.reshape((n, m))?.to_dtype(query.dtype())?)?)
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
        let [query, key, value, output] = [&self.query, &self.key, &self.value, &self.output].map(Linear::detached);
        Self { query, key, value, output, ..*self }
    }
}

/// The activation of the MLPs; the checkpoint's configuration says which.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::nn::Activation;
/// let x = Tensor::new(&[0f32, 1.], &Device::Cpu)?;
/// let y = Activation::QuickGelu.forward(&x)?.to_vec1::<f32>()?;
/// assert!((y[1] - 0.8458).abs() < 1e-4);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(1.702 x): the weights of OpenAI and DFN.
    QuickGelu,
    /// x·Φ(x), exact: LAION's and most open_clip weights.
    Gelu,
}

impl Activation {
    /// x of any shape → act(x).
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(fast::gelu(x, self == Self::QuickGelu));
        self.forward_plain(x)
    }

    /// The same, built from Candle's own differentiable operations: the reference.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn forward_plain(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
        }
    }
}

/// x ← x + attention(norm₁(x)); x ← x + fc2(act(fc1(norm₂(x)))): the pre-norm block of ViT (Dosovitskiy et al. 2021, eq. 2, 3).
///
/// # Shapes
/// `[batch, tokens, width]` → `[batch, tokens, width]`.
#[derive(Clone, Debug)]
pub struct Block {
    /// The layer norm before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attention: Attention,
    /// The layer norm before the MLP.
    pub norm2: LayerNorm,
    /// First layer of the MLP, width → hidden.
    pub fc1: Linear,
    /// Second layer of the MLP, hidden → width.
    pub fc2: Linear,
    /// Activation between the two.
    pub activation: Activation,
}

impl Block {
    /// Reads `layer_norm1`, `self_attn`, `layer_norm2`, `mlp.fc1`, `mlp.fc2` below `vb`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(width: usize, heads: usize, hidden: usize, activation: Activation, eps: f64, causal: bool, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::load(width, eps, vb.pp("layer_norm1"))?,
            attention: Attention::load(width, heads, causal, vb.pp("self_attn"))?,
            norm2: LayerNorm::load(width, eps, vb.pp("layer_norm2"))?,
            fc1: Linear::load(width, hidden, vb.pp("mlp").pp("fc1"))?,
            fc2: Linear::load(hidden, width, vb.pp("mlp").pp("fc2"))?,
            activation,
        })
    }

    /// Both branches: `[batch, tokens, width]` → `[batch, tokens, width]`.
    ///
    /// # Errors
    /// If `x` has another width or rank.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp(&self.attend(x)?)
    }

    /// The same, built from Candle's own operations: the reference.
    ///
    /// # Errors
    /// If `x` has another width or rank.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward_plain(x)?;
        let x = (x + self.attention.attend_plain(&normed, &normed)?)?;
        let hidden = self.activation.forward_plain(&self.fc1.forward_plain(&self.norm2.forward_plain(&x)?)?)?;
        x + self.fc2.forward_plain(&hidden)?
    }

    /// The block for the first token only, `[batch, tokens, width]` → `[batch, 1, width]`: exact, because later stages of
    /// the vision tower read nothing but the class token of the last block.
    ///
    /// # Errors
    /// If `x` has another width or rank.
    pub fn forward_class(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp(&self.attend_class(x)?)
    }

    /// The first token of x + attention(norm₁(x)), `[batch, 1, width]`.
    fn attend_class(&self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(self.fused_first_attention(x)); // fast::
        let normed = self.before_attention(x)?;
        let mixed = self.attention.attend(&normed.narrow(1, 0, 1)?.contiguous()?, &normed)?; // [batch, 1, width]
        x.narrow(1, 0, 1)? + mixed.to_dtype(x.dtype())?
    }

    /// The attention weights of this block on its input, softmax(q kᵀ / √d) of norm₁(x): `[batch, tokens, width]` →
    /// `[batch, heads, tokens, tokens]`, each row summing to 1.
    ///
    /// # Errors
    /// If `x` has another width or rank.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.before_attention(x)?;
        self.attention.weights(&normed, &normed)
    }

    /// x + attention(norm₁(x))
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(self.fused_attention(x)); // fast::
        x + self.attention.forward(&self.before_attention(x)?)?.to_dtype(x.dtype())?
    }

    /// norm₁(x), in the type in which attention multiplies: the norms and what runs past the branches stay in the type of x.
    fn before_attention(&self, x: &Tensor) -> Result<Tensor> {
        self.norm1.forward(x)?.to_dtype(self.attention.query.weight.dtype())
    }

    /// x + fc2(act(fc1(norm₂(x))))
    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(self.fused_mlp(x)); // fast::
        let normed = self.norm2.forward(x)?.to_dtype(self.fc1.weight.dtype())?;
        let hidden = self.activation.forward(&self.fc1.forward(&normed)?)?; // [batch, tokens, hidden]
        x + self.fc2.forward(&hidden)?.to_dtype(x.dtype())?
    }

    /// The same values without a graph.
    pub fn detached(&self) -> Self {
        let (norm1, norm2, attention) = (self.norm1.detached(), self.norm2.detached(), self.attention.detached());
        Self { norm1, attention, norm2, fc1: self.fc1.detached(), fc2: self.fc2.detached(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn rows_in_half_precision_sum_to_one() {
        let x = Rng::new(1).normal_tensor((4, 577), 1.0, &Device::Cpu).unwrap(); // the tokens of ViT-L/14 at 336 pixels
        for dtype in [DType::F16, DType::BF16] {
            let p = softmax(&x.to_dtype(dtype).unwrap()).unwrap();
            assert_eq!(p.dtype(), dtype);
            let sums = p.to_dtype(DType::F32).unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 5e-3), "{dtype:?} {sums:?}");
        }
    }
}
