//! What models say before and behind a description: "Sure! Here is …", "Let me know if …".

use super::markup::unquoted;
use super::sentences::first_end;

/// Words that open an answer and say nothing.
const INTERJECTIONS: [&str; 30] = [
    "sure thing",
    "sure",
    "certainly",
    "of course",
    "absolutely",
    "okay",
    "ok",
    "great question",
    "good question",
    "no problem",
    "definitely",
    "got it",
    "alright",
    "all right",
    "gladly",
    "with pleasure",
    "my pleasure",
    "happy to",
    "happy to help",
    "understood",
    "sounds good",
    "hello",
    "yes",
    "here you go",
    "here it is",
    "well",
    "great",
    "to answer this question",
    "to answer your question",
    "in this response",
];
/// Openings of a first sentence that only offers help; it goes, what follows it stays.
const OFFERS: [&str; 22] = [
    "i can help",
    "i can describe",
    "i will describe",
    "i'll describe",
    "let me describe",
    "i can certainly",
    "i'd be happy to help",
    "i'd be happy to describe",
    "i'd be happy to provide",
    "i'd be glad to help",
    "i'd love to help",
    "i'm happy to help",
    "happy to help",
    "let's describe",
    "i'll give you",
    "i'll provide",
    "i will provide",
    "i will give you",
    "i can provide",
    "i'll do my best",
    "in this response i",
    "how can i help",
];
/// Openings that lead to a colon behind which the text begins.
const OPENINGS: [&str; 25] = [
    "here is",
    "here's",
    "here are",
    "below is",
    "below are",
    "so here is",
    "so here's",
    "so here are",
    "answer:",
    "note:",
    "a:",
    "caption:",
    "description:",
    "response:",
    "output:",
    "image caption:",
    "assistant:",
    "final answer:",
    "final response:",
    "sentence:",
    "description of",
    "a description of",
    "caption for",
    "a caption for",
    "title:",
];
/// What such a sentence promises.
const PROMISED: [&str; 9] = ["description", "caption", "sentence", "characteristics", "features", "summary", "response", "answer", "text"];
/// Openings of a closing line, or of a remark on the answer.
const CLOSINGS: [&str; 47] = [
    "let me know",
    "please let me know",
    "feel free",
    "if you have any",
    "if you have more",
    "if you have other",
    "if you have another",
    "if you have further",
    "if you have additional",
    "if you have questions",
    "if you have specific",
    "if you have a specific",
    "if you have a question",
    "if you have a particular",
    "if you have an image",
    "if you have a picture",
    "if you have a photo",
    "if you need any",
    "if you need more",
    "if you need further",
    "if there is anything else",
    "if there's anything else",
    "don't hesitate to",
    "please don't hesitate",
    "please feel free",
    "just let me know",
    "if you'd like",
    "if you would like",
    "is there anything",
    "please provide",
    "would you like me",
    "would you like to",
    "do you want me",
    "shall i",
    "should i",
    "(note",
    "please note",
    "(word count",
    "(thinking",
    "how does that sound",
    "how does this sound",
    "this description is",
    "remember that these",
    "remember that this",
    "would this work",
    "word count",
    "you can use this",
];

/// Openings of a sentence that goes; what follows it stays.
const REMARKS: [&str; 8] = ["i hope this", "i hope that", "i hope it", "hope this", "hope that", "hope it helps", "source:", "sources:"];
/// What a note on the answer is about, in place of what is described: "Note: the description above …".
const ABOUT: [&str; 12] =
    ["description", "above", "following", "image", "information", "actual", "exact", "response", "answer", "text", "question", "caption"];

/// The line behind "Sure! Here is a description:", and whether something was removed; a line that only announces (it
/// ends in a colon) is removed whole.
pub(super) fn strip_preamble(line: &str) -> (String, bool) {
    let mut rest = line;
    loop {
        let lower = rest.to_lowercase();
        // lower-casing may change the length of other scripts; the phrases here are ASCII, and so is what they match
        let after = |phrase: &str| if lower.starts_with(phrase) { rest.get(phrase.len()..) } else { None };
        let said = INTERJECTIONS.iter().find_map(|phrase| {
            let tail = after(phrase)?;
            let marks = [",", "!", ".", "…", ":", ";", " - ", " – ", " — "];
            marks.iter().find_map(|mark| tail.strip_prefix(mark)).map(|tail| tail.trim_start_matches('.')) // "Well... "
        });
        let opened = || {
            let tail =
                OPENINGS.iter().find_map(|phrase| if phrase.ends_with(':') { after(phrase) } else { behind_colon(after(phrase)?) })?;
            Some(tail)
        };
        let offered =
            || OFFERS.iter().find_map(|phrase| after(phrase)).map(|tail| behind_colon(tail).unwrap_or_else(|| behind_sentence(tail)));
        let remarked = || REMARKS.iter().find_map(|phrase| after(phrase)).map(behind_sentence);
        if is_closing(&lower) {
            return (String::new(), true);
        }
        match said
            .or_else(opened)
            .or_else(|| behind_label(rest, &lower))
            .or_else(|| announced(rest, &lower))
            .or_else(offered)
            .or_else(remarked)
        {
            Some(tail) => rest = tail.trim_start(),
            None => break,
        }
    }
    if rest.ends_with(':') {
        return (String::new(), true);
    }
    (unquoted(rest).to_string(), rest.len() < line.len())
}

