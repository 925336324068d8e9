//! Balanced top-k: training on the surest pictures of each class alone (UPL, Huang et al. 2022; NoLA, Imam et al. 2024).

use std::collections::HashMap;

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{PassFn, Refine};
use crate::tune::role::{Flow, What};
use crate::tune::rows;
use crate::tune::{Setup, Stateful, Targets, Views};

/// Before training, for each class the k pictures that are surest of it; the epochs run over these, and their labels stay as they
/// were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopK {
    /// Which pictures a class may take: `upl` or `nola`; default upl.
    pub rule: TopKRule,
    /// k, at least 1; default 16.
    pub k: usize,
    /// With `nola`, k is at least the share of the pictures that this is of n/C, 0 to 1; default 0.2.
    pub share: f64,
}

/// Which pictures a class may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopKRule {
    /// Those that name it first; a class that nobody names gets none.
    #[default]
    Upl,
    /// Those that name it first, then, while it has fewer than k, those that name it second, third, …; k grows with the data set.
    /// Each picture is taken once.
    Nola,
}

impl Default for TopK {
    fn default() -> Self {
        Self { rule: TopKRule::Upl, k: 16, share: 0.2 }
    }
}

impl Flow for TopK {
    fn gives(&self) -> &'static [What] {
        &[What::Labels] // it chooses pictures for the sake of these
    }
}

impl TopK {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match ((0.0..=1.0).contains(&self.share), self.k) {
            (false, _) => Err(format!("top_k: share must lie in [0, 1], got {}", self.share)),
            (_, 0) => Err("top_k: k must be at least 1".into()),
            _ => Ok(()),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        Ok(Box::new(Chosen { settings: *self, classes: setup.head.classes(), known: None, notice: None }))
    }

    /// k for so many pictures and classes: as it is set, and with `nola` at least ⌊share · n / C⌋.
    pub fn per_class(&self, images: usize, classes: usize) -> usize {
        match self.rule {
            TopKRule::Upl => self.k,
            TopKRule::Nola => self.k.max((self.share * images as f64 / classes.max(1) as f64 + 1e-9) as usize),
        }
    }
}

/// The rows chosen, and the class that each stands for, of probabilities `[n, C]` in row order: class by class, the surest first, of
/// equally sure ones the earlier row. With `later`, a class that has fewer than `k` takes of the rows left those that name it second,
/// then third, ….
pub fn top_k(probabilities: &[f32], classes: usize, k: usize, later: bool) -> (Vec<u32>, Vec<u32>) {
    let p: Vec<&[f32]> = probabilities.chunks_exact(classes.max(1)).collect();
    let orders = p.iter().map(|row| {
        let mut order: Vec<usize> = (0..classes).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order
    });
    let orders: Vec<Vec<usize>> = orders.collect();
    let (mut taken, mut of_class) = (vec![false; p.len()], vec![Vec::new(); classes]);
    for rank in 0..if later { classes } else { classes.min(1) } {
        let mut naming = vec![Vec::new(); classes];
        (0..p.len()).filter(|row| !taken[*row]).for_each(|row| naming[orders[row][rank]].push(row));
        for (class, mut rows) in naming.into_iter().enumerate() {
            rows.sort_by(|a, b| p[*b][class].total_cmp(&p[*a][class]));
            for row in rows.into_iter().take(k.saturating_sub(of_class[class].len())) {
                taken[row] = true;
                of_class[class].push(row as u32);
            }
        }
    }
    let labels = of_class.iter().enumerate().flat_map(|(class, rows)| rows.iter().map(move |_| class as u32)).collect();
    (of_class.concat(), labels)
}

struct Chosen {
    settings: TopK,
    classes: usize,
    known: Option<Known>,
    notice: Option<String>,
}

struct Known {
    /// The class of each picture `[n]` u32; C for one that was not chosen.
    labels: Tensor,
    /// The pictures chosen, ascending.
    images: Vec<u32>,
}

