//! Rows of numbers through the functions of a transformer: layer norm, softmax, the activations, and their gradients.

use crate::Gelu;
use crate::isa::madd;
use crate::vectorized;

/// eˣ to 2 units in the last place for x of [−87, 88], beyond which it is that of the nearer end; NaN stays NaN. Without a branch (Cephes'
/// polynomial).
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number in the low bits
    let x = x.clamp(-87.0, 88.0);
    let t = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = madd::<FMA>(n, -0.693_359_4, x);
    let r = madd::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = madd::<FMA>(p, r, c);
    }
    let y = madd::<FMA>(p, r * r, r) + 1.0;
    y * f32::from_bits((t.to_bits() << 23).wrapping_add(1f32.to_bits())) // 2ⁿ
}

/// erf x to 6·10⁻⁷: the rational approximation of Eigen and XLA on [−4, 4], beyond which f32 knows only ±1.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the published coefficients
fn erf<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_599_8e-3, -1.609_603_3e-2] {
        p = madd::<FMA>(p, s, c);
    }
    let mut q = -1.456_607_2e-5;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        q = madd::<FMA>(q, s, c);
    }
    x * p / q
}

/// Partial sums side by side: enough to keep two 16-lane additions in flight.
const LANES: usize = 32;

/// Σ f(a, b) over two rows.
#[inline(always)]
fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (whole, rest) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole.iter().zip(whole_b) {
        for i in 0..LANES {
            sums[i] += f(a[i], b[i]);
        }
    }
    for (i, (a, b)) in rest.iter().zip(rest_b).enumerate() {
        sums[i] += f(*a, *b);
    }
    sums.iter().sum()
}

/// Σ f(x).
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(x, x, |x, _| f(x))
}

/// Mean and 1/√(variance + ε).
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

vectorized! {
    /// y = (x − mean) / √(var + ε) · w + b over one row.
    pub(super) fn layer_norm(x: &[f32], w: &[f32], b: &[f32], eps: f32, y: &mut [f32]) {
        let (mean, scale) = moments(x, eps);
        for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
            *y = madd::<FMA>((x - mean) * scale, *w, *b);
        }
    }
}

vectorized! {
    /// The gradients of one row, from that of its output, `g`: dx is *added* to, and so are the sums dw and db.
    ///
    /// x̂ = (x − mean)·s;  dx = s·(g·w − mean(g·w) − x̂·mean(g·w·x̂));  dw = Σ g·x̂;  db = Σ g
    pub(super) fn layer_norm_backward(x: &[f32], w: &[f32], g: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32], db: &mut [f32]) {
        let (mean, scale) = moments(x, eps);
        let n = x.len();
        let (w, g, dx, dw, db) = (&w[..n], &g[..n], &mut dx[..n], &mut dw[..n], &mut db[..n]);
        for i in 0..n {
            dw[i] = madd::<FMA>(g[i], (x[i] - mean) * scale, dw[i]);
            db[i] += g[i];
        }
        let mean_gw = sum2(g, w, |g, w| g * w) / n as f32;
        let mut sums = [0f32; LANES];
        let mut at = 0;
        while at < n {
            let end = (at + LANES).min(n);
            for (i, sum) in (at..end).zip(&mut sums) {
                *sum = madd::<FMA>(g[i] * w[i], (x[i] - mean) * scale, *sum);
            }
            at = end;
        }
        let mean_gwx = sums.iter().sum::<f32>() / n as f32;
        for i in 0..n {
            let normal = (x[i] - mean) * scale;
            dx[i] = madd::<FMA>(scale, g[i] * w[i] - mean_gw - normal * mean_gwx, dx[i]);
        }
    }
}

vectorized! {
    /// p = exp(p) / Σ exp(p) over one row, in place.
    pub(super) fn softmax(p: &mut [f32]) {
        let mut most = [f32::NEG_INFINITY; LANES];
        for chunk in p.chunks(LANES) {
            for (most, p) in most.iter_mut().zip(chunk) {
                *most = if *p > *most { *p } else { *most };
            }
        }
        let most = most.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        for p in p.iter_mut() {
            *p = exp::<FMA>(*p - most);
        }
        let inverse = 1.0 / sum(p, |p| p);
        for p in p.iter_mut() {
            *p *= inverse;
        }
    }
}

vectorized! {
    /// The gradient at the input of a softmax, written over that at its output: dᵢ = pᵢ (dᵢ − Σ d·p).
    pub(super) fn softmax_backward(p: &[f32], d: &mut [f32]) {
        let dot = sum2(p, d, |p, d| p * d);
        for (p, d) in p.iter().zip(d) {
            *d = p * (*d - dot);
        }
    }
}

/// σ(1.702 x)
#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-1.702 * x))
}

/// Φ(x), the distribution function of the normal.
#[inline(always)]
fn normal<const FMA: bool>(x: f32) -> f32 {
    0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))
}

