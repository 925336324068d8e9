//! `predict` on everything that holds pictures: tables, folders of links, thresholds, stops.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, class_names};
use lafter::predictions::Partial;

use crate::common::{lafter, pictures, text, tried};

fn run(folder: &Path, line: &str) -> Output {
    let output = lafter(folder, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    output
}

/// Picture and class of each line of a CSV table without commas in names.
fn answers(path: &Path) -> BTreeMap<String, String> {
    let table = std::fs::read_to_string(path).unwrap();
    let lines = table.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let name = |path: &str| Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
    lines.map(|fields| (name(fields[0]), fields[1].to_string())).collect()
}

/// Files in the folders below a folder.
fn in_folders(root: &Path) -> usize {
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
}

const PREDICT: &str = "predict --model demo --classes names.txt";

#[test]
fn a_folder_becomes_a_table_and_folders_of_links() {
    let root = pictures(Domain::Source, 40);
    let at = |name: &str| root.path().join(name);
    let output = run(root.path(), &format!("{PREDICT} photos --out out/table.csv --link-into sorted"));
    let said = text(&output.stdout);
    assert!(said.contains("40 answers written to out/table.csv"), "{said}");
    let table = answers(&at("out/table.csv"));
    assert_eq!(table.len(), 40);
    // most scenes of the source domain are recognized
    let scenes = Dataset::new(Scenes::new(Domain::Source, 40, 3));
    let right = (0..40).filter(|i| table[&format!("{i:03}.png")] == class_names()[scenes.label(*i).unwrap()]).count();
    assert!(right >= 28, "{right} of 40");
    // each picture is linked once, in the folder of its answer, and the originals are there
    for (name, class) in &table {
        let link = at("sorted").join(class).join(name);
        assert_eq!(link.canonicalize().unwrap(), at("photos").join(name).canonicalize().unwrap());
    }
    assert_eq!(in_folders(&at("sorted")), 40);
    assert_eq!(std::fs::read_dir(at("photos")).unwrap().count(), 40);
    assert!(!at("out/table.csv.partial").exists());
    // the same answers in the other forms, and once more over what is there
    run(root.path(), &format!("{PREDICT} photos --out table.jsonl --link-into sorted --top 4"));
    let lines = std::fs::read_to_string(at("table.jsonl")).unwrap();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = PathBuf::from(row["picture"].as_str().unwrap());
        assert_eq!(row["class"], table[&name.file_name().unwrap().to_string_lossy().into_owned()]);
        let (top, p) = (row["top"].as_array().unwrap(), row["probability"].as_f64().unwrap());
        assert!(top.len() == 4 && (top[0][1].as_f64().unwrap() - p).abs() < 1e-9, "{line}");
        assert!((row["margin"].as_f64().unwrap() - p + top[1][1].as_f64().unwrap()).abs() < 1e-9, "{line}");
    }
    assert_eq!(in_folders(&at("sorted")), 40);
    // a table is a data set of rows, so Parquet is read as pictures nowhere; its rows are counted by the unit tests
    run(root.path(), &format!("{PREDICT} photos --out table.parquet"));
    assert_eq!(&std::fs::read(at("table.parquet")).unwrap()[..4], b"PAR1");
}

#[test]
fn answers_below_the_threshold_are_unknown() {
    let root = pictures(Domain::Source, 30);
    run(root.path(), &format!("{PREDICT} photos --out all.csv"));
    let probability = |line: &str| line.split(',').nth(2).unwrap().parse::<f64>().unwrap();
    let all = std::fs::read_to_string(root.path().join("all.csv")).unwrap();
    let mut sorted: Vec<f64> = all.lines().skip(1).map(probability).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = (sorted[14] + sorted[15]) / 2.0;
    run(root.path(), &format!("{PREDICT} photos --out some.csv --threshold {middle} --link-into sorted --copy"));
    let some = std::fs::read_to_string(root.path().join("some.csv")).unwrap();
    let mut unknown = 0;
    for (a, b) in all.lines().zip(some.lines()).skip(1) {
        let (class, shown) = (a.split(',').nth(1).unwrap(), b.split(',').nth(1).unwrap());
        assert_eq!(shown, if probability(a) < middle { "unknown" } else { class });
        unknown += usize::from(shown == "unknown");
    }
    assert_eq!(unknown, 15);
    assert_eq!(std::fs::read_dir(root.path().join("sorted/unknown")).unwrap().count(), unknown);
    let output = lafter(root.path(), &format!("{PREDICT} photos --threshold 1.5")).output().unwrap();
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("--threshold"));
}