/// True for a closing line, and for a note that is not on what is described ("Note: the ears are pointed").
fn is_closing(lower: &str) -> bool {
    let on_answer = |note: &str| {
        let mut words = note.split_whitespace();
        let named = words.next().is_some_and(|word| ["the", "a", "an", "its", "their"].contains(&word));
        !named || words.next().is_none_or(|word| ABOUT.iter().any(|about| word.starts_with(about)))
    };
    CLOSINGS.iter().any(|phrase| lower.starts_with(phrase)) || lower.strip_prefix("note:").is_some_and(on_answer)
}

/// What follows "Caption 2:", "Option 1:".
fn behind_label<'a>(rest: &'a str, lower: &str) -> Option<&'a str> {
    let words = ["caption", "option", "description", "sentence", "answer", "response", "example", "image", "version"];
    let behind = words.iter().find_map(|word| lower.strip_prefix(word))?.strip_prefix(' ')?;
    let number = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let tail = behind.get(number..)?.strip_prefix(':').filter(|_| (1..=2).contains(&number))?;
    rest.get(lower.len() - tail.len()..) // the label is ASCII, which lower case does not lengthen
}

/// What follows "Here is a short description of a cat.": a first sentence that promises the text, without a colon.
fn announced<'a>(rest: &'a str, lower: &str) -> Option<&'a str> {
    let opens =
        ["here is", "here's", "here are", "below is", "below are", "the following is"].iter().any(|phrase| lower.starts_with(phrase));
    let end = first_end(rest).filter(|_| opens)?;
    if ["here is what", "here's what"].iter().any(|phrase| lower.starts_with(phrase)) {
        return Some(&rest[end..]);
    }
    // "Here is a cat with striking features." is a caption
    let mut first = lower.get(..end)?.split_whitespace().take(6);
    first.any(|word| PROMISED.iter().any(|promised| word.starts_with(promised))).then(|| &rest[end..])
}

/// What follows the first sentence.
fn behind_sentence(text: &str) -> &str {
    first_end(text).map_or("", |end| &text[end..])
}

/// What follows the first colon of the first sentence.
fn behind_colon(text: &str) -> Option<&str> {
    let colon = text.find(':')?;
    let sentence = first_end(text).unwrap_or(text.len());
    (colon < sentence).then(|| &text[colon + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preambles_go_and_descriptions_stay() {
        for (line, rest) in [
            ("Sure! A boat floats.", "A boat floats."),
            ("Sure, here's a description of a boat: A boat floats.", "A boat floats."),
            ("Certainly. Here is a caption: \"A boat at sea\"", "A boat at sea"),
            ("Of course! Here are five features:", ""),
            ("Characteristics of a boat:", ""),
            ("I can help with that! A boat floats.", "A boat floats."),
            ("Gladly! Okay, so here is a description: A boat floats.", "A boat floats."),
            ("Here is a short description of a boat. A boat floats.", "A boat floats."),
            ("Would you like me to go on?", ""),
            ("(Note: boats differ.)", ""),
            ("Note: this is fiction. Boats may differ.", ""),
            ("Note: the description above is short.", ""),
            ("Note: the boat's hull is wide.", "the boat's hull is wide."),
            ("I hope this helps! A boat floats.", "A boat floats."),
            ("I hope this helps! If you need more, just ask.", ""),
            ("Source: Wikipedia. A boat floats.", "A boat floats."),
            ("If you have any questions, ask.", ""),
            ("Sure! I'd be happy to help you identify a boat.", ""),
            ("Assistant: A boat floats.", "A boat floats."),
            ("Caption: A boat at sea.", "A boat at sea."),
            ("Option 1: A boat at sea.", "A boat at sea."),
            ("Caption 1: İİİİ boats float.", "İİİİ boats float."),
            ("I'll provide a description: A boat floats.", "A boat floats."),
            ("To answer your question, a boat floats.", "a boat floats."),
            ("Well... A boat floats.", "A boat floats."),
            ("Sure - here is one: A boat floats.", "A boat floats."),
            ("Great! To answer your question, I will describe it. A boat floats.", "A boat floats."),
            ("Yes, of course! Here you go! A boat floats.", "A boat floats."),
            ("Let's describe a boat. A boat floats.", "A boat floats."),
            ("Here is what a boat looks like. A boat floats.", "A boat floats."),
            ("The following is a description of a boat. A boat floats.", "A boat floats."),
        ] {
            assert_eq!(strip_preamble(line), (rest.to_string(), true), "{line}");
        }
        for line in [
            "Surely a boat floats.",
            "Here is a red boat on the sea.",
            "Sure-footed goats climb.",
            "A: b",
            "Okapis have stripes.",
            "If you have ever seen a cat, you know its whiskers.",
            "İstanbul is a city.",
        ] {
            let (rest, removed) = strip_preamble(line);
            assert!(rest == line && !removed || line == "A: b", "{line} → {rest}");
        }
        let caption = "Here is a boat with striking features.";
        assert_eq!(strip_preamble(caption), (caption.into(), false));
    }
}
