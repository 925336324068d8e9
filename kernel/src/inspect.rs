//! Which name a reader asks about, and how evcxr's analyzer is to be asked.

use std::ops::Range;

use crate::complete::byte;
use crate::lexer::{Code, Kind, tokens};
use crate::magics;

/// The description of the command under the cursor.
pub fn command(code: &str, cursor: usize) -> Option<String> {
    let first = code.trim_start_matches('?').lines().next().filter(|line| line.starts_with('%'))?;
    let name = first.split(' ').next()?;
    (byte(code, cursor) <= code.find('%')? + name.len()).then(|| magics::description(name)).flatten()
}

/// The ends of the names to try: the word at the cursor; where there is none, or it has no documentation, the function whose
/// brackets the cursor stands in.
pub fn candidates(code: &Code, cursor: usize) -> Vec<usize> {
    let touches = |at: &Range<usize>| at.start <= cursor && cursor <= at.end;
    let word = code.tokens.iter().find(|token| token.kind == Kind::Word && touches(&token.at)).map(|token| token.at.end);
    let mut open = Vec::new();
    for (i, token) in code.tokens.iter().enumerate().take_while(|(_, token)| token.at.start < cursor) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => open.push(i),
            Kind::Mark(')' | ']' | '}') if token.at.end <= cursor => drop(open.pop()),
            _ => {}
        }
    }
    // `f(|cursor)`, `f::<T>(|)`, `m!(|)`; brackets in the arguments belong to no name
    let called = open.iter().rev().find_map(|open| called(code, *open));
    let before = code.tokens.iter().rfind(|token| token.at.end <= cursor && token.kind == Kind::Word).map(|token| token.at.end);
    let last = if word.is_none() && called.is_none() { before } else { None };
    word.into_iter().chain(called).chain(last).collect()
}

