//! Values that outlive their process: `%keep` writes them, and where the cells' process was lost the next one reads them again.

use std::any::type_name;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::Path;

use candle_core::{Device, DeviceLocation, Tensor};
use image::RgbImage;

use crate::device;
use crate::error::{Error, Result};
use crate::files;

/// A value that is written and read again with the same bits: tensors, pictures, data sets, numbers, texts, and collections of them.
pub trait Keep: Sized {
    /// Appends the value.
    ///
    /// # Errors
    /// [`Error::Candle`] if a tensor cannot be read from its device.
    fn write(&self, out: &mut Vec<u8>) -> Result<()>;

    /// Takes a value from the front.
    ///
    /// # Errors
    /// [`Error::Data`] if the bytes are not of this type, [`Error::Candle`] if a tensor's device is not there.
    fn read(from: &mut &[u8]) -> Result<Self>;
}

/// Writes a value with the name of its type to a file, whole or not at all; returns the number of bytes.
///
/// # Errors
/// [`Error::Io`] if it cannot be written, and as [`Keep::write`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::notebook::{keep, kept};
/// # fn main() -> lafter::Result<()> {
/// let path = std::env::temp_dir().join("kept-by-a-doctest");
/// let losses = (vec![0.5f32, 0.25], Tensor::arange(0u32, 6, &Device::Cpu)?.reshape((2, 3))?);
/// keep(&losses, &path)?;
/// let again: (Vec<f32>, Tensor) = kept(&path)?;
/// assert_eq!((again.0, again.1.to_vec2::<u32>()?), (losses.0, losses.1.to_vec2::<u32>()?));
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
pub fn keep<T: Keep>(value: &T, path: impl AsRef<Path>) -> Result<usize> {
    let mut out = Vec::new();
    type_name::<T>().to_string().write(&mut out)?;
    value.write(&mut out)?;
    files::save_atomically(path, &out)?;
    Ok(out.len())
}

/// The value that [`keep`] wrote to a file.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Data`] if it holds another type, and as [`Keep::read`].
pub fn kept<T: Keep>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let mut rest = bytes.as_slice();
    let written = String::read(&mut rest)?;
    if written != type_name::<T>() {
        return Err(Error::Data(format!("{}: a kept {written}, read as {}", path.display(), type_name::<T>())));
    }
    let value = T::read(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(other()) }
}

fn other() -> Error {
    Error::Data("a kept value is damaged".into())
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (front, rest) = from.split_at_checked(count).ok_or_else(other)?;
    *from = rest;
    Ok(front)
}

fn write_all<'a, T: Keep + 'a>(values: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) -> Result<()> {
    values.len().write(out)?;
    values.into_iter().try_for_each(|value| value.write(out))
}

fn read_all<T: Keep, C: FromIterator<T>>(from: &mut &[u8]) -> Result<C> {
    (0..usize::read(from)?).map(|_| T::read(from)).collect()
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Keep for $number {
            fn write(&self, out: &mut Vec<u8>) -> Result<()> {
                out.extend_from_slice(&self.to_le_bytes());
                Ok(())
            }

            fn read(from: &mut &[u8]) -> Result<Self> {
                Ok(Self::from_le_bytes(take(from, size_of::<Self>())?.try_into().map_err(|_| other())?))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

impl Keep for bool {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        u8::from(*self).write(out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(other()),
        }
    }
}

impl Keep for char {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        u32::from(*self).write(out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        Self::from_u32(u32::read(from)?).ok_or_else(other)
    }
}

impl Keep for String {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        self.len().write(out)?;
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        let count = usize::read(from)?;
        Self::from_utf8(take(from, count)?.to_vec()).map_err(|_| other())
    }
}

impl Keep for Tensor {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        let place = match self.device().location() {
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Cpu | DeviceLocation::Metal { .. } => "cpu".to_string(),
        };
        place.write(out)?;
        let value = self.to_device(&Device::Cpu)?;
        let bytes = safetensors::serialize([("value", &value)], None).map_err(candle_core::Error::from)?;
        bytes.len().write(out)?;
        out.extend_from_slice(&bytes);
        Ok(())
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        let device = device::open(&String::read(from)?)?;
        let count = usize::read(from)?;
        candle_core::safetensors::load_buffer(take(from, count)?, &device)?.remove("value").ok_or_else(other)
    }
}

