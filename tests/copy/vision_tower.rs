use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

use super::block::Activation;
use super::vision::{VisionConfig, VisionTower};

pub fn check() -> Result<()> {
    let config = VisionConfig {
        image_size: 16,
        patch_size: 8,
        width: 8,
        layers: 2,
        heads: 2,
        hidden: 16,
        activation: Activation::Gelu,
        norm_eps: 1e-5,
    };
    let vars = VarMap::new();
    let tower = VisionTower::load(&config, 6, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    for var in vars.all_vars() {
        var.set(&Tensor::randn(0f32, 0.3, var.shape(), &Device::Cpu)?)?;
    }
    let tokens = tower.embed(&Tensor::randn(0f32, 1., (3, 3, 16, 16), &Device::Cpu)?)?;
    assert_eq!(tokens.dims(), [3, 5, 8]);
    let prompted = Tensor::cat(&[&tokens, &Tensor::zeros((3, 2, 8), DType::F32, &Device::Cpu)?], 1)?;
    let features = tower.project(&tower.encode(&prompted)?)?;
    let class_only = tower.project(&tower.encode_class(&prompted)?)?;
    assert_eq!(features.dims(), [3, 6]);
    assert!((features - class_only)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-4);
    Ok(())
}
