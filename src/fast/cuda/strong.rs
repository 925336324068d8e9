//! Strong views on the GPU: what their kernels read, written down for a batch.

use candle_core::cuda::cudarc::driver::LaunchConfig;
use candle_core::op::BackpropOp;
use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::launch::{by_pictures, by_strips, launch, values, wrap};
use super::views::Upload;
use crate::recipe::{ViewRecipe, ViewStep, ViewTaps};

/// Words of a picture's head.
const HEAD: usize = 16;

/// Threads of a picture's block.
const STEPS_BLOCK: u32 = 512;

/// What stands before the pixels: heads, taps and steps of all pictures.
#[derive(Default)]
struct Words(Vec<i32>);

impl Words {
    fn long(&mut self, value: u64) {
        self.0.extend([value as u32 as i32, (value >> 32) as u32 as i32]);
    }

    fn taps(&mut self, taps: &ViewTaps) -> [i32; 2] {
        let at = self.0.len() as i32;
        self.0.extend(taps.starts.iter().chain(&taps.lengths).map(|value| *value as i32));
        self.0.extend(&taps.weights);
        [at, taps.width as i32]
    }

    fn step(&mut self, step: &ViewStep) {
        let at = self.0.len();
        self.0.extend([kind(step), 0]);
        match step {
            ViewStep::Levels(levels) => self.0.extend(levels.as_chunks().0.iter().map(|four| i32::from_le_bytes(*four))),
            ViewStep::Contrast(factor) | ViewStep::Saturation(factor) | ViewStep::Sharpness(factor) => {
                self.0.push(factor.to_bits() as i32);
            }
            ViewStep::Hue(shift) => self.0.push(i32::from(*shift)),
            ViewStep::Gray | ViewStep::AutoContrast | ViewStep::Equalize => {}
            ViewStep::Box { down, radius, inner, outer } => {
                self.0.extend([i32::from(*down), *radius as i32, *inner as i32, *outer as i32]);
            }
            ViewStep::Nearest(matrix, fill) => {
                matrix.iter().for_each(|value| self.long(*value as u64));
                self.0.extend(fill.map(i32::from));
            }
            ViewStep::Cubic(matrix, fill) => {
                matrix.iter().for_each(|value| self.long(value.to_bits()));
                self.0.extend(fill.map(i32::from));
            }
        }
        self.0[at + 1] = (self.0.len() - at) as i32;
    }
}

/// As `strong.cu` counts them.
fn kind(step: &ViewStep) -> i32 {
    match step {
        ViewStep::Levels(_) => 0,
        ViewStep::Contrast(_) => 1,
        ViewStep::Saturation(_) => 2,
        ViewStep::Hue(_) => 3,
        ViewStep::Gray => 4,
        ViewStep::Box { .. } => 5,
        ViewStep::AutoContrast => 6,
        ViewStep::Equalize => 7,
        ViewStep::Sharpness(_) => 8,
        ViewStep::Nearest(..) => 9,
        ViewStep::Cubic(..) => 10,
    }
}

/// The larger of the two pictures that a resize makes, of `side` rows or columns: the one between its two ways.
fn between(recipe: &ViewRecipe, side: usize) -> usize {
    3 * side * if recipe.rows_first { recipe.width } else { recipe.height }
}

impl Upload {
    /// Strong views by their recipes → planes `[n, 3, side, side]` f32, each level looked up in the table: three kernels for a batch. Work is
    /// in whole numbers, so the same recipes give the same bits.
    ///
    /// # Errors
    /// If there is no recipe, or one reads beyond its pixels; if the device has no memory left.
    pub fn views(&mut self, recipes: &[ViewRecipe], side: usize) -> Result<Tensor> {
        let fits = |recipe: &ViewRecipe| {
            recipe.pixels.len() == 3 * recipe.width * recipe.height
                && recipe.columns.fits(recipe.width, side)
                && recipe.rows.fits(recipe.height, side)
        };
        if recipes.is_empty() || side == 0 || !recipes.iter().all(fits) {
            candle_core::bail!("expected recipes of views of {side} × {side} pixels that read within theirs");
        }
        let (n, frame) = (recipes.len(), 3 * side * side);
        let mut words = Words(vec![0; n * HEAD]);
        let (mut pixels, mut work) = (0u64, 0u64);
        for (i, recipe) in recipes.iter().enumerate() {
            let mut head = Words::default();
            head.long(pixels);
            head.long(work);
            head.0.extend([recipe.width as i32, recipe.height as i32, i32::from(recipe.rows_first)]);
            head.0.extend(words.taps(&recipe.columns));
            head.0.extend(words.taps(&recipe.rows));
            let steps = words.0.len();
            recipe.steps.iter().for_each(|step| words.step(step));
            head.0.extend([steps as i32, (words.0.len() - steps) as i32]);
            words.0[i * HEAD..][..head.0.len()].copy_from_slice(&head.0);
            pixels += recipe.pixels.len() as u64;
            work += (2 * frame + between(recipe, side)) as u64;
        }
        let before = 4 * words.0.len();
        let size = before + pixels as usize;
        // batches differ in size by a few of a hundred
        let bytes = self.staged(size, size + size / 4, |to| {
            let (heads, mut rest) = to.split_at_mut(before);
            for (to, word) in heads.as_chunks_mut().0.iter_mut().zip(&words.0) {
                *to = word.to_le_bytes();
            }
            let mut parts = Vec::with_capacity(n);
            for recipe in recipes {
                let (part, after) = rest.split_at_mut(recipe.pixels.len());
                parts.push((part, recipe));
                rest = after;
            }
            parts.into_par_iter().for_each(|(to, recipe)| to.copy_from_slice(&recipe.pixels));
        })?;
        let bytes = bytes.slice(..);
        let (storage, layout) = self.table.storage_and_layout();
        let Storage::Cuda(table) = &*storage else { candle_core::bail!("the table is not on the device") };
        let (table, device) = (values::<f32>(table, layout)?, &self.device);
        // SAFETY: each kernel writes what the next reads.
        let frames = unsafe { device.alloc::<u8>(work as usize)? };
        // SAFETY: the last kernel writes every value.
        let planes = unsafe { device.alloc::<f32>(n * frame)? };
        let most = |of: fn(&ViewRecipe, usize) -> usize| recipes.iter().map(|recipe| of(recipe, side)).max().unwrap_or(0) as u64;
        let (before, side32) = (before as u64, side as u32);
        for (pass, most) in [(0u32, most(between)), (1, frame as u64)] {
            let grid = by_pictures(n as u32, most);
            // SAFETY: heads and taps were checked above; `work` bytes stand behind the frames.
            unsafe { launch!(device, "resized", grid, &bytes, &before, &side32, &pass, &frames) };
        }
        let blocks = LaunchConfig { block_dim: (STEPS_BLOCK, 1, 1), ..by_strips(n as u32) };
        // SAFETY: two frames of each picture stand behind the first, 3 · 256 values behind the table, n · frame behind the planes.
        unsafe { launch!(device, "strong_steps", blocks, &bytes, &table, &side32, &frames, &planes) };
        let planes = Storage::Cuda(wrap(planes, device));
        Ok(Tensor::from_storage(planes, (n, 3, side, side), BackpropOp::none(), false))
    }
}
