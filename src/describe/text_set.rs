//! The text set: sentences with the index of their class, the T of equation 2.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::describe::descriptions::{Descriptions, is_empty_sentence};
use crate::describe::names::ClassNames;
use crate::describe::spoken::spoken;
use crate::describe::templates::Templates;
use crate::error::{Result, noun};

/// Where a sentence came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Source {
    /// The class name alone.
    ClassName,
    /// A template filled with the class name.
    Template,
    /// A description.
    Description,
}

/// How many sentences were kept, by source, and how many were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Kept: class names alone.
    pub class_names: usize,
    /// Kept: filled templates.
    pub templates: usize,
    /// Kept: descriptions.
    pub descriptions: usize,
    /// Dropped: descriptions that were blank or a lone full stop.
    pub dropped_empty: usize,
    /// Dropped: sentences that their class already had, letter for letter.
    pub dropped_duplicates: usize,
}

/// Sentences for classes. A class is its index into the class names, so that classes may share a name.
///
/// Sources are added one after the other; within a source, sentences stand by class, then in their own order. An exact
/// duplicate within a class is dropped and counted, also across sources; the same sentence for two classes stays.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::describe::{Source, Templates, TextSet};
/// let texts = TextSet::new(&["river", "forêt"])?.with_class_names().with_templates(&Templates::single());
/// assert_eq!(texts.sentences(), ["river", "forêt", "a photo of a river", "a photo of a forêt"]);
/// assert_eq!(texts.labels(), [0, 1, 0, 1]);
/// assert_eq!(texts.sources()[2], Source::Template);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TextSet {
    /// Shared by clones: the runs of a grid hold the same texts once.
    texts: Arc<Texts>,
    counts: Counts,
    notices: Vec<String>,
}

#[derive(Clone, Default)]
struct Texts {
    classes: Vec<String>,
    sentences: Vec<String>,
    labels: Vec<usize>,
    sources: Vec<Source>,
    hash: OnceLock<String>,
}

/// What a class has already, letter for letter; made anew by each step of building.
type Seen = HashSet<(usize, String)>;

impl TextSet {
    /// An empty set for these classes, in label order. Names may repeat.
    ///
    /// # Errors
    /// [`crate::Error::Text`] if there is no class, or a name is empty.
    pub fn new<S: AsRef<str>>(classes: &[S]) -> Result<Self> {
        let classes = ClassNames::new(classes)?.names().to_vec();
        Ok(Self { texts: Arc::new(Texts { classes, ..Texts::default() }), counts: Counts::default(), notices: Vec::new() })
    }

    /// Adds each class name alone, as a sentence, as [`spoken`].
    pub fn with_class_names(mut self) -> Self {
        let mut seen = self.seen();
        for (label, name) in self.classes().to_vec().into_iter().enumerate() {
            self.add(label, spoken(&name), Source::ClassName, &mut seen);
        }
        self
    }

    /// Adds every template, filled with every class name.
    pub fn with_templates(mut self, templates: &Templates) -> Self {
        let mut seen = self.seen();
        for (label, name) in self.classes().to_vec().iter().enumerate() {
            for sentence in templates.fill(name) {
                self.add(label, sentence, Source::Template, &mut seen);
            }
        }
        self
    }

    /// Adds the descriptions of every class; empty ones are dropped and counted.
    ///
    /// # Errors
    /// As [`Descriptions::for_classes`]: every class must be described. Entries of other classes are left out with a
    /// [notice](Self::notices).
    pub fn with_descriptions(mut self, descriptions: &Descriptions) -> Result<Self> {
        self.notices.extend(descriptions.notice_of_unused(self.classes()));
        let mut seen = self.seen();
        for (label, sentences) in descriptions.for_classes(self.classes())?.into_iter().enumerate() {
            for sentence in sentences {
                if is_empty_sentence(&sentence) {
                    self.counts.dropped_empty += 1;
                } else {
                    self.add(label, sentence, Source::Description, &mut seen);
                }
            }
        }
        Ok(self)
    }

    /// The sentences of one source alone.
    ///
    /// ```
    /// use lafter::describe::{Source, Templates, TextSet};
    /// let texts = TextSet::new(&["river"])?.with_class_names().with_templates(&Templates::single());
    /// assert_eq!(texts.only(Source::Template).sentences(), ["a photo of a river"]);
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn only(&self, source: Source) -> Self {
        let classes = self.classes().to_vec();
        let mut chosen =
            Self { texts: Arc::new(Texts { classes, ..Texts::default() }), counts: Counts::default(), notices: self.notices.clone() };
        let mut seen = Seen::new();
        for ((sentence, label), from) in self.sentences().iter().zip(self.labels()).zip(self.sources()) {
            if *from == source {
                chosen.add(*label, sentence.clone(), source, &mut seen);
            }
        }
        chosen
    }

    fn seen(&self) -> Seen {
        self.labels().iter().copied().zip(self.sentences().iter().cloned()).collect()
    }

    fn add(&mut self, label: usize, sentence: String, source: Source, seen: &mut Seen) {
        if !seen.insert((label, sentence.clone())) {
            self.counts.dropped_duplicates += 1;
            return;
        }
        match source {
            Source::ClassName => self.counts.class_names += 1,
            Source::Template => self.counts.templates += 1,
            Source::Description => self.counts.descriptions += 1,
        }
        let texts = Arc::make_mut(&mut self.texts);
        texts.sentences.push(sentence);
        texts.labels.push(label);
        texts.sources.push(source);
        texts.hash = OnceLock::new();
    }

    /// The class names, in label order.
    pub fn classes(&self) -> &[String] {
        &self.texts.classes
    }

    /// The sentences; [`TextSet::labels`] and [`TextSet::sources`] are in the same order.
    pub fn sentences(&self) -> &[String] {
        &self.texts.sentences
    }

    /// The class of each sentence, an index into [`TextSet::classes`].
    pub fn labels(&self) -> &[usize] {
        &self.texts.labels
    }

    /// Where each sentence came from.
    pub fn sources(&self) -> &[Source] {
        &self.texts.sources
    }

    /// What is unusual about the texts, one line each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What was kept and what was dropped.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.sentences().len()
    }

    /// True until a source was added.
    pub fn is_empty(&self) -> bool {
        self.sentences().is_empty()
    }

    /// A hash of all sentences and their classes: which texts a run was trained on.
    pub fn hash(&self) -> String {
        let digest = || {
            let mut hash = Sha256::new();
            for (sentence, label) in self.sentences().iter().zip(self.labels()) {
                hash.update(label.to_le_bytes());
                hash.update(sentence.len().to_le_bytes());
                hash.update(sentence);
            }
            format!("{:x}", hash.finalize())
        };
        self.texts.hash.get_or_init(digest).clone()
    }

    /// One line: how many sentences of which source, and what was dropped.
    pub fn summary(&self) -> String {
        let Counts { class_names, templates, descriptions, dropped_empty, dropped_duplicates } = self.counts;
        let kept = [(class_names, "class names"), (templates, "from templates"), (descriptions, "descriptions")];
        let kept: Vec<String> = kept.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let kept = if kept.is_empty() { String::new() } else { format!(" ({})", kept.join(", ")) };
        let dropped = if dropped_empty + dropped_duplicates == 0 {
            String::new()
        } else {
            format!("; dropped {dropped_empty} empty, {dropped_duplicates} duplicate")
        };
        let (texts, classes) = (self.len(), self.classes().len());
        format!("{texts} {} for {classes} {}{kept}{dropped}", noun(texts, "text"), noun(classes, "class"))
    }
}

impl fmt::Debug for TextSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextSet({})", self.summary())
    }
}
