//! Zero-shot, the text classifier, the mean of both or the tuned tower: which of them fits the pictures best, without a label.

use serde::{Deserialize, Serialize};

use super::selection::ONE_SIDED;

/// A candidate crowds if its most frequent answer has [`ONE_SIDED`] of the pictures and so many times the least such share of all.
const CROWDED: f64 = 1.5;

/// How often each candidate answers as the class means of its own features do, on up to 2,000 training pictures.
///
/// Each is a share from 0 to 1: of pictures whose nearest class mean is that of the answer they got, the mean of a class being taken
/// over the unit features of all *other* pictures with that answer. Zero-shot, the text classifier and their mean have the features of
/// the untouched tower, an epoch its own. It is the one signal that does not depend on the size of the logits, so zero-shot, a head that
/// comes from texts and a tuned one can be compared by it.
///
/// Where it misleads: answers that crowd into a few classes agree with their means, so only an epoch that keeps its classes is asked
/// ([`selected`](super::selected)), and no candidate that gives over 70 % of the pictures one answer, and half as many again as another
/// gives its most frequent; and where pictures of a class do not lie together, it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fits {
    /// How many pictures.
    pub pictures: usize,
    /// The share of zero-shot's answers.
    pub zero_shot: f64,
    /// The share of the text classifier's answers, before tuning.
    pub text_classifier: f64,
    /// The share of the mean of both ([`mean_with`](crate::classify::TextClassifier::mean_with)), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The epoch that was asked, from 1; `None` if none met the conditions of [`selected`](super::selected).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<usize>,
    /// The share of its answers; `None` if its weights are not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<f64>,
    /// The share of pictures with the most frequent answer, of each.
    #[serde(default)]
    pub largest: LargestShares,
}

/// The share of pictures that get the most frequent answer, 0 to 1, by candidate; 0 of one that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LargestShares {
    /// Of zero-shot's answers.
    pub zero_shot: f64,
    /// Of the text classifier's, before tuning.
    pub text_classifier: f64,
    /// Of those of the mean of both.
    pub mean: f64,
    /// Of the tuned tower's.
    pub tuned: f64,
}

/// What the signals choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Zero-shot, untuned.
    ZeroShot,
    /// The text classifier, untuned.
    TextClassifier,
    /// The mean of the two, untuned.
    Mean,
    /// The tuned tower after this epoch, from 1.
    Epoch(usize),
}

impl Choice {
    fn name(self) -> String {
        match self {
            Self::ZeroShot => "zero-shot".into(),
            Self::TextClassifier => "the text classifier".into(),
            Self::Mean => "their mean".into(),
            Self::Epoch(epoch) => format!("epoch {epoch}"),
        }
    }
}

impl Fits {
    /// The candidate with the greatest share; of equal ones the one that needs less: the text classifier, zero-shot, their mean, tuning.
    /// One that crowds is not asked.
    ///
    /// ```
    /// use lafter::eval::{Choice, Fits};
    /// let before = Fits { pictures: 1000, zero_shot: 0.91, text_classifier: 0.89, mean: Some(0.90), ..Fits::default() };
    /// assert_eq!(before.choice(), Choice::ZeroShot);
    /// assert_eq!(Fits { epoch: Some(7), tuned: Some(0.94), ..before }.choice(), Choice::Epoch(7));
    /// ```
    pub fn choice(&self) -> Choice {
        let mut best = (Choice::TextClassifier, f64::NEG_INFINITY);
        for (choice, share, largest) in self.candidates() {
            if let Some(share) = share.filter(|share| *share > best.1 && !self.crowds(largest)) {
                best = (choice, share);
            }
        }
        best.0
    }

