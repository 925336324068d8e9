//! `settings`, and what the options of a run ask of its settings.

use lafter::settings::{Changes, LafterConfig, full_path, list};
use lafter::{Error, Result};
use serde_json::json;

use super::args::{Common, SetArgs, SettingsArgs, SetupArgs};
use super::commands::print;
use super::say::say;

/// Where the meanings begin, and where a line ends.
const MEANING: usize = 42;
const WIDTH: usize = 132;

pub fn settings(args: SettingsArgs, common: &Common) -> Result<()> {
    let mut changes = from_set(&args.set)?;
    if let Some(preset) = args.preset {
        changes.set("preset", preset.name())?;
    }
    let mut config = LafterConfig { seed: common.seed, ..LafterConfig::default() };
    changes.apply(&mut config)?;
    let all = list(&config);
    if common.json {
        print(&json!(all));
        return Ok(());
    }
    for setting in all {
        let mut line = format!("{:26} {}", setting.path, setting.default.to_string().trim_matches('"'));
        if line.chars().count() >= MEANING {
            say(format_args!("{line}")); // a long default stands alone
            line = String::new();
        }
        for part in wrapped(&setting.meaning, WIDTH - MEANING) {
            say(format_args!("{line:MEANING$}{part}"));
            line = String::new();
        }
    }
    Ok(())
}

/// Lines of whole words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// What `--set` asks for.
pub fn from_set(args: &SetArgs) -> Result<Changes> {
    let mut changes = Changes::default();
    add_set(args, &mut changes, &[])?;
    Ok(changes)
}

/// What the everyday options and `--set` ask for.
pub fn changes(args: &SetupArgs) -> Result<Changes> {
    fn text(value: Option<impl ToString>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    let options = [
        ("--preset", "preset", text(args.preset.map(|preset| preset.name()))),
        ("--text-epochs", "text.epochs", text(args.text_epochs)),
        ("--noise", "text.noise", text(args.noise)),
        ("--text-learning-rate", "text.learning_rate", text(args.text_learning_rate)),
        ("--hidden", "text.hidden", text(args.hidden)),
        ("--epochs", "tune.epochs", text(args.epochs)),
        ("--batch-size", "tune.batch_size", text(args.batch_size)),
        ("--prompts", "tune.prompts", text(args.prompts)),
        ("--deep-prompts", "tune.deep_prompts", text(args.deep_prompts.then_some(true))),
        ("--learning-rate", "tune.learning_rate", text(args.learning_rate)),
        ("--eval-every", "tune.eval_every", text(args.eval_every)),
        ("--max-unreadable", "tune.max_unreadable", text(args.max_unreadable)),
        ("--bf16", "tune.precision", text(args.bf16.then_some("bf16"))),
    ];
    let (mut changes, mut given) = (Changes::default(), Vec::new());
    for (option, path, value) in options {
        if let Some(value) = value {
            changes.set(path, &value).map_err(|error| Error::Usage(format!("{option}: {error}")))?;
            given.push((option, path));
        }
    }
    add_set(&args.set, &mut changes, &given)?;
    Ok(changes)
}

/// Adds what `--set` asks for to what the options in `given` do, each with its path.
fn add_set(args: &SetArgs, changes: &mut Changes, given: &[(&str, &str)]) -> Result<()> {
    for set in &args.set {
        let Some((path, value)) = set.split_once('=') else {
            return Err(Error::Usage(format!("--set {set} has no value: write --set PATH=VALUE")));
        };
        let (path, value) = (path.trim(), value.trim());
        if path == "seed" {
            return Err(Error::Usage("the seed has an option of its own: give --seed N".into()));
        }
        let full = full_path(path)?;
        if let Some((option, _)) = given.iter().find(|(_, path)| *path == full) {
            return Err(Error::Usage(format!("{option} and --set {set} are the same setting: leave one out")));
        }
        changes.set(path, value)?;
    }
    Ok(())
}
