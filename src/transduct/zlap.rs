//! ZLaP: labels spread from texts over a graph of texts and pictures (Stojnić, Kalantidis, Tolias, CVPR 2024).

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::features::watched_nearest;
use super::{Features, Graph, Rounds};
use crate::error;
use crate::progress::Event;

/// Label propagation: scores = the pictures' rows of (I − α S)⁻¹ at the text nodes.
///
/// Nodes are the C texts and the n pictures. W has an edge max(cos, 0) from each picture to its k nearest pictures (it counts as
/// one of them, and that edge is dropped), and max(cos, 0)^γ to its k nearest texts; then W + Wᵀ, S = D^−½ (W + Wᵀ) D^−½, D the row sums.
/// The system is solved by conjugate gradients, for some classes at a time: S has eigenvalues between −1 and 1, so that each step
/// divides the error by six for α = 0.3 (github.com/vladan-stojnic/ZLaP solves it so, too). What pictures get is far less than what
/// texts send out, so the steps start from α S Y, the labels that reach a picture at once. After 50 steps it ends, with a notice if the
/// residual is above the tolerance: that is so with α near 1.
///
/// **It breaks when classes are absent**: all texts send out as much. [`Stata`](super::Stata) loses less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zlap {
    /// k, at least 1; default 5.
    #[serde(alias = "neighbours")] // as earlier versions wrote it
    pub neighbors: usize,
    /// γ, 0 to 1000; default 5.
    pub power: f64,
    /// α, between 0 and 1; default 0.3.
    pub spread: f64,
    /// The residual, relative to α S Y, at which a solution is taken; default 1e-6, about four digits of a probability.
    pub tolerance: f64,
}

impl Default for Zlap {
    fn default() -> Self {
        Self { neighbors: 5, power: 5.0, spread: 0.3, tolerance: 1e-6 }
    }
}

/// Classes solved at a time: four vectors of n × 64 numbers.
const CLASSES: usize = 64;
/// Steps at most, as the authors have.
const STEPS: usize = 50;

