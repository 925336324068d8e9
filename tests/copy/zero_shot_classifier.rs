use candle_core::{Device, Result, Tensor};

use super::zero_shot::ZeroShotClassifier;

pub fn check() -> Result<()> {
    let texts = Tensor::new(&[[2f32, 0.], [0., 3.], [1., 1.]], &Device::Cpu)?;
    let classifier = ZeroShotClassifier::from_features(&texts, &[0, 1, 1], 100.0)?;
    let logits = classifier.logits(&Tensor::new(&[[5f32, 0.], [0.1, 0.4]], &Device::Cpu)?)?;
    assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [0, 1]);
    assert!(ZeroShotClassifier::from_features(&texts, &[0, 2, 2], 100.0).is_err());
    Ok(())
}
