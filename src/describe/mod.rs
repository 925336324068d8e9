//! Texts for classes: names, templates, descriptions, and the [`TextSet`] that joins them.
//!
//! ```text
//! class names ─► templates ────┐
//!             ─► descriptions ─┴► TextSet: (sentence, class index) pairs, the T of equation 2
//! ```
//! A class is its index: two classes may share a name. Sources of sentences:
//! - [`Templates`]: "a photo of a {}" and its like;
//! - [`Descriptions`]: sentences written by a language model, read from CuPL's JSON, or asked for by [`generate`].
//!
//! ```
//! # fn main() -> lafter::Result<()> {
//! use lafter::describe::{Descriptions, Templates, TextSet};
//! let classes = ["river", "forest"];
//! let descriptions = Descriptions::parse(
//!     r#"{"river": ["A river is a band of water.", "."], "forest": ["A forest is a dense stand of trees."]}"#,
//!     "the example",
//! )?;
//! let texts = TextSet::new(&classes)?.with_templates(&Templates::single()).with_descriptions(&descriptions)?;
//! assert_eq!(texts.sentences()[1], "a photo of a forest");
//! assert_eq!(texts.labels(), [0, 1, 0, 1]);
//! assert_eq!(texts.counts().dropped_empty, 1);
//! # Ok(()) }
//! ```

mod class_list;
mod cupl_json;
mod descriptions;
pub mod generate;
mod literal;
pub(crate) mod names;
pub(crate) mod relabel;
mod spoken;
mod templates;
mod text_set;
pub(crate) mod unusual;

pub use class_list::read_class_names;
pub use descriptions::Descriptions;
pub use names::ClassNames;
pub use spoken::spoken;
pub use templates::{Template, Templates, article};
pub use text_set::{Counts, Source, TextSet};
