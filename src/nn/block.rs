//! One residual block of a CLIP tower.

use std::sync::OnceLock;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::attention_branch::AttentionBranch;
use super::mlp_branch::MlpBranch;
use super::{Activation, Attention, Isa, LayerNorm, Linear, Precision, on_cpu_f32};

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
    /// Where a tensor is missing or has another shape.
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

    /// Both branches: `[batch, tokens, width]` → `[batch, tokens, width]`, each one fused operation where the layers are
    /// [packed](Self::packed).
    ///
    /// # Errors
    /// Where `x` has another width or rank.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp(&self.attend(x)?)
    }

    /// The same, built from Candle's own operations: the reference.
    ///
    /// # Errors
    /// Where `x` has another width or rank.
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
    /// Where `x` has another width or rank.
    pub fn forward_class(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.before_attention(x)?;
        let class = normed.narrow(1, 0, 1)?;
        let mixed = self.attention.attend(&class.contiguous()?, &normed)?; // [batch, 1, width]
        let x = (x.narrow(1, 0, 1)? + mixed.to_dtype(x.dtype())?)?;
        self.mlp(&x)
    }

    /// The attention weights of this block on its input, softmax(q kᵀ / √d) of norm₁(x): `[batch, tokens, width]` →
    /// `[batch, heads, tokens, tokens]`, each row summing to 1.
    ///
    /// # Errors
    /// Where `x` has another width or rank.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.before_attention(x)?;
        self.attention.weights(&normed, &normed)
    }

    /// x + attention(norm₁(x))
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        match self.attention_branch(x) {
            Some(branch) => x.contiguous()?.apply_op3(&self.norm1.weight, &self.norm1.bias, branch),
            None => x + self.attention.forward(&self.before_attention(x)?)?.to_dtype(x.dtype())?,
        }
    }

    /// norm₁(x), in the type in which attention multiplies: the norms and what runs past the branches stay in the type of x.
    fn before_attention(&self, x: &Tensor) -> Result<Tensor> {
        self.norm1.forward(x)?.to_dtype(self.attention.query.weight.dtype())
    }

    /// x + fc2(act(fc1(norm₂(x))))
    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(branch) = self.mlp_branch(x) {
            return x.contiguous()?.apply_op3(&self.norm2.weight, &self.norm2.bias, branch);
        }
        let normed = self.norm2.forward(x)?.to_dtype(self.fc1.weight.dtype())?;
        let hidden = self.activation.forward(&self.fc1.forward(&normed)?)?; // [batch, tokens, hidden]
        x + self.fc2.forward(&hidden)?.to_dtype(x.dtype())?
    }

    /// The fused form of a branch, where its layers are packed and `x` is on the CPU.
    fn attention_branch(&self, x: &Tensor) -> Option<AttentionBranch> {
        let Attention { query, key, value, output, heads, causal } = &self.attention;
        let (query, out) = (query.part()?, output.part()?.alone()?.clone());
        if !query.is_stacked_with([key.part()?, value.part()?]) {
            return None; // one of them was replaced
        }
        let qkv = query.stack.clone();
        let fits = on_cpu_f32(x) && on_cpu_f32(&self.norm1.weight) && [out.inputs(), out.outputs()] == [qkv.inputs(); 2];
        let kept = self.norm1.learns(x).then(OnceLock::new);
        fits.then(|| AttentionBranch { qkv, out, heads: *heads, causal: *causal, eps: self.norm1.eps as f32, kept })
    }

    fn mlp_branch(&self, x: &Tensor) -> Option<MlpBranch> {
        let (fc1, fc2) = (self.fc1.part()?.alone()?.clone(), self.fc2.part()?.alone()?.clone());
        let fits = on_cpu_f32(x) && on_cpu_f32(&self.norm2.weight) && fc1.outputs() == fc2.inputs() && fc2.outputs() == fc1.inputs();
        let kept = self.norm2.learns(x).then(OnceLock::new);
        fits.then(|| MlpBranch { fc1, fc2, activation: self.activation, eps: self.norm2.eps as f32, kept })
    }

    /// The same with packed layers: each branch then is one operation, in which only the norms and the input have
    /// gradients. The weights must be frozen; they are copied, so later updates of theirs are not seen. A layer that is replaced
    /// takes effect: its branch is then computed layer by layer.
    ///
    /// # Errors
    /// Where a weight is no matrix (Candle's).
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
