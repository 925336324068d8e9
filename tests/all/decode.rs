//! Decoding every mode against Pillow: fixtures by tests/fixtures/augment.py; and real photographs.

use std::path::{Path, PathBuf};

use crate::common::test_data;
use image::RgbImage;
use lafter::data::decode::{MAX_PIXELS, decode, decode_file};
use lafter::rng::Rng;
use safetensors::SafeTensors;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join("decode").join(name)).unwrap()
}

/// Greatest difference allowed in levels, and the mean one: lossy formats leave the last bit of the inverse transform,
/// the color conversion and the chroma upsampling to the decoder.
fn tolerance(name: &str) -> (u8, f64) {
    match name {
        "rgb420.jpg" | "progressive.jpg" => (4, 0.5), // chroma at half resolution
        name if name.ends_with(".jpg") => (2, 0.05),
        "cmyk.tiff" => (1, 0.5), // multiplied out in f32, not in whole numbers
        _ => (0, 0.0),
    }
}

#[test]
fn every_mode_decodes_as_pillow_does() {
    let file = std::fs::read(folder().join("decode.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let mut failures = Vec::new();
    for (name, tensor) in expected.tensors() {
        let image = match decode(&bytes(&name), &name) {
            Ok(image) => image,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        assert_eq!([image.height() as usize, image.width() as usize, 3], tensor.shape(), "{name}");
        let differences: Vec<u8> = image.iter().zip(tensor.data()).map(|(a, b)| a.abs_diff(*b)).collect();
        let most = differences.iter().copied().max().unwrap();
        let mean = differences.iter().map(|d| f64::from(*d)).sum::<f64>() / differences.len() as f64;
        println!("{name}: at most {most} levels apart, {mean:.3} on average");
        if most > tolerance(&name).0 || mean > tolerance(&name).1 {
            failures.push(format!("{name}: differs by up to {most}, {mean:.3} on average"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn all_orientations_are_the_same_upright_picture() {
    let upright = decode(&bytes("orientation_1.jpg"), "1").unwrap();
    for orientation in 2..=8 {
        let turned = decode(&bytes(&format!("orientation_{orientation}.jpg")), "turned").unwrap();
        let swapped = orientation >= 5;
        let expected = if swapped { (upright.height(), upright.width()) } else { upright.dimensions() };
        assert_eq!(turned.dimensions(), expected, "{orientation}");
        assert_ne!(turned, upright);
    }
}

#[test]
fn damaged_files_are_one_line_with_the_name() {
    let mut cases = vec![("empty".to_string(), Vec::new()), ("text".into(), b"no image at all".to_vec())];
    for name in ["rgb420.jpg", "progressive.jpg", "rgb.png", "lossless.webp", "rgb.tiff", "rgb.bmp", "rgb.ppm", "p.gif"] {
        let whole = bytes(name);
        for part in [3, 5, 8] {
            cases.push((format!("{part}/10 of {name}"), whole[..whole.len() * part / 10].to_vec()));
        }
        cases.push((format!("start of {name}"), whole[..12].to_vec()));
    }
    let mut accepted = Vec::new();
    for (name, bytes) in cases {
        match decode(&bytes, &name) {
            Ok(_) => accepted.push(name),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    matches!(error, lafter::Error::Image(_)) && text.starts_with(&format!("{name}: ")) && text.lines().count() == 1,
                    "{text}"
                );
            }
        }
    }
    assert!(accepted.is_empty(), "decoded although damaged: {accepted:?}");
}

#[test]
fn a_small_file_cannot_claim_a_huge_picture() {
    let side = 60_000u32;
    let mut bomb = b"BM".to_vec();
    bomb.extend([0; 8]);
    bomb.extend(54u32.to_le_bytes());
    bomb.extend(40u32.to_le_bytes());
    bomb.extend(side.to_le_bytes());
    bomb.extend(side.to_le_bytes());
    bomb.extend([1, 0, 24, 0]);
    bomb.extend([0; 24]);
    let error = decode(&bomb, "bomb.bmp").unwrap_err().to_string();
    assert!(error.contains("60000") || error.contains("large"), "{error}");
    let error = decode(format!("P6 {side} {side} 255\n").as_bytes(), "bomb.ppm").unwrap_err().to_string();
    assert!(error.contains(&MAX_PIXELS.to_string()), "{error}");
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    // 35 bytes of GIF with a canvas of 13,370 x 13,370
    let mut gif = b"GIF89a".to_vec();
    gif.extend([13_370u16.to_le_bytes(), 13_370u16.to_le_bytes()].concat());
    gif.extend(*b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    let error = decode(&gif, "bomb.gif").unwrap_err().to_string();
    assert!(error.starts_with("bomb.gif: ") && error.contains("13370 x 13370") && error.lines().count() == 1, "{error}");
    // the same with a file that is large enough for them, but not of eight bytes each: the head alone is looked at
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([13_000u32.to_be_bytes(), 13_000u32.to_be_bytes()].concat());
    png.extend([16, 6, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..]);
    png.extend(crc.sum().to_be_bytes());
    png.extend(1_000_000u32.to_be_bytes());
    png.extend(b"IDAT");
    png.resize(1_000_000, 0);
    let error = decode(&png, "deep.png").unwrap_err().to_string();
    assert!(error.contains("13000 x 13000 pixels of 8 bytes") && error.contains("MiB"), "{error}");
}

#[test]
fn a_part_of_a_webp_cannot_claim_more_than_the_file() {
    let mut picture = bytes("lossless.webp");
    assert!(decode(&picture, "whole.webp").is_ok());
    let mut extended = [&picture[..12], b"VP8X\x0a\0\0\0\x08\0\0\0\0\0\0\0\0\0", &picture[12..], b"EXIF\xf0\xff\xff\xff"].concat();
    let length = (extended.len() - 8) as u32;
    extended[4..8].copy_from_slice(&length.to_le_bytes());
    let error = decode(&extended, "claim.webp").unwrap_err().to_string();
    assert!(error.starts_with("claim.webp: ") && error.contains("cut short"), "{error}");
    picture.extend(b"trailing bytes"); // beyond what RIFF counts
    assert!(decode(&picture, "more.webp").is_ok());
}

#[test]
fn a_jpeg_without_its_end_marker_is_read_if_no_pixel_is_missing() {
    for name in ["rgb420.jpg", "rgb444.jpg", "grey.jpg", "cmyk.jpg"] {
        let whole = bytes(name);
        let expected = decode(&whole, name).unwrap();
        let end = whole.len() - 2;
        let padded = [&whole[..end], &[0; 300]].concat();
        for lacking in [&whole[..end], &whole[..end + 1], &padded] {
            assert_eq!(decode(lacking, name).unwrap(), expected, "{name}");
        }
        // a cut through the picture itself, also where zeros take its place
        for part in 2..10 {
            let cut = &whole[..end * part / 10];
            assert!(decode(cut, name).is_err(), "{name}, {part}/10");
            assert!(decode(&[cut, &[0; 3000]].concat(), name).is_err(), "{name}, {part}/10 and zeros");
        }
    }
    let progressive = bytes("progressive.jpg");
    assert!(decode(&progressive[..progressive.len() - 2], "p").is_err(), "more scans might have followed");
}

/// A TIFF of one strip; entries of 16-bit numbers.
fn tiff(entries: &[(u16, &[u16])], strip: &[u8]) -> Vec<u8> {
    let mut all: Vec<(u16, Vec<u16>)> = entries.iter().map(|(tag, values)| (*tag, values.to_vec())).collect();
    let after = 8 + 2 + 12 * (all.len() + 2) + 4;
    all.extend([(273, vec![after as u16]), (279, vec![strip.len() as u16])]);
    all.sort();
    let (mut bytes, mut more) = (b"II\x2a\0\x08\0\0\0".to_vec(), Vec::new());
    bytes.extend((all.len() as u16).to_le_bytes());
    for (tag, values) in all {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.extend([tag.to_le_bytes(), 3u16.to_le_bytes()].concat());
        bytes.extend((values.len() as u32).to_le_bytes());
        if data.len() <= 4 {
            bytes.extend([data, vec![0; 4]].concat().into_iter().take(4));
        } else {
            bytes.extend(((after + strip.len() + more.len()) as u32).to_le_bytes());
            more.extend(data);
        }
    }
    [bytes, vec![0; 4], strip.to_vec(), more].concat()
}

#[test]
fn kinds_of_tiff_are_read_as_pillow_does_or_refused_with_a_remedy() {
    let size: [(u16, &[u16]); 2] = [(256, &[2]), (257, &[1])];
    let of = |more: &[(u16, &[u16])], strip: &[u8]| decode(&tiff(&[&size, more].concat(), strip), "a.tif");
    // a palette's high bytes count
    let mut colors = vec![0u16; 768];
    (colors[5], colors[256 + 5], colors[512 + 5]) = (0x11ff, 0x22ff, 0x33ff);
    (colors[9], colors[256 + 9], colors[512 + 9]) = (0x4400, 0x5500, 0x6600);
    let palette = of(&[(258, &[8]), (262, &[3]), (320, &colors)], &[5, 9]).unwrap();
    assert_eq!(palette.as_raw(), &[0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
    // alpha is dropped
    let gray = of(&[(258, &[8, 8]), (262, &[1]), (277, &[2]), (338, &[2])], &[7, 0, 200, 255]).unwrap();
    assert_eq!(gray.as_raw(), &[7, 7, 7, 200, 200, 200]);
    let float = of(&[(258, &[32]), (262, &[1]), (339, &[3])], &[0; 8]).unwrap_err().to_string();
    let ycbcr = of(&[(258, &[8, 8, 8]), (262, &[6]), (277, &[3])], &[0; 6]).unwrap_err().to_string();
    let lzma = tiff(&[(256, &[2]), (257, &[1]), (259, &[34925]), (258, &[8]), (262, &[1])], &[0; 6]);
    let jpeg = of(&[(258, &[8, 8]), (259, &[7]), (262, &[1]), (277, &[2])], &[0; 6]).unwrap_err().to_string();
    for error in [float, ycbcr, jpeg, decode(&lzma, "a.tif").unwrap_err().to_string()] {
        assert!(error.starts_with("a.tif: ") && error.contains("convert it to PNG or JPEG") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_missing_file_is_an_error_with_its_path() {
    let error = decode_file(folder().join("nothing.png")).unwrap_err();
    assert!(matches!(error, lafter::Error::Io { .. }) && error.to_string().contains("nothing.png"));
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn real_photographs_decode() {
    let mut count = 0;
    let entries = std::fs::read_dir(test_data("photos")).unwrap();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "JPEG")) {
        let image = decode_file(&path).unwrap();
        assert!(image.width() > 50 && image.height() > 50, "{}", path.display());
        count += 1;
    }
    println!("{count} photographs decoded");
    assert!(count > 0);
}

/// A few bits are missing: what follows must not be guessed.
#[test]
fn cut_jpegs_are_whole_or_refused() {
    let mut rng = Rng::new(1);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..24 {
        let base = rng.below(200) as u8;
        let picture = RgbImage::from_fn(24, 17, |x, y| image::Rgb([base + (x + y) as u8, (rng.below(256)) as u8, base]));
        let mut whole = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut whole, 60).encode_image(&picture).unwrap();
        let expected = decode(&whole, "whole").unwrap();
        for lost in 2..30 {
            match decode(&whole[..whole.len() - lost], "cut") {
                Ok(picture) => {
                    assert!(picture == expected, "{lost} bytes less");
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read >= 24 && refused > 400, "{read} read, {refused} refused");
}

/// A cut photograph is refused, or comes out whole: never with a part filled in.
#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn cut_photographs_are_whole_or_refused() {
    let entries = std::fs::read_dir(test_data("photos")).unwrap();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "JPEG"));
    let (mut read, mut refused) = (0, 0);
    for path in paths.take(40) {
        let whole = std::fs::read(&path).unwrap();
        let expected = decode(&whole, "whole").unwrap();
        let tails = (2..40).chain([100, 300, 1000, whole.len() / 2]).filter(|lost| *lost < whole.len());
        for lost in tails {
            match decode(&whole[..whole.len() - lost], "cut") {
                Ok(picture) => {
                    assert!(picture == expected, "{} less {lost} bytes", path.display());
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{read} read, {refused} refused");
}
