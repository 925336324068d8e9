//! One residual block of a CLIP tower.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

use super::{Activation, Attention, LayerNorm, Linear};

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
        let class = normed.narrow(1, 0, 1)?;
        let mixed = self.attention.attend(&class.contiguous()?, &normed)?; // [batch, 1, width]
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
        Self {
            norm1: self.norm1.detached(),
            attention: self.attention.detached(),
            norm2: self.norm2.detached(),
            fc1: self.fc1.detached(),
            fc2: self.fc2.detached(),
            activation: self.activation,
        }
    }
}
