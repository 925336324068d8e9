//! [`Card`]: the class names that a data set's README.md, or its `dataset_infos.json`, tells.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::yaml;

/// A card larger than this is none.
const MOST_BYTES: u64 = 8 << 20;

/// Names of the hub's class labels, by configuration.
pub(crate) struct Card {
    path: PathBuf,
    configurations: Vec<Configuration>,
}

/// The name of a configuration, and its columns that have class names.
type Configuration = (Option<String>, Vec<Column>);

/// The name of a column, and the names of its classes.
type Column = (String, Vec<String>);

impl Card {
    /// The card of a Parquet file: in its folder or one of the two above (`data/`, `configuration/train/`).
    pub(crate) fn near(file: &Path) -> Option<Self> {
        file.ancestors().skip(1).take(3).find_map(|folder| {
            let read = |name: &str, parse: fn(&str) -> Option<Value>| {
                let path = folder.join(name);
                let text = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= MOST_BYTES).then(|| std::fs::read_to_string(&path).ok());
                let configurations = configurations(&parse(&text.flatten()?)?);
                (!configurations.is_empty()).then_some(Self { path, configurations })
            };
            let json = |text: &str| serde_json::from_str(text).ok();
            read("README.md", |text| front_matter(text)?.get("dataset_info").cloned())
                .or_else(|| read("dataset_infos.json", json))
                .or_else(|| read("dataset_info.json", json))
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The class names of a column. Where configurations differ in them, the one counts that the file's path names.
    pub(crate) fn names(&self, column: &str, file: &Path) -> Option<Vec<String>> {
        let of = |columns: &[Column]| columns.iter().find(|(name, _)| name == column).map(|(_, names)| names.clone());
        let found: Vec<(&Option<String>, Vec<String>)> =
            self.configurations.iter().filter_map(|(name, columns)| Some((name, of(columns)?))).collect();
        let (_, first) = found.first()?;
        if found.iter().all(|(_, names)| names == first) {
            return Some(first.clone());
        }
        let in_path = |name: &str| file.components().any(|part| part.as_os_str() == name);
        found.iter().find(|(name, _)| name.as_deref().is_some_and(in_path)).map(|(_, names)| names.clone())
    }
}

/// The YAML between the card's two lines of dashes.
pub(crate) fn front_matter(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let end = text.find("\n---").unwrap_or(text.len());
    Some(yaml::parse(text.get(..end)?))
}

/// One configuration, a list of them, or a map by name (`dataset_infos.json`).
fn configurations(info: &Value) -> Vec<Configuration> {
    let name = |info: &Value| info.get("config_name").and_then(Value::as_str).map(str::to_string);
    let one = |name: Option<String>, info: &Value| (name, info.get("features").map(columns).unwrap_or_default());
    let all = match info {
        Value::Array(list) => list.iter().map(|info| one(name(info), info)).collect(),
        Value::Object(map) if !map.contains_key("features") => map.iter().map(|(name, info)| one(Some(name.clone()), info)).collect(),
        info => vec![one(name(info), info)],
    };
    all.into_iter().filter(|(_, columns)| !columns.is_empty()).collect()
}

/// The class names of every column that has some, in the forms of the card (a list) and of `dataset_infos.json` (a map).
fn columns(features: &Value) -> Vec<Column> {
    let names = |feature: &Value| {
        let label = feature.pointer("/dtype/class_label").unwrap_or(feature);
        list(label.get("names")?)
    };
    match features {
        Value::Array(all) => all.iter().filter_map(|one| Some((one.get("name")?.as_str()?.to_string(), names(one)?))).collect(),
        Value::Object(all) => all.iter().filter_map(|(name, one)| Some((name.clone(), names(one)?))).collect(),
        _ => Vec::new(),
    }
}

/// Names as a list, or as a map from the numbers 0, 1, …
fn list(names: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let by_number = |map: &Map<String, Value>| (0..map.len()).map(|i| map.get(&i.to_string()).and_then(text)).collect::<Option<Vec<_>>>();
    let names = match names {
        Value::Array(all) => all.iter().map(text).collect::<Option<Vec<_>>>()?,
        Value::Object(map) => by_number(map)?,
        _ => return None,
    };
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data/fine")).unwrap();
        std::fs::write(folder.path().join("README.md"), text).unwrap();
        folder
    }

    const ONE: &str = "---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': polar bear\n          '1': 'no'\n          '2': it's\n  splits:\n  - name: test\n    num_examples: 60\n---\n# A set\n";

    #[test]
    fn names_of_one_configuration() {
        let folder = card(ONE);
        let file = folder.path().join("data/test.parquet");
        let card = Card::near(&file).unwrap();
        assert_eq!(card.names("label", &file).unwrap(), ["polar bear", "no", "it's"]);
        assert!(card.names("image", &file).is_none() && card.path().ends_with("README.md"));
        assert!(Card::near(Path::new("/nowhere/at/all/x.parquet")).is_none());
    }

    #[test]
    fn configurations_are_told_apart_by_the_path() {
        let info = |name: &str, first: &str| {
            format!(
                "- config_name: {name}\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: [{first}, \"b\"]\n"
            )
        };
        let folder = card(&format!("---\ndataset_info:\n{}{}---\n", info("coarse", "a"), info("fine", "'x, y'")));
        let card = Card::near(&folder.path().join("data/fine/x.parquet")).unwrap();
        assert_eq!(card.names("label", &folder.path().join("data/fine/x.parquet")).unwrap(), ["x, y", "b"]);
        assert!(card.names("label", &folder.path().join("data/x.parquet")).is_none(), "not plain which");
    }

    #[test]
    fn json_infos_and_what_is_no_card() {
        let folder = card("no front matter");
        assert!(Card::near(&folder.path().join("x.parquet")).is_none());
        let json = r#"{"default": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}"#;
        std::fs::write(folder.path().join("dataset_infos.json"), json).unwrap();
        let file = folder.path().join("x.parquet");
        assert_eq!(Card::near(&file).unwrap().names("label", &file).unwrap(), ["a", "b"]);
    }
}
