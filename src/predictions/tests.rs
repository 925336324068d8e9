//! Answers that ranks share: the rows of one process, also where another number goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};

use super::*;
use crate::classify::ZeroShotClassifier;
use crate::clip::Clip;
use crate::data::Dataset;
use crate::data::scenes::{Domain, Scenes};
use crate::describe::Templates;
use crate::error::Error;
use crate::progress::{Event, silent};
use crate::ranks::threads;

#[test]
fn another_number_of_ranks_goes_on_with_the_answers_of_a_stopped_pass() {
    let (clip, pictures) = (Clip::demo().unwrap(), Dataset::new(Scenes::new(Domain::Source, 11, 1)));
    let zero_shot = ZeroShotClassifier::fit(&clip, pictures.classes(), &Templates::single()).unwrap();
    let predicting = Predicting { batch_size: 2, top: 2, ..Predicting::new(&pictures, pictures.classes(), &clip) };
    let folder = tempfile::tempdir().unwrap();
    let (asked, file) = (AtomicUsize::new(0), |name: String| folder.path().join(name));
    let on = |size: usize, most: usize, first: &str| {
        asked.store(0, Ordering::SeqCst);
        threads::run(size, |ranks| {
            let name = if ranks.rank() == 0 { first.to_string() } else { format!("{size}-{}", ranks.rank()) };
            let (mut partial, mut rows) = (Partial::open(&file(name), "test")?, Vec::new());
            let answer = |pixels: &_| match asked.fetch_add(1, Ordering::SeqCst) < most {
                true => Ok(zero_shot.logits(&clip.encode_image(pixels)?)?.into()),
                false => Err(Error::Data("killed".into())),
            };
            let each = |row: &PredictionRow| {
                rows.push(row.clone());
                Ok(())
            };
            let predicted = predicting.run_among(ranks, &mut partial, silent, answer, each)?;
            Ok::<_, Error>((rows, predicted.counts))
        })
    };
    let alone = on(1, usize::MAX, "alone").remove(0).unwrap();
    assert!(on(2, 4, "shared").iter().all(|result| result.is_err()));
    let shared = on(3, usize::MAX, "shared");
    assert_eq!((asked.load(Ordering::SeqCst), alone.0.len()), (2, 11), "two batches of six were left");
    shared.into_iter().for_each(|result| assert_eq!(result.unwrap(), alone));
}

#[test]
fn answers_that_decide_nothing_are_told() {
    let (clip, pictures) = (Clip::demo().unwrap(), Dataset::new(Scenes::new(Domain::Source, 3, 1)));
    let folder = tempfile::tempdir().unwrap();
    let told = |bias: f64| {
        let mut notices = Vec::new();
        let events = |event: &Event| {
            if let Event::Notice(text) = event {
                notices.push(text.clone())
            }
        };
        let answer = |pixels: &Tensor| {
            let rows: Vec<f32> = (0..pixels.dim(0)? * 12).map(|i| if i % 12 == 5 { bias as f32 } else { 0.0 }).collect();
            Ok(Tensor::from_vec(rows, (pixels.dim(0)?, 12), &Device::Cpu)?.into())
        };
        let mut partial = Partial::open(&folder.path().join(bias.to_string()), "test").unwrap();
        Predicting::new(&pictures, pictures.classes(), &clip).run(&mut partial, events, answer, |_| Ok(())).unwrap();
        notices
    };
    let notices = told(0.0);
    assert!(notices.len() == 1 && notices[0].starts_with("3 of 3 pictures have the same probability"), "{notices:?}");
    assert!(told(1e-3).is_empty());
}

#[test]
fn classes_that_share_a_name_are_told_apart() {
    let classes = ["crane", "kite", "crane"].map(String::from);
    let logits = |answers: &[usize]| {
        let rows: Vec<Vec<f32>> = answers.iter().map(|answer| (0..3).map(|class| f32::from(class == *answer)).collect()).collect();
        Tensor::new(rows, &Device::Cpu).unwrap()
    };
    let answers = Answers { text_classifier: Some(logits(&[0, 0, 1])), ..logits(&[2, 0, 1]).into() };
    let rows = Rows { classes: &classes, threshold: 0.0, top: 1 }.of(&[0, 1, 2], |index| index.to_string(), &answers).unwrap();
    assert_eq!(rows.iter().map(|row| row.class.as_str()).collect::<Vec<_>>(), ["crane (#2)", "crane", "kite"]);
    let predicted = Predicted::of(&rows, &classes, Vec::new(), 0.0);
    assert_eq!((predicted.counts, predicted.changed), (vec![1, 1, 1, 0], Some(1)));
}
