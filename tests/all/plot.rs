//! Every picture is well-formed, holds the marks it should, keeps its texts inside the sheet and off each other, also for
//! awkward input. With LAFTER_FIGURES=folder the pictures are written there, to be looked at.

use image::{Rgb, RgbImage};
use lafter::eval::{Bin, Evaluation, calibration_error};
use lafter::plot::{
    Figure, Panel, Series, Sort, attention, attention_rows, bars, confusion, curves, histogram, index_html, modality_gap, panels,
    reliability, scatter, scatter_tsne, spread_bars, text_width, views, word_counts,
};
use lafter::rng::Rng;
use roxmltree::{Document, Node};

fn number(node: Node, name: &str) -> f64 {
    node.attribute(name).map_or(0.0, |v| v.parse().unwrap())
}

fn text_of(node: Node) -> String {
    node.text().unwrap_or("").trim().to_string()
}

/// The box a text takes: left, top, right, bottom.
fn text_box(node: Node) -> [f64; 4] {
    let (x, mut y, size) = (number(node, "x"), number(node, "y"), number(node, "font-size"));
    if let Some(dy) = node.attribute("dy") {
        y += if dy == "0.5ex" { 0.27 } else { dy.trim_end_matches("em").parse::<f64>().unwrap() } * size;
    }
    let bold = if node.attribute("font-weight").is_some() { 1.12 } else { 1.0 };
    let width = text_width(&text_of(node), size) * bold;
    let (from, to) = match node.attribute("text-anchor") {
        Some("middle") => (-width / 2.0, width / 2.0),
        Some("end") => (-width, 0.0),
        _ => (0.0, width),
    };
    let (up, down) = (0.75 * size, 0.2 * size);
    match node.attribute("transform") {
        Some(turn) => {
            assert!(turn.starts_with("rotate(-90 "), "{turn}");
            [x - up, y - to, x + down, y - from]
        }
        None => [x + from, y - up, x + to, y + down],
    }
}

/// Checks what holds for every picture and returns how many elements of `class` it has.
fn check(name: &str, figure: &Figure, class: &str) -> usize {
    if let Ok(folder) = std::env::var("LAFTER_FIGURES") {
        for ending in ["svg", "png"] {
            figure.save(std::path::Path::new(&folder).join(format!("{name}.{ending}"))).unwrap();
        }
    }
    let svg = figure.svg();
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name} has a number that is none");
    let document = Document::parse(svg).unwrap_or_else(|e| panic!("{name}: {e}"));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    let (width, height) = figure.size();
    assert_eq!(root.attribute("viewBox"), Some(format!("0 0 {width} {height}").as_str()));
    let named = |name: &'static str| document.descendants().filter(move |node| node.tag_name().name() == name);
    // readable on a dark page, too: everything stands on a white panel as large as the sheet
    let panel = named("rect").next().unwrap();
    assert_eq!((panel.attribute("class"), panel.attribute("fill")), (Some("panel"), Some("#ffffff")), "{name}");
    assert_eq!((number(panel, "x"), number(panel, "y"), number(panel, "width"), number(panel, "height")), (0.0, 0.0, width, height));
    let mut boxes: Vec<([f64; 4], String)> = named("text").map(|node| (text_box(node), text_of(node))).collect();
    boxes.retain(|(_, text)| !text.is_empty());
    for (b, text) in &boxes {
        let inside = b[0] >= -0.5 && b[1] >= -0.5 && b[2] <= width + 0.5 && b[3] <= height + 0.5;
        assert!(inside, "{name}: {text:?} is cut: {b:?} of {width} × {height}");
    }
    for (i, (a, first)) in boxes.iter().enumerate() {
        for (b, second) in &boxes[i + 1..] {
            let apart = a[2] - 2.0 <= b[0] || b[2] - 2.0 <= a[0] || a[3] - 2.0 <= b[1] || b[3] - 2.0 <= a[1];
            assert!(apart, "{name}: {first:?} {a:?} and {second:?} {b:?} overlap");
        }
    }
    for node in named("rect") {
        let (x, y, w, h) = (number(node, "x"), number(node, "y"), number(node, "width"), number(node, "height"));
        let inside = x >= -0.5 && y >= -0.5 && x + w <= width + 0.5 && y + h <= height + 0.5;
        assert!(inside && w >= 0.0 && h >= 0.0, "{name}: a box reaches over the edge");
    }
    document.descendants().filter(|node| node.attribute("class") == Some(class)).count()
}

