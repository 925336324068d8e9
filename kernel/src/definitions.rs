//! What a cell defines that a type's layout may depend on, by its name.

use crate::lexer::{Code, Kind};

/// Stands before a trait's name for the constants that it gives to the types that have none of their own; in no name.
pub const DEFAULTS: &str = "0";
/// Stands before each name in the text of a module.
pub const INSIDE: char = '§';
/// In the text of a module whose text is a file's, or has one's in it.
pub const FILE: &str = "include !";
/// Names of types that no module of a reader's brings.
pub const COMMON: [&str; 14] =
    ["Vec", "String", "Option", "Result", "Box", "Rc", "Arc", "HashMap", "HashSet", "BTreeMap", "VecDeque", "RefCell", "Mutex", "Tensor"];

/// The names in a type or a definition.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The words between each `let` of the cell's own level and its type or its value.
pub fn made(cell: &str) -> Vec<String> {
    let code = Code::new(cell);
    let (mut names, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        match code.word(i) {
            "let" => {
                let pattern = (i + 1..code.tokens.len()).take_while(|at| !["=", ":", ";"].contains(&code.word(*at)));
                names.extend(pattern.filter(|at| code.is_name(*at)).map(|at| code.word(at).to_string()));
            }
            "{" | "(" | "[" => i = code.close(i).unwrap_or(code.tokens.len()),
            _ => {}
        }
        i += 1;
    }
    names
}

/// The functions at the cell's own level.
pub fn functions(cell: &str) -> Vec<String> {
    let code = Code::new(cell);
    let (mut names, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        match code.word(i) {
            "fn" if code.is_name(i + 1) => names.push(code.word(i + 1).to_string()),
            "{" | "(" | "[" => i = code.close(i).unwrap_or(code.tokens.len()),
            _ => {}
        }
        i += 1;
    }
    names
}

/// The types, constants, traits, modules and imports at the cell's own level, each by its name.
pub fn definitions(cell: &str) -> Vec<(String, String)> {
    let code = Code::new(cell);
    let mut all = Vec::new();
    collect(&code, 0, code.tokens.len(), false, &mut all);
    all
}

/// `of_module`: what stands inside of one, where each call of a macro is an item.
fn collect(code: &Code, from: usize, to: usize, of_module: bool, all: &mut Vec<(String, String)>) {
    let (mut i, mut layout) = (from, String::new());
    while i < to {
        let past = |open: usize| code.close(open).map_or(to, |end| end + 1);
        let name = code.word(i + 1).to_string();
        match code.word(i) {
            "#" if code.word(i + 2) == "repr" => {
                layout = shape(code, i, past(i + 1));
                i = past(i + 1);
            }
            // `union` is also a method's name
            "struct" | "enum" | "union" | "trait" if code.is_name(i + 1) => {
                let end = end(code, i, to);
                let constants = if code.word(i) == "trait" { defaults(code, i, end) } else { String::new() };
                if !constants.is_empty() {
                    all.push((format!("{DEFAULTS}{name}"), constants));
                }
                all.push((name, shape(code, i, end) + &std::mem::take(&mut layout)));
                i = end;
            }
            // neither `*const T` nor `&raw const x` nor `<const N: usize>`
            "type" | "const" | "static" if code.is_name(i + 1) && (i == from || !["*", "raw", "<", ","].contains(&code.word(i - 1))) => {
                match (i + 1..i + 4).find(|at| code.word(*at) == "fn" && code.is_name(at + 1)) {
                    // an array's length may be what it computes
                    Some(at) => {
                        let end = end(code, at, to);
                        all.push((code.word(at + 1).to_string(), text(code, i, end)));
                        i = end;
                    }
                    None => {
                        let end = end(code, i, to);
                        all.push((name, shape(code, i, end)));
                        i = end;
                    }
                }
            }
            "impl" if i == from || [";", "}", "]", "unsafe"].contains(&code.word(i - 1)) => {
                let open = (i..to).find(|at| code.is_mark(*at, '{')).unwrap_or(to);
                let (mut inside, end) = (Vec::new(), past(open));
                collect(code, open + 1, end, false, &mut inside);
                let of = text(code, i + 1, open);
                if let Some((of_trait, _)) = of.split_once(" for ").filter(|(_, behind)| !behind.starts_with('<')) {
                    let own = inside.iter().map(|(name, _)| name.as_str());
                    let from = words(of_trait).chain(own).map(|word| format!("{DEFAULTS}{word} ")).collect();
                    inside.push(("*".into(), from));
                }
                all.extend(inside.into_iter().map(|(name, shape)| (format!("{of}::{name}"), shape)));
                i = end;
            }
            "macro_rules" if code.is_mark(i + 1, '!') => {
                let end = past(i + 3);
                all.push((code.word(i + 2).to_string(), text(code, i, end)));
                i = end;
            }
            "mod" if code.is_mark(i + 2, '{') => {
                let (mut inside, end) = (Vec::new(), past(i + 2));
                collect(code, i + 3, end, true, &mut inside);
                inside.sort();
                let inside: String = inside.into_iter().map(|(name, shape)| format!("{INSIDE}{name}: {shape}; ")).collect();
                all.push((name, format!("mod {inside}")));
                i = end;
            }
            // a file's
            "mod" if code.is_name(i + 1) && code.is_mark(i + 2, ';') => {
                let path = [i, i - usize::from(i > from && code.word(i - 1) == "pub")].into_iter().filter(|at| *at > from + 3);
                let path = path.filter(|at| code.is_mark(at - 1, ']') && code.is_mark(at - 3, '=')).map(|at| code.word(at - 2));
                all.push((name, format!("mod {FILE}{}", path.collect::<String>())));
                i += 3;
            }
            "use" => {
                let end = end(code, i, to);
                imports(code, i + 1, end, &mut String::new(), all);
                i = end;
            }
            // a macro that may define: `bitflags! { struct … }`
            "!" if i > from && code.is_name(i - 1) && ["{", "(", "["].contains(&code.word(i + 1)) => {
                let end = past(i + 1);
                let names = (i + 2..end).filter(|at| ["struct", "enum", "union"].contains(&code.word(*at)) && code.is_name(at + 1));
                all.extend(names.map(|at| (code.word(at + 1).to_string(), shape(code, i + 1, end))));
                if of_module {
                    let text = text(code, i - 1, end);
                    let is_given =
                        |at: &usize| code.word(*at).starts_with(char::is_uppercase) && [",", ";", "{", ")"].contains(&code.word(at + 1));
                    let given = (i + 2..end).filter(is_given).map(|at| code.word(at)).filter(|name| !COMMON.contains(name));
                    all.extend(given.map(|name| (name.to_string(), text.clone())));
                    all.push((format!("{}!", code.word(i - 1)), text));
                }
                i = end;
            }
            "{" | "(" | "[" => i = past(i),
            _ => i += 1,
        }
    }
}

