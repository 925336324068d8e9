//! Lists and maps as JSON or as a Python script has them, and the marks that a copied line brings with it.

use serde_json::Value;

use crate::error::{Error, Result};

/// Reads JSON, or a list or map of a Python script: `names = ['cat', "dog",]`, `{0: 'cat', 1: 'dog'}`.
pub(crate) fn read_literal(text: &str) -> Option<Value> {
    let text = text.trim().trim_end_matches(';');
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let text = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.trim().chars().all(|c| c.is_alphanumeric() || c == '_') => value.trim(),
        _ => text,
    };
    text.starts_with(['[', '{', '(']).then(|| serde_json::from_str(&as_json(text)).ok()).flatten()
}

/// The same text with JSON's quotes, keys in quotes, tuples as lists, and neither comments nor last commas.
fn as_json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\'' | '"' => {
                let (word, after) = quoted(rest, c);
                json.push_str(&Value::String(word).to_string());
                rest = after;
            }
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
                let (more, after) = rest.split_at(end);
                let mark = if after.trim_start().starts_with(':') { "\"" } else { "" };
                json.push_str(&format!("{mark}{c}{more}{mark}"));
                rest = after;
            }
            '#' => rest = rest.find('\n').map_or("", |end| &rest[end..]),
            ',' if matches!(rest.trim_start().chars().next(), Some(']' | '}' | ')') | None) => {}
            '(' => json.push('['),
            ')' => json.push(']'),
            c => json.push(c),
        }
    }
    json
}

/// A string up to its closing mark, and what stands behind it.
fn quoted(text: &str, mark: char) -> (String, &str) {
    let mut word = String::new();
    let mut letters = text.char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' => word.extend(letters.next().map(|(_, c)| if matches!(c, 'n' | 't') { ' ' } else { c })),
            c if c == mark => return (word, &text[at + c.len_utf8()..]),
            c => word.push(c),
        }
    }
    (word, "")
}

/// Sentences with a place `{}`, one a line or a list of JSON or Python: blank lines, remarks (`#`) and the marks of a script and of a
/// numbered list are left out. `new` checks each.
pub(crate) fn read_sentences<T>(text: &str, origin: &str, new: impl Fn(String) -> Result<T>) -> Result<Vec<T>> {
    // `{}` alone is a sentence: the name
    let listed = |value: &Value| value.is_array() || value.as_object().is_some_and(|object| !object.is_empty());
    if let Some(value) = read_literal(text).filter(listed) {
        let texts: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|entry| entry.as_str().map(str::to_string)).collect());
        let texts =
            texts.ok_or_else(|| Error::Text(format!("{origin}: expected a list of sentences in quotes, or one a line: correct it")))?;
        return texts.into_iter().map(|text| new(text).map_err(|e| Error::Text(format!("{origin}: {e}")))).collect();
    }
    // `templates = [`, `]`
    let bracket = |line: &str| {
        line.ends_with(['[', '(']) && !line.contains("{}") || line.trim_end_matches([',', ';']).trim_matches([']', ')']).is_empty()
    };
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !bracket(line) && !line.starts_with('#'));
    let mut lines: Vec<(usize, String)> = lines.map(|(i, line)| (i + 1, from_script(line))).collect();
    if lines.iter().all(|(_, line)| unlisted(line).is_some()) {
        lines.iter_mut().for_each(|(_, line)| *line = unlisted(line).unwrap_or(line).to_string());
    }
    lines.into_iter().map(|(i, line)| new(line).map_err(|e| Error::Text(format!("{origin}, line {i}: {e}")))).collect()
}

/// An item of a list without its mark: `- a photo`, `12. a photo`.
fn unlisted(line: &str) -> Option<&str> {
    let number = line.bytes().take_while(u8::is_ascii_digit).count();
    let marks: &[&str] = if number > 0 { &[". ", ") "] } else { &["- ", "* "] };
    marks.iter().find_map(|mark| line[number..].strip_prefix(mark)).map(str::trim_start)
}

/// A line as it is, or without the marks that it has in a script.
fn from_script(line: &str) -> String {
    if let Some((variable, text)) = line.strip_prefix("lambda ").and_then(|rest| rest.split_once(':'))
        && let Some(text) = unmarked(text.trim_start().trim_start_matches('f'))
    {
        return text.replace(&format!("{{{}}}", variable.trim()), "{}");
    }
    unmarked(line).unwrap_or_else(|| line.to_string())
}

/// A line without the quotation marks and the comma that it has in a script; `None` if it has no such marks.
pub(crate) fn unmarked(line: &str) -> Option<String> {
    let line = line.trim().trim_end_matches([',', ';']).trim_end();
    [('\'', '\''), ('"', '"'), ('“', '”'), ('‘', '’'), ('`', '`')].into_iter().find_map(|(open, close)| {
        let inner = line.strip_prefix(open)?;
        let (word, rest) = quoted(inner, close);
        (rest.is_empty() && inner.ends_with(close) && !word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_python() {
        let read = |text: &str| read_literal(text).unwrap();
        assert_eq!(read(r#"["a", "b"]"#), json!(["a", "b"]));
        assert_eq!(read("names = ['a', # first\n  \"b's\",\n]"), json!(["a", "b's"]));
        assert_eq!(read("{0: 'tench, Tinca tinca',\n 1: 'it\\'s',}"), json!({"0": "tench, Tinca tinca", "1": "it's"}));
        assert_eq!(read("[('n01', 'a'), ('n02', 'b')]"), json!([["n01", "a"], ["n02", "b"]]));
        assert_eq!(read("{'a': 0, 'b': 1}"), json!({"a": 0, "b": 1}));
        assert_eq!(read_literal("[broken"), None);
        assert_eq!(read_literal("cat\ndog"), None);
    }

    #[test]
    fn marks_of_a_copied_line() {
        for (line, word) in [("    'a {}.',", "a {}."), ("\"it's a {}\"", "it's a {}"), ("“a {}”", "a {}"), (r"'it\'s a {}',", "it's a {}")]
        {
            assert_eq!(unmarked(line).as_deref(), Some(word), "{line}");
        }
        for line in ["a {}.", "'tis a {}", "'{}' is a 'thing'", "a {},", "''", "'"] {
            assert_eq!(unmarked(line), None, "{line}");
        }
    }
}
