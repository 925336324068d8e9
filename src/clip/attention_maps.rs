//! Attention weights read as maps over the image's patches.

use candle_core::{Result, Tensor};

/// The attention weights of one block, with its tokens told apart: the class token, visual prompts, patches.
///
/// A map holds one weight per patch, row by row from the upper left, ready for [`plot::attention`](crate::plot::attention()). It
/// does not sum to 1: the rest of the row went to the class token and the prompts.
///
/// ```
/// use lafter::{clip::{Clip, AttentionMaps}, rng::Rng, tune::VisualPrompts};
/// use candle_core::{DType, Device, Tensor};
/// let clip = Clip::demo()?;
/// let tower = clip.vision();
/// let prompts = VisualPrompts::shallow(3, tower.config().width, &mut Rng::new(1), &Device::Cpu)?;
/// let side = tower.config().image_size;
/// let pixels = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?;
///
/// let maps = prompts.attention(tower, &pixels, 2)?; // the same as:
/// let again = AttentionMaps::new(tower.attention(&prompts.insert(&tower.embed(&pixels)?)?, 2)?, prompts.count())?;
/// assert_eq!(maps.class_to_patches(0)?, again.class_to_patches(0)?);
/// assert_eq!(maps.prompt_to_patches(0, 2)?.len(), tower.config().patches());
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct AttentionMaps {
    /// `[batch, heads, n, n]` with n = 1 + prompts + patches: row = the query's token, column = the key's.
    pub weights: Tensor,
    /// Number of visual prompts behind the class token.
    pub prompts: usize,
}

impl AttentionMaps {
    /// From [`VisionTower::attention`](super::VisionTower::attention) on tokens with `prompts` visual prompts among them.
    ///
    /// # Errors
    /// If the weights have another shape, or no patch is left next to the prompts.
    pub fn new(weights: Tensor, prompts: usize) -> Result<Self> {
        let (_, _, rows, columns) = weights.dims4()?;
        if rows != columns || rows < 2 + prompts {
            candle_core::bail!(
                "expected weights [batch, heads, n, n] with n = 1 + {prompts} prompts + patches, got {:?}: give all of a block's weights",
                weights.dims()
            );
        }
        Ok(Self { weights, prompts })
    }

    /// Number of patches of the image.
    pub fn patches(&self) -> usize {
        self.weights.dims().last().map_or(0, |n| n - 1 - self.prompts)
    }

    /// Patches in a row of the image, which is square.
    pub fn columns(&self) -> usize {
        self.patches().isqrt()
    }

    /// Attention from the class token to each patch of image `image`, mean over heads: what the feature is made of.
    ///
    /// # Errors
    /// If the batch has no such image (Candle's).
    pub fn class_to_patches(&self, image: usize) -> Result<Vec<f32>> {
        self.mean(image, 0)
    }

    /// The same head by head: `[heads][patches]`.
    ///
    /// # Errors
    /// If the batch has no such image (Candle's).
    pub fn class_to_patches_by_head(&self, image: usize) -> Result<Vec<Vec<f32>>> {
        self.map(image, 0)?.to_vec2()
    }

    /// Attention from visual prompt `prompt`, counted from 0, to each patch of image `image`, mean over heads.
    ///
    /// # Errors
    /// If there is no such prompt.
    pub fn prompt_to_patches(&self, image: usize, prompt: usize) -> Result<Vec<f32>> {
        if prompt >= self.prompts {
            candle_core::bail!("there is no visual prompt {prompt}: these weights have {} of them, counted from 0", self.prompts);
        }
        self.mean(image, 1 + prompt)
    }

    /// How much of the class token's attention goes to (itself, all prompts, all patches), mean over heads; sums to 1.
    ///
    /// # Errors
    /// If the batch has no such image (Candle's).
    pub fn class_shares(&self, image: usize) -> Result<(f32, f32, f32)> {
        let row = self.row(image, 0)?.mean(0)?.to_vec1::<f32>()?; // [n]
        let sum = |from: usize, to: usize| row.get(from..to).unwrap_or_default().iter().sum::<f32>();
        Ok((sum(0, 1), sum(1, 1 + self.prompts), sum(1 + self.prompts, row.len())))
    }

    fn mean(&self, image: usize, token: usize) -> Result<Vec<f32>> {
        self.map(image, token)?.mean(0)?.to_vec1()
    }

    /// `[heads, patches]`
    fn map(&self, image: usize, token: usize) -> Result<Tensor> {
        self.row(image, token)?.narrow(1, 1 + self.prompts, self.patches())?.contiguous()
    }

    /// `[heads, n]`
    fn row(&self, image: usize, token: usize) -> Result<Tensor> {
        self.weights.detach().narrow(0, image, 1)?.narrow(2, token, 1)?.squeeze(2)?.squeeze(0)?.to_dtype(candle_core::DType::F32)
    }
}

impl std::fmt::Debug for AttentionMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AttentionMaps({:?}, {} prompts, {} patches)", self.weights.dims(), self.prompts, self.patches())
    }
}
