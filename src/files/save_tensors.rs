//! Tensors as safetensors, in bytes that depend on nothing but the tensors.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

use super::replace_file;
use crate::error::{Error, Result};

/// Saves tensors as safetensors, whole or not at all ([`replace_file`]). Equal tensors and metadata give equal bytes:
/// metadata and tensors are sorted by name, the widest dtypes first, so that every tensor is aligned.
///
/// # Errors
/// [`Error::Weights`] if two tensors share a name or a dtype cannot be saved, [`Error::Io`] if the disk refuses.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::files::{read_tensors, save_tensors};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("a.safetensors");
/// let rows = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// save_tensors(&path, &[("rows".into(), rows)], [("seed".into(), "7".into())].into())?;
/// let (tensors, metadata) = read_tensors(&path, &Device::Cpu)?;
/// assert_eq!((tensors["rows"].dims(), metadata["seed"].as_str()), (&[1, 2][..], "7"));
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn save_tensors(path: impl AsRef<Path>, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let path = path.as_ref();
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_in_bytes()), name));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata.into_iter().collect::<BTreeMap<_, _>>()));
    }
    let mut offset = 0;
    for (name, tensor) in &sorted {
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let entry = json!({ "dtype": dtype_name(tensor.dtype())?, "shape": tensor.dims(), "data_offsets": [offset, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::Weights(format!("{}: two tensors are called {name}: rename one", path.display())));
        }
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    // from a device the values come before the file is touched
    let data = sorted.iter().map(|(_, tensor)| bytes(tensor)).collect::<Result<Vec<_>>>()?;
    replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        data.iter().try_for_each(|bytes| file.write_all(bytes))
    })
}

fn dtype_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::U8 => Ok("U8"),
        DType::U32 => Ok("U32"),
        DType::I64 => Ok("I64"),
        DType::BF16 => Ok("BF16"),
        DType::F16 => Ok("F16"),
        DType::F32 => Ok("F32"),
        DType::F64 => Ok("F64"),
        other => Err(Error::Weights(format!("tensors of dtype {other:?} cannot be saved: convert to f32"))),
    }
}

/// A tensor's values in row-major order, little-endian.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    macro_rules! little_endian {
        ($kind:ty) => {
            flat.to_vec1::<$kind>()?.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
    }
    Ok(match flat.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::U32 => little_endian!(u32),
        DType::I64 => little_endian!(i64),
        DType::BF16 => little_endian!(half::bf16),
        DType::F16 => little_endian!(half::f16),
        DType::F64 => little_endian!(f64),
        _ => little_endian!(f32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_do_not_depend_on_order_and_every_dtype_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        let base = Tensor::new(&[[1f32, -2.5, 3.0], [0.5, 7.0, 9.0]], &Device::Cpu).unwrap();
        let dtypes = [DType::F32, DType::F64, DType::F16, DType::BF16, DType::U8, DType::U32, DType::I64];
        let mut tensors: Vec<(String, Tensor)> =
            dtypes.iter().map(|dtype| (format!("{dtype:?}"), base.abs().unwrap().to_dtype(*dtype).unwrap())).collect();
        tensors.push(("turned".into(), base.t().unwrap()));
        let metadata: HashMap<String, String> = (0..20).map(|i| (format!("key {i}"), "value".into())).collect();
        save_tensors(&first, &tensors, metadata.clone()).unwrap();
        tensors.reverse();
        save_tensors(&second, &tensors, metadata.clone()).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        let (read, read_metadata) = super::super::read_tensors(&first, &Device::Cpu).unwrap();
        assert_eq!(read_metadata, metadata);
        for (name, tensor) in &tensors {
            assert_eq!((read[name].dtype(), read[name].dims()), (tensor.dtype(), tensor.dims()), "{name}");
            assert_eq!(bytes(&read[name]).unwrap(), bytes(tensor).unwrap(), "{name}");
        }
        let standard = candle_core::safetensors::load(&first, &Device::Cpu).unwrap();
        assert_eq!(standard["turned"].to_vec2::<f32>().unwrap(), base.t().unwrap().to_vec2::<f32>().unwrap());
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let path = tempfile::tempdir().unwrap().path().join("never");
        let error = save_tensors(&path, &[("a".into(), tensor.clone()), ("a".into(), tensor)], HashMap::new()).unwrap_err();
        assert!(error.to_string().contains("two tensors"), "{error}");
    }
}
