//! Near-duplicates within a class, by the word pairs they share.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Whether a sentence was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    No,
    /// The same except for case, punctuation and articles.
    Same,
    Near,
}

/// The sentences of one class. |A ∩ B| / |A ∪ B| of their sets of word pairs decides; an index from pair to sentence
/// finds the candidates, so that a class of thousands of sentences stays quick.
#[derive(Clone)]
pub(super) struct Duplicates {
    near: f32,
    same: HashSet<u64>,
    /// How many pairs each sentence has.
    sizes: Vec<usize>,
    with_pair: HashMap<u64, Vec<u32>>,
}

impl Duplicates {
    pub(super) fn new(near: f32) -> Self {
        Self { near, same: HashSet::new(), sizes: Vec::new(), with_pair: HashMap::new() }
    }

    /// Adds the sentence if it is new.
    pub(super) fn insert(&mut self, sentence: &str) -> Known {
        let words = normal_words(sentence);
        if !self.same.insert(hash(&words)) {
            return Known::Same;
        }
        let pairs: HashSet<u64> = if words.len() < 2 { HashSet::from([hash(&words)]) } else { words.windows(2).map(hash).collect() };
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for sentence in pairs.iter().filter_map(|pair| self.with_pair.get(pair)).flatten() {
            *shared.entry(*sentence).or_default() += 1;
        }
        let size = |sentence: u32| self.sizes.get(sentence as usize).copied().unwrap_or(0);
        let near = |(sentence, shared): (&u32, &usize)| *shared as f32 >= self.near * (pairs.len() + size(*sentence) - shared) as f32;
        if self.near < 1.0 && shared.iter().any(near) {
            return Known::Near;
        }
        let id = self.sizes.len() as u32;
        self.sizes.push(pairs.len());
        pairs.into_iter().for_each(|pair| self.with_pair.entry(pair).or_default().push(id));
        Known::No
    }
}

impl fmt::Debug for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duplicates({} sentences)", self.sizes.len())
    }
}

/// Lower-case words without articles.
pub(super) fn normal_words(sentence: &str) -> Vec<String> {
    let lower = sentence.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && !matches!(*word, "a" | "an" | "the"));
    words.map(str::to_string).collect()
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
