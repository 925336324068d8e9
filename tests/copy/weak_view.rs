use image::RgbImage;

use super::preprocess::Preprocess;

pub fn check() -> Result<(), String> {
    let weak = Preprocess::clip(32);
    let planes = weak.apply(&RgbImage::from_pixel(60, 50, image::Rgb([255, 0, 128])));
    assert_eq!(planes.len(), 3 * 32 * 32);
    assert!((planes[0] - 1.9303).abs() < 1e-4 && (planes[1024] + 1.7521).abs() < 1e-4, "{} {}", planes[0], planes[1024]);
    Ok(())
}
