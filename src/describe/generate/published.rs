//! Descriptions that others generated: CuPL's JSON, and the releases of LaFTer and MPVR, which share the format.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::generator::Generator;
use super::query::Queries;
use super::request::{Answer, Finish, Request};
use crate::describe::Descriptions;
use crate::error::{Error, Result};

/// A description file as a generator: its answer to any query about a class is that class's sentences, one per line.
///
/// ```
/// use lafter::describe::{Descriptions, generate::{PublishedFile, Generator, Plan, Settings}};
/// let file = Descriptions::parse(r#"{"polar bear": ["A white bear.", "It lives on ice."]}"#, "texts.json")?;
/// let classes = ["polar_bear"];
/// let files = PublishedFile::new(&file, &classes)?;
/// let plan = files.plan(&classes)?;
/// assert_eq!(files.generate(&plan.request(0))?.text, "A white bear.\nIt lives on ice.");
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct PublishedFile {
    model: String,
    sentences: Arc<Vec<Vec<String>>>,
}

impl PublishedFile {
    /// The sentences of these classes, spellings matched as [`Descriptions::for_classes`] does.
    ///
    /// # Errors
    /// As [`Descriptions::for_classes`].
    pub fn new<S: AsRef<str>>(descriptions: &Descriptions, classes: &[S]) -> Result<Self> {
        let sentences = descriptions.for_classes(classes)?;
        let origin = descriptions.origin();
        let name = Path::new(origin).file_name().map_or(origin.to_string(), |name| name.to_string_lossy().into_owned());
        let mut hash = Sha256::new();
        for (class, sentences) in classes.iter().zip(&sentences) {
            hash.update(format!("{}\0\0", class.as_ref()));
            sentences.iter().for_each(|sentence| hash.update(format!("{sentence}\0")));
        }
        let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        // the content, class by class, is part of the name, so that a file which changed is read anew
        Ok(Self { model: format!("{name}@{hash}"), sentences: Arc::new(sentences) })
    }

    /// One request per class: all of its sentences.
    ///
    /// # Errors
    /// As [`Plan::new`](super::Plan::new).
    pub fn plan<S: AsRef<str>>(&self, classes: &[S]) -> Result<super::Plan> {
        Ok(super::Plan::new(classes, Queries::new(["all sentences of {}"])?, 1, super::Settings::default())?.not_drawn())
    }
}

impl Generator for PublishedFile {
    fn model(&self) -> &str {
        &self.model
    }

    fn generate(&self, request: &Request) -> Result<Answer> {
        let sentences = request.class.and_then(|class| self.sentences.get(class));
        let sentences = sentences.ok_or_else(|| Error::Unanswered(format!("{} has no sentences for this request", self.model)))?;
        let lines: Vec<String> = sentences.iter().map(|s| s.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Ok(Answer { text: lines.join("\n"), finish: Finish::Stop })
    }
}

impl fmt::Debug for PublishedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishedFile({}, {} classes)", self.model, self.sentences.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::generate::{Cleaner, describe};

    #[test]
    fn classes_of_one_name_keep_their_own_sentences() {
        let file =
            Descriptions::parse(r#"[["A bird stands there."], ["A boat floats."], ["A machine lifts steel."]]"#, "by_index.json").unwrap();
        let names = ["crane", "boat", "crane"];
        let files = PublishedFile::new(&file, &names).unwrap();
        let (read, _) = describe(&files, &files.plan(&names).unwrap(), &Cleaner::default(), |_| {}).unwrap();
        assert_eq!(read.for_classes(&names).unwrap(), [["A bird stands there."], ["A boat floats."], ["A machine lifts steel."]]);
    }

    #[test]
    fn a_sentence_that_moves_to_another_class_makes_another_file() {
        let file = |text: &str| PublishedFile::new(&Descriptions::parse(text, "f").unwrap(), &["cat", "dog"]).unwrap();
        let before = file(r#"{"cat": ["It purrs.", "It barks."], "dog": ["It digs."]}"#);
        let after = file(r#"{"cat": ["It purrs."], "dog": ["It barks.", "It digs."]}"#);
        assert_ne!(before.model(), after.model());
    }

    #[test]
    fn debris_in_one_sentence_leaves_the_others() {
        let file =
            Descriptions::parse(r#"{"cat": ["A cat has fur.", "It sits.</s>", "hm</think>It has long whiskers.</s>More."]}"#, "f").unwrap();
        let files = PublishedFile::new(&file, &["cat"]).unwrap();
        let (read, collected) = describe(&files, &files.plan(&["cat"]).unwrap(), &Cleaner::default(), |_| {}).unwrap();
        assert_eq!(read.for_classes(&["cat"]).unwrap()[0], ["A cat has fur.", "It has long whiskers."]);
        assert_eq!((collected.counts.answers, collected.counts.too_short), (1, 1));
    }
}
