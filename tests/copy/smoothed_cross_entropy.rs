use candle_core::{Device, Result, Var};

use super::loss::smoothed_cross_entropy;

pub fn check() -> Result<()> {
    let logits = Var::new(&[[2f32, 0., 0.], [0., 0., 3.]], &Device::Cpu)?;
    let labels = candle_core::Tensor::new(&[0u32, 2], &Device::Cpu)?;
    let loss = smoothed_cross_entropy(&logits, &labels, 0.1)?;
    let gradient = loss.backward()?.get(&logits).expect("a gradient").to_vec2::<f32>()?;
    assert!(gradient[0][0] < 0.0 && gradient[0][1] > 0.0 && gradient[1][2] < 0.0);
    Ok(())
}
