//! Whose words are whose: the marks of chat templates that stand in an answer's text as letters.

/// What a mark says.
enum Mark {
    /// A role's name follows, as a word.
    Header,
    /// A channel's name follows, as a word: `final` is the answer, the others are thoughts.
    Channel,
    /// The header is over, the words begin.
    Message,
    /// A role, named by the mark itself.
    Role(bool),
    /// The end of an instruction that was repeated, or of the answer.
    Instructed,
    /// A text begins.
    Begin,
    /// The answer begins, whatever stood before it.
    Solution,
    /// A text ends; also every mark that is not known.
    End,
}

/// Marks that stand in plain angle brackets. All others have bars within: `<|im_end|>`, `<｜end▁of▁sentence｜>`.
const ANGLED: [&str; 19] = [
    "s",
    "/s",
    "eos",
    "bos",
    "pad",
    "eot",
    "eod",
    "unk",
    "start_of_turn",
    "end_of_turn",
    "end_of_utterance",
    "endoftext",
    "end_of_text",
    "im_end",
    "extra_id_0",
    "extra_id_1",
    "|turn",
    "turn|",
    "<sys>",
];
/// Marks in square brackets; EXAONE's have bars within.
const SQUARE: [&str; 9] = ["INST", "/INST", "EOS", "BOS", "PAD", "SEP", "CLS", "end of text", "/s"];
/// A mark longer than this is prose.
const LONGEST: usize = 48;
/// Beginnings of a line at which somebody else speaks: models without an end mark write the next question themselves.
const OTHERS: [&str; 9] = ["Human:", "HUMAN:", "User:", "USER:", "Instruction:", "Instructions:", "Question:", "Q:", "<|user|>"];

/// The words of the assistant's first turn that has any (of a `final` channel if there is one), and whether a mark ended
/// them: then they are whole.
pub(super) fn of_assistant(text: &str) -> (String, bool) {
    let text = behind_stripped_channels(text);
    let text = without_torn_mark(text);
    let (spoken, ended) = first_turn(text);
    let (spoken, interrupted) = before_others(&spoken);
    (spoken, ended || interrupted)
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Assistant,
    Final,
    Other,
}

fn first_turn(text: &str) -> (String, bool) {
    let mut turns = vec![(Who::Assistant, String::new())];
    let (mut plain, mut at) = (0, 0);
    let mut header = None;
    while let Some(found) = text[at..].find(['<', '[']) {
        let start = at + found;
        let Some((mark, length)) = mark(&text[start..]) else {
            at = start + 1;
            continue;
        };
        speak(&text[plain..start], &mut header, &mut turns);
        (plain, at) = (start + length, start + length);
        let (who, silent) = turns.last().map_or((Who::Other, true), |(who, turn)| (*who, turn.trim().is_empty()));
        match mark {
            Mark::Header | Mark::Channel => header = Some(mark),
            Mark::Message => {
                if let Some((_, turn)) = turns.last_mut() {
                    turn.clear(); // what is left of the header
                }
            }
            Mark::Role(assistant) => turns.push((if assistant { Who::Assistant } else { Who::Other }, String::new())),
            Mark::Solution => turns.push((Who::Final, String::new())),
            Mark::Instructed if who == Who::Other => turns.push((Who::Assistant, String::new())),
            Mark::Begin | Mark::End | Mark::Instructed if who != Who::Other && silent => {}
            Mark::Begin | Mark::End | Mark::Instructed => {
                turns.push((if who == Who::Other { Who::Assistant } else { Who::Other }, String::new()));
            }
        }
    }
    speak(&text[plain..], &mut header, &mut turns);
    let last = turns.len() - 1;
    let spoken = |who: Who| turns.iter().position(|(speaker, turn)| *speaker == who && !turn.trim().is_empty());
    match spoken(Who::Final).or_else(|| spoken(Who::Assistant)) {
        Some(place) => (turns.swap_remove(place).1, place < last),
        None => (String::new(), false),
    }
}

