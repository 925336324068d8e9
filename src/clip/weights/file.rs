//! Files of weights: safetensors or PyTorch's, read tensor by tensor.

use std::fs::File;
use std::path::Path;

use candle_core::Tensor;

use super::layout;
use super::pytorch::Archive;
use crate::error::Result;
use crate::files::{Safetensors, Sink};

/// An open file whose tensors are known by name and not read yet.
pub(crate) enum Opened {
    /// A safetensors file.
    Safetensors(Safetensors<File>),
    /// An archive of PyTorch.
    PyTorch(Box<Archive>),
}

impl Opened {
    /// Opens a file by its ending: `.safetensors`, anything else is PyTorch's.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
            return Ok(Self::PyTorch(Box::new(Archive::open(path)?)));
        }
        Ok(Self::Safetensors(Safetensors::of_file(path)?))
    }

    /// The tensors' names.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Safetensors(file) => file.names(),
            Self::PyTorch(archive) => archive.names().map(str::to_string).collect(),
        }
    }

    /// True for a TorchScript archive.
    pub(super) fn is_script(&self) -> bool {
        matches!(self, Self::PyTorch(archive) if archive.is_script())
    }

    /// Hands every wanted tensor to `each`, on the CPU and in the file's dtype.
    pub(crate) fn read(&mut self, wanted: impl Fn(&str) -> bool, each: Sink) -> Result<()> {
        match self {
            Self::Safetensors(file) => file.read(wanted, each),
            Self::PyTorch(archive) => archive.read(wanted, each),
        }
    }
}

/// All tensors of a safetensors file, or of what `torch.save` wrote, on the CPU and under their names, without those parts that
/// wrappers put into them (`_orig_mod.`). Nothing in the file is run.
///
/// # Errors
/// [`Error::Weights`](crate::Error::Weights) for a truncated or foreign file, [`Error::Io`](crate::Error::Io) if it cannot be opened.
pub fn read_checkpoint(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let mut tensors = Vec::new();
    Opened::open(path.as_ref())?.read(|_| true, &mut |name, tensor| {
        tensors.push((layout::unwrapped(&name), tensor));
        Ok(())
    })?;
    Ok(tensors)
}
