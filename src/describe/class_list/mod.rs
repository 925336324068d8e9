//! Lists of class names as people have them: plain lines, published class maps, CSV, JSON, lines of a script.

mod lines;
mod values;
mod yaml;

use std::path::Path;

use serde_json::Value;

pub(crate) use self::lines::counts;
use self::lines::{after_number, published};
use self::values::pairs_of;
use self::yaml::{Yaml, yaml_names};
use crate::describe::literal::read_literal;
use crate::describe::names::ClassNames;
use crate::describe::unusual::unusual_lines;
use crate::error::{Error, Result};
use crate::files::read_text;

/// What a data set calls a class, and its name.
type Pair = (String, String);

/// Reads class names, UTF-8:
///
/// | form | label order |
/// |---|---|
/// | one name a line, also in quotes and with commas as in a script | of the lines |
/// | `key<TAB>name`, where the data set calls the class `key` | of the lines; of the numbers, if the keys are 0 to C − 1 or 1 to C |
/// | `n02000003 cat, house cat`, `n02000003,cat`: WordNet's ids; the first of several names is taken | of the lines |
/// | `0 airplane`, `0: airplane`, `[0] airplane`, `0 = airplane`, also from 1, or the number last as in `airplane,0` | of the numbers |
/// | three or more columns (CSV, TSV), of which one holds the names | of the numbers, else of the lines |
/// | the part `names:` of a YAML file such as YOLO's data.yaml | of the file, or of its numbers |
/// | JSON: a list; `{"0": "airplane"}`, `{"airplane": 0}`, `{"0": ["n02000003", "cat"]}`, `{"n02000003": "cat"}`, `id2label` | of the numbers, else of the file |
///
/// Blank lines are left out and counted; a title, or a line of column titles, is left out. If a list is not plain,
/// [`ClassNames::notices`] says how it was understood.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Text`] if it is not UTF-8, holds no name or an empty one, or JSON of
/// another form.
pub fn read_class_names(path: impl AsRef<Path>) -> Result<ClassNames> {
    let (path, origin) = (path.as_ref(), path.as_ref().display().to_string());
    let mut classes = parse(&read_text(path)?, &origin)?;
    classes.notices.extend(unusual_lines(&classes.names, &origin));
    Ok(classes)
}

/// [`read_class_names`] on a text; `origin` stands in errors.
pub(crate) fn parse(text: &str, origin: &str) -> Result<ClassNames> {
    let refuse = |what: String| Err(Error::Text(format!("{origin}: {what}")));
    if text.trim().is_empty() {
        return refuse("holds no class names: write one per line".into());
    }
    if let Some(value) = read_literal(text).filter(|value| value.is_array() || value.is_object()) {
        return match pairs_of(&value) {
            Some((pairs, form)) => ClassNames::paired(pairs, origin, form),
            None => refuse(
                "its JSON is not a list of class names: expected [\"name\", …], {\"0\": \"name\", …} or {\"id\": \"name\", …}".into(),
            ),
        };
    }
    let numbered = |line: &str| line.starts_with('[') && after_number(line).is_some_and(|(_, rest)| !rest.is_empty());
    let plain = text.lines().map(str::trim).filter(|line| !line.is_empty()).all(numbered);
    if (!plain && text.trim_start().starts_with(['{', '['])) || origin.to_lowercase().ends_with(".json") {
        let fault = serde_json::from_str::<Value>(text).err().map(|e| e.to_string()).unwrap_or_default();
        return refuse(format!("not JSON ({fault}): correct it, or write one class name per line"));
    }
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(i, line)| (i + 1, line)).collect();
    let (mut kept, blank): (Vec<(usize, &str)>, Vec<_>) = lines.into_iter().partition(|(_, line)| !line.trim().is_empty());
    match yaml_names(&kept) {
        Yaml::Names(pairs) => return ClassNames::paired(pairs, origin, Some("the names of a YAML file")),
        Yaml::Unclear => return refuse("its part `names:` is not understood: write one class name per line".into()),
        Yaml::No => {}
    }
    if let Some((number, _)) = kept.iter().find(|(_, line)| line.trim_end().ends_with('{')) {
        return refuse(format!("line {number} ends in {{, which is not a list of class names: write one class name per line"));
    }
    let titles: Vec<&str> = kept.iter().map(|(_, line)| line.trim()).take_while(|line| is_title(line)).collect();
    // A list of titles alone is a list of names; a second title without a # is a name.
    let dropped = titles.iter().take_while(|line| line.starts_with('#')).count();
    let dropped = dropped + usize::from(titles.len() > dropped);
    let dropped = if dropped < kept.len() { dropped } else { 0 };
    let title = kept.drain(..dropped).next_back().map(|(_, line)| line.trim());
    if kept.iter().all(|(_, line)| line.trim().strip_prefix("- ").is_some_and(|name| !name.trim().is_empty())) {
        kept.iter_mut().for_each(|(_, line)| *line = line.trim().trim_start_matches("- "));
    }
    let texts: Vec<&str> = kept.iter().map(|(_, line)| line.trim()).collect();
    let mut classes = match published(&texts) {
        Some((pairs, form)) => ClassNames::paired(pairs, origin, Some(form))?,
        None => ClassNames::numbered(kept.into_iter(), &format!("{origin}, line"))?,
    };
    if let Some(title) = title {
        classes.notices.push(format!("{origin}: \"{title}\" is taken as a title, the first class is \"{}\"", classes.names()[0]));
    }
    if let Some(at) = classes.names().iter().position(|name| name.contains(char::is_control)) {
        return refuse(format!("the name of class {at} holds a character that is not text: is this a list of class names?"));
    }
    classes.blank_lines = blank.len();
    Ok(classes)
}

