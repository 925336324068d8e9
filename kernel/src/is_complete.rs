//! Whether a console should run the cell or ask for another line.

use jupyter_protocol::{IsCompleteReply, IsCompleteReplyStatus};

pub fn reply(code: &str) -> IsCompleteReply {
    match depth(code) {
        Some(0) => IsCompleteReply { status: IsCompleteReplyStatus::Complete, indent: String::new() },
        Some(depth) => IsCompleteReply { status: IsCompleteReplyStatus::Incomplete, indent: "    ".repeat(depth.min(8)) },
        None => IsCompleteReply { status: IsCompleteReplyStatus::Invalid, indent: String::new() },
    }
}

/// Brackets left open (an open string or comment counts as one); `None` if one closes that was never opened.
fn depth(code: &str) -> Option<usize> {
    if code.starts_with(['%', '!', ':']) {
        return Some(0);
    }
    let text: Vec<char> = code.chars().collect();
    let (mut open, mut i) = (Vec::new(), 0);
    while i < text.len() {
        let rest = &text[i..];
        let skip = match rest {
            ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
            ['/', '*', ..] => comment(rest),
            ['r', '"', ..] | ['r', '#', ..] if i == 0 || !text[i - 1].is_alphanumeric() => raw_string(rest),
            ['"', ..] => string(rest),
            // 'a' and '\n' are characters, 'a alone is a lifetime
            ['\'', '\\', _, ..] => rest.iter().skip(3).position(|c| *c == '\'').map(|at| at + 4),
            ['\'', _, '\'', ..] => Some(3),
            [bracket, ..] => {
                match bracket {
                    '(' => open.push(')'),
                    '[' => open.push(']'),
                    '{' => open.push('}'),
                    ')' | ']' | '}' if open.pop() != Some(*bracket) => return None,
                    _ => {}
                }
                Some(1)
            }
            [] => None,
        };
        match skip {
            Some(n) => i += n,
            None => return Some(open.len().max(1)),
        }
    }
    Some(open.len())
}

fn string(text: &[char]) -> Option<usize> {
    let mut i = 1;
    while i < text.len() {
        match text[i] {
            '\\' => i += 2,
            '"' => return Some(i + 1),
            _ => i += 1,
        }
    }
    None
}

fn raw_string(text: &[char]) -> Option<usize> {
    let hashes = text[1..].iter().take_while(|c| **c == '#').count();
    if text.get(1 + hashes) != Some(&'"') {
        return Some(1); // r#name
    }
    let closes = |at: &usize| text[*at] == '"' && text[at + 1..].iter().take_while(|c| **c == '#').take(hashes).count() == hashes;
    (2 + hashes..text.len()).find(closes).map(|at| at + 1 + hashes)
}

fn comment(text: &[char]) -> Option<usize> {
    let (mut depth, mut i) = (0, 0);
    while i + 1 < text.len() {
        match (text[i], text[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete() {
        for code in [
            "let a = 1;",
            "f('{', \"(\", r#\"[\"# )",
            "// {",
            "/* { /* ( */ */ 1",
            "fn f<'a>(x: &'a str) -> &'a str { x }",
            "'\\''",
            "%%time",
            "r#fn",
            "",
        ] {
            assert_eq!(depth(code), Some(0), "{code}");
        }
    }

    #[test]
    fn incomplete_or_invalid() {
        for (code, open) in [("fn f() {", 1), ("f(g(", 2), ("\"abc", 1), ("/* a", 1), ("r#\"a\"", 1), ("let v = vec![{", 2)] {
            assert_eq!(depth(code), Some(open), "{code}");
        }
        assert_eq!(depth("f)"), None);
        assert_eq!(depth("f(]"), None);
    }
}
