//! Class names in JSON.

use std::collections::HashSet;

use serde_json::Value;

use super::Pair;
use super::lines::{first_of, in_order};
use crate::describe::spoken::{digits, split_wordnet_id};

/// The pairs that JSON holds and, if that is not plain, how they were understood; `None` for another form.
pub(super) fn pairs_of(value: &Value) -> Option<(Vec<Pair>, Option<&'static str>)> {
    const INNER: [&str; 8] = ["id2label", "names", "classes", "class_names", "categories", "labels", "class_to_idx", "label2id"];
    let holds_list = |value: &&Value| value.is_array() || value.is_object();
    match value {
        Value::Array(entries) => {
            let plain = entries.iter().all(Value::is_string);
            let pairs: Option<Vec<Pair>> = entries.iter().map(pair_of).collect();
            Some((pairs?, (!plain).then_some("an id and a name")))
        }
        Value::Object(map) => {
            if let Some(inner) = INNER.iter().filter_map(|key| map.get(*key)).find(holds_list) {
                return pairs_of(inner);
            }
            if let Some(numbers) = map.values().map(|value| Some(value.as_u64()? as usize)).collect::<Option<Vec<usize>>>() {
                let different = numbers.iter().collect::<HashSet<_>>().len() == numbers.len();
                let pairs = numbers.into_iter().zip(map.keys()).map(|(number, name)| (number, (name.clone(), name.clone())));
                return different.then(|| (in_order(pairs.collect()), Some("a name and its number, in the order of the numbers")));
            }
            let mut pairs = Vec::new();
            for (key, value) in map {
                let pair = match value {
                    Value::String(name) if split_wordnet_id(key).is_some() => (key.clone(), first_of(name)),
                    Value::String(name) => (key.clone(), name.clone()),
                    Value::Array(names) => match (names.first()?.as_str()?, names.get(1).and_then(Value::as_str)) {
                        (id, Some(name)) if split_wordnet_id(id).is_some() => (id.to_string(), name.to_string()),
                        // a list of sentences under a class name is a file of descriptions
                        (name, _) if split_wordnet_id(key).is_some() || digits(key) == key.len() => (key.clone(), name.to_string()),
                        _ => return None,
                    },
                    Value::Object(_) if split_wordnet_id(key).is_some() || digits(key) == key.len() => (key.clone(), pair_of(value)?.1),
                    _ => return None,
                };
                pairs.push((key.parse::<usize>(), pair));
            }
            if pairs.iter().all(|(number, _)| number.is_ok()) {
                pairs.sort_by_key(|(number, _)| number.clone().unwrap_or(0));
                return Some((pairs.into_iter().map(|(_, pair)| pair).collect(), Some("a number and a name, in the order of the numbers")));
            }
            Some((pairs.into_iter().map(|(_, pair)| pair).collect(), Some("an id and a name")))
        }
        _ => None,
    }
}

/// `"cat"`, `["n02000003", "cat"]`, `{"id": 3, "name": "cat"}`.
fn pair_of(entry: &Value) -> Option<Pair> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match entry {
        Value::String(name) => Some((name.clone(), name.clone())),
        Value::Array(parts) => match parts.as_slice() {
            [key, name] => Some((text(key)?, text(name)?)),
            _ => None,
        },
        Value::Object(map) => {
            let name = ["name", "class_name", "label", "class"].iter().find_map(|key| map.get(*key)?.as_str())?;
            let key = ["wnid", "synset", "id"].iter().find_map(|key| text(map.get(*key)?));
            Some((key.unwrap_or_else(|| name.to_string()), name.to_string()))
        }
        _ => None,
    }
}
