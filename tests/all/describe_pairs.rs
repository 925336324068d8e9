//! `lafter describe --pairs-from`: both classes of a confused pair are asked about, once, and the texts grow.

use crate::llm_stub::run::{Run, refused};
use crate::llm_stub::{Act, Stub};
use serde_json::Value;

const NAMES: &str = "cat\ndog\nowl\n";

/// Cats and dogs are confused twice, dogs and owls once.
const TABLE: &str = "picture,class,probability,runner_up,margin,zero_shot,text_classifier,changed
1.png,cat,0.45,dog,0.05,,,
2.png,dog,0.43,cat,0.02,,,
3.png,dog,0.46,owl,0.02,,,
4.png,unknown,0.4,owl,0.01,,,
5.png,cat,0.8,dog,0.7,,,
";

fn answer(query: &str) -> Act {
    let own = if query.contains("beginning with \"cat\"") { "cat" } else { "dog" };
    let other = if own == "cat" { "dog" } else { "cat" };
    Act::Say(format!(
        "1. The {own} has a tail that it holds high.\n2. Unlike a {other}, the {own} is seen on trees.\n3. A {own} seen before."
    ))
}

#[test]
fn a_confused_pair_is_asked_once_and_its_texts_stand_behind_the_old_ones() {
    let stub = Stub::start(|ask| answer(&ask.query));
    let run = Run::new(&stub, NAMES, &["--pairs-from", "T", "--texts", "O", "--completions", "1"]);
    let (table, old) = (run.path("table.csv"), run.path("old.json"));
    std::fs::write(&table, TABLE).unwrap();
    std::fs::write(&old, r#"{"cat": ["A cat seen before."], "dog": ["A dog barks."], "owl": ["An owl turns its head."]}"#).unwrap();
    let with = |old: &std::path::Path, out: &str| {
        let mut command = crate::llm_stub::run::lafter();
        command.arg("describe").arg("--classes").arg(run.path("names.txt")).arg("--out").arg(run.path(out));
        command.args(["--endpoint", &run.address, "--llm", "stub", "--completions", "1"]).arg("--pairs-from").arg(&table);
        command.arg("--texts").arg(old).stdin(std::process::Stdio::null());
        command
    };
    let first = with(&old, "texts.json").output().unwrap();
    assert!(first.status.success(), "{}", crate::llm_stub::run::text(&first.stderr));
    let said = crate::llm_stub::run::text(&first.stderr);
    assert!(said.contains("cat – dog (2 of the pictures)"), "{said}");
    assert!(said.contains("no class is known of 1 of 4 confused pictures") && said.contains("--threshold"), "{said}");
    let asked: Vec<String> = stub.asked().into_keys().collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|query| query.contains("- A cat seen before.")), "{asked:?}");
    let texts: Value = serde_json::from_str(&run.read("texts.json")).unwrap();
    assert_eq!(texts["cat"], serde_json::json!(["A cat seen before.", "The cat has a tail that it holds high."]));
    assert_eq!(texts["dog"], serde_json::json!(["A dog barks.", "The dog has a tail that it holds high.", "A dog seen before."]));
    assert_eq!(texts["owl"], serde_json::json!(["An owl turns its head."]));
    let counts = crate::llm_stub::run::text(&first.stdout);
    assert!(counts.contains("dropped: names the other class"), "{counts}");

    // the same command asks nothing again, and writes the same
    let again = with(&old, "texts.json").output().unwrap();
    assert!(again.status.success() && stub.requests() == 2);
    assert_eq!(serde_json::from_str::<Value>(&run.read("texts.json")).unwrap(), texts);
    // a second round on these texts goes on to the next pair, and a third has nothing left
    let second = with(&run.path("texts.json"), "second.json").output().unwrap();
    let said = crate::llm_stub::run::text(&second.stderr);
    assert!(second.status.success() && said.contains("dog – owl (1 of the pictures)"), "{said}");
    assert_eq!(run.read("second.pairs.jsonl").lines().count(), 2);
    refused(&with(&run.path("second.json"), "third.json").output().unwrap(), 2, &["no pair of classes that was not asked about before"]);
}

#[test]
fn what_cannot_work_is_refused_and_a_dry_run_asks_nothing() {
    let stub = Stub::start(|ask| answer(&ask.query));
    let run = Run::new(&stub, "cat\ndog\n", &[]);
    let table = run.path("table.csv");
    std::fs::write(&table, TABLE).unwrap();
    let table = table.display().to_string();
    let with = |extra: &[&str]| {
        let mut command = run.command();
        command.args(["--pairs-from", &table]).args(extra);
        command.output().unwrap()
    };
    refused(&with(&[]), 1, &["owl", "--classes"]);
    std::fs::write(run.path("names.txt"), NAMES).unwrap();
    refused(&with(&["--journal", &run.path("texts.pairs.jsonl").display().to_string()]), 2, &["texts.pairs.jsonl", "overwritten"]);
    let onto = run.command().arg("--pairs-from").arg(run.path("texts.trace.jsonl")).output().unwrap();
    refused(&onto, 2, &["texts.trace.jsonl", "overwritten"]);
    refused(&with(&["--pair-margin", "0"]), 2, &["--pair-margin"]);
    refused(&with(&["--pair-margin", "0.001"]), 2, &["no pair of classes"]);
    refused(&with(&["--pair-margin", "0.015"]), 2, &["of 1 of 1 confused pictures", "without --threshold"]);
    let dry = with(&["--dry-run"]);
    let said = crate::llm_stub::run::text(&dry.stdout);
    assert!(dry.status.success() && said.contains("not in one of \"dog\"") && said.contains("2 queries × 5 completions"), "{said}");
    assert_eq!(stub.requests(), 0);
}
