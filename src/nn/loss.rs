//! What both stages share: features of unit length, and smoothed cross entropy.

use candle_core::{D, DType, Result, Tensor};
use lafter_fast as fast; // fast::

/// x / ‖x‖ over the last dimension: features `[n, d]` of unit length.
///
/// # Errors
/// If `features` is a scalar (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let unit = lafter::classify::normalize(&Tensor::new(&[[3f32, 4.]], &Device::Cpu)?)?;
/// assert_eq!(unit.to_vec2::<f32>()?, [[0.6, 0.8]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn normalize(features: &Tensor) -> Result<Tensor> {
    fast::prefer!(fast::unit(features)); // fast::
    if matches!(features.dtype(), DType::F16 | DType::BF16) {
        return normalize(&features.to_dtype(DType::F32)?)?.to_dtype(features.dtype()); // their sums of squares lose a tenth
    }
    features.broadcast_div(&features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// L_SCE = −Σ_c q_c log p_c, with q_c = (1 − ε)·[c = label] + ε / C, the mean over the batch (Szegedy et al. 2016, §7;
/// LaFTer uses ε = 0.1 in eq. 2 and eq. 4).
///
/// # Shapes
/// logits `[n, C]` f32, labels `[n]` u32 → scalar.
///
/// # Errors
/// If there is not one label per row of logits or, on the CPU, a label is not below C; on a GPU that makes the loss NaN.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let logits = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 3], &Device::Cpu)?;
/// let loss = lafter::classify::smoothed_cross_entropy(&logits, &labels, 0.1)?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn smoothed_cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    one_per_row(labels, logits)?;
    fast::prefer!(fast::smoothed_cross_entropy(logits, labels, smoothing)); // fast::
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?; // [n, C]
    let of_label = log_p.gather(&known(labels, logits)?.unsqueeze(1)?, 1)?.mean_all()?;
    let of_all = log_p.mean_all()?;
    (of_label * (smoothing - 1.0))? - (of_all * smoothing)?
}

/// Refuses labels other than `[n]` for logits `[n, C]`: Candle's gather leaves out rows that have none.
fn one_per_row(labels: &Tensor, logits: &Tensor) -> Result<()> {
    match (labels.dims(), logits.dims()) {
        ([labels], [rows, _]) if labels == rows => Ok(()),
        (labels, rows) => candle_core::bail!("labels {labels:?} for logits {rows:?}: one label per row"),
    }
}

/// Labels `[n]` that are classes of logits `[n, C]`. Candle's gather on the CPU takes the type's greatest number for a value of 0.
fn known(labels: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let labels = labels.contiguous()?;
    if labels.device().is_cpu() {
        let classes = logits.dim(D::Minus1)? as i64;
        if let Some(label) =
            labels.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?.into_iter().find(|label| !(0..classes).contains(label))
        {
            candle_core::bail!("label {label} is none of {classes} classes");
        }
    }
    Ok(labels)
}

/// The same row by row, for losses that weigh the pictures: [`smoothed_cross_entropy`] is its mean, but for rounding.
///
/// # Shapes
/// logits `[n, C]` f32, labels `[n]` u32 → `[n]`.
///
/// # Errors
/// As [`smoothed_cross_entropy`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::classify::{smoothed_cross_entropy, smoothed_cross_entropy_rows};
/// let logits = Tensor::new(&[[2f32, 0., 1.], [0., 3., 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 2], &Device::Cpu)?;
/// let rows = smoothed_cross_entropy_rows(&logits, &labels, 0.1)?.to_vec1::<f32>()?;
/// let mean = smoothed_cross_entropy(&logits, &labels, 0.1)?.to_scalar::<f32>()?;
/// assert!(rows[0] < rows[1] && ((rows[0] + rows[1]) / 2.0 - mean).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn smoothed_cross_entropy_rows(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    one_per_row(labels, logits)?;
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?; // [n, C]
    let of_label = log_p.gather(&known(labels, logits)?.unsqueeze(1)?, 1)?.squeeze(1)?; // [n]
    let of_all = log_p.mean(D::Minus1)?; // [n]
    (of_label * (smoothing - 1.0))? - (of_all * smoothing)?
}
