use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

use super::block::{Activation, Block};

pub fn check() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let block = Block::load(8, 2, 16, Activation::QuickGelu, 1e-5, false, vb)?;
    for var in vars.all_vars() {
        var.set(&Tensor::randn(0f32, 0.3, var.shape(), &Device::Cpu)?)?;
    }
    let x = Tensor::randn(0f32, 1., (2, 5, 8), &Device::Cpu)?;
    let y = block.forward(&x)?;
    assert_eq!(y.dims(), [2, 5, 8]);
    let class = (block.forward_class(&x)? - y.narrow(1, 0, 1)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(class < 1e-5, "{class}");
    let grads = y.sqr()?.sum_all()?.backward()?;
    assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some()));
    Ok(())
}