/// The constants of a trait that it gives a value.
fn defaults(code: &Code, from: usize, to: usize) -> String {
    let mut inside = Vec::new();
    if let Some(open) = (from..to).find(|at| code.is_mark(*at, '{')) {
        collect(code, open + 1, to, false, &mut inside);
    }
    inside.into_iter().map(|(_, shape)| shape).filter(|shape| shape.starts_with("const ")).collect()
}

/// Behind an item: its semicolon, or the braces of a type or a function.
fn end(code: &Code, from: usize, to: usize) -> usize {
    let mut i = from;
    let braced = ["struct", "enum", "union", "trait", "fn"].contains(&code.word(from));
    while i < to {
        match code.tokens[i].kind {
            Kind::Mark(';') => return i + 1,
            Kind::Mark('{') if braced => return code.close(i).map_or(to, |end| end + 1),
            Kind::Mark('(' | '[' | '{') => i = code.close(i).unwrap_or(to),
            _ => {}
        }
        i += 1;
    }
    to
}

fn text(code: &Code, from: usize, to: usize) -> String {
    (from..to).map(|at| code.word(at)).collect::<Vec<_>>().join(" ")
}

/// An item's text, without attributes other than `repr`, and without what functions do.
fn shape(code: &Code, from: usize, to: usize) -> String {
    let (mut words, mut i, mut function) = (Vec::new(), from, false);
    while i < to {
        if code.is_mark(i, '#') && code.is_mark(i + 1, '[') && code.word(i + 2) != "repr" {
            i = code.close(i + 1).unwrap_or(to) + 1;
            continue;
        }
        match code.word(i) {
            "fn" if code.is_name(i + 1) => function = true, // not `Call(fn(f32) -> f32), K { v: u8 }`
            ";" => function = false,
            "{" if function => {
                (i, function) = (code.close(i).unwrap_or(to) + 1, false);
                words.push(";");
                continue;
            }
            _ => {}
        }
        words.push(code.word(i));
        i += 1;
    }
    words.join(" ")
}

/// The names that a `use` brings, each with its path.
fn imports(code: &Code, from: usize, to: usize, path: &mut String, all: &mut Vec<(String, String)>) {
    let (mut i, length) = (from, path.len());
    while i < to {
        match code.word(i) {
            "{" => {
                let end = code.close(i).unwrap_or(to);
                imports(code, i + 1, end, path, all);
                i = end;
            }
            "," | ";" => path.truncate(length),
            "*" => {
                let of = path.trim_end_matches(':').to_string();
                all.push((format!("use {of}::*"), format!("use {of}")));
            }
            "as" => {
                all.push((code.word(i + 1).to_string(), format!("use {path}")));
                path.truncate(length);
                i += 1;
            }
            word => {
                path.push_str(word);
                let last = i + 1 >= to || [",", ";", "}"].contains(&code.word(i + 1));
                if last && code.is_name(i) {
                    let of = path.strip_suffix("::self").unwrap_or(path);
                    all.push((words(of).last().unwrap_or_default().to_string(), format!("use {of}")));
                }
            }
        }
        i += 1;
    }
    path.truncate(length);
}
