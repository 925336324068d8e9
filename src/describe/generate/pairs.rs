//! Pairs of classes that answers confuse, and what a language model is asked about them (GTA-CLIP, Saha et al. 2024).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::describe::spoken;

/// Two classes and how many pictures are unsure between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusedPair {
    /// The classes by index, the lower first.
    pub classes: (usize, usize),
    /// Pictures whose two best probabilities are these classes', and near each other.
    pub votes: usize,
}

/// Which pictures vote, and how many pairs are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairRule {
    /// A picture votes for its two best classes if their probabilities differ by less than this; default 0.1.
    pub margin: f64,
    /// The share of the pairs with a vote that is kept, the most voted ones, at least one; default 0.05.
    pub share: f64,
}

impl Default for PairRule {
    fn default() -> Self {
        Self { margin: 0.1, share: 0.05 }
    }
}

/// The pairs that most pictures are unsure of, without those that were asked about `before`. Pictures are (best class, second
/// class, difference of their probabilities); pairs with equally many votes come in the order of their classes.
///
/// Answers make it only what CLIP is unsure of, right or wrong: a pair of classes that it takes for each other surely has no vote.
///
/// ```
/// use lafter::describe::generate::{PairRule, confused_pairs};
/// let pictures = [(0, 1, 0.05), (1, 0, 0.02), (1, 2, 0.02), (0, 1, 0.7)];
/// let pairs = confused_pairs(pictures, PairRule::default(), &[]);
/// assert_eq!((pairs.len(), pairs[0].classes, pairs[0].votes), (1, (0, 1), 2));
/// ```
pub fn confused_pairs(
    pictures: impl IntoIterator<Item = (usize, usize, f64)>,
    rule: PairRule,
    before: &[(usize, usize)],
) -> Vec<ConfusedPair> {
    let before: HashSet<(usize, usize)> = before.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
    let mut votes = BTreeMap::<(usize, usize), usize>::new();
    for (best, second, difference) in pictures {
        let pair = (best.min(second), best.max(second));
        if best != second && difference < rule.margin && !before.contains(&pair) {
            *votes.entry(pair).or_default() += 1;
        }
    }
    let mut pairs: Vec<ConfusedPair> = votes.into_iter().map(|(classes, votes)| ConfusedPair { classes, votes }).collect();
    let kept = ((rule.share * pairs.len() as f64) as usize).max(1);
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.votes)); // stable
    pairs.truncate(kept);
    pairs
}

/// How many of a class's sentences a question shows: the first ones.
const SHOWN: usize = 20;

/// What is asked about class `own` to tell it from `other`, with the sentences that both have.
pub fn pair_question(own: (&str, &[String]), other: (&str, &[String])) -> String {
    let known = |(name, sentences): (&str, &[String])| match sentences {
        [] => String::new(),
        sentences => {
            let lines: Vec<&str> = sentences.iter().take(SHOWN).map(String::as_str).collect();
            format!("What is known of \"{}\":\n- {}\n\n", spoken(name), lines.join("\n- "))
        }
    };
    let (a, b) = (spoken(own.0), spoken(other.0));
    format!(
        "In pictures, \"{a}\" and \"{b}\" are easily taken for each other.\n\n{}{}List what can be seen in a picture of \"{a}\" and not in \
         one of \"{b}\". Write one short sentence a line, each beginning with \"{a}\". Do not mention \"{b}\".",
        known(own),
        known(other)
    )
}

/// True if a sentence about one class names the other, as a whole word: it would pull the text toward both.
pub(super) fn names_other(sentence: &str, own: &str, other: &str) -> bool {
    let words = |text: &str| {
        let plain: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (sentence, own, other) = (words(sentence), words(&spoken(own)), words(&spoken(other)));
    // "polar bear" names "bear" only where it stands without "polar"
    let rest = if own.contains(&other) { sentence.replace(&own, " | ") } else { sentence };
    let other = other.trim_end();
    let irregular = [("y", "ies"), ("f", "ves"), ("fe", "ves"), ("man", "men")];
    let irregular = irregular.iter().filter_map(|(one, many)| Some(format!("{}{many}", other.strip_suffix(one)?)));
    [other.to_string(), format!("{other}s"), format!("{other}es")].into_iter().chain(irregular).any(|name| rest.contains(&(name + " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_asked_once_and_at_least_one_if_there_is_any() {
        let pictures: Vec<(usize, usize, f64)> = (0..40).flat_map(|pair| vec![(pair, 99, 0.01); 1 + pair]).collect();
        let first = confused_pairs(pictures.clone(), PairRule::default(), &[]);
        assert_eq!(first.iter().map(|pair| (pair.classes.0, pair.votes)).collect::<Vec<_>>(), [(39, 40), (38, 39)]);
        let asked: Vec<(usize, usize)> = first.iter().map(|pair| (pair.classes.1, pair.classes.0)).collect();
        assert_eq!(confused_pairs(pictures.clone(), PairRule::default(), &asked)[0].classes, (37, 99));
        assert!(confused_pairs(pictures, PairRule { margin: 0.005, ..PairRule::default() }, &[]).is_empty());
        assert!(confused_pairs([(3, 3, 0.0)], PairRule::default(), &[]).is_empty());
    }

    #[test]
    fn a_question_shows_both_and_asks_for_one() {
        let (cat, dog) = (vec!["A cat has whiskers.".to_string()], Vec::new());
        let question = pair_question(("tabby_cat", &cat), ("dog", &dog));
        assert!(question.contains("\"tabby cat\" and \"dog\"") && question.contains("- A cat has whiskers.\n"), "{question}");
        assert!(question.contains("not in one of \"dog\"") && !question.contains("known of \"dog\""), "{question}");
        assert_ne!(question, pair_question(("dog", &dog), ("tabby_cat", &cat)));
    }

    #[test]
    fn a_sentence_that_names_the_other_class_is_found() {
        assert!(names_other("A cat, unlike a Dog, climbs.", "cat", "dog"));
        assert!(names_other("Cats are smaller than dogs.", "cat", "dog"));
        for (text, other) in [("Foxes are red.", "fox"), ("Unlike butterflies.", "butterfly"), ("Wolves howl.", "wolf")] {
            assert!(names_other(text, "cat", other), "{text}");
        }
        assert!(!names_other("A cat has a dogged look.", "cat", "dog"));
        assert!(!names_other("A polar bear is white.", "polar bear", "bear"));
        assert!(names_other("A polar bear is whiter than a bear.", "polar bear", "bear"));
        assert!(names_other("A sea_lion-like animal.", "seal", "sea lion"));
    }
}
