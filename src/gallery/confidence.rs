//! How sure the teacher is of its pseudo-labels.

use candle_core::{DType, Device, Tensor};

use crate::embed::Pass;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::lafter::LaFTer;
use crate::plot::{self, Figure};
use crate::progress::silent;
use crate::tune::{Setup, Teacher, TeacherKind, TowerTeacher, Views};

/// More training images than this are not looked at again for the picture.
const MOST: usize = 300;

/// The softmax confidences of eq. 3, max_c softmax f(v(α_w(x))), on up to 300 training images, evenly spread: with the untouched
/// tower, and with the tuned one as the teacher of the last step had it (no prompts, tuned norms).
///
/// A teacher that the outcome does not keep, an average of weights or one that answers by picture, cannot be asked: in its place stands
/// the tuned tower.
///
/// # Errors
/// [`Error::Usage`] before stage two; [`Error::Data`] if none of them can be read.
pub fn teacher_confidences(experiment: &Experiment, lafter: &LaFTer) -> Result<(Vec<f64>, Vec<f64>)> {
    let (classifier, clip) = (lafter.text_classifier()?, lafter.clip());
    let tuned = lafter.tuned().ok_or_else(|| Error::Usage("there is no tuned tower yet: call fit_images first".into()))?;
    let config = &lafter.config.tune;
    let (head, sets) = (config.head_form.of(&classifier.head)?, config.sets());
    let kind = match &config.teacher {
        TeacherKind::Bank(_) | TeacherKind::Labeler(_) | TeacherKind::Transduct(_) => &TeacherKind::Tower, // what answers by picture has no answer here
        kind => kind,
    };
    let rng = &lafter.config.tune_rng();
    let teacher = kind.block(&Setup { clip, head: &head, student: tuned, config, sets: &sets, params: &[], rng })?;
    let images = experiment.train.spread(MOST);
    let of = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Vec<f64>> {
        let pass = Pass { max_unreadable: 1.0, ..Pass::new(&images, clip, "confidence") };
        let confidence = pass.run(silent, f)?.rows;
        Ok(confidence.to_dtype(DType::F32)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    };
    let untouched = TowerTeacher { tower: clip.vision().clone(), head: head.clone(), temperature: config.temperature };
    let confidence = |teacher: &dyn Teacher, pixels: &Tensor| -> Result<Tensor> {
        Ok(teacher.targets(&Views::new(pixels.clone(), pixels.clone()))?.confidence.unsqueeze(1)?) // [b, 1]
    };
    let before = of(&|pixels| confidence(&untouched, pixels))?;
    let after = of(&|pixels| confidence(&*teacher, pixels))?;
    Ok((before, after))
}

/// Both as histograms over one axis.
///
/// # Errors
/// [`Error::Usage`] if there is no value, or one is not finite.
///
/// ```
/// let figure = lafter::gallery::confidence(&[0.3, 0.35, 0.5], &[0.6, 0.8, 0.9])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn confidence(before: &[f64], after: &[f64]) -> Result<Figure> {
    let percent = |values: &[f64]| values.iter().map(|v| 100.0 * v).collect::<Vec<f64>>();
    let samples = [("before tuning".to_string(), percent(before)), ("after tuning".to_string(), percent(after))];
    plot::histogram("Confidence of the pseudo-labels", "confidence, %", 25, &samples)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::data::{Dataset, ImageSource, scenes};
    use crate::{Clip, LafterConfig, Preset};

    /// Every eighth picture cannot be read.
    struct Broken(scenes::Scenes);

    impl ImageSource for Broken {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn image(&self, index: usize) -> Result<RgbImage> {
            if index.is_multiple_of(8) { Err(Error::Image(format!("{index} is broken"))) } else { self.0.image(index) }
        }

        fn label(&self, index: usize) -> Option<usize> {
            self.0.label(index)
        }

        fn name(&self, index: usize) -> String {
            self.0.name(index)
        }

        fn classes(&self) -> &[String] {
            self.0.classes()
        }
    }

    #[test]
    fn unreadable_pictures_are_tolerated_in_both_sets_and_in_figures() {
        let broken = |count: usize| Dataset::new(Broken(scenes::Scenes::new(scenes::Domain::Target, count, 1)));
        let mut run = Experiment::new(Clip::demo().unwrap(), scenes::text_set().unwrap(), broken(64).unlabeled(), broken(24));
        run.config = LafterConfig::new(Preset::Demo);
        (run.config.text.epochs, run.config.tune.epochs, run.config.tune.batch_size, run.config.tune.max_unreadable) = (3, 1, 11, 0.2);
        let outcome = run.run(silent).unwrap();
        assert_eq!((outcome.tuned.as_ref().unwrap().n, outcome.report.images.unwrap().skipped), (21, 8));
        let values = |train: Dataset| {
            let run = Experiment { train, ..run.clone() };
            teacher_confidences(&run, &outcome.lafter).map(|(before, after)| (before.len(), after.len()))
        };
        assert_eq!(values(run.train.clone()).unwrap(), (56, 56));
        assert!(matches!(values(run.train.take(1)), Err(Error::Data(_))));
        let strict = |run: &mut Experiment| (run.config.tune.max_unreadable = 0.1, run.run(silent).is_err()).1;
        assert!(strict(&mut run.clone()));
        run.train = run.train.subset(&[1]).unwrap();
        assert!(strict(&mut run), "the test set alone");
    }
}
