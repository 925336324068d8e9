//! Logarithm, sine and cosine that the compiler can vectorise.
//!
//! The standard library's `ln` and `sin_cos` are calls, one value at a time, and differ between systems in the last
//! bit. These are plain sums and products (polynomials of Moshier's Cephes library), so they run many lanes at once and
//! give the same bits on every machine.

/// ln x for a normal x above 0, to two units in the last place.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the published coefficients
pub(crate) fn ln(x: f32) -> f32 {
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
pub(crate) fn sin_cos_24(turn: i32) -> (f32, f32) {
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
    use crate::isa::wide;

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

    wide! {
        fn logarithms(values: &[f32], out: &mut [f32]) {
            for (out, value) in out.iter_mut().zip(values) {
                *out = ln(value.abs() + 0.5);
            }
        }
    }

    #[test]
    fn wide_loops_give_the_bits_of_the_narrow_one() {
        let values: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) * 0.1).collect();
        let mut out = vec![0f32; values.len()];
        logarithms(&values, &mut out);
        let one: Vec<f32> = values.iter().map(|value| ln(value.abs() + 0.5)).collect();
        assert_eq!(out, one);
    }
}