/// The end of the name that stands before an opening bracket.
fn called(code: &Code, open: usize) -> Option<usize> {
    let of_macro = open > 0 && code.is_mark(open - 1, '!');
    if !code.is_mark(open, '(') && !of_macro {
        return None;
    }
    let mut i = open.checked_sub(1)?;
    if code.is_mark(i, '!') {
        i = i.checked_sub(1)?;
    }
    if code.is_mark(i, '>') {
        // past the types of `collect::<Vec<_>>(`
        let mut depth = 0usize;
        loop {
            match code.tokens[i].kind {
                Kind::Mark('>') => depth += 1,
                Kind::Mark('<') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            i = i.checked_sub(1)?;
        }
        while i > 0 && (code.is_mark(i, '<') || code.is_mark(i, ':')) {
            i -= 1;
        }
    }
    let keyword = ["if", "while", "match", "in", "for", "return", "let", "fn"].contains(&code.word(i));
    (code.is_name(i) && !keyword).then(|| code.tokens[i].at.end)
}

/// Code at whose end the analyzer is asked: the name where it stands, as a type, as a macro.
pub fn questions(code: &str, end: usize) -> Vec<String> {
    let up_to = &code[..end];
    let path = path(up_to);
    let before = &up_to[..up_to.len() - path.len()];
    let mut all = vec![up_to.to_string()];
    all.extend(in_macro(up_to));
    if path.is_empty() || before.ends_with('.') {
        return all;
    }
    let statement = statements(before);
    all.push(format!("{statement}\nlet _: {path}"));
    all.push(format!("{statement}\nuse {path}"));
    if !path.contains("::") {
        all.push(format!("{statement}\nuse ::std::{path}"));
    }
    // what is in no scope yet: `HashMap` before its `use`
    let (first, rest) = path.split_once("::").map_or((path, ""), |(first, rest)| (first, rest.trim_end_matches(':')));
    if let Some((module, _)) = WELL_KNOWN.iter().find(|(_, names)| names.contains(&first)) {
        let kind = if rest.is_empty() { "let _: " } else { "" };
        all.push(format!("{statement}\n{kind}std::{module}::{}", path.trim_end_matches(':')));
    }
    all
}

/// Modules of `std` and those of their names that readers ask for.
const WELL_KNOWN: [(&str, &[&str]); 11] = [
    ("collections", &["HashMap", "HashSet", "BTreeMap", "BTreeSet", "VecDeque", "BinaryHeap"]),
    ("rc", &["Rc"]),
    ("cell", &["Cell", "RefCell"]),
    ("sync", &["Arc", "Mutex", "RwLock"]),
    ("path", &["Path", "PathBuf"]),
    ("fs", &["File"]),
    ("time", &["Duration", "Instant"]),
    ("borrow", &["Cow"]),
    ("io", &["BufReader", "BufWriter", "Read", "Write", "BufRead"]),
    ("fmt", &["Display", "Formatter"]),
    ("str", &["FromStr"]),
];

/// The expression that a macro is given, as a statement of its own: the analyzer finds nothing in a macro that is not closed.
fn in_macro(up_to: &str) -> Option<String> {
    let code = Code::new(up_to);
    let open = code.unclosed().into_iter().rfind(|at| code.is_of_macro(*at))?;
    let mut from = open + 1;
    let mut at = from;
    while at < code.tokens.len() {
        match code.tokens[at].kind {
            Kind::Mark(',' | ';') => from = at + 1,
            Kind::Mark('(' | '[' | '{') => match code.close(at) {
                Some(end) => at = end,
                None => break,
            },
            _ => {}
        }
        at += 1;
    }
    let expression = &up_to[code.tokens.get(from)?.at.start..];
    Some(format!("{}\n{expression}", statements(&up_to[..code.tokens[open].at.start])))
}

/// The path that ends the text: `std::fs::read`.
fn path(text: &str) -> &str {
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let start = text.rfind(|c: char| !in_path(c)).map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text[start..].trim_start_matches(':')
}

/// The whole statements at the beginning: imports above the question.
fn statements(text: &str) -> &str {
    let (mut depth, mut end) = (0usize, 0);
    for token in tokens(text) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Mark('}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    end = token.at.end;
                }
            }
            Kind::Mark(';') if depth == 0 => end = token.at.end,
            _ => {}
        }
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that are tried for a cursor at `|`.
    fn names(text: &str) -> Vec<String> {
        let cursor = text.find('|').unwrap();
        let code = text.replacen('|', "", 1);
        candidates(&Code::new(&code), cursor).into_iter().map(|end| code[..end].to_string()).collect()
    }

    #[test]
    fn the_word_under_the_cursor_then_the_call() {
        assert_eq!(names("grö|ße.to_string()"), ["größe"]);
        assert_eq!(names("größe.to_|string()"), ["größe.to_string"]);
        assert_eq!(names("größe.to_string(|)"), ["größe.to_string"]);
        assert_eq!(names("Tensor::zeros((2, |3), D)"), ["Tensor::zeros"]);
        assert_eq!(names("Clip::from_dir(\"/da|ta\")"), ["Clip::from_dir"]);
        assert_eq!(names("f(a, g(1), |)"), ["f"]);
        assert_eq!(names("f(si|ze)"), ["f(size", "f"]);
        assert_eq!(names("v.iter().collect::<Vec<_>>(|)"), ["v.iter().collect"]);
        assert_eq!(names("println!(\"{}\", |)"), ["println"]);
        assert_eq!(names("vec![|1]"), ["vec"]);
        assert_eq!(names("Clip::demo()|"), ["Clip::demo"]);
        assert_eq!(names("if (|) {}"), ["if"]);
    }

    #[test]
    fn a_type_and_a_macro_are_asked_for_as_such() {
        let code = "use std::collections::HashMap;\nlet m = HashMap";
        let all = questions(code, code.len());
        assert_eq!(all[0], code);
        assert_eq!(all[1], "use std::collections::HashMap;\nlet _: HashMap");
        assert_eq!(questions("println", 7).last().unwrap(), "\nuse ::std::println");
        assert_eq!(questions("x.iter", 6), ["x.iter"]);
        assert_eq!(path("let é = std::fs"), "std::fs");
    }

    #[test]
    fn what_a_macro_is_given_is_asked_for_by_itself() {
        assert_eq!(in_macro("f();\nprintln!(\"{}\", g(1, 2), x.len").unwrap(), "f();\nx.len");
        assert_eq!(in_macro("assert_eq!(t.dims2").unwrap(), "\nt.dims2");
        assert_eq!(in_macro("vec![f(1, x.len").unwrap(), "\nf(1, x.len");
        assert_eq!((in_macro("println!(1); x.len"), in_macro("println")), (None, None));
        assert_eq!(questions("Rc", 2).last().unwrap(), "\nlet _: std::rc::Rc");
        assert_eq!(questions("HashMap::new", 12).last().unwrap(), "\nstd::collections::HashMap::new");
    }

    #[test]
    fn a_command_says_what_it_does() {
        assert!(command("%%time\nlet a", 3).unwrap().contains("how long"));
        assert!(command("?%cd", 2).is_some() && command("?%who", 3).is_some() && command("%%bash\nls", 4).is_some());
        assert!(command("%time f()", 7).is_none() && command("f()", 0).is_none());
    }
}
