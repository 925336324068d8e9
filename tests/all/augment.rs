//! Every operation of the views against Pillow and torchvision: fixtures by tests/fixtures/augment.py.

use std::collections::HashMap;

use image::RgbImage;
use lafter::augment::ops::{self, Region, Resample};
use lafter::augment::{CLIP_MEAN, CLIP_STD, Drawn, JitterStep, Preprocess, RandAugment, ResizeTo, Sampling, StrongAugment, StrongParams};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Greatest and mean difference allowed, in levels of 0..=255.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    most: f64,
    mean: f64,
}

/// Bit for bit: the same whole-number arithmetic, and the same order of f32 operations.
const EXACT: Tolerance = Tolerance { most: 0.0, mean: 0.0 };
struct Fixture {
    bytes: Vec<u8>,
    cases: Vec<Value>,
}

impl Fixture {
    fn read() -> Self {
        Self::of("ops")
    }

    fn of(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/augment/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: &HashMap<String, String> = metadata.metadata().as_ref().unwrap();
        let cases = serde_json::from_str(&metadata["cases"]).unwrap();
        Self { bytes, cases }
    }

    /// Shape and values in levels; f32 tensors are normalized planes.
    fn values(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let values = match tensor.dtype() {
            Dtype::U8 => tensor.data().iter().map(|v| f64::from(*v)).collect(),
            Dtype::F32 => {
                let value = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
                in_levels(&tensor.data().chunks_exact(4).map(value).collect::<Vec<_>>())
            }
            other => panic!("{name}: {other:?}"),
        };
        (tensor.shape().to_vec(), values)
    }

    fn input(&self, name: &str) -> RgbImage {
        let (shape, values) = self.values(&format!("input/{name}"));
        RgbImage::from_raw(shape[1] as u32, shape[0] as u32, values.iter().map(|v| *v as u8).collect()).unwrap()
    }

    /// Runs every case of one operation and compares.
    fn check(&self, op: &str, tolerance: Tolerance, run: impl Fn(&RgbImage, &Value) -> (Vec<usize>, Vec<f64>)) {
        let (mut seen, mut worst, mut worst_mean) = (0, 0f64, 0f64);
        for case in self.cases.iter().filter(|case| case["op"] == op) {
            let (shape, expected) = self.values(case["output"].as_str().unwrap());
            let (found_shape, found) = run(&self.input(case["input"].as_str().unwrap()), &case["args"]);
            assert_eq!(found_shape, shape, "{case}");
            let differences: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
            let most = differences.iter().copied().fold(0.0, f64::max);
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            assert!(
                most <= tolerance.most && mean <= tolerance.mean,
                "{case}: differs by up to {most}, {mean:.4} on average; {tolerance:?}"
            );
            (seen, worst, worst_mean) = (seen + 1, worst.max(most), worst_mean.max(mean));
        }
        println!("{op}: {seen} cases, at most {worst} levels apart, mean at most {worst_mean:.4}");
        assert!(seen > 0, "no case for {op}");
    }

    fn check_images(&self, op: &str, tolerance: Tolerance, run: impl Fn(&RgbImage, &Value) -> RgbImage) {
        self.check(op, tolerance, |image, args| {
            let out = run(image, args);
            (vec![out.height() as usize, out.width() as usize, 3], out.iter().map(|v| f64::from(*v)).collect())
        });
    }
}