/// Adds words to the last turn; behind a header the first of them names who speaks.
fn speak(words: &str, header: &mut Option<Mark>, turns: &mut Vec<(Who, String)>) {
    let mut words = words;
    if let Some(mark) = header.take() {
        words = words.trim_start();
        let (name, rest) = words.split_at(words.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(words.len()));
        let who = match (mark, name.to_lowercase().as_str()) {
            (Mark::Channel, "final") => Who::Final,
            (Mark::Channel, _) => Who::Other,
            (_, "" | "assistant" | "model" | "bot" | "gpt" | "ai") => Who::Assistant,
            _ => Who::Other,
        };
        words = rest;
        turns.push((who, String::new()));
    }
    if let Some((_, turn)) = turns.last_mut() {
        turn.push_str(words);
    }
}

/// The mark at the beginning of `text`, and its length.
fn mark(text: &str) -> Option<(Mark, usize)> {
    let (open, close) = if text.starts_with('<') { ('<', '>') } else { ('[', ']') };
    let text = &text[..text.floor_char_boundary(LONGEST + 4)];
    let inner = text[1..].split([close, '\n']).next()?;
    let doubled = text.starts_with("<<") && text[1 + inner.len()..].starts_with(">>"); // <<SYS>>
    let length = inner.len() + 2 + usize::from(doubled);
    if inner.is_empty() || inner.len() > LONGEST || !text[1 + inner.len()..].starts_with(close) {
        return None;
    }
    let barred = |bar: char| inner.len() > 2 * bar.len_utf8() && inner.starts_with(bar) && inner.ends_with(bar);
    let known = barred('|')
        || barred('｜')
        || doubled
        || if open == '<' { ANGLED.contains(&inner.to_lowercase().as_str()) } else { SQUARE.contains(&inner) };
    let name = inner.trim_matches(['|', '｜', '<']).to_lowercase().replace(['▁', '-', ' '], "_");
    if !known || name.contains(['<', '>', '[', ']']) {
        return None;
    }
    let mark = match name.as_str() {
        "turn" if inner.starts_with('|') => Mark::Header,
        "im_start" | "start_header_id" | "start_of_turn" | "start_of_turn_token" | "start" | "role" | "start_of_role" | "role_start" => {
            Mark::Header
        }
        "channel" => Mark::Channel,
        "end_header_id" | "message" | "im_sep" | "im_middle" | "end_of_role" | "role_end" | "constrain" => Mark::Message,
        "assistant" | "model" | "bot" | "chatbot" | "chatbot_token" | "gpt" | "ai" => Mark::Role(true),
        "user" | "user_token" | "human" | "system" | "system_token" | "sys" | "/sys" | "tool" | "observation" | "ipython" | "prompter"
        | "environment" | "instruction" | "inst" => Mark::Role(false),
        "/inst" => Mark::Instructed,
        "s" | "bos" | "startoftext" | "begin_of_text" | "start_of_text" | "begin_of_sentence" | "start_text" => Mark::Begin,
        "begin_of_solution" | "begin_of_box" | "start_response" | "begin_of_answer" | "answer" => Mark::Solution,
        _ => Mark::End,
    };
    Some((mark, length))
}

/// gpt-oss without its marks: `analysisWe need …assistantfinalA cat`.
fn behind_stripped_channels(text: &str) -> &str {
    const FINAL: &str = "assistantfinal";
    match text.rfind(FINAL) {
        Some(at) => &text[at + FINAL.len()..],
        None if text.trim_start().strip_prefix("analysis").is_some_and(|rest| rest.starts_with(char::is_uppercase)) => "",
        None => text,
    }
}

/// The limit of tokens, or a stop string, may leave half a mark: `<|im_`, `</s`.
fn without_torn_mark(text: &str) -> &str {
    let Some((words, mark)) = text.rfind('<').map(|at| text.split_at(at)) else { return text };
    let of_mark = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '|' | '/' | '｜' | '▁');
    let torn = mark.len() < LONGEST && mark[1..].starts_with(['|', '/', '｜']) && mark[1..].chars().all(of_mark);
    if torn { words } else { text }
}

