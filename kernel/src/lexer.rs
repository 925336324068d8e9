//! The words, texts and marks of a cell: enough of Rust's grammar to know what stands inside a string, a comment or a bracket.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A name or a keyword.
    Word,
    Number,
    /// A string of any kind.
    Text,
    Char,
    Lifetime,
    Comment,
    /// One character of punctuation.
    Mark(char),
}

/// A token and its place in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
    /// A string or a comment that does not end.
    pub open: bool,
}

/// A cell with its tokens; comments are left out unless they are open.
pub struct Code<'a> {
    pub text: &'a str,
    pub tokens: Vec<Token>,
}

impl<'a> Code<'a> {
    pub fn new(text: &'a str) -> Self {
        let tokens = tokens(text).into_iter().filter(|token| token.kind != Kind::Comment || token.open).collect();
        Self { text, tokens }
    }

    /// The text of a token; empty behind the last.
    pub fn word(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| &self.text[token.at.clone()])
    }

    /// The line of a token, counted from 1.
    pub fn line(&self, index: usize) -> usize {
        let before = self.tokens.get(index).map_or(self.text, |token| &self.text[..token.at.start]);
        before.matches('\n').count() + 1
    }

    pub fn is_mark(&self, index: usize, mark: char) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == Kind::Mark(mark))
    }

    pub fn is_name(&self, index: usize) -> bool {
        self.tokens.get(index).is_some_and(|token| token.kind == Kind::Word)
    }

    /// Whether two tokens touch, as in `..` and `::`.
    pub fn touch(&self, index: usize) -> bool {
        matches!((self.tokens.get(index), self.tokens.get(index + 1)), (Some(a), Some(b)) if a.at.end == b.at.start)
    }

    /// The index of the bracket that closes the one at `index`.
    pub fn close(&self, index: usize) -> Option<usize> {
        let mut depth = 0usize;
        for (i, token) in self.tokens.iter().enumerate().skip(index) {
            match token.kind {
                Kind::Mark('(' | '[' | '{') => depth += 1,
                Kind::Mark(')' | ']' | '}') => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(i);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The first of `marks` outside of brackets, and before one that closes.
    pub fn at_top(&self, from: usize, marks: &[char]) -> Option<usize> {
        let mut i = from;
        while i < self.tokens.len() {
            match self.tokens[i].kind {
                Kind::Mark(mark) if marks.contains(&mark) => return Some(i),
                Kind::Mark('(' | '[' | '{') => i = self.close(i)?,
                Kind::Mark(')' | ']' | '}') => return None,
                _ => {}
            }
            i += 1;
        }
        None
    }

    /// The brace of the body of the item that begins at `from`, if it has one. `Simd<{ N + 1 }>` and `A<T, { N }>` have values among their
    /// types, `where T: A, {` has not.
    pub fn body(&self, from: usize) -> Option<usize> {
        let is_value = |open: usize| match self.word(open - 1) {
            "<" | "=" => true,
            "," => self.close(open).is_some_and(|end| [",", ">"].contains(&self.word(end + 1))),
            _ => false,
        };
        let mut open = self.at_top(from, &['{', ';'])?;
        while self.is_mark(open, '{') && is_value(open) {
            open = self.at_top(self.close(open)? + 1, &['{', ';'])?;
        }
        self.is_mark(open, '{').then_some(open)
    }

    /// The brackets that are not closed, up to one that is closed by another's mark.
    pub fn unclosed(&self) -> Vec<usize> {
        let mut open: Vec<usize> = Vec::new();
        for i in 0..self.tokens.len() {
            match (self.tokens[i].kind, open.last().map(|at| self.word(*at))) {
                (Kind::Mark('(' | '[' | '{'), _) => open.push(i),
                (Kind::Mark(')'), Some("(")) | (Kind::Mark(']'), Some("[")) | (Kind::Mark('}'), Some("{")) => drop(open.pop()),
                (Kind::Mark(')' | ']' | '}'), _) => break,
                _ => {}
            }
        }
        open
    }

    /// A bracket that closes nothing.
    pub fn stray(&self) -> Option<usize> {
        let mut depth = 0usize;
        for (i, token) in self.tokens.iter().enumerate() {
            match token.kind {
                Kind::Mark('(' | '[' | '{') => depth += 1,
                Kind::Mark(')' | ']' | '}') if depth == 0 => return Some(i),
                Kind::Mark(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Whether a bracket holds what a macro is given.
    pub fn is_of_macro(&self, open: usize) -> bool {
        open > 1 && self.is_mark(open - 1, '!') && self.is_name(open - 2)
    }
}

/// All tokens; white space lies between them.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = token(rest, first);
        let (end, open) = length.map_or((text.len(), true), |length| (at + length, false));
        all.push(Token { kind, at: at..end, open });
        at = end;
    }
    all
}

/// The kind and the length of the token that `rest` begins with; no length where it does not end.
fn token(rest: &str, first: char) -> (Kind, Option<usize>) {
    if rest.starts_with("//") {
        return (Kind::Comment, Some(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, comment(rest));
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let behind = rest.strip_prefix(prefix).unwrap_or("x");
        behind.starts_with('"') || prefix.ends_with('r') && behind.trim_start_matches('#').starts_with('"') && behind.starts_with('#')
    });
    if let Some(prefix) = prefix {
        let behind = &rest[prefix.len()..];
        let length = if prefix.ends_with('r') { raw_string(behind) } else { string(behind) };
        return (Kind::Text, length.map(|length| prefix.len() + length));
    }
    if let Some(quoted) = rest.strip_prefix("b'").or(rest.strip_prefix('\'')) {
        let before = rest.len() - quoted.len();
        let mut chars = quoted.chars();
        return match (chars.next(), chars.next()) {
            (Some('\\'), Some(escaped)) => {
                let from = 1 + escaped.len_utf8();
                (Kind::Char, quoted[from..].find('\'').map(|end| before + from + end + 1))
            }
            (Some(c), Some('\'')) => (Kind::Char, Some(before + c.len_utf8() + 1)),
            _ => (Kind::Lifetime, Some(before + word_length(quoted))),
        };
    }
    if let Some(raw) = rest.strip_prefix("r#").filter(|raw| word_length(raw) > 0) {
        return (Kind::Word, Some(2 + word_length(raw)));
    }
    if first.is_ascii_digit() {
        let mut length = word_length(rest);
        if rest[length..].starts_with('.') && rest[length + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            length += 1 + word_length(&rest[length + 1..]);
        }
        return (Kind::Number, Some(length));
    }
    match word_length(rest) {
        0 => (Kind::Mark(first), Some(first.len_utf8())),
        length => (Kind::Word, Some(length)),
    }
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// From one quote to the other.
fn string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// From the first `#` or quote to the last.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    text[hashes + 1..].find(&end).map(|at| hashes + 1 + at + end.len())
}

fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut i) = (0usize, 0);
    while i < text.len() {
        let rest = &text.as_bytes()[i..];
        if rest.starts_with(b"/*") {
            (depth, i) = (depth + 1, i + 2);
        } else if rest.starts_with(b"*/") {
            (depth, i) = (depth - 1, i + 2);
            if depth == 0 {
                return Some(i);
            }
        } else {
            i += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|token| &text[token.at]).collect()
    }

    #[test]
    fn every_token_is_one() {
        assert_eq!(words("let größe: f32=1.5e3; x..2"), ["let", "größe", ":", "f32", "=", "1.5e3", ";", "x", ".", ".", "2"]);
        assert_eq!(words("f('{', \"(\", r#\"[\"# , b'\\'' )"), ["f", "(", "'{'", ",", "\"(\"", ",", "r#\"[\"#", ",", "b'\\''", ")"]);
        assert_eq!(words("fn f<'a>(x: &'a r#fn) // {"), ["fn", "f", "<", "'a", ">", "(", "x", ":", "&", "'a", "r#fn", ")", "// {"]);
        assert_eq!(words("1.max(2) 0..n '\\u{e9}' 'é'"), ["1", ".", "max", "(", "2", ")", "0", ".", ".", "n", "'\\u{e9}'", "'é'"]);
    }

    #[test]
    fn a_bracket_may_close_nothing() {
        assert_eq!(["f()", "(\")\")", "}\nlet a = 1;", "f(1))"].map(|text| Code::new(text).stray()), [None, None, Some(0), Some(4)]);
    }

    #[test]
    fn what_does_not_end_is_open() {
        for text in ["\"abc\\\"", "/* /* */", "r#\"a\"", "b\"é"] {
            let all = tokens(text);
            assert!(all.len() == 1 && all[0].open, "{text}: {all:?}");
        }
        assert!(tokens("\"é\" 'a' /* */ r\"\\\"").iter().all(|token| !token.open));
    }

    #[test]
    fn brackets_find_their_ends() {
        let code = Code::new("f(a[1], \")\") { g() }");
        assert_eq!(code.close(1).map(|end| code.word(end)), Some(")"));
        assert_eq!(code.close(1), Some(8));
        assert_eq!(code.close(9), Some(13));
        assert_eq!(Code::new("f(a").close(1), None);
    }

    #[test]
    fn values_among_the_types_are_no_bodies() {
        for text in [
            "fn a<T>() where T: B, @{ c } impl D {}",
            "fn a() -> A<B, { N }, { M }> where A: B, @{ c }",
            "fn a<const N: usize = { 3 }>() -> Simd<{ N + 1 }> @{ b } struct C;",
            "fn a() where [(); { N }]: Sized, @{ b } struct C {}",
            "fn a() where T: X<N = { 3 }>, U: Fn() -> X @{ b }",
            "fn a() -> impl Fn() @{ b } struct C {}",
        ] {
            let (before, behind) = text.split_once('@').unwrap();
            let text = format!("{before}{behind}");
            let code = Code::new(&text);
            assert_eq!(code.body(0).map(|open| code.tokens[open].at.start), Some(before.len()), "{text}");
        }
        assert_eq!(Code::new("fn a() where T: X<{ 3 }>; struct C {}").body(0), None);
    }
}
