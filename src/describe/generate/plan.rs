//! What is to be asked: every query of every class, so many times each.

use std::fmt;
use std::ops::Range;

use super::pairs::{ConfusedPair, pair_question};
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
    asked: Asked,
    completions: usize,
    settings: Settings,
    drawn: bool,
    /// Sentences that each class has already, or nothing.
    known: Vec<Vec<String>>,
}

#[derive(Clone)]
enum Asked {
    /// Of every class.
    Alike(Queries),
    /// Of each class something else: a filled query and the class that it is about to be told from; where each class's begin.
    Own(Vec<(String, usize)>, Vec<usize>),
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
        Ok(Self { classes, asked: Asked::Alike(queries), completions, settings, drawn: true, known: Vec::new() })
    }

    /// A plan that asks both classes of each pair what tells it from the other. `known` are the sentences that each class has already: they
    /// are shown, and stand before the new ones in what is written.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Usage`] if there is no pair, or one of a class that does not exist.
    pub fn for_pairs<S: AsRef<str>>(
        classes: &[S],
        known: Vec<Vec<String>>,
        pairs: &[ConfusedPair],
        completions: usize,
        settings: Settings,
    ) -> Result<Self> {
        let plan = Self::new(classes, Queries::new(["{}"])?, completions, settings)?;
        let of = |class: usize| Some((plan.classes.get(class)?.as_str(), known.get(class).map_or(&[][..], Vec::as_slice)));
        let mut questions = vec![Vec::new(); plan.classes.len()];
        for pair in pairs {
            let (a, b) = pair.classes;
            let (Some(first), Some(second)) = (of(a), of(b)) else {
                return Err(Error::Usage(format!("a pair of classes {a} and {b}, but there are {}", plan.classes.len())));
            };
            questions[a].push((pair_question(first, second), b));
            questions[b].push((pair_question(second, first), a));
        }
        if pairs.is_empty() || (2 * pairs.len()).checked_mul(completions).is_none_or(|requests| requests > MOST) {
            return Err(Error::Usage(format!("{} pairs × 2 × {completions} completions: give 1 to {MOST} requests", pairs.len())));
        }
        let mut starts = vec![0];
        for questions in &questions {
            starts.push(starts.last().copied().unwrap_or(0) + questions.len() * completions);
        }
        Ok(Self { asked: Asked::Own(questions.concat(), starts), known, ..plan })
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests(self.classes.len().saturating_sub(1)).end
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The requests of one class: they stand in a row.
    pub fn requests(&self, class: usize) -> Range<usize> {
        match &self.asked {
            Asked::Alike(queries) => {
                let each = queries.len() * self.completions;
                class * each..(class + 1) * each
            }
            Asked::Own(_, starts) => match starts.get(class..class + 2) {
                Some(&[from, to]) => from..to,
                _ => 0..0,
            },
        }
    }

    /// The sentences that a class has already.
    pub(super) fn known(&self, class: usize) -> &[String] {
        self.known.get(class).map_or(&[], Vec::as_slice)
    }

    /// The class that request `i` is to tell its own from.
    pub(super) fn other(&self, i: usize) -> Option<&str> {
        match &self.asked {
            Asked::Alike(_) => None,
            Asked::Own(questions, _) => self.classes.get(questions.get(i / self.completions)?.1).map(String::as_str),
        }
    }

    /// The class names, in label order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The queries, unfilled; `None` if each class is asked something of its own.
    pub fn queries(&self) -> Option<&Queries> {
        match &self.asked {
            Asked::Alike(queries) => Some(queries),
            Asked::Own(..) => None,
        }
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
        let (class, mut query) = match &self.asked {
            Asked::Alike(queries) => {
                let each = queries.len() * self.completions;
                let name = self.classes.get(i / each).map_or("", String::as_str);
                (i / each, queries.iter().nth(i % each / self.completions).map(|query| query.fill(name)).unwrap_or_default())
            }
            Asked::Own(questions, starts) => {
                let query = questions.get(i / self.completions).map(|(query, _)| query.clone()).unwrap_or_default();
                (starts.partition_point(|start| *start <= i).saturating_sub(1), query)
            }
        };
        let name = self.classes.get(class).cloned().unwrap_or_default();
        if !self.drawn {
            query += &format!(" (class {class})");
        }
        Request { class: Some(class), name, query, completion: i % self.completions, settings: self.settings.clone() }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (classes, completions, requests) = (self.classes.len(), self.completions, self.len());
        match &self.asked {
            Asked::Alike(queries) => {
                write!(f, "Plan({classes} classes × {} queries × {completions} completions = {requests} requests)", queries.len())
            }
            Asked::Own(questions, _) => {
                write!(
                    f,
                    "Plan({} questions about pairs of {classes} classes × {completions} completions = {requests} requests)",
                    questions.len()
                )
            }
        }
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

    #[test]
    fn pairs_ask_both_classes_and_leave_the_others_alone() {
        let pairs = [(0, 2, 9), (2, 3, 4)].map(|(a, b, votes)| ConfusedPair { classes: (a, b), votes });
        let known = vec![vec!["A cat has whiskers.".to_string()], vec![], vec![], vec![]];
        let plan = Plan::for_pairs(&["cat", "owl", "dog", "fox"], known, &pairs, 2, Settings::chat()).unwrap();
        assert_eq!((plan.len(), plan.requests(0), plan.requests(1), plan.requests(2), plan.requests(3)), (8, 0..2, 2..2, 2..6, 6..8));
        let about: Vec<(Option<usize>, usize, Option<&str>)> =
            (0..8).map(|i| (plan.request(i).class, plan.request(i).completion, plan.other(i))).collect();
        let expected = [(0, "dog"), (2, "cat"), (2, "fox"), (3, "dog")];
        for (at, (class, other)) in expected.into_iter().enumerate() {
            assert_eq!(about[2 * at], (Some(class), 0, Some(other)));
            assert_eq!(about[2 * at + 1], (Some(class), 1, Some(other)));
        }
        assert!(plan.request(2).query.contains("A cat has whiskers.") && plan.queries().is_none());
        let nobody = ConfusedPair { classes: (0, 9), votes: 1 };
        assert!(Plan::for_pairs(&["cat", "dog"], vec![], &[nobody], 1, Settings::chat()).unwrap_err().is_usage());
        assert!(Plan::for_pairs(&["cat", "dog"], vec![], &[], 1, Settings::chat()).unwrap_err().is_usage());
    }
}
