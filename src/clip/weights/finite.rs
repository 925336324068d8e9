//! Finds values that are not finite, once, when weights are read.

use candle_core::{CpuStorage, Result, Storage, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

/// Values that one task looks at.
const PIECE: usize = 1 << 16;

/// True if every value of a tensor on the CPU is finite; integers always are.
pub(super) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(values) = &*storage else { return Ok(true) };
    // the values that the tensor spans, or all of its storage if it has strides
    let (from, to) = layout.contiguous_offsets().unwrap_or((0, usize::MAX));
    Ok(match values {
        CpuStorage::F32(values) => all(part(values, from, to), |v| v.is_finite()),
        CpuStorage::F16(values) => all(part(values, from, to), |v: &f16| v.is_finite()),
        CpuStorage::BF16(values) => all(part(values, from, to), |v: &bf16| v.is_finite()),
        CpuStorage::F64(values) => all(part(values, from, to), |v| v.is_finite()),
        _ => true,
    })
}

/// True if every value of a tensor on the CPU is 0, as in a file whose room was taken and never filled.
pub(super) fn is_zero(tensor: &Tensor) -> Result<bool> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(values) = &*storage else { return Ok(false) };
    let (from, to) = layout.contiguous_offsets().unwrap_or((0, usize::MAX));
    // the first value that is not 0 ends the search
    Ok(match values {
        CpuStorage::F32(values) => part(values, from, to).iter().all(|v| *v == 0.0),
        CpuStorage::F16(values) => part(values, from, to).iter().all(|v| *v == f16::ZERO),
        CpuStorage::BF16(values) => part(values, from, to).iter().all(|v| *v == bf16::ZERO),
        CpuStorage::F64(values) => part(values, from, to).iter().all(|v| *v == 0.0),
        _ => false,
    })
}

fn part<T>(values: &[T], from: usize, to: usize) -> &[T] {
    values.get(from..to.min(values.len())).unwrap_or(values)
}

fn all<T: Sync>(values: &[T], finite: impl Fn(&T) -> bool + Sync) -> bool {
    // without a branch per value the loop is as fast as memory
    values.par_chunks(PIECE).all(|piece| piece.iter().fold(true, |all, value| all & finite(value)))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn zeros_alone_are_found() {
        let mut values = vec![0f32; 9];
        let of = |values: &[f32], dtype| is_zero(&Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap();
        let types = [DType::F32, DType::F16, DType::BF16, DType::F64];
        assert!(types.iter().all(|dtype| of(&values, *dtype)));
        values[8] = 1.0;
        assert!(!types.iter().any(|dtype| of(&values, *dtype)));
    }

    #[test]
    fn one_value_of_many_is_found_in_every_number_type() {
        for (bad, dtype) in [(f32::NAN, DType::F32), (f32::INFINITY, DType::F16), (f32::NEG_INFINITY, DType::BF16), (f32::NAN, DType::F64)]
        {
            let mut values = vec![1f32; 3 * PIECE + 5];
            let fine = Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            assert!(is_finite(&fine).unwrap());
            values[2 * PIECE + 7] = bad;
            assert!(!is_finite(&Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap(), "{dtype:?}");
        }
        assert!(is_finite(&Tensor::new(7u32, &Device::Cpu).unwrap()).unwrap());
    }
}
