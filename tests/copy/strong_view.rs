use image::RgbImage;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::strong::StrongAugment;

pub fn check() -> Result<(), String> {
    let picture = RgbImage::from_fn(60, 50, |x, y| image::Rgb([4 * x as u8, 5 * y as u8, (x * y) as u8]));
    let strong = StrongAugment::simsiam(32);
    let view = |seed| strong.apply(&picture, &mut StdRng::seed_from_u64(seed));
    assert_eq!(view(1).len(), 3 * 32 * 32);
    assert!(view(1) == view(1) && view(1) != view(2));
    strong.fault().map_or(Ok(()), Err)
}
