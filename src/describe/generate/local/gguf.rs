//! A GGUF file's header: metadata, checked before the weights are read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Result as CandleResult};
use sha2::{Digest, Sha256};

use crate::catch_panic::catch_panic;
use crate::error::{Error, Result};

/// How many pieces of a tensor, and how many bytes of each, tell it from another.
const SAMPLES: u64 = 16;
const SAMPLE: u64 = 256;
/// Positions for which rotations are prepared: a query and its answer are far shorter.
const LONGEST: usize = 4096;

/// An open GGUF file.
pub(super) struct Gguf {
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) reader: BufReader<File>,
    /// "llama", "qwen2" or "qwen3".
    pub(super) family: String,
    hash: String,
}

impl Gguf {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
        let mut magic = Vec::new();
        Read::by_ref(&mut reader).take(4).read_to_end(&mut magic).map_err(|e| Error::io(path, e))?;
        if magic != b"GGUF" {
            return Err(Error::Llm(format!("{} is not a GGUF file: choose one whose name ends in .gguf", path.display())));
        }
        reader.rewind().map_err(|e| Error::io(path, e))?;
        let broken = |e: candle_core::Error| {
            let line = Error::from(e).to_string();
            let kind = line.split_once("unknown dtype for tensor ").and_then(|(_, number)| kind_not_read(number));
            Error::Llm(match kind {
                Some(kind) => format!(
                    "{} is quantized as {kind}, which is not read here: choose Q4_K_M or Q8_0, or serve it with llama.cpp and name the \
                     server with --endpoint",
                    path.display()
                ),
                None => format!("{} is a broken GGUF file ({line}): fetch it again", path.display()),
            })
        };
        let content = catch_panic(|| Content::read(&mut reader));
        let content = content.unwrap_or_else(|| Err(candle_core::Error::msg("its header is damaged"))).map_err(broken)?;
        let mut gguf = Self { path: path.to_path_buf(), content, reader, family: String::new(), hash: String::new() };
        gguf.family = gguf.text("general.architecture").unwrap_or_default();
        gguf.check()?;
        gguf.hash = gguf.digest().map_err(|e| Error::io(path, e))?;
        Ok(gguf)
    }

    /// What tells one model from another without reading gigabytes: the header, samples of every tensor, and the tokenizer
    /// beside the file.
    fn digest(&mut self) -> std::io::Result<String> {
        let mut digest = Sha256::new();
        self.reader.rewind()?;
        io::copy(&mut Read::by_ref(&mut self.reader).take(self.content.tensor_data_offset), &mut digest)?;
        let mut places: Vec<(u64, u64)> = self.content.tensor_infos.keys().filter_map(|name| self.place(name)).collect();
        places.sort_unstable();
        for (start, length) in places {
            let step = (length / SAMPLES).max(SAMPLE);
            for at in (0..length).step_by(step as usize) {
                self.reader.seek(SeekFrom::Start(start + at))?;
                io::copy(&mut Read::by_ref(&mut self.reader).take(SAMPLE.min(length - at)), &mut digest)?;
            }
        }
        if let Ok(mut tokenizer) = File::open(self.path.with_file_name("tokenizer.json")) {
            io::copy(&mut tokenizer, &mut digest)?;
        }
        Ok(digest.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }

    /// What would otherwise fail, or panic, far from here.
    fn check(&self) -> Result<()> {
        let (path, family) = (self.path.display(), &self.family);
        if !matches!(family.as_str(), "llama" | "qwen2" | "qwen3") {
            let remedy = "choose a Llama, Qwen2 or Qwen3 model, or serve it with llama.cpp and name the server with --endpoint";
            return Err(Error::Llm(format!("{path} is of the family \"{family}\": {remedy}")));
        }
        for name in ["attention.head_count", "attention.head_count_kv", "embedding_length", "block_count"] {
            if self.of_family(name).unwrap_or(0) == 0 {
                return Err(Error::Llm(format!("{path} is a broken GGUF file ({family}.{name} is missing or 0): fetch it again")));
            }
        }
        let (heads, groups, width) =
            (self.of_family("attention.head_count"), self.of_family("attention.head_count_kv"), self.of_family("embedding_length"));
        let divides = |a: Option<u64>, b: Option<u64>| matches!((a, b), (Some(a), Some(b)) if a % b == 0);
        if !divides(heads, groups) || !(divides(width, heads) || self.family == "qwen3") {
            return Err(Error::Llm(format!("{path} is a broken GGUF file (its heads do not divide its width): fetch it again")));
        }
        // llama.cpp, behind an endpoint, reads these as well
        let remedy = "choose another model, or serve it with llama.cpp and name the server with --endpoint";
        if self.of_family("expert_count").unwrap_or(0) > 1 {
            return Err(Error::Llm(format!("{path} is a mixture of experts: {remedy}")));
        }
        if self.of_family("rope.dimension_count").is_some_and(|rotated| rotated as usize != self.head_width()) {
            return Err(Error::Llm(format!("{path} rotates a part of each head only: {remedy}")));
        }
        let scaling = self.text(&format!("{family}.rope.scaling.type")).unwrap_or_default();
        if !matches!(scaling.as_str(), "" | "none" | "linear") {
            return Err(Error::Llm(format!("{path} scales its rotations by \"{scaling}\": {remedy}")));
        }
        let mut needed = 0;
        for name in self.content.tensor_infos.keys() {
            let end = self.place(name).and_then(|(start, length)| start.checked_add(length));
            let Some(end) = end else {
                return Err(Error::Llm(format!("{path} is a broken GGUF file (its {name} has no end): fetch it again")));
            };
            needed = needed.max(end);
        }
        let size = self.reader.get_ref().metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if size < needed {
            return Err(Error::Llm(format!("{path} is cut off ({size} of at least {needed} bytes): fetch it again")));
        }
        // counts of the header make tensors: they must be those of the file's
        let (heads, groups) = (self.size("attention.head_count"), self.size("attention.head_count_kv"));
        let of_heads = |count: usize| count.checked_mul(self.head_width());
        let own = |i: usize, name: &str| format!("blk.{i}.{name}.weight");
        let fits = |tensor: &str, dim: usize, wanted: Option<usize>| {
            self.content
                .tensor_infos
                .get(tensor)
                .is_none_or(|info| info.shape.dims().len() == 2 && info.shape.dims().get(dim).copied() == wanted)
        };
        let of_blocks = |i: usize| {
            fits(&own(i, "attn_q"), 0, of_heads(heads))
                && fits(&own(i, "attn_k"), 0, of_heads(groups))
                && fits(&own(i, "attn_v"), 0, of_heads(groups))
        };
        let blocks = self.size("block_count").min(self.content.tensor_infos.len());
        if !fits("token_embd.weight", 1, Some(self.size("embedding_length"))) || !(0..blocks).all(of_blocks) {
            return Err(Error::Llm(format!(
                "{path} is a broken GGUF file (its tensors have other sizes than its header says): fetch it again"
            )));
        }
        Ok(())
    }

    /// Where a tensor begins, and its length in bytes.
    fn place(&self, name: &str) -> Option<(u64, u64)> {
        let info = self.content.tensor_infos.get(name)?;
        let count = info.shape.dims().iter().try_fold(1usize, |count, n| count.checked_mul(*n))?;
        let length = (count / info.ggml_dtype.block_size()).checked_mul(info.ggml_dtype.type_size())?;
        Some((self.content.tensor_data_offset.checked_add(info.offset)?, length as u64))
    }

    /// Rows of a tensor.
    pub(super) fn rows(&self, tensor: &str) -> Option<usize> {
        self.content.tensor_infos.get(tensor)?.shape.dims().first().copied()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.content.metadata.get(key).and_then(|value| value.to_string().ok()).cloned()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.content.metadata.get(key)? {
            Value::U8(v) => Some(u64::from(*v)),
            Value::U16(v) => Some(u64::from(*v)),
            Value::U32(v) => Some(u64::from(*v)),
            Value::U64(v) => Some(*v),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.content.metadata.get(key).and_then(|value| value.to_bool().ok())
    }

    pub(super) fn real(&self, key: &str) -> Option<f32> {
        self.content.metadata.get(&format!("{}.{key}", self.family)).and_then(|value| value.to_f32().ok())
    }

    /// What positions are divided by before heads are rotated: 1 in most models. Older files call the factor `scale_linear`.
    pub(super) fn rotation_factor(&self) -> f32 {
        let scaled = self.text(&format!("{}.rope.scaling.type", self.family)).is_none_or(|scaling| scaling != "none");
        let factor = self.real("rope.scaling.factor").or_else(|| self.real("rope.scale_linear"));
        factor.filter(|factor| scaled && *factor > 0.0).unwrap_or(1.0)
    }

    /// A count that [`check`](Self::check) has seen.
    pub(super) fn size(&self, key: &str) -> usize {
        self.of_family(key).unwrap_or(0) as usize
    }

    /// The width of an attention head.
    pub(super) fn head_width(&self) -> usize {
        let (width, heads) = (self.size("embedding_length"), self.size("attention.head_count"));
        self.of_family("attention.key_length").map_or(width / heads.max(1), |width| width as usize)
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.content.tensor_infos.contains_key(tensor)
    }

    pub(super) fn tensor(&mut self, name: &str, device: &Device) -> CandleResult<QTensor> {
        self.content.tensor(&mut self.reader, name, device)
    }

    fn of_family(&self, key: &str) -> Option<u64> {
        self.number(&format!("{}.{key}", self.family))
    }

    /// The longest text, query and answer together.
    pub(super) fn context(&self) -> usize {
        (self.of_family("context_length").unwrap_or(2048) as usize).min(LONGEST)
    }

    /// The file's name and a hash, so that another file of the same name is another model.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!("{name}@{}", self.hash)
    }
}

