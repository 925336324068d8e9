//! What the small files of a CLIP's folder say: whose layout it is, the sizes of the towers, how pictures are prepared.

use std::path::Path;

use serde_json::Value;

use super::ClipConfig;
use crate::augment::Preprocess;
use crate::config_keys::{self, Keys};
use crate::error::{Error, Result, cut};

/// transformers' configuration.
pub(super) const CONFIG: &str = "config.json";
/// open_clip's configuration.
pub(super) const OPEN_CLIP: &str = "open_clip_config.json";
/// transformers' image settings, and since its version 5 the settings of all it prepares.
pub(super) const IMAGES: &str = "preprocessor_config.json";
pub(super) const PROCESSOR: &str = "processor_config.json";
/// What a tokenizer is made of, in either library's layout.
pub(super) const TOKENIZER: [&str; 6] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz"];

/// Unknown keys that one notice names.
const SHOWN: usize = 5;

/// The small files' contents.
pub(super) struct Folder {
    pub(super) config: ClipConfig,
    /// Whose layout it is, and the file with the sizes.
    pub(super) layout: String,
    pub(super) images: Images,
    /// What is unusual, one line each.
    pub(super) notices: Vec<String>,
}

/// How pictures are prepared, and which file says so.
pub(super) struct Images {
    pub(super) settings: Preprocess,
    pub(super) source: String,
}

/// Reads the configuration and the image settings of a folder; `None` if it has no configuration.
///
/// # Errors
/// [`Error::Config`] for another kind of model, and for files that cannot be read.
pub(super) fn read(directory: &Path) -> Result<Option<Folder>> {
    let (transformers, open_clip) = (json(directory, CONFIG)?, json(directory, OPEN_CLIP)?);
    let mut notices = Vec::new();
    let (config, layout) = match (&transformers, &open_clip) {
        (Some(json), None) if !describes_clip(json) => return Err(no_clip(json)),
        // a folder may hold both: transformers' counts where it describes a CLIP
        (Some(json), _) if describes_clip(json) => {
            let sections = [
                ("", config_keys::CONFIG, Some(json)),
                ("vision_config.", config_keys::VISION_CONFIG, json.get("vision_config")),
                ("text_config.", config_keys::TEXT_CONFIG, json.get("text_config")),
            ];
            notices.extend(unknown(CONFIG, &sections));
            (ClipConfig::from_transformers(json)?, "transformers")
        }
        (_, Some(json)) => {
            let (outer, model) = json.get("model_cfg").map_or((None, json), |model| (Some(json), model));
            let sections = [
                ("", config_keys::OPEN_CLIP, outer),
                ("", config_keys::MODEL_CFG, Some(model)),
                ("vision_cfg.", config_keys::VISION_CFG, model.get("vision_cfg")),
                ("text_cfg.", config_keys::TEXT_CFG, model.get("text_cfg")),
            ];
            notices.extend(unknown(OPEN_CLIP, &sections));
            (ClipConfig::from_open_clip(json)?, "open_clip")
        }
        _ => return Ok(None),
    };
    let own = if layout == "transformers" { CONFIG } else { OPEN_CLIP };
    if directory.join("adapter_config.json").is_file() {
        notices.push("adapter_config.json: a LoRA adapter is next to the model and is not applied: merge it into the weights first".into());
    }
    let images = images(directory, open_clip.as_ref(), own, config.vision.image_size, &mut notices)?;
    Ok(Some(Folder { config, layout: format!("{layout} ({own})"), images, notices }))
}

/// True if a folder has a configuration of either layout.
pub(super) fn is_configured(directory: &Path) -> bool {
    [CONFIG, OPEN_CLIP].iter().any(|name| directory.join(name).is_file())
}

/// What to say of a folder without a configuration: it may lie in the only folder below.
pub(super) fn not_configured(directory: &Path) -> Error {
    let below = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let configured: Vec<_> = below.filter(|path| is_configured(path)).collect();
    let remedy = match configured.as_slice() {
        [one] => format!("its folder {} does, give that one", one.file_name().unwrap_or_default().to_string_lossy()),
        _ => "add the one that belongs to the weights, or give another folder".into(),
    };
    Error::Config(format!("{} holds neither {CONFIG} nor {OPEN_CLIP}: {remedy}", directory.display()))
}

