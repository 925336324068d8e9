//! Class names that are probably no words, or too few: what is said before anything is computed on them.

use std::collections::HashSet;

use crate::describe::class_list::counts;
use crate::describe::names::{is_invisible, listed, normal};
use crate::describe::spoken::{digits, split_wordnet_id, spoken};

/// What is unusual about the names of classes, one line each; empty for names that read well.
pub(crate) fn unusual_names(classes: &[String]) -> Vec<String> {
    let mut notices = unusual(
        classes,
        "give their names with --classes",
        "write them with blanks with --classes",
        "rename the folders, or give their names with --classes",
    );
    let mut seen = HashSet::new();
    let twice: Vec<&String> = classes.iter().filter(|name| !seen.insert(normal(name))).collect();
    if !twice.is_empty() {
        notices.push(format!("class names that repeat an earlier one: {}", listed(&twice)));
    }
    notices
}

/// The same of names that stand in a list, line by line.
pub(crate) fn unusual_lines(classes: &[String], origin: &str) -> Vec<String> {
    let remedy = format!("write one name a line in {origin}");
    let commas = |name: &String| name.matches(',').count();
    let numbered = |name: &String| name[digits(name)..].starts_with([':', ',', ';', '.', ')', '=']) && digits(name) > 0;
    let within = |what: &str| format!("{what} in {origin}");
    let mut notices = unusual(classes, &within("write words"), &within("write them with blanks"), &within("write them in UTF-8"));
    if classes.iter().all(numbered) {
        notices.push(format!("each class name begins with a number ({}), which is read with it: {remedy}", few(classes)));
    } else if classes.first().is_some_and(|first| commas(first) > 0 && classes.iter().all(|name| commas(name) == commas(first))) {
        notices.push(format!("each class name holds commas ({}) and is read as one: if they are columns or names, {remedy}", few(classes)));
    }
    notices
}

/// With the remedies for names that are no words, that are several words in one, and that are not UTF-8.
fn unusual(classes: &[String], remedy: &str, blanks: &str, utf8: &str) -> Vec<String> {
    let mut notices = Vec::new();
    // Words as they will be read: a number or an id before a word does no harm.
    let words: Vec<String> = classes.iter().map(|name| spoken(name)).collect();
    let some = |test: &dyn Fn(&str) -> bool| words.iter().filter(|word| test(word)).cloned().collect::<Vec<_>>();
    let ids = some(&|word| split_wordnet_id(word).is_some_and(|(_, rest)| rest.is_empty()));
    let (numbers, codes) = (some(&is_number), some(&|word| is_code(word) && split_wordnet_id(word).is_none()));
    if !ids.is_empty() {
        notices.push(format!("class names are WordNet ids, no words ({}): {remedy}", few(&ids)));
    }
    if 2 * numbers.len() > words.len() {
        notices.push(format!("class names are numbers, no words ({}): {remedy}", few(&numbers)));
    } else if 2 * codes.len() > words.len() {
        notices.push(format!("class names are codes, no words ({}): {remedy}", few(&codes)));
    } else if counted(&words) {
        notices.push(format!("each class name holds a number that only counts ({}): {remedy}", few(&words)));
    }
    let broken = some(&|word| word.contains('\u{fffd}'));
    if !broken.is_empty() {
        notices.push(format!("class names hold bytes that are not UTF-8 ({}): {utf8}", few(&broken)));
    }
    let invisible: Vec<String> = classes.iter().filter(|name| name.contains(is_invisible)).map(|name| format!("{name:?}")).collect();
    if !invisible.is_empty() {
        notices.push(format!("class names hold characters that nobody sees and the text tower reads ({}): {remedy}", few(&invisible)));
    }
    let joined = some(&is_camel_case);
    if joined.len() > 1 && 3 * joined.len() >= words.len() {
        notices.push(format!("class names are several words in one ({}): {blanks}", few(&joined)));
    }
    notices
}

fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn is_number(word: &str) -> bool {
    let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
    [whole, part].iter().all(|text| !text.is_empty() && digits(text) == text.len())
}

/// `0 airplane`, `1-cat`, or the number last: all names hold one next to different words, and the numbers count from 0 or 1.
fn counted(words: &[String]) -> bool {
    let fits = |parts: Option<Vec<(&str, &str)>>| {
        let parts = parts.unwrap_or_default();
        let numbers: Option<Vec<usize>> = parts.iter().map(|(number, _)| number.parse().ok()).collect();
        let different: HashSet<&str> = parts.iter().map(|(_, rest)| *rest).filter(|rest| rest.contains(char::is_alphabetic)).collect();
        parts.len() > 1 && different.len() == parts.len() && numbers.is_some_and(|numbers| counts(numbers.into_iter()))
    };
    fits(words.iter().map(|word| word.split_once([' ', '-'])).collect())
        || fits(words.iter().map(|word| word.rsplit_once([' ', '-']).map(|(rest, number)| (number, rest))).collect())
}

/// `c0`, `class 7`, `label-12`, `id3`.
fn is_code(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let stem = letters.trim_end_matches([' ', '-']).to_lowercase();
    letters.len() < word.len() && (stem.len() == 1 || ["class", "label", "category", "cls", "id", "folder"].contains(&stem.as_str()))
}

/// `AnnualCrop`: two or more words of a capital and small letters.
fn is_camel_case(word: &str) -> bool {
    let starts = word.chars().filter(char::is_ascii_uppercase).count();
    let small_behind = word.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase()).count();
    starts > 1
        && starts == small_behind
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(names: &[&str]) -> String {
        unusual_names(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).join("\n")
    }

    #[test]
    fn names_that_are_no_words() {
        for names in [
            &["n02000003", "n02000004"][..],
            &["0", "1", "2"],
            &["c0", "c1"],
            &["class_1", "class_2"],
            &["0.0", "1.0", "5.0"],
            &["0_airplane", "1_dog"],
            &["2-dog", "1-cat"],
            &["airplane_0", "dog_1"],
            &["caf\u{fffd}", "tea"],
            &["AnnualCrop", "PermanentCrop", "River"],
            &["cat\u{200b}", "dog"],
        ] {
            let text = notices(names);
            assert!(text.contains("--classes") && text.lines().count() == 1, "{names:?}: {text}");
        }
        assert!(notices(&["crane", "sea", "Crane"]).contains("repeat"));
    }

    #[test]
    fn lines_that_hold_more_than_a_name() {
        let notices = |names: &[&str]| unusual_lines(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), "x.txt").join("\n");
        for names in [&["1: person", "13: stop sign"][..], &["id,name", "1,person", "13,stop sign"], &["cat,dog,owl"]] {
            assert!(notices(names).ends_with("write one name a line in x.txt"), "{names:?}: {}", notices(names));
        }
        assert!(notices(&["0", "1"]).ends_with("write words in x.txt") && notices(&["cat", "cat"]).is_empty());
        assert_eq!(notices(&["tench, Tinca tinca", "goldfish", "737-800"]), "");
    }

    #[test]
    fn names_that_read_well() {
        for names in [
            &["golden_retriever", "tench"][..],
            &["001.Black_footed_Albatross", "002.Laysan_Albatross"],
            &["n02085620-Chihuahua", "n02085782-Japanese_spaniel"],
            &["737-800", "A380", "DHC-8-100", "Cessna 172"],
            &["A", "B", "C"],
            &["McLaren", "Audi", "BMW", "Fiat"],
            &["7", "seven", "sieben"],
            &["2012 BMW M3", "2013 Audi"],
            &["1 euro", "5 euro"],
            &["digit 0", "digit 1"],
            &["犬", "猫"],
            &["گربه\u{200c}ها", "سگ"],
        ] {
            assert_eq!(notices(names), "", "{names:?}");
        }
    }
}
