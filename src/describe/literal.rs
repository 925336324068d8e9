//! Lists and maps as JSON or as a Python script has them, and the marks that a copied line brings with it.

use serde_json::Value;

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
