use candle_core::{Device, Result, Tensor, Var};

use super::layers::LayerNorm;

pub fn check() -> Result<()> {
    let weight = Var::new(&[1f32, 2.], &Device::Cpu)?;
    let norm = LayerNorm::new(weight.as_tensor().clone(), Tensor::new(&[0f32, 1.], &Device::Cpu)?, 1e-5);
    let y = norm.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?)?; // (−1, 1) · (1, 2) + (0, 1)
    let values = y.to_vec2::<f32>()?;
    assert!((values[0][0] + 1.0).abs() < 1e-4 && (values[0][1] - 3.0).abs() < 1e-4, "{values:?}");
    assert!(y.sum_all()?.backward()?.get(&weight).is_some());
    Ok(())
}
