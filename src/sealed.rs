//! Tensors on disk with a checksum: what a disk or a hand changed is not taken for what was written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::checkpoint::fingerprint;
use crate::error::{Error, Result};
use crate::files::{read_tensors, save_tensors};

const KEY: &str = "checksum";

/// Saves f32 tensors with a checksum of names, shapes, values and metadata, whole or not at all.
pub(crate) fn save(path: &Path, tensors: &[(String, Tensor)], mut metadata: HashMap<String, String>) -> Result<()> {
    let sum = checksum(tensors.iter().map(|(name, tensor)| (name, tensor)), &metadata)?;
    metadata.insert(KEY.into(), sum);
    save_tensors(path, tensors, metadata)
}

/// Tensors and metadata by name.
pub(crate) type Read = (HashMap<String, Tensor>, HashMap<String, String>);

/// Reads what [`save`] wrote.
///
/// # Errors
/// [`Error::Data`] if the checksum is missing or does not fit; those of [`read_tensors`].
pub(crate) fn read(path: &Path) -> Result<Read> {
    let (tensors, mut metadata) = read_tensors(path, &Device::Cpu)?;
    let wrong = |what: &str| Error::Data(format!("{}: {what}: remove the file", path.display()));
    if !fits(&tensors, &metadata)? {
        return Err(wrong("the checksum does not fit the contents"));
    }
    metadata.remove(KEY).ok_or_else(|| wrong("there is no checksum"))?;
    Ok((tensors, metadata))
}

/// Whether the checksum of what was read fits; files of earlier versions have none.
pub(crate) fn fits(tensors: &HashMap<String, Tensor>, metadata: &HashMap<String, String>) -> Result<bool> {
    let mut rest = metadata.clone();
    rest.remove(KEY).map_or(Ok(true), |sum| Ok(sum == checksum(tensors, &rest)?))
}

/// A hash of names, shapes, values and metadata.
pub(crate) fn checksum<'a>(
    tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
    metadata: &HashMap<String, String>,
) -> Result<String> {
    let tensors: BTreeMap<&String, &Tensor> = tensors.into_iter().collect();
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.dims())).collect();
    let described = serde_json::json!([metadata.iter().collect::<BTreeMap<_, _>>(), shapes]);
    let values = fingerprint(tensors.into_values())?;
    Ok(format!("{:x}", Sha256::digest(format!("{described}{values}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let rows = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        save(&path, &[("rows".into(), rows)], [("texts".into(), "[1, 2]".into())].into()).unwrap();
        let (tensors, metadata) = read(&path).unwrap();
        assert_eq!((tensors["rows"].dims(), metadata.len()), (&[2, 2][..], 1));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            if let Ok((tensors, _)) = read(&path) {
                // blanks that fill up the header mean nothing
                assert_eq!(tensors["rows"].to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]], "byte {at}");
            }
        }
    }
}
