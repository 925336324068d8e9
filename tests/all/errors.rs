//! Bad input through the real command: one line with the remedy on standard error, exit status 1 or 2, nothing written half.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};
use lafter::pretrain::{PretrainConfig, demo};
use tempfile::TempDir;

fn lafter(args: &[&str]) -> Output {
    crate::common::program().args(args).env("XDG_CACHE_HOME", scratch()).output().unwrap()
}

fn scratch() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// A CLIP directory in transformers' layout, made once by the crate's own trainer (two steps: it only has to load).
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = scratch().join("model");
        let config = PretrainConfig { steps: 2, batch_size: 4, scenes: 8, test_scenes: 12, ..PretrainConfig::demo() };
        demo(&config, &path, |_| {}).unwrap();
        path
    })
}

/// A copy of the model to spoil.
fn spoiled(name: &str, spoil: impl FnOnce(&Path)) -> String {
    let path = scratch().join(name);
    std::fs::create_dir_all(&path).unwrap();
    for entry in std::fs::read_dir(model()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    spoil(&path);
    path.display().to_string()
}

/// A class folder data set of `n` small pictures a class.
fn pictures(name: &str, n: usize) -> PathBuf {
    let path = scratch().join(name);
    for (c, class) in ["house", "fish"].iter().enumerate() {
        std::fs::create_dir_all(path.join(class)).unwrap();
        for i in 0..n {
            let shade = (40 * c + 5 * i) as u8;
            RgbImage::from_pixel(20, 24, Rgb([shade, 255 - shade, 90])).save(path.join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    path
}

/// Fails with this status and one line that holds every one of `words`.
fn refused(status: i32, words: &[&str], args: &[&str]) {
    let output = lafter(args);
    let stderr = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} printed a result: {}", String::from_utf8_lossy(&output.stdout));
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "{args:?}: \"{}\" does not say \"{word}\"", errors[0]);
    }
}

fn short_run<'a>(model: &'a str, data: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        "--model",
        model,
        "--train",
        data,
        "--test",
        data,
        "--out",
        out,
        "--text-epochs",
        "5",
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--prompts",
        "2",
    ]
}

