//! What models say around a description: markup, preambles, refusals, nonsense.

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
const OPENINGS: [&str; 24] = [
    "here is",
    "here's",
    "here are",
    "below is",
    "below are",
    "so here is",
    "so here's",
    "so here are",
    "answer:",
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
/// Openings of an answer that declines, of a server's error in place of one, and of the model's talk about what is asked.
const REFUSALS: [&str; 131] = [
    "error:",
    "rate limit",
    "you have exceeded",
    "you've exceeded",
    "too many requests",
    "the response was filtered",
    "internal server error",
    "bad gateway",
    "502 bad gateway",
    "503 service",
    "504 gateway",
    "the user wants",
    "the user is asking",
    "the user asks",
    "the user asked",
    "the user would like",
    "i'm sorry",
    "i am sorry",
    "sorry,",
    "sorry, but",
    "i cannot",
    "i can't",
    "i can not",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "i am not able",
    "as an ai",
    "as a language model",
    "as a large language model",
    "i'm just an ai",
    "i'm an ai",
    "i'm just a language model",
    "i'm a language model",
    "i am a language model",
    "unfortunately, i",
    "unfortunately, as an ai",
    "no image was provided",
    "no image is attached",
    "i don't see",
    "i do not have",
    "i don't have",
    "i don't know",
    "i do not know",
    "i apologize",
    "i'm afraid",
    "i must decline",
    "i won't",
    "my apologies",
    "i'm not sure",
    "i will not",
    "i decline",
    "i must respectfully",
    "i'd rather not",
    "i would rather not",
    "i'd prefer not",
    "i regret",
    "regrettably, i",
    "i'm going to have to",
    "i don't feel comfortable",
    "i do not feel comfortable",
    "i'm programmed",
    "i am programmed",
    "i'm designed",
    "i need more",
    "could you please",
    "could you clarify",
    "can you please",
    "it looks like you",
    "it looks like your",
    "it seems you",
    "it seems like you",
    "there is no image",
    "as an artificial intelligence",
    "unfortunately i",
    "there's no image",
    "no image was",
    "no image is",
    "please upload",
    "please share",
    "apologies",
    "i'm not familiar",
    "i am not familiar",
    "could you provide",
    "can you provide",
    "this request",
    "your request",
    "sorry.",
    "sorry!",
    "error 4",
    "error 5",
    "an error occurred",
    "the model is overloaded",
    "model overloaded",
    "the question is",
    "the task is",
    "the user is requesting",
    "the user needs",
    "let me think",
    "let's think",
    "first, i",
    "i need to write",
    "i need to describe",
    "i need to provide",
    "i need to think",
    "i should write",
    "i should describe",
    "i must describe",
    "i must write",
    "we need to write",
    "we need to describe",
    "we need to provide",
    "we need to produce",
    "we need to answer",
    "we should describe",
    "we should write",
    "it's not possible for me",
    "it is not possible for me",
    "i would need",
    "we cannot",
    "we can't",
    "i do not understand",
    "i don't understand",
    "i'm not aware",
    "i am not aware",
    "what do you mean",
    "can you clarify",
    "content blocked",
    "[content",
    "thank you for",
    "thanks for",
];
/// The same in other languages.
const REFUSALS_ELSEWHERE: [&str; 20] = [
    "es tut mir leid",
    "tut mir leid",
    "leider kann ich",
    "ich kann leider",
    "entschuldigung",
    "lo siento",
    "lamento",
    "lamentablemente",
    "je suis désolé",
    "désolé",
    "je ne peux pas",
    "mi dispiace",
    "desculpe",
    "sinto muito",
    "申し訳",
    "すみません",
    "抱歉",
    "很抱歉",
    "对不起",
    "我无法",
];
/// What may stand before a refusal: "Oh, I'm sorry", "but I cannot".
const LEADS: [&str; 7] = ["oh, ", "hmm, ", "hm, ", "well, ", "but ", "and ", "however, "];

/// Openings of a closing line, or of a remark on the answer.
const CLOSINGS: [&str; 34] = [
    "let me know",
    "please let me know",
    "feel free",
    "if you have",
    "if you'd like",
    "if you would like",
    "i hope this",
    "i hope that",
    "i hope it",
    "hope this",
    "hope that",
    "is there anything",
    "please provide",
    "would you like me",
    "would you like to",
    "do you want me",
    "shall i",
    "should i",
    "note:",
    "(note",
    "please note",
    "(word count",
    "(thinking",
    "hope it helps",
    "how does that sound",
    "how does this sound",
    "this description is",
    "remember that these",
    "remember that this",
    "would this work",
    "word count",
    "you can use this",
    "source:",
    "sources:",
];

/// A line without list marks, headings, emphasis and the quotes around it.
pub(super) fn strip_markup(line: &str) -> String {
    let mut line = line.trim();
    loop {
        let bare = line.trim_start_matches(|c: char| matches!(c, '#' | '>' | '•' | '·' | '|') || is_symbol(c)).trim_start();
        let bare = ["- ", "* ", "+ ", "– ", "— ", "[ ] ", "[x] ", "[X] "]
            .iter()
            .find_map(|mark| bare.strip_prefix(mark))
            .unwrap_or(bare)
            .trim_start();
        let bare = without_number(bare);
        if bare.len() == line.len() {
            break;
        }
        line = bare;
    }
    let line = line.replace("**", "").replace("__", "").replace('`', "");
    let line = line.trim().trim_matches('*').replace(" *", " ").replace("* ", " ");
    let mut line = line.trim();
    line = unquoted(line);
    line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '=' | '_')).to_string()
}

