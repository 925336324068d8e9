//! Settings of stage two as earlier versions wrote them, in reports, checkpoints and scripts.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::config::FinetuneConfig;

/// Fields that stand elsewhere now: the old path within the stage's settings, and the new one.
pub(crate) const MOVED: [(&str, &str); 6] = [
    ("smoothing", "label_smoothing"),
    ("crop_scale", "strong.scale"),
    ("blur_probability", "strong.blur_p"),
    ("blur_sigma", "strong.blur_sigma"),
    ("strong.grey_p", "strong.gray_p"),
    ("normalise_student", "normalize_student"),
];

/// Puts each moved field where it stands now.
fn renewed(mut settings: Value) -> Value {
    let Value::Object(fields) = &mut settings else { return settings };
    for (old, new) in MOVED {
        let Some(value) = fields.remove(old) else { continue };
        match new.split_once('.') {
            None => drop(fields.entry(new).or_insert(value)),
            Some((group, name)) => {
                if let Value::Object(group) = fields.entry(group).or_insert_with(|| Map::new().into()) {
                    group.entry(name).or_insert(value);
                }
            }
        }
    }
    settings
}

// `remote = "Self"` makes serde write its two functions as those of the type, which these call

impl<'de> Deserialize<'de> for FinetuneConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(renewed(Value::deserialize(deserializer)?)).map_err(D::Error::custom)
    }
}

impl Serialize for FinetuneConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::StrongConfig;

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let strong = StrongConfig { scale: (0.85, 1.0), blur_p: 0.0, ..StrongConfig::simsiam() };
        let config = FinetuneConfig { strong, ..FinetuneConfig::official() };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<FinetuneConfig>(&text).unwrap(), config);
        let mut older: Value = serde_json::from_str(&text).unwrap();
        older.as_object_mut().unwrap().remove("strong").unwrap();
        // also as 32 bits were once widened to 64
        let fields = serde_json::json!({ "crop_scale": [0.8500000238418579, 1.0], "blur_probability": 0.0, "blur_sigma": [0.1, 2.0] });
        let normalize = older.as_object_mut().unwrap().remove("normalize_student").unwrap();
        older["normalise_student"] = normalize;
        older.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(serde_json::from_value::<FinetuneConfig>(older).unwrap(), config);
        let error = serde_json::from_str::<FinetuneConfig>(r#"{"epochs": "many"}"#).unwrap_err().to_string();
        assert!(error.contains("many"), "{error}");
    }
}
