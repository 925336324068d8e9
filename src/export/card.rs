//! The model card: README.md of a run's folder in the hub's format, so that the folder can be uploaded as it is.

use std::path::Path;

use serde_json::Value;

use crate::error::{Result, noun};
use crate::eval::{Report, Select, Selection, unique_names, unread};
use crate::files::{is_unedited, save_atomically, signed};
use crate::hub::is_id;
use crate::inputs::Inputs;
use crate::run_folder::{REPORT, WEIGHTS};
use crate::settings::Preset;
use crate::tune::WeightsInfo;

/// The card's file.
const FILE: &str = "README.md";
/// Class names that a card lists.
const LISTED: usize = 200;
/// Settings that a card shows; report.json has all.
const SHOWN: [&str; 10] = [
    "preset",
    "text.epochs",
    "text.learning_rate",
    "text.noise",
    "tune.epochs",
    "tune.batch_size",
    "tune.learning_rate",
    "tune.prompts",
    "tune.deep_prompts",
    "tune.precision",
];

/// What the author of a card says; the rest is read from the run's folder.
///
/// ```no_run
/// lafter::export::Card { license: Some("mit".into()), ..Default::default() }.write("lafter-out", false)?;
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// The title; the folder's name if it is not given, or blank.
    pub name: Option<String>,
    /// The license of these weights. Without one, or with a blank one, the field stays empty, for you to fill in.
    pub license: Option<String>,
    /// The license of the base model, which the card names as a thing to look at.
    pub base_license: Option<String>,
}

/// What became of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardOutcome {
    /// It was written.
    Written,
    /// Another README.md, or an edited card, was there and was left alone.
    Kept,
}

impl Card {
    /// Writes `README.md` next to the `lafter.safetensors` and `report.json` of a finished run. One that is there already is replaced
    /// if it is a card that nobody edited, or with `overwrite`.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Data`](crate::Error::Data) or [`Error::LafterWeights`](crate::Error::LafterWeights) if the
    /// folder holds no finished run, or the card cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>, overwrite: bool) -> Result<CardOutcome> {
        let folder = folder.as_ref();
        let path = folder.join(FILE);
        if !overwrite && path.exists() && !is_unedited(&path) {
            return Ok(CardOutcome::Kept);
        }
        let report = Report::load(folder.join(REPORT))?;
        let info = WeightsInfo::read(folder.join(WEIGHTS))?;
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().to_string()));
        let name = given(&self.name).map(str::to_string).or(name).unwrap_or_else(|| "LaFTer".into());
        save_atomically(&path, self.text(&name, &report, &info).as_bytes())?;
        Ok(CardOutcome::Written)
    }

    /// The card's text.
    pub fn text(&self, name: &str, report: &Report, info: &WeightsInfo) -> String {
        let parts = [
            self.head(info),
            format!("# {}\n\n{}\n", plain(name), summary(info, report)),
            format!("## Classes\n\n{}\n", classes(&info.classes)),
            format!("## Results\n\n{}", results(report)),
            format!("## Data\n\n{}", data(report)),
            format!("## Settings\n\n{}", settings(report)),
            self.loading(info, report),
        ];
        let text = parts.join("\n");
        signed(&text)
    }

    /// The hub's fields, in YAML.
    fn head(&self, info: &WeightsInfo) -> String {
        let yaml = |value: &str| Value::from(value).to_string(); // JSON's texts are YAML's
        let license = match (given(&self.license), given(&self.base_license)) {
            (Some(license), _) => yaml(license),
            (None, Some(base)) => format!(" # yours to fill in; the base model's is {}", base.replace(char::is_control, " ")),
            (None, None) => " # yours to fill in; look at the base model's".into(),
        };
        let base = if is_hub_id(&info.base_model) { format!("base_model: {}\n", yaml(&info.base_model)) } else { String::new() };
        format!(
            "---\nlicense: {license}\n{base}library_name: lafter\npipeline_tag: image-classification\ntags:\n- clip\n- lafter\n- label-free\n---\n"
        )
    }

    fn loading(&self, info: &WeightsInfo, report: &Report) -> String {
        let base = base(info);
        let revision =
            info.base_commit.as_ref().filter(|_| is_hub_id(&info.base_model)).map(|commit| format!(" --revision {}", quoted(commit)));
        let model = format!("{}{}", quoted(&base), revision.unwrap_or_default());
        let license = given(&self.base_license).map_or_else(String::new, |license| format!(" (license: {})", plain(license)));
        format!(
            "## How to load\n\nThe file `lafter.safetensors` holds {}. It works over \
             its base model, {}{license}, and is refused over another: lafter knows it by the SHA-256 `{}`, taken over its tensors and not over a \
             file.\n\n```sh\nlafter predict --model {model} \
             --weights lafter.safetensors photo.jpg\nlafter export --model {model} --weights lafter.safetensors --out model.onnx\n```\n\nThe \
             documentation of `lafter::export::pytorch` has the lines of Python that load it over transformers' `CLIPModel`.\n\n## Limits\n\nEvery \
             picture gets one of the names above, also one that shows none of them. Probabilities are those of a softmax and not calibrated. \
             No label was used in training, so a class can be named wrongly throughout: look at its pictures before you rely on it.\n",
            held(report),
            plain(&base),
            info.weights_hash
        )
    }
}