const TEN: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| TEN.get(i).filter(|_| n <= 10).map_or(format!("class number {i}"), |name| name.to_string())).collect()
}

fn awkward() -> Vec<String> {
    [
        "annual crop land, seen from far above on a day without clouds, with a river <at its left> & a \"road\"",
        "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverordnung",
        "雪の中の小さな家と長い長い道と大きな山",
        "Москва-река",
        "a",
        "",
    ]
    .map(String::from)
    .to_vec()
}

fn counts(k: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    let row = |t: usize| {
        let mut row = vec![0; k];
        (0..100).for_each(|_| row[if rng.chance(0.7) { t } else { rng.below(k) }] += 1);
        row
    };
    (0..k).map(row).collect()
}

#[test]
fn training_curves() {
    let falling = |n: usize, rng: &mut Rng| -> Vec<f64> {
        (0..n).map(|i| 0.3 + 2.0 / (1.0 + 0.2 * i as f64) + 0.03 * f64::from(rng.normal())).collect()
    };
    let mut rng = Rng::new(1);
    let loss = Series::new("student", falling(30, &mut rng));
    let figure = curves("Label-free tuning", "epoch", "loss", std::slice::from_ref(&loss)).unwrap();
    assert_eq!(check("curve", &figure, "point"), 30);
    assert_eq!(check("curve", &figure, "curve"), 1);

    let long = Series::new("steps", falling(50_000, &mut rng));
    let figure = curves("Many steps", "step", "loss", &[long]).unwrap();
    assert_eq!(check("curve_long", &figure, "point"), 0);
    assert!(figure.svg().len() < 60_000, "{}", figure.svg().len());

    let top1 = [("zero-shot", 60.0), ("text classifier", 66.0), ("LaFTer", 80.0)];
    let top1 = top1.map(|(name, to)| Series::new(name, (0..15).map(|i| to - 20.0 / f64::from(i + 1))));
    let rate = Panel::new("rate", vec![Series::new("rate", [5e-4])]);
    let all = [Panel::new("loss", vec![loss]), Panel::new("top-1 accuracy, %", top1.to_vec()), rate];
    let figure = panels("Both stages", "epoch", &all).unwrap();
    assert_eq!(check("panels", &figure, "curve"), 4);
}

#[test]
fn awkward_curves() {
    for (name, values) in [
        ("single", vec![3.0]),
        ("constant", vec![0.25; 8]),
        ("zero", vec![0.0; 3]),
        ("huge", vec![1e12, -1e12, 3e11]),
        ("tiny", vec![1e-9, 2e-9, 1.5e-9]),
        ("nearly_equal", vec![100.0001, 100.0002, 100.00015]),
        ("two", vec![1.0, 2.0]),
    ] {
        let n = values.len();
        let figure = curves(name, "epoch", "value", &[Series::new("a", values)]).unwrap();
        assert_eq!(check(&format!("curve_{name}"), &figure, "point"), n);
    }
    let many: Vec<Series> = awkward().into_iter().chain(names(20)).map(|name| Series::new(name, [1.0, 2.0, 1.5])).collect();
    let figure = curves(&awkward()[0].repeat(3), &awkward()[0], &awkward()[1], &many).unwrap();
    assert_eq!(check("curves_many", &figure, "curve"), 26);
    for bad in [f64::NAN, f64::INFINITY, f64::MAX] {
        let error = curves("t", "x", "y", &[Series::new("a", [1.0, bad])]).unwrap_err().to_string();
        assert!(error.contains("value 2") && error.lines().count() == 1, "{error}");
    }
    assert!(curves("t", "x", "y", &[]).is_err());
    assert!(curves("t", "x", "y", &[Series::new("a", [0f64; 0])]).is_err());
    assert!(panels("t", "x", &[]).is_err());
}

