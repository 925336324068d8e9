//! The texts nearest to the pictures that a class got.

use candle_core::{Device, Tensor};

use super::contact::most_changed;
use crate::classify::normalize;
use crate::embed;
use crate::error::Result;
use crate::eval::{Table, unique_names};
use crate::experiment::Experiment;
use crate::plot::drawn;
use crate::predictions::Picks;
use crate::progress::silent;

/// Of more texts than this some are drawn.
const MOST_TEXTS: usize = 1000;
/// Texts shown of each class.
const SHOWN: usize = 3;

/// For each class the texts whose features have the largest cosine with the mean feature of its surest pictures, in the untouched
/// towers: what CLIP sees in what was called so. A text that was written for another class is marked with it. Up to twelve classes,
/// those that tuning changed most; of more than 1,000 texts as many are drawn and looked at.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) if a tower fails; [`Error::Interrupted`](crate::Error::Interrupted).
pub fn nearest_texts(experiment: &Experiment, picks: &Picks) -> Result<Table> {
    let (clip, texts, pictures) = (&experiment.clip, &experiment.texts, &experiment.train);
    let chosen = drawn(texts.len(), MOST_TEXTS);
    let sentences: Vec<String> = chosen.iter().map(|text| texts.sentences()[*text].clone()).collect();
    let features = normalize(&embed::texts(clip, &sentences, experiment.cache.as_ref(), silent)?)?; // [t, d]
    let classes = unique_names(texts.classes());
    let mut table = Table::new(&["pictures called", "nearest texts", "cosine"]);
    for (class, picked) in most_changed(picks) {
        let views: Vec<f32> = picked
            .surest
            .iter()
            .filter_map(|row| pictures.image(row.index).ok())
            .flat_map(|picture| clip.preprocess().apply(&picture))
            .collect();
        let side = clip.preprocess().side();
        let n = views.len() / (3 * side * side);
        if n == 0 {
            continue;
        }
        let pixels = Tensor::from_vec(views, (n, 3, side, side), clip.device())?;
        let mean = normalize(&normalize(&clip.encode_image(&pixels)?)?.mean_keepdim(0)?)?; // [1, d]
        let cosines = mean.matmul(&features.t()?)?.squeeze(0)?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        let mut order: Vec<usize> = (0..cosines.len()).collect();
        order.sort_by(|a, b| cosines[*b].total_cmp(&cosines[*a]));
        for (at, text) in order.into_iter().take(SHOWN).enumerate() {
            let of = &classes[texts.labels()[chosen[text]]];
            let mark = if of == class { String::new() } else { format!(" (written for {of})") };
            let name = if at == 0 { class.to_string() } else { String::new() };
            table.push([name, format!("{}{mark}", sentences[text]), format!("{:.3}", cosines[text])]);
        }
    }
    Ok(table)
}
