//! `open_clip_config.json` of a CLIP: its towers and the preparation of pictures under open_clip's keys.

use serde_json::{Value, json};

use super::{Clip, EndOfText, VisionTower};
use crate::augment::{Preprocess, Resample, ResizeTo};
use crate::eval::as_written;
use crate::nn::Activation;

/// The ε of open_clip's layer norms, where `norm_kwargs` names no other.
const OPEN_CLIP_EPS: f64 = 1e-5;

/// "a photo of a cat" in OpenAI's vocabulary, and its highest id.
const OPENAI_IDS: [u32; 7] = [49406, 320, 1125, 539, 320, 2368, 49407];

impl Clip {
    /// open_clip's configuration; what it has no key for is the error.
    pub(super) fn open_clip_config(&self, tower: &VisionTower) -> std::result::Result<Value, String> {
        let (vision, text) = (tower.config(), &self.config.text);
        if vision.activation != text.activation {
            return Err("it has one activation for both towers".into());
        }
        let weak = &self.preprocess;
        let (mode, size) = match weak.resize {
            ResizeTo::ShortestEdge(edge) if edge == weak.crop => ("shortest", edge),
            ResizeTo::LongestEdge(edge) if edge == weak.crop => ("longest", edge),
            ResizeTo::Exact { width, height } if width == weak.crop && height == weak.crop => ("squash", width),
            _ => return Err("it resizes to the size of the crop".into()),
        };
        let interpolation = match weak.resample {
            Resample::Bicubic => "bicubic",
            Resample::Bilinear => "bilinear",
            Resample::Lanczos => return Err("it has no filter of Lanczos".into()),
        };
        let mut vision_cfg = json!({
            "image_size": vision.image_size, "layers": vision.layers, "width": vision.width, "patch_size": vision.patch_size,
            "head_width": vision.width / vision.heads, "mlp_ratio": mlp_ratio(vision.hidden, vision.width),
        });
        let mut text_cfg = json!({
            "context_length": text.context, "vocab_size": text.vocabulary, "width": text.width, "heads": text.heads,
            "layers": text.layers, "mlp_ratio": mlp_ratio(text.hidden, text.width),
        });
        for (cfg, eps) in [(&mut vision_cfg, vision.norm_eps), (&mut text_cfg, text.norm_eps)] {
            if (eps - OPEN_CLIP_EPS).abs() > 1e-9 {
                cfg["norm_kwargs"] = json!({ "eps": eps });
            }
        }
        let highest = self.tokenizer.highest();
        match text.end_of_text {
            EndOfText::First(end) if end != highest => {
                text_cfg["pool_type"] = json!("eos");
                text_cfg["eos_id"] = json!(end);
            }
            _ => {}
        }
        let openai = self.tokenizer.encode(&["a photo of a cat"]).is_ok_and(|tokens| tokens.ids == [OPENAI_IDS]);
        if !openai || Some(&highest) != OPENAI_IDS.last() {
            // any name makes open_clip read the folder's tokenizer in place of its own
            text_cfg["hf_tokenizer_name"] = json!("local-dir");
        }
        let (mean, std) = of_unit_values(weak);
        Ok(json!({
            "model_cfg": {
                "embed_dim": self.config.projection, "quick_gelu": vision.activation == Activation::QuickGelu,
                "vision_cfg": vision_cfg,
                "text_cfg": text_cfg,
            },
            "preprocess_cfg": {
                "size": [size, size], "mode": "RGB", "mean": as_written(&mean), "std": as_written(&std),
                "interpolation": interpolation, "resize_mode": mode,
            },
        }))
    }
}

/// open_clip multiplies a width with it and cuts off what is behind the point: the quotient, or the next number above it that gives
/// `hidden` so.
fn mlp_ratio(hidden: usize, width: usize) -> f64 {
    let quotient = hidden as f64 / width as f64;
    let up = |ratio: &f64| Some(ratio.next_up());
    std::iter::successors(Some(quotient), up).take(4).find(|ratio| (width as f64 * ratio) as usize == hidden).unwrap_or(quotient)
}

/// Mean and std for values of 0..1, which open_clip makes of 0..255 whatever `rescale` is.
fn of_unit_values(weak: &Preprocess) -> ([f32; 3], [f32; 3]) {
    let factor = 255.0 * weak.rescale; // exactly 1 for 1/255
    (weak.mean.map(|value| value / factor), weak.std.map(|value| value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{ClipConfig, Tokenizer};

    #[test]
    fn open_clip_is_told_of_another_vocabulary_than_its_own() {
        let mut clip = Clip::demo().unwrap();
        let named = |clip: &Clip| clip.open_clip_config(clip.vision()).unwrap()["model_cfg"]["text_cfg"].get("hf_tokenizer_name").cloned();
        assert!(named(&clip).is_some_and(|name| name != ""));
        let words =
            json!({ "a": 320, "photo": 1125, "of": 539, "cat": 2368, "<|startoftext|>": OPENAI_IDS[0], "<|endoftext|>": OPENAI_IDS[6] });
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": { "type": "Whitespace" },
            "model": { "type": "WordLevel", "unk_token": "<|endoftext|>", "vocab": words },
        });
        clip.tokenizer = Tokenizer::from_json(tokenizer.to_string().as_bytes(), "OpenAI's", 77).unwrap();
        assert_eq!(named(&clip), None);
    }

    #[test]
    fn truncation_gives_the_hidden_width() {
        for width in 1..800 {
            for hidden in [width, 976, 1000, 3072, 4 * width, 8 * width + 1] {
                let ratio = mlp_ratio(hidden, width);
                assert_eq!((width as f64 * ratio) as usize, hidden, "{width}");
                assert!((ratio - hidden as f64 / width as f64).abs() < 1e-9 * ratio);
            }
        }
        assert_eq!((mlp_ratio(3072, 768), mlp_ratio(4304, 1152)), (4.0, 4304.0 / 1152.0));
    }

    #[test]
    fn another_epsilon_and_another_rescale_are_read_back() {
        let mut clip = Clip::demo().unwrap();
        let plain = clip.open_clip_config(clip.vision()).unwrap();
        assert!(plain["model_cfg"]["text_cfg"].get("norm_kwargs").is_none());
        assert_eq!(plain["preprocess_cfg"]["mean"], as_written(&clip.preprocess.mean));
        std::sync::Arc::make_mut(&mut clip.config).text.norm_eps = 1e-6;
        clip.preprocess = Preprocess { rescale: 1.0 / 127.5, mean: [1.0; 3], std: [0.5, 1.0, 2.0], ..clip.preprocess };
        let json = clip.open_clip_config(clip.vision()).unwrap();
        assert_eq!(ClipConfig::from_open_clip(&json).unwrap().text.norm_eps, 1e-6);
        let read = Preprocess::from_open_clip(&json["preprocess_cfg"], clip.preprocess.side()).unwrap();
        assert!((read.mean, read.std) == ([0.5; 3], [0.25, 0.5, 1.0]) && read.agrees_with(&clip.preprocess), "{read:?}");
    }
}
