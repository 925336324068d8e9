//! Answers in another form than lines of text: JSON, tables, tags.

use std::collections::HashMap;

use crate::describe::names::normal;
use crate::describe::spoken;

/// Keys whose values name something; they describe nothing.
const NAMES: [&str; 27] = [
    "class",
    "class_name",
    "name",
    "category",
    "label",
    "title",
    "id",
    "object",
    "type",
    "species",
    "subject",
    "topic",
    "question",
    "query",
    "prompt",
    "role",
    "language",
    "model",
    "status",
    "note",
    "reasoning",
    "reason",
    "thought",
    "thoughts",
    "thinking",
    "analysis",
    "rationale",
];
/// Tags within a sentence; every other tag begins a line.
const INLINE: [&str; 12] = ["b", "i", "em", "strong", "u", "code", "span", "sup", "sub", "a", "mark", "small"];
/// Tags that need no partner.
const SINGLE: [&str; 5] = ["br", "p", "li", "hr", "ul"];
/// Tags around the answer: what is outside them does not belong to it.
const ANSWER: [&str; 8] = ["answer", "final_answer", "final", "output", "response", "final_response", "result", "solution"];

/// An answer's text, a line each.
#[derive(Debug, PartialEq)]
pub(super) struct Lines {
    pub text: String,
    /// Whether the last line is whole, if the form tells: a list that was cut off holds an open quote.
    pub whole: Option<bool>,
    /// Something around it was removed.
    pub bared: bool,
}

/// The strings of JSON, the cells of tables, the text between tags, a line each; other text as it is. Of JSON that has a list for each of
/// several classes, that of the `own` class alone.
pub(super) fn plain(text: &str, own: Option<&str>) -> Lines {
    let inner = within_answer(text);
    let bared = inner.len() < text.len();
    if let Some(Strings { values, torn, begin }) = strings(inner, own) {
        let bared = bared || inner[..begin].trim_matches(['`', '\n', ' ']).contains(' ');
        return Lines { text: values.join("\n"), whole: Some(!torn), bared };
    }
    Lines { text: rows(&without_tags(inner)), whole: None, bared }
}

/// What the last `<answer>`, or `\boxed{}`, holds, if there is one.
fn within_answer(text: &str) -> &str {
    if let Some((_, inner)) = text.rsplit_once("\\boxed{") {
        return inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    }
    let lower = text.to_ascii_lowercase();
    for name in ANSWER {
        let Some(open) = lower.rfind(&format!("<{name}>")) else { continue };
        let begin = open + name.len() + 2;
        let end = lower[begin..].find(&format!("</{name}>")).map_or(text.len(), |end| begin + end);
        return &text[begin..end];
    }
    text
}

struct Strings {
    values: Vec<String>,
    /// The last value lacks its closing quote.
    torn: bool,
    /// Where the JSON begins.
    begin: usize,
}

/// The values of the first JSON, at the beginning of a line or behind a preamble ("Sure: ["), also of a Python list and of
/// what was cut off. `None` if there is none, or if it holds no text.
fn strings(text: &str, own: Option<&str>) -> Option<Strings> {
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let opening = line.find(['{', '[']).filter(|at| {
            let before = line[..*at].trim().trim_end_matches("json");
            let inner = line[*at..].trim_start_matches(['{', '[', ' ', '\r', '\n']);
            (before.is_empty() || before.ends_with(['`', ':', '!', '.'])) && (inner.is_empty() || inner.starts_with(['"', '\'']))
        });
        let at = begin + opening.unwrap_or(0);
        begin += line.len();
        if opening.is_none() {
            continue;
        }
        let Some((mut named, torn, complete)) = scan(&text[at..]) else { continue };
        let is_own = |key: &Option<String>| key.as_ref().zip(own).is_some_and(|(key, own)| normal(&spoken(key)) == normal(&spoken(own)));
        if named.iter().any(|(key, _)| is_own(key)) {
            named.retain(|(key, _)| is_own(key));
        }
        let is_name = |key: &Option<String>| key.as_ref().is_some_and(|key| NAMES.contains(&key.to_lowercase().as_str()));
        let all_names = named.iter().all(|(key, _)| is_name(key));
        let values: Vec<String> = named.into_iter().filter(|(key, _)| all_names || !is_name(key)).map(|(_, value)| value).collect();
        let some_text = values.iter().any(|value| super::nonsense::words(value) >= 3);
        if !values.is_empty() && (complete || some_text) {
            return Some(Strings { values, torn, begin: at });
        }
    }
    None
}

