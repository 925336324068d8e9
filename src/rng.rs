//! The one source of randomness: a seeded, counter-based generator on the host.
//!
//! Candle cannot seed its CPU generator and its CUDA stream differs from it, so everything random in this crate is
//! drawn here and copied to the device: the same seed gives the same bits on every machine. A stream is a key and a
//! counter; [`Rng::fork`] derives independent streams (one per epoch, image or worker) without sharing state, so
//! results do not depend on how many threads draw them.

use candle_core::{Device, Shape, Tensor};
use lafter_fast as fast; // fast::
use rayon::prelude::*;

/// A random stream: `key` names it, `counter` is the position in it. Both can be saved and restored.
///
/// ```
/// use lafter::rng::Rng;
/// let mut a = Rng::new(7777);
/// let mut b = Rng::new(7777);
/// assert_eq!(a.uniform(), b.uniform());
/// assert_ne!(Rng::new(7777).fork(1).uniform(), Rng::new(7777).fork(2).uniform());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Rng {
    key: u64,
    counter: u64,
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits with full avalanche.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { key: mix(seed.wrapping_add(GOLDEN)), counter: 0 }
    }

    /// An independent stream, derived from this one and `label`; this one does not move.
    pub fn fork(&self, label: u64) -> Self {
        Self { key: mix(self.key ^ mix(label.wrapping_add(GOLDEN)).rotate_left(17)), counter: 0 }
    }

    fn at(&self, counter: u64) -> u64 {
        mix(self.key.wrapping_add(counter.wrapping_mul(GOLDEN)))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        self.at(self.counter)
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn uniform(&mut self) -> f32 {
        unit(self.next_u64())
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..n (n > 0; 0 gives 0). The bias is below 2⁻³² for any n a data set can have.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// One draw of N(0, 1) (Box–Muller).
    pub fn normal(&mut self) -> f32 {
        let bits = self.next_u64();
        box_muller(bits).0
    }

    /// Fisher–Yates, in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `n` draws of N(0, std²), in parallel; the bits do not depend on the number of threads.
    pub fn normals(&mut self, n: usize, std: f32) -> Vec<f32> {
        let mut values = vec![0f32; n];
        values.par_chunks_mut(8192).enumerate().for_each(|(chunk, out)| self.peek_normals(chunk * 8192, out, std));
        self.skip_normals(n);
        values
    }

    /// Fills `out` with draws `first` (even), `first + 1`, … of those that [`normals`](Self::normals) would give next; this
    /// stream does not move. So parts of one long draw can be made where and when they are needed.
    pub fn peek_normals(&self, first: usize, out: &mut [f32], std: f32) {
        debug_assert!(first.is_multiple_of(2), "two draws come from one counter");
        normal_pairs(self.key, self.counter + 1 + (first / 2) as u64, std, out);
    }

    /// The stream's key and the counter of its next draw, for what draws by itself.
    pub(crate) fn next_draw(&self) -> (u64, u64) {
        (self.key, self.counter + 1)
    }

    /// Moves on as [`normals`](Self::normals) would after `n` draws.
    pub fn skip_normals(&mut self, n: usize) {
        self.counter += n.div_ceil(2) as u64;
    }

    /// A tensor of N(0, std²) in f32, drawn on the host and copied to `device`.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn normal_tensor(&mut self, shape: impl Into<Shape>, std: f32, device: &Device) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        Tensor::from_vec(self.normals(shape.elem_count(), std), shape, device)
    }

    /// A tensor of U(low, high) in f32, drawn on the host and copied to `device`.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn uniform_tensor(&mut self, shape: impl Into<Shape>, low: f32, high: f32, device: &Device) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| self.range(low, high)).collect();
        Tensor::from_vec(values, shape, device)
    }
}

/// The same stream for whatever takes a generator of `rand`: `next_u32` is the upper half of a draw, so that `rand`'s
/// `random::<f32>()` is [`Rng::uniform`] bit for bit.
///
/// ```
/// use lafter::rng::Rng;
/// assert_eq!(rand::Rng::random::<f32>(&mut Rng::new(7777)), Rng::new(7777).uniform());
/// ```
impl rand::RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        (Rng::next_u64(self) >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        Rng::next_u64(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&Rng::next_u64(self).to_le_bytes()[..chunk.len()]);
        }
    }
}

fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / 16_777_216.0)
}

/// Two independent draws of N(0, 1) from 64 bits.
#[inline(always)]
fn box_muller(bits: u64) -> (f32, f32) {
    let u = ((bits >> 40) as i32 as f32 + 1.0) * (1.0 / 16_777_217.0); // (0, 1]
    let radius = (-2.0 * ln(u)).sqrt();
    let (sin, cos) = sin_cos_24((bits & 0xff_ffff) as i32);
    (radius * cos, radius * sin)
}

