//! Answers without training, from cached features of many pictures at once.
//!
//! Each picture's answer depends on the others': where CLIP's texts are unsure, the pictures' own groups decide. This is called
//! *transductive*; it needs no step of training, no tower and no label, only the features that [`embed`](crate::embed) or
//! `lafter embed` makes.
//!
//! | method | what | all classes there | few of them |
//! |---|---|---|---|
//! | [`Stata`] | Gaussians, each held to its text | better than texts | loses less than the next two; the default |
//! | [`Transclip`] | Gaussians with one spread | better | **breaks** |
//! | [`Zlap`] | label propagation | better | **breaks** |
//! | [`Neighbors`] | a mean over the nearest | better | holds |
//!
//! StatA's authors measure on average over eleven data sets (ViT-B/16; CLIP 65.2 %), with 1–4 classes in batches of 64: ZLaP 27.5,
//! TransCLIP 38.9, StatA 70.4; with all: 66.4, 70.3, 69.9. So choose by what you know of your pictures. Where pictures of a class
//! hardly lie together there is nothing to gain: with the demo CLIP StatA answers about as texts do where all classes are there, and
//! loses 8 points where one is (lesson 12).
//!
//! Nothing here takes memory n·C·d or n·n: n × C numbers a few times over, and n × 2d. A graph of nearest pictures ([`nearest`], exact)
//! multiplies each pair once, n²·d/2, and is the longest part from some ten thousands of pictures on. Its products are f32, so of pictures
//! whose cosines all lie above 0.999 it cannot tell well which are nearest.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use lafter::transduct::{Features, Transduct};
//! let pictures = Tensor::new(&[[1f32, 0.], [0.8, 0.6], [0.6, 0.8], [0., 1.]], &Device::Cpu)?;
//! let texts = Tensor::new(&[[1f32, 0.1], [0.3, 1.]], &Device::Cpu)?;
//! let features = Features::new(&pictures, &texts, 100.0)?;
//! let p = Transduct::named("neighbors")?.probabilities(&features, |_| {})?; // rows sum to 1
//! assert_eq!(p.dims(), [4, 2]);
//! # Ok::<(), lafter::Error>(())
//! ```

mod features;
mod graph;
mod nearest;
mod neighbors;
mod rounds;
mod stata;
mod transclip;
mod zlap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use features::{Features, directions};
pub use graph::Graph;
pub use nearest::{Nearest, nearest};
pub use neighbors::Neighbors;
use rounds::Rounds;
pub use stata::Stata;
pub use transclip::Transclip;
pub use zlap::Zlap;

use crate::error::{Error, Result};
use crate::progress::{Event, watched};

/// A way to answer without training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transduct {
    /// [`Stata`], which loses less than the next two where classes are absent.
    Stata(Stata),
    /// [`Transclip`], for sets that show all classes.
    Transclip(Transclip),
    /// [`Zlap`], for sets that show all classes.
    Zlap(Zlap),
    /// [`Neighbors`], the plainest.
    #[serde(alias = "neighbours")] // as earlier versions wrote it
    Neighbors(Neighbors),
}

/// Updates and rounds at most: more would not end.
const MOST: usize = 1_000_000;
/// With a greater power no cosine but 1 is left.
const MOST_POWER: f64 = 1000.0;

impl Default for Transduct {
    fn default() -> Self {
        Self::Stata(Stata::default())
    }
}

impl Transduct {
    /// The names that [`named`](Self::named) knows.
    pub const NAMES: [&str; 4] = ["stata", "transclip", "zlap", "neighbors"];

    /// A method by its name, with the published settings.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other name.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "stata" => Self::Stata(Stata::default()),
            "transclip" => Self::Transclip(Transclip::default()),
            "zlap" => Self::Zlap(Zlap::default()),
            "neighbors" | "neighbours" => Self::Neighbors(Neighbors::default()),
            _ => return Err(Error::Usage(format!("no transductive method is called {name}: choose one of {}", Self::NAMES.join(", ")))),
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stata(_) => "stata",
            Self::Transclip(_) => "transclip",
            Self::Zlap(_) => "zlap",
            Self::Neighbors(_) => "neighbors",
        }
    }

    /// What cannot work, in one line.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, field: &str, value: f64, may: &str| match holds {
            true => Ok(()),
            false => Err(format!("{}: {field} must {may}, got {value}", self.name())),
        };
        let soft = |softness: Option<f64>| match softness {
            Some(value) => rule(value > 0.0 && value.is_finite(), "softness", value, "be above 0 and finite"),
            None => Ok(()),
        };
        let least = |field, value: f64| rule(value >= 0.0 && value.is_finite(), field, value, "be at least 0 and finite");
        let few = |field, value: usize| rule(value <= MOST, field, value as f64, &format!("be at most {MOST}"));
        match *self {
            Self::Stata(Stata { updates, rounds, anchor, softness, .. }) => {
                few("updates", updates).and(few("rounds", rounds)).and(least("anchor", anchor)).and(soft(softness))
            }
            Self::Transclip(Transclip { updates, rounds, softness, .. }) => {
                few("updates", updates).and(few("rounds", rounds)).and(soft(softness))
            }
            Self::Zlap(Zlap { neighbors, power, spread, tolerance }) => least("tolerance", tolerance)
                .and(rule(neighbors > 0, "neighbors", neighbors as f64, "be at least 1"))
                .and(rule((0.0..=MOST_POWER).contains(&power), "power", power, "lie in [0, 1000]"))
                .and(rule(spread > 0.0 && spread < 1.0, "spread", spread, "lie between 0 and 1")),
            Self::Neighbors(Neighbors { share, rounds, .. }) => {
                few("rounds", rounds).and(rule((0.0..=1.0).contains(&share), "share", share, "lie in [0, 1]"))
            }
        }
    }

    /// True if it takes every class to be among the pictures.
    pub fn needs_all_classes(&self) -> bool {
        matches!(self, Self::Transclip(_) | Self::Zlap(_))
    }

    /// Probabilities `[n, C]`, rows that sum to 1. They are not calibrated. A notice says so if the method needs all classes and
    /// texts alone name too few.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot work; [`Error::Interrupted`]; Candle's if the device has no memory left.
    pub fn probabilities(&self, features: &Features, events: impl FnMut(&Event)) -> Result<Tensor> {
        self.check().map_err(Error::Usage)?;
        let mut events = watched(events);
        let events: &mut dyn FnMut(&Event) = &mut events;
        if let Some(warning) = self.warning(features)? {
            events(&Event::Notice(warning));
        }
        match self {
            Self::Stata(method) => method.probabilities(features, events),
            Self::Transclip(method) => method.probabilities(features, events),
            Self::Zlap(method) => method.probabilities(features, events),
            Self::Neighbors(method) => method.probabilities(features, events),
        }
    }

    /// What speaks against this method on these pictures: classes that texts give to none of them.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn warning(&self, features: &Features) -> Result<Option<String>> {
        if !self.needs_all_classes() {
            return Ok(None);
        }
        let named = features::named(&features.text_logits()?)?.into_iter().filter(|count| *count > 0).count();
        let (name, classes) = (self.name(), features.classes());
        Ok((named < classes).then(|| {
            format!(
                "{name} takes every class to be among the pictures, and texts name {named} of {classes} classes: where classes are \
                 absent its answers get worse, with stata less so"
            )
        }))
    }
}
