//! A CLIP as the files of an ordinary folder, in the layouts of transformers and of open_clip.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::open_clip_names::open_clip_names;
use super::{Clip, EndOfText, VisionTower, Weights, demo, folder, save_tensors};
use crate::augment::{CropRule, Preprocess, Resample, ResizeTo};
use crate::error::{Error, Result};
use crate::eval::as_written;
use crate::files::save_atomically;
use crate::nn::{Block, LayerNorm, Linear};

/// What was written into a folder.
#[derive(Clone, Debug)]
pub struct SavedClip {
    /// The files' names.
    pub files: Vec<String>,
    /// The hash of the weights ([`Clip::weights_hash`]).
    pub weights_hash: String,
    /// What the folder lacks, one line each.
    pub notices: Vec<String>,
}

impl Clip {
    /// Every tensor under transformers' names, in f32, with another vision tower in the place of this CLIP's.
    ///
    /// # Errors
    /// If a tensor cannot be copied to the host (Candle's).
    pub fn tensors_with(&self, vision: &VisionTower) -> Result<Vec<(String, Tensor)>> {
        let mut out = Named(Vec::new());
        let text = &self.text()?;
        out.add("logit_scale", &Tensor::new(self.log_scale as f32, &Device::Cpu)?)?;
        out.add("vision_model.embeddings.class_embedding", &vision.class_embedding)?;
        out.add("vision_model.embeddings.patch_embedding.weight", &vision.patch_kernel()?)?;
        out.add("vision_model.embeddings.position_embedding.weight", &vision.position_embedding)?;
        out.norm("vision_model.pre_layrnorm", &vision.pre_norm)?;
        out.blocks("vision_model", &vision.blocks)?;
        out.norm("vision_model.post_layernorm", &vision.post_norm)?;
        out.linear("visual_projection", &vision.projection)?;
        out.add("text_model.embeddings.token_embedding.weight", &text.token_embedding)?;
        out.add("text_model.embeddings.position_embedding.weight", &text.position_embedding)?;
        out.blocks("text_model", &text.blocks)?;
        out.norm("text_model.final_layer_norm", &text.final_norm)?;
        out.linear("text_projection", &text.projection)?;
        Ok(out.0)
    }

