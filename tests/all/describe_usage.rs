//! What `lafter describe` is given and where it writes: class files, outputs, dry runs, options that cannot be.

use std::process::Stdio;

use crate::llm_stub::Stub;
use crate::llm_stub::run::{Run, lafter, refused, text};
use lafter::describe::Descriptions;
use serde_json::Value;

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("names.txt");
    std::fs::write(&names, (0..20_000).map(|i| format!("thing {i}\n")).collect::<String>()).unwrap();
    let mut command = lafter();
    command.args(["describe", "--dry-run", "--classes"]).arg(&names).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let output = command.stdout(full).spawn().unwrap().wait_with_output().unwrap();
        refused(&output, 1, &["standard output"]);
    }
}

/// Nothing is asked where the answers could not be written, or would be written over what is read.
#[test]
fn outputs_that_cannot_be_are_refused_before_anything_is_asked() {
    let stub = Stub::default();
    let run = Run::new(&stub, "owl\n", &["--completions", "1"]);
    let path = |name: &str| run.path(name).display().to_string();
    let with = |options: &[&str]| {
        let mut command = lafter();
        command.args(["describe", "--endpoint", &stub.address, "--llm", "stub"]).args(options);
        command.output().unwrap()
    };
    std::fs::write(run.path("q.txt"), "Describe {}.\n").unwrap();
    let (names, queries) = (path("names.txt"), path("q.txt"));
    refused(&with(&["--classes", &names, "--out", &run.dir.path().display().to_string()]), 2, &["is a folder"]);
    refused(&with(&["--classes", &names, "--out", &names]), 2, &["names.txt", "overwritten"]);
    refused(&with(&["--classes", &names, "--queries", &queries, "--out", &queries]), 2, &["q.txt", "overwritten"]);
    refused(&with(&["--classes", &names, "--out", &path("x.json"), "--journal", &path("x.json")]), 2, &["overwritten"]);
    refused(&with(&["--classes", &names, "--out", &path("x.json"), "--journal", &names]), 2, &["overwritten"]);
    refused(&with(&["--classes", &names, "--out", &path("x.json"), "--journal", &queries]), 2, &["another kind"]);
    assert_eq!((stub.requests(), run.read("names.txt").as_str(), run.read("q.txt").as_str()), (0, "owl\n", "Describe {}.\n"));
}

#[test]
fn class_files_as_people_write_them() {
    let stub = Stub::default();
    let run = Run::new(&stub, "\u{feff}crane\r\n\r\nFlügel\r\n犬\r\n  \r\ncrane\r\n", &["--completions", "1"]);
    let output = run.run();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("left out: 2") && stderr.contains("repeat an earlier one: 1"), "{stderr}");
    // two classes of one name share the answers: 3 × 5 requests, not 4 × 5
    assert_eq!(stub.requests(), 15);
    let descriptions = Descriptions::read(run.path("texts.json")).unwrap();
    let sentences = descriptions.for_classes(&["crane", "Flügel", "犬", "crane"]).unwrap();
    assert!(sentences[0] == sentences[3] && sentences[1][0].contains("Flügel") && sentences[2][0].contains('犬'));

    let empty = Run::new(&stub, "\n\n", &[]);
    refused(&empty.run(), 1, &["holds no class names"]);
    let binary = Run::new(&stub, "", &[]);
    std::fs::write(binary.path("names.txt"), b"a\nb\xff\n").unwrap();
    refused(&binary.run(), 1, &["not UTF-8"]);
}

