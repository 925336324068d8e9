//! CoOp's split files through the command line: run, zero-shot, evaluate and embed see the same pictures.

use std::path::Path;

use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, class_names};
use serde_json::{Value, json};

use crate::common::lafter;

/// Pictures in folders with catalogue numbers, as ImageNet has them; the split file names the classes.
fn write_data(root: &Path) {
    let scenes = Dataset::new(Scenes::new(Domain::Target, 36, 1));
    let (mut splits, mut keys) = ([Vec::new(), Vec::new()], vec![String::new(); class_names().len()]);
    for (label, name) in class_names().iter().enumerate() {
        keys[label] = format!("n{label:02}\t{name}");
    }
    for index in 0..scenes.len() {
        let label = scenes.label(index).unwrap();
        let path = format!("n{label:02}/{index}.png");
        std::fs::create_dir_all(root.join("photos").join(&path).parent().unwrap()).unwrap();
        scenes.image(index).unwrap().save(root.join("photos").join(&path)).unwrap();
        splits[index % 2].push(json!([path, label, class_names()[label]]));
    }
    std::fs::write(root.join("classes.txt"), keys.join("\n")).unwrap();
    std::fs::write(root.join("split.json"), json!({ "train": splits[0], "val": [], "test": splits[1] }).to_string()).unwrap();
}

fn json_of(root: &Path, args: &str) -> Value {
    let output = lafter(root, &format!("{args} --json")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.lines().all(|line| line.starts_with("note: ")), "{args}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Fails with this status and says `words`.
fn refused(root: &Path, status: i32, words: &[&str], args: &str) {
    let output = lafter(root, args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args}: {stderr}");
    words.iter().for_each(|word| assert!(stderr.contains(word), "{args}: {stderr} does not say {word}"));
}

#[test]
fn every_command_takes_the_pictures_of_its_split() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_data(root);
    let data = "--train photos --test photos --split split.json --out out";
    let run = json_of(root, &format!("run --model demo {data} --text-epochs 5 --epochs 1 --batch-size 9 --prompts 1"));
    assert_eq!((&run["images"]["train"], &run["images"]["test"]), (&json!(18), &json!(18)));

    let saved = "evaluate --model demo --weights out/lafter.safetensors --test photos";
    let evaluated = json_of(root, &format!("{saved} --split split.json"));
    for part in ["top1", "per_class"] {
        assert_eq!(evaluated["lafter"][part], run["lafter"][part]);
    }
    let zero_shot = json_of(root, "zero-shot --model demo --test photos --split split.json");
    assert_eq!(zero_shot["zero_shot"]["per_class"], run["zero_shot"]["per_class"]);

    // without the split file the folders say the classes, and only a list of classes what their numbers mean
    refused(root, 1, &["n00"], saved);
    assert!(json_of(root, &format!("{saved} --classes classes.txt"))["lafter"]["top1"].is_number());

    let embed = "embed --model demo --out features.safetensors";
    let features = json_of(root, &format!("{embed} --images photos:train --split split.json"));
    assert_eq!(features["features"][0], 18);
    refused(root, 1, &["several splits", "photos:NAME"], &format!("{embed} --images photos --split split.json"));
    refused(root, 2, &["--texts"], &format!("{embed} --texts classes.txt --split split.json"));
    refused(root, 2, &["split.json", "folder"], &format!("{embed} --images hf:someone/things --split split.json"));
}
