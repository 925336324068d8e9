//! Reads the weak view's settings from the files that come with a CLIP: transformers' and open_clip's.

use std::path::Path;

use serde_json::Value;

use super::geometry::Resample;
use super::preprocess::{Preprocess, ResizeTo};
use crate::config_keys;
use crate::error::{Error, Result, cut};

/// Means, deviations and factors beyond this, or below its inverse, are mistakes: values are 0..1 or 0..255.
const LARGEST_NUMBER: f32 = 1e3;

/// No vision tower reads larger views; a larger number in a file is a mistake.
const LARGEST_SIDE: u64 = 16_384;

impl Preprocess {
    /// From a `preprocessor_config.json`; if there is none, what transformers' `CLIPImageProcessor` does by default. `size` is the
    /// tower's image size.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] if it is not JSON or asks for what
    /// [`from_json`](Self::from_json) refuses.
    pub fn from_file(path: impl AsRef<Path>, size: usize) -> Result<Self> {
        let path = path.as_ref();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::transformers(size)),
            Err(error) => return Err(Error::io(path, error)),
        };
        let place = |what: String| Error::Config(format!("{}: {what}", path.display()));
        let value = serde_json::from_str(&text).map_err(|error| place(format!("not JSON ({error}): download the model again")))?;
        Self::from_json(&value, size).map_err(|error| place(error.to_string()))
    }

    /// From the object in a transformers `preprocessor_config.json`, in its old form (sizes as numbers) and its new one
    /// (`shortest_edge`, or `height` and `width`). What is missing is OpenAI CLIP's at `size`. The center is cut as transformers
    /// cuts it ([`CropRule`](super::CropRule)), unless the key `crop_rule`, which this crate writes for other CLIPs, says otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] for a value of another type than expected, a filter other than bilinear, bicubic or Lanczos, a view that
    /// is not square, a resize that keeps the shape without a crop, and one that also caps the longer edge.
    pub fn from_json(value: &Value, size: usize) -> Result<Self> {
        if !value.is_object() {
            return Err(Error::Config("the preprocessing settings are not a JSON object: download the model again".into()));
        }
        config_keys::IMAGE_PROCESSOR.judge("image_processor", value)?;
        let mut weak = Self::transformers(size);
        if let Some(size) = value.get("size").filter(|size| !size.is_null()) {
            weak.resize = match resize_to(size)? {
                // as transformers' version 5 has it
                ResizeTo::ShortestEdge(edge) if size.is_number() && value.get("default_to_square") == Some(&Value::Bool(true)) => {
                    ResizeTo::Exact { width: edge, height: edge }
                }
                other => other,
            };
        }
        if !flag(value, "do_resize")? {
            weak.resize = ResizeTo::Keep;
        }
        // without a crop of its own, a view is what the resize makes
        let resized = match weak.resize {
            ResizeTo::Exact { width, height } => Some((width, height)),
            ResizeTo::ShortestEdge(edge) | ResizeTo::LongestEdge(edge) => Some((edge, edge)),
            ResizeTo::Keep => None,
        };
        let crop = match (flag(value, "do_center_crop")?, value.get("crop_size").filter(|crop| !crop.is_null())) {
            (true, Some(crop)) => match resize_to(crop)? {
                ResizeTo::Exact { width, height } => (width, height),
                ResizeTo::ShortestEdge(edge) | ResizeTo::LongestEdge(edge) => (edge, edge),
                ResizeTo::Keep => (weak.crop, weak.crop),
            },
            (true, None) => resized.unwrap_or((weak.crop, weak.crop)),
            (false, _) => match weak.resize {
                ResizeTo::Exact { width, height } => (width, height),
                other => {
                    return Err(Error::Config(format!(
                        "no center crop after the resize {other:?}, so views would differ in size: set do_center_crop"
                    )));
                }
            },
        };
        weak.crop = square(crop)?;
        if let Some(rule) = value.get("crop_rule").filter(|rule| !rule.is_null()) {
            let rules = "\"torchvision\" or \"transformers\"";
            weak.crop_rule = serde_json::from_value(rule.clone()).map_err(|_| expected("crop_rule", rules, rule))?;
        }
        if let Some(code) = value.get("resample").filter(|code| !code.is_null()) {
            weak.resample = match code.as_u64() {
                Some(1) => Resample::Lanczos,
                Some(2) => Resample::Bilinear,
                Some(3) => Resample::Bicubic,
                _ => {
                    let code = cut(code);
                    return Err(Error::Config(format!("resample is {code}; this crate has 1 (Lanczos), 2 (bilinear) and 3 (bicubic)")));
                }
            };
        }
        weak.rescale = match (flag(value, "do_rescale")?, value.get("rescale_factor")) {
            (false, _) => 1.0,
            (true, None | Some(Value::Null)) => weak.rescale,
            (true, Some(factor)) => {
                positive(factor).ok_or_else(|| expected("rescale_factor", "a number from 1e-6 to 1000, usually 1/255", factor))?
            }
        };
        if flag(value, "do_normalize")? {
            (weak.mean, weak.std) = mean_and_std(value, "image_mean", "image_std")?;
        } else {
            (weak.mean, weak.std) = ([0.0; 3], [1.0; 3]);
        }
        Ok(weak)
    }

    /// From the `preprocess_cfg` object of an `open_clip_config.json`. What is missing is OpenAI CLIP's at `size`. The center is cut
    /// as torchvision cuts it ([`CropRule`](super::CropRule)).
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_open_clip(value: &Value, size: usize) -> Result<Self> {
        config_keys::PREPROCESS_CFG.judge("preprocess_cfg", value)?;
        let mut weak = Self::clip(size);
        let given = value.get("size").filter(|size| !size.is_null());
        if let Some(given) = given {
            weak.crop = square(match resize_to(given)? {
                ResizeTo::Exact { width, height } => (width, height),
                ResizeTo::ShortestEdge(edge) | ResizeTo::LongestEdge(edge) => (edge, edge),
                ResizeTo::Keep => (weak.crop, weak.crop),
            })?;
        }
        weak.resize = match word(value, "resize_mode")?.unwrap_or("shortest") {
            "shortest" => ResizeTo::ShortestEdge(weak.crop),
            "longest" => ResizeTo::LongestEdge(weak.crop),
            "squash" => ResizeTo::Exact { width: weak.crop, height: weak.crop },
            other => {
                let other = cut(other);
                return Err(Error::Config(format!("resize_mode is \"{other}\"; this crate has shortest, longest and squash")));
            }
        };
        let filled = value.get("fill_color").filter(|color| !color.is_null() && **color != 0);
        if let (ResizeTo::LongestEdge(_), Some(color)) = (weak.resize, filled) {
            return Err(expected("fill_color", "0: this crate pads with black", color));
        }
        weak.resample = match word(value, "interpolation")?.unwrap_or("bicubic") {
            // open_clip trains with either if it says random, and evaluates with bicubic
            "bicubic" | "random" => Resample::Bicubic,
            "bilinear" => Resample::Bilinear,
            other => return Err(Error::Config(format!("interpolation is \"{}\"; this crate has bicubic and bilinear", cut(other)))),
        };
        (weak.mean, weak.std) = mean_and_std(value, "mean", "std")?;
        Ok(weak)
    }
}

