//! One field of the settings by its name: what the command line and tables speak.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::lafter::LafterConfig;

/// Sets a field by its path: `text.noise`, `image.prompts`, `image.teacher_head`. The value is JSON, or a bare word.
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
    let mut whole = serde_json::to_value(&*config).map_err(|e| usage(e.to_string()))?;
    let (mut at, mut known) = (&mut whole, String::new());
    for part in path.split('.') {
        let Value::Object(fields) = at else { return Err(usage(format!("{path}: {known} has no fields: leave out .{part}"))) };
        let names: Vec<String> = fields.keys().cloned().collect();
        at = fields.get_mut(part).ok_or_else(|| {
            let within = if known.is_empty() { "the settings have".into() } else { format!("{known} has") };
            usage(format!("there is no field {path:?}: {within} {}", names.join(", ")))
        })?;
        known = if known.is_empty() { part.to_string() } else { format!("{known}.{part}") };
    }
    if at.is_object() {
        return Err(usage(format!("{path} is a group of fields: name one of them, as in {path}.{}", first_key(at))));
    }
    *at = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
    *config = serde_json::from_value(whole).map_err(|e| usage(format!("{path} cannot be {value}: {e}")))?;
    config.validate()
}

fn first_key(value: &Value) -> &str {
    value.as_object().and_then(|fields| fields.keys().next()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lafter::Preset;

    #[test]
    fn wrong_paths_and_values_are_errors_with_a_remedy() {
        let mut config = LafterConfig::new(Preset::Official);
        for (path, value, says) in [
            ("image", "3", "image."),
            ("noise", "3", "text"),
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
    }
}
