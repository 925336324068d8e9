//! The files of a data set's configurations and splits, as `configs` in its card (README.md) names them: the rules of the hub's `datasets`.

use serde_json::Value;

use crate::data::card::front_matter;

/// One entry of `configs`.
pub(crate) struct CardConfig {
    pub(crate) name: String,
    /// Whether it is taken where none is named.
    default: bool,
    /// The folder that its patterns begin in, with a slash at its end; empty for the root.
    pub(crate) folder: String,
    /// The patterns of each split; `None` where the files' names tell the splits.
    splits: Option<Vec<(String, Vec<String>)>>,
}

impl CardConfig {
    /// The configurations that a card names; none of a card that names none.
    pub(crate) fn all(card: &str) -> Vec<Self> {
        let matter = front_matter(card).unwrap_or_default();
        matter.get("configs").and_then(Value::as_array).into_iter().flatten().map(Self::of).collect()
    }

    fn of(entry: &Value) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let name = text("config_name").unwrap_or(DEFAULT).to_string();
        let folder = text("data_dir").unwrap_or_default().trim_start_matches("./").trim_matches('/');
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let splits = entry.get("data_files").map(splits).filter(|splits| !splits.is_empty());
        Self { default: name == DEFAULT || text("default") == Some("true"), name, folder, splits }
    }

    /// The configuration that is taken where none is named: the only one, or the default.
    pub(crate) fn unnamed(all: &[Self]) -> Option<&Self> {
        match all {
            [only] => Some(only),
            all => all.iter().find(|config| config.default),
        }
    }

    /// The names of its splits and, of each, the positions of its files in a list of names, for the data set `id`; `None` where the names
    /// tell the splits.
    pub(crate) fn files(&self, names: &[String], id: &str) -> Option<Vec<(&str, Vec<usize>)>> {
        let whole = |pattern: &String| match pattern.strip_prefix(&format!("hf://datasets/{id}")) {
            Some(rest) => rest.trim_start_matches(|c| c != '/').trim_start_matches('/').to_string(), // behind `@revision`
            None => format!("{}{}", self.folder, pattern.trim_start_matches("./")),
        };
        let is_of = |name: &str, patterns: &[String]| patterns.iter().any(|pattern| matches(whole(pattern).as_bytes(), name.as_bytes()));
        let of = |patterns: &[String]| (0..names.len()).filter(|i| is_of(&names[*i], patterns)).collect();
        Some(self.splits.as_ref()?.iter().map(|(split, patterns)| (split.as_str(), of(patterns))).collect())
    }
}

/// The configuration that needs no name.
const DEFAULT: &str = "default";

/// The patterns of each split. Patterns without a split are of training pictures.
fn splits(data_files: &Value) -> Vec<(String, Vec<String>)> {
    let texts = |value: &Value| match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        value => value.as_str().map(str::to_string).into_iter().collect::<Vec<_>>(),
    };
    let entry = |entry: &Value| Some((entry.get("split")?.as_str()?.to_string(), texts(entry.get("path")?)));
    let named: Vec<_> = data_files.as_array().into_iter().flatten().filter_map(entry).collect();
    let unnamed = texts(data_files);
    if named.is_empty() && !unnamed.is_empty() { vec![("train".into(), unnamed)] } else { named }
}

/// Whether a path fits a pattern: `*` is any part of a name, `**` any part of a path, `?` one letter, `[a-c]` one of some.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    // fits[i][j]: the pattern from i on fits the path from j on
    let mut fits = vec![vec![false; path.len() + 1]; pattern.len() + 1];
    fits[pattern.len()][path.len()] = true;
    for i in (0..pattern.len()).rev() {
        for j in (0..=path.len()).rev() {
            let next = path.get(j).copied();
            let inside = next.is_some_and(|letter| letter != b'/');
            fits[i][j] = match &pattern[i..] {
                [b'*', b'*', b'/', ..] => fits[i + 3][j] || (j..path.len()).any(|k| path[k] == b'/' && fits[i + 3][k + 1]),
                [b'*', b'*', ..] => fits[i + 2][j] || next.is_some() && fits[i][j + 1],
                [b'*', ..] => fits[i + 1][j] || inside && fits[i][j + 1],
                [b'?', ..] => inside && fits[i + 1][j + 1],
                [b'[', rest @ ..] if rest.iter().skip(1).any(|letter| *letter == b']') => {
                    let end = 1 + rest.iter().skip(1).position(|letter| *letter == b']').unwrap_or_default();
                    inside && next.is_some_and(|letter| one_of(&rest[..end], letter)) && fits[i + 1 + end + 1][j + 1]
                }
                [letter, ..] => next == Some(*letter) && fits[i + 1][j + 1],
                [] => false,
            };
        }
    }
    fits[0][0]
}

/// Whether a letter is one of `a-cx`, or none of `!a-cx`.
fn one_of(set: &[u8], letter: u8) -> bool {
    let (set, none) = set.strip_prefix(b"!").or(set.strip_prefix(b"^")).map_or((set, false), |set| (set, true));
    let in_range = set.windows(3).any(|range| range[1] == b'-' && (range[0]..=range[2]).contains(&letter));
    (in_range || set.contains(&letter)) != none
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_the_hub_means_them() {
        for (pattern, path, fit) in [
            ("data/train-*", "data/train-00000-of-00001.parquet", true),
            ("data/*.parquet", "data/a/b.parquet", false),
            ("data/**", "data/a/b.parquet", true),
            ("**/test/*", "a/b/test/0.parquet", true),
            ("**/test-*", "test-0.parquet", true),
            ("**/test-*", "mytest-0.parquet", false),
            ("part-[0-3]?.parquet", "part-21.parquet", true),
            ("part-[!0-3]*.parquet", "part-21.parquet", false),
            ("a[b", "a[b", true),
            ("a]", "a]", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), path.as_bytes()), fit, "{pattern} {path}");
        }
        let (many, long) = ("*a".repeat(40) + "b", "a".repeat(200));
        assert!(!matches(many.as_bytes(), long.as_bytes()), "and at once");
    }

    #[test]
    fn a_card_names_configurations_splits_and_their_files() {
        let card = "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: data/part1*\n  - split: test\n    path:\n    - data/part2*\n    - \"data/part3*\"\n- config_name: big\n  default: true\n  data_dir: ./big/\n- config_name: list\n  data_files: ['x/*.parquet', 'hf://datasets/o/n@v1/data/part1.*'] # two\n---\n# A set";
        let names = ["data/part1.parquet", "data/part2.parquet", "data/part3.parquet", "x/0.parquet"].map(String::from);
        let all = CardConfig::all(card);
        assert_eq!(all[0].files(&names, "o/n").unwrap(), [("train", vec![0]), ("test", vec![1, 2])]);
        assert_eq!((all[1].folder.as_str(), all[1].files(&names, "o/n")), ("big/", None));
        assert_eq!(all[2].files(&names, "o/n").unwrap(), [("train", vec![0, 3])]);
        assert_eq!(CardConfig::unnamed(&all).unwrap().name, "big");
        assert!(CardConfig::unnamed(&all[..0]).is_none() && CardConfig::all("# no matter").is_empty());
    }
}
