//! Files that are whole or not there: JSON text, and writing through a temporary file.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};

/// Writes `bytes` to a temporary file beside `path`, then renames it: a reader sees the old file or the new one, and a
/// full disk leaves the old one. Folders above `path` are made.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn save_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lafter-").suffix(".part");
    // Temporary files are private by default; what is published here gets the mode any new file would get.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(|e| Error::io(path, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    Ok(())
}

/// JSON for people: an object's entries on lines of their own, a list on one line (a confusion matrix of 100 classes would
/// otherwise fill 10,000 lines). Ends with a line feed.
///
/// # Errors
/// [`Error::Usage`] where `value` has no JSON form (a map whose keys are not strings).
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Layout { pretty: PrettyFormatter::new(), lists: 0 });
    value.serialize(&mut serializer).map_err(|e| Error::Usage(format!("no JSON form: {e}")))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|e| Error::Usage(format!("no JSON form: {e}")))
}

/// Pretty outside of lists, one line inside them.
struct Layout {
    pretty: PrettyFormatter<'static>,
    lists: usize,
}

impl Layout {
    fn separator<W: ?Sized + Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists -= 1;
        if self.lists == 0 {
            // Tells the pretty half that the object around this list holds something.
            self.pretty.end_object_value(writer)?;
        }
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Self::separator(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.lists > 0 { writer.write_all(b"{") } else { self.pretty.begin_object(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.lists > 0 { writer.write_all(b"}") } else { self.pretty.end_object(writer) }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if self.lists > 0 { Self::separator(writer, first) } else { self.pretty.begin_object_key(writer, first) }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.lists > 0 { Ok(()) } else { self.pretty.end_object_value(writer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_on_one_line_and_the_text_parses_back() {
        let value = serde_json::json!({"a": [[1, 2], [{"x": 1, "y": []}]], "b": {}, "c": {"d": 1.5, "e": "é"}, "f": []});
        let text = to_json(&value).unwrap();
        assert_eq!(text.lines().count(), 9, "{text}");
        assert_eq!(text.lines().nth(1), Some(r#"  "a": [[1, 2], [{"x": 1, "y": []}]],"#));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_failed_save_leaves_the_old_file_and_no_scraps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/deep/report.json");
        save_atomically(&path, b"old").unwrap();
        save_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        // A folder stands where the file should go: the rename fails after everything was written.
        let taken = dir.path().join("taken");
        std::fs::create_dir_all(taken.join("inside")).unwrap();
        let error = save_atomically(&taken, b"x").unwrap_err();
        assert!(error.to_string().contains("taken") && error.to_string().lines().count() == 1);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
