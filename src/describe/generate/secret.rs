//! A key from the environment that cannot be printed by accident.

use std::fmt;

use crate::error::{Error, Result};

/// A key and the variable it came from. `Debug` shows the variable.
#[derive(Clone)]
pub(super) struct Secret {
    name: String,
    value: String,
}

impl Secret {
    /// # Errors
    /// [`Error::Usage`] where the variable is not set, empty, or holds what no header can carry.
    pub(super) fn from_env(name: &str) -> Result<Self> {
        let value = std::env::var_os(name).unwrap_or_default();
        let value = value.to_str().map(str::trim).unwrap_or("\n").to_string();
        if value.is_empty() {
            return Err(Error::Usage(format!(
                "the environment variable {name} is not set: put the key into it, or name another with --key-env"
            )));
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
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(from {})", self.name)
    }
}
