//! A GGUF file's header: metadata, checked before the weights are read.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Positions for which candle-transformers' Llama prepares its rotations.
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
        // the first MiB holds the metadata: it tells one model from another without reading gigabytes
        let mut head = Vec::new();
        let size = reader.get_ref().metadata().map_err(|e| Error::io(path, e))?.len();
        Read::by_ref(&mut reader).take(1 << 20).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        let mut digest = Sha256::new();
        digest.update(size.to_le_bytes());
        digest.update(&head);
        let hash: String = digest.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        if !head.starts_with(b"GGUF") {
            return Err(Error::Llm(format!("{} is no GGUF file: choose one whose name ends in .gguf", path.display())));
        }
        reader.rewind().map_err(|e| Error::io(path, e))?;
        let broken = |e: candle_core::Error| {
            let line = Error::from(e).to_string();
            Error::Llm(format!("{} is a broken GGUF file ({line}): fetch it again", path.display()))
        };
        let content = Content::read(&mut reader).map_err(broken)?;
        let mut gguf = Self { path: path.to_path_buf(), content, reader, family: String::new(), hash };
        gguf.family = gguf.text("general.architecture").unwrap_or_default();
        gguf.check()?;
        Ok(gguf)
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
        let end = |name: &String| {
            self.content.tensor_infos.get(name).map(|info| {
                let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
                self.content.tensor_data_offset + info.offset + (blocks * info.ggml_dtype.type_size()) as u64
            })
        };
        let needed = self.content.tensor_infos.keys().filter_map(end).max().unwrap_or(0);
        let size = self.reader.get_ref().metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if size < needed {
            return Err(Error::Llm(format!("{path} is cut off ({size} of at least {needed} bytes): fetch it again")));
        }
        Ok(())
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

    fn of_family(&self, key: &str) -> Option<u64> {
        self.number(&format!("{}.{key}", self.family))
    }

    /// The longest text, query and answer together.
    pub(super) fn context(&self) -> usize {
        (self.of_family("context_length").unwrap_or(2048) as usize).min(LONGEST)
    }

    /// The file's name and a hash of its head, so that another file of the same name is another model.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!("{name}@{}", self.hash)
    }
}
