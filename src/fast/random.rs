//! Repeatable numbers for the tests.

use candle_core::{Device, Shape, Tensor};

use crate::Noise;

/// SplitMix64.
pub struct Random(pub u64);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 33) as usize % n
    }

    /// N(0, std²), nearly: the sum of twelve uniforms.
    pub fn normals(&mut self, n: usize, std: f32) -> Vec<f32> {
        (0..n).map(|_| std * ((0..12).map(|_| self.below(1 << 20) as f32 / (1 << 20) as f32).sum::<f32>() - 6.0)).collect()
    }

    pub fn tensor(&mut self, shape: impl Into<Shape>, std: f32) -> Tensor {
        let shape = shape.into();
        Tensor::from_vec(self.normals(shape.elem_count(), std), shape, &Device::Cpu).unwrap()
    }
}

/// A stream of noise that any part can be drawn from.
pub fn noise(seed: u64, std: f32) -> Noise {
    fn fill(key: u64, counter: u64, std: f32, out: &mut [f32]) {
        for (pair, out) in out.chunks_mut(2).enumerate() {
            let draws = Random(key.wrapping_add((counter + pair as u64) << 8)).normals(2, std);
            out.copy_from_slice(&draws[..out.len()]);
        }
    }
    Noise { std, key: seed, counter: 1, fill }
}
