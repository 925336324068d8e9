//! Files that are written piece by piece and appear whole.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::files::NewFile;

/// JSON lines.
pub(super) struct LineFile {
    path: PathBuf,
    file: BufWriter<NewFile>,
}

impl LineFile {
    pub(super) fn begin(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(NewFile::begin(path)?) })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }

    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<()> {
        self.write(&format!("{}\n", json(value)?))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|e| Error::io(&self.path, e.into_error()))?;
        file.finish()
    }
}

/// CuPL's JSON: an object by class name, or a list of lists if a name repeats.
pub(super) struct DescriptionFile {
    file: LineFile,
    named: bool,
    classes: usize,
    sentences: usize,
}

impl DescriptionFile {
    pub(super) fn begin(path: &Path, names: &[String]) -> Result<Self> {
        let named = names.iter().collect::<std::collections::HashSet<_>>().len() == names.len();
        let mut file = LineFile::begin(path)?;
        file.write(if named { "{" } else { "[" })?;
        Ok(Self { file, named, classes: 0, sentences: 0 })
    }

    fn close_class(&mut self) -> Result<()> {
        match (self.classes, self.sentences) {
            (0, _) => Ok(()),
            (_, 0) => self.file.write("]"),
            _ => self.file.write("\n  ]"),
        }
    }

    pub(super) fn class(&mut self, name: &str) -> Result<()> {
        self.close_class()?;
        let comma = if self.classes > 0 { "," } else { "" };
        let key = if self.named { format!("{}: ", json(&name)?) } else { String::new() };
        (self.classes, self.sentences) = (self.classes + 1, 0);
        self.file.write(&format!("{comma}\n  {key}["))
    }

    pub(super) fn sentence(&mut self, sentence: &str) -> Result<()> {
        let comma = if self.sentences > 0 { "," } else { "" };
        self.sentences += 1;
        self.file.write(&format!("{comma}\n    {}", json(&sentence)?))
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.close_class()?;
        self.file.write(if self.named { "\n}\n" } else { "\n]\n" })?;
        self.file.finish()
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Text(format!("no JSON form: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::Descriptions;

    fn written(names: &[&str], sentences: &[&[&str]]) -> Vec<(String, Vec<String>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/texts.json");
        let mut file = DescriptionFile::begin(&path, &names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        for (name, sentences) in names.iter().zip(sentences) {
            file.class(name).unwrap();
            sentences.iter().for_each(|sentence| file.sentence(sentence).unwrap());
        }
        assert!(!path.exists());
        file.finish().unwrap();
        Descriptions::read(&path).unwrap().entries().to_vec()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = written(&["a \"b\"", "犬", "c"], &[&["One.", "Zw\\ei\n."], &[], &["é."]]);
        assert_eq!(
            read,
            [("a \"b\"".into(), vec!["One.".into(), "Zw\\ei\n.".into()]), ("犬".into(), vec![]), ("c".into(), vec!["é.".to_string()])]
        );
        let read = written(&["crane", "x", "crane"], &[&["A bird."], &["X."], &["A machine."]]);
        assert_eq!(read[2], ("2".to_string(), vec!["A machine.".to_string()]));
    }
}
