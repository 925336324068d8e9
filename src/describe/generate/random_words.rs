//! Random words as a control: what texts gain by their number alone (WaffleCLIP, Roth et al. 2023).

use super::article::article_by_sound;
use crate::describe::{ClassNames, Descriptions, spoken};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Everyday English words; none says more than another about how a thing looks.
const WORDS: &str = include_str!("words.txt");

/// "A photo of a boat, which has window tuesday." `count` sentences per class, two random words each. As in WaffleCLIP the
/// words are the same for every class, so they cannot tell classes apart: what such texts gain over the plain template is
/// what any number of texts gains.
///
/// ```
/// use lafter::{describe::generate::random_words, rng::Rng};
/// let texts = random_words(&["boat", "owl"], 3, &mut Rng::new(7777))?;
/// let of = |class: usize| &texts.entries()[class].1;
/// assert_eq!(of(0).len(), 3);
/// assert!(of(0)[0].starts_with("A photo of a boat, which has ") && of(1)[0].starts_with("A photo of an owl, which has "));
/// assert_eq!(of(0)[0].split("which").last(), of(1)[0].split("which").last());
/// # Ok::<(), lafter::Error>(())
/// ```
///
/// # Errors
/// [`Error::Usage`] for no sentence, or more than there are pairs of words.
pub fn random_words<S: AsRef<str>>(classes: &[S], count: usize, rng: &mut Rng) -> Result<Descriptions> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let most = words.len() * words.len() / 4;
    if count == 0 || count > most {
        return Err(Error::Usage(format!("--random-words must lie in 1 to {most}, got {count}")));
    }
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
    let mut seen = std::collections::HashSet::new();
    while pairs.len() < count {
        // below() stays below the number of words, which is not zero
        let pair = (words[rng.below(words.len())], words[rng.below(words.len())]);
        if pair.0 != pair.1 && seen.insert(pair) {
            pairs.push(pair);
        }
    }
    let sentence = |name: &str, (first, second): &(&str, &str)| {
        let name = spoken(name);
        let named = format!("{} {name}", article_by_sound(&name));
        format!("A photo of {}, which has {first} {second}.", named.trim())
    };
    let names = ClassNames::new(classes)?;
    let entries = names.names().iter().map(|name| (name.clone(), pairs.iter().map(|pair| sentence(name, pair)).collect()));
    Ok(Descriptions::from_entries(entries.collect::<Vec<_>>(), "random words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_clean_and_the_seed_decides() {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let distinct: std::collections::HashSet<_> = words.iter().collect();
        assert!(words.len() >= 300 && distinct.len() == words.len());
        assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase())));
        let texts = |seed| random_words(&["a b"], 50, &mut Rng::new(seed)).unwrap();
        assert!(texts(1) == texts(1) && texts(1) != texts(2));
        assert!(random_words(&["a"], 0, &mut Rng::new(1)).is_err());
        assert!(random_words(&["a"], 1 << 40, &mut Rng::new(1)).is_err());
    }
}
