//! The license of a base model, as far as its folder says it.

use std::path::Path;

use serde_json::Value;

use crate::data::front_matter;

/// The `license` that the card (README.md) in a model's folder states, as the hub writes cards, `model` being the folder or a file with
/// weights in it; the crate's own for `demo`; `None` where nothing says it.
pub fn license_of(model: &str) -> Option<String> {
    if model == "demo" {
        return Some("MIT OR Apache-2.0".into()); // this crate's own
    }
    let path = Path::new(model);
    let folder = if path.is_file() { path.parent()? } else { path };
    let card = std::fs::read_to_string(folder.join("README.md")).ok()?;
    of_card(&card)
}

/// The value of `license:` between the card's lines of dashes.
fn of_card(card: &str) -> Option<String> {
    let value = match front_matter(card)?.get("license")? {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        one => one.as_str()?.trim().to_string(),
    };
    (!value.is_empty()).then_some(value)
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
        for (value, read) in [("mit # really", "mit"), ("'a #1' # or so", "a #1"), ("c#", "c#"), ("[mit, apache-2.0]", "mit, apache-2.0")] {
            assert_eq!(of_card(&format!("---\nlicense: {value}\n---\n")).as_deref(), Some(read));
        }
        assert_eq!(license_of("/no/such/folder"), None);
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for file in ["README.md", "clip.safetensors"] {
            std::fs::write(at(file), "---\nlicense: mit\n---\n").unwrap();
        }
        let of = |path: &Path| license_of(&path.display().to_string());
        assert_eq!((of(folder.path()), of(&at("clip.safetensors"))), (Some("mit".into()), Some("mit".into())));
    }
}