/// A line above a list that is not a class: `class_name`, `labels:`, `name id`, `# CIFAR-10 classes`.
fn is_title(line: &str) -> bool {
    const TITLES: [&str; 8] = ["class", "classes", "name", "names", "label", "labels", "category", "categories"];
    const OTHERS: [&str; 4] = ["id", "index", "number", "nr"];
    let text = line.trim_end_matches(':').trim_matches(['"', '\'']).to_lowercase();
    let words = || text.split([' ', '_', '-']).filter(|word| !word.is_empty());
    line.starts_with('#')
        || (words().any(|word| TITLES.contains(&word)) && words().all(|word| TITLES.contains(&word) || OTHERS.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key=name` of each class; the key alone if both are the same.
    fn read(text: &str) -> Vec<String> {
        let list = parse(text, "list.txt").unwrap();
        let shown = |(key, name): (&String, &String)| if key == name { name.clone() } else { format!("{key}={name}") };
        list.keys().iter().zip(list.names()).map(shown).collect()
    }

    #[test]
    fn published_class_maps() {
        for text in [
            "n02000003 cat\nn02000004 dog\n",
            "n02000003 cat, house cat\nn02000004 dog\n",
            "n02000003: cat\nn02000004: dog\n",
            "wnid,name\nn02000003,cat\nn02000004,dog\n",
            "n02000003 1 cat\nn02000004 2 dog\n",
            "0 n02000003 cat\n1 n02000004 dog\n",
            "2\tn02000004\tdog\n1\tn02000003\tcat\n",
            r#"{"0": ["n02000003", "cat"], "1": ["n02000004", "dog"]}"#,
            r#"{"n02000003": "cat", "n02000004": "dog"}"#,
            r#"{"n02000003": ["cat", "house cat"], "n02000004": ["dog"]}"#,
            r#"[["n02000003", "cat"], ["n02000004", "dog"]]"#,
            "n02000003\tcat\nn02000004\tdog\n",
        ] {
            assert_eq!(read(text), ["n02000003=cat", "n02000004=dog"], "{text}");
        }
    }

    #[test]
    fn numbered_lists() {
        for text in [
            "0 cat\n1 dog\n",
            "1: dog\n0: cat\n",
            "0,cat\n1,dog\n",
            "id,name\n0,\"cat\"\n1,\"dog\"\n",
            "{0: 'cat',\n 1: 'dog'}",
            r#"{"1": "dog", "0": "cat"}"#,
            r#"{"model": "x", "id2label": {"0": "cat", "1": "dog"}}"#,
            r#"{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}"#,
        ] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("2 dog\n1 cat"), ["1=cat", "2=dog"]);
        assert_eq!(read(r#"{"dog": 1, "cat": 0}"#), ["cat", "dog"]);
        assert_eq!(read("name,label\ndog,1\ncat,0\n"), ["cat", "dog"]);
    }

    #[test]
    fn a_title_is_no_class() {
        for title in
            ["class", "Class_Name", "classes:", "NAME", "names", "names:", "label", "labels", "category", "# CIFAR-10 classes", "#a\n# b"]
        {
            let list = parse(&format!("{title}\ncat\ndog\n"), "x.txt").unwrap();
            assert_eq!(list.names(), ["cat", "dog"], "{title}");
            assert!(list.notices().len() == 1 && list.notices()[0].contains("title"), "{:?}", list.notices());
        }
        assert_eq!(read("__background__\ncat"), ["__background__", "cat"]);
        assert_eq!(read("cat\nlabel"), ["cat", "label"]);
        assert_eq!(read("label"), ["label"]);
    }

    #[test]
    fn yaml_of_a_data_set() {
        for (names, keyed) in [
            ("names:\n  0: cat\n  1: dog # a comment\n", true),
            ("names:\n- cat\n- 'dog'\n", false),
            ("names:\n  - cat\n  - dog\n", false),
            ("names: ['cat', \"dog\"]\n", false),
            ("names: [cat,\n  dog]\n", false),
            ("names: {0: cat, 1: dog}\n", true),
        ] {
            for text in [names.to_string(), format!("train: ../images\nnc: 2\n{names}roboflow:\n  version: 1\n")] {
                if names.contains('{') {
                    assert!(parse(&text, "data.yaml").unwrap_err().to_string().contains("one class name per line"), "{text}");
                    continue;
                }
                assert_eq!(read(&text), if keyed { ["0=cat", "1=dog"] } else { ["cat", "dog"] }, "{text}");
            }
        }
        assert!(parse("nc: 2\nnames:\n  cat\n  dog", "data.yaml").unwrap_err().to_string().contains("names:"));
    }

    #[test]
    fn marks_and_numbers_around_names_go() {
        for text in ["[0] cat\n[1] dog", "0 = cat\n1 = dog", "0=cat\n1=dog", "0 - cat\n1 - dog", "0 : cat\n1 : dog", "- 0: cat\n- 1: dog"] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("- cat\n- dog"), ["cat", "dog"]);
        assert_eq!(read("- cat\ndog"), ["- cat", "dog"]);
        for text in ["dog 1\ncat 0", "cat\t0\ndog\t1", "name\tlabel\ncat\t0\ndog\t1", "name id\ncat 0\ndog 1"] {
            assert_eq!(parse(text, "x").unwrap().names(), ["cat", "dog"], "{text}");
        }
        for text in ["2\thorse\n0\tcat\n1\tdog", "id\tname\n2\thorse\n0\tcat\n1\tdog"] {
            assert_eq!(read(text), ["0=cat", "1=dog", "2=horse"], "{text:?}");
            assert!(parse(text, "list.txt").unwrap().notices()[0].contains("in the order of the numbers"));
        }
        assert_eq!(read("02\thorse\n01\tcat"), ["01=cat", "02=horse"]); // as folders are called
        assert_eq!(read("7\thorse\n3\tcat"), ["7=horse", "3=cat"]); // keys that count nothing
        for text in ["digit 0\ndigit 1", "cat 0\ndog 18446744073709551615", "Cessna 172\nDC 9", "0\tMiG 1\n1\tSu 2"] {
            let names: Vec<&str> = text.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
            assert_eq!(parse(text, "x").unwrap().names(), names);
        }
        let error = parse("item {\n  name: 'cat'\n}", "x.pbtxt").unwrap_err().to_string();
        assert!(error.contains("one class name per line"), "{error}");
    }

    #[test]
    fn three_columns() {
        for text in [
            "id\tname\tgroup\n1\tdog\tpet\n0\tcat\tpet",
            "group,id,name\npet,0,cat\npet,1,dog",
            "0,cat,pet\n1,dog,pet",
            "0\tcat\tpet\n1\tdog\tpet",
            "x,id,category\na,1,dog\nb,0,cat",
            "id,label,text\n0,\"cat\",\"small, soft\"\n1,dog,loud",
        ] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("m.1\tcat\tpet\nm.2\tdog\tpet"), ["m.1=cat", "m.2=dog"]);
        assert_eq!(read("a, b, c\nd, e, f"), ["a, b, c", "d, e, f"]);
    }

    #[test]
    fn names_within_json() {
        assert_eq!(read(r#"{"labels": ["cat", "dog"]}"#), ["cat", "dog"]);
        assert_eq!(read(r#"{"1": {"name": "dog"}, "0": {"name": "cat"}}"#), ["0=cat", "1=dog"]);
    }

    #[test]
    fn plain_lists_stay_as_they_are() {
        for (text, names) in [
            ("cat\ndog\n", ["cat", "dog"]),
            ("2012 BMW M3\n2013 Audi", ["2012 BMW M3", "2013 Audi"]),
            ("737-800\n747-400", ["737-800", "747-400"]),
            ("7\n3", ["7", "3"]),
            ("cat, house cat\ndog, hound", ["cat, house cat", "dog, hound"]),
            ("n02000003\nn02000004", ["n02000003", "n02000004"]),
            ("'cat',\n'dog',", ["cat", "dog"]),
            ("['cat', 'dog']", ["cat", "dog"]),
            (r#"["cat", "dog"]"#, ["cat", "dog"]),
        ] {
            assert_eq!(read(text), names, "{text}");
        }
        assert!(parse("cat\ndog", "x").unwrap().notices().is_empty());
        let notices = parse("n02000003 cat, house cat", "x.txt").unwrap().notices().to_vec();
        assert!(notices.len() == 1 && notices[0].contains("x.txt") && notices[0].contains("\"n02000003\" is \"cat\""), "{notices:?}");
    }

    #[test]
    fn json_of_another_form_is_refused() {
        for text in [r#"{"a": {"b": 1}}"#, "[1, 2]", r#"{"a": 0, "b": 0}"#, "{\"a\": ", "[]", r#"{"cat": ["A cat."]}"#] {
            let error = parse(text, "x.json").unwrap_err().to_string();
            assert!(error.starts_with("x.json: ") && error.lines().count() == 1, "{error}");
        }
    }
}
