//! One error type for the whole crate. Each message is one line: what was found, where, and what to do about it.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The crate's result; with a second type it is the standard one, so that the prelude may be imported whole.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by the part of the work it happened in. `Display` is always a single line, and never a very long one.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value given by the caller is out of range or contradicts another (exit status 2 on the command line).
    #[error("{}", line(.0))]
    Usage(String),
    /// Another run has the folder (exit status 2 on the command line).
    #[error("{}", line(format_args!("another run is writing to {}: wait for it, or choose another --out", path_text(.0))))]
    Taken(PathBuf),
    /// A model's configuration cannot be read or contradicts its weights.
    #[error("{}", line(.0))]
    Config(String),
    /// Weights are missing, truncated or of the wrong shape.
    #[error("{}", line(.0))]
    Weights(String),
    /// A tokenizer cannot be read or lacks what CLIP needs.
    #[error("{}", line(.0))]
    Tokenizer(String),
    /// Class names, templates or descriptions do not fit together.
    #[error("{}", line(.0))]
    Text(String),
    /// One image cannot be decoded.
    #[error("{}", line(.0))]
    Image(String),
    /// A data set cannot be read.
    #[error("{}", line(.0))]
    Data(String),
    /// Saved LaFTer weights cannot be read, or do not fit the model they are used with.
    #[error("{}", line(.0))]
    LafterWeights(String),
    /// A checkpoint cannot be read, or lacks what the loop needs.
    #[error("{}", line(.0))]
    Checkpoint(String),
    /// A model or a data set could not be fetched from the hub.
    #[error("{}", line(.0))]
    Hub(String),
    /// A language model cannot be used: unknown host, refused key, unknown model, a file that holds none.
    #[error("{}", line(.0))]
    Llm(String),
    /// One request to a language model got no usable answer, after all retries; the next one may.
    #[error("{}", line(.0))]
    Unanswered(String),
    /// One request to a language model was refused for what it asks; others may not be.
    #[error("{}", line(.0))]
    Refused(String),
    /// A tensor has another shape than the operation expects.
    #[error("{}", line(.0))]
    Shape(String),
    /// A loss is no longer finite: the steps are too large.
    #[error("{}", line(.0))]
    Diverged(String),
    /// The user interrupted the run.
    #[error("{}", line(.0))]
    Interrupted(String),
    /// A file operation failed.
    #[error("{}", line(format_args!("{}: {source}{}", path_text(path), remedy(source.kind()))))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed inside Candle.
    #[error("{}", line(first_line(.0) + gpu_remedy(.0)))]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Attaches the path to a file error: `fs::read(p).map_err(|e| Error::io(p, e))`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// True if the caller's arguments are at fault: exit status 2 instead of 1.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Taken(_))
    }
}

/// Characters of a value that a message shows.
const VALUE: usize = 40;
/// Characters of one word (more than most paths have) and of a message, and what stays of its beginning and, with the remedy, its end.
const WORD: (usize, usize, usize) = (320, 80, 80);
const LINE: (usize, usize, usize) = (1600, 1200, 400);

/// A value as a message shows it: on one line, and no longer than 40 characters.
///
/// ```
/// use lafter::error::cut;
/// assert_eq!(cut("short"), "short");
/// assert_eq!(cut("a\nb"), "a b");
/// assert_eq!(cut("x".repeat(100_000)).chars().count(), 41); // the last is "…"
/// ```
pub fn cut(value: impl Display) -> String {
    let value = one_line(&value.to_string());
    match value.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

/// A path as a message or a table shows it: a byte that is not UTF-8 stands as `\xE9`, so that two files keep two names.
pub(crate) fn path_text(path: &Path) -> String {
    let part = |part: std::str::Utf8Chunk| {
        let bytes: String = part.invalid().iter().map(|byte| format!("\\x{byte:02X}")).collect();
        format!("{}{bytes}", part.valid())
    };
    path.as_os_str().as_encoded_bytes().utf8_chunks().map(part).collect()
}

/// `picture` for one, `pictures` for any other number of them.
pub(crate) fn noun(count: usize, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{noun}{ending}")
}

/// A message on one line: values that slipped in whole lose their middle.
fn line(message: impl Display) -> String {
    let message = one_line(&message.to_string());
    let words: Vec<String> = message.split(' ').map(|word| without_middle(word, WORD)).collect();
    without_middle(&words.join(" "), LINE)
}

/// A text above the limit without its middle.
fn without_middle(text: &str, (limit, first, last): (usize, usize, usize)) -> String {
    match text.chars().count() {
        count if count > limit => text.chars().take(first).chain(['…']).chain(text.chars().skip(count - last)).collect(),
        _ => text.to_string(),
    }
}

/// Line feeds and other control characters become blanks.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// What makes room where a disk is full, or a file larger than it may be.
pub(crate) fn makes_room(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("free some space there"),
        ErrorKind::FileTooLarge => Some("raise the limit of file sizes (ulimit -f)"),
        _ => None,
    }
}