impl Known {
    fn new(labels: Tensor, classes: usize) -> Result<Self> {
        let chosen = (0..).zip(labels.to_vec1::<u32>()?).filter(|(_, class)| (*class as usize) < classes);
        Ok(Self { images: chosen.map(|(index, _)| index).collect(), labels })
    }
}

impl Refine for Chosen {
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets> {
        let Some(Known { labels, .. }) = &self.known else {
            candle_core::bail!("top_k chooses among all pictures: let a Run lead the tuner, or call prepare")
        };
        let chosen = labels.index_select(&rows::indices(views, &targets.labels)?, 0)?; // [b]
        let known = chosen.lt(self.classes as u32)?;
        let labels = known.where_cond(&chosen, &targets.labels)?;
        let confidence = targets.probabilities.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        Ok(Targets { labels, confidence, ..targets })
    }

    fn prepare(&mut self, images: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        let pass = pass()?;
        let (classes, k) = (self.classes, self.settings.per_class(images, self.classes));
        let p = pass.probabilities.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let (chosen, of) = top_k(&p, classes, k, self.settings.rule == TopKRule::Nola);
        let mut labels = vec![classes as u32; images];
        chosen.iter().zip(of).for_each(|(row, class)| labels[pass.indices[*row as usize] as usize] = class);
        let known = Known::new(Tensor::new(labels, pass.features.device())?, classes)?;
        self.notice = Some(format!("top_k: {} of {images} pictures are trained on, at most {k} a class", known.images.len()));
        self.known = Some(known);
        Ok(())
    }

    fn images(&self) -> Option<&[u32]> {
        self.known.as_ref().map(|known| &known.images[..])
    }

    fn notices(&mut self) -> Vec<String> {
        self.notice.take().into_iter().collect()
    }
}

impl Stateful for Chosen {
    fn kind(&self) -> &'static str {
        "top_k"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.known.iter().map(|known| ("labels".to_string(), known.labels.clone())).collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.known = match saved.is_empty() {
            true => None,
            false => Some(Known::new(rows::saved(saved, "labels", &[0])?, self.classes)?),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::tune::refine::tests::batch;

    /// Choices of a reference.
    #[test]
    fn choices_are_the_reference_s() {
        let p = [[0.9f32, 0.1, 0.0], [0.8, 0.15, 0.05], [0.6, 0.1, 0.3], [0.3, 0.7, 0.0], [0.55, 0.05, 0.4]].concat();
        assert_eq!(top_k(&p, 3, 2, false), (vec![0, 1, 3], vec![0, 0, 1]));
        assert_eq!(top_k(&p, 3, 2, true), (vec![0, 1, 3, 4, 2], vec![0, 0, 1, 2, 2]));
        assert_eq!(top_k(&p, 3, 0, true), (vec![], vec![]));
        let nola = TopK { rule: TopKRule::Nola, ..TopK::default() };
        let k = [(13_500, 10, 270), (2_820, 47, 16), (50_000, 10, 1_000)];
        assert!(k.into_iter().all(|(images, classes, k)| nola.per_class(images, classes) == k));
        assert_eq!(TopK::default().per_class(50_000, 10), 16);
    }

    #[test]
    fn chosen_labels_stay() {
        let mut rule = Chosen { settings: TopK::default(), classes: 2, known: None, notice: None };
        let labels = Tensor::new(&[2u32, 1, 0], &Device::Cpu).unwrap();
        rule.restore(&HashMap::from([("labels".to_string(), labels)])).unwrap();
        assert_eq!(rule.images(), Some(&[1u32, 2][..]));
        let (views, targets) = batch(&[[0.7, 0.3], [0.75, 0.25], [0.875, 0.125]]);
        let refined = rule.refine(&views, targets).unwrap();
        assert_eq!(refined.labels.to_vec1::<u32>().unwrap(), [0, 1, 0]);
        assert_eq!(refined.confidence.to_vec1::<f32>().unwrap(), [0.7, 0.25, 0.875]);
    }
}
