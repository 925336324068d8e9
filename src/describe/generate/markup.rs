//! Marks of lists, headings, emphasis and quotes around a line.

/// A line without list marks, headings, emphasis and the quotes around it.
pub(super) fn strip_markup(line: &str) -> String {
    let mut line = line.trim();
    loop {
        let bare = line.trim_start_matches(|c: char| matches!(c, '#' | '>' | '•' | '·' | '|') || is_symbol(c)).trim_start();
        let bare = ["- ", "* ", "+ ", "– ", "— ", "[ ] ", "[x] ", "[X] "]
            .iter()
            .find_map(|mark| bare.strip_prefix(mark))
            .unwrap_or(bare)
            .trim_start();
        let bare = without_number(bare);
        if bare.len() == line.len() {
            break;
        }
        line = bare;
    }
    let line = line.replace("**", "").replace("__", "").replace('`', "");
    let line = line.trim().trim_matches('*').replace(" *", " ").replace("* ", " ");
    let mut line = line.trim();
    line = unquoted(line);
    line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '=' | '_')).to_string()
}

/// Marks and pictures that stand in front of an item of a list: arrows, shapes, dingbats, emoji.
fn is_symbol(c: char) -> bool {
    matches!(c, '‣' | '⁃' | '\u{fe0f}' | '\u{2190}'..='\u{21ff}' | '\u{25a0}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{1f300}'..='\u{1faff}')
}

/// Without the quotes around all of it, or a single one that has lost its partner.
pub(super) fn unquoted(line: &str) -> &str {
    match line.matches('"').count() {
        1 => line.trim_matches('"'),
        2 => line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(line),
        _ => line,
    }
}

/// Without "1. ", "(2) ", "b) ", "ii. ", "3️⃣ " in front.
fn without_number(line: &str) -> &str {
    if let Some((number, rest)) = line.split_once("\u{fe0f}\u{20e3}")
        && number.chars().all(|c| c.is_ascii_digit())
    {
        return rest.trim_start();
    }
    if let Some((number, rest)) = line.split_once(". ")
        && ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"].contains(&number)
    {
        return rest.trim_start();
    }
    let inner = line.strip_prefix('(').unwrap_or(line);
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let letter = usize::from(inner.starts_with(|c: char| c.is_ascii_lowercase()) && inner[1..].starts_with(')'));
    let count = if (1..=3).contains(&digits) { digits } else { letter };
    let rest = inner.get(count..).unwrap_or("");
    let marks: &[char] = if digits > 0 { &['.', ')', ':'] } else { &[')'] };
    match rest.strip_prefix(marks) {
        Some(rest) if count > 0 && (rest.is_empty() || rest.starts_with(char::is_whitespace)) => rest.trim_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_numbers_in_sentences_stay() {
        for (line, bare) in [
            ("1. A boat", "A boat"),
            ("(12) A boat", "A boat"),
            ("b) A boat", "A boat"),
            ("- 3. **A boat** floats", "A boat floats"),
            ("3.5 metres long", "3.5 metres long"),
            ("747 airplanes", "747 airplanes"),
            ("a boat", "a boat"),
            ("### Heading", "Heading"),
            ("\"A boat.\"", "A boat."),
            ("\"A boat at sea\" could be a caption", "\"A boat at sea\" could be a caption"),
            ("A boat at sea\"", "A boat at sea"),
            ("*A boat* floats *well*", "A boat floats well"),
            ("1.", ""),
            ("---", ""),
            ("é) x", "é) x"),
            ("ii. x", "x"),
            ("✅ 3️⃣ x", "x"),
            ("- [x] x", "x"),
        ] {
            assert_eq!(strip_markup(line), bare, "{line}");
        }
    }
}