fn int(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn filter(value: &Value) -> Resample {
    serde_json::from_value(value.clone()).unwrap()
}

fn region(args: &[&Value]) -> Region {
    Region { left: int(args[0]), top: int(args[1]), width: int(args[2]), height: int(args[3]) }
}

#[test]
fn resizing() {
    let fixture = Fixture::read();
    fixture.check_images("resize", EXACT, |image, a| ops::resize(image, int(&a[0]), int(&a[1]), filter(&a[2])));
    fixture.check_images("resize_shortest", EXACT, |image, a| ops::resize_shortest(image, int(&a[0]), filter(&a[1])));
    fixture.check_images("crop_resize", EXACT, |image, a| {
        let region = region(&[&a[0], &a[1], &a[2], &a[3]]);
        ops::crop_resize(image, region, int(&a[4]), int(&a[4]), filter(&a[5]))
    });
}

#[test]
fn cropping_and_flipping() {
    let fixture = Fixture::read();
    fixture.check_images("center_crop", EXACT, |image, a| ops::center_crop(image, int(&a[0]), int(&a[1])));
    fixture.check_images("flip", EXACT, |image, _| ops::flip_horizontal(image));
}

#[test]
fn colors() {
    let fixture = Fixture::read();
    fixture.check_images("brightness", EXACT, |image, a| ops::brightness(image, float(&a[0])));
    fixture.check_images("contrast", EXACT, |image, a| ops::contrast(image, float(&a[0])));
    fixture.check_images("saturation", EXACT, |image, a| ops::saturation(image, float(&a[0])));
    fixture.check_images("hue", EXACT, |image, a| ops::hue(image, float(&a[0])));
    fixture.check_images("grey", EXACT, |image, _| ops::gray(image));
}

#[test]
fn blurring() {
    Fixture::read().check_images("blur", EXACT, |image, a| ops::gaussian_blur(image, float(&a[0])));
}

#[test]
fn the_weak_view() {
    Fixture::read().check("weak", EXACT, |image, a| {
        let weak = Preprocess { resize: ResizeTo::ShortestEdge(int(&a[0])), crop: int(&a[1]), ..Preprocess::clip(1) };
        (vec![3, weak.side(), weak.side()], in_levels(&weak.apply(image).iter().map(|v| f64::from(*v)).collect::<Vec<_>>()))
    });
}

/// Normalized planes [3, side, side] in levels of 0..=255, not rounded.
fn in_levels(planes: &[f64]) -> Vec<f64> {
    let plane = planes.len() / 3;
    let level = |(i, v): (usize, &f64)| 255.0 * (v * f64::from(CLIP_STD[i / plane]) + f64::from(CLIP_MEAN[i / plane]));
    planes.iter().enumerate().map(level).collect()
}

fn jitter(steps: &Value) -> Vec<JitterStep> {
    let step = |step: &Value| match step[0].as_str().unwrap() {
        "brightness" => JitterStep::Brightness(float(&step[1])),
        "contrast" => JitterStep::Contrast(float(&step[1])),
        "saturation" => JitterStep::Saturation(float(&step[1])),
        _ => JitterStep::Hue(float(&step[1])),
    };
    steps.as_array().unwrap().iter().map(step).collect()
}

/// Crop and mirror, and nothing else.
fn cropped(p: &Value) -> StrongParams {
    let (crop, flip) = (region(&[&p["left"], &p["top"], &p["width"], &p["height"]]), p["flip"].as_bool().unwrap());
    StrongParams { crop, flip, jitter: Vec::new(), gray: false, blur: None, more: Drawn::default() }
}

fn corners(value: &Value) -> [(u32, u32); 4] {
    std::array::from_fn(|i| (int(&value[i][0]), int(&value[i][1])))
}

#[test]
fn the_strong_view_at_given_parameters() {
    Fixture::read().check_images("strong", EXACT, |image, a| {
        let p = &a[1];
        let blur = p["blur"].as_f64().map(|sigma| sigma as f32);
        let params = StrongParams { jitter: jitter(&p["jitter"]), gray: p["grey"].as_bool().unwrap(), blur, ..cropped(p) };
        StrongAugment::simsiam(int(&a[0]) as usize).apply_with(image, &params)
    });
}

#[test]
fn the_operations_of_rand_augment() {
    let fixture = Fixture::of("rand_augment");
    fixture.check_images("autocontrast", EXACT, |image, _| ops::autocontrast(image));
    fixture.check_images("equalize", EXACT, |image, _| ops::equalize(image));
    fixture.check_images("invert", EXACT, |image, _| ops::invert(image));
    fixture.check_images("posterize", EXACT, |image, a| ops::posterize(image, int(&a[0]) as u8));
    fixture.check_images("solarize", EXACT, |image, a| ops::solarize(image, a[0].as_f64().unwrap()));
    fixture.check_images("solarize_add", EXACT, |image, a| ops::solarize_add(image, int(&a[0]) as u8));
    fixture.check_images("sharpness", EXACT, |image, a| ops::sharpness(image, float(&a[0])));
    fixture.check_images("perspective", EXACT, |image, a| ops::perspective(image, corners(&a[0]), [0; 3]));
    fixture.check_images("rotate", EXACT, |image, a| {
        let sampling: Sampling = serde_json::from_value(a[1].clone()).unwrap();
        ops::rotate(image, a[0].as_f64().unwrap(), sampling, std::array::from_fn(|i| int(&a[2][i]) as u8))
    });
}

/// timm's and torchvision's numbers: the operation that an index and a magnitude mean, and what it does.
#[test]
fn rand_augment_at_given_draws() {
    let fixture = Fixture::of("rand_augment");
    let fill = [123, 117, 104]; // CLIP's mean
    fixture.check_images("timm", EXACT, |image, a| {
        let step = ops::timm_step(int(&a[0]) as usize, a[1].as_f64().unwrap(), a[2].as_bool().unwrap(), image.width());
        step.apply(image, Sampling::Bicubic, fill)
    });
    fixture.check_images("torchvision", EXACT, |image, a| {
        let step = ops::torchvision_step(int(&a[0]) as usize, int(&a[1]), a[2].as_bool().unwrap(), image.width());
        step.map_or_else(|| image.clone(), |step| step.apply(image, Sampling::Nearest, [0; 3]))
    });
}

#[test]
fn the_strong_views_of_dpa_and_nola_at_given_parameters() {
    let fixture = Fixture::of("rand_augment");
    fixture.check_images("dpa", EXACT, |image, a| {
        let step = |step: &Value| ops::timm_step(int(&step[0]) as usize, step[1].as_f64().unwrap(), step[2].as_bool().unwrap(), 24);
        let rand_augment = a[1]["steps"].as_array().unwrap().iter().map(step).collect();
        let view = StrongAugment::dpa(int(&a[0]) as usize);
        assert_eq!(view.more.rand_augment, Some(RandAugment::default()));
        view.apply_with(image, &StrongParams { more: Drawn { rand_augment, ..Drawn::default() }, ..cropped(&a[1]) })
    });
    fixture.check_images("nola", EXACT, |image, a| {
        let p = &a[1];
        let (perspective, blur) = (Some(corners(&p["corners"])), Some(float(&p["blur"])));
        let more = Drawn { second_jitter: jitter(&p["second"]), perspective, ..Drawn::default() };
        let params = StrongParams { jitter: jitter(&p["jitter"]), blur, more, ..cropped(p) };
        StrongAugment::nola(int(&a[0]) as usize).apply_with(image, &params)
    });
}