/// A text that says something.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// What the file holds beside the base model, in words.
fn held(report: &Report) -> String {
    let tune = |name: &str| report.config.get("tune").and_then(|tune| tune.get(name));
    let on = |name: &str| report.is_tuned() && tune(name) == Some(&Value::Bool(true));
    let parts = [
        (report.is_tuned() && tune("prompts") != Some(&Value::from(0)), "visual prompts"),
        (on("tune_norms"), "the scale and shift of layer norms"),
        (on("tune_biases"), "the biases of the tower's layers"),
        (report.is_tuned() && tune("low_rank").is_some_and(|set| !set.is_null()), "changes of low rank (LoRA)"),
    ];
    let parts: Vec<&str> = parts.into_iter().filter(|(there, _)| *there).map(|(_, part)| part).collect();
    if parts.is_empty() { "the head".into() } else { format!("{}, and the head", parts.join(", ")) }
}

/// The base model as others know it: a hub id, or the last part of a path.
fn base(info: &WeightsInfo) -> String {
    if is_hub_id(&info.base_model) { info.base_model.clone() } else { last(&info.base_model) }
}

/// Whether a name is one of the hub's, `owner/name`, and not that of a folder here, which is loaded in its place.
fn is_hub_id(name: &str) -> bool {
    name.contains('/') && is_id(name) && !Path::new(name).exists()
}

/// A word of a command as a shell takes it.
fn quoted(word: &str) -> String {
    let word = word.replace(char::is_control, " ");
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "/._-+@:=,".contains(c));
    if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A name without the folders of the machine that it was on.
fn last(name: &str) -> String {
    Path::new(name).file_name().map_or_else(|| name.to_string(), |last| last.to_string_lossy().to_string())
}

/// A text in which Markdown sees no marks, also where it begins a line.
fn plain(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (digits, mut first) = (text.len() - rest.len(), rest.chars());
    let begins_list = match first.next() {
        Some('-' | '+') => digits == 0,
        Some('.' | ')') => digits > 0 && first.next().is_none_or(char::is_whitespace),
        _ => false,
    };
    let is_mark = |(at, c): (usize, char)| "\\`*_[]<>|#&~$".contains(c) || begins_list && at == digits;
    text.char_indices().flat_map(|(at, c)| if is_mark((at, c)) { vec!['\\', c] } else { vec![c] }).collect()
}

