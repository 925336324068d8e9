//! A class name as a sentence reads it.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// A class name as a sentence reads it. Underscores and line breaks become blanks, as in LaFTer's and CoOp's code; the
/// catalogue number of CUB and Caltech (`001.`) and the WordNet id of Stanford Dogs (`n02085620-`) go; accents are composed.
///
/// Templates and queries are filled with it; keys, reports and files keep the name as it is.
///
/// ```
/// use lafter::describe::spoken;
/// assert_eq!(spoken("001.Black_footed_Albatross"), "Black footed Albatross");
/// assert_eq!(spoken("n02085620-Chihuahua"), "Chihuahua");
/// assert_eq!(spoken("cafe\u{301}"), "café");
/// assert_eq!(spoken("737-800"), "737-800");
/// ```
pub fn spoken(name: &str) -> String {
    let name = composed(name);
    let blank = |c: char| if c == '_' || c.is_control() { ' ' } else { c };
    let text: String = without_number(&name).chars().map(blank).collect();
    match text.trim() {
        "" => name.into_owned(),
        text => text.to_string(),
    }
}

/// The name with its accents composed (NFC): a Mac's file system writes `é` as two characters.
pub(crate) fn composed(name: &str) -> Cow<'_, str> {
    if name.is_ascii() { Cow::Borrowed(name) } else { ComposingNormalizerBorrowed::new_nfc().normalize(name) }
}

/// `n` and eight digits, which name a meaning in WordNet; and what stands behind them.
pub(crate) fn split_wordnet_id(text: &str) -> Option<(&str, &str)> {
    let end = digits(text.strip_prefix('n')?) + 1;
    (end == 9).then(|| text.split_at(end))
}

/// How many digits a text begins with.
pub(crate) fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The name without a number or an id before it, where a word follows.
fn without_number(name: &str) -> &str {
    let numbered = match digits(name) {
        n @ 1..=4 => name[n..].strip_prefix('.'),
        _ => split_wordnet_id(name).and_then(|(_, rest)| rest.strip_prefix(['-', '_', ' '])),
    };
    numbered.map(str::trim_start).filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        for (name, words) in [
            ("golden_retriever", "golden retriever"),
            ("257.clutter", "clutter"),
            ("n02110185-Siberian_husky", "Siberian husky"),
            ("a\nb\tc", "a b c"),
            ("_", "_"),
            ("3.5 inch", "3.5 inch"),
            ("n02085620", "n02085620"),
            ("2012 BMW M3", "2012 BMW M3"),
            ("001.", "001."),
            ("10.Forêt", "Forêt"),
            ("AnnualCrop", "AnnualCrop"),
            ("λ{}", "λ{}"),
        ] {
            assert_eq!(spoken(name), words);
        }
    }
}