/// The name of a kind of quantized weights that Candle does not read.
fn kind_not_read(number: &str) -> Option<&'static str> {
    let number: u32 = number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::gguf_file::write;

    use super::*;

    #[test]
    fn positions_are_scaled_as_the_file_says_or_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let open = |scaling: &[(&str, Value)]| {
            let size = |name: &str| (format!("llama.{name}"), Value::U32(8));
            let mut all = ["attention.head_count", "attention.head_count_kv", "embedding_length", "block_count"].map(size).to_vec();
            all.push(("general.architecture".into(), Value::String("llama".into())));
            all.extend(scaling.iter().map(|(name, value)| (format!("llama.rope.{name}"), value.clone())));
            let all: Vec<(&str, &Value)> = all.iter().map(|(name, value)| (name.as_str(), value)).collect();
            write(&mut File::create(&path).unwrap(), &all, &[]).unwrap();
            Gguf::open(&path)
        };
        let text = |text: &str| Value::String(text.into());
        let factor = ("scaling.factor", Value::F32(4.0));
        assert_eq!(open(&[]).unwrap().rotation_factor(), 1.0);
        assert_eq!(open(&[("scaling.type", text("linear")), factor.clone()]).unwrap().rotation_factor(), 4.0);
        assert_eq!(open(&[("scaling.type", text("none")), factor.clone()]).unwrap().rotation_factor(), 1.0);
        assert_eq!(open(&[("scale_linear", Value::F32(2.0))]).unwrap().rotation_factor(), 2.0);
        let error = open(&[("scaling.type", text("yarn")), factor]).err().unwrap().to_string();
        assert!(error.contains("yarn") && error.contains("llama.cpp"), "{error}");
    }
}
