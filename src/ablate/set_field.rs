//! One field of the settings by its name: what the command line and tables speak.

use serde_json::Value;

use crate::describe::names::closest;
use crate::error::{Error, Result};
use crate::lafter::{LafterConfig, Preset};

/// Sets a field by its path: `text.noise`, `image.prompts`, `image.teacher_head`. The value is JSON, or a bare word.
/// `preset` brings all its settings with it, except those that were changed from the preset before.
///
/// # Errors
/// [`Error::Usage`] for a field that does not exist, with those that do, and for a value that does not fit.
///
/// ```
/// use lafter::{LafterConfig, Preset, ablate::set_field};
/// let mut config = LafterConfig::new(Preset::Official);
/// set_field(&mut config, "text.noise", "0.5")?;
/// set_field(&mut config, "image.teacher_head", "shared")?;
/// assert_eq!(config.text.noise, 0.5);
/// assert!(set_field(&mut config, "text.nose", "0.5").unwrap_err().to_string().contains("noise"));
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn set_field(config: &mut LafterConfig, path: &str, value: &str) -> Result<()> {
    let usage = |what: String| Error::Usage(what);
    let before = config.clone();
    let mut whole = serde_json::to_value(&*config).map_err(|e| usage(e.to_string()))?;
    let (mut at, mut known) = (&mut whole, String::new());
    for part in path.split('.') {
        let Value::Object(fields) = at else { return Err(usage(format!("{path}: {known} has no fields: leave out .{part}"))) };
        let names: Vec<String> = fields.keys().cloned().collect();
        at = fields.get_mut(part).ok_or_else(|| {
            let within = if known.is_empty() { "the settings have".into() } else { format!("{known} has") };
            let near = near(path, &before).map_or(String::new(), |near| format!("; did you mean {near}?"));
            usage(format!("there is no field {path:?}: {within} {}{near}", names.join(", ")))
        })?;
        known = if known.is_empty() { part.to_string() } else { format!("{known}.{part}") };
    }
    if at.is_object() {
        return Err(usage(format!("{path} is a group of fields: name one of them, as in {path}.{}", first_key(at))));
    }
    *at = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
    *config = serde_json::from_value(whole).map_err(|e| usage(format!("{path} cannot be {value}: {e}")))?;
    if path == "preset" {
        *config = with_preset(&before, config.preset).map_err(|e| usage(e.to_string()))?;
    }
    config.validate()
}

/// The preset's settings, with what `config` has changed from its own preset.
fn with_preset(config: &LafterConfig, preset: Preset) -> serde_json::Result<LafterConfig> {
    let (mine, from) = (serde_json::to_value(config)?, serde_json::to_value(LafterConfig::new(config.preset))?);
    let mut to = serde_json::to_value(LafterConfig { seed: config.seed, ..LafterConfig::new(preset) })?;
    for group in ["text", "image"] {
        let (Some(Value::Object(mine)), Some(Value::Object(to))) = (mine.get(group), to.get_mut(group)) else { continue };
        let changed = mine.iter().filter(|(name, value)| from.get(group).and_then(|from| from.get(name)) != Some(value));
        to.extend(changed.map(|(name, value)| (name.clone(), value.clone())));
    }
    serde_json::from_value(to)
}

/// The field whose name is nearest to the last part of `path`, if one is near.
fn near(path: &str, config: &LafterConfig) -> Option<String> {
    let (named, word) = path.rsplit_once('.').unwrap_or(("", path));
    let whole = serde_json::to_value(config).ok()?;
    let mut groups = ["text", "image"];
    groups.sort_by_key(|group| *group != named); // of two at the same distance that of the group that was named
    let fields = groups.into_iter().filter_map(|group| Some((group, whole.get(group)?.as_object()?)));
    let (paths, names): (Vec<String>, Vec<String>) =
        fields.flat_map(|(group, fields)| fields.keys().map(move |name| (format!("{group}.{name}"), name.clone()))).unzip();
    let name = closest(word, &names)?;
    paths.into_iter().zip(&names).find(|(_, other)| *other == name).map(|(path, _)| path)
}

fn first_key(value: &Value) -> &str {
    value.as_object().and_then(|fields| fields.keys().next()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_paths_and_values_are_errors_with_a_remedy() {
        let mut config = LafterConfig::new(Preset::Official);
        for (path, value, says) in [
            ("image", "3", "image."),
            ("noise", "3", "did you mean text.noise?"),
            ("image.prompt", "3", "did you mean image.prompts?"),
            ("image.epoch", "3", "did you mean image.epochs?"),
            ("txt.learning_rate", "3", "did you mean text.learning_rate?"),
            ("preset", "papers", "official"),
            ("text.noise.x", "3", "no fields"),
            ("image.prompts", "many", "cannot be many"),
            ("text.noise", "-1", "at least 0"),
        ] {
            let error = set_field(&mut config.clone(), path, value).unwrap_err().to_string();
            assert!(error.contains(says) && error.lines().count() == 1, "{error}");
        }
        set_field(&mut config, "text.batch_size", "32").unwrap();
        set_field(&mut config, "image.crop_scale", "[0.5, 1.0]").unwrap();
        assert_eq!((config.text.batch_size, config.image.crop_scale), (Some(32), (0.5, 1.0)));
        assert!(!set_field(&mut config, "colour", "3").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn a_preset_brings_its_settings_and_leaves_what_was_changed() {
        let mut config = LafterConfig { seed: 5, ..LafterConfig::new(Preset::Demo) };
        config.image.prompts = 7;
        set_field(&mut config, "preset", "paper").unwrap();
        let mut paper = LafterConfig { seed: 5, ..LafterConfig::new(Preset::Paper) };
        paper.image.prompts = 7;
        assert_eq!(config, paper);
    }
}
