//! LaFTer in Candle: label-free tuning of CLIP to your classes (Mirza et al., NeurIPS 2023), as blocks.
//!
//! CLIP puts images and texts into one space. So a classifier can be trained on *texts* about the classes and used on
//! *images*; and once it answers better than chance, the vision tower can be tuned on its own answers. No label is needed:
//! only class names, texts that a language model writes about them, and unlabeled images.
//!
//! # The method in one page
//! With u the text tower, v the vision tower, f a classifier, T texts with their classes, D unlabeled images, α_h a strong
//! and α_w a weak view, v^p the vision tower with visual prompts:
//!
//! 1. Zero-shot: p(c|x) = softmax_c( cos(u_c, v(x)) / τ ) — [`ZeroShotClassifier`]
//! 2. Text classifier: min_θ Σ_(t,c)∈T L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ), n ~ N(0, σ²I) — [`TextClassifier::fit`]
//! 3. Pseudo-label: ĉ(x) = argmax_c f(v(α_w(x))), no gradient — [`tune::Finetuner::pseudo_labels`]
//! 4. Tuning: min_{θ,η} Σ_x∈D L_SCE( f_θ( v^p_η(α_h(x)) ), ĉ(x) ), η = visual prompts and the scale and shift of the vision
//!    tower's layer norms — [`tune::Finetuner::loss`]
//!
//! # The map
//! | module | job |
//! |---|---|
//! | [`clip`] | both towers with open stages, tokenizer, weights of every common layout, the hub |
//! | [`describe`] | class names, templates, descriptions, the text set |
//! | [`classify`] | zero-shot and text classifier, the smoothed cross entropy |
//! | [`augment`] | weak and strong views, of the picture operations in `lafter-loops` |
//! | [`transduct`] | answers from cached features without training |
//! | [`tune`] | visual prompts, pseudo-labels, the tuning loop, saved files |
//! | [`data`] | class folders, Parquet, tar shards, CIFAR, split files, the hub, rendered scenes |
//! | [`nn`] | what Candle lacks or loses gradients in, as plain blocks over the fused operations of `lafter-fast` |
//! | [`embed`] | features of whole data sets and text sets |
//! | [`inputs`] | what was understood of a run's inputs, shown before anything is computed |
//! | [`eval`], [`plot`] | accuracies, signals without labels, report, figures |
//! | [`predictions`] | tables of answers for pictures without labels, folders of links |
//! | [`export`] | the result for other programs: ONNX, a merged CLIP, PyTorch, a model card |
//! | [`notebook`] | pictures, tables and progress in a cell of the LaFTer kernel |
//! | [`pretrain`] | the contrastive trainer that made the demo CLIP |
//! | [`lafter`], [`experiment`], [`gallery`] | the stages composed, a whole run, its pictures |
//! | [`settings`] | presets, every field by its path, the list of all |
//! | [`adapt`] | answers that adapt at test time, a batch at a time |
//! | [`ablate`] | a grid of runs over any setting and seeds, its table |
//! | [`progress`], [`checkpoint`] | events, the time left and interrupts; a training loop's state on disk |
//! | [`hub`], [`files`] | where models and data sets come from and are kept; files that are whole or not there |
//! | [`ranks`] | several processes that share one run |
//! | [`device`], [`allocator`] | where tensors are computed, and the memory of a program that trains |
//! | [`rng`], [`error`] | the one source of randomness, the one error |
//! | [`copying`] | which files a block of this crate needs in yours |
//! | [`for_pytorch_users`] | the same things under PyTorch's names and under these |
//!
//! # The rooms
//! Each room knows only those of its own line and of the lines below (`tests/all/rooms.rs`). What a room is there for is the first
//! line of its documentation; the public ones stand in the map above. Below all of them lie `lafter-fast` (`src/fast`), `lafter-loops`
//! (`src/loops`) and Candle.
//!
//! ```text
//! cli
//! ablate · gallery
//! experiment · shared · watch · export
//! lafter · predictions
//! adapt · settings
//! tune
//! embed · pretrain · transduct
//! classify · inputs · run_folder
//! data
//! clip · describe
//! augment · eval · plot · notebook · hub
//! checkpoint · sealed
//! device · files · progress · config_keys · ranks
//! nn · rng · error · allocator · proxy · catch_panic
//! ```
//!
//! What passes through them, from left to right:
//!
//! ```text
//! class names ─► describe ─► clip (text tower) ─► embed ─► classify (eq. 1, 2) ─┐
//! pictures ─► data ─► augment ─► clip (vision tower) ─► tune (eq. 3, 4) ◄───────┴─► predictions, eval ─► plot, gallery, export
//! ```
//!
//! The method and its handle are [`LaFTer`]; types that belong to it begin with `Lafter` ([`LafterConfig`]), as Rust's names do.
//!
//! Everything random takes an [`Rng`](rng::Rng); everything long reports
//! [`progress`](progress::Event).
//!
//! ```
//! use lafter::prelude::*;
//! let clip = Clip::demo()?;
//! let classes = ["house", "fish", "boat"];
//! let zero_shot = ZeroShotClassifier::fit(&clip, &classes, &Templates::single())?;
//! let texts = TextSet::new(&classes)?.with_templates(&Templates::clip_ensemble());
//! let config = TextClassifierConfig { epochs: 50, ..TextClassifierConfig::official() };
//! let (classifier, history) = TextClassifier::fit(&texts.embed(&clip)?, texts.labels(), &config, &mut Rng::new(7777))?;
//! # let _ = (zero_shot, classifier, history);
//! # Ok::<(), lafter::Error>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod ablate;
pub mod adapt;
pub mod allocator;
pub mod augment;
mod catch_panic;
pub mod checkpoint;
pub mod classify;
pub mod clip;
mod config_keys;
pub mod data;
pub mod describe;
pub mod device;
pub mod embed;
pub mod error;
pub mod eval;
pub mod experiment;
pub mod export;
pub mod files;
pub mod gallery;
pub mod hub;
pub mod inputs;
pub mod lafter;
pub mod nn;
pub mod notebook;
pub mod plot;
pub mod predictions;
pub mod pretrain;
pub mod progress;
mod proxy;
pub mod ranks;
pub mod rng;
mod run_folder;
mod sealed;
pub mod settings;
mod shared;
pub mod transduct;
pub mod tune;
mod watch;