#[test]
fn dry_runs_files_and_random_words_ask_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("names.txt"), "river\nice field\n").unwrap();
    std::fs::write(
        path("texts.json"),
        r#"{"river": ["A river is blue. It winds.", "a river is blue! It winds", "."], "ice_field": ["\nIt is white\nand cold."]}"#,
    )
    .unwrap();
    let run = |extra: &[&str]| {
        let output = lafter().arg("describe").args(["--classes", &path("names.txt")]).args(extra).output().unwrap();
        (text(&output.stdout), output)
    };
    let (stdout, output) = run(&["--dry-run", "--domain", "satellite", "--completions", "3"]);
    assert!(output.status.success() && stdout.contains("Describe what an ice field looks like from a satellite."), "{stdout}");
    assert!(stdout.trim_end().ends_with("10 queries × 3 completions = 30 requests"), "{stdout}");
    let (stdout, _) = run(&["--dry-run", "--style", "cupl-full", "--domain", "satellite", "--json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((json["queries"].as_array().unwrap().len(), &json["requests"]), (6, &30.into()));
    let (stdout, _) = run(&["--dry-run", "--style", "meta"]);
    assert!(stdout.contains("some of its classes: river, ice field") && stdout.contains("1 request for the queries"), "{stdout}");

    let (stdout, output) = run(&["--from", &path("texts.json"), "--out", &path("clean.json")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stdout.contains("2 descriptions of 2 classes"), "{stdout}");
    let clean = std::fs::read_to_string(path("clean.json")).unwrap();
    assert!(clean.contains("\"A river is blue. It winds.\"") && clean.contains("\"It is white and cold.\""), "{clean}");
    // others wrote it: file and content are known, how it was drawn is not
    let trace = std::fs::read_to_string(path("clean.trace.jsonl")).unwrap();
    assert!(trace.contains("texts.json@") && trace.contains("\"settings\":null"), "{trace}");

    let (stdout, output) = run(&["--random-words", "7", "--out", &path("control.json")]);
    assert!(output.status.success() && stdout.contains("14 sentences"), "{stdout}");
    let control = Descriptions::read(path("control.json")).unwrap().for_classes(&["river", "ice field"]).unwrap();
    assert!(control[1].len() == 7 && control[1][0].starts_with("A photo of an ice field, which has "));

    for (words, extra) in [
        (&["nobody to ask", "--endpoint"][..], &["--out", "x.json"][..]),
        (&["--out"], &["--llm", "x"]),
        (&["--concurrency"], &["--out", &path("x.json"), "--concurrency", "0", "--from", &path("texts.json")]),
        (&["--concurrency", "1024"], &["--out", &path("x.json"), "--concurrency", "99999999999999999", "--from", &path("texts.json")]),
        (&["--completions", "100000000"], &["--dry-run", "--completions", "99999999999999"]),
        (&["--completions", "100000000"], &["--dry-run", "--completions", "9999999999999999999"]),
        (&["--about", "--style meta"], &["--dry-run", "--about", "garden tools"]),
        (&["--meta-queries", "--style meta"], &["--dry-run", "--style", "cupl-base", "--meta-queries", "3"]),
        (&["--completions", "--random-words"], &["--out", &path("x.json"), "--random-words", "3", "--completions", "2"]),
        (&["--style", "--from"], &["--out", &path("x.json"), "--from", &path("texts.json"), "--style", "meta"]),
        (&["--retries", "--endpoint"], &["--out", &path("x.json"), "--llm", "m", "--retries", "2"]),
        (&["--domain", "--queries"], &["--dry-run", "--domain", "bird", "--queries", &path("names.txt")]),
        (&["--meta-queries", "1000"], &["--dry-run", "--style", "meta", "--meta-queries", "999999999999999999"]),
        (&["--timeout", "86400"], &["--out", &path("x.json"), "--endpoint", "http://h", "--llm", "m", "--timeout", "1e300"]),
        (&["--omit", "max_tokens"], &["--dry-run", "--endpoint", "http://h", "--llm", "m", "--omit", "model"]),
        (&["--from", "--dry-run"], &["--dry-run", "--from", &path("texts.json")]),
        (&["--near"], &["--out", &path("x.json"), "--near", "1.5", "--from", &path("texts.json")]),
        (&["no domain \"moon\"", "satellite"], &["--dry-run", "--domain", "moon"]),
        (&["--top-p"], &["--dry-run", "--top-p", "1.5"]),
        (&["--temperature"], &["--dry-run", "--temperature", "-1"]),
        (&["--timeout"], &["--out", &path("x.json"), "--endpoint", "http://h", "--llm", "m", "--timeout", "-3"]),
        (&["--random-words"], &["--out", &path("x.json"), "--random-words", "0"]),
    ] {
        let (_, output) = run(extra);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{extra:?}: {stderr}");
    }
    let (_, output) = run(&["--from", &path("names.txt"), "--out", &path("x.json")]);
    assert_eq!(output.status.code(), Some(1));
}
