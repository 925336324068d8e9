//! [`Layout`]: which columns hold the pictures and the labels.

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use serde_json::Value;

use crate::error::{Error, Result};

/// Label columns by preference: CIFAR-100 has a fine and a coarse one.
const LABELS: [&str; 4] = ["label", "fine_label", "labels", "coarse_label"];

/// Other names of label columns, without case and separators: class numbers, or class names.
const OTHER_LABELS: [&str; 21] = [
    "label",
    "labels",
    "finelabel",
    "class",
    "classes",
    "category",
    "target",
    "y",
    "cls",
    "classlabel",
    "labelid",
    "classid",
    "categoryid",
    "targetid",
    "labelidx",
    "classidx",
    "labelindex",
    "classindex",
    "imagelabel",
    "classification",
    "groundtruth",
];

/// Columns that hold the names, next to a column of numbers.
const NAME_COLUMNS: [&str; 9] =
    ["labelname", "labeltext", "labelnames", "classname", "classtext", "categoryname", "targetname", "classlabelname", "labelstr"];

/// Picture columns by preference, without case and separators; the first two before those that the metadata calls images.
const PICTURES: [&str; 12] =
    ["img", "image", "images", "picture", "photo", "pixelvalues", "jpg", "jpeg", "png", "webp", "imagebytes", "bytes"];

/// Columns that may say each row's split, by preference.
const SPLITS: [&str; 4] = ["split", "subset", "partition", "set"];

/// One leaf column.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) index: usize,
    /// The top-level name.
    pub(super) name: String,
    pub(super) kind: Physical,
    pub(super) descr: ColumnDescPtr,
}

impl Leaf {
    /// True for a leaf that has one value a row, or null.
    fn flat(&self) -> bool {
        self.descr.max_rep_level() == 0
    }

    fn parts(&self) -> &[String] {
        self.descr.path().parts()
    }

    fn is_text(&self) -> bool {
        matches!(self.descr.converted_type(), ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM)
            || matches!(self.descr.logical_type_ref(), Some(LogicalType::String | LogicalType::Json | LogicalType::Enum))
    }
}

/// Where the pictures are: their bytes, or paths of files next to the Parquet file; mostly both, and then the bytes count.
#[derive(Clone)]
pub(super) struct Pictures {
    pub(super) name: String,
    pub(super) bytes: Option<Leaf>,
    pub(super) path: Option<Leaf>,
}

#[derive(Clone)]
pub(super) struct Layout {
    pub(super) pictures: Pictures,
    pub(super) label: Option<Leaf>,
    /// Why there is no label column, and what to do.
    pub(super) unlabeled: Option<String>,
    /// A column of texts that may say each row's split.
    pub(super) split: Option<Leaf>,
    /// Said where the label column was guessed.
    pub(super) notice: Option<String>,
}

