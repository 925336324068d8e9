//! Nothing lost: a run that is killed or interrupted again and again ends with the report and weights of one that was not.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    let mut command = crate::common::program();
    command.args(["run", "--model", "demo", "--train", "train", "--test", "test", "--out", out]);
    // a cache of its own: another would know the text classifier already
    command.arg("--cache").arg(format!("{out}-cache"));
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

/// Starts and stops a run, each time after a longer while, until one gets through; gives the number of stops. `step` is by how much longer.
fn stop_again_and_again(data: &Path, out: &str, step: Duration, stop: impl Fn(&mut Child)) -> usize {
    // texts need not be embedded again: only they are taken over
    let cache = data.join(format!("{out}-cache"));
    std::fs::create_dir_all(&cache).unwrap();
    for entry in std::fs::read_dir(data.join("whole-cache")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
    }
    for tries in 0..60 {
        let mut run = start(data, out, tries > 0 && data.join(out).exists());
        let end = Instant::now() + step * (tries + 1);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            if let Some(status) = run.try_wait().unwrap() {
                let message = std::io::read_to_string(run.stderr.take().unwrap()).unwrap();
                assert!(status.success(), "{message}");
                return tries as usize;
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
    let begun = Instant::now();
    let whole = start(data, "whole", false).wait_with_output().unwrap();
    let took = begun.elapsed();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let expected = results(data, "whole");
    assert!(expected.0.contains("broken.png"), "{}", expected.0);
    let report = || Report::load(data.join("whole/report.json")).unwrap();
    let images = report().images.unwrap();
    assert_eq!((images.train, images.test, images.skipped), (48, 24, 1));
    for (file, told) in [("index.html", "48 unlabeled images (1 could not be read)"), ("README.md", "48 pictures of train (unlabeled in")] {
        assert!(std::fs::read_to_string(data.join("whole").join(file)).unwrap().contains(told), "{file}");
    }
    // a run that is over has nothing left to do, says the same, and keeps the times that were measured
    let (timing, peak) = (report().timing, report().peak_rss_bytes);
    assert!(start(data, "whole", true).wait().unwrap().success());
    assert_eq!(report().timing, timing);
    assert!(report().peak_rss_bytes >= peak);
    assert!(results(data, "whole") == expected, "a finished run that is resumed ends otherwise");

    let kills = stop_again_and_again(data, "killed", took / 12, |run| run.kill().unwrap());
    assert!(kills > 0, "the run was over before it could be killed");
    assert!(results(data, "killed") == expected, "a killed run ends otherwise");

    #[cfg(unix)]
    for (signal, out, parts) in [(libc::SIGINT, "interrupted", 12), (libc::SIGTERM, "terminated", 6)] {
        let stop = |run: &mut Child| assert_eq!(unsafe { libc::kill(run.id() as i32, signal) }, 0);
        let stops = stop_again_and_again(data, out, took / parts, stop);
        assert!(stops > 0, "the run was over before it could be stopped");
        assert!(results(data, out) == expected, "{out}: it ends otherwise");
    }
    // nothing of a pass that is over stays
    for out in ["whole", "killed"] {
        let left: Vec<_> = std::fs::read_dir(data.join(out)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            !left.iter().any(|name| name.to_string_lossy().contains("partial") || name.to_string_lossy().ends_with(".tmp")),
            "{left:?}"
        );
    }
}

/// A command in the folder of the data, with a cache of its own.
#[cfg(unix)]
fn command(data: &Path, args: &[&str]) -> Command {
    let mut command = crate::common::program();
    command.args(args).current_dir(data).env("XDG_CACHE_HOME", data.join("xdg")).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // tests that `nohup` started hand on that SIGHUP is ignored
        let heeds_hangup = || {
            // SAFETY: the call is allowed between fork and exec.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: as above; it allocates nothing.
        unsafe { command.pre_exec(heeds_hangup) };
    }
    command
}

/// Whether rows of a pass are on disk, below `folder`.
#[cfg(unix)]
fn kept(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let holds = entry.metadata().is_ok_and(|data| data.is_dir() || data.len() > 0);
        ((name.starts_with("rows-") || name.starts_with("text-")) && holds) || (entry.path().is_dir() && kept(&entry.path()))
    })
}