vectorized! {
    /// y = act(x)
    pub(super) fn activate(gelu: Gelu, x: &[f32], y: &mut [f32]) {
        match gelu {
            Gelu::Quick => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * sigmoid::<FMA>(*x)),
            Gelu::Exact => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * normal::<FMA>(*x)),
        }
    }
}

vectorized! {
    /// g ← g · act′(x): x·s has s·(1 + 1.702 x (1 − s)) with s = σ(1.702 x); x·Φ has Φ + x·φ.
    pub(super) fn activate_backward(gelu: Gelu, x: &[f32], g: &mut [f32]) {
        const DENSITY: f32 = 0.398_942_3; // 1/√(2π)
        match gelu {
            Gelu::Quick => g.iter_mut().zip(x).for_each(|(g, x)| {
                let s = sigmoid::<FMA>(*x);
                *g *= s * madd::<FMA>(1.702 * x, 1.0 - s, 1.0);
            }),
            Gelu::Exact => g.iter_mut().zip(x).for_each(|(g, x)| {
                *g *= madd::<FMA>(x * DENSITY, exp::<FMA>(-0.5 * x * x), normal::<FMA>(*x));
            }),
        }
    }
}

vectorized! {
    /// c = scale · tile (+ bias) (+ c) for rows of `columns` numbers, which lie `width` apart in the tile and `stride` in c; `add` keeps
    /// what was in c.
    pub(super) fn store(tile: &[f32], width: usize, columns: usize, scale: f32, bias: Option<&[f32]>, add: bool, c: &mut [f32], stride: usize) {
        for (tile, c) in tile.chunks(width).zip(c.chunks_mut(stride)) {
            let (tile, c) = (&tile[..columns], &mut c[..columns]);
            match (bias, add) {
                (None, false) => c.iter_mut().zip(tile).for_each(|(c, t)| *c = scale * t),
                (None, true) => c.iter_mut().zip(tile).for_each(|(c, t)| *c = madd::<FMA>(scale, *t, *c)),
                (Some(bias), false) => c.iter_mut().zip(tile).zip(bias).for_each(|((c, t), b)| *c = madd::<FMA>(scale, *t, *b)),
                (Some(bias), true) => c.iter_mut().zip(tile).zip(bias).for_each(|((c, t), b)| *c += madd::<FMA>(scale, *t, *b)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// A fine net over the range where the activations bend, and far beyond it.
    fn net() -> Vec<f32> {
        (-4000..=4000).map(|i| i as f32 * 0.005).chain([-1e4, -88.5, 88.5, 1e4]).collect()
    }

    #[test]
    fn activations_and_their_slopes_agree_with_f64_on_every_isa() {
        let x = net();
        let exact = |gelu: Gelu, x: f64| match gelu {
            Gelu::Quick => x / (1.0 + (-1.702 * x).exp()),
            Gelu::Exact => x * 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt())),
        };
        for isa in Isa::available() {
            for gelu in [Gelu::Quick, Gelu::Exact] {
                let (mut y, mut slope) = (vec![0.0; x.len()], vec![1.0; x.len()]);
                activate(isa, gelu, &x, &mut y);
                activate_backward(isa, gelu, &x, &mut slope);
                for ((x, y), slope) in x.iter().zip(&y).zip(&slope) {
                    let x = f64::from(*x);
                    let value = exact(gelu, x);
                    assert!((f64::from(*y) - value).abs() < 1e-6 * x.abs().max(1.0), "{isa:?} {gelu:?} {x}: {y} {value}");
                    let h = 1e-5;
                    let rise = (exact(gelu, x + h) - exact(gelu, x - h)) / (2.0 * h);
                    assert!((f64::from(*slope) - rise).abs() < 2e-6, "{isa:?} {gelu:?} slope at {x}: {slope} {rise}");
                }
            }
        }
    }

    /// Also one whose low bits are set, as a GPU makes them.
    #[test]
    fn what_is_not_a_number_stays_none() {
        for isa in Isa::available() {
            for bits in [0x7fc0_0000, 0x7fff_ffff, 0xffc0_0000, 0x7fc0_007f, 0x7f80_0001] {
                for at in 0..33 {
                    let mut p: Vec<f32> = (0..33).map(|i| if i == at { f32::from_bits(bits) } else { 0.1 * i as f32 }).collect();
                    softmax(isa, &mut p);
                    assert!(p.iter().any(|p| p.is_nan()), "{isa:?} {bits:x} {at}");
                    let mut y = vec![0.0; 1];
                    activate(isa, Gelu::Quick, &[f32::from_bits(bits)], &mut y);
                    assert!(y[0].is_nan(), "{isa:?} {bits:x}");
                }
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_for_any_length_and_size_of_scores() {
        for isa in Isa::available() {
            for n in [1, 2, 31, 32, 33, 100] {
                for size in [0.0, 1.0, 1e4] {
                    let mut p: Vec<f32> = (0..n).map(|i| size * ((i * 7 % 11) as f32 - 5.0)).collect();
                    softmax(isa, &mut p);
                    assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5 && p.iter().all(|p| *p >= 0.0), "{isa:?} {n} {size}");
                }
            }
        }
    }
}
