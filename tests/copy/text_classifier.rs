use candle_core::{Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::adamw::{AdamW, AdamWConfig, ParamGroup};
use super::head::{Head, TextClassifier};

pub fn check() -> Result<()> {
    let texts = Tensor::new(&[[1f32, 0.], [0.9, 0.1], [0., 1.]], &Device::Cpu)?;
    let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
    let (head, params) = Head::linear(2, 2, &mut StdRng::seed_from_u64(7777), &Device::Cpu)?.trainable()?;
    let config = AdamWConfig { learning_rate: 0.05, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), config)?;
    for _ in 0..50 {
        optimizer.step(&cross_entropy(&head.forward(&texts)?, &labels)?.backward()?, 1.0)?;
    }
    let images = Tensor::new(&[[0.1f32, 8.], [30., 1.]], &Device::Cpu)?; // of any length
    assert_eq!(TextClassifier { head }.predict(&images)?, [1, 0]);
    Ok(())
}
