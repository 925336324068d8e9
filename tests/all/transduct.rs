//! Answers without training: the published numbers, a reference in float64, and what happens when classes are absent.

use std::collections::HashMap;

use candle_core::{D, Device, Tensor};
use lafter::rng::Rng;
use lafter::transduct::{Features, Neighbors, Stata, Transclip, Transduct, Zlap};

fn silent() -> impl FnMut(&lafter::progress::Event) {
    |_| {}
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f32) {
    let far = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(far < tolerance, "off by {far}: {found} instead of {expected}");
}

/// Four pictures on a quarter circle and two texts.
fn quarter(scale: f64) -> Features {
    let pictures = Tensor::new(&[[1f32, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]], &Device::Cpu).unwrap();
    let texts = Tensor::new(&[[1f32, 0.1], [0.3, 1.0]], &Device::Cpu).unwrap();
    Features::new(&pictures, &texts, scale).unwrap()
}

/// Numbers of a reference in float64 that agrees with the authors' code.
#[test]
fn transclip_and_zlap_have_their_numbers() {
    let method = Transclip { updates: 2, neighbors: 1, surest: 2, softness: Some(50.0), ..Transclip::default() };
    let z = method.probabilities(&quarter(5.0), &mut silent()).unwrap();
    close(&z.narrow(1, 0, 1).unwrap().flatten_all().unwrap(), &tensor(&[0.975563, 0.491645, 0.145176, 0.008610]), 1e-6);
    let scores = Zlap { neighbors: 2, ..Zlap::default() }.scores(&quarter(5.0), &mut silent()).unwrap();
    let expected = [0.189731, 0.007287, 0.084622, 0.060055, 0.033296, 0.112481, 0.004277, 0.155313];
    close(&scores.flatten_all().unwrap(), &tensor(&expected), 1e-6);
}

/// Pictures that differ by far less than their lengths, as copies and bursts do: what tells them from the class means is small.
#[test]
fn pictures_nearly_alike_are_answered_as_their_texts_say() {
    let (d, mut rng) = (64, Rng::new(11));
    let mut normal = |n: usize| rng.normal_tensor((n, d), 1.0, &Device::Cpu).unwrap();
    let texts = lafter::classify::normalize(&normal(5)).unwrap();
    let base = (texts.narrow(0, 3, 1).unwrap() * 8.0).unwrap().broadcast_add(&normal(1)).unwrap();
    for spread in [0.0, 1e-6, 1e-4, 1e-3] {
        let pictures = (normal(70) * spread).unwrap().broadcast_add(&base).unwrap();
        let features = Features::new(&lafter::classify::normalize(&pictures).unwrap(), &texts, 20.0).unwrap();
        let z = Transclip::default().probabilities(&features, &mut silent()).unwrap();
        assert_eq!(right(&z, &[3; 70]), 100.0, "{spread}");
    }
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// `tests/fixtures/transduct.py`: n × C × d and n × n as the formulas have them.
#[test]
fn closed_forms_agree_with_the_formulas_as_they_stand() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/transduct.safetensors");
    let saved: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let features = Features::new(&saved["images"], &saved["texts"], 20.0).unwrap();
    for name in ["stata", "transclip", "neighbours"] {
        let z = Transduct::named(name).unwrap().probabilities(&features, silent()).unwrap();
        close(&z, &saved[name], 1e-4);
        close(&z.sum(D::Minus1).unwrap(), &Tensor::ones(60, candle_core::DType::F32, &Device::Cpu).unwrap(), 1e-5);
    }
    close(&Zlap::default().scores(&features, &mut silent()).unwrap(), &saved["zlap"], 1e-6);
    // fewer pictures than classes: each is its class's mean, and distances are large multiples of what is left between them
    let few = Features::new(&saved["few"], &saved["texts"], 20.0).unwrap();
    close(&Transclip::default().probabilities(&few, &mut silent()).unwrap(), &saved["few_transclip"], 1e-3);
    // little reaches pictures that are far from texts, and its parts count
    let far = Features::new(&saved["far"], &saved["texts"], 20.0).unwrap();
    let expected = saved["far_zlap"].broadcast_div(&saved["far_zlap"].sum_keepdim(1).unwrap()).unwrap();
    close(&Zlap::default().probabilities(&far, &mut silent()).unwrap(), &expected, 1e-4);
}

