//! Nothing lost: a run that is killed or interrupted again and again ends with the report and weights of one that was not.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, class_names};
use lafter::eval::Report;

/// One folder a class with rendered pictures.
fn write_pictures(folder: &Path, count: usize, seed: u64) {
    let scenes = Dataset::new(Scenes::new(Domain::Target, count, seed));
    for index in 0..count {
        let class = folder.join(&class_names()[scenes.label(index).unwrap()]);
        std::fs::create_dir_all(&class).unwrap();
        scenes.image(index).unwrap().save(class.join(format!("{index}.png"))).unwrap();
    }
}

fn start(data: &Path, out: &str, resume: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lafter"));
    command.args(["run", "--model", "demo", "--train", "train", "--test", "test", "--out", out, "--cache", "cache"]);
    command.args(["--text-epochs", "60", "--epochs", "3", "--batch-size", "8", "--prompts", "2", "--checkpoint-every", "0"]);
    if resume {
        command.arg("--resume");
    }
    command.current_dir(data).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Report without timings, and the saved weights.
fn results(data: &Path, out: &str) -> (String, Vec<u8>) {
    let report = Report::load(data.join(out).join("report.json")).unwrap();
    (report.without_timing().to_json().unwrap(), std::fs::read(data.join(out).join("lafter.safetensors")).unwrap())
}

/// Starts and stops a run, each time after a longer while, until one gets through; gives the number of stops.
fn stop_again_and_again(data: &Path, out: &str, stop: impl Fn(&mut Child)) -> usize {
    for tries in 0..60 {
        let mut run = start(data, out, tries > 0 && data.join(out).exists());
        for _ in 0..(10 + 6 * tries) {
            std::thread::sleep(Duration::from_millis(20));
            if let Some(status) = run.try_wait().unwrap() {
                let message = std::io::read_to_string(run.stderr.take().unwrap()).unwrap();
                assert!(status.success(), "{message}");
                return tries;
            }
        }
        stop(&mut run);
        run.wait().unwrap();
    }
    panic!("sixty runs and no end");
}

#[test]
fn a_run_killed_or_interrupted_at_any_moment_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 48, 1);
    write_pictures(&data.join("test"), 24, 2);
    // the report names what could not be read, whichever of the runs met it
    std::fs::write(data.join("train").join(&class_names()[0]).join("broken.png"), "no picture").unwrap();
    let whole = start(data, "whole", false).wait_with_output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let expected = results(data, "whole");
    assert!(expected.0.contains("broken.png"), "{}", expected.0);
    // a run that is over has nothing left to do, and says the same
    assert!(start(data, "whole", true).wait().unwrap().success());
    assert!(results(data, "whole") == expected, "a finished run that is resumed ends otherwise");

    let kills = stop_again_and_again(data, "killed", |run| run.kill().unwrap());
    assert!(kills > 0, "the run was over before it could be killed");
    assert!(results(data, "killed") == expected, "a killed run ends otherwise");

    #[cfg(unix)]
    {
        let interrupt = |run: &mut Child| assert_eq!(unsafe { libc::kill(run.id() as i32, libc::SIGINT) }, 0);
        let interrupts = stop_again_and_again(data, "interrupted", interrupt);
        assert!(interrupts > 0, "the run was over before it could be interrupted");
        assert!(results(data, "interrupted") == expected, "an interrupted run ends otherwise");
    }
}

#[test]
fn nothing_to_resume_is_one_line_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(&folder.path().join("train"), 12, 1);
    write_pictures(&folder.path().join("test"), 12, 2);
    let run = start(folder.path(), "nowhere", true).wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{message}");
    assert!(message.contains("no run to resume") && message.contains("--out"), "{message}");
}
