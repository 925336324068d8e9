//! The one trait of everything that writes descriptions.

use super::request::{Answer, Request};
use crate::error::Result;

/// A source of answers: [`Endpoint`](super::Endpoint) (a server), `LocalModel` (in this process,
/// feature `llm`), [`PublishedFile`](super::PublishedFile) (written earlier by others).
pub trait Generator: Send + Sync {
    /// What it is called in journal and trace; part of an answer's key.
    fn model(&self) -> &str;

    /// How many requests are worth having in flight if the user does not say.
    fn at_once(&self) -> usize {
        1
    }

    /// Told by [`ask`](super::ask()) before the first request if the journal holds answers of this plan: what is refused now is
    /// refused for itself.
    fn known(&self) {}

    /// What the user should know while answers are waited for, each line once: [`ask`](super::ask()) shows them.
    fn news(&self) -> Vec<String> {
        Vec::new()
    }

    /// One answer. May be called from several threads at once.
    ///
    /// # Errors
    /// [`Error::Unanswered`](crate::Error::Unanswered) where this request got no usable answer but another may;
    /// [`Error::Refused`](crate::Error::Refused) where that lies in what it asks;
    /// [`Error::Llm`](crate::Error::Llm) and all others where going on makes no sense.
    fn generate(&self, request: &Request) -> Result<Answer>;
}
