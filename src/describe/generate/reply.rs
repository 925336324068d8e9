//! What a server's answer means: text, try again, skip, or give up.

use std::time::Duration;

use serde_json::Value;

use super::api_key::ApiKey;
use super::request::{Answer, Api, Finish};

/// The next step after one try.
pub(super) enum Reply {
    Answer(Answer),
    /// Try again, after this time at the earliest.
    Again {
        why: String,
        after: Option<Duration>,
    },
    /// The server is there and loads its model: this is not a failure, ask again in a while.
    Loading(String),
    /// This request will not be answered; others may be.
    Skip(String),
    /// This request is refused for what it asks; others may not be.
    Refused(String),
    /// No request will be answered.
    Fatal(String),
}

impl Reply {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self::Again { why: why.into(), after: None }
    }
}

/// The text in the body of a successful response. Bytes that are not UTF-8 become U+FFFD: the answer is paid for, and
/// cleaning counts what they spoil. Should the server have echoed the key, it does not get further than this.
pub(super) fn answer_of(body: &[u8], api: Api, key: Option<&ApiKey>) -> Reply {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Reply::again("the answer is empty");
    }
    if ["data:", "event:", ": "].iter().any(|begin| text.trim_start().starts_with(begin)) {
        return Reply::Fatal("streams its answers, which was not asked for: turn streaming off there, or in the gateway before it".into());
    }
    let json: Value = match serde_json::from_str(text).or_else(|e| serde_json::from_str(&mended(text)).map_err(|_| e)) {
        Ok(json) => json,
        Err(e) => return Reply::again(format!("the answer is not JSON ({})", one_line(&e.to_string(), 80))),
    };
    if let Some(error) = json.get("error").filter(|error| !error.is_null()) {
        let mut error = error.clone();
        if let Some(key) = key {
            key.redact_json(&mut error);
        }
        return Reply::again(format!("the server says {}", one_line(&error.to_string(), 120)));
    }
    let Some(choice) = json.pointer("/choices/0") else {
        return Reply::again("the answer holds no `choices`, as an OpenAI-compatible server's does");
    };
    let said = match api {
        Api::Chat => Said::of(choice.pointer("/message/content").or(choice.get("text")), choice.pointer("/message/refusal")),
        Api::Completion => Said::of(choice.get("text").or(choice.pointer("/message/content")), None),
    };
    let Some(Said { text, declined }) = said else { return Reply::again("the answer's text is not text") };
    let text = match key {
        Some(key) => key.redact_answer(text),
        None => text,
    };
    let silent = text.trim().is_empty();
    let reason = choice.get("finish_reason").and_then(Value::as_str).map(str::to_lowercase);
    let finish = match reason.as_deref() {
        Some("content_filter" | "safety" | "refusal") if silent => Finish::Refused,
        _ if declined && silent => Finish::Refused,
        Some("stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn") => Finish::Stop,
        // a filter cuts off where it strikes
        Some("length" | "max_tokens" | "max_length" | "content_filter" | "safety") => Finish::Length,
        _ => Finish::Unknown,
    };
    // a text to be continued may end at once, in a stop string; a chat may not: it is asked again by the next run
    if silent && api == Api::Chat && matches!(finish, Finish::Stop | Finish::Unknown) {
        let thinks = ["/message/reasoning_content", "/message/reasoning"].iter().any(|place| choice.pointer(place).is_some_and(is_said));
        return Reply::Refused(match reason.as_deref() {
            Some("tool_calls" | "function_call") => "the model calls a tool in place of an answer: turn tools off at the server".into(),
            _ if thinks => "the answer holds thoughts and no text: turn thinking off at the server, or give more --max-tokens".into(),
            _ => "the answer holds no text: try another model, or look at the server".to_string(),
        });
    }
    Reply::Answer(Answer { text, finish })
}