fn expected(key: &str, what: &str, found: &Value) -> Error {
    Error::Config(format!("{key} should be {what}, found {}", cut(found)))
}

/// A `do_…` switch; on if it is missing.
fn flag(value: &Value, key: &str) -> Result<bool> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(expected(key, "true or false", other)),
    }
}

/// A word, if there is one.
fn word<'a>(value: &'a Value, key: &str) -> Result<Option<&'a str>> {
    let given = value.get(key).filter(|given| !given.is_null());
    given.map(|given| given.as_str().ok_or_else(|| expected(key, "a word in quotes", given))).transpose()
}

/// A size in any of its forms: n, `[height, width]`, {"shortest_edge": n}, {"longest_edge": n}, {"height": n, "width": n}.
fn resize_to(value: &Value) -> Result<ResizeTo> {
    let edge = |value: &Value| value.as_u64().filter(|n| (1..=LARGEST_SIDE).contains(n)).and_then(|n| u32::try_from(n).ok());
    let named = |key: &str| value.get(key).and_then(edge);
    if named("shortest_edge").and(named("longest_edge")).is_some() {
        return Err(expected("a size", "one of shortest_edge and longest_edge: this crate does not cap the longer edge", value));
    }
    let found = match value {
        Value::Number(_) => edge(value).map(ResizeTo::ShortestEdge),
        Value::Array(edges) => match edges.as_slice() {
            [one] => edge(one).map(ResizeTo::ShortestEdge),
            [height, width] => edge(width).zip(edge(height)).map(|(width, height)| ResizeTo::Exact { width, height }),
            _ => None,
        },
        _ => named("shortest_edge")
            .map(ResizeTo::ShortestEdge)
            .or_else(|| named("longest_edge").map(ResizeTo::LongestEdge))
            .or_else(|| named("width").zip(named("height")).map(|(width, height)| ResizeTo::Exact { width, height })),
    };
    found.ok_or_else(|| expected("a size", "a number, {shortest_edge}, or {height, width} of 1..=16384 pixels", value))
}

fn square((width, height): (u32, u32)) -> Result<u32> {
    if width == height {
        Ok(width)
    } else {
        Err(Error::Config(format!("the view is {width} x {height}; this crate's vision towers read squares")))
    }
}

fn positive(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32).filter(|number| (1e-6..=LARGEST_NUMBER).contains(number))
}

fn mean_and_std(value: &Value, mean: &str, std: &str) -> Result<([f32; 3], [f32; 3])> {
    let defaults = Preprocess::clip(1);
    let mean = triple(value, mean, defaults.mean, |v| v.abs() <= LARGEST_NUMBER)?;
    Ok((mean, triple(value, std, defaults.std, |v| (1.0 / LARGEST_NUMBER..=LARGEST_NUMBER).contains(&v))?))
}