#[test]
fn spoiled_models_are_refused() {
    let data = pictures("plain", 4).display().to_string();
    let zero_shot = |model: &str, words: &[&str]| refused(1, words, &["zero-shot", "--model", model, "--test", &data]);
    let missing = spoiled("no-weights", |path| std::fs::remove_file(path.join("model.safetensors")).unwrap());
    zero_shot(&missing, &["model.safetensors"]);
    let cut = spoiled("cut-weights", |path| {
        let file = path.join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    });
    zero_shot(&cut, &["model.safetensors"]);
    let contradicting = spoiled("other-config", |path| {
        let file = path.join("config.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let width = json["vision_config"]["hidden_size"].as_u64().unwrap();
        json["vision_config"]["hidden_size"] = (2 * width).into();
        std::fs::write(&file, json.to_string()).unwrap();
    });
    zero_shot(&contradicting, &["config"]);
    let endless = spoiled("no-end-of-text", |path| {
        let file = path.join("tokenizer.json");
        let text = std::fs::read_to_string(&file).unwrap().replace("<|endoftext|>", "<|middleoftext|>");
        std::fs::write(&file, text).unwrap();
    });
    zero_shot(&endless, &["<|endoftext|>"]);
    let nonsense = spoiled("no-json", |path| std::fs::write(path.join("config.json"), "{ \"model_type\": ").unwrap());
    zero_shot(&nonsense, &["config.json", "JSON"]);
    refused(2, &["--model ./nowhere: no such directory"], &["zero-shot", "--model", "./nowhere", "--test", &data]);
}

#[test]
fn spoiled_data_are_refused() {
    let model = model().display().to_string();
    let good = pictures("good", 4).display().to_string();
    let test = |data: &str, words: &[&str]| refused(1, words, &["zero-shot", "--model", &model, "--test", data]);
    let empty = pictures("with-empty-class", 2);
    std::fs::create_dir(empty.join("nothing-here")).unwrap();
    test(&empty.display().to_string(), &["nothing-here"]);
    test("./no-such-folder", &["no-such-folder"]);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data");
    test(&fixtures.join("no_images.parquet").display().to_string(), &["image"]);
    let shard = scratch().join("0.tar");
    std::fs::write(&shard, "hello").unwrap();
    test(&shard.display().to_string(), &["0.tar", "not a whole tar archive", "fetch it again"]);
    test(&scratch().join("{0..2}.tar").display().to_string(), &["2 of 3 shards are not there", "1.tar"]);
    let unknown = scratch().join("unknown.json");
    std::fs::write(&unknown, r#"{ "fish": ["A fish swims."], "hous": ["A house has a roof."] }"#).unwrap();
    let out = scratch().join("never").display().to_string();
    let mut args = short_run(&model, &good, &out);
    let unknown = unknown.display().to_string();
    args.extend(["--descriptions", &unknown]);
    refused(1, &["hous"], &args);
    assert!(!Path::new(&out).join("report.json").exists());
}

#[test]
fn a_few_unreadable_pictures_are_skipped_and_counted_and_many_end_the_run() {
    let model = model().display().to_string();
    let data = pictures("some-broken", 30);
    std::fs::write(data.join("fish").join("broken.png"), b"not a picture").unwrap();
    let (text, out) = (data.display().to_string(), scratch().join("some-broken-out"));
    let out_text = out.display().to_string();
    let output = lafter(&short_run(&model, &text, &out_text));
    let stderr = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("broken.png"), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["images"]["skipped"], 1, "{}", report["images"]);
    for i in 0..10 {
        std::fs::write(data.join("fish").join(format!("broken{i}.png")), b"not a picture").unwrap();
    }
    refused(1, &["cannot be read", "5 %"], &["zero-shot", "--model", &model, "--test", &text]);
}

#[test]
fn a_saved_file_is_refused_by_another_model_and_kept_when_the_disk_is_full() {
    let name = model().display().to_string();
    let data = pictures("adapter", 6).display().to_string();
    let out = scratch().join("adapter-out");
    let out_text = out.display().to_string();
    let output = lafter(&short_run(&name, &data, &out_text));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let weights = out.join("lafter.safetensors").display().to_string();
    let picture = Path::new(&data).join("fish").join("0.png").display().to_string();
    let output = lafter(&["predict", "--model", &name, "--weights", &weights, &picture]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("fish"));
    refused(1, &["base model"], &["predict", "--model", "demo", "--weights", &weights, &picture]);
    let plain = model().join("model.safetensors").display().to_string();
    refused(1, &["no LaFTer weights"], &["predict", "--model", &name, "--weights", &plain, &picture]);
    // a value that is not finite is named, by every command that reads the file
    let (mut tensors, metadata) = lafter::clip::read_tensors(&weights, &candle_core::Device::Cpu).unwrap();
    let nan = tensors["head.0.weight"].affine(f64::NAN, 0.0).unwrap();
    tensors.insert("head.0.weight".into(), nan);
    let spoiled = scratch().join("spoiled.safetensors").display().to_string();
    lafter::clip::save_tensors(&spoiled, &tensors.into_iter().collect::<Vec<_>>(), metadata).unwrap();
    for rest in [["--json", &picture], ["--top", "3"]] {
        let args = [&["predict", "--model", &name, "--weights", &spoiled, &picture][..], &rest[..]].concat();
        refused(1, &["head.0.weight", "not finite", "spoiled"], &args);
    }
    refused(1, &["head.0.weight", "not finite"], &["evaluate", "--model", &name, "--weights", &spoiled, "--test", &data]);

    #[cfg(unix)]
    {
        // a file-size limit of 8 blocks stands for a full disk: writes fail, the older results stay whole
        let before = std::fs::read(&weights).unwrap();
        let args: Vec<String> = short_run(&name, &data, &out_text).iter().map(|arg| format!("'{arg}'")).collect();
        let script = format!("trap '' XFSZ; ulimit -f 8; exec '{}' {} --seed 5", env!("CARGO_BIN_EXE_lafter"), args.join(" "));
        let output = Command::new("sh").args(["-c", &script]).env("XDG_CACHE_HOME", scratch()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
        let older = std::fs::read(out.join("previous/lafter.safetensors")).unwrap(); // where a new run puts the run before
        assert_eq!(older, before, "the older file must stay whole");
        let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("tmp")), "{left:?}");
    }
}

