//! What both stages share: features of unit length, the greatest of each row, and smoothed cross entropy.

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

/// The column of each row's greatest value, the first of equals; on a GPU of f32, f16 and bf16, where Candle's own keeps any of them.
///
/// # Shapes
/// `[.., n]` → `[..]` u32.
///
/// # Errors
/// If the rows are empty (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let rows = Tensor::new(&[[0f32, 2., 1.], [1., 1., 0.]], &Device::Cpu)?;
/// assert_eq!(lafter::nn::argmax(&rows)?.to_vec1::<u32>()?, [1, 0]);
/// assert_eq!(lafter::nn::argmax(&rows.narrow(0, 0, 0)?)?.dims(), [0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn argmax(rows: &Tensor) -> Result<Tensor> {
    if rows.device().is_cuda() && matches!(rows.dtype(), DType::F16 | DType::BF16) {
        return argmax(&rows.to_dtype(DType::F32)?);
    }
    if let Some((0, row)) = rows.dims().split_last().map(|(row, rest)| (rest.iter().product(), row))
        && *row > 0
    {
        return Tensor::zeros(&rows.dims()[..rows.rank() - 1], DType::U32, rows.device()); // no rows, which Candle's own refuses
    }
    fast::prefer!(fast::argmax(rows)); // fast::
    rows.argmax(D::Minus1)
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
    let of_label = of_labels(&log_p, labels)?.mean_all()?;
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

/// log p of each label: log p `[n, C]`, labels `[n]` → `[n]`. Candle's gather on the CPU takes the type's greatest number for a value of
/// 0; on a GPU a label that is no class stops the device, so another is read in its place.
fn of_labels(log_p: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (labels, classes) = (labels.contiguous()?, log_p.dim(D::Minus1)?);
    if labels.device().is_cpu() {
        let classes = classes as i64;
        if let Some(label) =
            labels.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?.into_iter().find(|label| !(0..classes).contains(label))
        {
            candle_core::bail!("label {label} is none of {classes} classes");
        }
        return log_p.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1);
    }
    let last = (classes as u32).saturating_sub(1);
    let (labels, none) = (labels.to_dtype(DType::U32)?, Tensor::full(f32::NAN, labels.dims(), labels.device())?.to_dtype(log_p.dtype())?);
    let of_label = log_p.gather(&labels.minimum(last)?.unsqueeze(1)?, 1)?.squeeze(1)?;
    labels.le(last)?.where_cond(&of_label, &none)
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
    let of_label = of_labels(&log_p, labels)?; // [n]
    let of_all = log_p.mean(D::Minus1)?; // [n]
    (of_label * (smoothing - 1.0))? - (of_all * smoothing)?
}