/// Pictures and texts in a cone, as CLIP's are: features of d = 512 around a common direction, each class a direction of its own, texts
/// off by another and by a gap of all.
fn cone(labels: &[usize], classes: usize, seed: u64) -> Features {
    let (d, mut rng) = (512, Rng::new(seed));
    let mut unit = |n: usize| {
        let rows = rng.normal_tensor((n, d), 1.0, &Device::Cpu).unwrap();
        lafter::classify::normalize(&rows).unwrap()
    };
    let (common, gap, means) = (unit(1), unit(1), unit(classes));
    let labels = Tensor::new(labels.iter().map(|label| *label as u32).collect::<Vec<_>>(), &Device::Cpu).unwrap();
    let texts = ((means.broadcast_add(&(&common / 0.35).unwrap()).unwrap() * 0.35).unwrap() + (unit(classes) * 0.9).unwrap()).unwrap();
    let texts = texts.broadcast_add(&(gap * 0.7).unwrap()).unwrap();
    let own = (means.index_select(&labels, 0).unwrap() * 0.35).unwrap();
    let pictures = (own + (unit(labels.dims()[0]) * 0.8).unwrap()).unwrap().broadcast_add(&common).unwrap();
    Features::new(&pictures, &texts, 100.0).unwrap()
}

fn right(p: &Tensor, labels: &[usize]) -> f64 {
    let answers = p.argmax(1).unwrap().to_vec1::<u32>().unwrap();
    100.0 * answers.iter().zip(labels).filter(|(answer, label)| **answer as usize == **label).count() as f64 / labels.len() as f64
}

/// Mean and least over six seeds, of text, neighbors, TransCLIP, StatA, ZLaP; and by how much StatA fell below text at most.
fn study(labels: impl Fn(u64) -> Vec<usize>) -> ([f64; 5], f64) {
    let (seeds, mut means, mut fall) = (6, [0.0; 5], 0f64);
    for seed in 0..seeds {
        let labels = labels(seed);
        let features = cone(&labels, 12, seed);
        let of = |name: &str| right(&Transduct::named(name).unwrap().probabilities(&features, silent()).unwrap(), &labels);
        let text = right(&features.text_logits().unwrap(), &labels);
        let found = [text, of("neighbors"), of("transclip"), of("stata"), of("zlap")];
        means.iter_mut().zip(found).for_each(|(mean, found)| *mean += found / seeds as f64);
        fall = fall.max(text - found[3]);
    }
    println!("text, neighbors, TransCLIP, StatA, ZLaP: {means:.1?}; StatA below text by {fall:.1} at most");
    (means, fall)
}

#[test]
fn with_all_classes_every_method_betters_texts_and_with_one_class_only_two_do() {
    let ([text, neighbors, transclip, stata, zlap], fall) = study(|_| (0..360).map(|i| i % 12).collect());
    assert!([neighbors, transclip, stata, zlap].iter().all(|found| *found > text + 5.0) && fall <= 1.0);
    let ([text, neighbors, transclip, stata, zlap], fall) = study(|seed| vec![seed as usize; 100]);
    assert!(neighbors > text + 5.0 && stata > text && fall <= 1.0, "StatA never falls more than a point below text");
    assert!(transclip < text && zlap < text - 30.0, "these break");
}

