use candle_core::{Device, Result, Tensor};

use super::targets::Targets;

pub fn check() -> Result<()> {
    let (features, p) = (Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?, Tensor::new(&[[0.9f32, 0.1], [0.4, 0.6]], &Device::Cpu)?);
    let targets = Targets::new(features, p)?;
    assert_eq!(targets.labels.to_vec1::<u32>()?, [0, 1]);
    assert_eq!(targets.confidence.to_vec1::<f32>()?, [0.9, 0.6]);
    let sure = targets.confidence.ge(0.7)?.to_dtype(candle_core::DType::F32)?; // a rule of one's own
    assert_eq!(targets.weighted(&sure)?.weights.expect("weights").to_vec1::<f32>()?, [1.0, 0.0]);
    Ok(())
}
