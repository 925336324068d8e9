//! What a user asks of the settings: a preset first, then single fields, by their paths.

use super::path::full_path;
use super::{LafterConfig, Preset};
use crate::error::{Error, Result};

/// A preset and fields that replace its values. What was asked for is known by its path and never guessed from values: an
/// epoch count that happens to be the preset's own is the user's all the same.
///
/// ```
/// use lafter::{LafterConfig, Preset, settings::Changes};
/// let mut changes = Changes::default();
/// changes.set("tune.epochs", "16")?;
/// changes.set("preset", "paper")?; // applied before the fields, in whatever order they were given
/// let mut config = LafterConfig::new(Preset::Demo); // whose epochs are 16, too
/// changes.apply(&mut config)?;
/// assert_eq!((config.preset, config.tune.epochs, config.text.epochs), (Preset::Paper, 16, 3000));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    preset: Option<Preset>,
    fields: Vec<(String, String)>,
}

impl Changes {
    /// Asks for a field's value, as [`LafterConfig::set`] reads it; `preset` may be one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a path that leads to no field or was given before, and for a value of another kind.
    pub fn set(&mut self, path: &str, value: &str) -> Result<()> {
        let full = full_path(path)?;
        let mut trial = LafterConfig::default();
        trial.assign(path, value)?;
        if self.holds(&full) {
            return Err(Error::Usage(format!("{full} is given twice: leave one out")));
        }
        match full.as_str() {
            "preset" => self.preset = Some(trial.preset),
            _ => self.fields.push((full, value.to_string())),
        }
        Ok(())
    }

    /// True if the field of this whole path was asked for.
    pub fn holds(&self, full_path: &str) -> bool {
        if full_path == "preset" { self.preset.is_some() } else { self.fields.iter().any(|(path, _)| path == full_path) }
    }

    /// Puts the preset's settings in place of `config`'s, all but the seed, and then sets the fields.
    ///
    /// # Errors
    /// [`Error::Usage`] for a value that is out of its range.
    pub fn apply(&self, config: &mut LafterConfig) -> Result<()> {
        if let Some(preset) = self.preset {
            *config = LafterConfig { seed: config.seed, ..LafterConfig::new(preset) };
        }
        self.apply_fields(config)
    }

    /// [`apply`](Self::apply) without the preset, over one that was chosen otherwise.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_fields(&self, config: &mut LafterConfig) -> Result<()> {
        let mut changed = config.clone();
        for (path, value) in &self.fields {
            changed.assign(path, value)?;
        }
        changed.validate()?; // once all are set: ranges may span several
        *config = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_the_old_presets_own_is_still_asked_for() {
        let mut changes = Changes::default();
        changes.set("tune.epochs", "16").unwrap();
        let mut config = LafterConfig::new(Preset::Demo);
        for (preset, prompts) in [(Preset::Demo, 2), (Preset::Official, 50)] {
            config = LafterConfig { seed: config.seed, ..LafterConfig::new(preset) };
            changes.apply_fields(&mut config).unwrap();
            assert_eq!((config.tune.epochs, config.tune.prompts), (16, prompts));
        }
    }

    #[test]
    fn what_is_given_twice_or_wrong_is_refused() {
        let mut changes = Changes::default();
        changes.set("tune.strong.scale", "[0.5, 1]").unwrap();
        for (path, value, says) in [
            ("image.crop_scale", "[0.6, 1]", "tune.strong.scale is given twice"),
            ("image.epoch", "1", "did you mean"),
            ("tune.epochs", "one", "cannot be one"),
        ] {
            let error = changes.set(path, value).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(changes.holds("tune.strong.scale") && !changes.holds("tune.epochs") && !changes.holds("preset"));
        changes.set("tune.epochs", "99999999999").unwrap();
        let mut config = LafterConfig::default();
        assert!(changes.apply(&mut config).unwrap_err().to_string().contains("epochs"));
        assert_eq!(config, LafterConfig::default());
    }
}
