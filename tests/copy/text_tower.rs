use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};

use super::block::Activation;
use super::text::{EndOfText, TextConfig, TextTower};

pub fn check() -> Result<()> {
    let config = TextConfig {
        vocabulary: 20,
        context: 7,
        width: 8,
        layers: 2,
        heads: 2,
        hidden: 16,
        activation: Activation::QuickGelu,
        norm_eps: 1e-5,
        end_of_text: EndOfText::HighestId,
    };
    let vars = VarMap::new();
    let tower = TextTower::load(&config, 6, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    for var in vars.all_vars() {
        var.set(&Tensor::randn(0f32, 0.3, var.shape(), &Device::Cpu)?)?;
    }
    let ids = [[18u32, 3, 19, 0], [18, 5, 6, 19]];
    let ends: Vec<usize> = ids.iter().map(|ids| config.end_of_text.position(ids)).collect();
    assert_eq!(ends, [2, 3]);
    let features = tower.forward(&Tensor::new(&ids, &Device::Cpu)?, &ends)?;
    let alone = tower.forward(&Tensor::new(&[[18u32, 3, 19]], &Device::Cpu)?, &ends[..1])?;
    let apart = (features.narrow(0, 0, 1)? - alone)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(apart < 1e-5, "padding changes nothing: {apart}");
    Ok(())
}
