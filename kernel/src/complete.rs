//! Completion and documentation, from evcxr's rust-analyzer; names of files and what is known without it.

use std::path::Path;

use jupyter_protocol::{CompleteReply, CompleteRequest, InspectReply, InspectRequest, Media, MediaType};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::files;
use crate::inspect;
use crate::known::{Known, Name};
use crate::lexer::Code;
use crate::magics::{COMMANDS, QUIT};

pub fn complete(engine: &mut Engine, request: &CompleteRequest) -> CompleteReply {
    let folder = engine.folder().unwrap_or_default();
    if let Some(reply) = without_rust(request, &folder) {
        return reply;
    }
    let code = blank_magic(&request.code);
    let cursor = byte(&code, request.cursor_pos);
    let code = close_macro(&code, cursor).unwrap_or(code);
    let mut reply = CompleteReply { cursor_start: request.cursor_pos, cursor_end: request.cursor_pos, ..Default::default() };
    let Ok(mut found) = engine.context().completions(&code, cursor) else { return reply };
    let of = engine.owner(&code[..found.start_offset]);
    found.completions.retain(|item| item.code != QUIT && !engine.hides(&item.code, item.kind, &of));
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

/// The code with what a macro is given closed behind the cursor: the analyzer knows nothing of it before.
fn close_macro(code: &str, cursor: usize) -> Option<String> {
    let all = Code::new(code);
    let open: Vec<usize> = all.unclosed().into_iter().filter(|i| all.tokens[*i].at.start < cursor).collect();
    let close = |i: &usize| match all.word(*i) {
        "(" => ')',
        "[" => ']',
        _ => '}',
    };
    let closing: String = open.iter().rev().map(close).collect();
    open.iter().any(|i| all.is_of_macro(*i)).then(|| format!("{}{closing}{}", &code[..cursor], &code[cursor..]))
}

/// While the analyzer is not free: names that begin like the word before the cursor.
pub fn quickly(known: &Known, request: &CompleteRequest, folder: &Path) -> CompleteReply {
    if let Some(reply) = without_rust(request, folder) {
        return reply;
    }
    let code = blank_magic(&request.code);
    let cursor = byte(&code, request.cursor_pos);
    let start = code[..cursor]
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |at| at + code[at..].chars().next().map_or(1, char::len_utf8));
    let before = code[..start].trim_end();
    if before.ends_with("::") || before.ends_with('.') && !before.ends_with("..") {
        return offer(&code, cursor..cursor, vec![]); // a member: only the analyzer knows them
    }
    offer(&code, start..cursor, known.names(&code[start..cursor]))
}

/// Commands of the first line, and files.
fn without_rust(request: &CompleteRequest, folder: &Path) -> Option<CompleteReply> {
    let code = &request.code;
    let cursor = byte(code, request.cursor_pos);
    if code.starts_with('%') && !code[..cursor].contains([' ', '\n']) {
        let names = COMMANDS.iter().filter_map(|(name, _)| name.split(' ').next());
        let names = names.filter(|name| name.starts_with(&code[..cursor])).map(|name| (name.to_string(), "magic".to_string()));
        return Some(offer(code, 0..cursor, names.collect()));
    }
    let spot = files::spot(code, cursor)?;
    let (names, length) = files::matching(&code[spot.name.clone()], folder, spot.shell);
    let kind = |name: String| {
        let kind = if name.ends_with('/') { "folder" } else { "file" };
        (name, kind.to_string())
    };
    Some(offer(code, spot.name.end - length..spot.name.end, names.into_iter().map(kind).collect()))
}

fn offer(code: &str, place: std::ops::Range<usize>, names: Vec<Name>) -> CompleteReply {
    let characters = |at: usize| code[..at].chars().count();
    let (start, end) = (characters(place.start), characters(place.end));
    let mut reply = CompleteReply { cursor_start: start, cursor_end: end, ..Default::default() };
    let kinds: Vec<Value> =
        names.iter().map(|(name, kind)| json!({"text": name, "displayText": name, "type": kind, "start": start, "end": end})).collect();
    reply.metadata.insert("_jupyter_types_experimental".into(), kinds.into());
    reply.matches = names.into_iter().map(|(name, _)| name).collect();
    reply
}

