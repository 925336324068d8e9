//! The attention stage of the vision tower: rows sum to 1, weights agree with softmax written out in f64 and with the fused
//! forward, prompts stand where they should, gradients flow.

use candle_core::{Device, Tensor, Var};
use lafter::clip::{AttentionMaps, Clip, VisionTower};
use lafter::nn::{Attention, Isa, Precision};
use lafter::rng::Rng;
use lafter::tune::VisualPrompts;

fn pixels(tower: &VisionTower, batch: usize, seed: u64) -> Tensor {
    let side = tower.config().image_size;
    Rng::new(seed).normal_tensor((batch, 3, side, side), 1.0, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).fold(0f32, |most, (a, b)| most.max((a - b).abs()))
}

/// softmax(q kᵀ / √d) number by number in f64, from the checkpoint's own matrices.
fn written_out(attention: &Attention, normed: &Tensor) -> Vec<f64> {
    let rows = normed.to_vec3::<f32>().unwrap();
    let (n, width) = (rows[0].len(), rows[0][0].len());
    let d = width / attention.heads;
    let weight = |layer: &lafter::nn::Linear| (layer.weight.tensor().to_vec2::<f32>().unwrap(), values(layer.bias.as_ref().unwrap()));
    let (query, key) = (weight(&attention.query), weight(&attention.key));
    let project = |(w, b): &(Vec<Vec<f32>>, Vec<f32>), x: &[f32]| -> Vec<f64> {
        let dot = |row: &[f32]| row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        w.iter().zip(b).map(|(row, bias)| dot(row) + f64::from(*bias)).collect()
    };
    let mut all = Vec::new();
    for image in &rows {
        let q: Vec<Vec<f64>> = image.iter().map(|x| project(&query, x)).collect();
        let k: Vec<Vec<f64>> = image.iter().map(|x| project(&key, x)).collect();
        for head in 0..attention.heads {
            let part = head * d..(head + 1) * d;
            for q in &q {
                let score =
                    |k: &Vec<f64>| q[part.clone()].iter().zip(&k[part.clone()]).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt();
                let powers: Vec<f64> = k.iter().map(|k| score(k).exp()).collect();
                let sum: f64 = powers.iter().sum();
                all.extend(powers.iter().map(|power| power / sum));
            }
        }
        assert_eq!(all.len() % (attention.heads * n * n), 0);
    }
    all
}

