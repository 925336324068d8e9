//! The vision tower, with its stages open: embed, encode, project.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

use crate::nn::{Activation, Block, LayerNorm, Linear};

/// A vision transformer.
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct VisionConfig {
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
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
}

impl VisionConfig {
    /// Number of patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// CLIP's vision transformer. `project(encode(embed(pixels)))` is the image feature; visual prompts are spliced in
/// between [`embed`](Self::embed) and [`encode`](Self::encode) (`lafter::tune::VisualPrompts`).
///
/// Cloning shares the weights. [`detached`](Self::detached) is the same tower without a graph.
#[derive(Clone)]
pub struct VisionTower {
    /// The strided convolution of the checkpoint as a linear map of each patch, `[width, 3 · patch²]`, no bias.
    pub patch_embedding: Linear,
    /// `[width]`
    pub class_embedding: Tensor,
    /// `[1 + patches, width]`
    pub position_embedding: Tensor,
    /// The layer norm before the first block.
    pub pre_norm: LayerNorm,
    /// The residual blocks, first to last.
    pub blocks: Vec<Block>,
    /// The layer norm before the projection.
    pub post_norm: LayerNorm,
    /// `[d, width]`, no bias
    pub projection: Linear,
    pub(super) config: VisionConfig,
}

impl VisionTower {
    /// Reads the tower under transformers' names (`vision_model.*`, `visual_projection`).
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(config: &VisionConfig, projection: usize, vb: VarBuilder) -> Result<Self> {
        let (width, eps) = (config.width, config.norm_eps);
        let model = vb.pp("vision_model");
        let embeddings = model.pp("embeddings");
        let layers = model.pp("encoder").pp("layers");
        let block = |i: usize| Block::load(width, config.heads, config.hidden, config.activation, eps, false, layers.pp(i));
        let kernel = embeddings.get((width, 3, config.patch_size, config.patch_size), "patch_embedding.weight")?;
        Ok(Self {
            patch_embedding: Linear::new(kernel.flatten_from(1)?, None),
            class_embedding: embeddings.get(width, "class_embedding")?,
            position_embedding: embeddings.get((1 + config.patches(), width), "position_embedding.weight")?,
            pre_norm: LayerNorm::load(width, eps, model.pp("pre_layrnorm"))?, // the checkpoints' own spelling
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            post_norm: LayerNorm::load(width, eps, model.pp("post_layernorm"))?,
            projection: Linear::load_no_bias(width, projection, vb.pp("visual_projection"))?,
            config: config.clone(),
        })
    }

    /// The sizes of the tower.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Patches, class token, positions, pre-norm.
    ///
    /// # Shapes
    /// pixels `[batch, 3, side, side]` → tokens `[batch, 1 + patches, width]`
    ///
    /// # Errors
    /// If the pixels are not `[batch, 3, side, side]` of this tower's side.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let batch = self.batch(pixels)?;
        let patches = patches(pixels, self.config.patch_size)?; // [batch, patches, 3 · patch²]
        let patches = self.patch_embedding.forward(&patches)?; // [batch, patches, width]
        let class = self.class_embedding.reshape((1, 1, ()))?.broadcast_as((batch, 1, self.config.width))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?; // [batch, 1 + patches, width]
        self.pre_norm.forward(&tokens.broadcast_add(&self.position_embedding)?)
    }

    /// How many pictures the pixels are.
    fn batch(&self, pixels: &Tensor) -> Result<usize> {
        let ((batch, channels, height, width), side) = (pixels.dims4()?, self.config.image_size);
        if (channels, height, width) != (3, side, side) {
            candle_core::bail!("expected pixels [batch, 3, {side}, {side}], got {:?}: preprocess the images for this tower", pixels.dims());
        }
        Ok(batch)
    }

    /// The weight of the patch embedding as the checkpoint has it, `[width, 3, patch, patch]`.
    ///
    /// # Errors
    /// If it was replaced by one of another size (Candle's).
    pub fn patch_kernel(&self) -> Result<Tensor> {
        let (width, patch) = (self.config.width, self.config.patch_size);
        let layer = &self.patch_embedding;
        let layer = layer.folded()?; // more::
        layer.weight.tensor().reshape((width, 3, patch, patch))
    }

