//! What is to be asked: every query of every class, so many times each.

use std::fmt;

use super::query::Queries;
use super::request::{Request, Settings};
use crate::describe::ClassNames;
use crate::error::{Error, Result};

/// Requests of one run: each is known by a hash in memory while it runs.
const MOST: usize = 100_000_000;

/// All requests of a run, made when they are needed: classes × queries × completions.
///
/// ```
/// use lafter::describe::generate::{Subject, Plan, Queries, Settings};
/// let plan = Plan::new(&["river", "forest"], Queries::lafter(Subject::Satellite), 5, Settings::chat())?;
/// assert_eq!(plan.len(), 2 * 5 * 5);
/// assert_eq!(plan.request(25).query, "Describe what a forest looks like from a satellite.");
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct Plan {
    classes: Vec<String>,
    queries: Queries,
    completions: usize,
    settings: Settings,
    drawn: bool,
}

impl Plan {
    /// A checked plan.
    ///
    /// # Errors
    /// [`Error::Text`] if there is no class; [`Error::Usage`] for settings that cannot work, no completion, or more than
    /// a hundred million requests.
    pub fn new<S: AsRef<str>>(classes: &[S], queries: Queries, completions: usize, settings: Settings) -> Result<Self> {
        let classes = ClassNames::new(classes)?.names().to_vec();
        settings.validate()?;
        if completions == 0 {
            return Err(Error::Usage("--completions must be at least 1".into()));
        }
        let requests = classes.len().checked_mul(queries.len()).and_then(|queries| queries.checked_mul(completions));
        if requests.is_none_or(|requests| requests > MOST) {
            return Err(Error::Usage(format!(
                "{} classes × {} queries × {completions} completions are more than {MOST} requests: lower --completions, or split the class file",
                classes.len(),
                queries.len()
            )));
        }
        Ok(Self { classes, queries, completions, settings, drawn: true })
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.classes.len() * self.per_class()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests of one class: they stand in a row.
    pub fn per_class(&self) -> usize {
        self.queries.len() * self.completions
    }

    /// The class names, in label order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The queries, unfilled.
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// The settings of every request.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For answers that others wrote: how they were drawn is not known, so the trace gives no settings; and classes of one
    /// name have answers of their own.
    pub(super) fn not_drawn(self) -> Self {
        Self { drawn: false, ..self }
    }

    /// True if the settings made the answers.
    pub(super) fn drawn(&self) -> bool {
        self.drawn
    }

    /// Request `i` (below [`len`](Self::len)): by class, then by query, then by completion.
    pub fn request(&self, i: usize) -> Request {
        let (class, rest) = (i / self.per_class(), i % self.per_class());
        let name = self.classes.get(class).cloned().unwrap_or_default();
        let mut query = self.queries.iter().nth(rest / self.completions).map(|query| query.fill(&name)).unwrap_or_default();
        if !self.drawn {
            query += &format!(" (class {class})");
        }
        Request { class: Some(class), name, query, completion: rest % self.completions, settings: self.settings.clone() }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (classes, queries) = (self.classes.len(), self.queries.len());
        write!(f, "Plan({classes} classes × {queries} queries × {} completions = {} requests)", self.completions, self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_requests_are_refused() {
        for completions in [0, 100_000_001, usize::MAX] {
            let queries = Queries::new(["Describe {}."]).unwrap();
            let error = Plan::new(&["owl"], queries, completions, Settings::chat()).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("--completions"), "{error}");
        }
    }
}
