//! Test-time adaptation on the demo CLIP: by the batch, by the picture, from the command line.

use candle_core::{Device, Tensor};
use lafter::adapt::{self, Adapt, ManyViews, Tda, TdaConfig, Watt, WattConfig, Zero, ZeroConfig};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, class_names};
use lafter::prelude::*;

use crate::common::{pictures, tried};

fn clip() -> (Clip, ZeroShotClassifier) {
    let clip = Clip::demo().unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, &class_names(), &Templates::single()).unwrap();
    (clip, zero_shot)
}

/// Weak views of pictures in a look that the demo CLIP never saw.
fn pixels(clip: &Clip, n: usize) -> Tensor {
    let scenes = Dataset::new(Scenes::new(Domain::Target, n, 5));
    let pictures: Vec<_> = (0..n).map(|i| scenes.image(i).unwrap()).collect();
    clip.preprocess().batch(&pictures, &Device::Cpu).unwrap()
}

fn far(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn answers_do_not_depend_on_what_comes_after() {
    let (clip, zero_shot) = clip();
    let all = pixels(&clip, 12);
    let (first, rest) = (all.narrow(0, 0, 4).unwrap(), all.narrow(0, 4, 8).unwrap());
    for name in ["tda", "tent", "watt"] {
        let method = || adapt::named(name, &clip, &zero_shot, &class_names()).unwrap();
        let (mut alone, mut streamed) = (method(), method());
        let expected = alone.answer(&first).unwrap();
        assert_eq!(far(&streamed.answer(&first).unwrap(), &expected), 0.0, "{name}");
        streamed.answer(&rest).unwrap();
        // the batch once more: those that remember answer otherwise, the others the same bits
        let again = far(&streamed.answer(&first).unwrap(), &expected);
        assert_eq!(again > 0.0, streamed.remembers(), "{name} {again}");
    }
    // TDA takes pictures one by one, so a batch is not a unit for it
    let mut by_one = Tda::new(&clip, &zero_shot, TdaConfig::default());
    let singles: Vec<Tensor> = (0..12).map(|i| by_one.answer(&all.narrow(0, i, 1).unwrap()).unwrap()).collect();
    let whole = Tda::new(&clip, &zero_shot, TdaConfig::default()).answer(&all).unwrap();
    assert!(far(&Tensor::cat(&singles, 0).unwrap(), &whole) < 1e-3);
    assert!(by_one.kept().0 <= 12 && by_one.kept().0 > 0);
}

#[test]
fn batches_of_one_picture_work_and_change_nothing_where_nothing_can_be_compared() {
    let (clip, zero_shot) = clip();
    let one = pixels(&clip, 1);
    let untuned = zero_shot.logits(&clip.encode_image(&one).unwrap()).unwrap();
    let mut tent = adapt::named("tent", &clip, &zero_shot, &class_names()).unwrap();
    assert!(far(&tent.answer(&one).unwrap(), &untuned) < 1e-3, "the first answer is zero-shot's");
    assert!(far(&tent.answer(&one).unwrap(), &untuned) > 1e-4, "the step took effect");
    let config = WattConfig { rounds: 1, ..WattConfig::default() };
    let mut watt = Watt::fit(&clip, &class_names(), config).unwrap();
    let mut none = Watt::fit(&clip, &class_names(), WattConfig { rounds: 0, ..config }).unwrap();
    assert_eq!(far(&watt.answer(&one).unwrap(), &none.answer(&one).unwrap()), 0.0);
    let batch = pixels(&clip, 6);
    assert!(far(&watt.answer(&batch).unwrap(), &none.answer(&batch).unwrap()) > 1e-4);
    assert!(adapt::named("tpt", &clip, &zero_shot, &class_names()).err().unwrap().is_usage());
}

#[test]
fn views_belong_to_a_picture_and_one_view_is_zero_shot() {
    let (clip, zero_shot) = clip();
    let scenes = Dataset::new(Scenes::new(Domain::Target, 2, 5));
    let views = ManyViews::new(8, clip.preprocess(), 3);
    let picture = scenes.image(0).unwrap();
    let further = views.further(&picture, 4);
    assert_eq!(further, views.further(&picture, 4));
    assert_ne!(further, views.further(&picture, 5));
    let side = clip.preprocess().side();
    let mut all = clip.preprocess().apply(&picture);
    all.extend(further.iter().flat_map(|view| clip.preprocess().planes(view)));
    let all = Tensor::from_vec(all, (8, 3, side, side), &Device::Cpu).unwrap();
    let mut zero = Zero::new(&clip, &zero_shot, ZeroConfig { views: 8, keep: 0.5 });
    let answer = zero.answer(&all).unwrap();
    assert_eq!(answer.dims(), [1, class_names().len()]);
    let votes = answer.exp().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((votes - 1.0).abs() < 1e-3, "{votes}");
    assert!(zero.answer(&all.narrow(0, 0, 7).unwrap()).unwrap_err().to_string().contains("8 of each picture"));
    // the weak view alone votes for zero-shot's class
    let mut single = Zero::new(&clip, &zero_shot, ZeroConfig { views: 1, keep: 1.0 });
    let weak = all.narrow(0, 0, 1).unwrap();
    let class = |logits: Tensor| logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(class(single.answer(&weak).unwrap()), class(zero_shot.logits(&clip.encode_image(&weak).unwrap()).unwrap()));
}

#[test]
fn predict_adapts_and_a_stream_has_the_same_answers_at_its_beginning() {
    let root = pictures(Domain::Source, 8);
    for name in adapt::NAMES {
        let batch = if name == "zero" { 3 } else { 2 };
        let line = format!("predict --model demo --classes names.txt --adapt {name} --adapt-batch {batch}");
        let read = |table: &str| std::fs::read_to_string(root.path().join(table)).unwrap();
        let (fine, _, said) = tried(root.path(), &format!("{line} photos --out all.csv"));
        assert!(fine, "{name}: {said}");
        let (fine, _, said) =
            tried(root.path(), &format!("{line} photos/000.png photos/001.png photos/002.png photos/003.png --out some.csv"));
        assert!(fine, "{name}: {said}");
        let (all, some) = (read("all.csv"), read("some.csv"));
        assert_eq!((all.lines().count(), some.lines().count()), (9, 5));
        // names differ by their folder only; the numbers are the same
        let numbers =
            |table: &str| table.lines().skip(1).take(4).map(|line| line.split_once(',').unwrap().1.to_string()).collect::<Vec<_>>();
        assert_eq!(numbers(&all), numbers(&some), "{name}");
    }
    let (fine, _, said) = tried(root.path(), "predict --model demo --classes names.txt --adapt watt --templates names.txt photos");
    assert!(!fine && said.contains("templates of its own"), "{said}");
}

/// Over tuned weights the first answers are theirs, whatever adapts afterwards; their holder sees nothing of it.
#[test]
fn tuned_weights_adapt_from_their_own_answers() {
    let (clip, classes) = (Clip::demo().unwrap(), class_names());
    let mut lafter = LaFTer::new(clip.clone(), &classes).preset(Preset::Demo);
    (lafter.config.text.epochs, lafter.config.tune.epochs) = (30, 1);
    lafter.fit_text(&TextSet::new(&classes).unwrap().with_templates(&Templates::single())).unwrap();
    lafter.fit_images(&Dataset::new(Scenes::new(Domain::Target, 50, 1)), |_| {}).unwrap();
    let (tuned, batch) = (lafter.tuned().unwrap(), pixels(&clip, 8));
    let own = tuned.logits(&batch).unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, &classes, &Templates::single()).unwrap();
    assert!(far(&own, &zero_shot.logits(&clip.encode_image(&batch).unwrap()).unwrap()) > 0.1);

    let mut tent = adapt::named_tuned("tent", &clip, tuned).unwrap();
    assert!(far(&tent.answer(&batch).unwrap(), &own) < 1e-4, "the first answer is that of the weights");
    assert!(far(&tent.answer(&batch).unwrap(), &own) > 1e-4, "the step took effect");
    assert_eq!(far(&tuned.logits(&batch).unwrap(), &own), 0.0, "the weights themselves are as they were");
    let none = TdaConfig { toward: (0.0, 5.0), away: (0.0, 1.0), ..TdaConfig::default() };
    assert!(far(&Tda::over_tuned(&clip, tuned, none).answer(&batch).unwrap(), &own) < 1e-4);
    assert!(far(&adapt::named_tuned("tda", &clip, tuned).unwrap().answer(&batch).unwrap(), &own) > 0.1);
    let mut zero = Zero::over_tuned(&clip, tuned, ZeroConfig { views: 1, keep: 1.0 });
    let class = |logits: &Tensor| logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(class(&zero.answer(&batch).unwrap()), class(&own));
    let refused = adapt::named_tuned("watt", &clip, tuned).err().unwrap();
    assert!(refused.is_usage() && refused.to_string().contains("texts of its own"), "{refused}");

    // on the command line: tent's first batch is what the weights alone answer
    let root = tempfile::tempdir().unwrap();
    lafter.save(root.path().join("w.safetensors")).unwrap();
    let scenes = Dataset::new(Scenes::new(Domain::Target, 6, 5));
    (0..6).for_each(|i| scenes.image(i).unwrap().save(root.path().join(format!("{i}.png"))).unwrap());
    let rows = |more: &str| {
        let name = format!("t{}.csv", more.replace([' ', '-'], ""));
        let line = format!("predict --model demo --weights w.safetensors {more} --out {name} .");
        let (fine, _, said) = tried(root.path(), &line);
        assert!(fine, "{more}: {said}");
        let table = std::fs::read_to_string(root.path().join(name)).unwrap();
        table.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().to_string()).collect::<Vec<_>>()
    };
    let alone = rows("--top 1");
    assert_eq!(alone.len(), 6);
    assert_eq!(rows("--top 1 --adapt tent"), alone);
    assert_eq!((rows("--top 1 --adapt tda").len(), rows("--top 1 --adapt zero --adapt-batch 2").len()), (6, 6));
    let (fine, _, said) = tried(root.path(), "predict --model demo --weights w.safetensors --adapt watt .");
    assert!(!fine && said.contains("texts of its own"), "{said}");
    let (fine, _, said) = tried(root.path(), "predict --model demo --adapt tent .");
    assert!(!fine && said.contains("--weights"), "{said}");
}
