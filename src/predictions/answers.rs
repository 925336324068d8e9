//! From logits to rows of the table.

use candle_core::{DType, Device, Tensor};

use super::row::most_probable;
use super::{PredictionRow, UNKNOWN};
use crate::error::{Error, Result};
use crate::eval::{argmax_rows, unique_names};

/// What classifiers say about a batch of pictures: logits `[batch, C]` each.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The answer that counts.
    pub logits: Tensor,
    /// Zero-shot's (eq. 1), if it is to stand in the table.
    pub zero_shot: Option<Tensor>,
    /// The text classifier's (eq. 2), if it is to stand in the table.
    pub text_classifier: Option<Tensor>,
}

impl From<Tensor> for Answers {
    fn from(logits: Tensor) -> Self {
        Self { logits, zero_shot: None, text_classifier: None }
    }
}

/// How answers become rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The class names, in the order of the logits; those that stand twice are told apart ([`unique_names`]).
    pub classes: &'a [String],
    /// The least probability, 0 to 1, of an answer that is not [`UNKNOWN`].
    pub threshold: f64,
    /// Classes to list for each picture.
    pub top: usize,
}

impl Rows<'_> {
    /// A row for each of the pictures `indices`, whose names `name` gives.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one logit a class, or one row a picture; [`Error::Weights`] for logits that are not finite.
    pub fn of(&self, indices: &[usize], name: impl Fn(usize) -> String, answers: &Answers) -> Result<Vec<PredictionRow>> {
        let (logits, classes) = (self.read(&answers.logits)?, unique_names(self.classes));
        let fits = |rows: usize| match rows == indices.len() {
            true => Ok(()),
            false => Err(Error::Shape(format!("{rows} rows of logits for {} pictures: give one each", indices.len()))),
        };
        fits(logits.len())?;
        let other = |logits: &Option<Tensor>| -> Result<Option<Vec<String>>> {
            let Some(logits) = logits else { return Ok(None) };
            fits(logits.dim(0)?)?;
            let values = self.read(logits)?.concat();
            Ok(Some(argmax_rows(&values, classes.len()).into_iter().map(|class| classes[class].clone()).collect()))
        };
        let (zero_shot, text) = (other(&answers.zero_shot)?, other(&answers.text_classifier)?);
        let row = |(at, (index, logits)): (usize, (&usize, &Vec<f32>))| {
            let listed = most_probable(logits, self.top.max(2));
            let (answer, probability) = listed.first().map_or((UNKNOWN, 0.0), |(best, p)| (classes[*best].as_str(), *p));
            let (runner_up, second) = listed.get(1).map_or((String::new(), 0.0), |(next, p)| (classes[*next].clone(), *p));
            let text_classifier = text.as_ref().map(|names| names[at].clone());
            PredictionRow {
                index: *index,
                picture: name(*index),
                class: if probability < self.threshold { UNKNOWN } else { answer }.to_string(),
                probability,
                runner_up,
                margin: probability - second,
                zero_shot: zero_shot.as_ref().map(|names| names[at].clone()),
                changed: text_classifier.as_ref().map(|before| before != answer),
                text_classifier,
                top: listed.iter().take(self.top).map(|(class, p)| (classes[*class].clone(), *p)).collect(),
            }
        };
        Ok(indices.iter().zip(&logits).enumerate().map(row).collect())
    }

    fn read(&self, logits: &Tensor) -> Result<Vec<Vec<f32>>> {
        let (width, names) = (logits.dim(1)?, self.classes.len());
        if width != names {
            return Err(Error::Shape(format!("{width} logits for {names} class names: take those that the head was trained with")));
        }
        let rows = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        match rows.iter().flatten().all(|logit| logit.is_finite()) {
            true => Ok(rows),
            false => Err(Error::Weights(
                "a picture's logits are not finite: the weights are damaged or overflow in their number type: load them in f32, or copy \
                 them again"
                    .into(),
            )),
        }
    }
}
