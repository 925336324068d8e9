//! What reasoning models think before they answer, in every bracket that they use.

/// What the name of a tag holds where it means thinking: `<think>`, `◁think▷`, `<|begin_of_thought|>`, `<seed:think>`,
/// `<inner_monologue>`, `<antThinking>`.
const STEMS: [&str; 8] = ["think", "thought", "reason", "reflect", "monolog", "scratch", "deliberat", "rationale"];
/// Other names of the kind.
const WORDS: [&str; 4] = ["analysis", "cot", "plan", "planning"];
/// What may stand in square brackets, which prose uses too.
const SQUARE: [&str; 5] = ["think", "thinking", "thought", "thoughts", "reasoning"];
/// Headings of thoughts at the very beginning, and of the answer behind them.
const HEADINGS: [&str; 8] =
    ["here is my thought process", "thought process", "thoughts", "thought", "thinking process", "thinking...", "thinking", "reasoning"];
const ANSWERS: [&str; 9] = [
    "here is my response",
    "final answer",
    "final response",
    "final description",
    "answer",
    "response",
    "description",
    "output",
    "...done thinking.",
];
/// A bracket longer than this is prose.
const LONGEST: usize = 80;

/// The text without thoughts. What was opened and never closed reaches to the end; what is closed without having been
/// opened reaches from the beginning, for chat templates often open it in the prompt.
pub(super) fn without_thoughts(text: &str) -> String {
    let (mut kept, mut open) = (String::new(), Vec::<String>::new());
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find(['<', '[', '◁']) {
        let start = at + found;
        let Some(tag) = tag(&text[start..], &open) else {
            at = start + text[start..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if open.is_empty() {
            kept.push_str(&text[plain..start]);
        }
        if !tag.closes {
            if !open.contains(&tag.word) {
                open.push(tag.word); // a second one of its kind is the model's talk about it
            }
        } else if let Some(place) = open.iter().rposition(|word| *word == tag.word) {
            open.truncate(place);
        } else if open.pop().is_none() {
            kept.clear();
        }
        (plain, at) = (start + tag.length, start + tag.length);
    }
    if open.is_empty() {
        kept.push_str(&text[plain..]);
    }
    let kept = without_fence(kept);
    behind_headings(&kept).unwrap_or(kept)
}

/// Without a block of code that is named after thinking: "```thinking".
fn without_fence(text: String) -> String {
    let lower = text.to_ascii_lowercase();
    let fences = ["```thinking\n", "```think\n", "```thought\n", "```thoughts\n", "```reasoning\n"];
    let Some((start, fence)) = fences.iter().find_map(|fence| Some((lower.find(fence)?, fence))) else { return text };
    let inner = start + fence.len();
    let rest = lower[inner..].find("\n```").map_or("", |end| &text[inner + end + 4..]);
    format!("{}{rest}", &text[..start])
}

/// True if the text is one bracket that has to do with thoughts.
#[cfg(feature = "llm")]
pub(super) fn is_tag(text: &str) -> bool {
    tag(text, &[]).is_some_and(|tag| tag.length == text.len())
}

struct Tag {
    word: String,
    closes: bool,
    length: usize,
}

/// The bracket at the beginning of `text`, if it has to do with thoughts.
fn tag(text: &str, open: &[String]) -> Option<Tag> {
    let bracket = text.chars().next()?;
    let end = match bracket {
        '<' => '>',
        '[' => ']',
        _ => '▷',
    };
    let rest = &text[bracket.len_utf8()..];
    let rest = &rest[..rest.floor_char_boundary(LONGEST + 4)];
    let inner = &rest[..rest.find([end, '\n'])?];
    if inner.len() > LONGEST || !rest[inner.len()..].starts_with(end) {
        return None;
    }
    let length = bracket.len_utf8() + inner.len() + end.len_utf8();
    let known = |word: &str, closes: bool| Some(Tag { word: word.to_string(), closes, length });
    // MedGemma's and Gemma's
    match (bracket, inner) {
        ('<', "unused94" | "|channel") => return known(inner.trim_start_matches('|'), false),
        ('<', "unused95") => return known("unused94", true),
        ('<', "channel|") => return known("channel", true),
        _ => {}
    }
    let name = inner.trim_matches(['|', '｜', ' ']).to_lowercase().replace(['▁', '-'], "_");
    let (slash, name) = name.strip_prefix('/').map_or((false, name.as_str()), |name| (true, name.trim_start()));
    let (name, attributes) = name.split_once(' ').unwrap_or((name, ""));
    let name = name.rsplit(':').next().unwrap_or(name);
    let begun = ["begin_of_", "start_of_", "begin_", "start_"].iter().find_map(|prefix| name.strip_prefix(prefix));
    let ended = ["end_of_", "end_"].iter().find_map(|prefix| name.strip_prefix(prefix));
    let word = begun.or(ended).unwrap_or(name);
    let closes = slash || ended.is_some();
    // Open WebUI folds thoughts away
    if word == "details" && (attributes.contains("reasoning") || (closes && open.iter().any(|word| word == "details"))) {
        return known(word, closes);
    }
    let is_name =
        word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !["answer", "response"].iter().any(|end| word.ends_with(end));
    let means_it = match bracket {
        '[' => SQUARE.contains(&word),
        _ => is_name && (WORDS.contains(&word) || STEMS.iter().any(|stem| word.contains(stem))),
    };
    if means_it { known(word, closes) } else { None }
}

/// What follows the answer's heading, if the text begins with a heading of thoughts ("Thought: … Final answer: …") or says
/// later that it is final; nothing if the answer never came.
fn behind_headings(text: &str) -> Option<String> {
    let bare = |line: &str| line.replace(['*', '#', '_'], "").trim().to_lowercase();
    // "Thought: hm", "### Answer", "...done thinking."
    let headed = |line: &str, headings: &[&str]| {
        let line = bare(line);
        headings.iter().any(|heading| line.strip_prefix(heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
    };
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    // a plan without a heading ("Step 1: …") ends at the answer's, too
    let planned = lines.clone().skip(1).any(|line| headed(line, &["final answer", "final response", "final description"]));
    if !headed(lines.next()?, &HEADINGS) && !planned {
        return None;
    }
    let rest: Vec<&str> = lines.skip_while(|line| !headed(line, &ANSWERS)).collect();
    let first = rest.first().and_then(|line| line.split_once(':')).map_or("", |(_, behind)| behind.trim_start_matches(['*', ' ']));
    Some(std::iter::once(first).chain(rest.iter().skip(1).copied()).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::without_thoughts;

    #[test]
    fn every_bracket() {
        for (open, close) in [
            ("<think>", "</think>"),
            ("<Thinking>", "</thinking>"),
            ("<thought>", "</thought>"),
            ("<reasoning effort=\"low\">", "</reasoning>"),
            ("<reflection>", "</reflection>"),
            ("<seed:think>", "</seed:think>"),
            ("<chain-of-thought>", "</chain-of-thought>"),
            ("[THINK]", "[/THINK]"),
            ("◁think▷", "◁/think▷"),
            ("<|begin_of_thought|>", "<|end_of_thought|>"),
            ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("<|think|>", "<|/think|>"),
            ("<unused94>", "<unused95>"),
            ("<|channel>", "<channel|>"),
            ("<details type=\"reasoning\" done=\"true\">", "</details>"),
        ] {
            let whole = format!("{open}A user < wants [a] text.\n\n{close}\n\nA cat.");
            assert_eq!(without_thoughts(&whole).trim(), "A cat.", "{open}");
            assert_eq!(without_thoughts(&format!("A cat.{open}Or not")), "A cat.", "cut off: {open}");
            if !close.contains("details") {
                assert_eq!(without_thoughts(&format!("Hm.{close}A cat.")), "A cat.", "opened in the prompt: {close}");
            }
        }
    }

    #[test]
    fn nested_mixed_and_repeated() {
        for (text, rest) in [
            ("<thinking>a <reflection>b</reflection> c</thinking>A cat.", "A cat."),
            ("<think>I write <think> first</think>A cat.", "A cat."),
            ("<thinking>a</think>A cat.", "A cat."),
            ("A cat <think>x</think>sits.", "A cat sits."),
            ("<think>a</think>A <think>b</think>cat.", "A cat."),
            ("Thought: I should\nlook.\nFinal Answer: A cat.", "A cat."),
            ("Step 1: Consider the cat.\nStep 2: Write.\n**Final answer:** A cat.", "A cat."),
            ("Final answer: A cat.", "Final answer: A cat."),
            ("**Thinking:** hm\n\n**Answer:** A cat.\nIt sits.", "A cat.\nIt sits."),
            ("Here is my thought process:\nhm\n\nHere is my response:\nA cat.", "\nA cat."),
            ("Reasoning: hm, I", ""),
            ("### Thinking\nhm\n\n### Answer\nA cat.", "\nA cat."),
            ("Thinking...\nhm\n...done thinking.\n\nA cat.", "\n\nA cat."),
            ("```thinking\nhm\n```\nA cat.", "\nA cat."),
            ("< think >hm</ think >A cat.", "A cat."),
            ("<inner_thoughts>hm</inner_thoughts><antThinking>hm</antThinking>A cat.", "A cat."),
        ] {
            assert_eq!(without_thoughts(text), rest, "{text}");
        }
    }

    #[test]
    fn prose_stays() {
        for text in [
            "A cat [see below] is < 1 m.",
            "<b>Cat</b> [reflection] <details>x</details>",
            "Thoughts of cats.",
            "Thinking of cats: A cat.",
            "a <",
            "[",
            "◁",
        ] {
            assert_eq!(without_thoughts(text), text);
        }
    }
}
