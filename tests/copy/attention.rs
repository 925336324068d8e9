use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

use super::block::Attention;

pub fn check() -> Result<()> {
    let vars = VarMap::new();
    let attention = Attention::load(8, 2, true, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    for var in vars.all_vars() {
        var.set(&Tensor::randn(0f32, 0.3, var.shape(), &Device::Cpu)?)?;
    }
    let x = Tensor::randn(0f32, 1., (2, 5, 8), &Device::Cpu)?;
    let (y, first) = (attention.forward(&x)?, attention.forward(&x.narrow(1, 0, 1)?)?);
    assert_eq!(y.dims(), [2, 5, 8]);
    let apart = (y.narrow(1, 0, 1)? - first)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(apart < 1e-5, "the first token sees only itself: {apart}");
    let grads = y.sqr()?.sum_all()?.backward()?;
    assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some()));
    Ok(())
}
