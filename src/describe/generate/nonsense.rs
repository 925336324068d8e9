//! Text that cannot describe anything, and how many words there are.

use std::collections::HashSet;

/// How many words; a character of a script without blanks counts as one.
pub(super) fn words(sentence: &str) -> usize {
    let wide = sentence.chars().filter(|c| is_wide(*c)).count();
    let spaced = sentence.split(|c: char| c.is_whitespace() || is_wide(c)).filter(|word| word.chars().any(char::is_alphanumeric)).count();
    wide + spaced
}

/// Scripts that write without blanks: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
fn is_wide(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// What a model leaves for others to fill in: `[class name]`, `[color]`.
fn is_placeholder(inner: &str) -> bool {
    !inner.trim().is_empty() && inner.len() <= 40 && inner.chars().all(|c| c.is_ascii_lowercase() || matches!(c, ' ' | '_' | '-' | '/'))
}

/// Text that cannot describe anything: broken characters, places for others to fill in, few letters, endless words, words repeated again
/// and again.
pub(super) fn is_nonsense(sentence: &str) -> bool {
    if sentence.contains('\u{fffd}') {
        return true;
    }
    let (mut plain, mut all) = (0usize, 0usize);
    for c in sentence.chars().filter(|c| !c.is_whitespace()) {
        (plain, all) = (plain + usize::from(c.is_alphanumeric()), all + 1);
    }
    if plain * 5 < all * 3 {
        return true;
    }
    let words: Vec<String> = sentence.split_whitespace().map(str::to_lowercase).collect();
    let endless = |word: &String| word.split(['-', '/']).any(|part| part.chars().count() > 35 && !part.chars().any(is_wide));
    let unfilled = sentence.split('[').skip(1).any(|rest| rest.split_once(']').is_some_and(|(inner, _)| is_placeholder(inner)));
    let repeats = words.windows(4).any(|four| four.iter().all(|word| word == &four[0]));
    let distinct = words.iter().collect::<HashSet<_>>().len();
    words.iter().any(endless) || unfilled || repeats || (words.len() >= 10 && distinct * 3 < words.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_nonsense_and_every_script_has_words() {
        assert!(is_nonsense("A photo of a [class name] with [color] fur.") && !is_nonsense("A boat [Latin: navis] floats on water."));
        assert!(!is_nonsense("A U-boat, e.g. the \"U-96\" (1940), dives."));
        assert_eq!((words("一种大型动物。"), words("A boat."), words("It's a boat – big")), (6, 2, 4));
    }
}
