//! The fused loss of the text classifier against its plain form in f64, on random shapes and for any number of threads.

use candle_core::{DType, Device, Result, Tensor, Var};
use lafter::classify::{Head, NoisyTexts, TextClassifier, TextClassifierConfig, normalize, smoothed_cross_entropy};
use lafter::rng::Rng;
use proptest::prelude::*;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn f64s(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

fn length(tensor: &Tensor) -> f64 {
    f64s(tensor).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// One step of eq. 2 by the definition, in f64: the noisy features, and the loss with its graph to `weight` [C, d].
fn reference(features: &Tensor, labels: &[usize], noise: &Tensor, smoothing: f64, weight: &Var) -> Result<(Tensor, Tensor)> {
    let x = (normalize(&f64s(features))? + f64s(noise))?;
    let logits = x.matmul(&f64s(weight).t()?)?;
    let labels = Tensor::from_iter(labels.iter().map(|label| *label as u32), &Device::Cpu)?;
    Ok((x, smoothed_cross_entropy(&logits, &labels, smoothing)?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Loss and gradient of the fused form are within 1e-5 of f64, relative to their own length, however much of it cancels.
    /// Candle's operations in f32 are not always: they come to 1e-5 themselves, so they are not a reference for that.
    ///
    /// With one class p = q = 1 and the gradient Σ (p − q) xᵀ / n is 0: what is left is the rounding of its terms.
    #[test]
    fn the_fused_loss_is_the_plain_one(
        n in 1usize..700, width in 1usize..90, classes in 1usize..130, noise in prop_oneof![Just(0f32), 0.01f32..1.0],
        smoothing in prop_oneof![Just(0f64), 0.01f64..0.9], some in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let features = rng.normal_tensor((n, width), 3.0, &Device::Cpu).unwrap();
        let labels: Vec<usize> = (0..n).map(|_| rng.below(classes)).collect();
        let rows: Option<Vec<u32>> = some.then(|| (0..1 + rng.below(2 * n)).map(|_| rng.below(n) as u32).collect());
        let (head, params) = Head::linear(width, classes, &mut rng, &Device::Cpu).unwrap().trainable().unwrap();
        let weight = &params[0].var;
        let texts = NoisyTexts::new(features.clone(), &labels, noise, smoothing).unwrap();

        let mut rngs = [Rng::new(5), Rng::new(5)];
        let (fused, right) = texts.loss(&head, rows.as_deref(), &mut rngs[0]).unwrap();
        let (plain, right_plain) = texts.loss_plain(&head, rows.as_deref(), &mut rngs[1]).unwrap();
        prop_assert_eq!(&rngs[0], &rngs[1], "both forms draw equally many numbers");
        let right = [right, right_plain].map(|right| right.to_scalar::<f32>().unwrap());
        prop_assert!((right[0] - right[1]).abs() <= 1.0, "{right:?} right"); // a tie within rounding

        let chosen: Vec<u32> = rows.unwrap_or_else(|| (0..n as u32).collect());
        let noise = Rng::new(5).normal_tensor((chosen.len(), width), noise, &Device::Cpu).unwrap();
        let labels: Vec<usize> = chosen.iter().map(|row| labels[*row as usize]).collect();
        let features = features.index_select(&Tensor::new(chosen, &Device::Cpu).unwrap(), 0).unwrap();
        let (x, exact) = reference(&features, &labels, &noise, smoothing, weight).unwrap();
        let value = exact.to_scalar::<f64>().unwrap();
        let gradient = |loss: &Tensor| (loss * 3.0).unwrap().backward().unwrap().get(weight).unwrap().clone();
        let exact_gradient = gradient(&exact);
        for (form, loss, tolerance) in [("fused", fused, 1e-5), ("plain f32", plain, 1e-4)] {
            let off = (f64::from(loss.to_scalar::<f32>().unwrap()) - value).abs();
            prop_assert!(off <= tolerance * value, "{form} loss off by {off:.2e} of {value:.2e}");
            let off = length(&(f64s(&gradient(&loss)) - f64s(&exact_gradient)).unwrap());
            let allowed = match classes {
                1 => 3.0 * f64::from(f32::EPSILON) * length(&x.abs().unwrap().mean(0).unwrap()),
                _ => tolerance * length(&exact_gradient),
            };
            prop_assert!(off <= allowed, "{form} gradient off by {off:.2e} of {:.2e}", length(&exact_gradient));
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let features = Rng::new(1).normal_tensor((3000, 40), 1.0, &Device::Cpu).unwrap();
    let labels: Vec<usize> = (0..3000).map(|i| i % 17).collect();
    let fit = |threads: usize, batch_size| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = TextClassifierConfig { epochs: 3, batch_size, ..TextClassifierConfig::official() };
        let (classifier, history) = pool.install(|| TextClassifier::fit(&features, &labels, &config, &mut Rng::new(2))).unwrap();
        (values(&classifier.head.layers[0].weight.tensor()), history)
    };
    for batch_size in [None, Some(700)] {
        assert_eq!(fit(1, batch_size), fit(3, batch_size));
    }
}

#[test]
fn an_mlp_learns_in_the_plain_form() {
    let features = Rng::new(1).normal_tensor((200, 8), 1.0, &Device::Cpu).unwrap();
    let labels: Vec<usize> = values(&features).chunks(8).map(|row| usize::from(row[0] > 0.0)).collect();
    let config = TextClassifierConfig { epochs: 60, hidden: Some(16), learning_rate: 0.02, ..TextClassifierConfig::official() };
    let (classifier, history) = TextClassifier::fit(&features, &labels, &config, &mut Rng::new(2)).unwrap();
    assert!(history[59].loss < 0.5 * history[0].loss && history[59].accuracy > 90.0, "{history:?}");
    assert_eq!(classifier.head.layers.len(), 2);
}

#[test]
fn a_cosine_head_counts_its_scale_in_both_forms() {
    let features = Rng::new(1).normal_tensor((9, 4), 1.0, &Device::Cpu).unwrap();
    let texts = NoisyTexts::new(features, &[0, 1, 2, 0, 1, 2, 0, 1, 2], 0.1, 0.1).unwrap();
    let head = Head::linear(4, 3, &mut Rng::new(2), &Device::Cpu).unwrap().cosine(20.0).unwrap();
    let (ours, _) = texts.loss(&head, None, &mut Rng::new(3)).unwrap();
    let (plain, _) = texts.loss_plain(&head, None, &mut Rng::new(3)).unwrap();
    assert_eq!(ours.to_scalar::<f32>().unwrap(), plain.to_scalar::<f32>().unwrap());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let features = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(NoisyTexts::new(features.clone(), &[0, 1], 0.1, 0.1).is_err());
    let texts = NoisyTexts::new(features, &[0, 1, 2], 0.1, 0.1).unwrap();
    let head = |width, classes| Head::linear(width, classes, &mut Rng::new(1), &Device::Cpu).unwrap();
    for (head, rows) in [(head(5, 3), None), (head(4, 2), None), (head(4, 3), Some(&[7u32][..]))] {
        assert!(texts.loss(&head, rows, &mut Rng::new(1)).is_err());
    }
}
