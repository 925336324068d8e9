//! Public fields of a packed tower count: whatever is put in their place takes effect, and what cannot work is an error.

use candle_core::{DType, Device, Tensor};
use lafter::clip::{Clip, VisionTower};
use lafter::nn::{Attention, Block, Isa, LayerNorm, Linear, LowRank, Precision};
use lafter::rng::Rng;

fn normal(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
    Rng::new(seed).normal_tensor(shape, 1.0, &Device::Cpu).unwrap()
}

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest((a - b).unwrap()) / largest(b.clone())
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    distance(a, b) < 1e-4
}

/// The same layer, never packed.
fn plain(layer: &Linear) -> Linear {
    let mut plain = Linear::new(layer.weight.tensor(), layer.bias.clone());
    plain.tuning.low_rank = layer.tuning.low_rank.clone();
    plain
}

/// A change of rank 2.
fn change(layer: &mut Linear) {
    let (outputs, inputs) = layer.weight.dims2().unwrap();
    layer.tuning.low_rank = Some(LowRank { down: normal((2, inputs), 7), up: normal((outputs, 2), 8), scale: 0.1, folded: false });
}

fn unpacked(block: &Block) -> Block {
    let a = &block.attention;
    let attention = Attention {
        query: plain(&a.query),
        key: plain(&a.key),
        value: plain(&a.value),
        output: plain(&a.output),
        heads: a.heads,
        causal: a.causal,
    };
    Block { attention, fc1: plain(&block.fc1), fc2: plain(&block.fc2), ..block.clone() }
}

/// Another layer of the same shape.
fn other(layer: &Linear) -> Linear {
    Linear::new((layer.weight.tensor() * 1.5).unwrap(), layer.bias.as_ref().map(|bias| (bias + 0.3).unwrap()))
}

type Change = fn(&mut Block, &Block);

#[test]
fn every_field_of_a_packed_block_takes_effect() {
    let clip = Clip::demo().unwrap();
    let (block, next) = (clip.vision().blocks[0].clone(), clip.vision().blocks[1].clone());
    let x = normal((3, 7, clip.config().vision.width), 1);
    let before = block.forward(&x).unwrap();
    assert!(close(&before, &unpacked(&block).forward(&x).unwrap()));
    let changes: [(&str, Change); 24] = [
        ("query", |b, _| b.attention.query = other(&b.attention.query)),
        ("key", |b, _| b.attention.key = other(&b.attention.key)),
        ("value", |b, _| b.attention.value = other(&b.attention.value)),
        ("output", |b, _| b.attention.output = other(&b.attention.output)),
        ("fc1", |b, _| b.fc1 = other(&b.fc1)),
        ("fc2", |b, _| b.fc2 = other(&b.fc2)),
        ("a weight alone", |b, _| b.attention.value.weight = (b.attention.value.weight.tensor() * 2.0).unwrap().into()),
        ("fc1's weight alone", |b, _| b.fc1.weight = (b.fc1.weight.tensor() * 2.0).unwrap().into()),
        ("a weight of another layer", |b, _| b.attention.output.weight = b.attention.key.weight.clone()),
        ("the next block's weight alone", |b, next| b.fc2.weight = next.fc2.weight.clone()),
        ("a bias alone", |b, _| b.attention.value.bias = b.attention.value.bias.as_ref().map(|bias| (bias + 1.0).unwrap())),
        ("a bias taken away", |b, _| b.fc2.bias = None),
        ("key and value swapped", |b, _| std::mem::swap(&mut b.attention.key, &mut b.attention.value)),
        ("the value twice", |b, _| b.attention.query = b.attention.value.clone()),
        ("a layer of the next block", |b, next| b.attention.value = next.attention.value.clone()),
        ("the next block's attention", |b, next| b.attention = next.attention.clone()),
        ("the output from a stack of three", |b, _| b.attention.output = b.attention.key.clone()),
        ("a low-rank change of the query", |b, _| change(&mut b.attention.query)),
        ("a low-rank change of fc1", |b, _| change(&mut b.fc1)),
        ("one of fc2, folded", |b, _| {
            change(&mut b.fc2);
            b.fc2 = b.fc2.folded().unwrap();
        }),
        ("heads", |b, _| b.attention.heads = 1),
        ("causal", |b, _| b.attention.causal = true),
        ("the norm", |b, _| b.norm1 = LayerNorm::new((&b.norm1.weight * 2.0).unwrap(), b.norm1.bias.clone(), b.norm1.eps)),
        ("epsilon", |b, _| b.norm2.eps = 1.0),
    ];
    for (name, change) in changes {
        let mut changed = block.clone();
        change(&mut changed, &next);
        let (ours, expected) = (changed.forward(&x).unwrap(), unpacked(&changed).forward(&x).unwrap());
        assert!(close(&ours, &expected), "{name}: off by {}", distance(&ours, &expected));
        assert!(!close(&ours, &before), "{name} is without effect");
        // packed again, it has the new values
        let packed = changed.packed(Precision::F32, Isa::best()).unwrap().forward(&x).unwrap();
        assert!(close(&packed, &expected), "{name}: packed, off by {}", distance(&packed, &expected));
        let class = changed.forward_class(&x).unwrap();
        let reference = unpacked(&changed).forward_class(&x).unwrap();
        assert!(close(&class, &reference), "{name}: class token off by {}", distance(&class, &reference));
    }
}