/// Marks and pictures that stand in front of an item of a list: arrows, shapes, dingbats, emoji.
fn is_symbol(c: char) -> bool {
    matches!(c, '‣' | '⁃' | '\u{fe0f}' | '\u{2190}'..='\u{21ff}' | '\u{25a0}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{1f300}'..='\u{1faff}')
}

/// Without the quotes around all of it, or a single one that has lost its partner.
fn unquoted(line: &str) -> &str {
    match line.matches('"').count() {
        1 => line.trim_matches('"'),
        2 => line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(line),
        _ => line,
    }
}

/// Without "1. ", "(2) ", "b) ", "ii. ", "3️⃣ " in front.
fn without_number(line: &str) -> &str {
    if let Some((number, rest)) = line.split_once("\u{fe0f}\u{20e3}")
        && number.chars().all(|c| c.is_ascii_digit())
    {
        return rest.trim_start();
    }
    if let Some((number, rest)) = line.split_once(". ")
        && ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"].contains(&number)
    {
        return rest.trim_start();
    }
    let inner = line.strip_prefix('(').unwrap_or(line);
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let letter = usize::from(inner.starts_with(|c: char| c.is_ascii_lowercase()) && inner[1..].starts_with(')'));
    let count = if (1..=3).contains(&digits) { digits } else { letter };
    let rest = inner.get(count..).unwrap_or("");
    let marks: &[char] = if digits > 0 { &['.', ')', ':'] } else { &[')'] };
    match rest.strip_prefix(marks) {
        Some(rest) if count > 0 && (rest.is_empty() || rest.starts_with(char::is_whitespace)) => rest.trim_start(),
        _ => line,
    }
}

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
        match said.or_else(opened).or_else(|| behind_label(rest, &lower)).or_else(|| announced(rest, &lower)).or_else(offered) {
            Some(tail) => rest = tail.trim_start(),
            None => break,
        }
    }
    let lower = rest.to_lowercase();
    if rest.ends_with(':') || CLOSINGS.iter().any(|phrase| lower.starts_with(phrase)) {
        return (String::new(), true);
    }
    (unquoted(rest).to_string(), rest.len() < line.len())
}

/// What follows "Here is a short description of a cat.": a first sentence that promises the text, without a colon.
fn announced<'a>(rest: &'a str, lower: &str) -> Option<&'a str> {
    let opens =
        ["here is", "here's", "here are", "below is", "below are", "the following is"].iter().any(|phrase| lower.starts_with(phrase));
    let end = super::sentences::first_end(rest).filter(|_| opens)?;
    if ["here is what", "here's what"].iter().any(|phrase| lower.starts_with(phrase)) {
        return Some(&rest[end..]);
    }
    // "Here is a cat with striking features." is a caption
    let mut first = lower.get(..end)?.split_whitespace().take(6);
    first.any(|word| PROMISED.iter().any(|promised| word.starts_with(promised))).then(|| &rest[end..])
}

/// What follows the first sentence.
fn behind_sentence(text: &str) -> &str {
    super::sentences::first_end(text).map_or("", |end| &text[end..])
}

/// What follows the first colon of the first sentence.
fn behind_colon(text: &str) -> Option<&str> {
    let colon = text.find(':')?;
    let sentence = super::sentences::first_end(text).unwrap_or(text.len());
    (colon < sentence).then(|| &text[colon + 1..])
}

/// True if a server put a web page in place of an answer.
pub(super) fn is_web_page(answer: &str) -> bool {
    let head: String = answer.trim_start().chars().take(16).collect::<String>().to_lowercase();
    head.starts_with("<!doctype html") || head.starts_with("<html")
}

