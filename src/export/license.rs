//! The license of a base model, as far as its folder says it.

use std::path::Path;

/// No card's head is longer.
const MOST_LINES: usize = 200;

/// The `license` that the card (README.md) in a model's folder states, as the hub writes cards; the crate's own for `demo`; `None`
/// where nothing says it.
pub fn license_of(model: &str) -> Option<String> {
    if model == "demo" {
        return Some("MIT OR Apache-2.0".into()); // this crate's own
    }
    let card = std::fs::read_to_string(Path::new(model).join("README.md")).ok()?;
    of_card(&card)
}

/// The value of `license:` between the card's lines of dashes.
fn of_card(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines().take(MOST_LINES);
    lines.next().filter(|line| line.trim_end() == "---")?;
    let mut head = lines.take_while(|line| line.trim_end() != "---");
    let value = head.find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_card_is_read_and_nothing_below() {
        assert_eq!(of_card("---\ntags: [a]\nlicense: mit\n---\ntext").as_deref(), Some("mit"));
        assert_eq!(of_card("---\r\nlicense: \"cc-by-4.0\"\r\n---\r\n").as_deref(), Some("cc-by-4.0"));
        for card in ["license: mit", "---\n---\nlicense: mit", "---\nlicense:\n---", ""] {
            assert_eq!(of_card(card), None, "{card:?}");
        }
        assert_eq!(license_of("/no/such/folder"), None);
    }
}