#[test]
fn every_field_of_a_packed_tower_takes_effect() {
    let tower = Clip::demo().unwrap().vision().clone();
    let side = tower.config().image_size;
    let pixels = normal((2, 3, side, side), 2);
    let before = tower.forward(&pixels).unwrap();
    type Change = (&'static str, fn(&mut VisionTower));
    let changes: [Change; 4] = [
        ("patches", |t| t.patch_embedding = other(&t.patch_embedding)),
        ("projection", |t| t.projection = other(&t.projection)),
        ("class", |t| t.class_embedding = (&t.class_embedding * 3.0).unwrap()),
        ("positions", |t| t.position_embedding = (&t.position_embedding * 3.0).unwrap()),
    ];
    for (name, change) in changes {
        let mut changed = tower.clone();
        change(&mut changed);
        let (ours, frozen) = (changed.forward(&pixels).unwrap(), changed.detached().forward(&pixels).unwrap());
        assert!(!close(&ours, &before), "{name} is without effect");
        assert_eq!(distance(&ours, &frozen), 0.0, "{name}");
        assert!(close(&ours, &changed.packed(Precision::F32).unwrap().forward(&pixels).unwrap()), "{name}, packed again");
    }
}

#[test]
fn what_cannot_work_is_an_error_and_no_panic() {
    let clip = Clip::demo().unwrap();
    let block = clip.vision().blocks[0].clone();
    let width = clip.config().vision.width;
    let x = normal((2, 3, width), 1);
    let zeros = |shape: (usize, usize)| Linear::new(Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap(), None);
    for heads in [0, 5, width + 1] {
        let mut bad = block.clone();
        bad.attention.heads = heads;
        for bad in [bad.clone(), unpacked(&bad)] {
            let errors = [
                bad.forward(&x).err(),
                bad.forward_plain(&x).err(),
                bad.forward_class(&x).err(),
                bad.attention_weights(&x).err(),
                bad.attention.attend(&x, &x).err(),
            ];
            assert!(errors.iter().all(|error| error.as_ref().is_some_and(|e| e.to_string().contains("heads"))), "{heads}: {errors:?}");
        }
    }
    for outputs in [width / 2, 2 * width, 0] {
        let mut bad = block.clone();
        bad.attention.value = zeros((outputs, width));
        assert!(bad.forward(&x).is_err() && bad.forward_plain(&x).is_err(), "value of width {outputs}");
        assert!(bad.packed(Precision::F32, Isa::best()).is_ok_and(|bad| bad.forward(&x).is_err()), "value of width {outputs}, packed");
    }
    for layer in [zeros((0, width)), zeros((width, 0)), zeros((0, 0))] {
        for layer in [layer.packed(Precision::F32, Isa::best()).unwrap(), layer] {
            let input = Tensor::zeros((2, 3, layer.weight.dims()[1]), DType::F32, &Device::Cpu).unwrap();
            assert!(layer.forward(&input).is_err(), "{layer:?}");
        }
    }
}
