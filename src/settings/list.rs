//! The list of all settings: path, default, what it means. Paths and defaults come from the structs as they are serialized,
//! the meaning from the doc comments of their fields, which are read out of the source.

use serde::Serialize;
use serde_json::Value;

use super::LafterConfig;
use crate::eval::as_written;
use crate::tune::{RefineKind, TermKind};

/// One field of the settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Where it stands: `tune.strong.blur_p`.
    pub path: String,
    /// Its value, as JSON.
    pub default: Value,
    /// What it means, in a sentence or two.
    pub meaning: String,
}

/// A struct of settings.
pub(super) struct Group {
    /// Where it stands; empty for the outermost.
    pub path: &'static str,
    /// Its name, and the source that documents its fields.
    name: &'static str,
    source: &'static str,
}

pub(super) const GROUPS: [Group; 4] = [
    Group { path: "", name: "LafterConfig", source: include_str!("mod.rs") },
    Group { path: "text", name: "TextClassifierConfig", source: include_str!("../classify/text_config.rs") },
    Group { path: "tune", name: "FinetuneConfig", source: include_str!("../tune/config.rs") },
    Group { path: "tune.strong", name: "StrongConfig", source: include_str!("../tune/strong.rs") },
];

/// Every setting with its value in `config`, in the order of the structs.
///
/// ```
/// use lafter::{LafterConfig, settings};
/// let all = settings::list(&LafterConfig::default());
/// let blur = all.iter().find(|setting| setting.path == "tune.strong.blur_p").unwrap();
/// assert_eq!((blur.default.to_string(), blur.meaning.contains("blurred")), ("1.0".into(), true));
/// ```
pub fn list(config: &LafterConfig) -> Vec<Setting> {
    let whole = as_written(config);
    let value = |path: &str| path.split('.').try_fold(&whole, |at, part| at.get(part)).cloned().unwrap_or_default();
    fields().map(|(path, doc)| Setting { default: value(&path), meaning: meaning(&doc), path }).collect()
}

/// The whole path of every setting.
pub(super) fn paths() -> impl Iterator<Item = String> {
    fields().map(|(path, _)| path)
}

/// Path and doc comment of every field that is not a group itself.
fn fields() -> impl Iterator<Item = (String, String)> {
    GROUPS
        .iter()
        .flat_map(|group| {
            let path = |name: String| if group.path.is_empty() { name } else { format!("{}.{name}", group.path) };
            documented(group).into_iter().map(move |(name, doc)| (path(name), doc))
        })
        .filter(|(path, _)| GROUPS.iter().all(|group| group.path != path))
}

/// Name and doc comment of each field of a struct, from its source.
fn documented(group: &Group) -> Vec<(String, String)> {
    let start = format!("pub struct {} {{\n", group.name);
    let body = group.source.split_once(&start).and_then(|(_, rest)| rest.split_once("\n}")).map_or("", |(body, _)| body);
    let (mut fields, mut doc) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':')) {
            fields.push((name.to_string(), doc.join(" ")));
            doc.clear();
        }
    }
    fields
}

/// A doc comment as plain text, without the clause on the default, which has a column of its own.
fn meaning(doc: &str) -> String {
    let mut text = doc.replace("`None`", "null").replace('`', "");
    for (kind, names) in [("[RefineKind]", RefineKind::names()), ("[TermKind]", TermKind::names())] {
        text = text.replace(&format!("each a {kind}"), &names.join(", "));
    }
    // [links](of rustdoc)
    while let Some((open, rest)) = text.split_once('[').filter(|(_, rest)| rest.contains("](")) {
        let Some((shown, after)) = rest.split_once("](") else { break };
        let after = after.split_once(')').map_or("", |(_, after)| after);
        text = format!("{open}{shown}{after}");
    }
    for lead in ["; default ", ", default ", " Default "] {
        let Some((before, rest)) = text.split_once(lead) else { continue };
        let end = [rest.find("; "), rest.find(". ")].into_iter().flatten().min();
        text = format!("{}{}", before.trim_end_matches('.'), end.map_or(".", |end| &rest[end..]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value.as_object().filter(|_| GROUPS.iter().any(|group| group.path == path)) {
            Some(fields) => fields.iter().for_each(|(name, value)| {
                leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, found);
            }),
            None => found.push(path.to_string()),
        }
    }

    #[test]
    fn the_list_is_what_is_serialized_and_each_has_a_meaning() {
        for preset in [Preset::Official, Preset::Paper, Preset::Demo] {
            let config = LafterConfig::new(preset);
            let mut saved = Vec::new();
            leaves("", &as_written(&config), &mut saved);
            let all = list(&config);
            let mut listed: Vec<String> = all.iter().map(|setting| setting.path.clone()).collect();
            saved.sort();
            listed.sort();
            assert_eq!(saved, listed);
            for Setting { path, default, meaning } in &all {
                // of a choice it says what there is to choose from
                assert!(default.as_str().is_none_or(|word| meaning.contains(word)), "{path}: {meaning}");
                assert!(meaning.len() > 10 && meaning.ends_with('.') && !meaning.contains(['[', '`']), "{path}: {meaning}");
                assert!(!meaning.contains("efault "), "{path}: {meaning}");
            }
        }
    }

    #[test]
    fn each_can_be_set_to_what_it_is() {
        let config = LafterConfig::new(Preset::Demo);
        for Setting { path, default, .. } in list(&config).iter().filter(|setting| setting.path != "preset") {
            let mut same = config.clone();
            same.set(path, &default.to_string()).unwrap();
            assert_eq!(same, config, "{path}");
        }
    }

    #[test]
    fn docs_read_as_plain_text() {
        for (doc, text) in [
            ("Passes over the texts, up to 10; default 400.", "Passes over the texts, up to 10."),
            ("λ, the weight decay. Default 0.01.", "λ, the weight decay."),
            ("Epochs between two, default 1; 0 leaves out all.", "Epochs between two; 0 leaves out all."),
            ("As in [`official`](Self::official) if `None`; default (0.2, 1).", "As in official if null."),
        ] {
            assert_eq!(meaning(doc), text);
        }
    }
}
