//! The fused loss of the text classifier against its plain form, on random shapes and for any number of threads.

use candle_core::{Device, Tensor, Var};
use lafter::classify::{Head, NoisyTexts, TextClassifier, TextClassifierConfig};
use lafter::rng::Rng;
use proptest::prelude::*;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Loss, number right and gradient of both forms.
fn both(texts: &NoisyTexts, head: &Head, var: &Var, rows: Option<&[u32]>) -> [(f32, usize, Vec<f32>); 2] {
    let mut rngs = [Rng::new(5), Rng::new(5)];
    let fused = texts.loss(head, rows, &mut rngs[0]).unwrap();
    let plain = texts.loss_plain(head, rows, &mut rngs[1]).unwrap();
    assert_eq!(rngs[0], rngs[1], "both forms draw equally many numbers");
    [fused, plain].map(|(loss, right)| {
        let gradient = (&loss * 3.0).unwrap().backward().unwrap().get(var).unwrap().clone();
        (loss.to_scalar().unwrap(), right.to_scalar::<f32>().unwrap() as usize, values(&gradient))
    })
}

/// Euclidean distance over the length of the second, or over a tenth of the longest gradient there can be where the terms
/// nearly cancel.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    square(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / square(&mut b.iter().map(|b| f64::from(*b))).max(0.3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

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
        let texts = NoisyTexts::new(features, &labels, noise, smoothing).unwrap();
        let [fused, plain] = both(&texts, &head, &params[0].1, rows.as_deref());
        prop_assert!((fused.0 - plain.0).abs() <= 1e-5 * plain.0.abs().max(1e-2), "{} {}", fused.0, plain.0);
        prop_assert!(fused.1.abs_diff(plain.1) <= 1, "{} {} right", fused.1, plain.1); // a tie within rounding
        // one class has no gradient but rounding
        prop_assert!(classes == 1 || apart(&fused.2, &plain.2) < 1e-5, "gradient off by {}", apart(&fused.2, &plain.2));
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
        (values(&classifier.head.layers[0].weight), history)
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
fn what_does_not_fit_is_an_error() {
    let features = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(NoisyTexts::new(features.clone(), &[0, 1], 0.1, 0.1).is_err());
    let texts = NoisyTexts::new(features, &[0, 1, 2], 0.1, 0.1).unwrap();
    let head = |width, classes| Head::linear(width, classes, &mut Rng::new(1), &Device::Cpu).unwrap();
    for (head, rows) in [(head(5, 3), None), (head(4, 2), None), (head(4, 3), Some(&[7u32][..]))] {
        assert!(texts.loss(&head, rows, &mut Rng::new(1)).is_err());
    }
}