fn summary(info: &WeightsInfo, report: &Report) -> String {
    let (count, base, version) = (info.classes.len(), plain(&base(info)), plain(&info.version));
    let what = format!("A classifier of pictures into {count} {}", noun(count, "class"));
    let with = format!("with the Rust crate `lafter` {version}");
    if report.is_tuned() {
        return format!("{what}: {base} tuned to them without a label by {}, {with}.", method(&info.preset));
    }
    let chosen = report.selection.as_ref().map_or_else(|| "the text classifier".to_string(), Selection::chosen);
    format!("{what}, made of {base} without a label, {with}. Its tower is left as it was: the result of the run is {chosen}.")
}

/// What tuned, by the run's preset, and its authors.
fn method(preset: &str) -> String {
    let lafter = "[LaFTer](https://arxiv.org/abs/2305.18287) (Mirza et al., NeurIPS 2023)";
    match Preset::from_name(preset) {
        Some(Preset::Dpa(_)) => "the blocks of DPA (Ali et al., WACV 2025)".into(),
        Some(Preset::MustLite(_)) => format!("the self-training of MUST (Li et al., 2022) on what {lafter} tunes"),
        Some(Preset::Cpl(_)) => format!("CPL (Zhang et al., 2024) within {lafter}"),
        Some(Preset::Ueo) => "the objective of UEO (Liang et al., 2024)".into(),
        Some(Preset::Nola) => "the blocks of NoLA (Imam et al., 2024)".into(),
        Some(Preset::Official | Preset::Paper | Preset::Demo) | None => lafter.into(),
    }
}

fn classes(names: &[String]) -> String {
    let listed: Vec<String> = unique_names(names).iter().take(LISTED).map(|name| plain(name)).collect();
    let more = names.len().saturating_sub(LISTED);
    let rest = if more > 0 { format!(", and {more} more in the file's metadata") } else { String::new() };
    format!("{}{rest}", listed.join(", "))
}

fn results(report: &Report) -> String {
    let table = report.table();
    if table.is_empty() {
        return "There were no labels, so no accuracies are known.\n".into();
    }
    let labeled = !report.sections().is_empty();
    let selected = report.selection.as_ref().filter(|selection| selection.result == Select::Signals);
    let words = match (labeled, selected) {
        (true, None) => {
            let last = if report.lafter.is_some() { " LaFTer's are those after the last epoch." } else { "" };
            format!("Labels were used for these numbers only.{last}")
        }
        (true, Some(selection)) => {
            let top1 = selection.selected_top1.map_or_else(String::new, |top1| format!(" (top-1 {top1:.2} %)"));
            format!(
                "Labels were used for these numbers only. The row LaFTer is the last epoch's; the weights are those of {}, which signals \
                 without labels chose{top1}.",
                selection.chosen()
            )
        }
        (false, selected) => {
            let weights = selected.map_or_else(|| "the last epoch".to_string(), Selection::chosen);
            format!(
                "There were no labels, so no accuracies are known; these are signals without labels. The weights are those of {weights}."
            )
        }
    };
    format!("{}\n{words}\n", table.to_markdown())
}

fn data(report: &Report) -> String {
    let inputs = report.extra.get("inputs").and_then(|inputs| serde_json::from_value::<Inputs>(inputs.clone()).ok()).unwrap_or_default();
    let set = |set: &crate::inputs::SetInput| {
        let what_for = if set.name == "train" { "unlabeled in training" } else { "labeled, for evaluation only" };
        let used = match (&report.images, set.name.as_str()) {
            (Some(images), "train") => images.train,
            (Some(images), "test") => images.test,
            _ => set.pictures,
        };
        let unread = unread(set.pictures, used).map_or_else(String::new, |unread| format!("; {unread}"));
        let origin = match set.origin.as_str() {
            "pictures" => String::new(), // nothing is known
            hub if hub.starts_with("hf:") => {
                let commit = set.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
                format!(" of {}{}", plain(hub), plain(&commit))
            }
            here => format!(" of {}", plain(&last(here))),
        };
        format!("- {}: {used} {}{origin} ({what_for}{unread})\n", plain(&set.name), noun(used, "picture"))
    };
    let texts = if inputs.texts.is_empty() { String::new() } else { format!("- texts: {}\n", plain(&inputs.texts)) };
    format!("{}{texts}", inputs.sets.iter().map(set).collect::<String>())
}