    /// All blocks: tokens `[batch, n, width]` → `[batch, n, width]`.
    ///
    /// # Errors
    /// If the tokens have another width (Candle's).
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        self.encode_with(tokens, untouched)
    }

    /// [`encode`](Self::encode) with a hand in between: `before(i, tokens)` gives the tokens that block `i` reads. Deep visual
    /// prompts enter here.
    ///
    /// # Errors
    /// If the tokens have another width (Candle's), or `before` fails.
    ///
    /// ```
    /// use lafter::clip::Clip;
    /// use candle_core::{DType, Device, Tensor};
    /// let tower = Clip::demo()?.vision().clone();
    /// let side = tower.config().image_size;
    /// let tokens = tower.embed(&Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?)?;
    /// let louder = tower.encode_with(&tokens, |i, x| if i == 2 { x * 1.1 } else { Ok(x) })?; // block 2 reads louder tokens
    /// assert_eq!(louder.dims(), tower.encode(&tokens)?.dims());
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn encode_with(&self, tokens: &Tensor, before: impl Fn(usize, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        self.first_blocks(self.blocks.len(), tokens, &before)
    }

    /// All blocks, the last for the class token only (exact, and cheaper): `[batch, n, width]` → `[batch, 1, width]`.
    ///
    /// # Errors
    /// If the tokens have another width or there are none (Candle's).
    pub fn encode_class(&self, tokens: &Tensor) -> Result<Tensor> {
        self.encode_class_with(tokens, untouched)
    }

    /// [`encode_class`](Self::encode_class) with the hand of [`encode_with`](Self::encode_with).
    ///
    /// # Errors
    /// As [`encode_class`](Self::encode_class), or if `before` fails.
    pub fn encode_class_with(&self, tokens: &Tensor, before: impl Fn(usize, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let Some((last, rest)) = self.blocks.split_last() else { return tokens.narrow(1, 0, 1) };
        let x = self.first_blocks(rest.len(), tokens, &before)?;
        last.forward_class(&before(rest.len(), x)?)
    }

    /// The loop of the tower: the first `count` blocks, each on what `before` makes of its tokens.
    fn first_blocks(&self, count: usize, tokens: &Tensor, before: &impl Fn(usize, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        self.blocks.iter().take(count).enumerate().try_fold(tokens.clone(), |x, (i, block)| block.forward(&before(i, x)?))
    }

    /// The attention weights of block `layer`, counted from 0: what each token (row) reads from each other (column).
    /// Tokens stand as they were given: the class token, visual prompts if any, patches row by row. Differentiable, so that
    /// a loss may ask for attention, too.
    ///
    /// # Shapes
    /// tokens `[batch, n, width]` → `[batch, heads, n, n]`; each row sums to 1.
    /// [`AttentionMaps`](super::AttentionMaps) picks the parts.
    ///
    /// # Errors
    /// If the tower has no such block.
    ///
    /// ```
    /// use lafter::clip::Clip;
    /// use candle_core::{DType, Device, Tensor};
    /// let tower = Clip::demo()?.vision().clone();
    /// let side = tower.config().image_size;
    /// let tokens = tower.embed(&Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?)?;
    /// let (heads, n) = (tower.config().heads, tokens.dim(1)?);
    /// assert_eq!(tower.attention(&tokens, 0)?.dims(), [2, heads, n, n]);
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn attention(&self, tokens: &Tensor, layer: usize) -> Result<Tensor> {
        self.attention_with(tokens, layer, untouched)
    }

    /// [`attention`](Self::attention) with the hand of [`encode_with`](Self::encode_with).
    ///
    /// # Errors
    /// If the tower has no such block, or `before` fails.
    pub fn attention_with(&self, tokens: &Tensor, layer: usize, before: impl Fn(usize, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let Some(block) = self.blocks.get(layer) else {
            candle_core::bail!("there is no block {layer}: this tower has blocks 0 to {}", self.blocks.len().saturating_sub(1));
        };
        let x = self.first_blocks(layer, tokens, &before)?;
        block.attention_weights(&before(layer, x)?)
    }

    /// Post-norm and projection of the class token: `[batch, n ≥ 1, width]` → features `[batch, d]`, not normalized.
    ///
    /// # Errors
    /// If the tokens have another width or there are none (Candle's).
    pub fn project(&self, tokens: &Tensor) -> Result<Tensor> {
        let class = tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?; // [batch, width]
        self.projection.forward(&self.post_norm.forward(&class)?)
    }

    /// pixels `[batch, 3, side, side]` → features `[batch, d]`, not normalized.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        if self.batch(pixels)? == 0 && pixels.device().is_cuda() {
            return pixels.reshape((0, self.projection.weight.dims2()?.0)); // Candle's operations on a GPU take no launch of nothing
        }
        self.project(&self.encode_class(&self.embed(pixels)?)?)
    }

    /// Every layer norm with its checkpoint name, from input to output: what LaFTer tunes.
    pub fn norms_mut(&mut self) -> Vec<(String, &mut LayerNorm)> {
        let mut norms = vec![("vision_model.pre_layrnorm".to_string(), &mut self.pre_norm)];
        for (i, block) in self.blocks.iter_mut().enumerate() {
            norms.push((format!("vision_model.encoder.layers.{i}.layer_norm1"), &mut block.norm1));
            norms.push((format!("vision_model.encoder.layers.{i}.layer_norm2"), &mut block.norm2));
        }
        norms.push(("vision_model.post_layernorm".to_string(), &mut self.post_norm));
        norms
    }

    /// The same tower without a graph. It shares storage, so it sees later updates of tuned norms: this is the tower of
    /// the pseudo-labels (eq. 3).
    pub fn detached(&self) -> Self {
        Self {
            patch_embedding: self.patch_embedding.detached(),
            class_embedding: self.class_embedding.detach(),
            position_embedding: self.position_embedding.detach(),
            pre_norm: self.pre_norm.detached(),
            blocks: self.blocks.iter().map(Block::detached).collect(),
            post_norm: self.post_norm.detached(),
            projection: self.projection.detached(),
            config: self.config.clone(),
        }
    }
}

/// Pixels `[batch, channels, grid · side, grid · side]` → patches `[batch, grid², channels · side²]`, row by row from the top
/// left, the values of each in the order of a convolution's weight: a linear layer on them is a convolution whose stride is its
/// size.
///
/// # Errors
/// If the images are not square, or patches do not tile them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let pixels = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let patches = lafter::clip::patches(&pixels, 2)?;
/// assert_eq!(patches.to_vec3::<f32>()?[0][1], [2., 3., 6., 7.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn patches(pixels: &Tensor, side: usize) -> Result<Tensor> {
    let (_, _, height, width) = pixels.dims4()?;
    if side == 0 || height != width || !height.is_multiple_of(side) {
        candle_core::bail!("images of {height} × {width} pixels cannot be cut into patches of {side}");
    }
    fast::prefer!(fast::patches(pixels, side));
    patches_plain(pixels, side)
}

