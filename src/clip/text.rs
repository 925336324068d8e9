//! The text tower, with its stages open: embed, encode, project.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::nn::{Activation, Block, LayerNorm, Linear};

/// A causal text transformer.
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct TextConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Longest text in tokens, start and end included.
    pub context: usize,
    /// Width of the tokens.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; they divide the width.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// ε of the layer norms; 1e-5 in every common checkpoint.
    pub norm_eps: f64,
    /// The position at which a text's feature is read.
    pub end_of_text: EndOfText,
}

/// The position of a text at which its feature is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndOfText {
    /// The position of the highest id: open_clip, and transformers where `eos_token_id` is 2 (all of OpenAI's files).
    HighestId,
    /// The first position of this id: transformers otherwise.
    First(u32),
}

impl EndOfText {
    /// The pooled position of one text.
    pub fn position(self, ids: &[u32]) -> usize {
        match self {
            Self::First(end) => ids.iter().position(|id| *id == end).unwrap_or(0),
            // the first of equal maxima, as argmax does
            Self::HighestId => ids.iter().enumerate().rev().max_by_key(|(_, id)| **id).map_or(0, |(i, _)| i),
        }
    }
}

impl TextConfig {
    /// A tower of these sizes in a line.
    pub(super) fn shown(&self) -> String {
        let Self { context, width, layers, .. } = self;
        format!("TextTower(context {context}, width {width}, {layers} layers)")
    }
}

/// CLIP's causal text transformer. Cloning shares the weights.
#[derive(Clone)]
pub struct TextTower {
    /// `[vocabulary, width]`
    pub token_embedding: Tensor,
    /// `[context, width]`
    pub position_embedding: Tensor,
    /// The residual blocks, causal, first to last.
    pub blocks: Vec<Block>,
    /// The layer norm before the projection.
    pub final_norm: LayerNorm,
    /// `[d, width]`, no bias
    pub projection: Linear,
    pub(super) config: TextConfig,
}

impl TextTower {
    /// Reads the tower under transformers' names (`text_model.*`, `text_projection`).
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(config: &TextConfig, projection: usize, vb: VarBuilder) -> Result<Self> {
        let (width, eps) = (config.width, config.norm_eps);
        let model = vb.pp("text_model");
        let embeddings = model.pp("embeddings");
        let layers = model.pp("encoder").pp("layers");
        let block = |i: usize| Block::load(width, config.heads, config.hidden, config.activation, eps, true, layers.pp(i));
        Ok(Self {
            token_embedding: embeddings.get((config.vocabulary, width), "token_embedding.weight")?,
            position_embedding: embeddings.get((config.context, width), "position_embedding.weight")?,
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            final_norm: LayerNorm::load(width, eps, model.pp("final_layer_norm"))?,
            projection: Linear::load_no_bias(width, projection, vb.pp("text_projection"))?,
            config: config.clone(),
        })
    }

    /// The sizes of the tower.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Token and position embeddings: ids `[batch, n]` (u32, n ≤ context) → `[batch, n, width]`.
    ///
    /// # Errors
    /// If the ids are not `[batch, n]`, are longer than the context or, on the CPU, outside the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, n) = ids.dims2()?;
        if n > self.config.context {
            candle_core::bail!("{n} tokens do not fit the context of {}: cut the texts with the tokenizer", self.config.context);
        }
        let tokens = self.token_embedding.index_select(&ids.flatten_all()?, 0)?.reshape((batch, n, self.config.width))?;
        tokens.broadcast_add(&self.position_embedding.narrow(0, 0, n)?)
    }

    /// All blocks under the causal mask: `[batch, n, width]` → `[batch, n, width]`.
    ///
    /// # Errors
    /// If the tokens have another width (Candle's).
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(tokens.clone(), |x, block| block.forward(&x))
    }

    /// Final norm and projection at each text's end: `[batch, n, width]` → features `[batch, d]`, not normalized.
    ///
    /// # Errors
    /// If there is not one end per text, or it lies behind the last token.
    pub fn project(&self, tokens: &Tensor, ends: &[usize]) -> Result<Tensor> {
        let (batch, n, width) = tokens.dims3()?;
        if ends.len() != batch || ends.iter().any(|end| *end >= n) {
            candle_core::bail!("expected {batch} end positions below {n}, got {ends:?}");
        }
        let rows: Vec<u32> = ends.iter().enumerate().map(|(i, end)| (i * n + end) as u32).collect();
        let rows = Tensor::from_vec(rows, batch, tokens.device())?;
        let pooled = tokens.reshape((batch * n, width))?.index_select(&rows, 0)?; // [batch, width]
        self.projection.forward(&self.final_norm.forward(&pooled)?)
    }

    /// ids `[batch, n]` (u32) and each text's end → features `[batch, d]`, not normalized. What follows an end is
    /// padding: under the causal mask it changes nothing.
    ///
    /// # Errors
    /// As [`embed`](Self::embed) and [`project`](Self::project).
    pub fn forward(&self, ids: &Tensor, ends: &[usize]) -> Result<Tensor> {
        self.project(&self.encode(&self.embed(ids)?)?, ends)
    }

    /// The same tower without a graph.
    pub fn detached(&self) -> Self {
        Self {
            token_embedding: self.token_embedding.detach(),
            position_embedding: self.position_embedding.detach(),
            blocks: self.blocks.iter().map(Block::detached).collect(),
            final_norm: self.final_norm.detached(),
            projection: self.projection.detached(),
            config: self.config.clone(),
        }
    }
}

impl std::fmt::Debug for TextTower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.config.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_text_rules() {
        assert_eq!(EndOfText::First(9).position(&[1, 9, 9]), 1);
        assert_eq!(EndOfText::HighestId.position(&[1, 4, 9, 9]), 2);
    }
}