fn settings(report: &Report) -> String {
    let value = |path: &&str| {
        let found = path.split('.').try_fold(&report.config, |value, part| value.get(part))?;
        let text = found.as_str().map_or_else(|| found.to_string(), str::to_string);
        Some(format!("| `{path}` | {} |\n", plain(&text)))
    };
    let rows: String = SHOWN.iter().filter_map(value).chain([format!("| `seed` | {} |\n", report.seed)]).collect();
    let learned = report.trainable.filter(|_| report.is_tuned()).map_or_else(String::new, |trainable| {
        format!("\n{} parameters were learned, {:.2} % of the model.\n", trainable.count, 100.0 * trainable.share)
    });
    format!("| setting | value |\n|---|---|\n{rows}{learned}\n`report.json` has all settings and numbers.\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{ImageCounts, TrainableCount};
    use crate::hub::folder_name;

    fn info() -> WeightsInfo {
        let json = serde_json::json!({
            "base_model": "/home/someone/my_clip", "weights_hash": "ab", "classes": ["a|b", "<c>"], "preset": "official", "seed": 7,
            "normalize": false, "version": "0.1.0",
        });
        serde_json::from_value(json).unwrap()
    }

    fn report() -> Report {
        let mut report = Report::new(serde_json::json!({"preset": "official", "tune": {"prompts": 50}}), 7, "cpu");
        report.trainable = Some(TrainableCount { count: 12, share: 0.01 });
        report
    }

    #[test]
    fn a_card_has_the_hubs_head_and_no_folder_of_this_machine() {
        let text = Card { base_license: Some("mit".into()), ..Card::default() }.text("birds", &report(), &info());
        assert!(text.starts_with("---\nlicense:  # yours to fill in; the base model's is mit\nlibrary_name: lafter\n"), "{text}");
        assert!(!text.contains("/home") && text.contains("my\\_clip") && text.contains("a\\|b, \\<c\\>"), "{text}");
        assert!(text.contains("| `tune.prompts` | 50 |") && text.contains("12 parameters were learned, 1.00 %"), "{text}");
        assert!(text.contains("no accuracies are known"), "{text}");
        assert!(text.contains("holds visual prompts, and the head. It works"), "{text}");
        let tuned = serde_json::json!({"tune": {"prompts": 0, "tune_norms": true, "low_rank": {"rank": 4}}});
        let text = Card::default().text("birds", &Report { config: tuned, ..report() }, &info());
        assert!(text.contains("holds the scale and shift of layer norms, changes of low rank (LoRA), and the head."), "{text}");
        assert!(text.contains("| `seed` | 7 |"), "{text}");
        assert_eq!(classes(&["boat", "car", "boat"].map(String::from)), "boat, car, boat (\\#2)");
        let hub = WeightsInfo { base_model: "openai/clip".into(), ..info() };
        let text = Card { license: Some("cc-by-4.0".into()), ..Card::default() }.text("birds", &report(), &hub);
        assert!(text.starts_with("---\nlicense: \"cc-by-4.0\"\nbase_model: \"openai/clip\"\n"), "{text}");
        let text = Card::default().text("birds", &report(), &WeightsInfo { base_commit: Some("0a1b".into()), ..hub });
        assert!(text.contains("--model openai/clip --revision 0a1b --weights"), "{text}");
        // a folder is no model of the hub, though its name may look like one
        for (folder, shown) in [("demo", "demo"), ("src/export", "export"), ("data/my clip", "'my clip'"), ("/a/b's", "'b'\\''s'")] {
            let text = Card::default().text("birds", &report(), &WeightsInfo { base_model: folder.into(), ..info() });
            assert!(!text.contains("base_model:") && text.contains(&format!("--model {shown} --weights")), "{text}");
        }
        assert_eq!((folder_name("data/clip"), folder_name("/data/clip")), ("./data/clip".into(), "/data/clip".into()));
        let of_folder = WeightsInfo { base_model: folder_name("nowhere/clip"), ..info() };
        assert!(!Card::default().text("birds", &report(), &of_folder).contains("base_model:"));
        let mut of_sets = report();
        let set = |name: &str, origin: &str, pictures: usize| {
            let (name, origin) = (name.into(), origin.into());
            crate::inputs::SetInput { name, origin, pictures, ..Default::default() }
        };
        let sets = vec![set("train", "pictures", 1500), set("test", "data/birds", 1), set("more", "hf:me/birds", 2)];
        of_sets.extra.insert("inputs".into(), serde_json::json!(Inputs { sets, ..Inputs::default() }));
        let told = ["train: 1500 pictures (", "test: 1 picture of birds (", "more: 2 pictures of hf:me/birds ("];
        let text = data(&of_sets);
        assert!(told.iter().all(|told| text.contains(told)), "{text}");
        of_sets.images = Some(ImageCounts { train: 1496, test: 1, ..ImageCounts::default() });
        let text = data(&of_sets);
        let told = [
            "train: 1496 pictures (unlabeled in training; 4 could not be read)",
            "test: 1 picture of birds (labeled, for evaluation only)",
        ];
        assert!(told.iter().all(|told| text.contains(told)), "{text}");
        assert_eq!(plain("a & b &amp;"), "a \\& b \\&amp;");
        for (name, shown) in
            [("- x", "\\- x"), ("+x", "\\+x"), ("1. x", "1\\. x"), ("12)", "12\\)"), ("0.5", "0.5"), ("a~~b $c$", "a\\~\\~b \\$c\\$")]
        {
            assert_eq!(plain(name), shown);
        }
    }

    #[test]
    fn a_card_says_what_made_the_result() {
        let of = |preset: &str| summary(&WeightsInfo { preset: preset.into(), ..info() }, &report());
        assert!(of("official").contains("my\\_clip tuned to them without a label by [LaFTer]"), "{}", of("official"));
        for (preset, method) in
            [("dpa:eurosat", "DPA (Ali"), ("must_lite", "MUST (Li"), ("cpl", "CPL (Zhang"), ("ueo", "UEO (Liang"), ("nola", "NoLA (Imam")]
        {
            assert!(of(preset).contains(method), "{}", of(preset));
        }
        assert!(!of("ueo").contains("Mirza"), "{}", of("ueo"));
        let untuned = summary(&info(), &Report { trainable: None, ..report() });
        assert!(
            !untuned.contains("tuned") && !untuned.contains("Mirza") && untuned.contains("the result of the run is the text"),
            "{untuned}"
        );
    }

    #[test]
    fn what_is_blank_is_not_given() {
        let blank = Card { name: Some(" ".into()), license: Some("".into()), base_license: Some(" ".into()) };
        let text = blank.text("birds", &report(), &info());
        assert_eq!(text, Card::default().text("birds", &report(), &info()));
        assert!(text.contains("SHA-256 `ab`, taken over its tensors"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        report().save(folder.path().join(REPORT)).unwrap();
        let metadata = [("lafter".to_string(), serde_json::to_string(&info()).unwrap())];
        crate::files::save_tensors(folder.path().join(WEIGHTS), &[], metadata.into()).unwrap();
        blank.write(folder.path(), true).unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy();
        assert!(std::fs::read_to_string(folder.path().join(FILE)).unwrap().contains(&format!("# {}\n", plain(&name))));
    }
}
