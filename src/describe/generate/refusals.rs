//! Answers that decline, servers' errors in place of one, and talk about what is asked.

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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
