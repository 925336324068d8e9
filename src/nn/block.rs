//! One residual block of a CLIP tower.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Activation, Attention, LayerNorm, Linear};

/// x ← x + attention(norm₁(x)); x ← x + fc2(act(fc1(norm₂(x)))): the pre-norm block of ViT (Dosovitskiy et al. 2021, eq. 2, 3).
///
/// # Shapes
/// [batch, tokens, width] → [batch, tokens, width].
#[derive(Clone, Debug)]
pub struct Block {
    pub norm1: LayerNorm,
    pub attention: Attention,
    pub norm2: LayerNorm,
    pub fc1: Linear,
    pub fc2: Linear,
    pub activation: Activation,
}

impl Block {
    /// Reads `layer_norm1`, `self_attn`, `layer_norm2`, `mlp.fc1`, `mlp.fc2` below `vb`.
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

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.norm1.forward(x)?)?)?;
        self.mlp(&x)
    }

    /// The block for the first token only, [batch, tokens, width] → [batch, 1, width]: exact, because later stages of
    /// the vision tower read nothing but the class token of the last block.
    pub fn forward_class(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let class = normed.narrow(1, 0, 1)?;
        let x = (x.narrow(1, 0, 1)? + self.attention.attend(&class.contiguous()?, &normed)?)?; // [batch, 1, width]
        self.mlp(&x)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.activation.forward(&self.fc1.forward(&self.norm2.forward(x)?)?)?; // [batch, tokens, hidden]
        x + self.fc2.forward(&hidden)?
    }

    /// The same values without a graph.
    pub fn frozen(&self) -> Self {
        Self {
            norm1: self.norm1.frozen(),
            attention: self.attention.frozen(),
            norm2: self.norm2.frozen(),
            fc1: self.fc1.frozen(),
            fc2: self.fc2.frozen(),
            activation: self.activation,
        }
    }
}
