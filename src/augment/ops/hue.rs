//! Turning the hue, through Pillow's 8-bit HSV.

use image::RgbImage;

/// Turns every pixel's hue by `turn` of the circle, −0.5..=0.5; value and saturation stay.
///
/// Hue, saturation and value are whole numbers of 0..=255 in between, as in torchvision on Pillow images, so a turn
/// below 1/255 does nothing but that rounding.
pub fn hue(image: &RgbImage, turn: f32) -> RgbImage {
    let shift = (f64::from(turn) * 255.0) as i32 as u8; // toward zero, then around the circle
    let wheel: [Hue; 256] = std::array::from_fn(|h| Hue::new((h as u8).wrapping_add(shift)));
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        let [h, s, v] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&wheel[usize::from(h)].to_rgb(s, v));
    }
    out
}

/// A hue as its sixth of the circle and how far into it.
#[derive(Clone, Copy, Debug)]
struct Hue {
    sextant: u8,
    rest: f64,
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0, 0, high];
    }
    let range = f32::from(high - low);
    let saturation = range / f32::from(high);
    // how far each channel lies below the highest, as a share of the range
    let [rc, gc, bc] = [r, g, b].map(|channel| f32::from(high - channel) / range);
    let sextant = if r == high {
        bc - gc
    } else if g == high {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let turned = f64::from(sextant) / 6.0 + 1.0; // in 5/6..2
    let hue = (if turned >= 1.0 { turned - 1.0 } else { turned }) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, high]
}

impl Hue {
    fn new(h: u8) -> Self {
        let position = f64::from(h) * 6.0 / 255.0;
        let sextant = position as u8;
        Self { sextant: sextant % 6, rest: f64::from((position - f64::from(sextant)) as f32) }
    }

    fn to_rgb(self, s: u8, v: u8) -> [u8; 3] {
        if s == 0 {
            return [v, v, v];
        }
        let saturation = f64::from((f64::from(s) / 255.0) as f32);
        let level = |share: f64| (f64::from(v) * (1.0 - share) + 0.5) as u8;
        let (p, q, t) = (level(saturation), level(saturation * self.rest), level(saturation * (1.0 - self.rest)));
        match self.sextant {
            0 => [v, t, p],
            1 => [q, v, p],
            2 => [p, v, t],
            3 => [p, q, v],
            4 => [t, p, v],
            _ => [v, p, q],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_have_no_hue_and_a_third_turn_moves_red_to_green() {
        assert_eq!(to_hsv([77, 77, 77]), [0, 0, 77]);
        assert_eq!(Hue::new(9).to_rgb(0, 77), [77, 77, 77]);
        let red = RgbImage::from_pixel(2, 2, image::Rgb([250, 0, 0]));
        assert_eq!(hue(&red, 1.0 / 3.0).get_pixel(1, 1).0, [0, 250, 0]);
        assert_eq!(hue(&red, 0.0), red);
    }
}