impl Layout {
    /// `features`: the metadata's entry for each column; `named`: whether a column's class names are known from elsewhere.
    /// Messages begin with `shown`.
    pub(super) fn find(
        schema: &SchemaDescriptor,
        features: &Value,
        label_column: Option<&str>,
        named: &dyn Fn(&str) -> bool,
        shown: &str,
    ) -> Result<Self> {
        let leaves: Vec<Leaf> = schema.columns().iter().enumerate().map(|(index, descr)| leaf(index, descr)).collect();
        let pictures = find_pictures(&leaves, features, shown)?;
        let columns = columns(&leaves);
        let labels: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.name != pictures.name && may_be_label(leaf, &leaves)).collect();
        let by_name = |name: &str| labels.iter().copied().find(|leaf| leaf.name == name);
        let texts = || labels.iter().filter(|leaf| leaf.flat() && leaf.kind == Physical::BYTE_ARRAY);
        let split = SPLITS.iter().find_map(|name| texts().find(|leaf| plain(&leaf.name) == *name));
        let split = split.map(|leaf| (*leaf).clone());
        let mut layout = Self { pictures, label: None, unlabeled: None, split, notice: None };
        if let Some(name) = label_column {
            let found = by_name(name).or_else(|| labels.iter().copied().find(|leaf| leaf.name.eq_ignore_ascii_case(name)));
            let missing =
                || Error::Usage(format!("{shown}: has no label column \"{name}\" (numbers or names, one a row): columns found: {columns}"));
            layout.label = Some(found.ok_or_else(missing)?.clone());
            return Ok(layout);
        }
        let declared = |leaf: &&&Leaf| kind(features, &leaf.name) == Some("ClassLabel");
        let sure = LABELS.iter().find_map(|name| by_name(name)).or_else(|| labels.iter().find(declared).copied());
        let guesses =
            |names: &[&str]| -> Vec<&Leaf> { labels.iter().copied().filter(|leaf| names.contains(&&*plain(&leaf.name))).collect() };
        let (numbers, texts) = (guesses(&OTHER_LABELS), guesses(&NAME_COLUMNS));
        let texts: Vec<&Leaf> = texts.into_iter().filter(|leaf| leaf.kind == Physical::BYTE_ARRAY).collect();
        let nameless = |leaf: &Leaf| leaf.kind != Physical::BYTE_ARRAY && !named(&leaf.name);
        let guessed = match (sure.or(numbers.first().copied()), texts.as_slice()) {
            // numbers without names, next to a column of names
            (Some(leaf), [text]) if nameless(leaf) && (sure.is_some() || numbers.len() == 1) => Some(*text),
            (Some(leaf), _) if sure.is_some() => {
                let all: Vec<&str> = labels.iter().filter(declared).map(|leaf| leaf.name.as_str()).collect();
                if all.len() > 1 && !LABELS.contains(&leaf.name.as_str()) {
                    let (taken, all) = (&leaf.name, all.join(", "));
                    layout.notice = Some(format!("of the label columns {all}, \"{taken}\" is taken (--label-column takes another)"));
                }
                layout.label = Some(leaf.clone());
                return Ok(layout);
            }
            (Some(leaf), _) if numbers.len() == 1 => Some(leaf),
            (None, [text]) => Some(*text),
            _ => None,
        };
        match guessed {
            Some(leaf) => {
                layout.notice = Some(format!("labels are taken from column \"{}\" (--label-column takes another)", leaf.name));
                layout.label = Some(leaf.clone());
            }
            None => {
                let names: Vec<&str> = labels.iter().map(|leaf| leaf.name.as_str()).take(20).collect();
                layout.unlabeled = Some(match names.join(", ") {
                    names if names.is_empty() => "the file has no column that could hold labels".to_string(),
                    names => format!("no column is plainly the label: name one of these with --label-column: {names}"),
                });
            }
        }
        Ok(layout)
    }
}

fn leaf(index: usize, descr: &ColumnDescPtr) -> Leaf {
    let name = descr.path().parts().first().cloned().unwrap_or_default();
    Leaf { index, name, kind: descr.physical_type(), descr: descr.clone() }
}

/// The names of all columns, for messages.
fn columns(leaves: &[Leaf]) -> String {
    let mut names: Vec<&str> = leaves.iter().map(|leaf| leaf.name.as_str()).collect();
    names.dedup();
    match names.len() {
        0 => "none".to_string(),
        n if n > 20 => format!("{}, … ({n} columns)", names[..20].join(", ")),
        _ => names.join(", "),
    }
}

/// A column's name without case and separators.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn kind<'a>(features: &'a Value, name: &str) -> Option<&'a str> {
    features.get(name)?.get("_type")?.as_str()
}