    /// Writes a folder that transformers, open_clip and this crate load: this CLIP with another vision tower of its sizes. Weights
    /// are stored in f32, once for each layout: `model.safetensors` and `open_clip_model.safetensors`. Pictures are prepared as this CLIP
    /// prepares them; whose center crop that is ([`CropRule`]) stands in a key that this crate alone reads, and a notice names the library
    /// that crops otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] for a CLIP that neither layout has a place for; [`Error::Io`] with the path.
    pub fn save_with(&self, vision: &VisionTower, directory: impl AsRef<Path>) -> Result<SavedClip> {
        let directory = directory.as_ref();
        let open_clip = self.open_clip_config(vision);
        // transformers reads texts at their highest id where the end of text is 2
        let transformers = self.config.text.end_of_text != EndOfText::First(2);
        if let (false, Err(why)) = (transformers, &open_clip) {
            return Err(Error::Config(format!(
                "no layout has a place for this CLIP: transformers takes the end of text 2 for the highest id, and in open_clip {why}: choose \
                 another base model"
            )));
        }
        let tensors = self.tensors_with(vision)?;
        let (mut files, mut notices) = (Vec::new(), Vec::new());
        let mut put = |name: &str, bytes: &[u8]| {
            files.push(name.to_string());
            save_atomically(directory.join(name), bytes)
        };
        let text = |value: &Value| format!("{value:#}\n").into_bytes();
        if transformers {
            let mut config = self.config.to_transformers();
            config["text_config"]["bos_token_id"] = json!(self.tokenizer.start()); // its default is OpenAI's vocabulary's
            put(folder::CONFIG, &text(&config))?;
        } else {
            notices.push("transformers cannot load this CLIP: it takes the end of text 2 for the highest id; open_clip can".into());
        }
        let source = Path::new(self.tokenizer.source()).parent().unwrap_or(Path::new(""));
        // a tokenizer is copied from the folder that a CLIP came from, and image settings that say what this CLIP does
        let says_so = |bytes: &[u8]| {
            let read = serde_json::from_slice(bytes).map(|json| Preprocess::from_json(&json, self.preprocess.side()));
            matches!(read, Ok(Ok(read)) if read == self.preprocess)
        };
        for name in folder::TOKENIZER.into_iter().chain([folder::IMAGES]) {
            match std::fs::read(source.join(name)) {
                Ok(bytes) if self.tokenizer.source() != "embedded" && (name != folder::IMAGES || says_so(&bytes)) => put(name, &bytes)?,
                _ if name == "tokenizer.json" && self.tokenizer.source() == "embedded" => put(name, demo::files().tokenizer)?,
                // transformers does not read a list of merges
                _ if name == "tokenizer.json" => {
                    if let Some(json) = self.tokenizer.json_of_merges()? {
                        put(name, &json)?;
                    }
                }
                _ if name == folder::IMAGES => match image_processor(&self.preprocess) {
                    Some(value) => put(name, &text(&value))?,
                    None => notices.push(format!("transformers has no such preparation of pictures, so there is no {name}")),
                },
                _ => {}
            }
        }
        let formats = HashMap::from([("format".to_string(), "pt".to_string())]); // transformers asks for it
        match open_clip {
            Ok(config) => {
                notices.extend(other_crop(&self.preprocess).filter(|_| transformers));
                put(folder::OPEN_CLIP, &text(&config))?;
                let name = "open_clip_model.safetensors";
                save_tensors(directory.join(name), &open_clip_names(&tensors)?, formats.clone())?;
                files.push(name.into());
            }
            Err(why) => notices.push(format!("open_clip cannot load this CLIP: {why}")),
        }
        if transformers {
            save_tensors(directory.join("model.safetensors"), &tensors, formats)?;
            files.push("model.safetensors".into());
        }
        let weights_hash = Weights::from_tensors(tensors, "memory", DType::F32, &Device::Cpu)?.hash()?.to_string();
        Ok(SavedClip { files, weights_hash, notices })
    }
}

/// `preprocessor_config.json` of transformers' CLIPImageProcessor; `None` for a resize that it does not know.
fn image_processor(weak: &Preprocess) -> Option<Value> {
    let size = match weak.resize {
        ResizeTo::ShortestEdge(edge) => json!({ "shortest_edge": edge }),
        ResizeTo::Exact { width, height } => json!({ "height": height, "width": width }),
        ResizeTo::Keep => json!({ "shortest_edge": weak.crop }),
        ResizeTo::LongestEdge(_) => return None,
    };
    let resample = match weak.resample {
        Resample::Lanczos => 1,
        Resample::Bilinear => 2,
        Resample::Bicubic => 3,
    };
    let mut processor = json!({
        "image_processor_type": "CLIPImageProcessor", "do_resize": weak.resize != ResizeTo::Keep, "size": size, "resample": resample,
        "do_center_crop": true, "crop_size": { "height": weak.crop, "width": weak.crop },
        "do_convert_rgb": true, "do_rescale": true, "rescale_factor": f64::from(weak.rescale),
        "do_normalize": true, "image_mean": as_written(&weak.mean), "image_std": as_written(&weak.std),
    });
    if weak.crop_rule != CropRule::Transformers {
        processor["crop_rule"] = json!(weak.crop_rule);
    }
    Some(processor)
}

/// What to say of a folder for both libraries: one of them crops by a rule of its own. What else both have, a resize
/// to the square, leaves no margin.
fn other_crop(weak: &Preprocess) -> Option<String> {
    let other = match weak.crop_rule {
        CropRule::Transformers => "open_clip",
        CropRule::Torchvision => "transformers",
    };
    matches!(weak.resize, ResizeTo::ShortestEdge(_)).then(|| {
        format!("where the margin of the center crop is odd, {other} cuts a pixel apart: its features of such pictures differ a little")
    })
}

/// Tensors with their names, collected on the host in f32.
struct Named(Vec<(String, Tensor)>);

