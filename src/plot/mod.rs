//! Pictures as owned SVG: training curves, confusion matrices, grids of views, features in the plane,
//! attention over pictures, histograms, words by class, bars.
//!
//! Inputs are plain numbers, names and pictures; the result is a [`Figure`], which a notebook shows and
//! [`Figure::save`] writes. Axes come from plotters; no system font or library is used: texts name the generic
//! sans-serif family, and margins are computed from text widths measured by [`text_width`], so that no label is cut.
//! Every picture stands on a white panel of its own, readable on light and dark pages, in colors that color-blind
//! readers can tell apart (Okabe & Ito 2008).

mod attention;
mod axes;
mod bars;
mod canvas;
mod confusion;
mod curves;
mod features;
mod figure;
mod histogram;
mod page;
mod palette;
mod pca;
mod png;
mod reliability;
mod scatter;
mod series;
mod spread;
mod text;
mod tsne;
mod views;
mod words;

pub use attention::{AttentionRow, attention, attention_rows};
pub use bars::{Sort, bars};
pub use confusion::{Counts, confusion};
pub use curves::{Panel, curves, panels};
pub(crate) use features::drawn;
pub use figure::Figure;
pub use histogram::{histogram, modality_gap};
pub use page::index_html;
pub use pca::{Pca, pca};
pub use reliability::reliability;
pub use scatter::{scatter, scatter_tsne};
pub use series::Series;
pub use spread::spread_bars;
pub use text::text_width;
pub use tsne::tsne;
pub use views::views;
pub use words::word_counts;
