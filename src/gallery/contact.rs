//! Contact sheets: the pictures that a class got.

use image::RgbImage;
use image::imageops::FilterType;

use crate::data::Dataset;
use crate::error::{Error, Result, noun};
use crate::plot::{self, Figure};
use crate::predictions::{ClassPicks, Picks, PredictionRow};

/// Side of a thumbnail in pixels: a sheet of the largest class stays well below 2 MB.
const SIDE: u32 = 96;
/// Classes on the sheet of a whole run: those that tuning changed most come first.
const MOST_CLASSES: usize = 12;
/// Pictures of a kind on that sheet.
const EACH: usize = 3;

/// One class: its surest pictures, its least sure ones, and those whose answer tuning changed to it, a row each.
///
/// # Errors
/// [`Error::Data`] if the class got no picture that can be read.
pub fn class_pictures(class: &str, picks: &Picks, pictures: &Dataset) -> Result<Figure> {
    let picked = picks.of(class).ok_or_else(|| Error::Data(format!("no picture was called \"{class}\"")))?;
    let rows = [("surest", &picked.surest), ("least sure", &picked.least_sure), ("changed", &picked.changed)];
    let rows: Vec<_> = rows.into_iter().map(|(kind, rows)| thumbnails(kind, rows, pictures)).filter(|row| !row.is_empty()).collect();
    if rows.is_empty() {
        return Err(Error::Data(format!("none of the pictures called \"{class}\" can be read")));
    }
    plot::views(&format!("{class}: {} {}", picked.count, noun(picked.count, "picture")), &rows)
}

/// Up to twelve of the `count` classes, a row each: three of the surest, three of the least sure, three that tuning changed. With what is
/// shown, in words; `None` if nothing can be read.
pub(super) fn all_classes(picks: &Picks, pictures: &Dataset, count: usize) -> Result<Option<(String, Figure)>> {
    let classes = most_changed(picks);
    let row = |(class, picked): &(&str, &ClassPicks)| {
        let kinds = [("surest", &picked.surest), ("least sure", &picked.least_sure), ("changed", &picked.changed)];
        let of_kind =
            |(kind, rows): (&str, &Vec<PredictionRow>)| thumbnails(&format!("{class}, {kind}"), &rows[..rows.len().min(EACH)], pictures);
        kinds.into_iter().flat_map(of_kind).collect::<Vec<_>>()
    };
    let rows: Vec<_> = classes.iter().map(row).filter(|row| !row.is_empty()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let which = which(picks, rows.len(), count);
    let caption = format!("{which}: the surest pictures, the least sure, and those whose answer is another than the text classifier's.");
    Ok(Some((caption, plot::views("Pictures by answer", &rows)?)))
}

/// Which classes a sheet of `shown` of them has, in words.
fn which(picks: &Picks, shown: usize, count: usize) -> String {
    let named = picks.iter().count();
    let most = if picks.iter().any(|(_, picked)| picked.came > 0) { "those that changed most" } else { "the most frequent" };
    match (named > shown, count > named) {
        (true, true) => format!("{shown} of the {named} classes that were named (of {count}), {most}"),
        (true, false) => format!("{shown} of {named} classes, {most}"),
        (false, true) => format!("Every class that was named ({named} of {count})"),
        (false, false) => "Every class".into(),
    }
}

/// The classes of a sheet: those that tuning changed most come first.
pub(super) fn most_changed(picks: &Picks) -> Vec<(&str, &ClassPicks)> {
    let mut classes: Vec<(&str, &ClassPicks)> = picks.iter().collect();
    classes.sort_by_key(|(_, picked)| std::cmp::Reverse((picked.came, picked.count)));
    classes.truncate(MOST_CLASSES);
    classes
}

/// The picture, no larger than a sheet needs it; `None` if it cannot be read.
pub(super) fn thumbnail(pictures: &Dataset, index: usize) -> Option<RgbImage> {
    let picture = pictures.image(index).ok()?;
    if picture.width().max(picture.height()) <= SIDE {
        return Some(picture);
    }
    Some(image::DynamicImage::ImageRgb8(picture).resize(SIDE, SIDE, FilterType::Triangle).to_rgb8())
}

fn thumbnails(kind: &str, rows: &[PredictionRow], pictures: &Dataset) -> Vec<(String, RgbImage)> {
    let captioned = |row: &PredictionRow| {
        let before = row.text_classifier.as_ref().filter(|_| row.changed == Some(true) && kind.ends_with("changed"));
        let before = before.map_or(String::new(), |before| format!(", was {before}"));
        Some((format!("{kind}: {:.0} %{before}", 100.0 * row.probability), thumbnail(pictures, row.index)?))
    };
    rows.iter().filter_map(captioned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scenes::{Domain, Scenes};

    #[test]
    fn a_sheet_of_many_pictures_stays_small() {
        let pictures = Dataset::new(Scenes::new(Domain::Target, 10_000, 1));
        let mut picks = Picks::new(12);
        for index in 0..10_000 {
            let probability = (index * 7919 % 10_000) as f64 / 10_000.0;
            picks.add(&PredictionRow {
                index,
                picture: pictures.name(index),
                class: "fish".into(),
                probability,
                runner_up: "boat".into(),
                margin: probability / 2.0,
                zero_shot: None,
                text_classifier: Some("boat".into()),
                changed: Some(index % 3 == 0),
                top: vec![],
            });
        }
        let svg = class_pictures("fish", &picks, &pictures).unwrap().svg().len();
        assert!(svg < 2_000_000, "{svg}");
        let (caption, figure) = all_classes(&picks, &pictures, 1).unwrap().unwrap();
        assert!(caption.starts_with("Every class:") && figure.svg().matches("<image").count() == 9 && figure.svg().contains("was boat"));
        assert!(class_pictures("cat", &picks, &pictures).is_err());
        assert!(all_classes(&Picks::new(3), &pictures, 1).unwrap().is_none());
        assert_eq!(which(&picks, 1, 200), "Every class that was named (1 of 200)");
        assert_eq!(which(&picks, 0, 1), "0 of 1 classes, those that changed most");
    }
}