#[test]
fn confusion_matrices() {
    let mut rng = Rng::new(2);
    for k in [1, 2, 10, 30, 100] {
        let counts = counts(k, &mut rng);
        let figure = confusion(&counts, &names(k)).unwrap();
        let cells = counts.iter().flatten().filter(|n| **n > 0).count();
        assert_eq!(check(&format!("confusion_{k}"), &figure, "cell"), cells);
    }
    let figure = confusion(&counts(6, &mut rng), &awkward()).unwrap();
    check("confusion_awkward", &figure, "cell");
    let figure = confusion(&[vec![0, 0], vec![0, 0]], &names(2)).unwrap();
    assert_eq!(check("confusion_empty", &figure, "cell"), 0);
    let mut thousand = vec![vec![0; 1000]; 1000];
    (0..1000).for_each(|i| thousand[i][i] = 50);
    let classes: Vec<String> = (0..1000).map(|i| format!("{} {i}", awkward()[0])).collect();
    assert_eq!(check("confusion_1000", &confusion(&thousand, &classes).unwrap(), "cell"), 1000);
    for (bad, classes) in [(vec![], 0), (vec![vec![1]], 2), (vec![vec![1, 2], vec![1]], 2)] {
        assert!(confusion(&bad, &names(classes)).is_err());
    }
}

#[test]
fn ten_thousand_classes_stay_small() {
    let k = 10_000;
    let mut confusion_counts = lafter::eval::Confusion::new(k);
    let mut rng = Rng::new(8);
    for image in 0..50_000 {
        let truth = image % k;
        let predicted = if rng.below(3) == 0 { rng.below(k) } else { truth };
        confusion_counts.add(truth, predicted, 1);
    }
    let figure = confusion(&confusion_counts, &names(k)).unwrap();
    let svg = figure.svg();
    assert!(svg.len() < 5_000_000 && svg.contains("a cell stands for 40"), "{} bytes", svg.len());
    // the counts of a dense matrix give the same figure
    let (few, dense) = (300, counts(300, &mut Rng::new(9)));
    let mut sparse = lafter::eval::Confusion::new(few);
    dense.iter().enumerate().for_each(|(t, row)| row.iter().enumerate().for_each(|(p, n)| sparse.add(t, p, *n)));
    assert_eq!(confusion(&sparse, &names(few)).unwrap().svg(), confusion(&dense, &names(few)).unwrap().svg());
    let sentences: Vec<String> = (0..k).map(|class| format!("word{class} of this class")).collect();
    let words = lafter::plot::word_counts("Words", &names(k), &sentences, &(0..k).collect::<Vec<_>>()).unwrap();
    assert!(words.svg().len() < 500_000 && words.svg().contains("one class of every 50"), "{} bytes", words.svg().len());
}

#[test]
fn many_classes_fit_a_notebook_and_their_confusions_are_told() {
    for k in [50, 100, 300] {
        let figure = confusion(&counts(k, &mut Rng::new(6)), &names(k)).unwrap();
        assert!(figure.size().0 <= 720.0, "{k} classes: {:?}", figure.size());
        assert_eq!(figure.svg().matches(" taken for ").count() - check(&format!("confusion_{k}"), &figure, "cell"), 10);
    }
    let long: Vec<String> = (0..60).map(|i| format!("{} {i}", awkward()[i % 6])).collect();
    assert!(confusion(&counts(60, &mut Rng::new(7)), &long).map(|f| check("confusion_long", &f, "cell")).unwrap() > 60);
}

fn scene(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut rng = Rng::new(seed);
    let (cx, cy) = (rng.range(0.3, 0.7), rng.range(0.3, 0.7));
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let inside = (u - cx).powi(2) + (v - cy).powi(2) < 0.06;
        if inside { Rgb([220, 90, 40]) } else { Rgb([(60.0 + 100.0 * u) as u8, (90.0 + 90.0 * v) as u8, 170]) }
    })
}