#[test]
fn a_pass_without_an_answer_leaves_nothing() {
    let root = pictures(Domain::Source, 0);
    std::fs::write(root.path().join("photos/broken.png"), "no picture").unwrap();
    let (ended, _, said) = tried(root.path(), &format!("{PREDICT} photos --out table.csv"));
    assert!(!ended && said.contains("broken.png"), "{said}");
    let left = ["table.csv", "table.csv.partial"].map(|name| root.path().join(name).exists());
    assert_eq!(left, [false, false], "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_table_has_one_writer_and_a_picture_of_any_name_one_folder() {
    use std::os::unix::ffi::OsStrExt;
    let root = pictures(Domain::Source, 4);
    let at = |name: &str| root.path().join(name);
    std::fs::rename(at("photos/003.png"), at("photos").join(std::ffi::OsStr::from_bytes(b"caf\xe9.png"))).unwrap();
    let held = Partial::open(&at("table.csv.partial"), "another pass").unwrap();
    let line = format!("{PREDICT} photos --out table.csv --link-into sorted");
    let output = lafter(root.path(), &line).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("table.csv.partial") && said.contains("--out"), "{said}");
    drop(held);
    std::fs::rename(at("photos/002.png"), at("photos").join(std::ffi::OsStr::from_bytes(b"caf\xe8.png"))).unwrap();
    let linked = || in_folders(&at("sorted"));
    for _ in 0..2 {
        let said = text(&run(root.path(), &line).stderr);
        assert!(!said.contains("another class"), "{said}");
        assert_eq!(linked(), 4);
        let names: Vec<String> = answers(&at("table.csv")).into_keys().collect();
        assert_eq!(names, ["000.png", "001.png", "caf\\xE8.png", "caf\\xE9.png"]);
    }
    // other answers than those of the links that lie there
    std::fs::write(at("others.txt"), "cloud\nriver\n").unwrap();
    let said = text(&run(root.path(), &line.replace("names.txt", "others.txt")).stderr);
    assert!(said.contains("4 of the pictures lie in the folder of another class"), "{said}");
}

/// Answers sorted into the folder of the pictures are no pictures of the next command; a folder of the user's own stays one.
#[test]
#[cfg(unix)]
fn what_was_sorted_is_no_data() {
    let root = pictures(Domain::Source, 4);
    for _ in 0..2 {
        run(root.path(), &format!("{PREDICT} photos --out table.csv --link-into photos/sorted"));
        run(root.path(), &format!("{PREDICT} photos --out table.csv --link-into photos/copied --copy"));
        assert_eq!(answers(&root.path().join("table.csv")).len(), 4);
        let said = text(&run(root.path(), "check --model demo --train photos --classes names.txt --sheet sheet.png").stdout);
        assert!(said.contains("4 pictures") && said.contains("photos/sorted: holds what this program wrote: left out"), "{said}");
    }
    let sorted = Dataset::open(root.path().join("photos/sorted")).unwrap();
    assert_eq!(sorted.len(), 4, "by itself it is a data set");
    let own = root.path().join("photos/own/circle");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(root.path().join("photos/000.png"), own.join("a.png")).unwrap();
    run(root.path(), &format!("{PREDICT} photos --out table.csv --link-into photos/own"));
    let error = Dataset::open(root.path().join("photos")).unwrap_err().to_string();
    assert!(error.contains("next to 1 class folders"), "{error}");
}

#[test]
fn paths_come_from_standard_input_too_and_what_cannot_be_read_is_counted() {
    let root = pictures(Domain::Source, 5);
    std::fs::write(root.path().join("photos/torn.png"), "no picture").unwrap();
    let mut child = lafter(root.path(), &format!("{PREDICT} --out table.csv -")).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"photos/003.png\nphotos/torn.png\r\n\nphotos/gone.png\nphotos/001.png\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("2 of 4 pictures could not be read"), "{said}");
    assert!(said.contains("skipped: ") && said.contains("torn.png") && said.contains("gone.png"), "{said}");
    assert_eq!(answers(&root.path().join("table.csv")).into_keys().collect::<Vec<_>>(), ["001.png", "003.png"]);
}

#[test]
fn what_cannot_work_is_one_line() {
    let root = pictures(Domain::Source, 3);
    std::fs::create_dir(root.path().join("folder.csv")).unwrap();
    std::fs::write(root.path().join("own.csv.partial"), "precious\n").unwrap();
    for (line, words) in [
        ("predict --model demo photos", "--weights"),
        (&format!("{PREDICT} photos --out table.csv --compare"), "--compare: zero-shot is what answers"),
        (&format!("{PREDICT} photos --out folder.csv"), "name a file"),
        (&format!("{PREDICT} photos --out own.csv"), "own.csv.partial is where rows are kept, and holds something else"),
        (&format!("{PREDICT} photos --link-into photos"), "sort into a new folder, as"),
        (&format!("{PREDICT} photos --out table.xlsx") as &str, ".csv"),
        (&format!("{PREDICT} -"), "no picture was given"),
        (&format!("{PREDICT} --weights x.safetensors photos"), "cannot be used"),
    ] {
        let output = lafter(root.path(), line).output().unwrap();
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(words), "{line}: {}", text(&output.stderr));
    }
}

