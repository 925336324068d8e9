//! The head: features in, one logit per class out; and the text classifier, a head that was trained on text features (eq. 2).

use candle_core::{D, DType, Device, Module, Result, Shape, Tensor, Var};
use lafter_fast as fast; // fast::
use rand::RngCore;

use crate::nn::{Linear, Param};

/// A classifier over features: one linear layer without bias (LaFTer's own choice), or an MLP with one hidden layer.
///
/// With a [`scale`](Self::scale) s it is a cosine head, z = s · unit(v) · unit(W)ᵀ, as CLIP itself classifies; W is made unit within
/// the graph, so that its length neither learns nor matters.
///
/// # Shapes
/// features `[n, d]` → logits `[n, C]`.
///
/// ```
/// use lafter::{classify::Head, rng::Rng};
/// use candle_core::{Device, DType, Tensor};
/// let head = Head::linear(8, 3, &mut Rng::new(1), &Device::Cpu)?;
/// let logits = head.forward(&Tensor::ones((2, 8), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(logits.dims(), [2, 3]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Head {
    /// One layer, or two with a ReLU between.
    pub layers: Vec<Linear>,
    /// s of a cosine head, which has one layer without bias; `None`: z = W v.
    pub scale: Option<f64>,
}

impl Head {
    /// A plain head of these layers.
    pub fn new(layers: Vec<Linear>) -> Self {
        Self { layers, scale: None }
    }

    /// d → C without bias, PyTorch's default initialization: uniform within ±1/√d (Kaiming with a = √5).
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn linear(inputs: usize, classes: usize, rng: &mut impl RngCore, device: &Device) -> Result<Self> {
        Ok(Self::new(vec![Linear::new(uniform((classes, inputs), inputs, rng, device)?, None)]))
    }

    /// d → hidden → C with biases and a ReLU between.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn mlp(inputs: usize, hidden: usize, classes: usize, rng: &mut impl RngCore, device: &Device) -> Result<Self> {
        let mut layer = |inputs: usize, outputs: usize| -> Result<Linear> {
            Ok(Linear::new(uniform((outputs, inputs), inputs, rng, device)?, Some(uniform(outputs, inputs, rng, device)?)))
        };
        Ok(Self::new(vec![layer(inputs, hidden)?, layer(hidden, classes)?]))
    }

    /// The cosine head with the weights of this one: s · unit(v) · unit(W)ᵀ.
    ///
    /// # Errors
    /// If this head is more than one layer without bias.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use lafter::{classify::Head, nn::Linear};
    /// let weight = Tensor::new(&[[2f32, 0.], [0., 5.]], &Device::Cpu)?;
    /// let head = Head::new(vec![Linear::new(weight, None)]).cosine(100.0)?;
    /// let logits = head.forward(&Tensor::new(&[[3f32, 4.]], &Device::Cpu)?)?;
    /// assert!((logits.to_vec2::<f32>()?[0][1] - 80.0).abs() < 1e-4);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn cosine(self, scale: f64) -> Result<Self> {
        match &self.layers[..] {
            [layer] if layer.bias.is_none() => Ok(Self { scale: Some(scale), ..self }),
            _ => candle_core::bail!("a cosine head is one layer without bias, this one has {} layers", self.layers.len()),
        }
    }

    /// features `[n, d]` → logits `[n, C]`.
    ///
    /// # Errors
    /// If the features have another width than [`inputs`](Self::inputs) (Candle's).
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        match (self.scale, &self.layers[..]) {
            (Some(scale), [layer]) if layer.bias.is_none() => {
                let layer = layer.folded()?; // more::
                return unit(features)?.matmul(&unit(&layer.weight.tensor())?.t()?)? * scale;
            }
            (Some(_), _) => candle_core::bail!("a cosine head is one layer without bias: leave its scale out"),
            (None, _) => {}
        }
        let mut x = features.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = if i > 0 { layer.forward(&x.relu()?)? } else { layer.forward(&x)? };
        }
        Ok(x)
    }

    /// Width of the features it expects.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.weight.dims()[1])
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.weight.dims()[0])
    }

    /// A copy in fresh variables, and the variables by name (`head.0.weight`, …); weights decay, biases do not.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn trainable(&self) -> Result<(Self, Vec<Param>)> {
        let mut params = Vec::new();
        let mut layers = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let layer = layer.folded()?; // more::
            let weight = Var::from_tensor(&layer.weight.tensor().copy()?)?;
            params.push(Param { name: format!("head.{i}.weight"), var: weight.clone(), decay: true });
            let bias = layer.bias.as_ref().map(|bias| Var::from_tensor(&bias.copy()?)).transpose()?;
            params.extend(bias.iter().map(|bias| Param { name: format!("head.{i}.bias"), var: bias.clone(), decay: false }));
            layers.push(Linear::new(weight.into_inner(), bias.map(Var::into_inner)));
        }
        Ok((Self { layers, scale: self.scale }, params))
    }

    /// The tensors by name, as they are saved; the [`scale`](Self::scale) of a cosine head is not among them.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = |(i, layer): (usize, &Linear)| {
            let layer = layer.folded().unwrap_or_else(|_| layer.clone()); // more::
            let weight = (format!("head.{i}.weight"), layer.weight.tensor().detach());
            let bias = layer.bias.as_ref().map(|bias| (format!("head.{i}.bias"), bias.detach()));
            [Some(weight), bias].into_iter().flatten().collect::<Vec<_>>()
        };
        self.layers.iter().enumerate().flat_map(named).collect()
    }

    /// Reads back what [`tensors`](Self::tensors) gave, as a plain head: [`cosine`](Self::cosine) gives it its scale again.
    ///
    /// # Errors
    /// If there is no tensor named `head.0.weight`, a weight is not a matrix, a layer does not fit the one before it, or only
    /// some layers have a bias.
    pub fn from_tensors(tensors: &std::collections::HashMap<String, Tensor>) -> Result<Self> {
        let layer = |i: usize| {
            let weight = tensors.get(&format!("head.{i}.weight"))?;
            Some(Linear::new(weight.clone(), tensors.get(&format!("head.{i}.bias")).cloned()))
        };
        let layers: Vec<Linear> = (0..).map_while(layer).collect();
        if layers.is_empty() {
            candle_core::bail!("no tensor named head.0.weight");
        }
        let mut width = None;
        for (i, layer) in layers.iter().enumerate() {
            let (shape, bias) = (layer.weight.dims(), layer.bias.as_ref().map(Tensor::dims));
            match *shape {
                [outputs, inputs] if outputs * inputs > 0 && width.is_none_or(|width| width == inputs) => {
                    if bias.is_some_and(|bias| bias != [outputs]) {
                        candle_core::bail!("head.{i}.bias has shape {bias:?}, its layer {outputs} outputs");
                    }
                    width = Some(outputs);
                }
                _ => candle_core::bail!("head.{i}.weight has shape {shape:?}, which does not fit: expected [outputs, inputs]"),
            }
            if bias.is_some() != layers[0].bias.is_some() {
                candle_core::bail!("head.{}.bias is missing, another layer has one", if bias.is_some() { 0 } else { i });
            }
        }
        Ok(Self::new(layers))
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn detached(&self) -> Self {
        Self { layers: self.layers.iter().map(Linear::detached).collect(), scale: self.scale }
    }

    /// A copy that later updates do not reach.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn copy(&self) -> Result<Self> {
        let copy = |layer: &Linear| {
            let layer = layer.folded()?; // more::
            Ok(Linear::new(layer.weight.tensor().copy()?.detach(), layer.bias.as_ref().map(|b| b.copy()).transpose()?.map(|b| b.detach())))
        };
        Ok(Self { layers: self.layers.iter().map(copy).collect::<Result<_>>()?, scale: self.scale })
    }
}