#[test]
fn grids_of_views() {
    let caption = |i: usize| if i == 0 { "weak view".to_string() } else { format!("strong view {i}") };
    let row = |seed: u64, n: usize, size: u32| -> Vec<(String, RgbImage)> {
        (0..n).map(|i| (caption(i), scene(size, size, seed + i as u64))).collect()
    };
    let figure = views("A weak view and its strong views", &[row(1, 5, 32), row(20, 5, 32), row(40, 5, 32)]).unwrap();
    assert_eq!(check("views", &figure, "view"), 15);
    assert_eq!(figure.svg().matches("image-rendering:pixelated").count(), 15);
    let ragged = vec![
        vec![("wide".to_string(), scene(1200, 300, 3)), (awkward()[0].clone(), scene(100, 900, 4))],
        vec![(String::new(), scene(1, 1, 5))],
        vec![],
        row(7, 7, 224),
    ];
    let figure = views(&awkward()[1], &ragged).unwrap();
    assert_eq!(check("views_awkward", &figure, "view"), 10);
    assert_eq!(figure.svg().matches("pixelated").count(), 1);
    assert_eq!(check("views_one", &views("", &[row(1, 1, 32)]).unwrap(), "view"), 1);
    let many = views("Many", &[row(1, 30, 16)]).unwrap();
    assert_eq!(check("views_many", &many, "view"), 30);
    assert_eq!(many.size().0, 720.0);
    assert!(views("t", &[]).is_err() && views("t", &[vec![]]).is_err());
    assert!(views("t", &[vec![("none".into(), RgbImage::new(0, 5))]]).is_err());
}

/// Features around class centers, the two modalities shifted apart: (features, labels).
fn features(classes: usize, each: usize, d: usize, shift: f32, rng: &mut Rng) -> (Vec<Vec<f32>>, Vec<usize>) {
    let centers: Vec<Vec<f32>> = (0..classes).map(|c| Rng::new(c as u64).normals(d, 1.0)).collect();
    let labels: Vec<usize> = (0..classes * each).map(|i| i % classes).collect();
    let feature = |c: &usize| {
        let noise = rng.normals(d, 0.5);
        centers[*c].iter().zip(noise).enumerate().map(|(j, (a, n))| a + n + if j == 0 { shift } else { 0.0 }).collect()
    };
    (labels.iter().map(feature).collect(), labels)
}

#[test]
fn text_and_image_features() {
    let mut rng = Rng::new(3);
    let (texts, text_labels) = features(10, 8, 64, 6.0, &mut rng);
    let (images, image_labels) = features(10, 40, 64, -6.0, &mut rng);
    let figure = scatter(&texts, &text_labels, &images, &image_labels, &names(10)).unwrap();
    assert_eq!(check("embedding", &figure, "text"), 80);
    assert_eq!(check("embedding", &figure, "image"), 400);
    assert_eq!(check("embedding", &figure, "gap"), 1);
    let again = scatter(&texts, &text_labels, &images, &image_labels, &names(10)).unwrap();
    assert_eq!(figure, again, "the same features must give the same picture");

    let figure = scatter_tsne(&texts, &text_labels, &images, &image_labels, &names(10), 30.0).unwrap();
    assert_eq!((check("tsne", &figure, "text"), check("tsne", &figure, "image"), check("tsne", &figure, "gap")), (80, 400, 0));
    assert_eq!(figure, scatter_tsne(&texts, &text_labels, &images, &image_labels, &names(10), 30.0).unwrap());
    assert!(scatter_tsne(&texts[..3], &text_labels[..3], &[], &[], &names(10), 30.0).is_err());

    let (texts, text_labels) = features(100, 1, 16, 2.0, &mut rng);
    let (images, image_labels) = features(100, 30, 16, -2.0, &mut rng);
    let figure = scatter(&texts, &text_labels, &images, &image_labels, &names(100)).unwrap();
    assert_eq!(check("embedding_100", &figure, "image"), 1500);
    assert!(check("embedding_100", &figure, "ground") > 10, "classes are named where there is room");
    let long: Vec<String> = (0..100).map(|i| format!("{} {i}", awkward()[i % 6])).collect();
    check("embedding_long", &scatter(&texts, &text_labels, &[], &[], &long).unwrap(), "text");
}

#[test]
fn awkward_features() {
    let one = [vec![1.0f32, 2.0, 3.0]];
    assert_eq!(check("embedding_one", &scatter(&one, &[0], &[], &[], &names(1)).unwrap(), "text"), 1);
    let same = vec![vec![0.5f32; 4]; 6];
    let figure = scatter(&same, &[0, 1, 2, 3, 4, 5], &same, &[0; 6], &awkward()).unwrap();
    assert_eq!(check("embedding_same", &figure, "image"), 6);
    let zeros = vec![vec![0f32; 2]; 2];
    check("embedding_zeros", &scatter(&[], &[], &zeros, &[0, 0], &names(1)).unwrap(), "image");
    assert!(scatter(&[], &[], &[], &[], &names(1)).is_err());
    assert!(scatter(&one, &[0, 1], &[], &[], &names(2)).is_err());
    assert!(scatter(&one, &[5], &[], &[], &names(2)).is_err());
    assert!(scatter(&one, &[0], &[vec![1.0, 2.0]], &[0], &names(2)).is_err());
    assert!(scatter(&[vec![f32::NAN, 0.0]], &[0], &[], &[], &names(2)).is_err());
    assert!(scatter(&[vec![1.0]], &[0], &[], &[], &names(1)).is_err());
}

