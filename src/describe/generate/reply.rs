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
    /// This request will not be answered; others may be.
    Skip(String),
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
    if text.trim().is_empty() {
        return Reply::again("the answer is empty");
    }
    let json: Value = match serde_json::from_str(&text) {
        Ok(json) => json,
        Err(e) => return Reply::again(format!("the answer is no JSON ({})", one_line(&e.to_string(), 80))),
    };
    if let Some(error) = json.get("error").filter(|error| !error.is_null()) {
        let mut error = error.clone();
        if let Some(key) = key {
            key.redact_json(&mut error);
        }
        return Reply::again(format!("the server says {}", one_line(&error.to_string(), 120)));
    }
    let Some(choice) = json.pointer("/choices/0") else {
        return Reply::again("the answer holds no `choices`: is this an OpenAI-compatible server?");
    };
    let text = match api {
        Api::Chat => choice.pointer("/message/content"),
        Api::Completion => choice.get("text"),
    };
    let text = match text {
        Some(Value::String(text)) => text.clone(),
        // some servers send the parts of a message one by one
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect(),
        Some(Value::Null) | None => String::new(),
        Some(_) => return Reply::again("the answer's text is no text"),
    };
    let finish = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        _ => Finish::Unknown,
    };
    let text = match key {
        Some(key) => key.redact_answer(text),
        None => text,
    };
    Reply::Answer(Answer { text, finish })
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
        assert_eq!(text(r#"{"choices": [{"message": {"content": null}}]}"#, Api::Chat), Some((String::new(), Finish::Unknown)));
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
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\n\tb \u{7} c", 9), "a b c");
        assert_eq!(one_line("ééééé", 3), "ééé…");
    }
}
