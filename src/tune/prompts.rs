//! Visual prompts: learned tokens next to the patches (VPT, Jia et al. 2022).

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor, Var};
use rand::RngCore;

use crate::nn::Param;

/// N_P learned tokens, inserted behind the class token after positions and pre-norm; v^p in eq. 4.
///
/// Shallow prompts pass through all blocks; deep ones are replaced by fresh ones before every block.
///
/// ```
/// use lafter::{clip::Clip, rng::Rng, tune::VisualPrompts};
/// use candle_core::{DType, Device, Tensor};
/// let clip = Clip::demo()?;
/// let tower = clip.vision();
/// let prompts = VisualPrompts::shallow(4, tower.config().width, &mut Rng::new(1), &Device::Cpu)?;
/// let side = tower.config().image_size;
/// let pixels = Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?;
/// let tokens = tower.embed(&pixels)?;
/// assert_eq!(prompts.insert(&tokens)?.dim(1)?, tokens.dim(1)? + 4);
/// assert_eq!(prompts.forward(tower, &pixels)?.dims(), [2, clip.config().projection]);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct VisualPrompts {
    /// One tensor `[prompts, width]` for shallow prompts, one of the same shape per block for deep ones, none at all without
    /// prompts.
    pub layers: Vec<Tensor>,
}

impl VisualPrompts {
    /// No prompts: [`forward`](Self::forward) is then the tower's own.
    pub fn none() -> Self {
        Self { layers: Vec::new() }
    }

    /// `count` prompts before the first block.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn shallow(count: usize, width: usize, rng: &mut impl RngCore, device: &Device) -> Result<Self> {
        Self::deep(count, width, 1, rng, device)
    }

    /// `count` prompts before each of `blocks` blocks. U(−a, a) with a = √(6 / (3·16·16 + width)), the released code's
    /// bound for every patch size.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn deep(count: usize, width: usize, blocks: usize, rng: &mut impl RngCore, device: &Device) -> Result<Self> {
        if count == 0 {
            return Ok(Self::none());
        }
        let bound = (6.0 / (3 * 16 * 16 + width) as f32).sqrt();
        let layers = (0..blocks).map(|_| uniform(count, width, bound, rng, device)).collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// Prompts per block.
    pub fn count(&self) -> usize {
        self.layers.first().and_then(|layer| layer.dims().first().copied()).unwrap_or(0)
    }

    /// `[batch, 1 + patches, width]` → `[batch, 1 + prompts + patches, width]`.
    ///
    /// # Errors
    /// If tokens and prompts differ in width.
    pub fn insert(&self, tokens: &Tensor) -> Result<Tensor> {
        match self.layers.first() {
            None => Ok(tokens.clone()),
            Some(first) => splice(tokens, first, 0),
        }
    }

    /// The tokens that block `i` reads, with its own prompts in the place of those before if they are deep: what
    /// `VisionTower::encode_class_with` calls before each block.
    ///
    /// # Errors
    /// If tokens and prompts differ in width.
    pub fn renew(&self, tokens: Tensor, i: usize) -> Result<Tensor> {
        match self.layers.get(i) {
            Some(layer) if i > 0 => splice(&tokens, layer, self.count()),
            _ => Ok(tokens),
        }
    }

    /// A copy in fresh variables, and the variables by name (`prompts.0`, …), which decay.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn trainable(&self) -> Result<(Self, Vec<Param>)> {
        let vars = self.layers.iter().map(|layer| Var::from_tensor(&layer.copy()?)).collect::<Result<Vec<_>>>()?;
        let layers = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let param = |(i, var)| Param { name: format!("prompts.{i}"), var, decay: true };
        Ok((Self { layers }, vars.into_iter().enumerate().map(param).collect()))
    }

    /// The same values without a graph.
    pub fn detached(&self) -> Self {
        Self { layers: self.layers.iter().map(Tensor::detach).collect() }
    }

    /// The tensors by name, as they are saved.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.layers.iter().enumerate().map(|(i, layer)| (format!("prompts.{i}"), layer.detach())).collect()
    }

    /// Reads back what [`tensors`](Self::tensors) gave.
    pub fn from_tensors(tensors: &HashMap<String, Tensor>) -> Self {
        Self { layers: (0..).map_while(|i| tensors.get(&format!("prompts.{i}")).cloned()).collect() }
    }
}

/// Puts `prompts` `[p, width]` behind the class token in place of the next `replaced` tokens.
fn splice(tokens: &Tensor, prompts: &Tensor, replaced: usize) -> Result<Tensor> {
    let (batch, n, width) = tokens.dims3()?;
    if n < 1 + replaced || prompts.rank() != 2 || prompts.dim(1)? != width {
        candle_core::bail!("visual prompts {:?} do not fit tokens {:?}: were they made for another tower?", prompts.dims(), tokens.dims());
    }
    let prompts = prompts.unsqueeze(0)?.broadcast_as((batch, prompts.dim(0)?, width))?;
    let class = tokens.narrow(1, 0, 1)?;
    let patches = tokens.narrow(1, 1 + replaced, n - 1 - replaced)?;
    Tensor::cat(&[&class, &prompts, &patches], 1) // [batch, 1 + p + patches, width]
}

/// U(−bound, bound), `[count, width]`, drawn on the host.
fn uniform(count: usize, width: usize, bound: f32, rng: &mut impl RngCore, device: &Device) -> Result<Tensor> {
    let mut draw = || (rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0); // [0, 1)
    let values: Vec<f32> = (0..count * width).map(|_| -bound + 2.0 * bound * draw()).collect();
    Tensor::from_vec(values, (count, width), device)
}

impl std::fmt::Debug for VisualPrompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VisualPrompts({} × {})", self.layers.len(), self.count())
    }
}
