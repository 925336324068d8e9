//! A run on several processes under `mpirun`: built with `--features mpi`, and asked for with `--ignored`, since a machine needs an MPI.
//!
//! `cargo test --features mpi --test all mpi:: -- --ignored`

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const RUN: &[&str] = &["run", "--model", "demo", "--limit-train", "60", "--limit-test", "40", "--cache-gib", "0", "--text-epochs", "5"];

/// `lafter run` on so many processes, each on one thread.
fn on(processes: &[&str], out: &Path, more: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_lafter");
    let mut command = match processes {
        [] => Command::new(program),
        processes => {
            let mut mpirun = Command::new("mpirun");
            mpirun.args(["--allow-run-as-root", "--oversubscribe"]).args(processes).arg(program);
            mpirun
        }
    };
    command.env("RAYON_NUM_THREADS", "1").args(RUN).arg("--out").arg(out).args(more);
    command.output().expect("mpirun is installed")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn report(out: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap()
}

fn losses(out: &Path) -> Vec<f64> {
    let history = std::fs::read_to_string(out.join("history.jsonl")).unwrap();
    history.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

#[test]
#[ignore = "needs mpirun"]
fn processes_end_as_one_does_and_go_on_in_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let epochs = ["--epochs", "4"];
    assert!(on(&[], &out("one"), &epochs).status.success());
    for (name, processes) in
        [("two", &["-n", "2"][..]), ("again", &["-n", "2"]), ("hosts", &["--host", "localhost:1,127.0.0.1:2", "-n", "3"])]
    {
        let output = on(processes, &out(name), &epochs);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).matches("parameters learned").count(), 1, "the first process alone speaks: {}", said(&output));
        let (ours, whole) = (losses(&out(name)), losses(&out("one")));
        assert!(ours.len() == 4 && ours.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {ours:?}, {whole:?}");
        let top1 = |name: &str| report(&out(name))["lafter"]["top1"].clone();
        assert_eq!(top1(name), top1("one"));
    }
    assert_eq!(losses(&out("two")), losses(&out("again")));
    let weights = |name: &str| std::fs::read(out(name).join("lafter.safetensors")).unwrap();
    assert!(weights("two") == weights("again"));

    assert!(on(&["-n", "2"], &out("other"), &["--epochs", "2"]).status.success());
    let output = on(&["-n", "3"], &out("other"), &["--epochs", "4", "--resume"]);
    assert!(output.status.success() && said(&output).contains("resumed after epoch 2"), "{}", said(&output));
    assert!(losses(&out("other")).iter().zip(losses(&out("one"))).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
#[ignore = "needs mpirun"]
fn what_fails_is_said_and_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let output = on(&["-n", "2"], folder.path(), &["--set", "tune.batch_size=0"]);
    let said = said(&output);
    assert!(!output.status.success() && said.matches("batch size must be at least 1").count() == 1, "{said}");
}