impl Zlap {
    /// The scores, each row divided by its sum: `[n, C]`. A picture that no label reaches gets them all alike, and a notice counts such.
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn probabilities(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Tensor> {
        let scores = self.scores(features, events)?.relu()?; // below 0 by the solver's tolerance only
        let unreached = scores.sum(1)?.to_vec1::<f32>()?.into_iter().filter(|sum| *sum == 0.0).count();
        if unreached > 0 {
            let n = features.pictures();
            events(&Event::Notice(format!(
                "zlap: no label reaches {unreached} of {n} pictures, whose classes are all alike: take more neighbors or a smaller power"
            )));
        }
        let (least, classes) = (f64::from(f32::MIN_POSITIVE), features.classes() as f64);
        let scores = (scores + least)?;
        let sums = scores.sum_keepdim(1)?.maximum(least * classes)?;
        Ok(scores.broadcast_div(&sums)?)
    }

    /// (I − α S)⁻¹ at the pictures' rows and the texts' columns: `[n, C]`.
    ///
    /// # Errors
    /// [`Error::Interrupted`](error::Error::Interrupted) between two groups of classes; Candle's if the device has no memory left.
    pub fn scores(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Tensor> {
        let (n, classes, device) = (features.pictures(), features.classes(), features.images.device());
        let nodes = self.nodes(features, events)?;
        let (mut columns, mut left) = (Vec::new(), 0f64);
        let mut rounds = Rounds::new("ZLaP", classes, events);
        for first in (0..classes).step_by(CLASSES) {
            let count = CLASSES.min(classes - first);
            let mut sources = vec![0f32; (classes + n) * count];
            (0..count).for_each(|c| sources[(first + c) * count + c] = 1.0);
            let sources = Tensor::from_vec(sources, (classes + n, count), device)?;
            let (solution, residual) = self.solve(&nodes, &sources)?;
            columns.push(solution.narrow(0, classes, n)?);
            left = left.max(residual);
            (0..count).try_for_each(|_| rounds.done())?;
        }
        rounds.finish();
        let Self { spread, tolerance, .. } = self;
        if left > *tolerance {
            events(&Event::Notice(format!(
                "zlap: after {STEPS} steps the residual is {left:.1e}, above the tolerance {tolerance:?}: take a smaller spread, now {spread}"
            )));
        }
        Ok(Tensor::cat(&columns, 1)?)
    }

    /// S `[C + n, C + n]`, texts first.
    fn nodes(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Graph> {
        let (x, classes, n) = (&features.images, features.classes(), features.pictures());
        let near = watched_nearest(x, x, self.neighbors.saturating_sub(1), false, events)?;
        let named = watched_nearest(x, &features.texts, self.neighbors, true, events)?;
        let mut entries = Vec::with_capacity(n * (near.k + named.k));
        for i in 0..n {
            let node = (classes + i) as u32;
            for at in i * near.k..(i + 1) * near.k {
                entries.push((node, classes as u32 + near.indices[at], near.cosines[at].max(0.0)));
            }
            for at in i * named.k..(i + 1) * named.k {
                entries.push((node, named.indices[at], named.cosines[at].max(0.0).powf(self.power as f32)));
            }
        }
        let mut graph = Graph::symmetric(classes + n, entries, 1.0)?;
        let inverse = |sum: f32| if sum > 0.0 { sum.sqrt().recip() } else { 1.0 };
        let scales: Vec<f32> = graph.row_sums().into_iter().map(inverse).collect();
        let both: Vec<f32> = graph.places().map(|(row, column)| scales[row] * scales[column]).collect();
        graph.values.iter_mut().zip(both).for_each(|(value, scale)| *value *= scale);
        Ok(graph)
    }

    /// (I − α S) F = Y by conjugate gradients, each column for itself: Y `[nodes, c]` → F, and the greatest residual of a column, relative
    /// to α S Y. Solved is (I − α S) G = α S Y, F = Y + G.
    fn solve(&self, graph: &Graph, sources: &Tensor) -> Result<(Tensor, f64)> {
        let dot = |a: &Tensor, b: &Tensor| (a * b)?.sum_keepdim(0); // [1, c]
        let first = (graph.product(sources)? * self.spread)?; // α S Y
        let size = first.max_keepdim(0)?.maximum(f64::from(f32::MIN_POSITIVE))?; // [1, c]: no entry is below 0
        let mut residual = first.broadcast_div(&size)?;
        let (mut solution, mut direction) = (sources.zeros_like()?, residual.clone());
        let mut length = dot(&residual, &residual)?;
        let start = length.maximum(1e-30)?; // 0 for a label that reaches nothing
        let relative = |length: &Tensor| -> Result<f64> {
            let greatest = length.broadcast_div(&start)?.flatten_all()?.max(0)?.to_device(&Device::Cpu)?;
            Ok(f64::from(greatest.to_scalar::<f32>()?).sqrt())
        };
        let mut left = relative(&length)?;
        for _ in 0..STEPS {
            if left <= self.tolerance {
                break;
            }
            let image = (&direction - (graph.product(&direction)? * self.spread)?)?;
            let step = (&length / dot(&direction, &image)?.maximum(1e-30)?)?;
            solution = (solution + direction.broadcast_mul(&step)?)?;
            residual = (residual - image.broadcast_mul(&step)?)?;
            let next = dot(&residual, &residual)?;
            direction = (&residual + direction.broadcast_mul(&(&next / length.maximum(1e-30)?)?)?)?;
            length = next;
            left = relative(&length)?;
        }
        Ok(((sources + solution.broadcast_mul(&size)?)?, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::with_notices;

    fn notices(method: Zlap, features: &Features) -> Vec<String> {
        with_notices(|events| method.probabilities(features, events).unwrap()).1
    }

    #[test]
    fn pictures_that_no_label_reaches_are_counted() {
        let pictures = Tensor::new(&[[1f32, 0.1, 0.0], [0.1, 1.0, 0.0], [0.0, 0.0, 1.0], [-0.1, -0.1, 1.0]], &Device::Cpu).unwrap();
        let texts = Tensor::new(&[[1f32, 0.0, -0.1], [0.0, 1.0, -0.1]], &Device::Cpu).unwrap();
        let features = Features::new(&pictures, &texts, 100.0).unwrap();
        let told = notices(Zlap { neighbors: 2, ..Zlap::default() }, &features);
        assert!(told.len() == 1 && told[0].contains("no label reaches 2 of 4 pictures"), "{told:?}");
    }

    /// Three hundred pictures in a row between two texts: where labels spread far, fifty steps do not reach the other end.
    #[test]
    fn a_solution_that_is_not_there_in_time_is_told() {
        let point = |angle: f32| [angle.cos(), angle.sin()];
        let angles = (0..300).map(|i| i as f32 / 299.0 * std::f32::consts::FRAC_PI_2);
        let pictures = Tensor::from_vec(angles.flat_map(point).collect::<Vec<_>>(), (300, 2), &Device::Cpu).unwrap();
        let texts = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        let features = Features::new(&pictures, &texts, 100.0).unwrap();
        for (spread, told) in [(0.3, 0), (0.999, 1)] {
            let notices = notices(Zlap { neighbors: 3, power: 200.0, spread, ..Zlap::default() }, &features);
            assert_eq!(notices.len(), told, "{spread}: {notices:?}");
            assert!(notices.iter().all(|notice| notice.contains("smaller spread, now 0.999")));
        }
    }
}
