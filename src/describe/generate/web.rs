//! What web pages and models that search leave in a text: entities and marks of citations.

/// What web pages write for characters.
const ENTITIES: [(&str, &str); 5] = [("&nbsp;", " "), ("&quot;", "\""), ("&apos;", "'"), ("&rsquo;", "'"), ("&amp;", "&")];

/// The text with its entities as characters, and without `[1]` and `【4†source】`.
pub(super) fn without_web(text: &str) -> String {
    if !text.contains(['&', '[', '【']) {
        return text.to_string();
    }
    let named = ENTITIES.iter().fold(text.to_string(), |text, (entity, plain)| text.replace(entity, plain));
    let plain = replaced(&named, "&#", ';', |inner| {
        let hex = inner.strip_prefix(['x', 'X']);
        let code = hex.map_or_else(|| inner.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok())?;
        char::from_u32(code).map(String::from)
    });
    let number = |inner: &str| (inner.len() <= 3 && !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit())).then(String::new);
    let cited = replaced(&plain, "[", ']', number);
    replaced(&cited, "【", '】', |_| Some(String::new()))
}

/// The text with each `open…close` replaced by what `by` makes of its inside; `None` leaves it.
fn replaced(text: &str, open: &str, close: char, by: impl Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once(open) {
        out.push_str(before);
        // a mark is short; what is longer is prose
        let inside = behind.split_once(close).filter(|(inner, _)| inner.len() <= 40);
        match inside.and_then(|(inner, after)| Some((by(inner)?, after))) {
            Some((made, after)) => {
                out.push_str(&made);
                rest = after;
            }
            None => {
                out.push_str(open);
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::without_web;

    #[test]
    fn entities_become_characters_and_citations_go() {
        for (text, plain) in [
            ("A cat&#39;s tail &amp; &#x65;ars.", "A cat's tail & ears."),
            ("It has a long tail.[1][12]", "It has a long tail."),
            ("It has a long tail【4†source】.", "It has a long tail."),
            ("A [Latin] name, 3 & 4, &#; [1234], [open", "A [Latin] name, 3 & 4, &#; [1234], [open"),
        ] {
            assert_eq!(without_web(text), plain, "{text}");
        }
    }
}
