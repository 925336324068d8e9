//! The step as parts: a run with the settings as they come gives, bit for bit, the method written out by hand.

use candle_core::Tensor;
use lafter::classify::{Head, TextClassifier, normalise, smoothed_cross_entropy};
use lafter::clip::Clip;
use lafter::data::scenes::{Domain, Scenes};
use lafter::data::{Dataset, epoch_batches};
use lafter::nn::{AdamW, AdamWConfig, ParamGroup};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run, TeacherHead, VisualPrompts};

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 14, 3))
}

fn classifier(clip: &Clip) -> TextClassifier {
    let classes = pictures().classes().len();
    TextClassifier { head: Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap() }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Eq. 3 and 4 as lesson 08 has them, on the batches, views and random streams of a run: losses, agreement and confidence by
/// epoch, and what was learned.
fn by_hand(clip: &Clip, config: &FinetuneConfig, seed: u64) -> candle_core::Result<(Vec<[u64; 3]>, Vec<Vec<u32>>)> {
    let (set, classifier, mut rng) = (pictures(), classifier(clip), Rng::new(seed));
    let start = VisualPrompts::shallow(config.prompts, clip.config().vision.width, &mut rng, clip.device())?;
    let order = rng.fork(0x7475_6e65);
    let (prompts, mut params) = start.trainable()?;
    let (student, norms) = clip.vision().frozen().trainable_norms()?;
    let (head, last) = classifier.head.trainable()?;
    params.extend(norms.into_iter().chain(last));
    let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
    let mut optimiser = AdamW::new(ParamGroup::decay_weights(&params, config.weight_decay), adamw)?;
    let teacher = student.frozen();
    let teacher_head = if config.teacher_head == TeacherHead::Shared { head.frozen() } else { classifier.head.copy()? };
    let strong_view = config.strong_view(clip.preprocess());
    let side = clip.config().vision.image_size;
    let mut epochs = Vec::new();
    for epoch in 0..config.epochs {
        let rng = order.fork(epoch as u64);
        let (mut losses, mut agreed, mut sure, mut images) = (0.0, 0, 0.0, 0);
        for batch in epoch_batches(set.len(), config.batch_size, true, Some(&mut rng.fork(u64::MAX))) {
            let pictures: Vec<_> = batch.iter().map(|index| set.image(*index).unwrap()).collect();
            let weak = clip.preprocess().batch(&pictures, clip.device()).unwrap();
            let views = pictures.iter().zip(&batch).flat_map(|(picture, i)| strong_view.apply(picture, &mut rng.fork(*i as u64)));
            let strong = Tensor::from_vec(views.collect(), (batch.len(), 3, side, side), clip.device())?;

            let answers = candle_nn::ops::softmax(&teacher_head.forward(&normalise(&teacher.forward(&weak)?)?)?, 1)?; // eq. 3
            let pseudo_labels = answers.argmax(1)?;
            let logits = head.forward(&prompts.forward(&student, &strong)?)?;
            let loss = smoothed_cross_entropy(&logits, &pseudo_labels, config.smoothing)?; // eq. 4
            optimiser.step(&loss.backward()?, 1.0)?;

            let n = batch.len();
            images += n;
            losses += f64::from(loss.to_scalar::<f32>()?) * n as f64;
            sure += f64::from(answers.max(1)?.mean_all()?.to_scalar::<f32>()?) * n as f64;
            let predictions = logits.argmax(1)?.to_vec1::<u32>()?;
            agreed += predictions.iter().zip(pseudo_labels.to_vec1::<u32>()?).filter(|(a, b)| **a == *b).count();
        }
        let images = images as f64;
        epochs.push([losses / images, 100.0 * agreed as f64 / images, 100.0 * sure / images].map(f64::to_bits));
    }
    Ok((epochs, params.iter().map(|param| bits(&param.var)).collect()))
}

#[test]
fn the_default_is_the_method_written_out_bit_for_bit() {
    let clip = Clip::demo().unwrap();
    for base in [FinetuneConfig::official(), FinetuneConfig::paper()] {
        let config = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, learning_rate: 1e-3, ..base };
        let tuner = Finetuner::new(&clip, &classifier(&clip), config.clone(), &mut Rng::new(7)).unwrap();
        let mut run = Run::new(tuner);
        let history = run.fit(&pictures(), |_| {}).unwrap();
        let (expected, params) = by_hand(&clip, &config, 7).unwrap();
        let ours: Vec<_> = history.iter().map(|e| [e.loss, e.agreement, e.confidence].map(f64::to_bits)).collect();
        assert_eq!(ours, expected, "{history:?}");
        assert_eq!(history[1].steps, 3);
        for (param, expected) in run.tuner.trainable().params.iter().zip(&params) {
            assert!(bits(&param.var) == *expected, "{} is another", param.name);
        }
    }
}