/// What stands before the line at which somebody else begins to speak; a question that is repeated first is dropped.
fn before_others(text: &str) -> (String, bool) {
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches(['#', '*', ' ']);
        if !OTHERS.iter().any(|opening| bare.starts_with(opening)) {
            kept.push_str(line);
        } else if !kept.trim().is_empty() {
            return (kept, true);
        }
    }
    (kept, false)
}

#[cfg(test)]
mod tests {
    use super::of_assistant;

    fn words(text: &str) -> (String, bool) {
        let (words, ended) = of_assistant(text);
        (words.trim().to_string(), ended)
    }

    #[test]
    fn end_marks_of_every_family() {
        for mark in [
            "</s>",
            "<eos>",
            "<EOT>",
            "<|im_end|>",
            "<|eot_id|>",
            "<|eom_id|>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<end_of_turn>",
            "<end_of_utterance>",
            "<|end|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|return|>",
            "<｜end▁of▁sentence｜>",
            "[/INST]",
            "[EOS]",
            "[|endofturn|]",
            " [end of text]",
            "<|never heard of|>",
            "<turn|>",
            "<extra_id_1>User",
        ] {
            assert_eq!(words(&format!("A cat sits.{mark}")), ("A cat sits.".into(), true), "{mark}");
            assert_eq!(words(&format!("A cat sits.{mark}\nA dog.")), ("A cat sits.".into(), true), "run on: {mark}");
        }
        for torn in ["<|im_", "</s", "<|", "<｜end▁of"] {
            assert_eq!(words(&format!("A cat sits.{torn}")).0, "A cat sits.", "{torn}");
        }
    }

    #[test]
    fn headers_and_turns() {
        for text in [
            "<s> A cat sits.",
            "</s>A cat sits.",
            "<|im_start|>assistant\nA cat sits.<|im_end|>",
            "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat sits.<|im_end|>\n<|im_start|>user\nMore?",
            "A cat sits.<|im_end|>\n<|im_start|>user\nAnd a dog?<|im_end|>\n<|im_start|>assistant\nA dog runs.<|im_end|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\nA cat sits.<|eot_id|>",
            "<start_of_turn>model\nA cat sits.<end_of_turn>\n<start_of_turn>user\nMore",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A cat sits.<|END_OF_TURN_TOKEN|>",
            "<|start_of_role|>assistant<|end_of_role|>A cat sits.<|end_of_text|>",
            "<|assistant|>\nA cat sits.<|user|>\nMore",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is it? [/INST] A cat sits. </s>",
            "[|assistant|]A cat sits.[|endofturn|]",
            "<｜User｜>What?<｜Assistant｜>A cat sits.<｜end▁of▁sentence｜>",
            "Let me see. <|begin_of_solution|>A cat sits.<|end_of_solution|>",
            "A cat sits.\n\n### Human: What is a dog?\n### Assistant: A dog runs.",
            "A cat sits.\nQ: What is a dog?\nA: A dog runs.",
            "Q: What is a cat?\nA cat sits.",
        ] {
            assert_eq!(words(text).0, "A cat sits.", "{text}");
        }
    }

    #[test]
    fn the_final_channel_is_the_answer() {
        for text in [
            "<|channel|>analysis<|message|>We need a sentence.<|end|><|start|>assistant<|channel|>final<|message|>A cat sits.<|return|>",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=x<|message|>{}<|call|><|start|>assistant<|channel|>final <|constrain|>json<|message|>A cat sits.",
            "<|channel|>final<|message|>A cat sits.<|end|>",
            "analysisWe need a sentence.assistantfinalA cat sits.",
        ] {
            assert_eq!(words(text).0, "A cat sits.", "{text}");
        }
        for text in ["<|channel|>analysis<|message|>We need a", "analysisWe need", "<|im_end|>", ""] {
            assert_eq!(words(text).0, "", "{text}");
        }
    }

    #[test]
    fn prose_stays() {
        for text in ["A cat < 1 m, > 2 kg [INSTEAD].", "a <b>cat</b> [1] <", "analysis shows a cat", "Is it a user: yes.", "|<>|", "[]"] {
            assert_eq!(of_assistant(text), (text.to_string(), false));
        }
    }
}
