use candle_core::{Device, Result, Tensor};

use super::adamw::{AdamW, AdamWConfig, ParamGroup};
use super::head::{Head, TextClassifier};
use super::noisy_texts::NoisyTexts;
use super::rng::Rng;

pub fn check() -> Result<()> {
    let (features, labels) = (Tensor::new(&[[3f32, 0.], [2.7, 0.3], [0., 5.]], &Device::Cpu)?, [0, 0, 1]);
    let mut rng = Rng::new(7777);
    let (head, params) = Head::linear(2, 2, &mut rng, &Device::Cpu)?.trainable()?;
    let texts = NoisyTexts::new(features.clone(), &labels, 0.1, 0.1)?;
    let config = AdamWConfig { learning_rate: 0.05, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), config)?;
    for _ in 0..50 {
        let (loss, _) = texts.loss_plain(&head, None, &mut rng)?;
        optimizer.step(&loss.backward()?, 1.0)?;
    }
    assert_eq!(TextClassifier { head }.predict(&features)?, labels);
    Ok(())
}
