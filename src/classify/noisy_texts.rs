//! The loss of the text classifier (eq. 2): texts, noise, head, smoothed cross entropy.

use std::sync::{Arc, OnceLock};

use candle_core::{D, DType, Device, Module, Result, Tensor};
use lafter_fast as fast; // fast::

use crate::nn::{argmax, smoothed_cross_entropy};
use crate::rng::Rng;

/// Text features and their classes, and what a step of eq. 2 makes of them:
///
/// L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ), the mean over the texts of the step, n ~ N(0, σ²I) drawn anew at every step.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::{classify::{Head, NoisyTexts}, rng::Rng};
/// let features = Tensor::new(&[[3f32, 0.], [0., 5.]], &Device::Cpu)?;
/// let (head, params) = Head::linear(2, 2, &mut Rng::new(1), &Device::Cpu)?.trainable()?;
/// let texts = NoisyTexts::new(features, &[0, 1], 0.1, 0.1)?;
/// let (loss, right) = texts.loss(&head, None, &mut Rng::new(2))?;
/// let (plain, right_plain) = texts.loss_plain(&head, None, &mut Rng::new(2))?;
/// assert!((loss.to_scalar::<f32>()? - plain.to_scalar::<f32>()?).abs() < 1e-6);
/// assert_eq!(right.to_scalar::<f32>()?, right_plain.to_scalar::<f32>()?);
/// assert!(loss.backward()?.get(&params[0].var).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NoisyTexts {
    /// `[n, d]` f32, rows of any norm.
    pub(super) features: Tensor,
    /// The features at unit length, made when the plain form first needs them.
    unit: OnceLock<Tensor>,
    pub(super) labels: Arc<[u32]>,
    /// The greatest of them, so that no step looks at all.
    greatest: u32,
    /// The labels on the features' device, so that no step copies the whole set.
    pub(super) on_device: Tensor,
    pub(super) noise: f32,
    pub(super) smoothing: f64,
}

impl NoisyTexts {
    /// Features `[n, d]`, n class indices, σ of the noise and ε of the smoothing.
    ///
    /// # Errors
    /// If the features are not `[n, d]`, or there is not one label per text.
    pub fn new(features: Tensor, labels: &[usize], noise: f32, smoothing: f64) -> Result<Self> {
        let (n, _) = features.dims2()?;
        if n != labels.len() {
            candle_core::bail!("{n} text features but {} labels: one label per text", labels.len());
        }
        let labels: Arc<[u32]> = labels.iter().map(|label| *label as u32).collect();
        let on_device = Tensor::from_slice(&labels, labels.len(), features.device())?;
        let greatest = labels.iter().copied().max().unwrap_or(0);
        let features = features.to_dtype(DType::F32)?.detach();
        Ok(Self { features, unit: OnceLock::new(), labels, greatest, on_device, noise, smoothing })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True without texts.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The device of the features.
    pub fn device(&self) -> &Device {
        self.features.device()
    }

    /// The texts `rows` of `features`, and their labels.
    pub(super) fn select(&self, features: &Tensor, rows: &[u32]) -> Result<(Tensor, Tensor)> {
        let at = Tensor::from_slice(rows, rows.len(), features.device())?;
        Ok((features.index_select(&at, 0)?, self.on_device.index_select(&at, 0)?))
    }

    /// Checks every index: a GPU would read whatever lies at a wrong one.
    pub(super) fn check(&self, classes: usize, rows: Option<&[u32]>) -> Result<()> {
        if self.greatest as usize >= classes && !self.labels.is_empty() {
            candle_core::bail!("class index {} of a text, but the head has {classes} classes", self.greatest);
        }
        if rows.map_or(self.labels.len(), <[u32]>::len) == 0 {
            candle_core::bail!("no text to learn from");
        }
        if let Some(row) = rows.into_iter().flatten().find(|row| **row as usize >= self.labels.len()) {
            candle_core::bail!("text {row} of {} was asked for", self.labels.len());
        }
        Ok(())
    }

    /// The mean loss over the texts `rows` (all if `None`) with its graph to the head, and how many are classified right: two
    /// scalars left on the device, since reading them would make the host wait for it. Built from Candle's own operations, all
    /// texts of the step at once: the reference.
    ///
    /// # Errors
    /// If the head expects another width, a label is not one of its classes, or a row is not a text of the set.
    pub fn loss_plain(&self, head: &impl Module, rows: Option<&[u32]>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let unit = match self.unit.get() {
            Some(unit) => unit,
            None => {
                let norms = self.features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                let unit = self.features.broadcast_div(&norms)?; // u(t)/‖u(t)‖
                self.unit.get_or_init(|| unit)
            }
        };
        self.check(usize::MAX, rows)?;
        let (x, labels) = match rows {
            None => (unit.clone(), self.on_device.clone()),
            Some(rows) => self.select(unit, rows)?,
        };
        let x = self.noisy(x, rng)?;
        let logits = head.forward(&x)?; // [rows, C]
        self.check(logits.dim(1)?, rows)?;
        let right = argmax(&logits.detach())?.eq(&labels)?.to_dtype(DType::F32)?.sum_all()?;
        Ok((smoothed_cross_entropy(&logits, &labels, self.smoothing)?, right))
    }

    /// x + n
    fn noisy(&self, x: Tensor, rng: &mut Rng) -> Result<Tensor> {
        if self.noise == 0.0 {
            return Ok(x);
        }
        fast::prefer!(self.fused_noise(&x, rng)); // fast::
        &x + rng.normal_tensor(x.shape(), self.noise, x.device())?
    }
}
