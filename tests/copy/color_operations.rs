use image::{Rgb, RgbImage};

use super::color::{brightness, gaussian_blur, gray, hue};

pub fn check() -> Result<(), String> {
    let picture = RgbImage::from_pixel(9, 7, Rgb([200, 100, 50]));
    assert_eq!(brightness(&picture, 0.5).get_pixel(0, 0).0, [100, 50, 25]);
    assert_eq!((gaussian_blur(&picture, 1.5), hue(&picture, 0.0).dimensions()), (picture.clone(), (9, 7)));
    let [r, g, b] = gray(&picture).get_pixel(3, 3).0;
    if r == g && g == b { Ok(()) } else { Err("gray has a hue".into()) }
}