#[test]
fn bad_usage_is_status_2() {
    let output = lafter(&["run", "--nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    refused(2, &["expected cpu"], &["demo", "--device", "tpu"]);
    refused(2, &["--noises"], &["ablate", "--model", "demo", "--paper", "--noise", "0.3"]);
    for (grid, factor) in [("--paper", "tune.epochs=1,2"), ("--paper", "tune.augment=true,false"), ("--methods", "text.epochs=0,5")] {
        refused(2, &["would undo what", grid], &["ablate", "--model", "demo", grid, "--vary", factor]);
    }
    refused(2, &["--methods", "leave it out"], &["ablate", "--model", "demo", "--methods", "--set", "tune.temperature=0.5"]);
    #[cfg(not(feature = "cuda"))]
    refused(2, &["no CUDA"], &["demo", "--device", "cuda"]);
    let data = pictures("usage", 2).display().to_string();
    let out = scratch().join("usage-out").display().to_string();
    let name = model().display().to_string();
    let mut args = short_run(&name, &data, &out);
    args.extend(["--noise", "-1"]);
    refused(2, &["noise"], &args);
    // options that would have no effect
    let mut args = short_run(&name, &data, &out);
    args.extend(["--label-column", "species"]);
    refused(2, &["--label-column species", "no column"], &args);
    refused(2, &["--label-column species"], &["zero-shot", "--model", &name, "--test", &data, "--label-column", "species"]);
    refused(2, &["--model ", "revision v1", "leave it out"], &["zero-shot", "--model", &name, "--revision", "v1", "--test", &data]);
    refused(2, &["--classes", "--train"], &["run", "--model", "demo", "--classes", "names.txt", "--out", &out]);
    for option in [["--split", "split.json"], ["--label-column", "species"]] {
        let args = [&["predict", "--model", "demo", "--weights", "w.safetensors", &data, &data][..], &option].concat();
        refused(2, &[option[0], "one data set"], &args);
    }
    for option in [&["--license", "mit"][..], &["--half"], &["--pictures"]] {
        let args = [&["export", "--model", "demo", "--weights", "w.safetensors", "--merge", &out][..], option].concat();
        refused(2, &[option[0], "--merge"], &args);
    }
    refused(2, &["--merge needs --weights"], &["export", "--model", "demo", "--classes", "names.txt", "--merge", &out]);
    refused(2, &["required"], &["ablate", "--model", "demo", "--vary", "text.noise=0,1", "--noises", "0.3"]);
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let path = |name: &str| scratch().join(name).display().to_string();
    let (names, table, features) = (path("read.csv"), path("read.jsonl"), path("read.safetensors"));
    [&names, &table, &features].into_iter().for_each(|file| std::fs::write(file, "as it was").unwrap());
    let spelled = path("./read.csv");
    for args in [
        &["predict", "--model", "demo", "--classes", &names, ".", "--out", &spelled][..],
        &["predict", "--model", "demo", "--classes", "n.txt", &table, "--out", &table],
        &["embed", "--model", "demo", "--texts", &names, "--out", &spelled],
        &["embed", "--model", "demo", "--images", &features, "--out", &features],
        &["transduct", "--features", &features, "--texts", "t", "--classes", "n", "--answers", &features],
        &["export", "--model", "demo", "--weights", &features, "--out", &features],
        &["import", "--model", "demo", "--state", &features, "--classes", &names, "--out", &features],
    ] {
        refused(2, &["would be overwritten"], args);
    }
    // what lies in a folder that is read, and one name for two files
    let (folder, picture) = (path("read"), path("read/a.png"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&picture, "as it was").unwrap();
    for args in [
        &["embed", "--model", "demo", "--images", &folder, "--out", &picture][..],
        &["check", "--model", "demo", "--train", &folder, "--sheet", &picture],
        &["export", "--model", &folder, "--classes", &names, "--out", &picture],
        &["import", "--model", &folder, "--state", &features, "--classes", &names, "--out", &picture],
    ] {
        refused(2, &["would be overwritten", &folder], args);
    }
    let twice = ["transduct", "--features", "f", "--texts", "t", "--classes", "n", "--out", "a.csv", "--answers", "./a.csv"];
    refused(2, &["written twice"], &twice);
    // a name that says another kind of file
    for args in [
        &["embed", "--model", "demo", "--texts", &names, "--out", "new.npy"][..],
        &["transduct", "--features", "f", "--texts", "t", "--classes", "n", "--answers", "new.npy"],
        &["import", "--model", "demo", "--state", &features, "--classes", &names, "--out", "new.pt"],
    ] {
        refused(2, &["new.", "end its name in .safetensors"], args);
    }
    let args = ["export", "--model", "demo", "--classes", &names, "--out", "new.safetensors"];
    refused(2, &["new.safetensors: the file is an ONNX file: end its name in .onnx"], &args);
    for file in [names, table, features, picture] {
        assert_eq!(std::fs::read_to_string(file).unwrap(), "as it was");
    }
}

#[test]
fn a_path_that_leads_nowhere_has_a_remedy() {
    let none = scratch().join("nowhere").display().to_string();
    refused(2, &[&none, "holds no report.json", "--run takes"], &["card", "--run", &none]);
    refused(1, &[&none, "check the path"], &["export", "--model", "demo", "--weights", &none, "--out", "n.onnx"]);
    refused(1, &[&none, "check the path"], &["check", "--model", "demo", "--classes", &none]);
}

#[test]
fn an_empty_license_is_none() {
    let (names, out) = (scratch().join("two.txt"), scratch().join("two.onnx").display().to_string());
    std::fs::write(&names, "cat\ndog\n").unwrap();
    let (model, names) = (model().display().to_string(), names.display().to_string());
    let output = lafter(&["export", "--model", &model, "--classes", &names, "--out", &out, "--license", ""]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("license of the base model is not stated"), "{said}");
}

/// Each command that takes class names says how it understood them.
#[test]
fn a_title_above_class_names_is_told_by_every_command() {
    let path = |name: &str| scratch().join(name).display().to_string();
    let (titled, folder, picture, out) = (path("titled.txt"), path("one"), path("one/titled.png"), path("titled.out.safetensors"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&titled, "label\nsticker\nribbon\n").unwrap();
    image::RgbImage::new(32, 32).save(&picture).unwrap();
    for args in [
        &["predict", "--model", "demo", "--classes", &titled, &picture][..],
        &["predict", "--model", "demo", "--classes", &titled, "--transduct", "stata", &picture],
        &["export", "--model", "demo", "--classes", &titled, "--out", &path("titled.onnx")],
        &["check", "--model", "demo", "--classes", &titled],
        &["embed", "--model", "demo", "--images", &folder, "--classes", &titled, "--out", &out],
    ] {
        let output = lafter(args);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("\"label\" is taken as a title"), "{args:?}: {said}");
        assert_eq!(said.contains("a photo of a sticker"), args[0] == "predict", "{args:?}: {said}");
    }
}

/// What a CLIP does not read is told, also where it makes two classes one.
#[test]
fn prompts_that_are_cut_are_told() {
    let path = |name: &str| scratch().join(name).display().to_string();
    let (names, picture) = (path("long.txt"), path("long.png"));
    let long = "a thing with a very long description ".repeat(12);
    std::fs::write(&names, format!("{long}cat\n{long}dog\nboat\n")).unwrap();
    image::RgbImage::new(32, 32).save(&picture).unwrap();
    for args in [
        &["predict", "--model", "demo", "--classes", &names, &picture][..],
        &["export", "--model", "demo", "--classes", &names, "--out", &path("long.onnx")],
    ] {
        let said = String::from_utf8(lafter(args).stderr).unwrap();
        assert!(said.contains("2 of 3 texts are longer than") && said.contains("1 classes read as others"), "{args:?}: {said}");
    }
    let features = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
    let file = path("scaled.safetensors");
    let metadata = [("logit_scale".to_string(), "-26".to_string())].into();
    lafter::clip::save_tensors(&file, &[("features".to_string(), features)], metadata).unwrap();
    refused(1, &["logit_scale", "--scale"], &["transduct", "--features", &file, "--texts", &file]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let path = |name: &str| scratch().join(name).display().to_string();
    let folder = path("full");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(scratch().join("full/config.json"), "mine").unwrap();
    refused(2, &["not empty"], &["pretrain-demo", "--steps", "1", "--out", &folder]);
    refused(2, &["config.json is a file"], &["pretrain-demo", "--steps", "1", "--out", &path("full/config.json")]);
    refused(2, &["--device cuda", "CPU alone"], &["pretrain-demo", "--device", "cuda", "--out", &path("new")]);
    refused(2, &["--top"], &["predict", "--model", "demo", "--classes", "c", "--top", "0", "a.png"]);
    refused(2, &["--seeds"], &["ablate", "--model", "demo", "--seeds", "0"]);
    refused(2, &["required"], &["predict", "--model", "demo", "--weights", "w", "--compare", "a.png"]);
    let split = path("split.json");
    std::fs::write(&split, r#"{"test": [["cat/no-such.png", 0, "cat"], ["dog/no-such.png", 1, "dog"]]}"#).unwrap();
    refused(1, &["--split", "the folder that its paths start from"], &["zero-shot", "--model", "demo", "--test", &split]);
}

#[test]
fn every_command_helps_with_an_example() {
    for command in
        ["demo", "run", "zero-shot", "evaluate", "predict", "transduct", "embed", "describe", "ablate", "scenes", "pretrain-demo"]
    {
        let output = lafter(&[command, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        assert!(output.status.success() && text.contains("Example"), "{command}: {text}");
        for option in ["--seed", "--device", "--json"] {
            assert!(text.contains(option), "{command} lacks {option}");
        }
    }
}
