//! A quantized linear layer whose rows are as wide as the processor's fast kernels want them.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Module, Result, Tensor};

/// Candle's kernels that compute several rows of activations at once take weights in blocks of 256.
const BLOCK: usize = 256;
/// Values of a block of Q4_0, Q5_0 and Q8_0.
const SMALL_BLOCK: usize = 32;

/// y = x Wᵀ + b with W in blocks of a few bits.
pub(super) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
    /// Zeros behind every row of x.
    padding: usize,
}

impl Linear {
    /// On a CPU, rows that are not a multiple of 256 wide (Qwen2.5-0.5B: 896) are lengthened by zeros, and Q4_0 and Q5_0
    /// become Q8_0 then: the same numbers, for which there are fast kernels.
    pub(super) fn new(weight: Arc<QTensor>, bias: Option<Tensor>) -> Result<Self> {
        let width = weight.shape().dims2()?.1;
        match widened(&weight)? {
            Some(wide) => Ok(Self { weight: QMatMul::from_qtensor(wide)?, bias, padding: width.next_multiple_of(BLOCK) - width }),
            None => Ok(Self { weight: QMatMul::from_arc(weight)?, bias, padding: 0 }),
        }
    }

    /// Rows `[n, width in]` → `[n, width out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match self.padding {
            0 => self.weight.forward(x)?,
            zeros => self.weight.forward(&x.pad_with_zeros(1, 0, zeros)?)?,
        };
        self.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
    }
}

/// The same weights in Q8_0, each row with zeros up to a multiple of 256; `None` if that would not help.
fn widened(weight: &QTensor) -> Result<Option<QTensor>> {
    let (rows, width) = weight.shape().dims2()?;
    let dtype = weight.dtype();
    let small = matches!(dtype, GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0);
    if !weight.device().is_cpu() || !small || width % BLOCK == 0 {
        return Ok(None);
    }
    let wide = width.next_multiple_of(BLOCK);
    let data = weight.data()?;
    let block = GgmlDType::Q8_0.type_size();
    let mut bytes = Vec::with_capacity(rows * wide / SMALL_BLOCK * block);
    for row in data.chunks_exact(width / SMALL_BLOCK * dtype.type_size()) {
        row.chunks_exact(dtype.type_size()).for_each(|packed| push_q8_0(dtype, packed, &mut bytes));
        bytes.resize(bytes.len() + (wide - width) / SMALL_BLOCK * block, 0);
    }
    let storage = QStorage::from_data(Cow::Owned(bytes), &weight.device(), GgmlDType::Q8_0)?;
    Ok(Some(QTensor::new(storage, (rows, wide))?))
}

/// One block as Q8_0: a scale in two bytes, then 32 whole numbers; w = scale · number, to the bit as before.
fn push_q8_0(dtype: GgmlDType, packed: &[u8], bytes: &mut Vec<u8>) {
    let (low, high) = (|byte: &u8| (byte & 15) as i8, |byte: &u8| (byte >> 4) as i8);
    match (dtype, packed) {
        (GgmlDType::Q4_0, [s0, s1, halves @ ..]) => {
            bytes.extend([s0, s1]);
            bytes.extend(halves.iter().map(low).chain(halves.iter().map(high)).map(|q| (q - 8) as u8));
        }
        (GgmlDType::Q5_0, [s0, s1, b0, b1, b2, b3, halves @ ..]) => {
            let fifth = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
            let numbers = halves.iter().map(low).chain(halves.iter().map(high));
            bytes.extend([s0, s1]);
            bytes.extend(numbers.enumerate().map(|(i, q)| (q + 16 * (fifth >> i & 1) as i8 - 16) as u8));
        }
        _ => bytes.extend(packed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn widened_weights_are_the_same_numbers() {
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q5_0, GgmlDType::Q8_0] {
            let weight = Tensor::randn(0f32, 1., (16, 96), &Device::Cpu).unwrap();
            let quantized = QTensor::quantize(&weight, dtype).unwrap();
            let before = quantized.dequantize(&Device::Cpu).unwrap();
            let after = widened(&quantized).unwrap().unwrap().dequantize(&Device::Cpu).unwrap();
            assert_eq!(after.dims(), [16, 256]);
            let kept = after.narrow(1, 0, 96).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(kept, before.to_vec2::<f32>().unwrap(), "{dtype:?}");
            assert!(after.narrow(1, 96, 160).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|w| *w == 0.0));
        }
        let wide = QTensor::quantize(&Tensor::ones((16, 256), candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::Q8_0).unwrap();
        assert!(widened(&wide).unwrap().is_none());
    }
}
