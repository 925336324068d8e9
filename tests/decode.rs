//! Decoding every mode against Pillow: fixtures by tests/fixtures/augment.py; and real photographs.

mod common;

use std::path::{Path, PathBuf};

use common::test_data;
use lafter::data::decode::{MAX_PIXELS, decode, decode_file};
use safetensors::SafeTensors;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join("decode").join(name)).unwrap()
}

/// Greatest difference allowed in levels, and the mean one: lossy formats leave the last bit of the inverse transform,
/// the colour conversion and the chroma upsampling to the decoder.
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
