//! The splits of a data set, and the names they go by.

use std::fmt;
use std::str::FromStr;

use crate::data::options::OpenOptions;
use crate::error::{Error, Result};

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Split {
    /// Training pictures.
    Train,
    /// Validation pictures.
    Val,
    /// Test pictures.
    Test,
}

impl Split {
    /// "train", "val" or "test".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Split {
    type Err = Error;

    /// Also "training", "validation", "valid", "dev", "testing", in any case.
    fn from_str(name: &str) -> Result<Self> {
        match canonical(name).as_str() {
            "train" => Ok(Self::Train),
            "val" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(Error::Usage(format!("\"{name}\" is not a split: expected train, val or test"))),
        }
    }
}

/// One spelling for each split; other names (a hub data set's "extra") in lower case.
pub(crate) fn canonical(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "training" => "train".to_string(),
        "validation" | "valid" | "dev" => "val".to_string(),
        "testing" | "eval" | "evaluation" => "test".to_string(),
        other => other.to_string(),
    }
}

/// True for the names that only splits have.
pub(crate) fn is_split_name(name: &str) -> bool {
    matches!(canonical(name).as_str(), "train" | "val" | "test")
}

/// Chooses among the splits found: the wanted one; if none is wanted, the only one. If there is no "test", "val" is used,
/// because many hub data sets publish their labeled test pictures under that name.
pub(crate) fn choose<'a>(found: &[&'a str], wanted: Option<&str>, origin: &str) -> Result<&'a str> {
    let list = || found.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let by_name = |name: &str| found.iter().copied().find(|other| canonical(other) == canonical(name));
    match wanted {
        Some(wanted) => by_name(wanted)
            .or_else(|| if canonical(wanted) == "test" { by_name("val") } else { None })
            .ok_or_else(|| Error::Data(format!("{origin}: has no split \"{wanted}\", only {}", list()))),
        None => match found {
            [only] => Ok(*only),
            _ => Err(Error::Data(format!("{origin}: holds several splits, {}: say which one, as {origin}:NAME", list()))),
        },
    }
}

/// What to say where all rows are of one split, as `place` tells, and another is wanted: that all are taken.
///
/// # Errors
/// [`Error::Data`] if the name of the data set, not [`OpenOptions::split`], asks for the other.
pub(crate) fn of_one(only: &str, wanted: Option<&str>, options: &OpenOptions, origin: &str, place: &str) -> Result<Option<String>> {
    match (choose(&[only], wanted, origin), wanted) {
        (Err(error), _) if options.split.is_none() => Err(error),
        (Err(_), Some(wanted)) => Ok(Some(format!("{place}: no row is of split \"{wanted}\", only of \"{only}\": all are taken"))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_known_by_their_usual_names() {
        assert_eq!("validation".parse::<Split>().unwrap(), Split::Val);
        assert_eq!("TEST".parse::<Split>().unwrap().to_string(), "test");
        assert!("extra".parse::<Split>().unwrap_err().is_usage());
    }

    #[test]
    fn the_wanted_split_or_the_only_one() {
        assert_eq!(choose(&["train", "validation"], Some("val"), "x").unwrap(), "validation");
        assert_eq!(choose(&["train", "validation"], Some("test"), "x").unwrap(), "validation");
        assert_eq!(choose(&["extra"], None, "x").unwrap(), "extra");
        assert!(choose(&["train"], Some("test"), "x").unwrap_err().to_string().contains("only \"train\""));
        assert!(choose(&["a", "b"], None, "x").unwrap_err().to_string().contains("x:NAME"));
    }
}