fast::wide! { // fast::
    /// N(0, std²) from the counters `counter`, `counter + 1`, …, two draws each.
    pub(crate) fn normal_pairs(key: u64, counter: u64, std: f32, out: &mut [f32]) {
        const LANES: usize = 32;
        for (block, out) in out.chunks_mut(2 * LANES).enumerate() {
            let (mut first, mut second) = ([0f32; LANES], [0f32; LANES]);
            for lane in 0..LANES {
                let at = counter.wrapping_add((block * LANES + lane) as u64);
                let (a, b) = box_muller(mix(key.wrapping_add(at.wrapping_mul(GOLDEN))));
                (first[lane], second[lane]) = (a * std, b * std);
            }
            for (i, out) in out.iter_mut().enumerate() {
                *out = if i % 2 == 0 { first[i / 2] } else { second[i / 2] };
            }
        }
    }
} // fast::

// The standard library's `ln` and `sin_cos` are calls, one value at a time, and differ between systems in the last bit. These are
// plain sums and products (polynomials of Moshier's Cephes library), so they run many lanes at once and give the same bits
// everywhere.

/// ln x for a normal x above 0, to two units in the last place.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the published coefficients
fn ln(x: f32) -> f32 {
    const HALF_ROOT: u32 = 0x3f35_04f3; // √½: the mantissa lies between it and its double
    let exponent = (x.to_bits().wrapping_sub(HALF_ROOT) as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32)) - 1.0;
    let (exponent, square) = (exponent as f32, m * m);
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333_1e-1;
    let y = p * m * square - exponent * 2.121_944_4e-4 - 0.5 * square;
    (m + y) + exponent * 0.693_359_4
}

/// Sine and cosine of `turn`/2²⁴ of the circle, to two units in the last place of 1.
#[inline(always)]
fn sin_cos_24(turn: i32) -> (f32, f32) {
    let quarter = (turn + (1 << 21)) >> 22;
    let x = (turn - (quarter << 22)) as f32 * (std::f32::consts::TAU / 16_777_216.0); // −π/4..=π/4
    let z = x * x;
    let sin = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let cos = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    let (s, c) = if quarter & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let sign = |negative: i32, value: f32| f32::from_bits(value.to_bits() ^ ((negative as u32) << 31));
    (sign((quarter >> 1) & 1, s), sign(((quarter + 1) >> 1) & 1, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_agree_with_the_standard_library() {
        for i in 1..=20_000u32 {
            for x in [i as f32 / 16_777_217.0, i as f32 / 20_000.0, i as f32 * 1e3] {
                let expected = f64::from(x).ln();
                assert!((f64::from(ln(x)) - expected).abs() < 2.5e-7 * expected.abs().max(0.5), "ln {x}");
            }
        }
        assert_eq!(ln(1.0), 0.0);
        for i in 0..40_000 {
            let turn = (i * 419) % (1 << 24);
            let (sin, cos) = (f64::from(turn) / f64::from(1 << 24) * std::f64::consts::TAU).sin_cos();
            let found = sin_cos_24(turn);
            assert!((f64::from(found.0) - sin).abs() < 2.5e-7 && (f64::from(found.1) - cos).abs() < 2.5e-7, "turn {turn}");
        }
    }

    #[test]
    fn normals_have_the_moments_and_do_not_depend_on_threads() {
        let values = Rng::new(1).normals(200_000, 2.0);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 2e5;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 2e5;
        assert!(mean.abs() < 0.02 && (variance - 4.0).abs() < 0.05, "{mean} {variance}");
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().map(|pool| pool.install(|| Rng::new(1).normals(200_000, 2.0)));
        assert_eq!(single.ok(), Some(values.clone()));
        // parts of the same draw
        let (rng, mut part) = (Rng::new(1), vec![0f32; 77]);
        rng.peek_normals(1234, &mut part, 2.0);
        assert_eq!(part, values[1234..1234 + 77]);
    }

    #[test]
    fn shuffle_is_a_permutation_and_uniform_is_flat() {
        let mut rng = Rng::new(3);
        let mut items: Vec<usize> = (0..100).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        let mut bins = [0; 10];
        (0..100_000).for_each(|_| bins[rng.below(10)] += 1);
        assert!(bins.iter().all(|n| (9_500..10_500).contains(n)), "{bins:?}");
    }

    #[test]
    fn a_saved_stream_goes_on_where_it_stopped() {
        let mut rng = Rng::new(5);
        rng.normals(7, 1.0);
        let saved = serde_json::to_string(&rng).unwrap();
        let mut restored: Rng = serde_json::from_str(&saved).unwrap();
        assert_eq!(rng.next_u64(), restored.next_u64());
    }
}
