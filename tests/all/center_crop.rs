//! The weak view's size and center on odd margins, as transformers has it and as torchvision has it: fixtures by
//! tests/fixtures/centre_crop.py.

use std::collections::HashMap;

use image::RgbImage;
use lafter::augment::{CropRule, Preprocess};
use lafter::clip::{Clip, read_tensors};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

#[test]
fn every_library_cuts_and_pads_at_its_own_pixels() {
    let path = format!("{FIXTURES}/augment/centre_crop.safetensors");
    let (_, header) = SafeTensors::read_metadata(&std::fs::read(&path).unwrap()).unwrap();
    let metadata: &HashMap<String, String> = header.metadata().as_ref().unwrap();
    let cases: Vec<Value> = serde_json::from_str(&metadata["cases"]).unwrap();
    let (tensors, _) = read_tensors(&path, &candle_core::Device::Cpu).unwrap();
    let picture = |name: String| {
        let (height, width, _) = tensors[&name].dims3().unwrap();
        RgbImage::from_raw(width as u32, height as u32, tensors[&name].flatten_all().unwrap().to_vec1::<u8>().unwrap()).unwrap()
    };
    assert!(cases.len() > 50);
    for case in &cases {
        let read = Preprocess::from_json(&case["settings"], 16).unwrap();
        assert_eq!(read.crop_rule, CropRule::Transformers);
        let rule: CropRule = serde_json::from_value(case["rule"].clone()).unwrap();
        let input = picture(format!("input/{}", case["input"].as_str().unwrap()));
        let view = Preprocess { crop_rule: rule, ..read }.image(&input);
        let expected = picture(case["output"].as_str().unwrap().to_string());
        assert!(view == expected, "{case}: {:?} of {:?}", view.dimensions(), input.dimensions());
    }
}

/// 350 × 434 at side 64 becomes 64 × 79, of which transformers cuts from row 7, torchvision from row 8.
#[test]
fn each_layout_takes_its_own_librarys_rule() {
    let mini = Clip::from_dir(format!("{FIXTURES}/parity/quick")).unwrap();
    assert_eq!(mini.preprocess().crop_rule, CropRule::Transformers);
    assert_eq!(Clip::demo().unwrap().preprocess().crop_rule, CropRule::Torchvision);
    let from_open_clip = Preprocess::from_open_clip(&json!({"size": 64}), 64).unwrap();
    assert_eq!(from_open_clip.crop_rule, CropRule::Torchvision);
    assert_eq!(Preprocess::clip(64).crop_rule, CropRule::Torchvision);
    assert_ne!(Preprocess::clip(64).geometry_key(), Preprocess::transformers(64).geometry_key());
    let rows = RgbImage::from_fn(350, 434, |_, y| image::Rgb([(y / 2) as u8; 3]));
    let top = |view: Preprocess| view.image(&rows).get_pixel(30, 0).0[0];
    let (ours, theirs) = (top(Preprocess::transformers(64)), top(Preprocess::clip(64)));
    assert!(theirs > ours, "{ours} {theirs}");
}

/// A saved CLIP has transformers' layout, and its pictures are prepared as those of its base in open_clip's.
#[test]
fn a_saved_clip_keeps_its_bases_rule_and_settings() {
    let (base, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["quick/tokenizer.json", "open_clip_quick/open_clip_config.json", "open_clip_quick/open_clip_model.safetensors"] {
        let path = std::path::Path::new(FIXTURES).join("parity").join(name);
        std::fs::copy(&path, base.path().join(path.file_name().unwrap())).unwrap();
    }
    let others = json!({"size": {"height": 16, "width": 16}, "image_mean": [0.5, 0.5, 0.5]});
    std::fs::write(base.path().join("preprocessor_config.json"), others.to_string()).unwrap();
    let clip = Clip::from_dir(base.path()).unwrap();
    clip.save_with(clip.vision(), saved.path()).unwrap();
    let read = Clip::from_dir(saved.path()).unwrap();
    assert_eq!(read.summary().layout, "transformers (config.json)");
    assert_eq!((read.preprocess(), read.preprocess().crop_rule), (clip.preprocess(), CropRule::Torchvision));
}
