use candle_core::{Device, Result, Tensor, Var};
use candle_nn::Linear;

use super::noisy_texts::NoisyTexts;
use super::rng::Rng;

pub fn check() -> Result<()> {
    let texts = NoisyTexts::new(Tensor::new(&[[3f32, 0.], [0., 5.]], &Device::Cpu)?, &[0, 1], 0.1, 0.1)?;
    let weight = Var::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
    let head = Linear::new(weight.as_tensor().clone(), None);
    let (loss, right) = texts.loss_plain(&head, None, &mut Rng::new(7777))?;
    let (value, right) = (loss.to_scalar::<f32>()?, right.to_scalar::<f32>()?);
    assert!((value - 0.36).abs() < 0.15 && right == 2.0, "loss {value}, {right} right");
    assert!(loss.backward()?.get(&weight).is_some());
    Ok(())
}
