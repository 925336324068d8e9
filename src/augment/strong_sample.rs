//! The draw of one strong view: where torchvision's transforms roll their dice.

use super::ops::Region;
use super::strong::StrongAugment;
use super::strong_params::{JitterStep, StrongParams};
use crate::rng::Rng;

impl StrongAugment {
    /// Draws the parameters of one view of an image of this size.
    pub fn sample(&self, width: u32, height: u32, rng: &mut Rng) -> StrongParams {
        StrongParams {
            crop: self.sample_crop(width, height, rng),
            jitter: if rng.chance(self.jitter_p) { self.sample_jitter(rng) } else { Vec::new() },
            grey: rng.chance(self.grey_p),
            blur: rng.chance(self.blur_p).then(|| rng.range(self.blur_sigma.0, self.blur_sigma.1)),
            flip: rng.chance(self.flip_p),
        }
    }

    /// A random area and shape, ten tries to fit it into the image, else the largest middle of a permitted shape.
    ///
    /// The area is uniform, the shape (width/height) uniform in its logarithm, as `torchvision.transforms.RandomResizedCrop`.
    fn sample_crop(&self, width: u32, height: u32, rng: &mut Rng) -> Region {
        let (w, h) = (f64::from(width), f64::from(height));
        let (low, high) = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..10 {
            let area = w * h * f64::from(rng.range(self.scale.0, self.scale.1));
            let ratio = f64::from(rng.range(low, high).exp());
            let (crop_w, crop_h) = ((area * ratio).sqrt().round_ties_even() as u32, (area / ratio).sqrt().round_ties_even() as u32);
            if (1..=width).contains(&crop_w) && (1..=height).contains(&crop_h) {
                let top = rng.below((height - crop_h) as usize + 1) as u32;
                let left = rng.below((width - crop_w) as usize + 1) as u32;
                return Region { left, top, width: crop_w, height: crop_h };
            }
        }
        let (low, high) = (f64::from(self.ratio.0), f64::from(self.ratio.1));
        let (crop_w, crop_h) = if w < h * low {
            (width, ((w / low).round_ties_even() as u32).min(height))
        } else if w > h * high {
            (((h * high).round_ties_even() as u32).min(width), height)
        } else {
            (width, height)
        };
        Region { left: (width - crop_w) / 2, top: (height - crop_h) / 2, width: crop_w, height: crop_h }
    }

    /// The four steps in random order; a strength of 0 leaves its step out.
    fn sample_jitter(&self, rng: &mut Rng) -> Vec<JitterStep> {
        let mut order = [0, 1, 2, 3];
        rng.shuffle(&mut order);
        let mut factor = |strength: f32| rng.range((1.0 - strength).max(0.0), 1.0 + strength);
        let (brightness, contrast, saturation) = (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = rng.range(-self.hue, self.hue);
        let steps = [
            (self.brightness, JitterStep::Brightness(brightness)),
            (self.contrast, JitterStep::Contrast(contrast)),
            (self.saturation, JitterStep::Saturation(saturation)),
            (self.hue, JitterStep::Hue(hue)),
        ];
        order.iter().map(|i| steps[*i]).filter(|(strength, _)| *strength > 0.0).map(|(_, step)| step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_lie_inside_and_have_the_asked_areas_and_shapes() {
        let strong = StrongAugment::simsiam(32);
        let mut rng = Rng::new(1);
        let mut areas = Vec::new();
        for _ in 0..2000 {
            let crop = strong.sample(120, 90, &mut rng).crop;
            assert_eq!(crop, crop.within((120, 90)));
            let (w, h) = (f64::from(crop.width), f64::from(crop.height));
            areas.push(w * h / (120.0 * 90.0));
            assert!((0.73..1.37).contains(&(w / h)), "{crop:?}");
        }
        assert!(areas.iter().all(|area| (0.19..=1.0).contains(area)));
        let mean = areas.iter().sum::<f64>() / 2000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}"); // below 0.6: large areas fit in fewer shapes
    }

    #[test]
    fn long_pictures_fall_back_to_the_middle() {
        let strong = StrongAugment { scale: (1.0, 1.0), ..StrongAugment::simsiam(32) };
        let crop = |w, h| strong.sample(w, h, &mut Rng::new(2)).crop;
        assert_eq!(crop(900, 30), Region { left: 430, top: 0, width: 40, height: 30 });
        assert_eq!(crop(30, 900), Region { left: 0, top: 430, width: 30, height: 40 });
        assert!(crop(0, 0).is_empty());
    }

    #[test]
    fn every_step_has_its_probability_and_range() {
        let strong = StrongAugment::paper(32);
        let root = Rng::new(3);
        let drawn: Vec<StrongParams> = (0..4000).map(|i| strong.sample(40, 40, &mut root.fork(i))).collect();
        let share = |f: &dyn Fn(&StrongParams) -> bool| drawn.iter().filter(|p| f(p)).count() as f64 / 4000.0;
        assert!((share(&|p| p.flip) - 0.5).abs() < 0.03);
        assert!((share(&|p| p.grey) - 0.2).abs() < 0.03);
        assert!((share(&|p| p.blur.is_some()) - 0.5).abs() < 0.03);
        assert!((share(&|p| !p.jitter.is_empty()) - 0.8).abs() < 0.03);
        assert!((share(&|p| matches!(p.jitter.first(), Some(JitterStep::Hue(_)))) - 0.2).abs() < 0.03);
        for params in &drawn {
            assert!(params.jitter.is_empty() || params.jitter.len() == 4);
            assert!(params.blur.is_none_or(|sigma| (0.1..2.0).contains(&sigma)));
            for step in &params.jitter {
                match step {
                    JitterStep::Brightness(f) | JitterStep::Contrast(f) | JitterStep::Saturation(f) => assert!((0.6..1.4).contains(f)),
                    JitterStep::Hue(turn) => assert!((-0.1..0.1).contains(turn)),
                }
            }
        }
        let json = serde_json::to_string(&drawn[0]).unwrap();
        assert_eq!(serde_json::from_str::<StrongParams>(&json).unwrap(), drawn[0]);
    }
}
