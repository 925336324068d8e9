use candle_core::{DType, Device, Result, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::prompts::VisualPrompts;

pub fn check() -> Result<()> {
    let prompts = VisualPrompts::deep(3, 8, 2, &mut StdRng::seed_from_u64(1), &Device::Cpu)?;
    let (prompts, params) = prompts.trainable()?;
    let tokens = prompts.insert(&Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?)?;
    assert_eq!(tokens.dims(), [2, 8, 8]);
    let renewed = prompts.renew(tokens, 1)?;
    assert_eq!(renewed.dims(), [2, 8, 8]);
    let grads = renewed.sqr()?.sum_all()?.backward()?;
    let largest = |i: usize| grads.get(&params[i].var).expect("a gradient").abs()?.max_all()?.to_scalar::<f32>();
    assert!(largest(0)? == 0.0 && largest(1)? > 0.0, "deep prompts are renewed before each block");
    Ok(())
}