/// Under which of the usual names a folder's weights are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightNames {
    /// transformers' before open_clip's.
    Transformers,
    /// open_clip's before transformers', as open_clip does.
    OpenClip,
    /// open_clip's alone: `config.json` belongs to another library, as in timm's repositories, and so does what has plain names.
    OpenClipAlone,
}

/// Follows from the configurations in the folder.
pub(super) fn weight_names(directory: &Path) -> WeightNames {
    let config = json(directory, CONFIG).ok().flatten();
    match (directory.join(OPEN_CLIP).is_file(), config) {
        (true, None) => WeightNames::OpenClip,
        (true, Some(json)) if !describes_clip(&json) => WeightNames::OpenClipAlone,
        _ => WeightNames::Transformers,
    }
}

/// The one rule for "is this a CLIP of transformers": it says so, or it says nothing and has a vision tower's settings.
fn describes_clip(config: &Value) -> bool {
    match config.get("model_type").filter(|kind| !kind.is_null()) {
        Some(kind) => kind == "clip",
        None => config.get("vision_config").is_some_and(Value::is_object),
    }
}

fn no_clip(config: &Value) -> Error {
    let word = |key: &str| config.get(key).and_then(Value::as_str).map(|word| format!("{key} \"{}\"", cut(word)));
    let kind = word("model_type").or_else(|| word("architecture")).unwrap_or_else(|| "neither a model_type nor a vision_config".into());
    let remedy = "choose a CLIP in the layout of transformers or of open_clip";
    Error::Config(format!("{CONFIG} describes no CLIP ({kind}): {remedy}"))
}

/// True if a file of the folder says how pictures are prepared.
pub(super) fn has_images(directory: &Path) -> bool {
    let of = |name: &str| json(directory, name).ok().flatten().unwrap_or_default();
    let (processor, open_clip) = (of(PROCESSOR), of(OPEN_CLIP));
    let inside = [&processor["image_processor"], &processor["image_mean"]];
    directory.join(IMAGES).is_file() || inside.iter().any(|settings| !settings.is_null()) || preprocess_cfg(&open_clip).is_some()
}

/// open_clip's image settings, which stand next to its `model_cfg` or in it.
fn preprocess_cfg(open_clip: &Value) -> Option<&Value> {
    let places = [Some(open_clip), open_clip.get("model_cfg")];
    places.into_iter().flatten().filter_map(|json| json.get("preprocess_cfg")).find(|cfg| !cfg.is_null())
}

