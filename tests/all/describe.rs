//! Class names, templates, descriptions and text sets, with each kind of bad input.

use std::fs;
use std::path::PathBuf;

use crate::common::test_data;
use lafter::describe::{ClassNames, Descriptions, Source, Templates, TextSet, read_class_names};

fn message<T: std::fmt::Debug>(result: lafter::Result<T>, parts: &[&str]) -> String {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    text
}

fn file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn parse(json: &str) -> lafter::Result<Descriptions> {
    Descriptions::parse(json, "d.json")
}

#[test]
fn class_names_from_a_file() {
    let (_folder, path) = file("\u{feff}crane\r\n\n  Großer Hund \ncrane\nn02391049\tzebra\n");
    let classes = read_class_names(&path).unwrap();
    assert_eq!(classes.names(), ["crane", "Großer Hund", "crane", "zebra"]);
    assert_eq!((classes.duplicates(), classes.blank_lines()), (1, 1));
}

#[test]
fn bad_class_files() {
    let (_folder, path) = file("\n \n");
    message(read_class_names(&path), &["input", "no class names"]);
    let (_folder, path) = file("a\nn01\t\n");
    message(read_class_names(&path), &["line 2", "empty"]);
    let (_folder, path) = file([b'a', b'\n', 0xff]);
    message(read_class_names(&path), &["byte 2", "UTF-8"]);
    message(read_class_names(path.with_file_name("absent")), &["absent"]);
    assert!(ClassNames::new(["a", " "]).is_err());
}

#[test]
fn templates_from_a_file() {
    let (_folder, path) = file("# ours\na satellite photo of {}.\n");
    assert_eq!(Templates::read(&path).unwrap().fill("Fluß"), ["a satellite photo of Fluß."]);
    let (_folder, path) = file("a photo\n");
    message(Templates::read(&path), &["line 1", "a photo"]);
}

