//! The device that tensors are computed on, by its name.

use candle_core::Device;

use crate::error::{Error, Result};

/// `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// # Errors
/// [`Error::Usage`] for another name, and for a GPU where the crate was built without the feature `cuda`.
///
/// ```
/// assert!(lafter::device::open("cpu")?.is_cpu());
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn open(name: &str) -> Result<Device> {
    let ordinal = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
    };
    let Some(ordinal) = ordinal else { return Err(Error::Usage(format!("--device {name}: expected cpu, cuda or cuda:N"))) };
    if !cfg!(feature = "cuda") {
        return Err(Error::Usage(format!("--device {name}: this build has no CUDA; build with `--features cuda`, or use --device cpu")));
    }
    Ok(Device::new_cuda(ordinal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_refused_with_those_that_are() {
        for name in ["", "gpu", "cuda:", "cuda:x", "CPU"] {
            let error = open(name).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("cpu, cuda or cuda:N"), "{error}");
        }
    }
}
