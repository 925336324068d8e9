//! A run on several processes under `mpirun`: built with `--features mpi`, and asked for with `--ignored`, since a machine needs an MPI.
//!
//! `cargo test --features mpi --test all mpi:: -- --ignored`

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

const RUN: &[&str] = &["run", "--model", "demo", "--limit-train", "60", "--limit-test", "40", "--cache-gib", "0", "--text-epochs", "5"];

/// A command on so many processes, each on one thread; `[]` is one without a launcher.
fn command(processes: &[&str], arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_lafter");
    let mut command = match processes {
        [] => Command::new(program),
        processes => {
            let mut mpirun = Command::new("mpirun");
            mpirun.args(["--allow-run-as-root", "--oversubscribe"]).args(processes).arg(program);
            mpirun
        }
    };
    command.env("RAYON_NUM_THREADS", "1").args(arguments);
    command
}

/// `lafter run` on so many processes.
fn on(processes: &[&str], out: &Path, more: &[&str]) -> Output {
    command(processes, RUN).arg("--out").arg(out).args(more).output().expect("mpirun is installed")
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

/// The processes that another one started, in the order of their numbers.
fn started_by(parent: u32) -> Vec<u32> {
    let stat = |process: &u32| std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let is_child = |process: &u32| {
        let stat = stat(process);
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_string()).unwrap_or_default();
        rest.split(' ').nth(1) == Some(&parent.to_string())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> = all.filter(is_child).collect();
    children.sort_unstable();
    children
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs mpirun"]
fn a_process_that_is_killed_ends_the_job_with_what_to_do_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let epochs = ["--epochs", "4", "--checkpoint-every", "0"];
    assert!(on(&[], &out("one"), &epochs).status.success());
    for victim in [0, 2] {
        let out = out(&format!("killed-{victim}"));
        let mut run = command(&["-n", "3"], RUN);
        run.arg("--out").arg(&out).args(epochs).stdout(Stdio::null()).stderr(Stdio::piped());
        let run = run.spawn().expect("mpirun is installed");
        while std::fs::metadata(out.join("history.jsonl")).map_or(0, |file| file.len()) == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let killed = started_by(run.id())[victim];
        assert!(Command::new("kill").args(["-KILL", &killed.to_string()]).status().unwrap().success());
        let said = said(&run.wait_with_output().unwrap());
        let word = format!("error: process {victim} ended before the work was done, so all end: repeat the command with --resume");
        assert!(said.matches(&word).count() == 1 && !out.join("report.json").exists(), "{said}");
        let output = on(&["-n", "2"], &out, &[&epochs[..], &["--resume"]].concat());
        assert!(output.status.success() && self::said(&output).contains("resumed after epoch"), "{}", self::said(&output));
        let (ours, whole) = (losses(&out), losses(&folder.path().join("one")));
        assert!(ours.len() == 4 && ours.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?}, {whole:?}");
    }
}

#[test]
#[ignore = "needs mpirun"]
fn predict_gives_the_table_of_one_process_and_the_other_commands_are_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = |processes: &[&str], arguments: &[&str]| command(processes, arguments).output().expect("mpirun is installed");
    let output = run(&["-n", "2"], &["scenes", "--count", "70", "--out", &path("pictures")]);
    assert!(output.status.success() && said(&output).matches("is not shared among processes").count() == 1, "{}", said(&output));
    std::fs::write(path("names.txt"), "fish\nhouse\ntree\n").unwrap();
    let predict = ["predict", "--model", "demo", "--classes", &path("names.txt"), &path("pictures")];
    for more in [&[][..], &["--transduct", "stata"], &["--adapt", "zero", "--adapt-batch", "8"], &["--adapt", "tent"]] {
        let table = |name: &str, processes: &[&str]| {
            let output = run(processes, &[&predict[..], more, &["--out", &path(name)]].concat());
            assert!(output.status.success() && said(&output).matches("answers written to").count() == 1, "{}", said(&output));
            std::fs::read_to_string(path(name)).unwrap()
        };
        assert_eq!(table("one.csv", &[]), table("three.csv", &["-n", "3"]), "{more:?}");
    }
    let output = run(&["-n", "2"], &["ablate", "--model", "demo", "--vary", "text.noise=0,1", "--out", &path("study")]);
    assert!(!output.status.success() && said(&output).matches("--shard").count() == 1, "{}", said(&output));
}

/// Processes that were started with other files, as on hosts with disks of their own.
#[test]
#[ignore = "needs mpirun"]
fn processes_with_other_weights_or_pictures_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let alone = |arguments: &[&str]| {
        let output = command(&[], arguments).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    alone(&["scenes", "--count", "20", "--out", &path("a")]);
    alone(&["scenes", "--count", "21", "--out", &path("b")]);
    for seed in ["1", "2"] {
        alone(&[
            "run",
            "--model",
            "demo",
            "--limit-train",
            "20",
            "--limit-test",
            "20",
            "--epochs",
            "0",
            "--seed",
            seed,
            "--out",
            &path(seed),
        ]);
    }
    let line = |weights: &str, test: &str| -> Vec<String> {
        let weights = path(&format!("{weights}/lafter.safetensors"));
        ["evaluate", "--model", "demo", "--weights", &weights, "--test", &path(test)].map(String::from).to_vec()
    };
    for (other, what) in [(line("2", "a"), "classes, texts or weights"), (line("1", "b"), "pictures")] {
        let first = line("1", "a");
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let more = [":", "-n", "1", env!("CARGO_BIN_EXE_lafter")].into_iter().chain(other.iter().map(String::as_str));
        let output = command(&["-n", "1"], &first).args(more).output().expect("mpirun is installed");
        let word = format!("process 1 has other {what} than the first");
        assert!(!output.status.success() && said(&output).matches(&word).count() == 1, "{}", said(&output));
    }
    alone(&["scenes", "--count", "20", "--flat", "--out", &path("flat")]);
    // one unreadable picture ends it with status 1, after the table
    std::fs::write(folder.path().join("flat/broken.png"), "no picture").unwrap();
    std::fs::write(path("names.txt"), "fish\nhouse\n").unwrap();
    let table = path("table.csv");
    let output = command(&["-n", "2"], &["predict", "--model", "demo", "--classes", &path("names.txt"), &path("flat"), "--out", &table])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(table).unwrap().lines().count(), 21, "{}", said(&output));
}