#[test]
fn bars_by_class() {
    let mut rng = Rng::new(4);
    for k in [1, 10, 100] {
        let mut make = |name: &str, low: f32| Series::new(name, (0..k).map(|_| rng.range(low, 100.0)).collect::<Vec<f32>>());
        let series = [make("zero-shot", 10.0), make("text classifier", 30.0), make("LaFTer", 60.0)];
        let figure = bars("Accuracy by class", "top-1 accuracy, %", &names(k), &series, Sort::ByGain).unwrap();
        assert_eq!(check(&format!("bars_{k}"), &figure, "bar"), 3 * k);
    }
    // Values below zero, a class without a value, names of every kind.
    let gain = Series::at("gain", [(1.0, -12.5), (2.0, 0.0), (3.0, 30.0), (4.0, 1e-3), (6.0, 5.0)]);
    for sort in [Sort::AsGiven, Sort::ByGain, Sort::ByLast] {
        let figure = bars("Gain", "points", &awkward(), std::slice::from_ref(&gain), sort).unwrap();
        assert_eq!(check("bars_awkward", &figure, "bar"), 5);
    }
    let zeros = Series::new("a", [0.0, 0.0]);
    assert_eq!(check("bars_zero", &bars("", "", &names(2), &[zeros], Sort::AsGiven).unwrap(), "bar"), 2);
    assert!(bars("t", "v", &[], &[], Sort::AsGiven).is_err());
    assert!(bars("t", "v", &names(1), &[Series::new("a", [1.0, 2.0])], Sort::AsGiven).is_err());
    assert!(bars("t", "v", &names(2), &[Series::at("a", [(0.0, 2.0)])], Sort::AsGiven).is_err());
    assert!(bars("t", "v", &names(1), &[Series::new("a", [f64::NAN])], Sort::AsGiven).is_err());
}