/// The image settings: the layout's own file first, then those of the other one, then OpenAI's.
fn images(directory: &Path, open_clip: Option<&Value>, own: &str, side: usize, notices: &mut Vec<String>) -> Result<Images> {
    let (plain, processor) = (json(directory, IMAGES)?, json(directory, PROCESSOR)?);
    let nested = processor.as_ref().and_then(|json| json.get("image_processor"));
    // an older file of this name holds other settings
    let flat = processor.as_ref().filter(|json| nested.is_none() && json.get("image_mean").is_some());
    // in transformers' order
    let given = [(PROCESSOR, nested.filter(|json| json.is_object())), (IMAGES, plain.as_ref()), (PROCESSOR, flat)];
    let mut found: Vec<_> = given
        .into_iter()
        .filter_map(|(file, json)| Some((file, Preprocess::from_json(json?, side), of_processor(file, json?, side))))
        .collect();
    let cfg = open_clip.and_then(preprocess_cfg);
    if let Some(cfg) = cfg {
        let unknown = unknown(OPEN_CLIP, &[("preprocess_cfg.", config_keys::PREPROCESS_CFG, Some(cfg))]);
        found.push((OPEN_CLIP, Preprocess::from_open_clip(cfg, side), unknown.into_iter().collect()));
    }
    if own == OPEN_CLIP {
        found.rotate_right(usize::from(cfg.is_some()));
    }
    let mut found = found.into_iter();
    let Some((source, settings, remarks)) = found.next() else {
        notices.push(format!(
            "no file says how pictures are prepared ({IMAGES}, {PROCESSOR} or preprocess_cfg): OpenAI's settings at {side} pixels are used"
        ));
        let settings = if own == OPEN_CLIP { Preprocess::clip(side) } else { Preprocess::transformers(side) };
        return Ok(Images { settings, source: "OpenAI's, because no file says otherwise".into() });
    };
    let settings = settings.map_err(|error| Error::Config(format!("{}: {error}", directory.join(source).display())))?;
    notices.extend(remarks);
    for (other, its, _) in found {
        if its.is_ok_and(|its| !settings.agrees_with(&its)) {
            notices.push(format!("{source} and {other} prepare pictures differently: {source} is used, remove the wrong one"));
        }
    }
    let (black, white) = settings.range();
    // CLIP's own values span 3.9, those of mean and std 0.5 span 2, those of no normalization 1
    if !(0.9..12.0).contains(&(white - black)) || black > 0.5 || white < 0.0 {
        notices.push(format!(
            "{source}: pictures reach the tower with values from {black:.3} (black) to {white:.3} (white), a CLIP's are about -2 to 2: compare \
             its mean, std and rescale_factor"
        ));
    }
    Ok(Images { settings, source: source.into() })
}

/// The size at which transformers prepares pictures where a file names none.
const USUAL_SIDE: usize = 224;

/// What to say of a file of transformers' image settings, for a tower of `side` pixels.
fn of_processor(file: &str, json: &Value, side: usize) -> Vec<String> {
    let lacks = |key: &&str| json.get(*key).is_none_or(Value::is_null);
    let normalized = json.get("do_normalize").is_none_or(|on| on != false);
    let missing: Vec<&str> = ["image_mean", "image_std"].into_iter().filter(|_| normalized).chain(["resample"]).filter(lacks).collect();
    let defaults = (!missing.is_empty()).then(|| format!("{file} lacks {}: OpenAI's are used", missing.join(", ")));
    let resizes = json.get("do_resize").is_none_or(|on| on != false);
    let size = (lacks(&"size") && resizes && side != USUAL_SIDE)
        .then(|| format!("{file} lacks size: pictures are resized to {side} pixels, transformers would resize them to {USUAL_SIDE}"));
    let class = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| json.get(key)?.as_str());
    let foreign = class.filter(|class| !class.starts_with("CLIP")).map(|class| {
        format!(
            "{file} is of {}: its settings are read as CLIPImageProcessor would read them (shorter edge, then a center crop, unless size \
             has height and width)",
            cut(class)
        )
    });
    unknown(file, &[("", config_keys::IMAGE_PROCESSOR, Some(json))]).into_iter().chain(defaults).chain(size).chain(foreign).collect()
}

/// One line on the keys of a file that stand in no list.
fn unknown(file: &str, sections: &[(&str, Keys, Option<&Value>)]) -> Option<String> {
    let of_section = |(place, keys, object): &(&str, Keys, Option<&Value>)| {
        let names = object.map(|object| keys.unknown(object)).unwrap_or_default();
        names.into_iter().map(|key| format!("{place}{}", cut(key))).collect::<Vec<_>>()
    };
    let names: Vec<String> = sections.iter().flat_map(of_section).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let shown = names.get(..SHOWN).unwrap_or(&names).join(", ");
    (!names.is_empty()).then(|| format!("{file} holds keys that this crate does not know: {shown}{more}; they are passed over"))
}

/// A file's JSON; `None` if there is no such file.
fn json(directory: &Path, name: &str) -> Result<Option<Value>> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    // editors of Windows put a byte-order mark first
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let fault = |e: serde_json::Error| Error::Config(format!("{} is not valid JSON: {e}: download it again", path.display()));
    serde_json::from_slice(text).map(Some).map_err(fault)
}