impl Module for Head {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        Head::forward(self, features)
    }
}

/// A head trained on text features that classifies image features of the same CLIP: cross-modal transfer.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::{classify::{TextClassifier, TextClassifierConfig}, rng::Rng};
/// let features = Tensor::new(&[[1f32, 0.], [0.9, 0.1], [0., 1.]], &Device::Cpu)?;
/// let config = TextClassifierConfig { epochs: 50, learning_rate: 0.05, ..TextClassifierConfig::official() };
/// let (classifier, history) = TextClassifier::fit(&features, &[0, 0, 1], &config, &mut Rng::new(1))?;
/// assert!(history[49].loss < history[0].loss);
/// assert_eq!(classifier.predict(&features)?, [0, 0, 1]);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextClassifier {
    /// f_θ: text or image features of unit length in, logits out.
    pub head: Head,
}

impl TextClassifier {
    /// Logits of image features of any device, on the head's: unit-normalized first, since the head saw unit text features.
    ///
    /// # Shapes
    /// `[n, d]` → `[n, C]`.
    ///
    /// # Errors
    /// If the features have another width than the head's.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let width = features.dim(D::Minus1)?;
        if width != self.head.inputs() {
            let expected = self.head.inputs();
            candle_core::bail!("expected features [n, {expected}], got [n, {width}]: was this classifier trained on another tower?");
        }
        let features = match self.head.layers.first() {
            Some(layer) => features.to_device(layer.weight.device())?,
            None => features.clone(),
        };
        self.head.forward(&unit(&features.to_dtype(DType::F32)?)?)
    }

    /// The class index of each feature.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn predict(&self, features: &Tensor) -> Result<Vec<usize>> {
        let logits = self.logits(features)?.to_device(&Device::Cpu)?; // whose argmax keeps the first of equals
        let indices = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        Ok(indices.into_iter().map(|index| index as usize).collect())
    }
}

/// Rows of unit length.
fn unit(rows: &Tensor) -> Result<Tensor> {
    fast::prefer!(fast::unit(rows)); // fast::
    if matches!(rows.dtype(), DType::F16 | DType::BF16) {
        return unit(&rows.to_dtype(DType::F32)?)?.to_dtype(rows.dtype()); // their sums of squares lose a tenth
    }
    rows.broadcast_div(&rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// U(−1/√inputs, 1/√inputs), drawn on the host.
fn uniform(shape: impl Into<Shape>, inputs: usize, rng: &mut impl RngCore, device: &Device) -> Result<Tensor> {
    let (shape, bound) = (shape.into(), 1.0 / (inputs as f32).sqrt());
    let mut draw = || (rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0); // [0, 1)
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| -bound + 2.0 * bound * draw()).collect();
    Tensor::from_vec(values, shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn weights_are_the_draws_of_the_generator() {
        let head = Head::mlp(8, 5, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
        let (mut rng, bound) = (Rng::new(1), 1.0 / 8f32.sqrt());
        let drawn = rng.uniform_tensor((5, 8), -bound, bound, &Device::Cpu).unwrap();
        assert_eq!(head.layers[0].weight.tensor().to_vec2::<f32>().unwrap(), drawn.to_vec2::<f32>().unwrap());
        let drawn = rng.uniform_tensor(5, -bound, bound, &Device::Cpu).unwrap();
        assert_eq!(head.layers[0].bias.as_ref().unwrap().to_vec1::<f32>().unwrap(), drawn.to_vec1::<f32>().unwrap());
    }
}