/// The same, built from Candle's own operations: the reference.
fn patches_plain(pixels: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, _) = pixels.dims4()?;
    let grid = height / side;
    let cut = pixels.reshape((batch, channels, grid, side, grid * side))?.reshape(vec![batch, channels, grid, side, grid, side])?;
    cut.permute(vec![0, 2, 4, 1, 3, 5])?.reshape((batch, grid * grid, channels * side * side))
}

/// The hand that changes nothing.
fn untouched(_block: usize, tokens: Tensor) -> Result<Tensor> {
    Ok(tokens)
}

impl std::fmt::Debug for VisionTower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let VisionConfig { image_size, patch_size, width, layers, .. } = &self.config;
        write!(f, "VisionTower({image_size}px / {patch_size}, width {width}, {layers} layers)")
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    proptest! {
        #[test]
        fn the_fused_cut_equals_the_plain_one(batch in 1usize..4, channels in 1usize..4, grid in 1usize..8, side in 1usize..8) {
            let pixels = Rng::new(1).normal_tensor((batch, channels, grid * side, grid * side), 1.0, &Device::Cpu).unwrap();
            let (fused, plain) = (patches(&pixels, side).unwrap(), patches_plain(&pixels, side).unwrap());
            prop_assert_eq!(fused.to_vec3::<f32>().unwrap(), plain.to_vec3::<f32>().unwrap());
        }
    }

    #[test]
    fn images_that_do_not_divide_are_an_error() {
        assert!(patches(&Tensor::zeros((1, 3, 5, 5), candle_core::DType::F32, &Device::Cpu).unwrap(), 2).is_err());
    }
}