#[test]
fn few_pictures_and_odd_ones_are_no_fault() {
    for name in Transduct::NAMES {
        let method = Transduct::named(name).unwrap();
        for labels in [vec![0], vec![0, 1], vec![3; 5]] {
            let features = cone(&labels, 12, 1);
            let p = method.probabilities(&features, silent()).unwrap();
            assert_eq!(p.dims(), [labels.len(), 12]);
            let p: Vec<f32> = p.flatten_all().unwrap().to_vec1().unwrap();
            assert!(p.iter().all(|p| (0.0..=1.0 + 1e-5).contains(p)), "{name} {p:?}");
        }
        // the same picture many times over
        let one = cone(&[4], 12, 2);
        let same = Features { images: one.images.broadcast_as((50, 512)).unwrap().contiguous().unwrap(), ..one };
        let p = method.probabilities(&same, silent()).unwrap();
        assert!(p.sum_all().unwrap().to_scalar::<f32>().unwrap().is_finite(), "{name}");
    }
    assert!(Transduct::named("tip").unwrap_err().is_usage());
    assert_eq!(Transduct::default(), Transduct::Stata(Stata::default()));
    assert_eq!(serde_json::to_value(Transduct::Neighbors(Neighbors::default())).unwrap()["neighbors"]["neighbors"], 10);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let features = quarter(5.0);
    for (bad, word) in [
        (Transduct::Stata(Stata { softness: Some(0.0), ..Stata::default() }), "softness"),
        (Transduct::Stata(Stata { anchor: -1.0, ..Stata::default() }), "anchor"),
        (Transduct::Transclip(Transclip { softness: Some(f64::INFINITY), ..Transclip::default() }), "softness"),
        (Transduct::Zlap(Zlap { spread: 1.0, ..Zlap::default() }), "spread"),
        (Transduct::Stata(Stata { updates: usize::MAX, ..Stata::default() }), "updates"),
        (Transduct::Transclip(Transclip { updates: usize::MAX, ..Transclip::default() }), "updates"),
        (Transduct::Transclip(Transclip { rounds: usize::MAX, ..Transclip::default() }), "rounds"),
        (Transduct::Neighbors(Neighbors { rounds: usize::MAX, ..Neighbors::default() }), "rounds"),
        (Transduct::Zlap(Zlap { spread: 0.0, ..Zlap::default() }), "spread"),
        (Transduct::Zlap(Zlap { neighbors: 0, ..Zlap::default() }), "neighbors"),
        (Transduct::Zlap(Zlap { power: 1e300, ..Zlap::default() }), "power"),
        (Transduct::Zlap(Zlap { power: -1.0, ..Zlap::default() }), "power"),
        (Transduct::Zlap(Zlap { tolerance: f64::NAN, ..Zlap::default() }), "tolerance"),
        (Transduct::Neighbors(Neighbors { share: 1.5, ..Neighbors::default() }), "share"),
    ] {
        let error = bad.probabilities(&features, silent()).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn what_breaks_says_so_and_stata_need_not() {
    let (all, few) = (cone(&(0..240).map(|i| i % 12).collect::<Vec<_>>(), 12, 3), cone(&[3; 60], 12, 3));
    for (name, warns) in [("stata", false), ("neighbors", false), ("transclip", true), ("zlap", true)] {
        let method = Transduct::named(name).unwrap();
        let mut said = Vec::new();
        let listener = |event: &lafter::progress::Event| {
            if let lafter::progress::Event::Notice(text) = event {
                said.push(text.clone());
            }
        };
        method.probabilities(&few, listener).unwrap();
        assert_eq!(!said.is_empty(), warns, "{name} {said:?}");
        assert!(method.warning(&all).unwrap().is_none(), "{name}");
        assert!(said.iter().all(|text| text.contains("absent") && text.contains("of 12 classes")), "{said:?}");
    }
}

#[test]
fn features_that_cannot_work_are_refused() {
    let (x, zero) =
        (Tensor::new(&[[1f32, 0.0], [0.0, 2.0]], &Device::Cpu).unwrap(), Tensor::new(&[[1f32, 0.0], [0.0, 0.0]], &Device::Cpu).unwrap());
    let message = |images: &Tensor, texts: &Tensor| Features::new(images, texts, 100.0).unwrap_err().to_string();
    assert!(message(&zero, &x).contains("picture 1") && message(&x, &zero).contains("text 1"));
    let infinite = Tensor::new(&[[1f32, f32::INFINITY], [f32::NAN, 1.0]], &Device::Cpu).unwrap();
    assert!(message(&infinite, &x).contains("picture 0"));
    // their squares leave f32
    for size in [1e20, 1e-25, 1e38] {
        let features = Features::new(&(&x * size).unwrap(), &x, 100.0).unwrap();
        close(&features.images, &features.texts, 1e-6);
    }
    assert!(message(&x, &Tensor::new(&[[1f32], [2.0]], &Device::Cpu).unwrap()).contains("same CLIP"));
    assert!(message(&x, &x.narrow(0, 0, 1).unwrap()).contains("two classes"));
    assert!(message(&x, &x.flatten_all().unwrap()).contains("matrices"));
}

/// The command line, on rendered pictures.
mod command_line {
    use lafter::data::scenes::{Domain, class_names};

    use crate::common::{self, tried};

    fn pictures(n: usize) -> tempfile::TempDir {
        let root = common::pictures(Domain::Source, n);
        let single = lafter::describe::Templates::single();
        let prompts: Vec<String> = class_names().iter().flat_map(|name| single.fill(name)).collect();
        std::fs::write(root.path().join("prompts.txt"), prompts.join("\n")).unwrap();
        root
    }

    #[test]
    fn features_become_a_table_and_answers_for_training_and_predict_says_the_same() {
        let root = pictures(30);
        let run = |line: &str| {
            let (fine, out, said) = tried(root.path(), line);
            assert!(fine, "{line}: {said}");
            (out, said)
        };
        run("embed --model demo --images photos --out images.safetensors");
        run("embed --model demo --texts prompts.txt --out texts.safetensors");
        let line = "transduct --features images.safetensors --texts texts.safetensors --classes names.txt";
        let (out, said) = run(&format!("{line} --out table.csv --answers answers.safetensors"));
        assert!(out.contains("30 answers written to table.csv") && said.contains("transductive answers (stata)"), "{out} {said}");
        let table = std::fs::read_to_string(root.path().join("table.csv")).unwrap();
        assert!(table.lines().nth(1).unwrap().contains("000.png,"), "{table}");
        assert!(!root.path().join("table.csv.partial").exists());
        let (tensors, about) = lafter::clip::read_tensors(root.path().join("answers.safetensors"), &super::Device::Cpu).unwrap();
        assert_eq!(tensors["probabilities"].dims(), [30, class_names().len()]);
        let names: Vec<String> = serde_json::from_str(&about["names"]).unwrap();
        let classes: Vec<String> = serde_json::from_str(&about["classes"]).unwrap();
        assert!(names.len() == 30 && names[29].ends_with("029.png") && classes == class_names());
        // from the pictures themselves
        for method in super::Transduct::NAMES {
            let (_, said) = run(&format!("predict --model demo --classes names.txt --transduct {method} photos --out predict.csv"));
            assert!(said.contains(&format!("transductive answers ({method})")), "{said}");
            run(&format!("{line} --method {method} --out table.csv"));
            let [ours, theirs] = ["table.csv", "predict.csv"].map(|name| {
                let table = std::fs::read_to_string(root.path().join(name)).unwrap();
                table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_string()).collect::<Vec<_>>()
            });
            assert_eq!(ours, theirs, "{method}");
        }
        let (out, _) = run(&format!("{line} --json"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap().as_array().unwrap().len(), 30);
        let (out, _) = run(&format!("{line} --json --out table.jsonl"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["transductive"], "stata");
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let root = pictures(3);
        let fails = |line: &str| {
            let (fine, _, said) = tried(root.path(), line);
            assert!(!fine && said.lines().filter(|line| line.starts_with("error")).count() == 1, "{line}: {said}");
            said
        };
        let (fine, _, said) = tried(root.path(), "embed --model demo --images photos --out images.safetensors");
        assert!(fine, "{said}");
        let (fine, _, said) = tried(root.path(), "embed --model demo --texts prompts.txt --out texts.safetensors");
        assert!(fine, "{said}");
        std::fs::write(root.path().join("five.txt"), "a\nb\nc\nd\ne").unwrap();
        let line = "transduct --features images.safetensors --texts texts.safetensors";
        assert!(fails(&format!("{line} --classes five.txt")).contains("for 5 classes"));
        assert!(fails(&format!("{line} --method stata --out table.xlsx")).contains(".csv"));
        assert!(fails(&format!("{line} --scale 0")).contains("above 0"));
        assert!(fails(&format!("{line} --scale 1e300")).contains("up to 1e6, got 1e300"));
        assert!(fails(&format!("{line} --device cuda")).contains("on the CPU") && fails(&format!("{line} --tf32")).contains("on the CPU"));
        // a run takes no answers without names
        let (fine, _, said) = tried(root.path(), &format!("{line} --answers a.safetensors"));
        assert!(!fine && said.contains("--classes"), "{said}");
        let (tensors, about) = lafter::clip::read_tensors(root.path().join("images.safetensors"), &super::Device::Cpu).unwrap();
        let tensors: Vec<_> = tensors.into_iter().collect();
        for (names, word) in [(None, "does not name its pictures"), (Some(r#"["a", "b", "a"]"#), "two pictures are called a")] {
            let mut about = about.clone();
            about.remove("names");
            about.extend(names.map(|names| ("names".to_string(), names.to_string())));
            about.remove("weights_hash");
            lafter::clip::save_tensors(root.path().join("other.safetensors"), &tensors, about).unwrap();
            let line = "transduct --features other.safetensors --texts texts.safetensors --classes names.txt --answers a.safetensors";
            assert!(fails(line).contains(word), "{word}");
        }
        // of several lines a class the one is named
        let zero = super::Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], &super::Device::Cpu).unwrap();
        lafter::clip::save_tensors(root.path().join("zero.safetensors"), &[("features".into(), zero)], Default::default()).unwrap();
        std::fs::write(root.path().join("two.txt"), "a\nb").unwrap();
        let said = fails("transduct --features zero.safetensors --texts zero.safetensors --classes two.txt");
        assert!(said.contains("line 4 of zero.safetensors are zero"), "{said}");
        for swapped in ["texts.safetensors --texts images.safetensors", "texts.safetensors --texts texts.safetensors"] {
            assert!(fails(&format!("transduct --features {swapped}")).contains("lafter embed --images"), "{swapped}");
        }
        assert!(fails("transduct --features names.txt --texts texts.safetensors").contains("names.txt"));
        // a list that is too short may fit by chance: then it is said how it was read
        std::fs::write(root.path().join("one.txt"), "cup\n").unwrap();
        let (_, _, said) = tried(root.path(), &format!("{line} --classes one.txt"));
        assert!(said.contains("texts for 1 class:"), "{said}");
        assert!(fails("predict --model demo --transduct stata photos").contains("--classes"));
        let said = fails("predict --model demo --classes one.txt --transduct stata photos");
        assert!(said.contains("at least two classes") && !said.contains("answered with it"), "{said}");
    }
}
