//! Texts: class lists, templates, queries, descriptions, journals, what a language model answers.

use lafter::describe::generate::{Answer, CleanCounts, Cleaner, Finish, Journal, Keep, Plan, Queries, Settings, queries_of};
use lafter::describe::{Descriptions, Templates, read_class_names};
use lafter::eval::Report;

use crate::{Form, Loader, root};

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn classes(name: &'static str, form: Form, texts: &[&str]) {
    Loader { name, inputs: 400, file: "classes", form, seeds: seeds(texts), others: vec![] }.check(|folder| {
        let names = read_class_names(folder.join("classes"))?;
        assert!(!names.names().is_empty(), "no class");
        for name in names.names() {
            assert!(!name.trim().is_empty() && !name.contains(char::is_control), "no name: {name:?}");
        }
        Ok(())
    });
}

#[test]
fn class_list() {
    let texts =
        ["house\nfish\npolar bear\n", "n02391049\tzebra\nn01440764\ttench\n", "airplane\r\nforêt\r\n\r\nsea\r\n", "0 house\n1 fish\n"];
    classes("class_list", Form::Lines, &texts);
}

#[test]
fn class_list_json() {
    classes(
        "class_list_json",
        Form::Json,
        &[r#"["house", "fish"]"#, r#"{"0": ["n02391049", "zebra"], "1": ["n01440764", "tench"]}"#, r#"{"house": 0, "fish": 1}"#],
    );
}

#[test]
fn templates() {
    let seeds = seeds(&["a photo of a {}.\n# a comment\nart of the {}\n", "{}\n"]);
    Loader { name: "templates", inputs: 500, file: "templates.txt", form: Form::Lines, seeds, others: vec![] }.check(|folder| {
        let sentences = Templates::read(folder.join("templates.txt"))?.fill("zebra");
        assert!(
            !sentences.is_empty() && sentences.iter().all(|sentence| sentence.contains("zebra") && !sentence.contains('\n')),
            "no sentence"
        );
        Ok(())
    });
}

#[test]
fn queries() {
    let seeds = seeds(&["Describe {article} {}.\nWhat does {article} {} look like?\n", "{}\n"]);
    Loader { name: "queries", inputs: 500, file: "queries.txt", form: Form::Lines, seeds, others: vec![] }.check(|folder| {
        let filled = Queries::read(folder.join("queries.txt"))?.fill("zebra");
        assert!(!filled.is_empty() && filled.iter().all(|query| query.contains("zebra")), "no query");
        Ok(())
    });
}

#[test]
fn descriptions() {
    let seeds = seeds(&[
        r#"{"house": ["A house has a roof.", "A house has walls."], "fish": ["A fish has fins."]}"#,
        r#"[["A house has a roof."], ["A fish has fins.", "."]]"#,
        r#"{"0": ["A house has a roof."], "1": ["A fish has fins."]}"#,
    ]);
    Loader { name: "descriptions", inputs: 500, file: "texts.json", form: Form::Json, seeds, others: vec![] }.check(|folder| {
        let sentences = Descriptions::read(folder.join("texts.json"))?.for_classes(&["house", "fish"])?;
        assert!(
            sentences.len() == 2 && sentences.iter().all(|own| own.iter().any(|sentence| !sentence.trim().is_empty())),
            "a class without a sentence"
        );
        Ok(())
    });
}

/// An answer that is taken belongs to what was asked.
#[test]
fn journal() {
    let queries = || Queries::new(["Describe {}.", "What is {}?"]).expect("queries");
    let plan = Plan::new(&["house", "fish"], queries(), 2, Settings::chat()).expect("a plan");
    let path = root().join("journal-seed.jsonl");
    let _ = std::fs::remove_file(&path);
    let mut journal = Journal::open(&path).expect("a journal");
    for i in 0..plan.len() {
        let answer = Answer { text: format!("Sentence {i} says something."), finish: Finish::Stop };
        journal.append(&plan.request(i), "model", &answer).expect("a line");
    }
    drop(journal);
    let text = std::fs::read_to_string(&path).expect("the journal");
    // the time of day is not part of an input
    let lines = text.lines().map(|line| line.rsplit_once("\"time\":").map_or(line, |(line, _)| line).to_string() + "\"time\":1}\n");
    let seed = lines.collect::<String>().into_bytes();
    Loader { name: "journal", inputs: 400, file: "journal.jsonl", form: Form::JsonLines, seeds: vec![seed], others: vec![] }.check(
        |folder| {
            let mut journal = Journal::open(folder.join("journal.jsonl"))?;
            for i in 0..plan.len() {
                let request = plan.request(i);
                let Some(record) = journal.get(request.key("model"))? else { continue };
                let same = record.query == request.query && record.settings == request.settings && record.completion == request.completion;
                assert!(same && record.model == "model", "an answer to another request");
            }
            Ok(())
        },
    );
}

/// What is kept of an answer is a sentence on one line.
#[test]
fn answers() {
    let seeds = seeds(&[
        "Sure! Here is a description:\n\n1. **An owl** has large eyes and a round face.\n2. It hunts at night.\n\nLet me know if you need more!",
        "<think>\nThe user wants an owl.\n</think>\nAn owl has large eyes. It hunts at night.",
        "<|channel|>analysis<|message|>We think.<|end|><|start|>assistant<|channel|>final<|message|>An owl has large eyes.<|return|>",
        "{\"sentences\": [\"An owl has large eyes.\", \"It hunts at night.\"]}",
        "| feature | text |\n|---|---|\n| eyes | An owl has large eyes. |\n",
        "What does a {} look like from above?\n- Describe [class name] at noon.\n",
    ]);
    Loader { name: "answers", inputs: 500, file: "answer.txt", form: Form::Lines, seeds, others: vec![] }.check(|folder| {
        let bytes = std::fs::read(folder.join("answer.txt")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for (keep, settings) in [(Keep::First, Settings::official()), (Keep::Each, Settings::chat()), (Keep::Whole, Settings::chat())] {
            let mut counts = CleanCounts::default();
            for finish in [Finish::Stop, Finish::Length] {
                for sentence in (Cleaner { keep, ..Cleaner::default() }).class().clean(&text, finish, &settings, &mut counts) {
                    assert!(sentence.chars().any(char::is_alphabetic) && !sentence.contains(['\n', '\r']), "no sentence: {sentence:?}");
                }
            }
        }
        if let Ok((queries, _)) = queries_of(&Answer { text, finish: Finish::Stop }, 5) {
            assert!(queries.len() <= 5 && queries.fill("zebra").iter().all(|query| query.contains("zebra")), "no query");
        }
        Ok(())
    });
}

/// Rates of a report that is read are rates.
#[test]
fn report_json() {
    use lafter::eval::{EpochRecord, Evaluation, LafterReport, TextClassifierReport};
    let logits = [2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.5, 0.6];
    let evaluation = || Evaluation::from_logits(&logits, &[0, 1, 1, 0], &["river", "forest"]).expect("an evaluation");
    let mut report = Report::new(serde_json::json!({"preset": "official"}), 7777, "cpu");
    (report.zero_shot, report.peak_rss_bytes) = (Some(evaluation()), Some(1));
    report.text_classifier = Some(TextClassifierReport { evaluation: evaluation(), loss: vec![1.5, 0.5] });
    let record = |epoch, test_top1| EpochRecord {
        epoch,
        loss: 0.5,
        agreement: 50.0,
        confidence: 50.0,
        kept: None,
        mean_weight: None,
        classes_named: None,
        terms: Default::default(),
        pseudo_label_accuracy: None,
        test_top1,
        signals: None,
        images: 4,
        steps: 1,
        seconds: 0.5,
    };
    report.lafter = Some(LafterReport::new(evaluation(), vec![record(1, None), record(2, Some(50.0))]));
    report.timing.stage("tuning", 1.5);
    let seed = report.to_json().expect("a report").into_bytes();
    Loader { name: "report_json", inputs: 500, file: "report.json", form: Form::Json, seeds: vec![seed], others: vec![] }.check(|folder| {
        let report = Report::load(folder.join("report.json"))?;
        let rate = |rate: f64| assert!((0.0..=100.0).contains(&rate), "no rate: {rate}");
        for (_, evaluation) in report.sections() {
            rate(evaluation.top1);
            rate(evaluation.calibration_error);
            rate(evaluation.mean_confidence);
            evaluation.top5.into_iter().chain(evaluation.per_class.iter().filter_map(|class| class.accuracy)).for_each(rate);
            let images = evaluation.per_class.iter().try_fold(0usize, |sum, class| sum.checked_add(class.n));
            assert!(images == Some(evaluation.n), "classes of more or fewer images than there are");
            let _ = (evaluation.table().to_csv(), evaluation.mistakes(3));
        }
        report.lafter.iter().flat_map(|section| section.per_epoch.iter().flatten()).for_each(|top1| rate(*top1));
        let _ = (report.to_string(), report.table().to_html(), report.to_json()?);
        Ok(())
    });
}