    /// Each with its share, if it is there, and that of its most frequent answer.
    fn candidates(&self) -> [(Choice, Option<f64>, f64); 4] {
        let LargestShares { zero_shot, text_classifier, mean, tuned } = self.largest;
        [
            (Choice::TextClassifier, Some(self.text_classifier), text_classifier),
            (Choice::ZeroShot, Some(self.zero_shot), zero_shot),
            (Choice::Mean, self.mean, mean),
            (Choice::Epoch(self.epoch.unwrap_or_default()), self.tuned, tuned),
        ]
    }

    fn crowds(&self, largest: f64) -> bool {
        let there = self.candidates().into_iter().filter_map(|(_, share, largest)| share.map(|_| largest));
        largest > ONE_SIDED && largest > CROWDED * there.fold(f64::INFINITY, f64::min)
    }

    /// The shares in words.
    pub fn said(&self) -> String {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let tuned = match self.epoch.zip(self.tuned) {
            Some((epoch, tuned)) => format!("{} of epoch {epoch}", percent(tuned)),
            None => "no epoch met the conditions".into(),
        };
        let mean = self.mean.map_or_else(String::new, |mean| format!("{} of the mean of both, ", percent(mean)));
        let (zero_shot, text) = (percent(self.zero_shot), percent(self.text_classifier));
        let crowding = self.candidates().into_iter().filter(|(_, share, largest)| share.is_some() && self.crowds(*largest));
        let crowding = crowding
            .map(|(choice, _, largest)| format!("; {} is not asked: it gives {} of them one answer", choice.name(), percent(largest)));
        let crowding: String = crowding.collect();
        format!(
            "answers that are those of the nearest class mean: {zero_shot} of zero-shot, {text} of the text classifier, {mean}{tuned}{crowding}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fit_is_chosen_and_a_tie_goes_to_what_comes_first() {
        let fits = |zero_shot, text_classifier, tuned: Option<f64>| {
            Fits { pictures: 1000, zero_shot, text_classifier, epoch: tuned.map(|_| 3), tuned, ..Fits::default() }.choice()
        };
        assert_eq!(fits(0.8, 0.8, None), Choice::TextClassifier);
        assert_eq!(fits(0.8, 0.7, None), Choice::ZeroShot);
        assert_eq!(fits(0.8, 0.7, Some(0.8)), Choice::ZeroShot);
        assert_eq!(fits(0.7, 0.8, Some(0.75)), Choice::TextClassifier);
        assert_eq!(fits(0.7, 0.8, Some(0.85)), Choice::Epoch(3));
        let tuned = Fits { pictures: 1000, zero_shot: 0.7, text_classifier: 0.8, epoch: Some(3), tuned: Some(0.85), ..Fits::default() };
        let both = |mean| Fits { mean: Some(mean), ..tuned };
        assert_eq!((both(0.84).choice(), both(0.86).choice()), (Choice::Epoch(3), Choice::Mean));
        let said = Fits { pictures: 9, zero_shot: 0.5, text_classifier: 0.25, epoch: Some(2), tuned: Some(0.125), ..tuned }.said();
        assert!(said.contains("50.0 % of zero-shot, 25.0 % of the text classifier, 12.5 % of epoch 2"), "{said}");
    }

    /// All pictures in one class agree with its mean, as any do.
    #[test]
    fn what_crowds_is_not_asked_unless_all_do() {
        let largest = LargestShares { zero_shot: 0.99, text_classifier: 0.3, mean: 0.8, tuned: 0.0 };
        let fits = Fits { pictures: 1000, zero_shot: 1.0, text_classifier: 0.9, mean: Some(0.95), largest, ..Fits::default() };
        assert_eq!(fits.choice(), Choice::TextClassifier);
        let said = fits.said();
        assert!(said.contains("; zero-shot is not asked: it gives 99.0 % of them one answer; their mean is not asked"), "{said}");
        let skewed = Fits { largest: LargestShares { text_classifier: 0.8, ..largest }, ..fits };
        assert_eq!(skewed.choice(), Choice::ZeroShot, "so the set may be");
        assert!(!skewed.said().contains("not asked") && skewed.said().contains("no epoch met the conditions"));
    }
}