/// Values with their keys, whether the last is torn, and whether every bracket was closed.
type Scanned = (Vec<(Option<String>, String)>, bool, bool);

fn scan(text: &str) -> Option<Scanned> {
    let (mut values, mut key, mut depth) = (Vec::new(), None, 0usize);
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        at += c.len_utf8();
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.checked_sub(1)?;
                let rest = text[at..].trim_start_matches([' ', '\r', '\n', ',']);
                if depth == 0 && !rest.starts_with(['{', '[']) {
                    return Some((values, false, true)); // not one JSON object a line
                }
            }
            '"' | '\'' => {
                let (value, length, closed) = quoted(&text[at..], c);
                at += length;
                if closed && text[at..].trim_start().starts_with(':') {
                    key = Some(value);
                } else {
                    values.push((key.clone(), value));
                    if !closed {
                        return Some((values, true, false));
                    }
                }
            }
            // Python, or JSON with remarks: between the strings anything goes but prose
            c if c.is_alphabetic() && depth == 0 => return None,
            _ => {}
        }
    }
    Some((values, false, depth == 0))
}

/// The string up to its closing quote: its text, its length with the quote, and whether there was one.
fn quoted(text: &str, quote: char) -> (String, usize, bool) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'n' | 'r')) => value.push('\n'),
                Some((_, 't')) => value.push(' '),
                Some((at, 'u')) => {
                    let code = text.get(at + 1..at + 5).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    value.push(code.and_then(char::from_u32).unwrap_or('\u{fffd}'));
                    chars.by_ref().take(4).for_each(drop);
                }
                Some((_, c)) => value.push(c),
                None => {}
            },
            c if c == quote => {
                let rest = text[at + 1..].trim_start();
                // an apostrophe, or a quotation that was not escaped
                if rest.is_empty() || rest.starts_with([',', ':', ']', '}']) {
                    return (value, at + 1, true);
                }
                value.push(c);
            }
            c => value.push(c),
        }
    }
    (value, text.len(), false)
}

/// Tags made line ends, those within a sentence dropped. Only what has a partner, or needs none, is a tag.
fn without_tags(text: &str) -> String {
    let (mut kept, mut plain, mut at) = (String::new(), 0, 0);
    let lower = text.to_ascii_lowercase();
    let mut partners = HashMap::<&str, bool>::new();
    while let Some(found) = lower[at..].find('<') {
        let start = at + found;
        at = start + 1;
        let inner = lower[at..].split(['>', '<', '\n']).next().unwrap_or("");
        if !lower[at + inner.len()..].starts_with('>') {
            continue;
        }
        let name = inner.trim_start_matches('/').trim_end_matches([' ', '/']);
        let (name, attributes) = name.split_once(' ').unwrap_or((name, ""));
        let is_name =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let mut partner = || {
            let both = || lower.contains(&format!("</{name}>")) && lower.contains(&format!("<{name}"));
            SINGLE.contains(&name) || *partners.entry(name).or_insert_with(both)
        };
        if !is_name || !(attributes.is_empty() || attributes.contains('=')) || !partner() {
            continue;
        }
        kept.push_str(&text[plain..start]);
        kept.push_str(if INLINE.contains(&name) { "" } else { "\n" });
        at += inner.len() + 1;
        plain = at;
    }
    kept.push_str(&text[plain..]);
    kept
}

/// Markdown tables row by row: a cell that is a sentence stands by itself, short ones are joined ("Wings: long and narrow").
fn rows(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let rule = |line: &str| line.contains('|') && line.contains('-') && line.chars().all(|c| "|-: \t\r".contains(c));
    let bar = |line: &str| line.trim_start().starts_with('|') && line.trim_end().len() > 1 && line.trim_end().ends_with('|');
    if !lines.iter().any(|line| rule(line) || bar(line)) {
        return text.to_string();
    }
    let (mut kept, mut within) = (Vec::new(), false);
    for (i, line) in lines.iter().enumerate() {
        let header = lines.get(i + 1).is_some_and(|next| rule(next)) && line.contains('|');
        within = line.contains('|') && (within || rule(line));
        if header || rule(line) {
            continue;
        }
        if within || bar(line) { kept.extend(cells(line)) } else { kept.push(line.to_string()) }
    }
    kept.join("\n")
}

