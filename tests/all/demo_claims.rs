//! What README.md says of the demo, checked against the report.json files that `lafter demo` wrote.
//!
//! ```text
//! for seed in 7777 1 2; do cargo run --release -- demo --seed $seed --out target/ci/demo-$seed; done
//! LAFTER_DEMO_REPORTS=target/ci cargo test --test all demo_claims:: -- --ignored --nocapture
//! ```

use lafter::eval::Report;

/// The table and the counts that README.md shows: another processor may round differently, so accuracies may differ by a point.
fn shown_in_the_readme(report: &Report) {
    let readme = include_str!("../../README.md");
    let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    for row in report.to_string().lines().filter(|line| !numbers(line).is_empty()) {
        let name = row.split("  ").next().unwrap();
        let shown = readme.lines().find(|line| line.starts_with(&format!("{name}  "))).unwrap_or_else(|| panic!("README has no {name}"));
        let (shown, found) = (numbers(shown), numbers(row));
        assert_eq!(shown.len(), found.len(), "{name}");
        assert!(shown.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 1.0), "{name}: README says {shown:?}, the demo {found:?}");
    }
    let (trainable, images) = (report.trainable.unwrap(), report.images.as_ref().unwrap());
    let learned = format!("{} parameters learned ({:.2} % of the model)", trainable.count, 100.0 * trainable.share);
    let texts: usize = ["class_names", "templates", "descriptions"].iter().filter_map(|source| report.texts.get(source)).sum();
    for claim in [learned, format!("{},{:03} unlabeled", images.train / 1000, images.train % 1000), format!("{texts} texts")] {
        assert!(readme.contains(&claim), "README does not say: {claim}");
    }
}

/// In percent, with the first seed; other seeds draw other pictures.
fn zero_shot_of_the_readme() -> f64 {
    let row = include_str!("../../README.md").lines().find_map(|line| line.strip_prefix("zero-shot  "));
    row.and_then(|row| row.split_whitespace().next()?.parse().ok()).expect("README's table of the demo")
}

#[test]
#[ignore = "needs the reports of `lafter demo` in the folder that LAFTER_DEMO_REPORTS names"]
fn three_seeds_hold_what_the_readme_says() {
    let folder = std::env::var("LAFTER_DEMO_REPORTS").expect("set LAFTER_DEMO_REPORTS to the folder of the demo's outputs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path().join("report.json");
        let report = Report::load(&path).unwrap();
        let zero_shot = report.zero_shot.as_ref().unwrap().top1;
        let text = report.text_classifier.as_ref().unwrap().evaluation.top1;
        let section = report.lafter.as_ref().unwrap();
        let lafter = section.evaluation.top1;
        println!("seed {}: zero-shot {zero_shot:.1}, text classifier {text:.1}, LaFTer {lafter:.1}", report.seed);
        assert!((zero_shot - zero_shot_of_the_readme()).abs() <= 5.0, "the CLIP is the same for every seed: {zero_shot}");
        assert!(text >= zero_shot, "texts help: {text} against {zero_shot}");
        assert!(lafter >= text + 8.0, "unlabeled images help: {lafter} against {text}");
        assert_eq!(section.per_epoch.last(), Some(&Some(lafter)), "the reported number is the last epoch's");
        assert!(report.peak_rss_bytes.unwrap() < 1 << 30, "peak memory {:?}", report.peak_rss_bytes);
        if report.seed == 7777 {
            shown_in_the_readme(&report);
        }
        assert!(path.with_file_name("index.html").exists() && path.with_file_name("lafter.safetensors").exists());
        seeds.push(report.seed);
    }
    seeds.sort_unstable();
    seeds.dedup();
    assert!(seeds.len() >= 3, "three seeds are promised, found {seeds:?}");
}
