//! Settings on the command line: any field by its path, the list of all, and what is refused.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

fn lafter(args: &[&str]) -> Output {
    crate::common::program().args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn config(folder: &Path) -> Value {
    let report = std::fs::read_to_string(folder.join("report.json")).unwrap();
    assert!(!report.contains("0.20000000"), "numbers stand as they were written");
    serde_json::from_str::<Value>(&report).unwrap()["config"].take()
}

const SMALL: [&str; 12] =
    ["run", "--model", "demo", "--limit-train", "4", "--limit-test", "6", "--text-epochs", "1", "--batch-size", "4", "--set"];

#[test]
fn any_setting_reaches_a_run_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let mut args = SMALL.to_vec();
    args.extend(["image.epochs=1", "--set", "tune.teacher_head=shared", "--set", "tune.strong.flip_p=0.25"]);
    args.extend(["--set", "image.crop_scale=[0.2, 1]", "--set", r#"tune.schedule={"cosine": {"warmup": 1, "floor": 0.1}}"#]);
    args.extend(["--set", "preset=paper", "--out", &out]); // a preset comes first, wherever it stands
    text(&lafter(&args));
    let config = config(folder.path());
    assert_eq!((&config["preset"], &config["text"]["noise"]), (&"paper".into(), &1.0.into()));
    let tune = &config["tune"];
    // `image.` is the name of an earlier version
    assert_eq!((&tune["teacher_head"], &tune["epochs"], &tune["batch_size"]), (&"shared".into(), &1.into(), &4.into()));
    assert_eq!((&tune["strong"]["flip_p"], &tune["strong"]["blur_p"]), (&0.25.into(), &0.5.into()));
    assert_eq!(
        (tune["strong"]["scale"].to_string(), tune["schedule"].to_string()),
        ("[0.2,1.0]".into(), r#"{"cosine":{"warmup":1,"floor":0.1}}"#.into())
    );
}

#[test]
fn the_list_shows_each_setting_with_its_default_and_meaning() {
    let list = text(&lafter(&["settings"]));
    let line = |path: &str| list.lines().find(|line| line.starts_with(path)).unwrap_or_else(|| panic!("{path}: {list}")).to_string();
    assert!(line("tune.strong.blur_sigma").contains("[0.1,2.0]") && line("tune.strong.blur_sigma").contains("standard deviation"));
    assert!(line("text.noise ").contains(" 0.1 "));
    assert!(list.lines().all(|line| line.chars().count() <= 140));
    let shown = lafter(&["settings", "--preset", "demo", "--set", "tune.prompts=3", "--json"]);
    let list: Vec<Value> = serde_json::from_str(&text(&shown)).unwrap();
    let value = |path: &str| list.iter().find(|setting| setting["path"] == path).unwrap()["default"].clone();
    assert_eq!((value("tune.epochs"), value("tune.prompts"), value("text.hidden")), (16.into(), 3.into(), Value::Null));
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let run = |args: &[&str]| lafter(&[&SMALL[..11], args].concat());
    let ablate = |args: &[&str]| lafter(&[&["ablate", "--model", "demo", "--dry-run"], args].concat());
    for (output, says) in [
        (run(&["--set", "image.epoch=3"]), "did you mean tune.epochs?"),
        (run(&["--set", "tune.strong=3"]), "name one of them"),
        (run(&["--set", "tune.epochs"]), "write --set PATH=VALUE"),
        (run(&["--set", "tune.epochs=many"]), "cannot be many"),
        (run(&["--set", "tune.batch_size=3"]), "--batch-size and --set tune.batch_size=3 are the same setting"),
        (run(&["--set", "tune.prompts=3", "--set", "tune.prompts=4"]), "given twice"),
        (run(&["--set", "seed=3"]), "--seed"),
        (run(&["--set", "tune.strong.hue=0.7"]), "hue"),
        (run(&["--set", "tune.views_on_gpu=true"]), "not on a GPU"),
        (lafter(&["demo", "--set", "text.nose=3"]), "did you mean text.noise?"),
        (ablate(&["--set", "image.crop_scale=[0.5,1]", "--vary", "tune.strong.scale=[0.2,1]"]), "is varied"),
        (ablate(&["--vary", "image.epoch=1,2"]), "did you mean tune.epochs?"),
        (ablate(&["--vary", "image.crop_scale=[0.2,1]", "--vary", "tune.strong.scale=[0.3,1]"]), "stands twice"),
    ] {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = error.lines().last().unwrap_or_default();
        assert!(output.status.code() == Some(2) && last.starts_with("error:") && last.contains(says), "{says}: {error}");
    }
}
