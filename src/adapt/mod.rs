//! Answers that adapt at test time: one batch of pictures at a time, without labels and without a training set.
//!
//! | method | what it does with a batch | remembers earlier batches | gradients |
//! |---|---|---|---|
//! | [`Zero`] | 64 views of each picture, the surest vote | no | no |
//! | [`Tda`] | compares with the surest features so far of each class | **yes** | no |
//! | [`Tent`] | answers, then makes itself surer | **yes** | norms |
//! | [`Watt`] | tunes on the batch for eight templates, averages the weights, answers | no | norms |
//!
//! All answer with a zero-shot classifier (eq. 1) over one CLIP; all but [`Watt`], whose texts are its own, also with a tuned tower, its
//! visual prompts and its head ([`named_tuned`]). What a picture is answered never depends on batches that come after its
//! own. Where "remembers" says yes it depends on those before, so that another order gives other answers; [`Watt`] adapts to the
//! batch as a whole, so its pictures depend on each other.
//!
//! The two that tune norms can collapse on small batches or few classes: both only make answers surer and more alike.
//!
//! ```
//! use lafter::adapt::{Adapt, Tda};
//! use lafter::prelude::*;
//! let (clip, classes) = (Clip::demo()?, ["house", "fish", "boat"]);
//! let zero_shot = ZeroShotClassifier::fit(&clip, &classes, &Templates::single())?;
//! let mut tda = Tda::new(&clip, &zero_shot, Default::default());
//! let side = clip.config().vision.image_size;
//! let pixels = Tensor::zeros((2, 3, side, side), DType::F32, clip.device())?; // a batch of pictures
//! assert_eq!(tda.answer(&pixels)?.dims(), [2, 3]);
//! # Ok::<(), lafter::Error>(())
//! ```

mod base;
mod norms;
mod tda;
mod tent;
mod views;
mod watt;
mod zero;

use candle_core::Tensor;

pub use tda::{Tda, TdaConfig};
pub use tent::{Tent, TentConfig};
pub use views::ManyViews;
pub use watt::{Watt, WattConfig};
pub use zero::{Zero, ZeroConfig};

use crate::ZeroShotClassifier;
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::tune::Tuned;

/// One way to answer a batch of pictures that adapts to what it sees.
pub trait Adapt {
    /// What the command line calls it.
    fn name(&self) -> &'static str;

    /// How many views of each picture it takes; 1 is the weak view alone.
    fn views(&self) -> usize {
        1
    }

    /// True if an answer depends on the batches before it.
    fn remembers(&self) -> bool {
        false
    }

    /// The answers for a batch; the views of a picture stand one after the other, the weak view first.
    ///
    /// # Shapes
    /// pixels `[n · views, 3, side, side]` → logits `[n, C]`.
    ///
    /// # Errors
    /// If the pixels do not fit the tower (Candle's); [`Error::Interrupted`] between two steps.
    fn answer(&mut self, pixels: &Tensor) -> Result<Tensor>;
}

/// The names that [`named`] knows.
pub const NAMES: [&str; 4] = ["zero", "tda", "tent", "watt"];

/// A method by its name, with the published settings, on the classes of a zero-shot classifier. `classes` are the names: WATT puts them
/// into templates of its own.
///
/// # Errors
/// [`Error::Usage`] for any other name; [`Error::Tokenizer`] for a class name that cannot be tokenized.
pub fn named(name: &str, clip: &Clip, zero_shot: &ZeroShotClassifier, classes: &[String]) -> Result<Box<dyn Adapt>> {
    Ok(match name {
        "zero" => Box::new(Zero::new(clip, zero_shot, ZeroConfig::default())),
        "tda" => Box::new(Tda::new(clip, zero_shot, TdaConfig::default())),
        "tent" => Box::new(Tent::new(clip, zero_shot, TentConfig::default())?),
        "watt" => Box::new(Watt::fit(clip, classes, WattConfig::default())?),
        _ => return Err(unknown(name)),
    })
}

/// A method by its name, with the published settings, over weights that were tuned on this CLIP.
///
/// # Errors
/// [`Error::Usage`] for `watt`, which answers with texts of its own and so without the tuned head, and for any other name.
pub fn named_tuned(name: &str, clip: &Clip, tuned: &Tuned) -> Result<Box<dyn Adapt>> {
    Ok(match name {
        "zero" => Box::new(Zero::over_tuned(clip, tuned, ZeroConfig::default())),
        "tda" => Box::new(Tda::over_tuned(clip, tuned, TdaConfig::default())),
        "tent" => Box::new(Tent::over_tuned(clip, tuned, TentConfig::default())?),
        "watt" => {
            let what = "watt answers with texts of its own, not with a tuned head: choose zero, tda or tent, or leave the weights out";
            return Err(Error::Usage(what.into()));
        }
        _ => return Err(unknown(name)),
    })
}

fn unknown(name: &str) -> Error {
    Error::Usage(format!("no test-time adaptation is called {name}: choose one of {}", NAMES.join(", ")))
}
