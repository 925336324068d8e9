use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::adamw::{AdamW, AdamWConfig, Param, ParamGroup};
use super::block::Activation;
use super::head::Head;
use super::layers::LayerNorm;
use super::loss::{normalize, smoothed_cross_entropy};
use super::prompts::VisualPrompts;
use super::targets::Targets;
use super::vision::{VisionConfig, VisionTower};

pub fn check() -> Result<()> {
    let (mut rng, activation) = (StdRng::seed_from_u64(7777), Activation::QuickGelu);
    let config = VisionConfig { image_size: 16, patch_size: 8, width: 8, layers: 2, heads: 2, hidden: 16, activation, norm_eps: 1e-5 };
    let vars = VarMap::new();
    let clip = VisionTower::load(&config, 6, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    for var in vars.all_vars() {
        var.set(&Tensor::randn(0f32, 0.3, var.shape(), &Device::Cpu)?)?;
    }
    let classifier = Head::linear(6, 3, &mut rng, &Device::Cpu)?;

    // what learns: visual prompts, the norms' scale and shift, the head
    let (prompts, mut params) = VisualPrompts::shallow(2, 8, &mut rng, &Device::Cpu)?.trainable()?;
    let mut tower = clip.detached();
    for (name, norm) in tower.norms_mut() {
        let (weight, bias) = (Var::from_tensor(&norm.weight.copy()?)?, Var::from_tensor(&norm.bias.copy()?)?);
        *norm = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), norm.eps);
        params.push(Param { name: format!("{name}.weight"), var: weight, decay: true });
        params.push(Param { name: format!("{name}.bias"), var: bias, decay: false });
    }
    let (head, more) = classifier.trainable()?;
    params.extend(more);
    let (teacher, teacher_head) = (tower.detached(), classifier.copy()?);
    let before: Vec<Tensor> = params.iter().map(|param| param.var.copy()).collect::<Result<_>>()?;
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), AdamWConfig::default())?;

    let weak = Tensor::randn(0f32, 1., (4, 3, 16, 16), &Device::Cpu)?;
    let strong = (&weak * 0.9)?;
    for _ in 0..3 {
        let features = normalize(&teacher.forward(&weak)?)?;
        let targets = Targets::new(features.clone(), candle_nn::ops::softmax(&teacher_head.forward(&features)?, 1)?)?; // eq. 3
        let tokens = prompts.insert(&tower.embed(&strong)?)?;
        let features = tower.project(&tower.encode_class_with(&tokens, |i, x| prompts.renew(x, i))?)?;
        let loss = smoothed_cross_entropy(&head.forward(&features)?, &targets.labels, 0.1)?; // eq. 4
        optimizer.step(&loss.backward()?, 1.0)?;
    }
    for (param, before) in params.iter().zip(before) {
        let moved = (param.var.as_tensor() - before)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(moved > 0.0, "{} did not move", param.name);
    }
    Ok(())
}
