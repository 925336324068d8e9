//! Rendered scenes: twelve everyday objects in seven settings, drawn from a seed, with truthful captions.
//!
//! The demo needs pictures without a download. [`Scene::sample`] draws the parameters of a picture (object, colors,
//! setting, place, size, turn); [`Scene::render`] paints the clean picture of the source domain, on which the demo CLIP
//! was trained, and [`Scene::render_shifted`] the same scene as the target domain shows it ([`Shift::fair`]: confetti, and
//! a lamp of another color for each picture). [`captions`] tells what the parameters say. Pictures are
//! vector graphics: any side length shows the same scene.
//!
//! ```
//! use lafter::data::scenes::{Domain, Scenes};
//! let scenes = Scenes::new(Domain::Source, 24, 7777);
//! let picture = scenes.scene(0).render(64);
//! assert_eq!(picture.dimensions(), (64, 64));
//! ```

mod canvas;
pub mod captions;
mod demo;
mod objects;
mod palette;
mod scene;
mod setting;
mod shift;

use image::RgbImage;

pub use demo::{DESCRIPTIONS, TEMPLATES, TEST_IMAGES, TRAIN_IMAGES, demo_sets, descriptions, text_set};
pub use objects::{CLASSES, Look};
pub use palette::{COLORS, Color};
pub use scene::Scene;
pub use setting::{SETTINGS, Setting};
pub use shift::Shift;

use super::ImageSource;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Side of the pictures in pixels.
pub const SIDE: usize = 64;

/// Which rendering of the scenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Clean pictures: what the demo CLIP saw.
    Source,
    /// [`Shift::fair`]: the same classes, another look.
    Target,
}

/// A data set of scenes with equally frequent classes. Pictures are rendered when asked for, so it holds no pixels.
#[derive(Clone, Debug)]
pub struct Scenes {
    classes: Vec<String>,
    labels: Vec<usize>,
    shift: Option<Shift>,
    stream: Rng,
    domain: &'static str,
}

impl Scenes {
    /// `len` scenes of `domain`. The same seed gives the same scenes in both domains, so take different seeds for
    /// training and test sets.
    pub fn new(domain: Domain, len: usize, seed: u64) -> Self {
        match domain {
            Domain::Source => Self::build(len, seed, None, "source"),
            Domain::Target => Self::build(len, seed, Some(Shift::fair()), "target"),
        }
    }

    /// `len` scenes under a shift of your own.
    pub fn shifted(shift: Shift, len: usize, seed: u64) -> Self {
        Self::build(len, seed, Some(shift), "shifted")
    }

    fn build(len: usize, seed: u64, shift: Option<Shift>, domain: &'static str) -> Self {
        let stream = Rng::new(seed);
        let mut labels: Vec<usize> = (0..len).map(|i| i % CLASSES.len()).collect();
        stream.fork(u64::MAX).shuffle(&mut labels);
        Self { classes: class_names(), labels, shift, stream, domain }
    }

    /// The parameters of picture `index` (of class 0 where the index is past the end).
    pub fn scene(&self, index: usize) -> Scene {
        let class = self.labels.get(index).copied().unwrap_or(0);
        Scene::sample(class, &mut self.stream.fork(index as u64))
    }
}

impl ImageSource for Scenes {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.get(index).copied()
    }

    fn name(&self, index: usize) -> String {
        format!("{} scene {index}", self.domain)
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        if index >= self.labels.len() {
            return Err(Error::Data(format!("scene {index} of {}: take an index below the length", self.labels.len())));
        }
        let scene = self.scene(index);
        Ok(match &self.shift {
            None => scene.render(SIDE),
            Some(shift) => scene.render_shifted(SIDE, shift),
        })
    }
}

/// [`CLASSES`] as owned strings.
pub fn class_names() -> Vec<String> {
    CLASSES.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_pictures_and_another_seed_others() {
        let scenes = |seed| Scenes::new(Domain::Target, 24, seed);
        let (a, b, c) = (scenes(1), scenes(1), scenes(2));
        assert!((0..24).all(|i| a.image(i).unwrap() == b.image(i).unwrap()));
        assert!((0..24).all(|i| a.image(i).unwrap() != c.image(i).unwrap()));
        assert!(a.image(24).is_err());
    }

    #[test]
    fn classes_are_equally_frequent_and_shuffled() {
        let scenes = Scenes::new(Domain::Source, 240, 3);
        assert!((0..CLASSES.len()).all(|class| (0..240).filter(|i| scenes.label(*i) == Some(class)).count() == 20));
        assert!((0..12).any(|i| scenes.label(i) != Some(i)));
    }

    #[test]
    fn a_scene_looks_the_same_at_any_size() {
        let scene = Scenes::new(Domain::Source, 1, 4).scene(0);
        let large = image::imageops::resize(&scene.render(128), 32, 32, image::imageops::FilterType::Triangle);
        let small = scene.render(32);
        let off: f32 = small.iter().zip(large.iter()).map(|(a, b)| (f32::from(*a) - f32::from(*b)).abs()).sum();
        assert!(off / (3.0 * 1024.0) < 6.0, "mean difference {}", off / 3072.0);
    }

    #[test]
    fn no_shift_is_the_clean_picture_and_the_fair_colors_it() {
        let scene = Scenes::new(Domain::Source, 1, 5).scene(0);
        let (clean, unshifted) = (scene.render(48), scene.render_shifted(48, &Shift::none()));
        assert!(clean.iter().zip(unshifted.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));
        // the share of each channel varies with the lamp, far more than with the scene
        let red = |image: &RgbImage| {
            let sum = |c: usize| image.pixels().map(|pixel| f32::from(pixel[c])).sum::<f32>();
            sum(0) / (sum(0) + sum(1) + sum(2)).max(1.0)
        };
        let spread = |domain| {
            let shares: Vec<f32> = (0..48).map(|i| red(&Scenes::new(domain, 48, 6).image(i).unwrap())).collect();
            let mean = shares.iter().sum::<f32>() / 48.0;
            shares.iter().map(|share| (share - mean).powi(2)).sum::<f32>()
        };
        assert!(spread(Domain::Target) > 1.5 * spread(Domain::Source));
    }
}
