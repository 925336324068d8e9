//! Reads tensors one by one from a safetensors or a PyTorch file, without a copy of the whole file in memory.

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
type Sink<'a> = &'a mut dyn FnMut(String, Tensor) -> Result<()>;

/// Hands every wanted tensor of a file to `each`, on the CPU and in the file's dtype.
pub(super) fn read(path: &Path, wanted: impl Fn(&str) -> bool, each: Sink) -> Result<()> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        read_safetensors(&mut file, length, &path.display().to_string(), wanted, each).map(drop)
    } else {
        read_pickle(path, wanted, each)
    }
}

/// Reads a whole safetensors file: its tensors on `device`, and its metadata.
///
/// # Errors
/// [`Error::Weights`] for a truncated or foreign file, [`Error::Io`] where it cannot be opened.
pub fn read_tensors(path: impl AsRef<Path>, device: &Device) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let path = path.as_ref();
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut tensors = HashMap::new();
    let metadata = read_safetensors(&mut file, length, &path.display().to_string(), |_| true, &mut |name, tensor| {
        tensors.insert(name, tensor.to_device(device)?);
        Ok(())
    })?;
    Ok((tensors, metadata))
}

/// Reads `length` bytes of safetensors; returns the file's metadata.
pub(super) fn read_safetensors(
    reader: &mut (impl Read + Seek),
    length: u64,
    shown: &str,
    wanted: impl Fn(&str) -> bool,
    each: Sink,
) -> Result<HashMap<String, String>> {
    let io = |e| Error::io(shown, e);
    let truncated = |needed: u64| Error::Weights(format!("{shown} is truncated, {length} of {needed} bytes: download or copy it again"));
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
            "{shown} is no safetensors file (its header would have {header_length} bytes): download it again"
        )));
    }
    let start = 8 + header_length;
    if start > length {
        return Err(truncated(start));
    }
    let mut header = vec![0; header_length as usize];
    reader.read_exact(&mut header).map_err(io)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| Error::Weights(format!("{shown} is no safetensors file (unreadable header: {e}): download it again")))?;
    let needed = start + header.data_len() as u64;
    if length != needed {
        let longer = || Error::Weights(format!("{shown} has {length} bytes where its header says {needed}: download it again"));
        return Err(if length < needed { truncated(needed) } else { longer() });
    }
    for name in header.offset_keys() {
        let Some(info) = header.info(&name).filter(|_| wanted(&name)) else { continue };
        let (from, to) = info.data_offsets;
        let dtype = DType::try_from(info.dtype).map_err(|_| unsupported(shown, &name, &format!("{:?}", info.dtype)))?;
        let mut bytes = vec![0; to - from]; // the header was validated: from ≤ to ≤ file length
        reader.seek(SeekFrom::Start(start + from as u64)).map_err(io)?;
        reader.read_exact(&mut bytes).map_err(io)?;
        each(name, Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?)?;
    }
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Reads `torch.save`'s format; nothing in it is executed.
fn read_pickle(path: &Path, wanted: impl Fn(&str) -> bool, each: Sink) -> Result<()> {
    let shown = path.display();
    let fault = |e: candle_core::Error| {
        let why = Error::from(e);
        Error::Weights(format!("{shown} cannot be read as a PyTorch file ({why}): download it again, or save it as safetensors"))
    };
    // The header of a zip archive; PyTorch before 1.6 wrote another format.
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.read_exact(&mut magic).is_err() || &magic != b"PK\x03\x04" {
        let remedy = "download it again, or save it as safetensors";
        return Err(Error::Weights(format!("{shown} is no PyTorch file of version 1.6 or later: {remedy}")));
    }
    let mut tensors = candle_core::pickle::PthTensors::new(path, None).map_err(fault)?;
    if tensors.tensor_infos().is_empty() {
        // training checkpoints keep the weights one level deeper
        tensors = candle_core::pickle::PthTensors::new(path, Some("state_dict")).map_err(fault)?;
    }
    let mut names: Vec<&String> = tensors.tensor_infos().keys().filter(|name| wanted(name)).collect();
    names.sort();
    for name in names {
        if let Some(tensor) = tensors.get(name).map_err(fault)? {
            each(name.clone(), tensor)?;
        }
    }
    Ok(())
}

fn unsupported(shown: &str, name: &str, dtype: &str) -> Error {
    Error::Weights(format!("{shown}: {name} has dtype {dtype}, which is not supported: save it as f32, f16 or bf16"))
}
