//! What `lafter demo` runs on: target scenes without labels, target scenes to test on, and the texts.

use super::{CLASSES, Domain, Scenes};
use crate::data::Dataset;
use crate::describe::{Descriptions, Templates, TextSet};
use crate::error::Result;
use crate::rng::Rng;

/// Descriptions of the classes in CuPL's JSON: `{"class name": ["sentence", …]}`. Plain sentences as a language model
/// writes them; none is a caption of pre-training.
pub const DESCRIPTIONS: &str = include_str!("descriptions.json");

/// Unlabeled images of the demo.
pub const TRAIN_IMAGES: usize = 1500;
/// Test images of the demo.
pub const TEST_IMAGES: usize = 1008;

/// The templates of the demo's text set; zero-shot uses the first alone.
pub const TEMPLATES: [&str; 6] =
    ["a photo of a {}", "a picture of a {}", "a drawing of a {}", "an image of a {}", "this is a {}", "a colorful drawing of a {}"];

/// [`DESCRIPTIONS`], read.
///
/// # Errors
/// [`crate::Error::Text`] if the embedded JSON is broken; a test reads it.
pub fn descriptions() -> Result<Descriptions> {
    Descriptions::parse(DESCRIPTIONS, "the demo's descriptions")
}

/// Descriptions and templates of all classes: T of eq. 2.
///
/// # Errors
/// As [`descriptions`].
///
/// ```
/// let texts = lafter::data::scenes::text_set()?;
/// assert!(texts.len() > 12 * 10);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn text_set() -> Result<TextSet> {
    TextSet::new(&CLASSES)?.with_templates(&Templates::new(TEMPLATES)?).with_descriptions(&descriptions()?)
}

/// Unlabeled training images and test images of the target domain, different scenes of one seed.
///
/// ```
/// let (train, test) = lafter::data::scenes::demo_sets(7777);
/// assert_eq!((train.len(), test.classes().len()), (lafter::data::scenes::TRAIN_IMAGES, 12));
/// ```
pub fn demo_sets(seed: u64) -> (Dataset, Dataset) {
    let stream = Rng::new(seed);
    let scenes = |label, len| Dataset::new(Scenes::new(Domain::Target, len, stream.fork(label).next_u64()));
    (scenes(1, TRAIN_IMAGES), scenes(2, TEST_IMAGES))
}

#[cfg(test)]
mod tests {
    use super::super::class_names;
    use super::*;

    #[test]
    fn every_class_is_described() {
        let described = descriptions().unwrap().for_classes(&class_names()).unwrap();
        assert!(described.iter().all(|sentences| sentences.len() >= 10));
    }

    #[test]
    fn training_and_test_scenes_differ() {
        let (train, test) = demo_sets(1);
        assert_ne!(train.image(0).unwrap(), test.image(0).unwrap());
        assert!(CLASSES.iter().enumerate().all(|(class, _)| (0..TEST_IMAGES).filter(|i| test.label(*i) == Some(class)).count() == 84));
    }
}
