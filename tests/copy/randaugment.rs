use image::RgbImage;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::rand_augment::RandAugment;

pub fn check() -> Result<(), String> {
    let policy = RandAugment::default();
    let picture = RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, (x * y) as u8]));
    let view = |seed| {
        let steps = policy.sample(32, &mut StdRng::seed_from_u64(seed));
        steps.iter().fold(picture.clone(), |view, step| step.apply(&view, policy.sampling(), policy.fill([123, 117, 104])))
    };
    assert_eq!(view(1), view(1));
    assert!((0..20).any(|seed| view(seed) != picture));
    policy.fault().map_or(Ok(()), Err)
}