/// What to do about a file error that says only what happened.
fn remedy(kind: ErrorKind) -> String {
    if let Some(room) = makes_room(kind) {
        return format!(": {room}, or choose another place");
    }
    let remedy = match kind {
        ErrorKind::AlreadyExists => ": something of this name is in the way: choose another name",
        ErrorKind::ReadOnlyFilesystem => ": choose a place that can be written",
        ErrorKind::NotFound => ": check the path",
        _ => "",
    };
    remedy.to_string()
}

/// Candle's errors carry a backtrace below their first line when `RUST_BACKTRACE` is set.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or("tensor operation failed").to_string()
}

/// What to do about what a GPU's driver says: Candle passes on its names of errors.
fn gpu_remedy(error: &candle_core::Error) -> &'static str {
    let said = first_line(error);
    let any = |names: &[&str]| names.iter().any(|name| said.contains(&format!("CUDA_ERROR_{name}")));
    if any(&["OUT_OF_MEMORY"]) {
        ": the GPU has no memory left: take smaller batches, or each in smaller parts (tune.micro_batch)"
    } else if any(&["UNSUPPORTED_PTX_VERSION", "INVALID_PTX", "SYSTEM_DRIVER_MISMATCH", "COMPAT_NOT_SUPPORTED_ON_DEVICE"]) {
        ": the driver is older than the toolkit of this build: install a newer one (580 or later for CUDA 13), or compute on the CPU"
    } else if any(&["NO_BINARY_FOR_GPU"]) {
        ": this build is for another generation of GPUs: build it with CUDA_COMPUTE_CAP of this one, or compute on the CPU"
    } else if any(&["NO_DEVICE", "INVALID_DEVICE"]) {
        ": there is no such GPU (nvidia-smi lists them): choose another, or compute on the CPU"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_word_loses_its_middle_and_the_remedy_stays() {
        let word = "x".repeat(100_000);
        let text = Error::Text(format!("names.txt: \"{word}\" is not a name: shorten it")).to_string();
        assert!(text.len() < 250 && text.starts_with("names.txt: \"xxx") && text.ends_with("is not a name: shorten it"), "{text}");
        let path = format!("/{}: no such file", "folder/".repeat(40));
        assert_eq!(Error::Data(path.clone()).to_string(), path);
    }

    #[test]
    fn every_message_is_one_line() {
        let error = Error::from(candle_core::Error::Msg("first\n  at frame 1".into()));
        assert_eq!(error.to_string(), "first");
        let error = Error::io("a/b", std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(error.to_string().starts_with("a/b: ") && error.to_string().ends_with(": check the path"));
        assert_eq!(Error::Data("a class\nof two lines".into()).to_string(), "a class of two lines");
    }

    #[test]
    fn what_a_gpu_says_has_a_remedy() {
        for (name, remedy) in [("OUT_OF_MEMORY", "tune.micro_batch"), ("UNSUPPORTED_PTX_VERSION", "580"), ("NO_DEVICE", "on the CPU")] {
            let said = format!("DriverError(CUDA_ERROR_{name}, \"what it is\")");
            let error = Error::from(candle_core::Error::Msg(said.clone())).to_string();
            assert!(error.starts_with(&said) && error.contains(remedy) && !error.contains("--"), "{error}");
        }
    }

    #[test]
    fn long_values_are_cut_and_the_remedy_stays() {
        assert_eq!(cut("é".repeat(41)), format!("{}…", "é".repeat(40)));
        assert_eq!(cut("é".repeat(40)), "é".repeat(40));
        let message = Error::Usage(format!("{} is not a number: give one", "9".repeat(100_000))).to_string();
        assert!(message.len() < 200 && message.ends_with("is not a number: give one") && message.contains('…'), "{message}");
    }

    #[test]
    #[cfg(unix)]
    fn two_names_that_are_no_text_stay_two() {
        use std::os::unix::ffi::OsStrExt;
        let shown = |name: &[u8]| path_text(Path::new(std::ffi::OsStr::from_bytes(name)));
        assert_eq!([shown(b"caf\xe9.png"), shown(b"caf\xe8\xc3.png")], ["caf\\xE9.png", "caf\\xE8\\xC3.png"]);
        assert_eq!(shown("a/café \\x.png".as_bytes()), "a/café \\x.png");
    }

    #[test]
    fn a_full_disk_has_a_remedy() {
        let error = Error::io("a/b", std::io::Error::from(ErrorKind::StorageFull));
        assert!(error.to_string().contains("free some space"), "{error}");
    }
}