fn triple(value: &Value, key: &str, default: [f32; 3], valid: impl Fn(f32) -> bool) -> Result<[f32; 3]> {
    let Some(given) = value.get(key).filter(|given| !given.is_null()) else { return Ok(default) };
    let numbers: Option<Vec<f32>> = given.as_array().and_then(|list| list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
    numbers
        .and_then(|numbers| <[f32; 3]>::try_from(numbers).ok())
        .filter(|numbers| numbers.iter().all(|v| valid(*v)))
        .ok_or_else(|| expected(key, "three numbers within 1000 (std from 0.001)", given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_and_new_forms_agree() {
        let old = json!({"size": 40, "crop_size": 32, "resample": 3, "do_resize": true, "image_mean": [0.5, 0.5, 0.5]});
        let new = json!({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5],
            "do_convert_rgb": true, "rescale_factor": 1.0 / 255.0});
        let (old, new) = (Preprocess::from_json(&old, 224).unwrap(), Preprocess::from_json(&new, 224).unwrap());
        assert_eq!(old, new);
        assert_eq!((old.resize, old.crop, old.mean), (ResizeTo::ShortestEdge(40), 32, [0.5; 3]));
        assert_eq!(Preprocess::from_json(&json!({}), 336).unwrap(), Preprocess::transformers(336));
    }

    #[test]
    fn switches_and_squares() {
        let squash = json!({"size": {"height": 64, "width": 64}, "do_center_crop": false, "do_normalize": false, "do_rescale": false, "resample": 2});
        let weak = Preprocess::from_json(&squash, 224).unwrap();
        assert_eq!((weak.resize, weak.crop), (ResizeTo::Exact { width: 64, height: 64 }, 64));
        assert_eq!((weak.mean, weak.std, weak.rescale, weak.resample), ([0.0; 3], [1.0; 3], 1.0, Resample::Bilinear));
        for (square, resize) in [(true, weak.resize), (false, ResizeTo::ShortestEdge(64))] {
            let old = json!({"size": 64, "crop_size": 64, "default_to_square": square, "use_square_size": false});
            assert_eq!(Preprocess::from_json(&old, 224).unwrap().resize, resize);
        }
        assert_eq!(Preprocess::from_json(&json!({"do_resize": false}), 48).unwrap().resize, ResizeTo::Keep);
    }

    #[test]
    fn what_cannot_be_done_is_refused_in_one_line() {
        for bad in [
            json!([]),
            json!({"size": "large"}),
            json!({"size": 0}),
            json!({"size": 1_000_000}),
            json!({"size": {"shortest_edge": 32, "longest_edge": 40}}),
            json!({"use_square_size": true}),
            json!({"crop_size": {"height": 10, "width": 20}}),
            json!({"do_center_crop": false}),
            json!({"do_resize": 1}),
            json!({"resample": 0}),
            json!({"image_mean": [0.5, 0.5]}),
            json!({"image_std": [0.5, 0.5, 0.0]}),
            json!({"rescale_factor": "x"}),
            json!({"rescale_factor": 3.4e38}),
            json!({"image_mean": [3.4e38, 0.5, 0.5]}),
            json!({"image_std": [0.5, 0.5, 1e-30]}),
            json!({"do_flip_channel_order": true}),
            json!({"crop_rule": "other"}),
            json!({"do_pad": true, "pad_size": {"height": 8, "width": 8}}),
            json!({"size": "x".repeat(100_000)}),
        ] {
            let error = Preprocess::from_json(&bad, 224).unwrap_err();
            let brief = |message: &str| !message.contains('\n') && message.len() < 300;
            assert!(matches!(&error, Error::Config(message) if brief(message)), "{bad}: {error}");
        }
    }

    #[test]
    fn open_clip_settings() {
        let given = json!({"size": [256, 256], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear",
            "resize_mode": "squash", "fill_color": 0});
        let weak = Preprocess::from_open_clip(&given, 224).unwrap();
        assert_eq!((weak.resize, weak.crop, weak.std), (ResizeTo::Exact { width: 256, height: 256 }, 256, [0.5; 3]));
        assert_eq!(weak.resample, Resample::Bilinear);
        let only = json!({"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]});
        assert_eq!(Preprocess::from_open_clip(&only, 224).unwrap(), Preprocess::clip(224));
        for bad in [
            json!({"resize_mode": "other"}),
            json!({"mode": "L"}),
            json!({"resize_mode": 3}),
            json!({"resize_mode": "longest", "fill_color": 255}),
        ] {
            assert!(Preprocess::from_open_clip(&bad, 224).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_file_is_clips_and_a_broken_one_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preprocessor_config.json");
        assert_eq!(Preprocess::from_file(&path, 32).unwrap(), Preprocess::transformers(32));
        std::fs::write(&path, "{\"size\": ").unwrap();
        let error = Preprocess::from_file(&path, 32).unwrap_err().to_string();
        assert!(error.contains("preprocessor_config.json") && error.lines().count() == 1, "{error}");
    }
}
