//! One error type for the whole crate. Each message is one line: what was found, where, and what to do about it.

use std::path::{Path, PathBuf};

/// The crate's result; with a second type it is the standard one, so that the prelude may be imported whole.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by the part of the work it happened in. `Display` is always a single line.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value given by the caller is out of range or contradicts another (exit status 2 on the command line).
    #[error("{0}")]
    Usage(String),
    /// A model's configuration cannot be read or contradicts its weights.
    #[error("{0}")]
    Config(String),
    /// Weights are missing, truncated or of the wrong shape.
    #[error("{0}")]
    Weights(String),
    /// A tokenizer cannot be read or lacks what CLIP needs.
    #[error("{0}")]
    Tokenizer(String),
    /// Class names, templates or descriptions do not fit together.
    #[error("{0}")]
    Text(String),
    /// One image cannot be decoded.
    #[error("{0}")]
    Image(String),
    /// A data set cannot be read.
    #[error("{0}")]
    Data(String),
    /// A saved LaFTer file does not fit the model it is used with.
    #[error("{0}")]
    Adapter(String),
    /// A checkpoint cannot be read, or lacks what the loop needs.
    #[error("{0}")]
    Checkpoint(String),
    /// A model or a data set could not be fetched from the hub.
    #[error("{0}")]
    Hub(String),
    /// A language model cannot be used: unknown host, refused key, unknown model, a file that holds none.
    #[error("{0}")]
    Llm(String),
    /// One request to a language model got no usable answer, after all retries; the next one may.
    #[error("{0}")]
    Unanswered(String),
    /// A tensor has another shape than the operation expects.
    #[error("{0}")]
    Shape(String),
    /// A loss is no longer finite: the steps are too large.
    #[error("{0}")]
    Diverged(String),
    /// The user interrupted the run.
    #[error("{0}")]
    Interrupted(String),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed inside Candle.
    #[error("{}", first_line(.0))]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Attaches the path to a file error: `fs::read(p).map_err(|e| Error::io(p, e))`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// True where the caller's arguments are at fault: exit status 2 instead of 1.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

/// Candle's errors carry a backtrace below their first line when `RUST_BACKTRACE` is set.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or("tensor operation failed").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line() {
        let error = Error::from(candle_core::Error::Msg("first\n  at frame 1".into()));
        assert_eq!(error.to_string(), "first");
        let error = Error::io("a/b", std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(error.to_string().starts_with("a/b: "));
    }
}
