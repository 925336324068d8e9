//! Zero-shot as one linear head, and its mean with the text classifier: what is safe where the two disagree.

use candle_core::{D, DType, Result, Tensor};

use super::{Head, TextClassifier, ZeroShotClassifier, normalize};
use crate::nn::Linear;

impl TextClassifier {
    /// One linear head W that answers on unit features v as the mean of both classifiers, W v = ½ ( (σ_z/σ_t) W_t v + U v/τ ), with U and
    /// τ of [zero-shot](ZeroShotClassifier). σ_z and σ_t are the standard deviations of the logits of each on `features` `[n, d]`, less
    /// their mean in each row, so that neither outvotes the other by larger logits.
    ///
    /// `None` if this head is not one layer without bias, or one of the two answers all pictures alike. Of a cosine head, W_t is
    /// s · unit(W), which answers the same on unit features.
    ///
    /// # Errors
    /// If the features have another width than the classifiers'.
    pub fn mean_with(&self, zero_shot: &ZeroShotClassifier, features: &Tensor) -> Result<Option<Self>> {
        let [Linear { weight, bias: None, .. }] = &self.head.layers[..] else { return Ok(None) };
        let weight = weight.tensor().to_dtype(DType::F32)?;
        let weight = self.head.scale.map_or_else(|| Ok(weight.clone()), |scale| normalize(&weight)? * scale)?;
        let ratio = spread(&zero_shot.logits(features)?)? / spread(&self.logits(features)?)?;
        if !(ratio.is_finite() && ratio > 0.0) {
            return Ok(None);
        }
        let texts = (&weight * (0.5 * ratio))?;
        let names = (zero_shot.weights.to_device(weight.device())? * (0.5 * zero_shot.scale))?;
        Ok(Some(Self { head: Head::new(vec![Linear::new((texts + names)?, None)]) }))
    }
}

impl ZeroShotClassifier {
    /// U/τ as a linear layer: the same logits of unit features.
    ///
    /// # Errors
    /// Candle's.
    pub fn head(&self) -> Result<Head> {
        Ok(Head::new(vec![Linear::new((&self.weights * self.scale)?, None)]))
    }
}

/// The standard deviation of logits `[n, C]` less their mean in each row.
fn spread(logits: &Tensor) -> Result<f64> {
    let logits = logits.to_dtype(DType::F32)?;
    let centered = logits.broadcast_sub(&logits.mean_keepdim(D::Minus1)?)?;
    Ok(f64::from(centered.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn each_has_half_the_say_whatever_the_size_of_its_logits() -> Result<()> {
        let tensor = |rows: &[[f32; 2]]| Tensor::from_iter(rows.iter().flatten().copied(), &Device::Cpu)?.reshape((rows.len(), 2));
        let features = tensor(&[[1., 0.], [0., 1.], [0.6, 0.8]])?;
        let zero_shot = ZeroShotClassifier { weights: tensor(&[[1., 0.], [0., 1.]])?, scale: 100.0 };
        // the same answers with logits a thousand times smaller: the mean is zero-shot's
        let text = TextClassifier { head: Head::new(vec![Linear::new(tensor(&[[0.1, 0.], [0., 0.1]])?, None)]) };
        let mean = text.mean_with(&zero_shot, &features)?.unwrap();
        let difference = (mean.logits(&features)? - zero_shot.logits(&features)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(difference < 1e-3, "{difference}");
        // opposite answers cancel
        let text = TextClassifier { head: Head::new(vec![Linear::new(tensor(&[[0., 0.1], [0.1, 0.]])?, None)]) };
        let logits = text.mean_with(&zero_shot, &features)?.unwrap().logits(&features)?.to_vec2::<f32>()?;
        assert!(logits.iter().all(|row| (row[0] - row[1]).abs() < 1e-3), "{logits:?}");
        // a cosine head is that of its unit rows
        let long = Head::new(vec![Linear::new(tensor(&[[3., 0.], [0., 0.2]])?, None)]).cosine(7.0)?;
        let mean = TextClassifier { head: long }.mean_with(&zero_shot, &features)?.unwrap();
        let difference = (mean.logits(&features)? - zero_shot.logits(&features)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(difference < 1e-3, "{difference}");
        // a head that answers all alike, or is not one layer, has no mean
        let flat = TextClassifier { head: Head::new(vec![Linear::new(tensor(&[[1., 1.], [1., 1.]])?, None)]) };
        assert!(flat.mean_with(&zero_shot, &features)?.is_none());
        let mlp = Head::mlp(2, 3, 2, &mut crate::rng::Rng::new(1), &Device::Cpu)?;
        assert!(TextClassifier { head: mlp }.mean_with(&zero_shot, &features)?.is_none());
        Ok(())
    }
}
