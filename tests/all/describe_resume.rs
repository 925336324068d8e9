//! `lafter describe` killed, interrupted or started twice: what was answered is in the journal and is not asked again.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use crate::llm_stub::run::{Run, refused, wait_for};
use crate::llm_stub::{Act, Stub};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn kill_9_in_the_middle_and_nothing_is_asked_twice() {
    const ANSWERED: usize = 23;
    let stub = Stub::start(|ask| if ask.number < ANSWERED { Act::Say(format!("A sentence about {}", ask.query)) } else { Act::Hang });
    let names: String = (0..12).map(|i| format!("thing {i}\n")).collect();
    let run = Run::new(&stub, &names, &["--completions", "1", "--concurrency", "4"]);
    let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let journal = run.path("texts.journal.jsonl");
    let lines = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    wait_for(|| lines() == ANSWERED && stub.requests() == ANSWERED + 4);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(!run.path("texts.json").exists());
    let first: HashMap<String, usize> = stub.answered();
    assert_eq!(first.len(), ANSWERED);
    // the process died while it wrote
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, [&whole[..], &whole[..50]].concat()).unwrap();

    stub.behave(|ask| Act::Say(format!("A sentence about {}", ask.query)));
    let stdout = run.good();
    assert!(stdout.contains(&format!("60 requests: {ANSWERED} known, {} answered, 0 unanswered", 60 - ANSWERED)), "{stdout}");
    let (asked, answered) = (stub.asked(), stub.answered());
    assert_eq!((answered.len(), lines()), (60, 60));
    assert!(answered.values().all(|n| *n == 1), "answered twice: {answered:?}");
    assert!(first.keys().all(|key| asked[key].0 == 1), "asked again though answered");
    // only the four that were in flight, whose answers never came
    assert_eq!(asked.values().filter(|(n, _)| *n == 2).count(), 4);
}

/// Killed again and again, whenever it happens to be: what is in the journal is never asked again, and nothing but what was
/// in flight at a kill is asked a second time.
#[test]
fn kill_9_at_any_moment() {
    const AT_ONCE: usize = 8;
    let stub = Stub::start(|ask| {
        let wait = Duration::from_millis(ask.number as u64 * 7919 % 40);
        Act::Slow(wait, format!("A sentence about {}", ask.query))
    });
    let names: String = (0..40).map(|i| format!("thing {i}\n")).collect();
    let run = Run::new(&stub, &names, &["--completions", "2", "--concurrency", "8"]);
    let journalled = || -> Vec<String> {
        let whole = std::fs::read_to_string(run.path("texts.journal.jsonl")).unwrap_or_default();
        let lines = whole.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let records = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.map(|r| format!("{}#{}", r["query"].as_str().unwrap(), 7777 + r["completion"].as_u64().unwrap())).collect()
    };
    let (mut kills, mut known) = (0, HashMap::new());
    for wait in [60, 310, 20, 170, 90, 230] {
        let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap(); // SIGKILL
        kills += usize::from(!child.wait().unwrap().success());
        let asked = stub.asked();
        for key in journalled() {
            let times = asked[&key].0;
            known.entry(key).or_insert(times);
        }
    }
    let before = known.len();
    run.good();
    let asked = stub.asked();
    println!("{kills} kills, {before} of 400 answers known before the last run, {} requests", stub.requests());
    assert!(known.iter().all(|(key, times)| asked[key].0 == *times), "asked again though it was in the journal");
    assert_eq!((asked.len(), journalled().len()), (400, 400));
    assert!(stub.requests() <= 400 + kills * AT_ONCE, "{} requests after {kills} kills", stub.requests());
}

#[test]
fn ctrl_c_stops_after_the_answers_in_flight_and_says_how_to_go_on() {
    let stub = Stub::start(|ask| Act::Slow(Duration::from_millis(150), format!("A sentence about {}", ask.query)));
    let names: String = (0..40).map(|i| format!("thing {i}\n")).collect();
    let run = Run::new(&stub, &names, &["--completions", "1", "--concurrency", "3"]);
    let child = run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(|| stub.requests() >= 6);
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    let line = refused(&output, 1, &["interrupted", "of 200 answers", "same command goes on"]);
    let lines = run.lines("texts.journal.jsonl").len();
    assert!(lines == stub.requests() && line.contains(&format!("{lines} of 200")), "{line}: {} requests", stub.requests());
    assert!(!run.path("texts.json").exists());
}

#[test]
fn what_a_killed_run_left_of_its_files_goes_and_nothing_else() {
    let run = Run::new(&Stub::default(), "owl\n", &[]);
    let half = |name: &str| run.path(&format!(".lafter-{:.8}-x.tmp", format!("{:x}", Sha256::digest(name))));
    let files = ["texts.json", "texts.trace.jsonl", "other.json"].map(half);
    files.iter().for_each(|file| std::fs::write(file, "half").unwrap());
    run.good();
    assert_eq!(files.map(|file| file.exists()), [false, false, true]);
}

#[test]
fn two_runs_cannot_share_a_journal() {
    let stub = Stub::start(|_| Act::Hang);
    let run = Run::new(&stub, "owl\n", &[]);
    let mut first = run.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| stub.requests() > 0);
    refused(&run.run(), 2, &["texts.journal.jsonl", "another process"]);
    first.kill().unwrap();
    first.wait().unwrap();
}