fn is_said(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// JSON as Python and JavaScript write it, made strict: half a pair of surrogates becomes U+FFFD, NaN and Infinity null.
fn mended(text: &str) -> String {
    let (mut mended, mut rest, mut quoted) = (String::new(), text, false);
    let half = |text: &str| text.strip_prefix("\\u").and_then(|hex| u16::from_str_radix(hex.get(..4)?, 16).ok());
    while let Some(c) = rest.chars().next() {
        let (piece, length) = match half(rest) {
            Some(0xd800..=0xdbff) if rest.get(6..).and_then(half).is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => (None, 12),
            Some(0xd800..=0xdfff) => (Some("\\ufffd"), 6),
            _ if quoted && c == '\\' => (None, 1 + rest.chars().nth(1).map_or(0, char::len_utf8)),
            _ if quoted => (None, c.len_utf8()),
            _ => match ["NaN", "-Infinity", "Infinity"].iter().find(|word| rest.starts_with(**word)) {
                Some(word) => (Some("null"), word.len()),
                None => (None, c.len_utf8()),
            },
        };
        quoted ^= c == '"';
        let (taken, behind) = rest.split_at(length);
        mended.push_str(piece.unwrap_or(taken));
        rest = behind;
    }
    mended
}

/// What a message holds. Thoughts in fields of their own (`reasoning_content`, `reasoning`) are not part of it.
struct Said {
    text: String,
    /// The model declined, in the field or the part that exists to say so.
    declined: bool,
}

impl Said {
    /// `None` if the content is neither text nor parts.
    fn of(content: Option<&Value>, refusal: Option<&Value>) -> Option<Self> {
        let declined = |refusal: Option<&Value>| refusal.is_some_and(is_said);
        let mut said = Self { text: String::new(), declined: declined(refusal) };
        match content {
            Some(Value::String(text)) => said.text.push_str(text),
            // some servers send the parts of a message one by one, thoughts among them
            Some(Value::Array(parts)) => {
                for part in parts {
                    said.declined |= declined(part.get("refusal"));
                    let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
                    if !["think", "thought", "reason"].iter().any(|word| kind.contains(word)) {
                        let text = part.get("text").map(|text| text.get("value").unwrap_or(text)).unwrap_or(part);
                        said.text.push_str(text.as_str().unwrap_or(""));
                    }
                }
            }
            Some(Value::Null) | None => {}
            Some(_) => return None,
        }
        Some(said)
    }
}

/// The text on one line, without control characters, at most `limit` characters of it.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= limit { words } else { words.chars().take(limit).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str, api: Api) -> Option<(String, Finish)> {
        match answer_of(body.as_bytes(), api, None) {
            Reply::Answer(answer) => Some((answer.text, answer.finish)),
            _ => None,
        }
    }

    #[test]
    fn answers_of_both_apis() {
        let chat = r#"{"choices": [{"message": {"content": "A boat."}, "finish_reason": "stop"}]}"#;
        assert_eq!(text(chat, Api::Chat), Some(("A boat.".into(), Finish::Stop)));
        let parts = r#"{"choices": [{"message": {"content": [{"type": "text", "text": "A "}, {"text": "b."}]}}]}"#;
        assert_eq!(text(parts, Api::Chat), Some(("A b.".into(), Finish::Unknown)));
        let completion = r#"{"choices": [{"text": " boat", "finish_reason": "length"}]}"#;
        assert_eq!(text(completion, Api::Completion), Some((" boat".into(), Finish::Length)));
        let silent = r#"{"choices": [{"text": "", "finish_reason": "stop"}]}"#;
        assert_eq!(text(silent, Api::Completion), Some((String::new(), Finish::Stop)));
    }

    #[test]
    fn refusals_thoughts_and_parts_next_to_the_text() {
        let chat = |message: &str, finish: &str| {
            text(&format!("{{\"choices\": [{{\"message\": {{{message}}}, \"finish_reason\": \"{finish}\"}}]}}"), Api::Chat).unwrap()
        };
        for (message, finish, said, ended) in [
            (r#""content": null, "refusal": "I won't.""#, "stop", "", Finish::Refused),
            (r#""content": "", "refusal": null"#, "content_filter", "", Finish::Refused),
            (r#""refusal": "", "content": "A cat""#, "content_filter", "A cat", Finish::Length),
            (r#""content": [{"type": "refusal", "refusal": "I won't."}]"#, "stop", "", Finish::Refused),
            (r#""content": "", "reasoning_content": "A cat has""#, "length", "", Finish::Length),
            (r#""content": "A cat.", "reasoning_content": "Hm.", "reasoning": "Hm.""#, "stop", "A cat.", Finish::Stop),
            (r#""content": null, "reasoning": "A cat has""#, "MAX_TOKENS", "", Finish::Length),
            (
                r#""content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "A cat."}]"#,
                "stop",
                "A cat.",
                Finish::Stop,
            ),
            (
                r#""content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": {"value": "A cat."}}]"#,
                "stop",
                "A cat.",
                Finish::Stop,
            ),
            (r#""content": ["A ", "cat."]"#, "eos", "A cat.", Finish::Stop),
        ] {
            assert_eq!(chat(message, finish), (said.into(), ended), "{message}");
        }
    }

    #[test]
    fn what_is_no_answer_is_tried_again() {
        for body in ["", " \n", "<html>", "{\"choices\": [", "{}", "[]", r#"{"choices": []}"#, r#"{"error": {"message": "busy"}}"#, "3"] {
            assert!(matches!(answer_of(body.as_bytes(), Api::Chat, None), Reply::Again { .. }), "{body}");
        }
        let broken = b"{\"choices\": [{\"text\": \"A b\xffat.\"}]}";
        assert!(matches!(answer_of(broken, Api::Completion, None), Reply::Answer(answer) if answer.text == "A b\u{fffd}at."));
    }

    #[test]
    fn a_chat_without_text_is_asked_again_and_says_why() {
        for (choice, word) in [
            (r#"{"message": {"content": null, "tool_calls": [{}]}, "finish_reason": "tool_calls"}"#, "tools off"),
            (r#"{"message": {"content": "", "reasoning_content": "Hm."}, "finish_reason": "stop"}"#, "thinking off"),
            (r#"{"message": {"content": " \n"}, "finish_reason": "stop"}"#, "no text"),
            (r#"{"message": {"content": null}}"#, "no text"),
        ] {
            let body = format!("{{\"choices\": [{choice}]}}");
            assert!(matches!(answer_of(body.as_bytes(), Api::Chat, None), Reply::Refused(why) if why.contains(word)), "{choice}");
        }
    }

    #[test]
    fn json_that_is_nearly_strict_is_read() {
        let body = "\u{feff}{\"x\": [NaN, -Infinity, Infinity], \"choices\": [{\"text\": \"A \\ud83d b\\\\u\\\" NaN \\ud83d\\ude00.\"}]}";
        assert_eq!(text(body, Api::Completion), Some(("A \u{fffd} b\\u\" NaN \u{1f600}.".into(), Finish::Unknown)));
        for stream in ["data: {\"choices\": []}\n\n", "event: x\ndata: {}", ": ping\n\ndata: {}"] {
            assert!(matches!(answer_of(stream.as_bytes(), Api::Chat, None), Reply::Fatal(why) if why.contains("streaming")));
        }
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\n\tb \u{7} c", 9), "a b c");
        assert_eq!(one_line("ééééé", 3), "ééé…");
    }
}
