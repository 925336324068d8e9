//! What learns: names, shapes, count, share.

use crate::nn::Param;

/// The trainable parameters of a tuner, in the order in which they are saved.
#[derive(Clone)]
pub struct Trainable {
    /// `prompts.0`, the tower's norms under their checkpoint names, `head.0.weight`.
    pub params: Vec<Param>,
    /// All parameters: the base CLIP's and those added.
    pub total: usize,
}

impl Trainable {
    /// Number of trainable scalars.
    pub fn count(&self) -> usize {
        self.params.iter().map(|param| param.var.elem_count()).sum()
    }

    /// The trainable share of all parameters, 0 to 1 (the paper: below 0.004 for ViT-B/32).
    pub fn share(&self) -> f64 {
        self.count() as f64 / self.total.max(1) as f64
    }

    /// One line: how many tensors, scalars, and their share.
    pub fn summary(&self) -> String {
        format!("{} of {} parameters learn ({:.2} %), in {} tensors", self.count(), self.total, 100.0 * self.share(), self.params.len())
    }
}

/// One line per tensor, then the summary.
impl std::fmt::Display for Trainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Param { name, var, .. } in &self.params {
            writeln!(f, "{name:<52} {:>14} {:>10}", format!("{:?}", var.dims()), var.elem_count())?;
        }
        write!(f, "{}", self.summary())
    }
}

impl std::fmt::Debug for Trainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trainable({})", self.summary())
    }
}
