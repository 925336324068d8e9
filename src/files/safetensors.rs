//! Reads tensors one by one from a safetensors file, without a copy of the whole file in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};

/// The largest header that safetensors allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// What is called with each tensor.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(String, Tensor) -> Result<()>;

/// Reads a whole safetensors file: its tensors on `device`, and its metadata.
///
/// # Errors
/// [`Error::Weights`] for a truncated or foreign file, [`Error::Io`] if it cannot be opened.
pub fn read_tensors(path: impl AsRef<Path>, device: &Device) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let mut opened = Safetensors::of_file(path.as_ref())?;
    let mut tensors = HashMap::new();
    opened.read(|_| true, &mut |name, tensor| {
        tensors.insert(name, tensor.to_device(device)?);
        Ok(())
    })?;
    Ok((tensors, opened.header.metadata().clone().unwrap_or_default()))
}

/// An open safetensors file with its header.
pub(crate) struct Safetensors<R> {
    reader: R,
    header: Metadata,
    /// Where the values begin.
    start: u64,
    shown: String,
}

impl Safetensors<File> {
    /// Opens a file.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        Self::open(file, length, &path.display().to_string())
    }
}

impl<R: Read + Seek> Safetensors<R> {
    /// Reads the header of `length` bytes of safetensors.
    pub(crate) fn open(mut reader: R, length: u64, shown: &str) -> Result<Self> {
        let io = |e| Error::io(shown, e);
        let truncated =
            |needed: u64| Error::Weights(format!("{shown} is truncated, {length} of {needed} bytes: download or copy it again"));
        if length < 8 {
            return Err(truncated(8));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(io)?;
        if &size == b"version " {
            let remedy = "fetch the file itself with `git lfs pull`";
            return Err(Error::Weights(format!("{shown} is a Git LFS pointer, not the weights: {remedy}")));
        }
        let header_length = u64::from_le_bytes(size);
        if header_length > MAX_HEADER {
            return Err(Error::Weights(format!(
                "{shown} is not a safetensors file (its header would have {header_length} bytes): download it again"
            )));
        }
        let start = 8 + header_length;
        if start > length {
            return Err(truncated(start));
        }
        let mut header = vec![0; header_length as usize];
        reader.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| Error::Weights(format!("{shown} is not a safetensors file (unreadable header: {e}): download it again")))?;
        let needed = start + header.data_len() as u64;
        if length != needed {
            let longer = || Error::Weights(format!("{shown} has {length} bytes where its header says {needed}: download it again"));
            return Err(if length < needed { truncated(needed) } else { longer() });
        }
        Ok(Self { reader, header, start, shown: shown.to_string() })
    }

    /// The tensors' names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Hands every wanted tensor to `each`.
    pub(crate) fn read(&mut self, wanted: impl Fn(&str) -> bool, each: Sink) -> Result<()> {
        let shown = &self.shown;
        let io = |e| Error::io(shown, e);
        for name in self.header.offset_keys() {
            let Some(info) = self.header.info(&name).filter(|_| wanted(&name)) else { continue };
            let (from, to) = info.data_offsets;
            let dtype = DType::try_from(info.dtype).map_err(|_| unsupported(shown, &name, &format!("{:?}", info.dtype)))?;
            let mut bytes = vec![0; to - from]; // the header was validated: from ≤ to ≤ file length
            self.reader.seek(SeekFrom::Start(self.start + from as u64)).map_err(io)?;
            self.reader.read_exact(&mut bytes).map_err(io)?;
            each(name, Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?)?;
        }
        Ok(())
    }
}

fn unsupported(shown: &str, name: &str, dtype: &str) -> Error {
    Error::Weights(format!("{shown}: {name} has dtype {dtype}, which is not supported: save it as f32, f16 or bf16"))
}