/// Sends `signal` as soon as rows are kept; gives the status and what was said. Tried again where the command was faster.
#[cfg(unix)]
fn stopped(data: &Path, args: &[&str], folder: &Path, signal: i32) -> (Option<i32>, String) {
    for _ in 0..20 {
        let mut run = command(data, args).stdout(Stdio::null()).spawn().unwrap();
        while run.try_wait().unwrap().is_none() {
            if kept(folder) {
                unsafe { libc::kill(run.id() as i32, signal) };
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = run.wait_with_output().unwrap();
        if !output.status.success() {
            return (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    panic!("{args:?} was over before it could be stopped");
}

#[cfg(unix)]
#[test]
fn commands_that_were_stopped_go_on_when_they_are_repeated_and_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 24, 1);
    write_pictures(&data.join("test"), 600, 2);
    std::fs::write(data.join("test").join(&class_names()[0]).join("broken.png"), "no picture").unwrap();
    let run = [
        "run",
        "--model",
        "demo",
        "--train",
        "train",
        "--test",
        "test",
        "--out",
        "out",
        "--text-epochs",
        "2",
        "--epochs",
        "1",
        "--batch-size",
        "8",
    ];
    assert!(command(data, &run).status().unwrap().success());

    let classes = || class_names().into_iter().map(|class| data.join("test").join(class));
    let files = classes().flat_map(|class| std::fs::read_dir(class).unwrap().map(|entry| entry.unwrap().path()));
    let mut pictures: Vec<String> = files.map(|path| path.strip_prefix(data).unwrap().to_str().unwrap().to_string()).collect();
    pictures.retain(|path| !path.contains("broken"));
    let zero_shot = "zero-shot --model demo --test test --checkpoint-every 0";
    let evaluate = "evaluate --model demo --weights out/lafter.safetensors --test test --checkpoint-every 0";
    let predict = format!("predict --model demo --weights out/lafter.safetensors --checkpoint-every 0 {}", pictures.join(" "));
    let xdg = data.join("xdg/lafter/partial");
    for (line, signal, status) in [(zero_shot, libc::SIGTERM, 143), (evaluate, libc::SIGHUP, 129), (&predict, libc::SIGINT, 1)] {
        let args: Vec<&str> = line.split(' ').collect();
        let whole = command(data, &args).output().unwrap();
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        assert!(!kept(&xdg), "{}: rows of a pass that is over stay", args[0]);
        let (code, said) = stopped(data, &args, &xdg, signal);
        assert!(code == Some(status) && said.contains("repeat the command to go on"), "{code:?} {said}");
        let again = command(data, &args).output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(said.contains("were done before and are kept"), "{said}");
        assert!(again.status.success() && again.stdout == whole.stdout, "{}: it ends otherwise", args[0]);
        assert!(!kept(&xdg), "{}: rows of a pass that is over stay", args[0]);
    }

    // features: the rows lie next to the output, and a kill leaves what was saved
    std::fs::remove_file(data.join("test").join(&class_names()[0]).join("broken.png")).unwrap();
    let embed = |out: &str| format!("embed --model demo --images test --out {out}.safetensors --checkpoint-every 0");
    assert!(command(data, &embed("whole").split(' ').collect::<Vec<_>>()).status().unwrap().success());
    for (out, signal, status) in [("terminated", libc::SIGTERM, Some(143)), ("killed", libc::SIGKILL, None)] {
        let line = embed(out);
        let args: Vec<&str> = line.split(' ').collect();
        let file = |name: &str| data.join(format!("{name}.safetensors"));
        let partial = data.join(format!("{out}.safetensors.partial"));
        let (code, said) = stopped(data, &args, &partial, signal);
        assert_eq!(code, status, "{said}");
        assert!(kept(&partial) && !file(out).exists());
        let again = command(data, &args).output().unwrap();
        assert!(String::from_utf8_lossy(&again.stderr).contains("were done before and are kept"));
        assert!(std::fs::read(file(out)).unwrap() == std::fs::read(file("whole")).unwrap(), "{out}: other features");
        assert!(!partial.exists());
    }
    // texts
    let lines: String = (0..3000).map(|i| format!("a picture of {} and {} more {}\n", i % 977, i, "things ".repeat(i % 5))).collect();
    std::fs::write(data.join("texts.txt"), lines).unwrap();
    let texts = |out: &str| format!("embed --model demo --texts texts.txt --out {out}.safetensors --checkpoint-every 0");
    assert!(command(data, &texts("texts").split(' ').collect::<Vec<_>>()).status().unwrap().success());
    let line = texts("texts-stopped");
    let args: Vec<&str> = line.split(' ').collect();
    let (code, said) = stopped(data, &args, &data.join("texts-stopped.safetensors.partial"), libc::SIGTERM);
    assert!(code == Some(143) && said.contains("repeat the command to go on"), "{said}");
    assert!(command(data, &args).status().unwrap().success());
    assert!(
        std::fs::read(data.join("texts.safetensors")).unwrap() == std::fs::read(data.join("texts-stopped.safetensors")).unwrap(),
        "other features"
    );
    assert!(!data.join("texts-stopped.safetensors.partial").exists());
    // rows of other pictures are not taken up
    let line = embed("other");
    let args: Vec<&str> = line.split(' ').collect();
    stopped(data, &args, &data.join("other.safetensors.partial"), libc::SIGTERM);
    write_pictures(&data.join("test"), 601, 2);
    let again = command(data, &args).output().unwrap();
    assert!(again.status.success() && !String::from_utf8_lossy(&again.stderr).contains("are kept"));
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once_and_nohup_holds() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 24, 1);
    write_pictures(&data.join("test"), 24, 2);
    let send = |run: &Child, signal: i32| assert_eq!(unsafe { libc::kill(run.id() as i32, signal) }, 0);
    // a long run: many text epochs
    let run = ["run", "--model", "demo", "--train", "train", "--test", "test", "--out", "out", "--text-epochs", "1000000"];
    let mut first = command(data, &run).spawn().unwrap();
    while !data.join("out/images.json").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    send(&first, libc::SIGHUP);
    let message = std::io::read_to_string(first.stderr.take().unwrap()).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(129), "{message}");
    assert!(message.contains("--resume"), "{message}");

    let mut ignoring = Command::new("nohup");
    ignoring.arg(env!("CARGO_BIN_EXE_lafter")).args(run).current_dir(data).stdout(Stdio::null()).stderr(Stdio::null());
    let mut second = ignoring.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    send(&second, libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "nohup is not heeded");
    send(&second, libc::SIGTERM);
    send(&second, libc::SIGTERM);
    assert_eq!(second.wait().unwrap().code(), Some(143));

    // the second of two does not wait until all is saved, unless the processor gave it no turn
    let ended_at_once = |_| {
        let mut third = command(data, &run).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(600));
        send(&third, libc::SIGINT);
        send(&third, libc::SIGTERM);
        let message = std::io::read_to_string(third.stderr.take().unwrap()).unwrap();
        assert_eq!(third.wait().unwrap().code(), Some(143), "{message}");
        !message.contains("--resume")
    };
    assert!((0..5).any(ended_at_once));
}

