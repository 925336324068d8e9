//! [`Findings`]: what opening a data set found beyond its pictures.

use std::collections::BTreeMap;

/// What opening a data set found beyond its pictures: it is shown before a run computes anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The rule that chose the files or rows among several splits, in a few words: `files of split "test"`. `None` where
    /// everything was taken.
    pub rule: Option<String>,
    /// The commit of a set of the hub.
    pub commit: Option<String>,
    /// Files that were left out because of their ending, counted by ending in lower case, without the dot ("" for none).
    pub left_out: BTreeMap<String, usize>,
    /// What is unusual, one line each.
    pub notices: Vec<String>,
    /// Whether labels come from a column that has a name, which [`OpenOptions::label_column`](super::OpenOptions::label_column) chooses:
    /// in Parquet and metadata files, and in the `.json` of tar shards.
    pub has_columns: bool,
    /// Why some pictures, or all, have no label, and what to do about it: part of the message of whatever needs labels.
    pub unlabeled: Option<String>,
}

impl Findings {
    /// Adds to the rule that chose the pictures.
    pub(crate) fn add_rule(&mut self, text: &str) {
        self.rule = Some(self.rule.take().map_or_else(|| text.to_string(), |rule| format!("{rule}; {text}")));
    }

    /// Adds what was found elsewhere; a notice that is there already is not repeated.
    pub(crate) fn add(&mut self, other: Self) {
        other.rule.iter().for_each(|rule| self.add_rule(rule));
        self.commit = self.commit.take().or(other.commit);
        self.has_columns |= other.has_columns;
        self.unlabeled = self.unlabeled.take().or(other.unlabeled);
        other.left_out.into_iter().for_each(|(ending, count)| *self.left_out.entry(ending).or_insert(0) += count);
        let new: Vec<String> = other.notices.into_iter().filter(|notice| !self.notices.contains(notice)).collect();
        self.notices.extend(new);
    }

    /// The files that were left out, most frequent ending first: `10 .heic, 2 without an ending`; `None` if there are none.
    ///
    /// ```
    /// use lafter::data::Findings;
    /// let findings = Findings { left_out: [("heic".into(), 10), (String::new(), 2)].into(), ..Findings::default() };
    /// assert_eq!(findings.left_out_by_ending().as_deref(), Some("10 .heic, 2 without an ending"));
    /// ```
    pub fn left_out_by_ending(&self) -> Option<String> {
        let mut counts: Vec<(&String, &usize)> = self.left_out.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words = counts.into_iter().map(|(ending, count)| match ending.as_str() {
            "" => format!("{count} without an ending"),
            ending => format!("{count} .{ending}"),
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}