impl Named {
    fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        self.0.push((name.to_string(), tensor.contiguous()?));
        Ok(())
    }

    fn norm(&mut self, name: &str, norm: &LayerNorm) -> Result<()> {
        self.add(&format!("{name}.weight"), &norm.weight)?;
        self.add(&format!("{name}.bias"), &norm.bias)
    }

    fn linear(&mut self, name: &str, layer: &Linear) -> Result<()> {
        let layer = layer.folded()?; // with its change of low rank, if it has one
        self.add(&format!("{name}.weight"), &layer.weight.tensor())?;
        layer.bias.as_ref().map_or(Ok(()), |bias| self.add(&format!("{name}.bias"), bias))
    }

    fn blocks(&mut self, tower: &str, blocks: &[Block]) -> Result<()> {
        for (i, block) in blocks.iter().enumerate() {
            let name = |part: &str| format!("{tower}.encoder.layers.{i}.{part}");
            let Block { norm1, attention, norm2, fc1, fc2, activation: _ } = block;
            self.norm(&name("layer_norm1"), norm1)?;
            self.norm(&name("layer_norm2"), norm2)?;
            self.linear(&name("self_attn.q_proj"), &attention.query)?;
            self.linear(&name("self_attn.k_proj"), &attention.key)?;
            self.linear(&name("self_attn.v_proj"), &attention.value)?;
            self.linear(&name("self_attn.out_proj"), &attention.output)?;
            self.linear(&name("mlp.fc1"), fc1)?;
            self.linear(&name("mlp.fc2"), fc2)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_read_back_are_the_clip_that_was_saved() {
        let clip = Clip::demo().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = clip.save_with(clip.vision(), folder.path()).unwrap();
        assert!(saved.notices.len() == 1 && saved.notices[0].contains("is odd, transformers cuts"), "{:?}", saved.notices);
        assert_eq!(saved.weights_hash, clip.weights_hash());
        let read = Clip::from_dir(folder.path()).unwrap();
        assert_eq!((read.weights_hash(), read.preprocess()), (clip.weights_hash(), clip.preprocess()));
        // open_clip's alone
        for name in ["config.json", "model.safetensors"] {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        let other = Clip::from_dir(folder.path()).unwrap();
        assert_eq!(other.weights_hash(), clip.weights_hash());
        assert_eq!(other.config().vision, clip.config().vision);
        assert!(other.preprocess().agrees_with(clip.preprocess()));
    }

    #[test]
    fn a_list_of_merges_becomes_a_tokenizer_that_transformers_reads() {
        let folder = tempfile::tempdir().unwrap();
        let list = "tests/fixtures/tokenizer/openai/bpe_simple_vocab_16e6.txt.gz";
        std::fs::copy(list, folder.path().join("bpe_simple_vocab_16e6.txt.gz")).unwrap();
        let clip = Clip { tokenizer: crate::clip::Tokenizer::from_dir(folder.path(), 77).unwrap(), ..Clip::demo().unwrap() };
        let out = folder.path().join("out");
        let saved = clip.save_with(clip.vision(), &out).unwrap();
        assert!(saved.files.contains(&"tokenizer.json".to_string()), "{:?}", saved.files);
        let json: Value = serde_json::from_slice(&std::fs::read(out.join("tokenizer.json")).unwrap()).unwrap();
        let (start, end) = (clip.tokenizer.start(), clip.tokenizer.end());
        assert_eq!((&json["post_processor"]["cls"][1], &json["post_processor"]["sep"][1]), (&json!(start), &json!(end)));
        let read = crate::clip::Tokenizer::from_dir(&out, 77).unwrap();
        let texts = ["a photo of a dog", "naïve  Café &amp; 12"];
        assert_eq!(read.encode(&texts).unwrap(), clip.tokenizer.encode(&texts).unwrap());
    }

    #[test]
    fn what_transformers_reads_is_what_was_meant() {
        for resize in [ResizeTo::ShortestEdge(30), ResizeTo::Exact { width: 24, height: 24 }, ResizeTo::Keep] {
            for like in [Preprocess::transformers(24), Preprocess::clip(24)] {
                let weak = Preprocess { resize, resample: Resample::Bilinear, ..like };
                assert_eq!(Preprocess::from_json(&image_processor(&weak).unwrap(), 24).unwrap(), weak);
            }
        }
    }
}
