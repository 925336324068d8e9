//! Attention of a tower over a picture as a figure.

use image::RgbImage;

use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::plot::{self, Figure};
use crate::tune::{Tuned, VisualPrompts};

/// More blocks than this are shown at even distances, the last among them.
const MOST_BLOCKS: usize = 8;

/// The class token's attention over each picture, one map per block (mean over heads): of the untouched tower, and in a second
/// row of the tuned one, if one is given.
///
/// # Errors
/// [`Error::Usage`] if there is no picture.
///
/// ```
/// use lafter::{clip::Clip, gallery::class_attention};
/// let picture = image::RgbImage::from_fn(48, 48, |x, y| image::Rgb([x as u8 * 5, y as u8 * 5, 90]));
/// let figure = class_attention("Attention of the class token", &Clip::demo()?, None, &[picture])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn class_attention(title: &str, clip: &Clip, tuned: Option<&Tuned>, pictures: &[RgbImage]) -> Result<Figure> {
    let tower = clip.vision();
    let blocks = shown(tower.blocks.len());
    let (mut rows, mut columns) = (Vec::new(), 1);
    for picture in pictures {
        let pixels = clip.preprocess().batch(std::slice::from_ref(picture), clip.device())?;
        for tuned in std::iter::once(None).chain(tuned.map(Some)) {
            let mut maps = Vec::with_capacity(blocks.len());
            for &layer in &blocks {
                let attention = match tuned {
                    None => VisualPrompts::none().attention(tower, &pixels, layer)?,
                    Some(tuned) => tuned.attention(&pixels, layer)?,
                };
                columns = attention.columns();
                let caption = format!("block {}{}", layer + 1, if tuned.is_some() { ", tuned" } else { "" });
                maps.push((caption, attention.class_to_patches(0)?));
            }
            rows.push((clip.preprocess().image(picture), maps));
        }
    }
    plot::attention_rows(title, columns, &rows)
}

/// Each visual prompt's attention over a picture in block `layer`, counted from 0 (mean over heads).
///
/// # Errors
/// [`Error::Usage`] if nothing was tuned with prompts, or the tower has no such block.
pub fn prompt_attention(title: &str, clip: &Clip, tuned: &Tuned, picture: &RgbImage, layer: usize) -> Result<Figure> {
    if tuned.prompts.count() == 0 {
        return Err(Error::Usage("these weights have no visual prompts to look through: tune with prompts of at least 1".into()));
    }
    let pixels = clip.preprocess().batch(std::slice::from_ref(picture), clip.device())?;
    let attention = tuned.attention(&pixels, layer)?;
    let map = |prompt| Ok((format!("prompt {}", prompt + 1), attention.prompt_to_patches(0, prompt)?));
    let maps = (0..attention.prompts).map(map).collect::<Result<Vec<_>>>()?;
    plot::attention(title, &clip.preprocess().image(picture), attention.columns(), &maps)
}

/// Test pictures of the first three classes that can be read; without a test set, the first three training pictures.
pub(super) fn of_three_classes(experiment: &Experiment) -> Vec<RgbImage> {
    let mut seen = Vec::new();
    let mut pictures = Vec::new();
    let pictures_of = experiment.test.as_ref().unwrap_or(&experiment.train);
    for index in 0..pictures_of.len() {
        let label = pictures_of.label(index);
        if label.is_some() && seen.contains(&label) {
            continue;
        }
        if let Ok(picture) = pictures_of.image(index) {
            seen.push(label);
            pictures.push(picture);
        }
        if pictures.len() == 3 {
            break;
        }
    }
    pictures
}

fn shown(blocks: usize) -> Vec<usize> {
    let count = blocks.min(MOST_BLOCKS);
    (1..=count).map(|i| (i * blocks).div_ceil(count) - 1).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_block_is_always_shown() {
        assert_eq!(super::shown(4), [0, 1, 2, 3]);
        assert_eq!(super::shown(12), [1, 2, 4, 5, 7, 8, 10, 11]);
        assert_eq!(super::shown(24).last(), Some(&23));
        assert!(super::shown(0).is_empty());
    }
}