pub use classify::{TextClassifier, TextClassifierConfig, ZeroShotClassifier};
pub use clip::Clip;
pub use error::{Error, Result};
pub use lafter::{LaFTer, Prediction};
pub use settings::{LafterConfig, Preset};

#[doc = include_str!("copying.md")]
pub mod copying {}

#[doc = include_str!("for_pytorch_users.md")]
pub mod for_pytorch_users {}

/// What a notebook cell wants in scope.
pub mod prelude {
    pub use crate::augment::{Preprocess, StrongAugment};
    pub use crate::classify::{
        Head, TextClassifier, TextClassifierConfig, TextTrainer, ZeroShotClassifier, normalize, smoothed_cross_entropy,
    };
    pub use crate::clip::{Clip, ClipLoader};
    pub use crate::data::{self, Dataset};
    pub use crate::describe::{Descriptions, Templates, TextSet};
    pub use crate::embed::Encoded;
    pub use crate::eval::{Evaluation, Report, Table};
    pub use crate::lafter::LaFTer;
    pub use crate::notebook::{Html, Markdown, ShowLast, clear_output, display, input};
    pub use crate::plot::{self, Figure};
    pub use crate::progress::{Event, check_interrupt};
    pub use crate::rng::Rng;
    pub use crate::settings::{LafterConfig, Preset};
    pub use crate::tune::{FinetuneConfig, Finetuner, VisualPrompts};
    pub use crate::{Error, Result};
    pub use candle_core::{DType, Device, Tensor, Var};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