pub fn inspect(engine: &mut Engine, request: &InspectRequest) -> InspectReply {
    let found = |data| InspectReply { found: true, data, ..Default::default() };
    if let Some(text) = inspect::command(&request.code, request.cursor_pos) {
        return found(Media::new(vec![MediaType::Plain(text)]));
    }
    let code = blank_magic(&request.code);
    let ends = inspect::candidates(&Code::new(&code), byte(&code, request.cursor_pos));
    ends.into_iter().find_map(|end| documentation(engine, &code, end)).map_or_else(InspectReply::default, found)
}

/// What rust-analyzer says about the name at the end of the code, as text and as HTML.
pub fn hover(engine: &mut Engine, code: &str) -> Option<(String, String)> {
    let asking = std::panic::AssertUnwindSafe(|| engine.context().hover_at(code, code.len()).ok());
    std::panic::catch_unwind(asking).ok()?
}

/// What rust-analyzer says about the name that ends at `end`.
pub fn documentation(engine: &mut Engine, code: &str, end: usize) -> Option<Media> {
    let mut ask = |code: &str| {
        let (text, html) = hover(engine, code)?;
        (!text.is_empty() && text != "No documentation found").then(|| Media::new(vec![MediaType::Plain(text), MediaType::Html(html)]))
    };
    // a name that is no value: a type, a macro
    inspect::questions(code, end).iter().find_map(|question| ask(question))
}

/// The first question costs seconds, later ones little: asked before anybody waits. What is in scope is kept for [`quickly`].
pub fn warm(engine: &mut Engine) {
    let mut ask = |code: &str| {
        let asking = std::panic::AssertUnwindSafe(|| engine.context().completions(code, code.len()).ok());
        std::panic::catch_unwind(asking).ok()?
    };
    ask("let warm = Tensor::");
    let Some(found) = ask("{ ") else { return };
    let of = engine.owner("");
    let items = found.completions.into_iter().filter(|item| item.kind != "keyword" && !engine.hides(&item.code, item.kind, &of));
    let name = |code: &str| code.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("").to_string();
    let names = items.map(|item| (name(&item.code), item.kind.to_string())).filter(|(name, _)| !name.is_empty()).collect();
    engine.in_scope(names);
}

/// The first line's command, as spaces: offsets stay.
fn blank_magic(code: &str) -> String {
    if !code.starts_with(['%', '?']) {
        return code.to_string();
    }
    let (first, rest) = code.split_once('\n').map_or((code, ""), |(first, rest)| (first, rest));
    let name = if code.starts_with('?') { 1 } else { first.find(' ').unwrap_or(first.len()) };
    let mut blank = " ".repeat(first[..name].chars().count()) + &first[name..];
    if code.len() > first.len() {
        blank.push('\n');
        blank.push_str(rest);
    }
    blank
}

/// Jupyter counts characters, evcxr bytes.
pub fn byte(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(code: &str) -> CompleteRequest {
        CompleteRequest { code: code.into(), cursor_pos: code.chars().count() }
    }

    #[test]
    fn a_command_is_no_code() {
        assert_eq!(blank_magic("%%time\nlet a"), "      \nlet a");
        assert_eq!(blank_magic("%time f()"), "      f()");
        assert_eq!(blank_magic("let a"), "let a");
        assert_eq!(blank_magic("?Tensor"), " Tensor");
    }

    #[test]
    fn what_a_macro_is_given_is_closed() {
        let closed = |text: &str| close_macro(&text.replace('|', ""), text.find('|').unwrap());
        assert_eq!(closed("println!(\"{}\", x.|\nf();").unwrap(), "println!(\"{}\", x.)\nf();");
        assert_eq!(closed("fn f() { vec![g(x.|").unwrap(), "fn f() { vec![g(x.)]}");
        assert_eq!((closed("vec![x.|]"), closed("f(x.|"), closed("vec![1]; f(x.|")), (None, None, None));
    }

    #[test]
    fn names_are_offered_while_a_cell_runs() {
        let mut known = Known::default();
        known.learn(vec![("größe".into(), "f32".into())], vec![]);
        let reply = |code: &str| quickly(&known, &request(code), Path::new("/"));
        let one = reply("let é = grö");
        assert_eq!((one.matches, one.cursor_start, one.cursor_end), (vec!["größe".to_string()], 8, 11));
        assert_eq!(reply("wh").matches, ["while"]);
        assert!(reply("x.wh").matches.is_empty() && reply("std::wh").matches.is_empty());
        assert_eq!(reply("0..grö").matches, ["größe"]);
        assert_eq!(reply("%va").matches, ["%vars"]);
        assert_eq!(reply("open(\"/et").matches, ["etc/"]);
    }
}
