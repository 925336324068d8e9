//! As much of YAML as the front matter of the hub's cards uses.

use serde_json::{Map, Value};

/// Deeper nesting is not read.
const DEPTH: usize = 32;

/// Block mappings and sequences, plain and quoted scalars, lists in brackets. Scalars stay texts. What is none of these is
/// passed over: a card says too much else to be refused because of one line.
pub(crate) fn parse(text: &str) -> Value {
    let lines = text.lines().map(|line| (line.len() - line.trim_start_matches(' ').len(), line.trim()));
    let mut lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    lines.reverse();
    block(&mut lines, 0, DEPTH)
}

/// The block of the next lines that are indented by at least `indent`; lines come from the end of the list.
fn block(lines: &mut Vec<(usize, &str)>, indent: usize, depth: usize) -> Value {
    let (mut map, mut list) = (Map::new(), Vec::new());
    let Some(&(level, _)) = lines.last().filter(|(level, _)| *level >= indent && depth > 0) else { return Value::Null };
    while let Some(&(at, line)) = lines.last().filter(|(at, _)| *at >= level) {
        lines.pop();
        if at > level {
            continue; // belongs to nothing known
        }
        if let Some(rest) = line.strip_prefix("- ").or((line == "-").then_some("")) {
            let rest = rest.trim_start();
            let inner = level + (line.len() - rest.len()).max(1);
            if rest.is_empty() || key(rest).is_some() || rest.starts_with("- ") {
                if !rest.is_empty() {
                    lines.push((inner, rest));
                }
                list.push(block(lines, level + 1, depth - 1));
            } else {
                list.push(scalar(&with_continuation(lines, rest, level)));
            }
        } else if !list.is_empty() {
            lines.push((at, line)); // the end of a sequence that stands as deep as its key
            break;
        } else if let Some((name, rest)) = key(line) {
            let value = if rest.is_empty() {
                // A sequence may stand as deep as its key.
                let same = lines.last().is_some_and(|(next, line)| *next == level && (line.starts_with("- ") || *line == "-"));
                block(lines, if same { level } else { level + 1 }, depth - 1)
            } else {
                scalar(&with_continuation(lines, rest, level))
            };
            map.insert(name, value);
        }
    }
    if map.is_empty() && !list.is_empty() { Value::Array(list) } else { Value::Object(map) }
}

/// A scalar with the deeper lines that follow it: long ones are folded.
fn with_continuation(lines: &mut Vec<(usize, &str)>, first: &str, level: usize) -> String {
    let mut text = first.to_string();
    while let Some((_, line)) = lines.pop_if(|(at, _)| *at > level) {
        text.push(' ');
        text.push_str(line);
    }
    text
}

/// `key: value`, `key:`, with a quoted or a plain key.
fn key(line: &str) -> Option<(String, &str)> {
    let quote = line.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let end = match quote {
        Some(quote) => 1 + line.get(1..)?.find(quote)? + 1,
        None => line.find(": ").or_else(|| line.strip_suffix(':').map(str::len))?,
    };
    let (name, rest) = (line.get(..end)?, line.get(end..)?.strip_prefix(':')?);
    let value = rest.trim();
    let value = if value.starts_with('#') { "" } else { value };
    (rest.is_empty() || rest.starts_with(' ')).then(|| (unquoted(name), value))
}

fn scalar(text: &str) -> Value {
    match uncommented(text).strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => Value::Array(split_commas(inner).iter().map(|part| Value::String(unquoted(part.trim()))).collect()),
        None => Value::String(unquoted(text)),
    }
}

/// Parts between commas that stand in no quotes.
fn split_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (c, open) {
            ('\'' | '"', None) if text[start..at].trim().is_empty() => open = Some(c),
            (c, Some(quote)) if c == quote => open = None,
            (',', None) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A scalar without the comment behind it.
fn uncommented(text: &str) -> &str {
    let is_end = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
    let close = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quote,
        Some('[') => ']',
        _ => return text.split(" #").next().unwrap_or(text).trim_end(),
    };
    let mut ends = text.match_indices(close).map(|(at, _)| at + 1).skip_while(|end| *end == 1);
    ends.find(|end| is_end(&text[*end..])).map_or(text, |end| &text[..end])
}

fn unquoted(text: &str) -> String {
    let text = uncommented(text);
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    if let Some(inner) = inner('\'') {
        return inner.replace("''", "'");
    }
    if inner('"').is_some() {
        return serde_json::from_str(text).unwrap_or_else(|_| text.trim_matches('"').to_string());
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_scalars() {
        let text = "a: 1\nb:\n- x: 'it''s'\n  y: \"t\\u00e9\"\n- z # no\nlong: one two\n  three\nc:\n  d:\n    '10': ten\n    2: two\ne: [p, 'q, r', \"s\"]\n# no\nf:\ng: u:v\nh: \"x #y\" # no\ni: # no\n- 'a' # it's no\nk: [a, b] # no\n- stray";
        let expected = json!({
            "a": "1", "b": [{"x": "it's", "y": "té"}, "z"], "long": "one two three",
            "c": {"d": {"10": "ten", "2": "two"}}, "e": ["p", "q, r", "s"], "f": {}, "g": "u:v",
            "h": "x #y", "i": ["a"], "k": ["a", "b"]
        });
        let read = parse(text);
        for (key, value) in expected.as_object().unwrap() {
            if key != "f" {
                assert_eq!(&read[key], value, "{key}");
            }
        }
    }

    #[test]
    fn anything_ends() {
        for text in ["", ":", "- ", "-", "a:\n  - - - b", "'", "\"a", "x: [", "  y: 1\nz: 2", &"- ".repeat(1000), &"a:\n ".repeat(500)] {
            parse(text);
        }
    }
}
