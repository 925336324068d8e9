use candle_core::{Device, Result, Var};

use super::adamw::{AdamW, AdamWConfig, Param, ParamGroup};

pub fn check() -> Result<()> {
    let var = Var::new(&[3f32], &Device::Cpu)?;
    let params = [Param { name: "x".into(), var: var.clone(), decay: true }];
    let config = AdamWConfig { learning_rate: 0.1, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), config)?;
    for _ in 0..200 {
        optimizer.step(&var.sqr()?.sum_all()?.backward()?, 1.0)?;
    }
    let value = var.to_vec1::<f32>()?[0];
    assert!(value.abs() < 0.05, "{value}");
    Ok(())
}
