//! Bounds how much longer a tokenizer's replacements may make a text: some hundred bytes of JSON can ask for gigabytes.

use serde_json::Value;

/// Longest text that may come of one letter, in bytes; real tokenizers make three.
const LARGEST: usize = 256;

/// Refuses a `tokenizer.json` whose replacements, one after the other, multiply a text.
///
/// # Errors
/// What is wrong, in a few words.
pub(super) fn check(json: &Value) -> Result<(), String> {
    let parts = ["normalizer", "pre_tokenizer"].map(|part| json.get(part).map_or(1, factor));
    let grown = parts.iter().fold(1usize, |product, factor| product.saturating_mul(*factor));
    if grown <= LARGEST { Ok(()) } else { Err(format!("its replacements make texts {grown} times as long")) }
}

/// The product of all replacements below a value.
fn factor(part: &Value) -> usize {
    let below: Box<dyn Iterator<Item = &Value>> = match part {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(items) => Box::new(items.iter()),
        _ => return 1,
    };
    let own = match (part.get("type").and_then(Value::as_str), part.get("content").and_then(Value::as_str)) {
        // at the worst every byte is replaced
        (Some("Replace"), Some(content)) => content.len().max(1),
        _ => 1,
    };
    below.map(factor).fold(own, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replacements_multiply() {
        let replace = |content: &str| json!({ "type": "Replace", "pattern": { "Regex": "." }, "content": content });
        let with = |normalizers: Vec<Value>| json!({ "normalizer": { "type": "Sequence", "normalizers": normalizers } });
        check(&with(vec![json!({ "type": "NFC" }), replace(" "), replace("\u{2581}")])).unwrap();
        assert!(check(&with(vec![replace("aaaa"); 4])).is_ok());
        assert!(check(&with(vec![replace("aaaaa"); 4])).unwrap_err().contains("625 times"));
        assert!(check(&with(vec![replace(&"a".repeat(60_000)); 4])).is_err());
    }
}