/// Numbers or texts, one a row, also as a list of one; a column with parts is none.
fn may_be_label(leaf: &Leaf, leaves: &[Leaf]) -> bool {
    let alone = leaves.iter().filter(|other| other.name == leaf.name).count() == 1;
    let right = leaf.kind != Physical::INT96 && leaf.kind != Physical::FIXED_LEN_BYTE_ARRAY;
    alone && right && leaf.descr.max_rep_level() <= 1 && (leaf.flat() && leaf.parts().len() == 1 || leaf.descr.max_rep_level() == 1)
}

fn find_pictures(leaves: &[Leaf], features: &Value, shown: &str) -> Result<Pictures> {
    let pictures = |name: &str| {
        let find = |part: &str| leaves.iter().find(|leaf| leaf.flat() && leaf.parts() == [name, part]);
        let whole = leaves.iter().find(|leaf| leaf.flat() && leaf.parts() == [name] && leaf.kind == Physical::BYTE_ARRAY);
        let bytes = find("bytes").filter(|leaf| leaf.kind == Physical::BYTE_ARRAY).or(whole.filter(|leaf| !leaf.is_text()));
        let path = find("path").or(whole.filter(|leaf| leaf.is_text()));
        let path = path.filter(|leaf| leaf.kind == Physical::BYTE_ARRAY);
        (bytes.is_some() || path.is_some()).then(|| Pictures { name: name.to_string(), bytes: bytes.cloned(), path: path.cloned() })
    };
    let usual = |wanted: &'static [&'static str]| {
        wanted.iter().flat_map(|wanted| leaves.iter().filter(move |leaf| plain(&leaf.name) == *wanted)).map(|leaf| leaf.name.as_str())
    };
    let declared = leaves.iter().filter(|leaf| kind(features, &leaf.name) == Some("Image")).map(|leaf| leaf.name.as_str());
    let structs = leaves.iter().filter(|leaf| matches!(leaf.parts(), [_, part] if part == "bytes")).map(|leaf| leaf.name.as_str());
    let known = usual(&PICTURES[..2]).chain(declared).chain(structs).chain(usual(&PICTURES[2..]));
    let found: Vec<Pictures> = known.filter_map(pictures).collect();
    // bytes before paths alone: there may be a column of file names next to the pictures
    if let Some(found) = found.iter().find(|found| found.bytes.is_some()).or(found.first()) {
        return Ok(found.clone());
    }
    let binary: Vec<&Leaf> = leaves
        .iter()
        .filter(|leaf| leaf.flat() && leaf.parts().len() == 1 && leaf.kind == Physical::BYTE_ARRAY && !leaf.is_text())
        .collect();
    if let Some(found) = if let [only] = binary.as_slice() { pictures(&only.name) } else { None } {
        return Ok(found);
    }
    let columns = columns(leaves);
    let array =
        |leaf: &&Leaf| PICTURES.contains(&&*plain(&leaf.name)) || kind(features, &leaf.name).is_some_and(|kind| kind.starts_with("Array"));
    let lists = || leaves.iter().find(|leaf| leaf.descr.max_rep_level() > 0 && leaf.kind != Physical::BYTE_ARRAY);
    if let Some(leaf) =
        leaves.iter().filter(|leaf| leaf.descr.max_rep_level() > 0 || leaf.kind != Physical::BYTE_ARRAY).find(array).or_else(lists)
    {
        let what = match leaf.kind {
            Physical::BYTE_ARRAY if leaf.descr.max_rep_level() > 0 => "lists of pictures: one a row can be read",
            _ if leaf.descr.max_rep_level() > 0 => {
                "lists of numbers (pixels), not picture files: store PNG or JPEG bytes, as the hub's Image feature does"
            }
            _ => "numbers, not picture files: store PNG or JPEG bytes, as the hub's Image feature does",
        };
        return Err(Error::Data(format!("{shown}: column \"{}\" holds {what}; columns found: {columns}", leaf.name)));
    }
    Err(Error::Data(format!("{shown}: holds no pictures: columns found: {columns}; expected img or image, a struct {{bytes, path}}")))
}
