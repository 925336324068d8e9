//! One request to a language model, its settings, its answer, and the key under which the answer is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How the model is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// The query is a user's message to a model that follows instructions.
    #[default]
    Chat,
    /// The query is the beginning of a text that the model continues.
    Completion,
}

impl FromStr for Api {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "chat" => Ok(Self::Chat),
            "completion" => Ok(Self::Completion),
            _ => Err(Error::Usage(format!("no API \"{name}\": choose chat or completion"))),
        }
    }
}

/// How an answer is drawn. All of it is part of an answer's key and stands in the trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Chat message or text to continue.
    pub api: Api,
    /// 0 takes the most probable token each time.
    pub temperature: f64,
    /// Only the most probable tokens that together have this probability are drawn from.
    pub top_p: f64,
    /// The longest answer, in the model's own tokens.
    pub max_tokens: usize,
    /// An answer ends before the first of these.
    pub stop: Vec<String>,
    /// Seed of the first completion; the next ones count up from it.
    pub seed: u64,
    /// Parameters that the server refuses: settings named here are not sent. One of [`Settings::OMITTABLE`] each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
}

impl Settings {
    /// What may stand in `omit`.
    pub const OMITTABLE: [&str; 5] = ["seed", "top_p", "stop", "temperature", "max_tokens"];

    /// LaFTer's and CuPL's: a completion model, temperature 0.99, 50 tokens, stop at the full stop.
    pub fn official() -> Self {
        Self { api: Api::Completion, stop: vec![".".into()], ..Self::chat() }
    }

    /// The same for chat models, without the stop: they like to begin with "Sure! 1.", which it would cut off there.
    /// [`Cleaner`](super::Cleaner) finds the end of the sentence instead.
    pub fn chat() -> Self {
        Self { api: Api::Chat, temperature: 0.99, top_p: 1.0, max_tokens: 50, stop: Vec::new(), seed: 7777, omit: Vec::new() }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the option, its value and what it may be.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Usage(what));
        if !(self.temperature.is_finite() && (0.0..=10.0).contains(&self.temperature)) {
            return wrong(format!("--temperature must lie in 0 to 10, got {}", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong(format!("--top-p must be above 0 and at most 1, got {}", self.top_p));
        }
        if self.max_tokens == 0 {
            return wrong("--max-tokens must be at least 1".into());
        }
        if self.stop.iter().any(String::is_empty) {
            return wrong("--stop must not be empty: leave it out, or name a string".into());
        }
        if let Some(name) = self.omit.iter().find(|name| !Self::OMITTABLE.contains(&name.as_str())) {
            return wrong(format!("--omit {name}: choose among {}", Self::OMITTABLE.join(", ")));
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::chat()
    }
}

/// One query for one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The class it is about, an index; `None` for a query about the whole data set.
    pub class: Option<usize>,
    /// The class name, or nothing.
    pub name: String,
    /// What is asked, filled in.
    pub query: String,
    /// Which of the answers to one query this is, from 0.
    pub completion: usize,
    /// How the answer is drawn.
    pub settings: Settings,
}

impl Request {
    /// A query by itself, for a cell of a notebook.
    pub fn new(query: impl Into<String>, settings: &Settings) -> Self {
        Self { class: None, name: String::new(), query: query.into(), completion: 0, settings: settings.clone() }
    }

    /// What makes the answer: query, model, settings, completion. Two classes of one name share an answer.
    pub fn key(&self, model: &str) -> Key {
        Key::of(&self.query, model, &self.settings, self.completion)
    }

    /// The seed of this answer, another one for each completion: 31 bits, which every server accepts.
    pub fn seed(&self) -> u64 {
        self.settings.seed.wrapping_add(self.completion as u64) & 0x7fff_ffff
    }
}

/// 128 bits of the SHA-256 of a request, 32 hexadecimal digits in files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(super) u128);

impl Key {
    pub(super) fn of(query: &str, model: &str, settings: &Settings, completion: usize) -> Self {
        let digest = Sha256::digest(serde_json::json!([query, model, settings, completion]).to_string());
        Self(digest.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte)))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(|_| serde::de::Error::custom("a key is 32 hexadecimal digits"))
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// By itself, or at a stop string.
    Stop,
    /// At the limit of tokens: its last sentence may be torn.
    Length,
    /// The model declined in a field of its own, or a filter did: its text is not an answer.
    Refused,
    /// The server did not say.
    #[default]
    Unknown,
}

/// What a language model said, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_everything_that_makes_the_answer_and_nothing_else() {
        let request = Request::new("Describe a boat.", &Settings::chat());
        let key = request.key("m");
        assert_eq!(key.to_string().len(), 32);
        assert_eq!(serde_json::from_str::<Key>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
        assert_eq!(Request { class: Some(3), name: "boat".into(), ..request.clone() }.key("m"), key);
        let others = [
            request.key("n"),
            Request { query: "Describe a boat".into(), ..request.clone() }.key("m"),
            Request { completion: 1, ..request.clone() }.key("m"),
            Request { settings: Settings { temperature: 0.98, ..Settings::chat() }, ..request.clone() }.key("m"),
            Request { settings: Settings { stop: vec![".".into()], ..Settings::chat() }, ..request.clone() }.key("m"),
            Request { settings: Settings { seed: 1, ..Settings::chat() }, ..request.clone() }.key("m"),
            Request { settings: Settings { omit: vec!["seed".into()], ..Settings::chat() }, ..request.clone() }.key("m"),
        ];
        assert!(others.iter().all(|other| *other != key));
        // nothing omitted is nothing written: journals of earlier versions stay good
        assert_eq!(key.to_string(), "df7ae72b4c692a7842d341cccfd2cca2");
    }

    #[test]
    fn impossible_settings_are_refused() {
        for settings in [
            Settings { temperature: f64::NAN, ..Settings::chat() },
            Settings { temperature: -1.0, ..Settings::chat() },
            Settings { top_p: 0.0, ..Settings::chat() },
            Settings { max_tokens: 0, ..Settings::chat() },
            Settings { stop: vec![String::new()], ..Settings::chat() },
            Settings { omit: vec!["model".into()], ..Settings::chat() },
        ] {
            assert!(settings.validate().unwrap_err().is_usage());
        }
        assert!(Settings::official().validate().is_ok());
    }
}
