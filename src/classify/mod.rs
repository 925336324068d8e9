//! From texts to a classifier: zero-shot (eq. 1) and trained on noisy text features (eq. 2).

mod fused_texts;
mod head;
mod mean;
mod noisy_texts;
mod text_config;
mod trainer;
mod zero_shot;

pub use head::{Head, TextClassifier};
pub use noisy_texts::NoisyTexts;
pub(crate) use text_config::{MOST_EPOCHS, optimizer_fault};
pub use text_config::{TextClassifierConfig, TextEpoch, TextStart};
pub use trainer::{HeldOut, TextTrainer};
pub use zero_shot::ZeroShotClassifier;

pub use crate::nn::{normalize, smoothed_cross_entropy, smoothed_cross_entropy_rows};

use std::collections::HashMap;

use crate::clip::Clip;
use crate::describe::Templates;
use crate::describe::names::visible;
use crate::error::{Error, Result, cut};
use crate::progress::{Event, silent};
use crate::ranks::{Alone, Ranks};

impl ZeroShotClassifier {
    /// Embeds every class name in every template.
    ///
    /// # Errors
    /// [`Error::Text`](crate::Error::Text) without a class or for one without a name, [`Error::Tokenizer`](crate::Error::Tokenizer) for a text that
    /// cannot be tokenized, [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn fit(clip: &Clip, classes: &[impl AsRef<str>], templates: &Templates) -> Result<Self> {
        Self::fit_among(&Alone, clip, classes, templates, silent)
    }

    /// [`fit`](Self::fit) shared among ranks: each embeds some of the texts, and all get the classifier of one process. `events` hears
    /// of texts that are too long, and of classes that are therefore one.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); if a rank is gone.
    pub fn fit_among(
        ranks: &dyn Ranks,
        clip: &Clip,
        classes: &[impl AsRef<str>],
        templates: &Templates,
        mut events: impl FnMut(&Event),
    ) -> Result<Self> {
        if classes.is_empty() || classes.iter().any(|class| visible(class.as_ref()).trim().is_empty()) {
            return Err(Error::Text("a class has no name, or there is none: give at least one class, each with a name".into()));
        }
        let texts: Vec<String> = classes.iter().flat_map(|class| templates.fill(class.as_ref())).collect();
        let labels: Vec<usize> = (0..classes.len()).flat_map(|class| std::iter::repeat_n(class, templates.len())).collect();
        same_to_the_tower(clip, classes, templates)?.into_iter().for_each(|notice| events(&Event::Notice(notice)));
        let notices = |event: &Event| {
            if let Event::Notice(_) = event {
                events(event)
            }
        };
        Ok(Self::from_features(&clip.encode_text_among(ranks, &texts, notices)?, &labels, clip.logit_scale())?)
    }
}

/// Classes of different names whose first prompts are the same once they are cut: they get the same answer.
fn same_to_the_tower(clip: &Clip, classes: &[impl AsRef<str>], templates: &Templates) -> Result<Option<String>> {
    let prompts: Vec<String> = classes.iter().filter_map(|class| templates.fill(class.as_ref()).into_iter().next()).collect();
    let tokens = clip.tokenizer().encode(&prompts)?;
    if tokens.cut == 0 {
        return Ok(None);
    }
    let (mut first, mut same) = (HashMap::new(), Vec::new());
    for (at, ids) in tokens.ids.iter().enumerate() {
        match first.get(ids) {
            Some(earlier) if prompts[*earlier] != prompts[at] => same.push((*earlier, at)),
            Some(_) => {}
            None => drop(first.insert(ids, at)),
        }
    }
    Ok(same.first().map(|(a, b)| {
        let (a, b, context) = (cut(classes[*a].as_ref()), cut(classes[*b].as_ref()), clip.config().text.context);
        let count = same.len();
        format!(
            "{count} classes read as others, such as \"{b}\" as \"{a}\": this CLIP reads {context} tokens: give shorter names or templates"
        )
    }))
}