/// The lines that a row makes.
fn cells(row: &str) -> Vec<String> {
    let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| cell.chars().any(char::is_alphabetic)).collect();
    let sentence = |cell: &&&str| super::nonsense::words(cell) >= 5 || cell.ends_with(['.', '!', '。']);
    let sentences: Vec<String> = cells.iter().filter(sentence).map(ToString::to_string).collect();
    match cells.as_slice() {
        _ if !sentences.is_empty() => sentences,
        [] => Vec::new(),
        [name, rest @ ..] => vec![[&[*name], rest].concat().join(": ")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        plain(text, None).text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
    }

    #[test]
    fn json_in_every_shape() {
        let two = ["A cat has fur.", "It's got \"whiskers\" here."];
        for text in [
            r#"{"descriptions": ["A cat has fur.", "It's got \"whiskers\" here."]}"#,
            r#"["A cat has fur.", "It's got \"whiskers\" here."]"#,
            "Here is the list:\n```json\n[\n  \"A cat has fur.\",\n  \"It's got \\\"whiskers\\\" here.\",\n]\n```\nEnjoy!",
            r#"{"class": "cat", "1": "A cat has fur.", "2": "It's got \"whiskers\" here."}"#,
            r#"{"name": "cat", "items": [{"id": 1, "text": "A cat has fur."}, {"id": 2, "text": "It's got \"whiskers\" here."}]}"#,
            "{\"text\": \"A cat has fur.\"}\n{\"text\": \"It's got \\\"whiskers\\\" here.\"}",
            r#"['A cat has fur.', 'It\'s got "whiskers" here.']"#,
            r#"["A cat has fur.", "It's got "whiskers" here."]"#,
            r#"Here you go: ["A cat has fur.", "It's got \"whiskers\" here."]"#,
            "{\"a\": \"A cat has fur.\\nIt\\u0027s got \\\"whiskers\\\" here.\"}",
        ] {
            assert_eq!(lines(text), two, "{text}");
            assert_eq!(plain(text, None).whole, Some(true), "{text}");
        }
        let cut = plain("{\"descriptions\": [\"A cat has fur.\", \"It has four l", None);
        assert_eq!((cut.text.as_str(), cut.whole), ("A cat has fur.\nIt has four l", Some(false)));
        assert_eq!(plain("[\"A cat has fur.\",", None).whole, Some(true));
        assert_eq!(lines("{\"object\": \"A cat has fur.\"}"), ["A cat has fur."]);
    }

    #[test]
    fn of_json_by_class_the_own_list_alone() {
        let text = r#"{"tabby cat": ["It has soft fur.", "It sits."], "dog": ["It barks at the moon."]}"#;
        assert_eq!(plain(text, Some("tabby_cat")).text, "It has soft fur.\nIt sits.");
        assert_eq!(plain(text, Some("owl")).text.lines().count(), 3);
        let thought = r#"{"reasoning": "I must describe it.", "text": "It has soft fur."}"#;
        assert_eq!(plain(thought, None).text, "It has soft fur.");
    }

    #[test]
    fn tables() {
        let table = "| # | Description |\n|---|:---|\n| 1 | A cat has soft fur. |\n| 2 | It has long whiskers |\n";
        assert_eq!(lines(table), ["A cat has soft fur.", "It has long whiskers"]);
        assert_eq!(lines("Part | Look\n--- | ---\nFur | soft\nA cat has soft fur."), ["Fur: soft", "A cat has soft fur."]);
        assert_eq!(lines("| A cat has soft fur. |"), ["A cat has soft fur."]);
    }

    #[test]
    fn tags() {
        assert_eq!(lines("Hm, a cat. <answer>A <b>cat</b> has fur.</answer> Good?"), ["A cat has fur."]);
        assert_eq!(lines("<ul><li>A cat has fur.</li><li>It <em class=\"x\">sits</em>.</li></ul>"), ["A cat has fur.", "It sits."]);
        assert_eq!(lines("So \\boxed{A cat has fur.}"), ["A cat has fur."]);
        assert_eq!(lines("<description>A cat has fur.</description>"), ["A cat has fur."]);
        assert_eq!(lines("A cat has fur.<br/>It sits."), ["A cat has fur.", "It sits."]);
    }

    #[test]
    fn prose_stays() {
        for text in [
            "A cat has fur.",
            "[A cat] has {fur}.",
            "{} looks like a cat",
            "Describe a <category> at noon, 1 < 2 > 0.",
            "\"A cat has fur.\"",
            "A | B",
            "{",
            "<",
        ] {
            assert_eq!(plain(text, None), Lines { text: text.into(), whole: None, bared: false });
        }
    }
}