#[test]
fn reliability_diagrams() {
    let mut rng = Rng::new(5);
    let confidences: Vec<f64> = (0..2000).map(|_| f64::from(rng.range(0.2, 1.0))).collect();
    let correct: Vec<bool> = confidences.iter().map(|c| rng.chance((*c as f32).powf(1.8))).collect();
    let (_, bins) = calibration_error(&confidences, &correct, 15).unwrap();
    let filled = bins.iter().filter(|bin| bin.n > 0).count();
    assert_eq!(check("reliability", &reliability("Calibration after tuning", &bins).unwrap(), "bin"), filled);
    assert!(reliability("t", &[]).is_err());
    for change in [|bin: &mut Bin| bin.accuracy = f64::NAN, |bin: &mut Bin| bin.to = 300.0] {
        let mut bad = bins.clone();
        change(&mut bad[3]);
        let error = reliability("t", &bad).unwrap_err().to_string();
        assert!(error.contains("between 0 and 100") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn bars_carry_their_spread() {
    let rows = [
        ("templates · both · a name so long that it has to be broken into several lines to fit".to_string(), 71.25, Some(0.84)),
        ("descriptions · none".to_string(), 64.0, None),
        ("names <&> σ = 0".to_string(), 3.5, Some(6.0)),
    ];
    let figure = spread_bars("What the parts are worth", "LaFTer, top-1 % (mean and standard deviation over seeds)", &rows).unwrap();
    assert_eq!(check("spread", &figure, "bar"), 3);
    assert_eq!(figure.svg().matches("class=\"whisker\"").count(), 6);
    let svg = spread_bars("t", "v", &[("steady".into(), 49.65, Some(0.0)), ("full".into(), 100.0, None)]).unwrap().svg().to_string();
    assert!(svg.contains("49.65 ± 0.00<") && svg.contains(">100.00<"), "{svg}");
    assert!(spread_bars("t", "v", &[]).is_err());
    for (mean, std) in [(f64::NAN, None), (1.0, Some(f64::NAN)), (1e305, None), (1.0, Some(f64::MAX))] {
        assert!(spread_bars("t", "v", &[("a".into(), mean, std)]).unwrap_err().to_string().contains("leave it out"));
    }
}

#[test]
fn histograms_hold_every_value_once() {
    let mut rng = Rng::new(5);
    let draws = |rng: &mut Rng, n, mean: f32| rng.normals(n, 0.1).into_iter().map(|v| f64::from(v + mean)).collect::<Vec<f64>>();
    let samples = [("right".to_string(), draws(&mut rng, 900, 0.8)), ("wrong".to_string(), draws(&mut rng, 80, 0.5))];
    let figure = histogram("Confidence of pseudo-labels", "confidence", 20, &samples).unwrap();
    assert!(check("histogram", &figure, "bin") <= 40);
    assert!(histogram("t", "v", 10, &[("empty".into(), vec![])]).is_err());
    assert!(histogram("t", "v", 10, &[("one".into(), vec![1.0])]).is_ok());
    let long = [(awkward()[0].clone(), vec![1.0, 2.0]), (awkward()[2].repeat(4), vec![1e-300])];
    assert_eq!(check("histogram_long", &histogram(&awkward()[1], &awkward()[0].repeat(2), 10, &long).unwrap(), "bin"), 3);
    for bad in [f64::NAN, f64::INFINITY, f64::MAX] {
        let error = histogram("t", "v", 10, &[("a".into(), vec![-bad, 0.0, bad])]).unwrap_err().to_string();
        assert!(error.contains("leave it out") && error.lines().count() == 1, "{error}");
    }
    let mut rows = |n, shift: f32| (0..n).map(|_| rng.normals(16, 1.0).into_iter().map(|v| v + shift).collect()).collect::<Vec<Vec<f32>>>();
    let (texts, images) = (rows(40, 1.0), rows(60, -1.0));
    assert!(check("modality-gap", &modality_gap("The modality gap", &texts, &images).unwrap(), "bin") > 20);
    assert!(modality_gap("t", &texts[..1], &images).is_err());
}

#[test]
fn attention_lies_over_the_picture() {
    let picture = RgbImage::from_fn(40, 40, |x, y| Rgb([6 * x as u8, 6 * y as u8, 120]));
    let map = |center: i32| (0..25).map(|i: i32| 1.0 / (1.0 + (i - center).pow(2) as f32)).collect::<Vec<f32>>();
    let maps = [("block 1".to_string(), map(3)), ("block 4".to_string(), map(12))];
    let figure = attention("Class token", &picture, 5, &maps).unwrap();
    assert_eq!((check("attention", &figure, "view"), check("attention", &figure, "scale")), (3, 50));
    // the scale is told, and how far each map goes beyond it
    let peak = 25.0 / map(12).iter().sum::<f32>();
    assert!(figure.svg().contains("the mean of all patches") && figure.svg().contains(&format!("block 4, up to {peak:.1}×")));
    assert!(attention("t", &picture, 4, &maps).unwrap_err().to_string().contains("block 1"));
}

#[test]
fn several_pictures_have_a_row_of_maps_each() {
    let row = |seed: u64, side: u32| {
        let map = |block: usize| {
            (format!("block {}", block + 1), Rng::new(seed + block as u64).normals(49, 1.0).iter().map(|v| v.exp()).collect())
        };
        (scene(side, side, seed), (0..4).map(map).collect::<Vec<(String, Vec<f32>)>>())
    };
    let figure = attention_rows("Attention of the class token", 7, &[row(1, 32), row(2, 224)]).unwrap();
    assert_eq!(check("attention_rows", &figure, "view"), 10);
    let (picture, maps) = row(3, 56);
    let many: Vec<(String, Vec<f32>)> = (0..50).map(|i| (format!("prompt {}", i + 1), maps[i % 4].1.clone())).collect();
    assert_eq!(check("attention_prompts", &attention("Visual prompts", &picture, 7, &many).unwrap(), "view"), 51);
    // attention on one patch alone, and on all alike
    let flat = [("one".to_string(), vec![1.0, 0.0, 0.0, 0.0]), ("even".to_string(), vec![0.25; 4])];
    assert_eq!(check("attention_flat", &attention("", &picture, 2, &flat).unwrap(), "view"), 3);
    assert!(attention_rows("t", 7, &[]).is_err() && attention("t", &picture, 7, &[]).is_err());
    let thin = attention("", &RgbImage::new(1, 5000), 1, &[(awkward()[0].clone(), vec![1.0; 4])]).unwrap();
    assert_eq!(check("attention_thin", &thin, "view"), 2);
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let error = attention("t", &picture, 1, &[("bad".into(), vec![1.0, bad, 2.0])]).unwrap_err().to_string();
        assert!(error.contains("at least 0") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn words_by_class() {
    let say = |class: &str, i: usize| {
        let kind = ["a photo of", "a drawing that shows", "seen from the air on a clear day:"][i % 3];
        format!("{kind} {class}, with its {} and {}.", ["roof", "river", "wings"][i % 3], ["windows", "banks", "feathers"][(i / 3) % 3])
    };
    for (name, classes) in [("words", names(10)), ("words_awkward", awkward()), ("words_100", names(100)), ("words_one", names(1))] {
        let labels: Vec<usize> = (0..classes.len() * 7).map(|i| i % classes.len()).collect();
        let sentences: Vec<String> = labels.iter().enumerate().map(|(i, c)| say(&classes[*c], i * i + c)).collect();
        let figure = word_counts("Descriptions", &classes, &sentences, &labels).unwrap();
        assert_eq!(check(name, &figure, "bar"), classes.len());
    }
    // a class without a sentence, a sentence without a word
    let figure = word_counts("t", &names(2), &[String::new()], &[0]).unwrap();
    assert!(check("words_empty", &figure, "bar") == 2 && figure.svg().contains("no sentence"));
    assert!(word_counts("t", &names(2), &[], &[]).is_err());
    assert!(word_counts("t", &names(2), &["a".into()], &[2]).is_err());
    assert!(word_counts("t", &names(2), &["a".into()], &[]).is_err());
}

#[test]
fn files_and_pages() {
    let evaluation = Evaluation::from_logits(&[1.0, 0.0, 0.0, 1.0], &[0, 0], &["a & b", "c"]).unwrap();
    let figure = confusion(&evaluation.confusion, &evaluation.class_names()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures/confusion.svg");
    figure.save(&path).unwrap();
    // a page may shrink it; in a file only width and height say how large it is
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(!file.contains("height:auto") && Document::parse(&file).is_ok());
    assert_eq!(file, figure.svg().replace(" style=\"max-width:100%;height:auto\"", ""));
    let png = folder.path().join("figures/confusion.png");
    figure.save(&png).unwrap();
    let drawn = image::open(&png).unwrap().to_rgba8();
    let clear = drawn.pixels().filter(|pixel| pixel.0[3] < 255).count();
    assert!(clear < 4 * 12 * 12, "only the four rounded corners may be transparent, {clear} pixels are");
    let drawn = image::DynamicImage::from(drawn).to_rgb8();
    assert_eq!((f64::from(drawn.width()), f64::from(drawn.height())), (2.0 * figure.size().0, 2.0 * figure.size().1));
    let dark = drawn.pixels().filter(|pixel| pixel.0.iter().all(|v| *v < 100)).count();
    assert!(dark > 300, "the texts are missing: {dark} dark pixels");
    for ending in ["figure.gif", "figure"] {
        let error = figure.save(folder.path().join(ending)).unwrap_err().to_string();
        assert!(error.contains(".svg") && error.lines().count() == 1, "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let figures = [("Which classes are mixed up < & >".to_string(), figure.clone()), ("Again".to_string(), figure.clone())];
    let html = index_html("Demo <1>", "<p>Rendered scenes.</p>", &figures, &evaluation.table().to_html());
    if let Ok(folder) = std::env::var("LAFTER_FIGURES") {
        std::fs::write(std::path::Path::new(&folder).join("index.html"), &html).unwrap();
    }
    assert_eq!(html.matches("<svg").count(), 2);
    assert!(html.contains("mixed up &lt; &amp; &gt;") && html.contains("Demo &lt;1&gt;") && html.contains("a &amp; b"));
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http"), "the page must need nothing from elsewhere");
    assert_eq!(format!("{figure:?}").lines().count(), 1);
}