/// True if the model declines.
pub(super) fn is_refusal(line: &str) -> bool {
    let lower = line.to_lowercase();
    let much = |word: &&str| !matches!(*word, "really" | "truly" | "very" | "so" | "deeply");
    let lower = lower.split_whitespace().filter(much).collect::<Vec<_>>().join(" ");
    let lower = LEADS.iter().fold(lower.as_str(), |rest, lead| rest.strip_prefix(lead).unwrap_or(rest));
    REFUSALS.iter().any(|phrase| lower.strip_prefix(phrase).is_some_and(|rest| !rest.starts_with(char::is_alphabetic)))
        || REFUSALS_ELSEWHERE.iter().any(|phrase| lower.starts_with(phrase))
}

/// What follows "Caption 2:", "Option 1:".
fn behind_label<'a>(rest: &'a str, lower: &str) -> Option<&'a str> {
    let words = ["caption", "option", "description", "sentence", "answer", "response", "example", "image", "version"];
    let behind = words.iter().find_map(|word| lower.strip_prefix(word))?.strip_prefix(' ')?;
    let number = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let tail = behind.get(number..)?.strip_prefix(':').filter(|_| (1..=2).contains(&number))?;
    rest.get(lower.len() - tail.len()..) // the label is ASCII, which lower case does not lengthen
}

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
    let distinct = words.iter().collect::<std::collections::HashSet<_>>().len();
    words.iter().any(endless) || unfilled || repeats || (words.len() >= 10 && distinct * 3 < words.len())
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
            "İstanbul is a city.",
        ] {
            let (rest, removed) = strip_preamble(line);
            assert!(rest == line && !removed || line == "A: b", "{line} → {rest}");
        }
        let caption = "Here is a boat with striking features.";
        assert_eq!(strip_preamble(caption), (caption.into(), false));
    }

    #[test]
    fn marks_go_and_numbers_in_sentences_stay() {
        for (line, bare) in [
            ("1. A boat", "A boat"),
            ("(12) A boat", "A boat"),
            ("b) A boat", "A boat"),
            ("- 3. **A boat** floats", "A boat floats"),
            ("3.5 metres long", "3.5 metres long"),
            ("747 airplanes", "747 airplanes"),
            ("a boat", "a boat"),
            ("### Heading", "Heading"),
            ("\"A boat.\"", "A boat."),
            ("\"A boat at sea\" could be a caption", "\"A boat at sea\" could be a caption"),
            ("A boat at sea\"", "A boat at sea"),
            ("*A boat* floats *well*", "A boat floats well"),
            ("1.", ""),
            ("---", ""),
            ("é) x", "é) x"),
            ("ii. x", "x"),
            ("✅ 3️⃣ x", "x"),
            ("- [x] x", "x"),
        ] {
            assert_eq!(strip_markup(line), bare, "{line}");
        }
    }

    #[test]
    fn refusals_are_openings() {
        assert!(is_refusal("I'm really sorry, but no.") && is_refusal("I am truly sorry, but no.") && !is_refusal("I'm really a boat."));
        assert!(is_refusal("Unfortunately, as an AI I see nothing.") && is_refusal("I'm just a language model."));
        assert!(is_refusal("It looks like your message was cut off.") && !is_refusal("It looks like a boat."));
        for text in [
            "Oh, I'm sorry.",
            "but I cannot see it.",
            "Sorry! No.",
            "Es tut mir leid, nein.",
            "抱歉，我不能。",
            "We need to write a caption.",
        ] {
            assert!(is_refusal(text), "{text}");
        }
        assert!(!is_refusal("Sorry-looking boats lie there.") && !is_refusal("Errors in the hull show."));
        assert!(is_refusal("I can't do that.") && is_refusal("As an AI, I have no eyes."));
        assert!(!is_refusal("I cannister") && !is_refusal("As an aircraft, it flies.") && !is_refusal("A sorry boat."));
        assert!(is_refusal("Error: rate limit exceeded.") && is_refusal("502 Bad Gateway") && is_refusal("The user wants a sentence."));
        assert!(!is_refusal("Errors happen.") && !is_refusal("The user of a boat steers it."));
        assert!(is_web_page("\n<!DOCTYPE html><title>x") && is_web_page("<html lang=en>") && !is_web_page("<p>A boat.</p>"));
        assert!(is_nonsense("A photo of a [class name] with [color] fur.") && !is_nonsense("A boat [Latin: navis] floats on water."));
        assert!(!is_nonsense("A U-boat, e.g. the \"U-96\" (1940), dives."));
        assert_eq!((words("一种大型动物。"), words("A boat."), words("It's a boat – big")), (6, 2, 4));
    }
}
