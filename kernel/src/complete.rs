//! Completion and documentation, from evcxr's rust-analyzer.

use jupyter_protocol::{CompleteReply, CompleteRequest, InspectReply, InspectRequest, Media, MediaType};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::magics::COMMANDS;

pub fn complete(engine: &mut Engine, request: &CompleteRequest) -> CompleteReply {
    let mut reply = CompleteReply { cursor_start: request.cursor_pos, cursor_end: request.cursor_pos, ..Default::default() };
    if request.code.starts_with('%') && !request.code.contains('\n') {
        reply.cursor_start = 0;
        let names = COMMANDS.iter().filter_map(|(name, _)| name.split(' ').next());
        reply.matches = names.filter(|name| name.starts_with(request.code.trim())).map(String::from).collect();
        return reply;
    }
    let code = blank_magic(&request.code);
    let Ok(found) = engine.context().completions(&code, byte(&code, request.cursor_pos)) else { return reply };
    reply.cursor_start = code[..found.start_offset].chars().count();
    reply.cursor_end = code[..found.end_offset].chars().count();
    let kinds: Vec<Value> = found
        .completions
        .iter()
        .map(|item| json!({"text": item.code, "displayText": item.label, "type": item.kind, "start": reply.cursor_start, "end": reply.cursor_end}))
        .collect();
    reply.metadata.insert("_jupyter_types_experimental".into(), kinds.into());
    reply.matches = found.completions.into_iter().map(|item| item.code).collect();
    reply
}

pub fn inspect(engine: &mut Engine, request: &InspectRequest) -> InspectReply {
    let code = blank_magic(&request.code);
    let end = word_end(&code, byte(&code, request.cursor_pos));
    match documentation(engine, &code, end) {
        Some(data) => InspectReply { found: true, data, ..Default::default() },
        None => InspectReply::default(),
    }
}

/// What rust-analyzer says about the word that ends at `end`.
pub fn documentation(engine: &mut Engine, code: &str, end: usize) -> Option<Media> {
    let (text, html) = engine.context().hover_at(code, end).ok()?;
    (text != "No documentation found").then(|| Media::new(vec![MediaType::Plain(text), MediaType::Html(html)]))
}

/// The first question costs seconds, later ones little: asked before anybody waits.
pub fn warm(engine: &mut Engine) {
    let code = "let warm = Tensor::";
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.context().completions(code, code.len())));
}

/// Where the word ends that the cursor stands in; inside the brackets of a call, the called name.
fn word_end(code: &str, at: usize) -> usize {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = code[at..].find(|c| !in_word(c)).map_or(code.len(), |n| at + n);
    if code[..end].ends_with(in_word) {
        return end;
    }
    let before = code[..at].trim_end_matches(|c: char| c == '(' || c.is_whitespace());
    before.len()
}

/// The first line's command, as spaces: offsets stay.
fn blank_magic(code: &str) -> String {
    if !code.starts_with('%') {
        return code.to_string();
    }
    let (first, rest) = code.split_once('\n').map_or((code, ""), |(first, rest)| (first, rest));
    let name = first.find(' ').unwrap_or(first.len());
    let mut blank = " ".repeat(first[..name].chars().count()) + &first[name..];
    if code.len() > first.len() {
        blank.push('\n');
        blank.push_str(rest);
    }
    blank
}

/// Jupyter counts characters, evcxr bytes.
fn byte(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_under_the_cursor() {
        let code = "größe.to_string()";
        assert_eq!(&code[..word_end(code, byte(code, 2))], "größe");
        assert_eq!(&code[..word_end(code, byte(code, 8))], "größe.to_string");
        assert_eq!(&code[..word_end(code, byte(code, 16))], "größe.to_string");
    }

    #[test]
    fn a_command_is_no_code() {
        assert_eq!(blank_magic("%%time\nlet a"), "      \nlet a");
        assert_eq!(blank_magic("%time f()"), "      f()");
        assert_eq!(blank_magic("let a"), "let a");
    }
}
