//! How wide a text will be: without fonts, from a table.

/// Advance widths of the printable ASCII characters in 1/100 em, of DejaVu Sans: the widest of the fonts that
/// `sans-serif` commonly stands for, so that what fits by this table fits everywhere.
const ASCII: [u8; 95] = [
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 54, 100,
    69, 69, 70, 77, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79, 61, 79, 70, 64, 62, 74, 69, 99, 69, 62, 69, 40, 34, 40, 84, 50, 50, 62, 64,
    55, 64, 62, 36, 64, 64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
];

/// The width of `text` in pixels at `size` pixels, rarely less than what a browser draws.
///
/// ```
/// use lafter::plot::text_width;
/// assert!(text_width("wide", 12.0) > text_width("ill", 12.0));
/// ```
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size / 100.0
}

/// Bold letters are up to a fifth wider, digits and lower case on average an eighth.
pub(super) fn bold_width(text: &str, size: f64) -> f64 {
    1.15 * text_width(text, size)
}

fn advance(c: char) -> f64 {
    let code = u32::from(c);
    match code {
        0x20..=0x7e => ASCII.get(code as usize - 0x20).map_or(64.0, |&width| f64::from(width)),
        // Combining marks take no room of their own.
        0x300..=0x36f => 0.0,
        // Latin letters with accents, Greek.
        0xa0..=0x3ff => 72.0,
        // Cyrillic, Hebrew, Arabic and what lies between: as wide as the widest letters that occur often.
        0x400..=0x10ff => 80.0,
        // East Asian scripts, symbols and emoji fill their square or a little more.
        _ => 104.0,
    }
}

/// Breaks `text` at spaces (or inside a word that alone is too wide) into lines of at most `width` pixels.
pub(super) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let fits = |line: &str| text_width(line, size) <= width;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if fits(&longer) {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if !fits(&line) && line.chars().count() > 1 {
                line.pop();
                lines.push(std::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    lines.push(line);
    lines
}

/// Breaks `text` into at most `most` lines that are as short as can be: for labels whose number of lines is limited but
/// whose margin can grow.
pub(super) fn wrap_into(text: &str, size: f64, wanted: f64, most: usize) -> Vec<String> {
    let mut width = wanted;
    loop {
        let lines = wrap(text, size, width);
        if lines.len() <= most.max(1) {
            return lines;
        }
        width *= 1.15;
    }
}

/// The width of the widest line.
pub(super) fn widest<S: AsRef<str>>(lines: &[S], size: f64) -> f64 {
    lines.iter().map(|line| text_width(line.as_ref(), size)).fold(0.0, f64::max)
}

/// A number as an axis shows it: as many decimals as ticks `step` apart need, no trailing zeros.
pub(super) fn number(value: f64, step: f64) -> String {
    let text = fixed(value, step);
    let text = if text.contains('.') && !text.contains('e') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// A number as a table shows it: with all decimals that `step` needs.
pub(super) fn fixed(value: f64, step: f64) -> String {
    if value != 0.0 && (value.abs() >= 1e6 || step < 1e-5) {
        return format!("{value:.2e}");
    }
    let decimals = if step > 0.0 && step.is_finite() { (1.0 - step.log10()).ceil().clamp(0.0, 7.0) as usize } else { 2 };
    let text = format!("{value:.decimals$}");
    if text.starts_with('-') && !text.contains(|digit: char| ('1'..='9').contains(&digit)) { text[1..].into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_nothing() {
        for text in ["a photo of a very long class name indeed", "Donaudampfschifffahrtsgesellschaftskapitän", "短い 名前", "", "   "]
        {
            let lines = wrap(text, 11.0, 80.0);
            assert!(widest(&lines, 11.0) <= 80.0, "{lines:?}");
            let joined: String = lines.concat().split_whitespace().collect();
            assert_eq!(joined, text.split_whitespace().collect::<String>());
            assert!(wrap_into(text, 11.0, 30.0, 2).len() <= 2);
        }
    }

    #[test]
    fn a_width_of_nothing_still_ends() {
        assert_eq!(wrap("abc", 11.0, 0.0), ["a", "b", "c"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.30000000000000004, 0.1), "0.3");
        assert_eq!(number(-0.0, 1.0), "0");
        assert_eq!(number(100.0, 20.0), "100");
        assert_eq!(number(2.5e7, 1e6), "2.50e7");
        assert_eq!(number(1e-7, 1e-8), "1.00e-7");
        assert_eq!((number(12.5, 2.5), fixed(12.5, 0.1)), ("12.5".into(), "12.50".into()));
    }
}
