//! What OpenAI, open_clip and LaFTer's code do to a text before the vocabulary sees it (`ftfy.fix_text`, `html.unescape` twice).

/// HTML's entities with names that texts hold; the blank that does not break is a blank to every tokenizer.
const NAMES: [(&str, char); 6] = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", ' ')];

/// Entities as characters, also those escaped twice (`&amp;#39;`), and curly quotes, ligatures (ff to st), full-width ASCII and the
/// ideographic space in their plain forms. Other names of HTML, other ligatures, half-width letters, control characters and garbled
/// encodings (mojibake) stay as they are.
pub(super) fn clean(text: &str) -> String {
    let text = unescape(&unescape(text));
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => plain.push('\''),
            '\u{201c}'..='\u{201f}' => plain.push('"'),
            '\u{3000}' => plain.push(' '),
            '\u{ff01}'..='\u{ff5e}' => plain.extend(char::from_u32(u32::from(letter) - 0xfee0)),
            '\u{fb00}' => plain.push_str("ff"),
            '\u{fb01}' => plain.push_str("fi"),
            '\u{fb02}' => plain.push_str("fl"),
            '\u{fb03}' => plain.push_str("ffi"),
            '\u{fb04}' => plain.push_str("ffl"),
            '\u{fb05}' => plain.push_str("ſt"),
            '\u{fb06}' => plain.push_str("st"),
            other => plain.push(other),
        }
    }
    plain
}

fn unescape(text: &str) -> String {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (letter, rest) = entity(part).unwrap_or(('&', part));
        plain.push(letter);
        plain.push_str(rest);
    }
    plain
}

/// The character of the entity whose `&` stands before `text`, and what follows it. As in HTML, its semicolon may be missing.
fn entity(text: &str) -> Option<(char, &str)> {
    let (letter, rest) = match text.strip_prefix('#') {
        Some(number) => {
            let (digits, radix) = number.strip_prefix(['x', 'X']).map_or((number, 10), |hex| (hex, 16));
            let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
            let (digits, rest) = digits.split_at(end);
            let letter = char::from_u32(u32::from_str_radix(digits, radix).ok()?);
            (letter.filter(|letter| !letter.is_control() || letter.is_whitespace())?, rest)
        }
        None => NAMES.iter().find_map(|(name, letter)| Some((*letter, text.strip_prefix(name)?)))?,
    };
    Some((letter, rest.strip_prefix(';').unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `html.unescape(html.unescape(ftfy.fix_text(text)))` of ftfy 6.3.1 gives, up to the kind of blank.
    #[test]
    fn texts_are_cleaned_as_ftfy_and_html_do() {
        for (given, expected) in [
            ("\u{2018}it\u{2019}s\u{2019} \u{201c}a\u{201d}", "'it's' \"a\""),
            ("it\u{2bc}s \u{201a}a\u{201b} \u{201e}b\u{201f}", "it's 'a' \"b\""),
            ("cats &amp; dogs &lt;3 &gt;&nbsp;&quot;c&quot; it&apos;s", "cats & dogs <3 > \"c\" it's"),
            ("it&#39;s &#x201C;x&#8221; &amp;#39;y&amp;quot; &amp &#39", "it's \"x\" 'y\" & '"),
            ("\u{fb02}u\u{fb03}e\u{fb06} \u{fb00}\u{fb01}\u{fb04}\u{fb05}", "fluffiest fffifflſt"),
            ("ＬＯＵＤ\u{3000}ｎｏｉｓｅｓ！", "LOUD noises!"),
            ("R&D; A&T & &; &# &#; &#x; &unknown; 北京 café", "R&D; A&T & &; &# &#; &#x; &unknown; 北京 café"),
        ] {
            assert_eq!(clean(given), expected);
        }
        assert_eq!(clean("&#99999999999; &#xd800; &#7;"), "&#99999999999; &#xd800; &#7;"); // no characters of a text
    }
}
