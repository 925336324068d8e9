//! [`ClipSummary`]: what was understood when a CLIP was loaded.

use super::EndOfText;
use crate::augment::Preprocess;

/// What was understood when a CLIP was loaded, in a few words each: it is shown before a run computes anything. What was
/// unusual stands in [`Clip::notices`](super::Clip::notices).
///
/// ```
/// let summary = lafter::clip::Clip::demo()?.summary().clone();
/// assert_eq!(summary.end_of_text, "at the first <|endoftext|> (id 967)");
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClipSummary {
    /// Whose layout the files have, and which file holds the sizes: `transformers (config.json)`.
    pub layout: String,
    /// The files that hold the weights: `model.safetensors`.
    pub weights: String,
    /// The commit of a model of the hub.
    pub commit: Option<String>,
    /// Size and filter of the views, and where they came from: `224 pixels, bicubic (preprocessor_config.json)`.
    pub image_settings: String,
    /// Where the tokenizer came from: `tokenizer.json`.
    pub tokenizer: String,
    /// Where a text's feature is read: `at the first <|endoftext|> (id 49407)`.
    pub end_of_text: String,
}

/// Where a text's feature is read, in words; `end` is the tokenizer's end of text.
pub(super) fn end_of_text(rule: EndOfText, end: (&str, u32)) -> String {
    match rule {
        EndOfText::First(id) if id == end.1 => format!("at the first {} (id {id})", end.0),
        EndOfText::First(id) => format!("at the first id {id}"),
        EndOfText::HighestId => format!("at the highest id ({} is {})", end.0, end.1),
    }
}

/// The settings of the views in a few words.
pub(super) fn image_settings(weak: &Preprocess, source: &str) -> String {
    let filter = format!("{:?}", weak.resample).to_lowercase();
    format!("{} pixels, {filter} ({source})", weak.side())
}
