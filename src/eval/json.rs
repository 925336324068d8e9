//! JSON text for people.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};

/// JSON for people: an object's entries on lines of their own, a list on one line (a confusion matrix of 100 classes would
/// otherwise fill 10,000 lines). Ends with a line feed.
///
/// # Errors
/// [`Error::Usage`] if `value` has no JSON form (a map whose keys are not strings).
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Layout { pretty: PrettyFormatter::new(), lists: 0 });
    value.serialize(&mut serializer).map_err(|e| Error::Usage(format!("no JSON form: {e}")))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|e| Error::Usage(format!("no JSON form: {e}")))
}

/// Settings as a JSON value that keeps each number as it was written: 0.2 in 32 bits stays 0.2, where
/// [`serde_json::to_value`] makes 0.20000000298023224 of it.
pub(crate) fn as_written(settings: &impl Serialize) -> serde_json::Value {
    serde_json::to_string(settings).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
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
    fn settings_stay_as_they_were_written_and_come_back_bit_for_bit() {
        let config = crate::LafterConfig::default();
        let value = as_written(&config);
        assert_eq!(value["tune"]["strong"]["scale"].to_string(), "[0.2,1.0]");
        assert_eq!(value["text"]["noise"].to_string(), "0.1");
        assert_eq!(serde_json::from_value::<crate::LafterConfig>(value).unwrap(), config);
        // as reports wrote it before
        let older: (f32, f32) = serde_json::from_str("[0.20000000298023224, 1.0]").unwrap();
        assert_eq!(older, config.tune.strong.scale);
    }

    #[test]
    fn lists_stay_on_one_line_and_the_text_parses_back() {
        let value = serde_json::json!({"a": [[1, 2], [{"x": 1, "y": []}]], "b": {}, "c": {"d": 1.5, "e": "é"}, "f": []});
        let text = to_json(&value).unwrap();
        assert_eq!(text.lines().count(), 9, "{text}");
        assert_eq!(text.lines().nth(1), Some(r#"  "a": [[1, 2], [{"x": 1, "y": []}]],"#));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
