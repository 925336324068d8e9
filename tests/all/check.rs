//! What a command says of its inputs before it computes, and `lafter check`.

use std::path::Path;
use std::process::Output;

use image::{Rgb, RgbImage};

fn lafter(folder: &Path, args: &[&str]) -> Output {
    crate::common::program().current_dir(folder).args(args).env("XDG_CACHE_HOME", folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_string()
}

/// Class folders with as many pictures as each class's number says.
fn pictures(root: &Path, classes: &[(&str, usize)]) {
    for (class, n) in classes {
        std::fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..*n {
            RgbImage::from_pixel(20, 24, Rgb([10 * i as u8, 200, 90])).save(root.join(class).join(format!("{i}.png"))).unwrap();
        }
    }
}

#[test]
fn check_says_what_was_understood_and_draws_a_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("test"), &[("house", 3), ("fish", 1)]);
    pictures(&root.join("train"), &[("a", 2)]);
    std::fs::write(root.join("names.txt"), "house\nfish\nboat\n").unwrap();
    let args = ["check", "--model", "demo", "--train", "train", "--test", "test", "--classes", "names.txt", "--sheet", "out/sheet.png"];

    let output = lafter(root, &args);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "model    demo",
        "end",
        "4 pictures, 2 classes of 1 (fish) to 3 (house)",
        "2 pictures, without labels",
        "classes  3: house, fish, boat",
    ] {
        assert!(said.contains(part), "no \"{part}\" in\n{said}");
    }
    assert!(said.contains("\"itap of a house.\"") && said.contains("\"itap of a boat.\""), "{said}");
    assert!(said.contains("note: test: only 2 of 3 classes have pictures; none of boat"), "{said}");
    assert!(image::open(root.join("out/sheet.png")).unwrap().width() > 200);

    let output = lafter(root, &[&args[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["inputs"]["sets"][1]["largest"], serde_json::json!(["house", 3]));
    assert_eq!(json["sheet"], "out/sheet.png");

    assert!(!said.contains("training pictures"), "{said}");
    let said = text(&lafter(root, &["check", "--model", "demo", "--train", "./test/house", "--test", "test"]).stdout);
    assert!(said.contains("note: test: training pictures are among these, 3 of 4: of new pictures fewer may be right"), "{said}");

    let said = text(&lafter(root, &["check", "--model", "demo", "--descriptions", "texts.json"]).stderr);
    assert!(said.contains("are read for classes: give the names with --classes FILE"), "{said}");
}

#[test]
fn every_command_shows_the_block_first_and_with_json_its_notices_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("one"), &[("house", 2)]);
    let output = lafter(root, &["zero-shot", "--model", "demo", "--test", "one"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.starts_with("model    demo") && said.contains("\"a photo of a house\""), "{said}");
    assert!(said.contains("there is only one class, house"), "{said}");

    let output = lafter(root, &["zero-shot", "--model", "demo", "--test", "one", "--json"]);
    let said = text(&output.stderr);
    assert!(said.contains("only one class") && said.lines().all(|line| line.starts_with("note: ")), "{said}");
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok());
}

#[test]
fn the_report_keeps_what_was_understood() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(&root.join("set"), &[("house", 2), ("fish", 2)]);
    let run = ["run", "--model", "demo", "--train", "set", "--test", "set", "--text-epochs", "1", "--epochs", "0", "--out", "out"];
    let output = lafter(root, &run);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["inputs"]["sets"][0]["name"], "train");
    assert_eq!(report["inputs"]["sets"][1]["pictures"], 4);
    assert_eq!(report["inputs"]["prompts"].as_array().unwrap().len(), 2);
}