#[test]
fn a_text_set_from_all_sources() {
    let classes = ["polar_bear", "sea"];
    let descriptions = parse(r#"{"Sea": ["Blue.", " ", ".", "Blue."], "polar bear": ["White.", "Blue.", "polar bear"]}"#).unwrap();
    let texts =
        TextSet::new(&classes).unwrap().with_class_names().with_templates(&Templates::single()).with_descriptions(&descriptions).unwrap();
    let expected = ["polar bear", "sea", "a photo of a polar bear", "a photo of a sea", "White.", "Blue.", "Blue."];
    assert_eq!(texts.sentences(), expected);
    assert_eq!(texts.labels(), [0, 1, 0, 1, 0, 0, 1]);
    assert_eq!(texts.sources()[4], Source::Description);
    let counts = texts.counts();
    assert_eq!((counts.class_names, counts.templates, counts.descriptions), (2, 2, 3));
    // "Blue." twice in one class, and the description that is the class name again.
    assert_eq!((counts.dropped_empty, counts.dropped_duplicates), (2, 2));
    let summary = "7 texts for 2 classes (2 class names, 2 from templates, 3 descriptions); dropped 2 empty, 2 duplicate";
    assert_eq!(texts.summary(), summary);
    assert_eq!(format!("{texts:?}"), format!("TextSet({summary})"));
}

#[test]
fn classes_and_descriptions_must_fit() {
    let classes = ["dog", "airplane", "sea"];
    let text = message(
        parse(r#"{"dog": ["A."], "aeroplane": ["B."]}"#).unwrap().for_classes(&classes),
        &["\"aeroplane\" (did you mean \"airplane\"?)", "2 of 3 classes", "\"airplane\", \"sea\""],
    );
    assert!(text.starts_with("d.json: "));
    // No usable sentence is as bad as none.
    message(parse(r#"{"dog": ["."], "airplane": ["B."], "sea": []}"#).unwrap().for_classes(&classes), &["\"dog\", \"sea\""]);
    let many = parse(r#"{"dog": ["A."], "airplane": ["B."], "sea": ["C."], "ship": ["D."]}"#).unwrap();
    assert_eq!(many.for_classes(&classes).unwrap().len(), 3);
    let texts = TextSet::new(&classes).unwrap().with_descriptions(&many).unwrap();
    assert!(texts.len() == 3 && texts.notices().len() == 1 && texts.notices()[0].contains("\"ship\""), "{:?}", texts.notices());
    assert_eq!(many.only(&classes).for_classes(&classes).unwrap().len(), 3);
    message(TextSet::new(&["a", " "]), &["class 2"]);
    message(TextSet::new::<&str>(&[]), &["at least one"]);
}

#[test]
fn classes_that_share_a_name() {
    let classes = ["crane", "river", "crane"];
    // By name, once: both have the sentences. By name, twice: the first has the first. By index: as it says.
    let sentences = |json: &str| parse(json).unwrap().for_classes(&classes).unwrap();
    assert_eq!(sentences(r#"{"crane": ["A."], "river": ["B."]}"#), [["A."], ["B."], ["A."]]);
    assert_eq!(sentences(r#"{"crane": ["A."], "river": ["B."], "crane": ["C."]}"#), [["A."], ["B."], ["C."]]);
    assert_eq!(sentences(r#"{"2": ["C."], "0": ["A."], "1": ["B."]}"#), [["A."], ["B."], ["C."]]);
    assert_eq!(sentences(r#"[["A."], ["B."], ["C."]]"#), [["A."], ["B."], ["C."]]);
    message(parse(r#"{"crane": ["A."], "river": ["B."], "river": ["C."]}"#).unwrap().for_classes(&classes), &["\"river\""]);
    message(parse(r#"[["A."], ["B."], ["C."], ["D."]]"#).unwrap().for_classes(&classes), &["class 3", "0 to 2"]);
    message(parse(r#"[["A."], ["B."]]"#).unwrap().for_classes(&classes), &["\"crane\""]);
    // Digits that are class names are names.
    assert_eq!(parse(r#"{"7": ["A."], "1": ["B."]}"#).unwrap().for_classes(&["1", "7"]).unwrap(), [["B."], ["A."]]);
    let texts = TextSet::new(&classes).unwrap().with_templates(&Templates::single());
    assert_eq!((texts.len(), texts.labels()), (3, &[0, 1, 2][..]));
}

#[test]
fn broken_json_is_placed() {
    message(parse("{\"a\": [\"x\",\n \"y"), &["d.json", "line 2", "cut off"]);
    message(parse("{\"a\": [\"x\"]} trailing"), &["line 1 column", "not JSON"]);
    message(parse("{\"a\": [\"x\", 3]}"), &["entry 2 of class \"a\" is 3", "line 1"]);
    message(parse("{\"a\": [[\"x\"]]}"), &["class \"a\"", "[\"x\"]"]);
    message(parse("{\"a\": \"x\"}"), &["a list of sentences for class \"a\""]);
    message(parse("{\"a\": null}"), &["class \"a\""]);
    message(parse("\"a\""), &["list of lists"]);
    message(parse("{}"), &["no descriptions"]);
    message(parse(""), &["cut off"]);
}

#[test]
fn names_in_any_script() {
    let classes = ["ÉCLAIR", "犬", "größe"];
    let sentences = parse(r#"{"éclair": ["Un gâteau."], "犬": ["動物。"], "Größe": ["x"]}"#).unwrap().for_classes(&classes).unwrap();
    assert_eq!(sentences[1], ["動物。"]);
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn real_descriptions() {
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    for name in ["cifar10_lafter.json", "cifar10_mpvr_gpt.json"] {
        let descriptions = Descriptions::read(test_data("descriptions").join(name)).unwrap();
        let texts = TextSet::new(&classes).unwrap().with_descriptions(&descriptions).unwrap();
        println!("{name}: {}", texts.summary());
        let counts = texts.counts();
        assert_eq!(counts.descriptions + counts.dropped_empty + counts.dropped_duplicates, descriptions.sentence_count());
        assert!((0..10).all(|class| texts.labels().contains(&class)));
    }
}
