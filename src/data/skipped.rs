//! The log of pictures that could not be read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Pictures of one data set that were left out, with reasons; each counts once, however many epochs meet it.
/// Clones share the log.
///
/// ```
/// use lafter::data::Skipped;
/// let log = Skipped::new(200);
/// log.add(3, "photos/a.jpg", "photos/a.jpg: not an image");
/// log.add(3, "photos/a.jpg", "photos/a.jpg: not an image");
/// assert_eq!((log.count(), log.share()), (1, 0.005));
/// assert_eq!(log.summary().as_deref(), Some("1 of 200 pictures could not be read and was left out: photos/a.jpg: not an image"));
/// ```
#[derive(Clone)]
pub struct Skipped {
    total: usize,
    entries: Arc<Mutex<BTreeMap<usize, (String, String)>>>,
}

/// A log as a checkpoint keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SkippedRecord {
    total: usize,
    entries: Vec<(usize, String, String)>,
}

impl Skipped {
    /// An empty log for a data set of `total` pictures.
    pub fn new(total: usize) -> Self {
        Self { total, entries: Arc::default() }
    }

    /// Notes picture `index`, by name, and why it was left out.
    pub fn add(&self, index: usize, name: &str, reason: &str) {
        self.lock().entry(index).or_insert_with(|| (name.to_string(), reason.to_string()));
    }

    /// How many pictures were left out.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Their share of the data set, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.count() as f64 / self.total as f64 }
    }

    /// Name and reason of each, in the order of the data set.
    pub fn entries(&self) -> Vec<(String, String)> {
        self.lock().values().cloned().collect()
    }

    /// The positions in the data set, ascending.
    pub fn indices(&self) -> Vec<usize> {
        self.lock().keys().copied().collect()
    }

    /// Everything, to be saved: the size of the data set; position, name and reason of each.
    pub(crate) fn record(&self) -> SkippedRecord {
        let entries = self.lock().iter().map(|(index, (name, reason))| (*index, name.clone(), reason.clone())).collect();
        SkippedRecord { total: self.total, entries }
    }

    /// Position, name and reason of those among these pictures.
    pub(crate) fn among(&self, indices: &[usize]) -> Vec<(usize, String, String)> {
        let entries = self.lock();
        indices.iter().filter_map(|index| entries.get(index).map(|(name, reason)| (*index, name.clone(), reason.clone()))).collect()
    }

    /// Reads back what [`record`](Self::record) gave.
    pub(crate) fn from_record(record: SkippedRecord) -> Self {
        let log = Self::new(record.total);
        record.entries.iter().for_each(|(index, name, reason)| log.add(*index, name, reason));
        log
    }

    /// One line with the first reasons; `None` if nothing was left out.
    pub fn summary(&self) -> Option<String> {
        const SHOWN: usize = 3;
        let entries = self.entries();
        let reasons: Vec<&str> = entries.iter().take(SHOWN).map(|(_, reason)| reason.as_str()).collect();
        let more = if entries.len() > SHOWN { format!("; and {} more", entries.len() - SHOWN) } else { String::new() };
        let verb = if entries.len() == 1 { "was" } else { "were" };
        (!entries.is_empty()).then(|| {
            let (count, total) = (entries.len(), self.total);
            format!("{count} of {total} pictures could not be read and {verb} left out: {}{more}", reasons.join("; "))
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, (String, String)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Skipped({} of {})", self.count(), self.total)
    }
}