#[test]
fn a_run_that_is_extended_is_not_over_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 12, 1);
    write_pictures(&data.join("test"), 12, 2);
    let run = |epochs: &str| {
        let line =
            "run --model demo --train train --test test --out out --text-epochs 2 --batch-size 8 --prompts 2 --eval-every 0 --resume";
        let mut command = crate::common::lafter(data, line);
        command.args(["--epochs", epochs]);
        command
    };
    let has = |name: &str| data.join("out").join(name).exists();
    let begun = run("1").output().unwrap();
    let said = String::from_utf8_lossy(&begun.stderr);
    assert!(begun.status.success() && said.contains("no run to resume: this one begins anew"), "{said}");
    let epochs = || std::fs::read_to_string(data.join("out/history.jsonl")).unwrap().lines().count();
    let mut longer = run("100000").spawn().unwrap();
    while epochs() < 2 {
        assert!(longer.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    longer.kill().unwrap();
    longer.wait().unwrap();
    assert!(has("report-before.json") && !has("report.json"));
    let shorter = run("1").output().unwrap();
    let said = String::from_utf8_lossy(&shorter.stderr);
    assert!(shorter.status.code() == Some(2) && said.contains("epochs are done or begun: give --epochs"), "{said}");
    let more = (epochs() + 2).to_string();
    assert!(run(&more).status().unwrap().success());
    assert!(has("report.json") && !has("report-before.json"));
    std::fs::remove_file(data.join("out/checkpoint.safetensors")).unwrap();
    let gone = run(&more).output().unwrap();
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(gone.status.code() == Some(1) && said.contains("nothing is left to go on from"), "{said}");
    assert!(has("report.json") && has("lafter.safetensors"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_costs_no_figures() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 12, 1);
    let line = "run --model demo --train train --out out --text-epochs 2 --epochs 1 --batch-size 8 --prompts 2";
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = crate::common::lafter(data, line).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(1) && said.contains("error: standard output: "), "{said}");
    assert!(["index.html", "README.md"].iter().all(|name| data.join("out").join(name).exists()), "{said}");
}

/// Sends a signal once `begun` says so, and gives the status and how long the end took.
#[cfg(unix)]
fn ends(data: &Path, line: &str, signal: i32, begun: impl Fn() -> bool) -> (Option<i32>, Duration) {
    let mut run = crate::common::lafter(data, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !begun() {
        assert!(run.try_wait().unwrap().is_none(), "{line} is over");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Instant::now();
    assert_eq!(unsafe { libc::kill(run.id() as i32, signal) }, 0);
    (run.wait().unwrap().code(), sent.elapsed())
}

#[cfg(unix)]
#[test]
fn rendered_pictures_are_all_there_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let out = data.join("made/scenes");
    let rendering = || {
        let hidden = std::fs::read_dir(&out).into_iter().flatten().flatten();
        hidden.into_iter().any(|hidden| std::fs::read_dir(hidden.path()).is_ok_and(|mut files| files.next().is_some()))
    };
    let line = |count: usize| format!("scenes --out made/scenes --count {count}");
    assert_eq!(ends(data, &line(100_000), libc::SIGTERM, rendering).0, Some(143));
    assert!(!out.exists());
    assert_eq!(ends(data, &line(100_000), libc::SIGKILL, rendering).0, None);
    assert!(std::fs::read_dir(&out).unwrap().all(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.')));
    let (ok, _, said) = crate::common::tried(data, &line(24));
    assert!(ok, "{said}");
    assert_eq!(Dataset::open(&out).unwrap().len(), 24);
}

#[cfg(unix)]
#[test]
fn pretraining_stops_at_once_also_before_its_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let (code, took) = ends(folder.path(), "pretrain-demo --out clip", libc::SIGTERM, || begun.elapsed() > Duration::from_secs(1));
    assert!(code == Some(143) && took < Duration::from_secs(8), "{code:?} {took:?}");
    assert!(!folder.path().join("clip").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_cannot_be_started_are_one_line_and_too_many_are_not_tried() {
    let run = |limits: &str, threads: &str| {
        let line = format!("{limits} exec '{}' settings", env!("CARGO_BIN_EXE_lafter"));
        let output = Command::new("sh").args(["-c", &line]).env("RAYON_NUM_THREADS", threads).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("ulimit -v 400000;", "250");
    assert!(code == Some(1) && said.starts_with("error: no threads could be started (") && said.lines().count() == 1, "{code:?} {said}");
    let (code, said) = run("", "100000");
    assert!(code == Some(0) && said.contains("note: RAYON_NUM_THREADS=100000"), "{code:?} {said}");
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_says_that_resume_goes_on_and_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    write_pictures(&data.join("train"), 24, 1);
    write_pictures(&data.join("test"), 24, 2);
    let run = "run --model demo --train train --test test --text-epochs 3 --epochs 1 --batch-size 8 --prompts 2 --checkpoint-every 0 --out";
    assert!(command(data, &format!("{run} whole").split(' ').collect::<Vec<_>>()).status().unwrap().success());
    // a file larger than the limit fails as on a full disk; the cache is warm
    let line = format!("ulimit -f 16; exec '{}' {run} full", env!("CARGO_BIN_EXE_lafter"));
    let mut limited = Command::new("sh");
    limited.args(["-c", &line]).current_dir(data).env("XDG_CACHE_HOME", data.join("xdg"));
    let full = limited.output().unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.ends_with("raise the limit of file sizes (ulimit -f), then --resume goes on"), "{said}");
    let resumed = command(data, &format!("{run} full --resume").split(' ').collect::<Vec<_>>()).output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert!(results(data, "full") == results(data, "whole"), "it ends otherwise");
}