#[test]
fn weights_are_the_softmax_written_out_and_reproduce_every_block() {
    let clip = Clip::demo().unwrap();
    let plain = clip.vision();
    let prompts = VisualPrompts::shallow(5, plain.config().width, &mut Rng::new(2), &Device::Cpu).unwrap();
    let packed = plain.packed_for(Precision::F32, Isa::best()).unwrap();
    let tokens = prompts.insert(&plain.embed(&pixels(plain, 3, 1)).unwrap()).unwrap();
    let (batch, n, width) = tokens.dims3().unwrap();
    let mut x = tokens.clone();
    for (layer, block) in plain.blocks.iter().enumerate() {
        let heads = block.attention.heads;
        let weights = plain.attention(&tokens, layer).unwrap();
        assert_eq!(weights.dims(), [batch, heads, n, n]);
        for sum in values(&weights.sum(3).unwrap()) {
            assert!((sum - 1.0).abs() < 1e-5, "a row sums to {sum}");
        }
        let normed = block.norm1.forward_plain(&x).unwrap();
        let expected = written_out(&block.attention, &normed);
        let worst = values(&weights).iter().zip(&expected).fold(0f64, |most, (a, b)| most.max((f64::from(*a) - b).abs()));
        assert!(worst < 1e-5, "block {layer} is off by {worst:e}");
        // weights times values, through the rest of the block, is what the fused forward gives
        let split = |x: Tensor| x.reshape((batch, n, heads, width / heads)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
        let mixed = weights.matmul(&split(block.attention.value.forward_plain(&normed).unwrap())).unwrap();
        let mixed = mixed.transpose(1, 2).unwrap().reshape((batch, n, width)).unwrap();
        let middle = (&x + block.attention.output.forward_plain(&mixed).unwrap()).unwrap();
        let hidden = block.fc1.forward_plain(&block.norm2.forward_plain(&middle).unwrap()).unwrap();
        let rest = block.fc2.forward_plain(&block.activation.forward_plain(&hidden).unwrap()).unwrap();
        let rebuilt = (&middle + rest).unwrap();
        for (what, tower) in [("plain", plain), ("packed", &packed)] {
            let fused = tower.blocks[layer].forward(&x).unwrap();
            let scale = values(&rebuilt).iter().fold(0f32, |most, v| most.max(v.abs()));
            assert!(distance(&fused, &rebuilt) / scale < 1e-5, "{what}, block {layer}");
            assert!(distance(&tower.attention(&tokens, layer).unwrap(), &weights) < 1e-5, "{what}, block {layer}");
        }
        x = block.forward(&x).unwrap();
    }
    let error = plain.attention(&tokens, plain.blocks.len()).unwrap_err().to_string();
    assert!(error.contains("has blocks 0 to"), "{error}");
}

#[test]
fn class_token_prompts_and_patches_are_told_apart() {
    let clip = Clip::demo().unwrap();
    let tower = clip.vision();
    let (width, layers) = (tower.config().width, tower.blocks.len());
    let images = pixels(tower, 2, 3);
    for prompts in [
        VisualPrompts::none(),
        VisualPrompts::shallow(4, width, &mut Rng::new(4), &Device::Cpu).unwrap(),
        VisualPrompts::deep(4, width, layers, &mut Rng::new(5), &Device::Cpu).unwrap(),
    ] {
        for layer in 0..layers {
            let maps = prompts.attention(tower, &images, layer).unwrap();
            assert_eq!((maps.prompts, maps.patches()), (prompts.count(), tower.config().patches()));
            assert_eq!(maps.columns(), tower.config().image_size / tower.config().patch_size);
            let (own, to_prompts, to_patches) = maps.class_shares(1).unwrap();
            assert!((own + to_prompts + to_patches - 1.0).abs() < 1e-5 && (to_prompts > 0.0) == (prompts.count() > 0));
            let class = maps.class_to_patches(1).unwrap();
            assert!((class.iter().sum::<f32>() - to_patches).abs() < 1e-5);
            // a map is the tail of its token's row
            let rows = maps.weights.mean(1).unwrap().to_vec3::<f32>().unwrap(); // [batch][n][n]
            let same =
                |map: &[f32], token: usize| map.iter().zip(&rows[1][token][1 + prompts.count()..]).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(same(&class, 0));
            for prompt in 0..prompts.count() {
                assert!(same(&maps.prompt_to_patches(1, prompt).unwrap(), 1 + prompt));
            }
            let heads = maps.class_to_patches_by_head(1).unwrap();
            assert_eq!((heads.len(), heads[0].len()), (tower.config().heads, class.len()));
            assert!(maps.prompt_to_patches(0, prompts.count()).unwrap_err().to_string().contains("no visual prompt"));
        }
        assert!(prompts.attention(tower, &images, layers).is_err());
    }
    // deep prompts are renewed before each block: what the first ones were is forgotten by the class token's keys
    let deep = VisualPrompts::deep(4, width, layers, &mut Rng::new(5), &Device::Cpu).unwrap();
    let shallow = VisualPrompts { layers: deep.layers[..1].to_vec() };
    let of = |prompts: &VisualPrompts, layer| prompts.attention(tower, &images, layer).unwrap().weights;
    assert_eq!(distance(&of(&deep, 0), &of(&shallow, 0)), 0.0);
    assert!(distance(&of(&deep, 1), &of(&shallow, 1)) > 1e-4);
}

#[test]
fn attention_is_differentiable_in_tokens_and_norms() {
    let clip = Clip::demo().unwrap();
    let mut tower = clip.vision().clone();
    let scale = Var::from_tensor(&tower.blocks[1].norm1.weight).unwrap();
    tower.blocks[1].norm1.weight = scale.as_tensor().clone();
    let tokens = Var::from_tensor(&tower.embed(&pixels(&tower, 1, 6)).unwrap()).unwrap();
    let loss = |tokens: &Tensor| tower.attention(tokens, 1).unwrap().sqr().unwrap().sum_all().unwrap();
    let grads = loss(tokens.as_tensor()).backward().unwrap();
    assert!(values(grads.get(&scale).unwrap()).iter().any(|g| g.abs() > 1e-6));
    // against a finite difference along the gradient's own direction
    let gradient = grads.get(&tokens).unwrap();
    let length = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let h = 1e-2;
    let step = (gradient * f64::from(h / length)).unwrap();
    let at = |tokens: Tensor| f64::from(loss(&tokens).to_scalar::<f32>().unwrap());
    let slope = (at((tokens.as_tensor() + &step).unwrap()) - at((tokens.as_tensor() - &step).unwrap())) / f64::from(2.0 * h);
    assert!((slope / f64::from(length) - 1.0).abs() < 2e-2, "slope {slope}, gradient {length}");
}

#[test]
fn weights_of_another_shape_are_refused() {
    let square = Tensor::zeros((1, 2, 5, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(AttentionMaps::new(square.clone(), 3).is_ok());
    for (weights, prompts) in [(square.clone(), 4), (square.narrow(2, 0, 1).unwrap(), 0), (square.squeeze(0).unwrap(), 0)] {
        assert!(AttentionMaps::new(weights, prompts).is_err());
    }
}
