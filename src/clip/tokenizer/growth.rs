//! Bounds how much longer a tokenizer's replacements may make a text: some hundred bytes of JSON can ask for gigabytes.

use serde_json::Value;

/// Longest text that may come of one letter, in bytes; real tokenizers make three.
const LARGEST: usize = 256;

/// Most steps before the merges, one inside the other or one after the other; real tokenizers have fewer than ten.
const MOST_STEPS: usize = 100;

/// Refuses a `tokenizer.json` whose replacements, one after the other, multiply a text, or that has too many of them.
///
/// # Errors
/// What is wrong, in a few words.
pub(super) fn check(json: &Value) -> Result<(), String> {
    let parts = ["normalizer", "pre_tokenizer"].map(|part| json.get(part).unwrap_or(&Value::Null));
    let steps: usize = parts.iter().map(|part| steps(part)).sum();
    if steps > MOST_STEPS {
        return Err(format!("it changes each text in {steps} steps"));
    }
    let grown = parts.iter().fold(1usize, |product, part| product.saturating_mul(factor(part)));
    if grown <= LARGEST { Ok(()) } else { Err(format!("its replacements make texts {grown} times as long")) }
}

/// How many steps a value holds.
fn steps(part: &Value) -> usize {
    let own = usize::from(part.get("type").is_some());
    match part {
        Value::Object(fields) => own + fields.values().map(steps).sum::<usize>(),
        Value::Array(items) => items.iter().map(steps).sum(),
        _ => 0,
    }
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
        // every byte beyond ASCII becomes a letter of two
        (Some("ByteLevel"), _) => 2,
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
        let bytes = |n| json!({ "pre_tokenizer": { "type": "Sequence", "pretokenizers": vec![json!({ "type": "ByteLevel" }); n] } });
        assert!(check(&bytes(2)).is_ok() && check(&bytes(20)).is_err());
        assert!(check(&with(vec![json!({ "type": "NFC" }); 1000])).unwrap_err().contains("steps"));
    }
}
