//! Turning the hue, through Pillow's 8-bit HSV.

use image::RgbImage;

use super::planar::for_each_block;
use lafter_fast as fast; // fast::

/// Turns every pixel's hue by `turn` of the circle, −0.5..=0.5; value and saturation stay.
///
/// Hue, saturation and value are whole numbers of 0..=255 in between, as in torchvision on Pillow images, so a turn
/// below 1/255 does nothing but that rounding.
pub fn hue(image: &RgbImage, turn: f32) -> RgbImage {
    let shift = (f64::from(turn) * 255.0) as i32 as u8; // toward zero, then around the circle
    let mut out = image.clone();
    turn_all(&mut out, shift);
    out
}

fast::wide! { // fast::
    /// Pixels in blocks, channel by channel, without a branch: so the compiler can put many into one register.
    fn turn_all(values: &mut [u8], shift: u8) {
        for_each_block(values, |r, g, b| {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let [h, s, v] = to_hsv([*r, *g, *b]);
                [*r, *g, *b] = to_rgb([h.wrapping_add(shift), s, v]);
            }
        });
    }
} // fast::

/// Without its fraction; for values that a byte can hold.
#[inline(always)]
fn whole(value: f64) -> u8 {
    debug_assert!((0.0..256.0).contains(&value));
    // SAFETY: every caller's value is a finite number of 0..256
    unsafe { value.to_int_unchecked::<i32>() as u8 }
}

#[inline(always)]
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = f32::from((high - low).max(1)); // greys: 1 in place of 0 gives hue 0 as well
    let saturation = f32::from(high - low) / f32::from(high.max(1));
    // how far each channel lies below the highest, as a share of the range
    let [rc, gc, bc] = [r, g, b].map(|channel| f32::from(high - channel) / range);
    let (of_r, of_g, of_b) = (bc - gc, (2.0 + f64::from(rc) - f64::from(bc)) as f32, (4.0 + f64::from(gc) - f64::from(rc)) as f32);
    let sextant = if r == high { of_r } else { of_b };
    let sextant = if r != high && g == high { of_g } else { sextant };
    let turned = f64::from(sextant) / 6.0 + 1.0; // in 5/6..2
    let hue = (if turned >= 1.0 { turned - 1.0 } else { turned }) as f32;
    [whole(f64::from(hue) * 255.0), whole(f64::from(saturation) * 255.0), high]
}

#[inline(always)]
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    let position = f64::from(h) * 6.0 / 255.0;
    let sextant = whole(position);
    let rest = f64::from((position - f64::from(sextant)) as f32);
    let saturation = f64::from((f64::from(s) / 255.0) as f32);
    let level = |share: f64| whole(f64::from(v) * (1.0 - share) + 0.5);
    let (p, q, t) = (level(saturation), level(saturation * rest), level(saturation * (1.0 - rest)));
    let pick = |of: [u8; 6]| {
        let mut picked = of[0]; // sextant 6 is 0 again
        for (i, value) in of.into_iter().enumerate().skip(1) {
            picked = if usize::from(sextant) == i { value } else { picked };
        }
        picked
    };
    [pick([v, q, p, p, t, v]), pick([t, v, v, q, p, p]), pick([p, p, t, v, v, q])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_have_no_hue_and_a_third_turn_moves_red_to_green() {
        assert_eq!(to_hsv([77, 77, 77]), [0, 0, 77]);
        assert_eq!(to_rgb([9, 0, 77]), [77, 77, 77]);
        let red = RgbImage::from_pixel(2, 2, image::Rgb([250, 0, 0]));
        assert_eq!(hue(&red, 1.0 / 3.0).get_pixel(1, 1).0, [0, 250, 0]);
        assert_eq!(hue(&red, 0.0), red);
    }
}
