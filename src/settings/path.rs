//! One field of the settings by its path: what the command line and tables of ablations speak.

use serde_json::Value;

use super::list::{GROUPS, paths};
use super::{LafterConfig, Preset};
use crate::describe::names::closest;
use crate::error::{Error, Result};
use crate::tune::MOVED;

/// Where the settings of stage two stand.
const TUNE: &str = "tune";

impl LafterConfig {
    /// Sets a field by its path: `text.noise`, `tune.prompts`, `tune.strong.blur_p`. The value is JSON, or a bare word.
    /// `preset` replaces all other settings but the seed, so it comes first. Paths of earlier versions are understood.
    ///
    /// # Errors
    /// [`Error::Usage`] for a field that does not exist, with the nearest that does, and for a value that does not fit.
    ///
    /// ```
    /// use lafter::{LafterConfig, Preset};
    /// let mut config = LafterConfig::new(Preset::Official);
    /// config.set("text.noise", "0.5")?;
    /// config.set("tune.teacher_head", "shared")?;
    /// config.set("tune.schedule", r#"{"cosine": {"warmup": 10, "floor": 0}}"#)?;
    /// assert_eq!(config.text.noise, 0.5);
    /// let error = config.set("text.nose", "0.5").unwrap_err().to_string();
    /// assert!(error.contains("did you mean text.noise?"));
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn set(&mut self, path: &str, value: &str) -> Result<()> {
        let mut changed = self.clone();
        changed.assign(path, value)?;
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    /// [`set`](Self::set) without the look at ranges, which may span several fields: [`validate`](Self::validate) has it.
    ///
    /// # Errors
    /// As [`set`](Self::set), but for values out of their ranges.
    pub fn assign(&mut self, path: &str, value: &str) -> Result<()> {
        let full = full_path(path)?;
        let wrong = |why: serde_json::Error| Error::Usage(format!("{path} cannot be {value}: {why}"));
        let given = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
        if full == "preset" {
            let preset: Preset = serde_json::from_value(given).map_err(wrong)?;
            *self = Self { seed: self.seed, ..Self::new(preset) };
            return Ok(());
        }
        let mut whole = serde_json::to_value(&*self).map_err(wrong)?;
        let field = full.split('.').try_fold(&mut whole, |at, part| at.get_mut(part));
        *field.ok_or_else(|| unknown(path, &full))? = given;
        *self = serde_json::from_value(whole).map_err(wrong)?;
        Ok(())
    }
}

/// The whole path of a field as it is now, also of one that an earlier version called otherwise.
///
/// # Errors
/// [`Error::Usage`] for a path that leads to no field, with the nearest that does.
///
/// ```
/// assert_eq!(lafter::settings::full_path("image.crop_scale")?, "tune.strong.scale");
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn full_path(path: &str) -> Result<String> {
    let full = renewed(path);
    if paths().any(|known| known == full) { Ok(full) } else { Err(unknown(path, &full)) }
}

/// Stage two's settings were `image.…` once, and some of them stood elsewhere.
fn renewed(path: &str) -> String {
    match path.split_once('.') {
        Some((TUNE | "image", field)) => {
            let moved = MOVED.iter().find(|(old, _)| *old == field);
            format!("{TUNE}.{}", moved.map_or(field, |(_, new)| new))
        }
        _ if path == "text.smoothing" => "text.label_smoothing".into(),
        None if path == "image" => TUNE.into(),
        _ => path.into(),
    }
}

/// One line on a path that leads nowhere.
fn unknown(path: &str, full: &str) -> Error {
    let within = |group: &str| paths().find(|known| known.strip_prefix(group).is_some_and(|rest| rest.starts_with('.')));
    Error::Usage(match (GROUPS.iter().any(|group| group.path == full), within(full), near(full)) {
        (true, Some(first), _) => format!("{path} is a group of settings: name one of them, as in {first}"),
        (.., Some(near)) => format!("there is no setting {path:?}: did you mean {near}? (`lafter settings` lists all)"),
        _ => format!("there is no setting {path:?}: `lafter settings` lists all"),
    })
}

/// The field whose name is nearest to the last part of `path`, if one is near; of two, that of the group that was named.
fn near(path: &str) -> Option<String> {
    let (named, word) = path.rsplit_once('.').unwrap_or(("", path));
    let split = |path: String| path.rsplit_once('.').map(|(group, name)| (group.to_string(), name.to_string())).unwrap_or_default();
    let mut fields: Vec<(String, String)> = paths().map(split).collect();
    fields.sort_by_key(|(group, _)| group != named);
    let names: Vec<String> = fields.iter().map(|(_, name)| name.clone()).collect();
    let name = closest(word, &names)?;
    fields.iter().find(|(_, other)| other == name).map(|(group, name)| format!("{group}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_paths_and_values_are_errors_with_a_remedy() {
        let mut config = LafterConfig::new(Preset::Official);
        for (path, value, says) in [
            ("image", "3", "as in tune.epochs"),
            ("tune.strong", "3", "as in tune.strong.scale"),
            ("noise", "3", "did you mean text.noise?"),
            ("image.prompt", "3", "did you mean tune.prompts?"),
            ("image.epoch", "3", "did you mean tune.epochs?"),
            ("txt.learning_rate", "3", "did you mean text.learning_rate?"),
            ("tune.strong.blur", "3", "did you mean tune.strong.blur_p?"),
            ("preset", "papers", "official"),
            ("text.noise.x", "3", "there is no setting"),
            ("tune.prompts", "many", "cannot be many"),
            ("tune.teacher_head", "both", "frozen"),
            ("tune.schedule", r#"{"cosine": {"warmup": 1}}"#, "floor"),
            ("text.noise", "-1", "at least 0"),
        ] {
            let before = config.clone();
            let error = config.set(path, value).unwrap_err().to_string();
            assert!(error.contains(says) && error.lines().count() == 1, "{path}: {error}");
            assert_eq!(config, before);
        }
        assert!(!config.set("color", "3").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn every_kind_of_value_is_set() {
        let mut config = LafterConfig::new(Preset::Official);
        config.set("text.batch_size", "32").unwrap();
        config.set("text.hidden", "null").unwrap();
        config.set("tune.strong.scale", "[0.5, 1.0]").unwrap();
        config.set("tune.strong.resample", "bicubic").unwrap();
        assert_eq!((config.text.batch_size, config.text.hidden, config.tune.strong.scale), (Some(32), None, (0.5, 1.0)));
        config.set("tune.schedule", r#"{"warmup": {"warmup": 10}}"#).unwrap();
        config.set("tune.schedule", "constant").unwrap(); // from one that is an object
        assert_eq!(config.tune.schedule, crate::nn::LrSchedule::Constant);
    }

    #[test]
    fn what_earlier_versions_called_otherwise_is_understood() {
        let mut config = LafterConfig::new(Preset::Official);
        config.set("image.crop_scale", "[0.25, 1]").unwrap();
        config.set("image.epochs", "3").unwrap();
        assert_eq!((config.tune.strong.scale, config.tune.epochs), ((0.25, 1.0), 3));
        let mut older = serde_json::to_value(&config).unwrap();
        let tune = older.as_object_mut().unwrap().remove("tune").unwrap();
        older["image"] = tune;
        assert_eq!(serde_json::from_value::<LafterConfig>(older).unwrap(), config);
    }

    #[test]
    fn a_preset_replaces_all_but_the_seed() {
        let mut config = LafterConfig { seed: 5, ..LafterConfig::new(Preset::Demo) };
        config.tune.prompts = 7;
        config.set("preset", "paper").unwrap();
        assert_eq!(config, LafterConfig { seed: 5, ..LafterConfig::new(Preset::Paper) });
    }
}