#[test]
fn folders_however_deep_are_answered_and_so_is_one_with_an_earlier_table() {
    let root = pictures(Domain::Source, 2);
    let mut deep = root.path().join("photos");
    (0..30).for_each(|level| deep.push(level.to_string()));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::rename(root.path().join("photos/001.png"), deep.join("deep.png")).unwrap();
    for table in ["photos/first.parquet", "second.csv"] {
        run(root.path(), &format!("{PREDICT} photos --out {table}"));
    }
    assert_eq!(answers(&root.path().join("second.csv")).into_keys().collect::<Vec<_>>(), ["000.png", "deep.png"]);
}

/// They could not be told from unsure answers.
#[test]
fn a_class_called_unknown_goes_with_no_threshold() {
    let root = pictures(Domain::Source, 3);
    std::fs::write(root.path().join("odd.txt"), "fish\nunknown\n").unwrap();
    let (line, refuse) = ("predict --model demo --classes odd.txt photos", |line: &str| {
        let (_, _, said) = tried(root.path(), line);
        assert!(said.contains("a class is called so"), "{said}");
    });
    refuse(&format!("{line} --threshold 0.5"));
    refuse(&format!("{line} --threshold 0.5 --transduct stata"));
    run(root.path(), line);
}

#[test]
fn the_text_classifier_answers_with_descriptions() {
    let root = pictures(Domain::Source, 12);
    let sentences: BTreeMap<String, Vec<String>> = class_names()
        .into_iter()
        .map(|name| (name.clone(), vec![format!("A drawing of a {name}."), format!("It shows a {name}.")]))
        .collect();
    std::fs::write(root.path().join("texts.json"), serde_json::to_string(&sentences).unwrap()).unwrap();
    let output = run(root.path(), &format!("{PREDICT} --descriptions texts.json --json photos"));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 12);
    let again = run(root.path(), &format!("{PREDICT} --descriptions texts.json --json photos"));
    assert_eq!(output.stdout, again.stdout);
    run(root.path(), &format!("{PREDICT} --descriptions texts.json --out compared.csv --compare photos"));
    let table = std::fs::read_to_string(root.path().join("compared.csv")).unwrap();
    let (header, line) = (table.lines().next().unwrap(), table.lines().nth(1).unwrap());
    let column = header.split(',').position(|name| name.contains("zero_shot")).unwrap_or_else(|| panic!("{header}"));
    assert!(class_names().iter().any(|class| line.split(',').nth(column) == Some(class)), "{table}");
}

/// Interrupted between two batches and repeated, the table is the same.
#[cfg(unix)]
#[test]
fn a_stopped_table_goes_on() {
    let root = pictures(Domain::Source, 120);
    run(root.path(), &format!("{PREDICT} photos --out whole.csv"));
    let partial = root.path().join("stopped.csv.partial");
    let begun = || partial.metadata().is_ok_and(|file| file.len() > 0); // a whole batch is in it
    let line = format!("{PREDICT} photos --out stopped.csv");
    for attempt in 0..20 {
        let mut child = lafter(root.path(), &line).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !begun() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        unsafe { libc::kill(child.id() as i32, if attempt % 2 == 0 { libc::SIGINT } else { libc::SIGKILL }) };
        let output = child.wait_with_output().unwrap();
        if !output.status.success() && begun() {
            break;
        }
        let _ = std::fs::remove_file(root.path().join("stopped.csv"));
        assert!(attempt < 19, "it was over before it could be stopped");
    }
    assert!(!root.path().join("stopped.csv").exists());
    let again = run(root.path(), &line);
    assert!(text(&again.stderr).contains("were done before and are kept"), "{}", text(&again.stderr));
    let read = |name: &str| std::fs::read(root.path().join(name)).unwrap();
    assert!(read("stopped.csv") == read("whole.csv") && !partial.exists());
}

#[test]
fn a_run_without_stage_two_leaves_its_classifier() {
    let root = pictures(Domain::Source, 24);
    std::fs::write(root.path().join("photos/broken.png"), "no picture").unwrap();
    let output = run(root.path(), "run --model demo --train photos --classes names.txt --text-epochs 1 --epochs 0 --out out");
    assert!(text(&output.stderr).contains("1 training pictures could not be read"), "{}", text(&output.stderr));
    let report = std::fs::read_to_string(root.path().join("out/report.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&report).unwrap()["images"]["skipped"], 1);
    std::fs::remove_file(root.path().join("photos/broken.png")).unwrap();
    run(root.path(), "predict --model demo --weights out/lafter.safetensors photos --out again.csv");
    assert_eq!(answers(&root.path().join("again.csv")), answers(&root.path().join("out/predictions.csv")));
    for command in ["export --model demo --weights out/lafter.safetensors --out model.onnx", "card --run out"] {
        run(root.path(), command);
    }
    let card = std::fs::read_to_string(root.path().join("out/README.md")).unwrap();
    assert!(card.contains("Its tower is left as it was: the result of the run is the text classifier."), "{card}");
    let (_, _, said) = tried(root.path(), "export --model demo --weights nowhere.safetensors --out model.onnx");
    assert!(said.contains("No such file"), "{said}");
}
