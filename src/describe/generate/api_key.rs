//! A key from the environment that cannot be printed by accident.

use std::fmt;

use serde_json::Value;

use crate::error::{Error, Result};

/// A key and the variable it came from. `Debug` shows the variable.
#[derive(Clone)]
pub(super) struct ApiKey {
    name: String,
    value: String,
}

impl ApiKey {
    /// # Errors
    /// [`Error::Usage`] if the variable is not set, empty, or holds what no header can carry.
    pub(super) fn from_env(name: &str) -> Result<Self> {
        let value = std::env::var_os(name).unwrap_or_default();
        let value = value.to_str().map(str::trim).unwrap_or("\n").to_string();
        if value.is_empty() {
            // who gives the key itself in place of a name must not find it in a log
            let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            return Err(Error::Usage(if named {
                format!("the environment variable {name} is not set: put the key into it, or name another with --key-env")
            } else {
                "--key-env is not the name of an environment variable that is set: put the key into one such as OPENAI_API_KEY and give its name".into()
            }));
        }
        if value.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(Error::Usage(format!(
                "the environment variable {name} holds no key (blanks or other characters in it): set it anew"
            )));
        }
        Ok(Self { name: name.to_string(), value })
    }

    /// The variable's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key, for the header and for nothing else.
    pub(super) fn expose(&self) -> &str {
        &self.value
    }

    /// `text` without the key, should a server have echoed it.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.value, "***")
    }

    /// An answer without the key. What servers without keys are given in place of one ("none", "EMPTY", "ollama") may well
    /// stand in a sentence, and stays.
    pub(super) fn redact_answer(&self, text: String) -> String {
        let placeholder = self.value.len() < 16 && !(self.value.len() >= 8 && self.value.contains(|c: char| c.is_ascii_digit()));
        if placeholder || !text.contains(&self.value) { text } else { self.redact(&text) }
    }

    /// The same for every text in a server's message.
    pub(super) fn redact_json(&self, json: &mut Value) {
        match json {
            Value::String(text) => *text = self.redact(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.redact_json(value)),
            Value::Object(map) => {
                for (name, mut value) in std::mem::take(map) {
                    self.redact_json(&mut value);
                    map.insert(self.redact(&name), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(from {})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> ApiKey {
        ApiKey { name: "KEY".into(), value: value.into() }
    }

    #[test]
    fn a_key_goes_and_a_placeholder_stays_in_answers() {
        for key in ["sk-12345", "abcdefghijklmnopqrst"] {
            assert_eq!(secret(key).redact_answer(format!("An owl {key}.")), "An owl ***.");
        }
        for word in ["none", "EMPTY", "ollama", "x", "lm-studio"] {
            let text = format!("An owl, {word} of it.");
            assert_eq!(secret(word).redact_answer(text.clone()), text);
        }
    }

    #[test]
    fn a_key_goes_from_names_and_values_however_deep() {
        let mut json = serde_json::json!({ "a sk-1": [{ "b": "is sk-1" }, 1, null], "c": { "sk-1": true } });
        secret("sk-1").redact_json(&mut json);
        assert!(!json.to_string().contains("sk-1") && json["a ***"][0]["b"] == "is ***", "{json}");
    }

    #[test]
    fn a_key_in_place_of_its_variable_is_not_repeated() {
        for key in ["sk-proj-4711", "abcdef", ""] {
            let error = ApiKey::from_env(key).unwrap_err();
            assert!(error.is_usage() && (key.is_empty() || !error.to_string().contains(key)), "{error}");
        }
    }
}
