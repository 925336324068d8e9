//! The contrastive loss of CLIP, with repeated texts as further positives.

use candle_core::{D, Result, Tensor};

use crate::classify::normalize;

/// Symmetric InfoNCE (Radford et al. 2021, figure 3; Oord et al. 2018, eq. 4):
///
/// L = ½ · mean_i −log softmax_j( s · cos(v_i, u_j) )_i  +  ½ · mean_j −log softmax_i( s · cos(v_i, u_j) )_j
///
/// with s = exp(`log_scale`), the inverse temperature, which learns. `positives` `[n, n]` holds what fits what: the
/// identity is CLIP's loss; if a batch holds a caption more than once, the target of a row is spread evenly over its
/// positives (as in Khosla et al. 2020, eq. 2), so that no pair that fits is pushed apart.
///
/// # Shapes
/// images and texts `[n, d]`, not normalized; `log_scale` scalar; `positives` `[n, n]` of 0 and 1, symmetric → scalar.
///
/// # Errors
/// Candle's, if the shapes are not these.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let features = Tensor::eye(4, DType::F32, &Device::Cpu)?;
/// let fits = lafter::pretrain::contrastive_loss(&features, &features, &Tensor::new(5f32, &Device::Cpu)?, &features)?;
/// assert!(fits.to_scalar::<f32>()? < 1e-3);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn contrastive_loss(images: &Tensor, texts: &Tensor, log_scale: &Tensor, positives: &Tensor) -> Result<Tensor> {
    let (images, texts) = (normalize(images)?, normalize(texts)?);
    // 100 is CLIP's bound on the scale
    let scale = log_scale.exp()?.clamp(1.0, 100.0)?;
    let logits = images.matmul(&texts.t()?)?.broadcast_mul(&scale)?; // [images, texts]
    let targets = positives.broadcast_div(&positives.sum_keepdim(D::Minus1)?)?;
    let of_images = cross_entropy(&logits, &targets)?;
    let of_texts = cross_entropy(&logits.t()?.contiguous()?, &targets)?;
    (of_images + of_texts)? * 0.5
}

/// The mean over rows of −Σ_j q_j log softmax(logits)_j.
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    (log_p * targets)?.sum(D::Minus1)?.mean_all()?.neg()
}

/// `[n, n]`: 1 where row and column carry the same text.
pub(super) fn same_text(texts: &[String], device: &candle_core::Device) -> Result<Tensor> {
    let n = texts.len();
    let values: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(texts[i / n] == texts[i % n]))).collect();
    Tensor::from_vec(values, (n, n), device)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn gradients_agree_with_finite_differences() {
        let device = Device::Cpu;
        let mut rng = Rng::new(1);
        let images = Var::from_tensor(&rng.normal_tensor((3, 4), 1.0, &device).unwrap()).unwrap();
        let texts = Var::from_tensor(&rng.normal_tensor((3, 4), 1.0, &device).unwrap()).unwrap();
        let scale = Var::new(1.5f32, &device).unwrap();
        let fits = same_text(&["a".into(), "b".into(), "a".into()], &device).unwrap();
        let loss = || contrastive_loss(&images, &texts, &scale, &fits).unwrap();
        let grads = loss().backward().unwrap();
        for var in [&images, &texts, &scale] {
            let grad: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let start = var.as_detached_tensor().copy().unwrap();
            let values: Vec<f32> = start.flatten_all().unwrap().to_vec1().unwrap();
            for i in 0..values.len() {
                let at = |step: f32| {
                    let mut moved = values.clone();
                    moved[i] += step;
                    var.set(&Tensor::from_vec(moved, var.shape(), &device).unwrap()).unwrap();
                    loss().to_scalar::<f32>().unwrap()
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                var.set(&start).unwrap();
                assert!((slope - grad[i]).abs() < 2e-3 + 0.01 * slope.abs(), "{slope} {}", grad[i]);
            }
        }
    }

    #[test]
    fn repeated_texts_are_positives() {
        let device = Device::Cpu;
        let features = Tensor::new(&[[1f32, 0.], [1., 0.], [0., 1.]], &device).unwrap();
        let scale = Tensor::new(4.6f32, &device).unwrap();
        let texts = ["x".to_string(), "x".to_string(), "y".to_string()];
        let fits = same_text(&texts, &device).unwrap();
        let spread: f32 = contrastive_loss(&features, &features, &scale, &fits).unwrap().to_scalar().unwrap();
        let diagonal = Tensor::eye(3, candle_core::DType::F32, &device).unwrap();
        let plain: f32 = contrastive_loss(&features, &features, &scale, &diagonal).unwrap().to_scalar().unwrap();
        // two equal texts cannot be told apart: log 2 for two of three rows remains in both forms
        assert!((spread - plain).abs() < 1e-4 && (plain - 2.0 / 3.0 * 2f32.ln()).abs() < 1e-3, "{spread} {plain}");
    }
}