impl Keep for RgbImage {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        self.dimensions().write(out)?;
        out.extend_from_slice(self.as_raw());
        Ok(())
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        let (width, height) = <(u32, u32)>::read(from)?;
        let bytes = take(from, 3usize.saturating_mul(width as usize).saturating_mul(height as usize))?;
        Self::from_raw(width, height, bytes.to_vec()).ok_or_else(other)
    }
}

impl<T: Keep> Keep for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write_all(self.iter(), out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        read_all(from)
    }
}

impl<T: Keep, const N: usize> Keep for [T; N] {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write_all(self.iter(), out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        Vec::read(from)?.try_into().map_err(|_| other())
    }
}

impl<T: Keep> Keep for Option<T> {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write_all(self.as_slice().iter(), out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        Ok(Vec::read(from)?.pop())
    }
}

macro_rules! maps {
    ($($map:ident $($bound:path),*;)*) => {$(
        impl<K: Keep $(+ $bound)*, V: Keep> Keep for $map<K, V> {
            fn write(&self, out: &mut Vec<u8>) -> Result<()> {
                self.len().write(out)?;
                self.iter().try_for_each(|(key, value)| key.write(out).and_then(|()| value.write(out)))
            }

            fn read(from: &mut &[u8]) -> Result<Self> {
                (0..usize::read(from)?).map(|_| <(K, V)>::read(from)).collect()
            }
        }
    )*};
}
maps! { HashMap Eq, Hash; BTreeMap Ord; }

macro_rules! tuples {
    ($(($($name:ident $at:tt),*))*) => {$(
        impl<$($name: Keep),*> Keep for ($($name,)*) {
            fn write(&self, out: &mut Vec<u8>) -> Result<()> {
                $(self.$at.write(out)?;)*
                Ok(())
            }

            fn read(from: &mut &[u8]) -> Result<Self> {
                Ok(($($name::read(from)?,)*))
            }
        }
    )*};
}
tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn twice<T: Keep>(value: &T) -> Result<T> {
        let folder = tempfile::tempdir().unwrap();
        keep(value, folder.path().join("value"))?;
        kept(folder.path().join("value"))
    }

    #[test]
    fn what_is_kept_comes_back_bit_for_bit() {
        let value = (vec![Some("é".to_string()), None], [f64::NAN.to_bits(), 1], 'ß', (true, -3i8));
        assert_eq!(twice(&value).unwrap(), value);
        let map = HashMap::from([(1u32, BTreeMap::from([("a".to_string(), 0.1f32)]))]);
        assert_eq!(twice(&map).unwrap(), map);
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7]));
        assert_eq!(twice(&picture).unwrap(), picture);
        let tensor = Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
        let turned = tensor.t().unwrap();
        assert_eq!(twice(&turned).unwrap().to_vec2::<f32>().unwrap(), turned.to_vec2::<f32>().unwrap());
        assert_eq!(twice(&tensor.to_dtype(DType::BF16).unwrap()).unwrap().dtype(), DType::BF16);
    }

    #[test]
    fn another_type_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        keep(&vec![1u32, 2], &path).unwrap();
        assert!(matches!(kept::<u32>(&path), Err(Error::Data(_))) && matches!(kept::<Vec<u64>>(&path), Err(Error::Data(_))));
        assert!(kept::<Vec<f32>>(&path).unwrap_err().to_string().contains("Vec<u32>"));
        assert!(kept::<Tensor>(&path).is_err() && kept::<RgbImage>(&path).is_err() && kept::<Vec<String>>(&path).is_err());
    }
}
