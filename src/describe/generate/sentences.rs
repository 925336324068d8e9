//! Where sentences end.

/// Words before whose full stop no sentence ends.
const ABBREVIATIONS: [&str; 28] = [
    "etc", "vs", "cf", "approx", "ca", "dr", "mr", "mrs", "ms", "st", "prof", "no", "fig", "inc", "jr", "sr", "sp", "spp", "var", "ft",
    "lat", "mt", "sgt", "capt", "gen", "ave", "vol", "co",
];

/// What ends a sentence: of Latin script, Chinese and Japanese, Hindi, Urdu, Arabic, Burmese, Amharic.
const MARKS: [char; 13] = ['.', '!', '?', '…', '。', '！', '？', '｡', '।', '۔', '؟', '။', '።'];

/// The end (in bytes, behind mark and closing quotes) of every sentence of a line.
fn ends(line: &str) -> impl Iterator<Item = usize> + '_ {
    line.char_indices().filter_map(move |(at, mark)| {
        if !MARKS.contains(&mark) {
            return None;
        }
        let behind = &line[at + mark.len_utf8()..];
        let rest = behind.trim_start_matches(['"', '\'', ')', ']', '”', '»', '」']);
        let wide = !mark.is_ascii() && mark != '…';
        if !(wide || rest.is_empty() || rest.starts_with(char::is_whitespace)) || rest.starts_with(['.', '!', '?']) {
            return None; // "3.5", "...", "?!"
        }
        if mark == '.' {
            let word = line[..at].rsplit([' ', '(', '"']).next().unwrap_or("");
            // "J.", and "e.g.", "U.S.A.", but neither "1.5." nor "6 p.m."
            let one_letter = |part: &str| part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
            let initial = one_letter(word) && word.chars().all(char::is_uppercase)
                || word.contains('.') && word.split('.').all(one_letter) && !["a.m", "p.m"].contains(&word.to_lowercase().as_str());
            let goes_on = rest.trim_start().starts_with(char::is_lowercase);
            // an abbreviation may well be the last word of a line
            if !rest.is_empty() && (goes_on || initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())) {
                return None;
            }
        }
        Some(line.len() - rest.len())
    })
}

/// The end of the first sentence.
pub(super) fn first_end(line: &str) -> Option<usize> {
    ends(line).next()
}

/// The end of the last whole sentence.
pub(super) fn last_end(line: &str) -> Option<usize> {
    ends(line).last()
}

/// The line without questions at its beginning, which its author answers.
pub(super) fn behind_questions(line: &str) -> &str {
    let mut rest = line;
    while let Some((question, behind)) = first_end(rest).map(|end| rest.split_at(end)) {
        if !is_question(question) || behind.trim_start().starts_with(char::is_lowercase) {
            break; // "Where is it?" is a question of children.
        }
        rest = behind.trim_start();
    }
    rest
}

/// True if a sentence ends in a question mark.
pub(super) fn is_question(sentence: &str) -> bool {
    sentence.trim_end_matches(['"', '\'', ')', ']', '”', '»', '」', ' ']).ends_with(['?', '？', '؟'])
}

/// The sentences of a line, each by itself.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut start = 0;
    let mut sentences = Vec::new();
    for end in ends(line) {
        sentences.push(line[start..end].trim().to_string());
        start = end;
    }
    if !line[start..].trim().is_empty() {
        sentences.push(line[start..].trim().to_string());
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_readers_think() {
        let text = "He said \"A boat.\" It is 3.5 m long... Really?! Made by J. Smith, e.g. in the U.S. Navy. 船です。帆です。";
        assert_eq!(
            split(text),
            ["He said \"A boat.\"", "It is 3.5 m long...", "Really?!", "Made by J. Smith, e.g. in the U.S. Navy.", "船です。", "帆です。"]
        );
        assert_eq!(split("बिल्ली छोटी है। उसकी पूँछ है।"), ["बिल्ली छोटी है।", "उसकी पूँछ है।"]);
        assert_eq!((split("بلی چھوٹی ہے۔ دم ہے۔").len(), split("هل للقطة فراء؟ نعم.").len(), split("ကြောင်။ခွေး။").len()), (2, 2, 2));
        assert_eq!(behind_questions("Is it? Really? It is. Why?"), "It is. Why?");
        assert_eq!(behind_questions("\"Why?\" is a word."), "\"Why?\" is a word.");
        assert_eq!(first_end("no end"), None);
        assert_eq!(first_end(""), None);
        assert_eq!(split("A photo of Mt. Fuji. The flag of the U.S.A. Army."), ["A photo of Mt. Fuji.", "The flag of the U.S.A. Army."]);
        assert_eq!(split("Its ratio is 1.5. It opens at 6 p.m. The end.").len(), 3);
        let text = "One is here. Two is there. And three";
        assert_eq!((first_end(text), last_end(text)), (Some(12), Some(26)));
    }
}
