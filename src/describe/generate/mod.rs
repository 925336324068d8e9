//! Descriptions from any language model: queries, back ends, the journal, cleaning.
//!
//! ```text
//! class names × queries × completions = Plan ─► ask: Generator, many at a time ─► Journal (every answer, at once)
//!                                                                                    │
//!                     Descriptions, file and trace ◄─ collect, write ◄─ Cleaner ◄────┘
//! ```
//! Three back ends stand behind one trait, [`Generator`]:
//! - [`Endpoint`]: any server that speaks OpenAI's API, chat or completion;
//! - `LocalModel`: a quantized GGUF model in this process (feature `llm`);
//! - [`PublishedFile`]: description files that others published.
//!
//! Each is usable by itself ([`Generator::generate`] on one [`Request`]), or under [`describe`] with everything around it.
//!
//! ```
//! use lafter::describe::{Descriptions, generate::{Cleaner, PublishedFile, describe}};
//! let file = Descriptions::parse(r#"{"owl": ["An owl has large eyes.", "An owl has large eyes", "."]}"#, "texts.json")?;
//! let files = PublishedFile::new(&file, &["owl"])?;
//! let (descriptions, collected) = describe(&files, &files.plan(&["owl"])?, &Cleaner::default(), |_| {})?;
//! assert_eq!(descriptions.for_classes(&["owl"])?, [["An owl has large eyes."]]);
//! assert_eq!((collected.counts.duplicates, collected.counts.empty), (1, 1));
//! # Ok::<(), lafter::Error>(())
//! ```

mod api_key;
mod article;
mod ask;
mod clean;
mod collect;
mod duplicates;
mod endpoint;
mod forms;
mod generator;
mod journal;
mod line_file;
#[cfg(feature = "llm")]
mod local;
mod markup;
mod meta;
mod nonsense;
mod pairs;
mod plan;
mod preambles;
mod published;
mod query;
mod random_words;
mod refusals;
mod reply;
mod request;
mod retry;
mod sentences;
mod subject;
mod thoughts;
mod turns;
mod web;

pub use article::article_by_sound;
pub use ask::{Asked, ask, ask_once};
pub use clean::{ClassCleaner, CleanCounts, Cleaner, Keep};
pub use collect::{Collected, collect, next_to, write};
pub use endpoint::Endpoint;
pub use generator::Generator;
pub use journal::{Journal, Record};
#[cfg(feature = "llm")]
pub use local::LocalModel;
pub use meta::{meta_request, queries_of};
pub use pairs::{ConfusedPair, PairRule, confused_pairs, pair_question};
pub use plan::Plan;
pub use published::PublishedFile;
pub use query::{Queries, Query};
pub use random_words::random_words;
pub use request::{Answer, Api, Finish, Key, Request, Settings};
pub use subject::Subject;

use crate::describe::Descriptions;
use crate::error::Result;
use crate::progress::Event;

/// Asks a whole plan, as many requests at a time as the generator likes, and cleans the answers; nothing is written to
/// files. To keep the journal: [`ask`], then [`collect`] or [`write()`].
///
/// # Errors
/// As [`ask`] and [`collect`].
pub fn describe(
    generator: &dyn Generator,
    plan: &Plan,
    cleaner: &Cleaner,
    events: impl FnMut(&Event),
) -> Result<(Descriptions, Collected)> {
    let mut journal = Journal::temporary()?;
    ask(generator, plan, &mut journal, generator.at_once(), events)?;
    collect(plan, generator.model(), &mut journal, cleaner)
}
