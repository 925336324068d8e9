//! Pictures from anywhere: folders, Parquet, tar shards, CIFAR binary, split files, the hub, rendered scenes; and the loader.
//!
//! ```text
//! open(spec) ─► Dataset (names, labels, pictures decoded on access) ─► epoch_batches ─► prefetch ─► Batch
//! ```
//! A [`Dataset`] is a cheap handle. Its labels, if it has any, are for evaluation; training never reads them.
//!
//! ```
//! # fn main() -> lafter::Result<()> {
//! use lafter::data::{self, OpenOptions};
//! # let folder = tempfile::tempdir().map_err(|e| lafter::Error::io("temporary folder", e))?;
//! # let root = folder.path();
//! # for class in ["river", "forest"] {
//! #     std::fs::create_dir(root.join(class)).map_err(|e| lafter::Error::io(root, e))?;
//! #     image::RgbImage::new(4, 4).save(root.join(class).join("a.png")).map_err(|e| lafter::Error::Image(e.to_string()))?;
//! # }
//! let pictures = data::open(&root.display().to_string(), &OpenOptions::default())?;
//! assert_eq!(pictures.classes(), ["forest", "river"]);
//! assert_eq!(pictures.label(1), Some(1));
//! assert_eq!(pictures.image(0)?.dimensions(), (4, 4));
//! # Ok(()) }
//! ```

mod batches;
mod cached;
mod card;
mod card_files;
mod cifar;
mod class_folders;
mod dataset;
pub mod decode;
mod findings;
mod fingerprint;
mod folder;
mod hub;
mod keep;
mod layout;
mod loader;
pub(crate) mod meeting;
mod metadata;
mod open;
mod options;
mod parquet;
mod paths;
mod picture_cache;
mod repeats;
mod sample;
pub mod scenes;
mod shards;
mod skipped;
mod slow;
mod source;
mod split;
mod split_file;
mod split_files;
mod yaml;

pub(crate) use self::parquet::{PREDICTIONS_MARK, is_predictions};
pub use batches::epoch_batches;
pub(crate) use card::front_matter;
pub use class_folders::ClassFolders;
pub use dataset::Dataset;
pub use findings::Findings;
pub use folder::pictures_in;
pub(crate) use folder::{Holds, SORTED, holds_pictures};
pub use loader::{Batch, Prefetch, prefetch, prefetch_with};
pub use open::{open, open_with};
pub use options::OpenOptions;
pub use picture_cache::PictureCache;
pub use skipped::Skipped;
pub(crate) use skipped::SkippedRecord;
pub use source::ImageSource;
pub use split::Split;
