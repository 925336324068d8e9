//! Stored answers of any other encoder, keyed by picture.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::targets::Views;
use crate::checkpoint::fingerprint;
use crate::clip::{read_tensors, save_tensors};
use crate::data::Dataset;
use crate::error::{Error, Result, cut, noun};

/// What another encoder said of pictures.
///
/// A run notes a hash of what it reads here in its checkpoints; one that is resumed goes on only from the same answers.
///
/// # The file
/// A safetensors file of tensors with a row per picture, f32, f64, f16 or bf16, at least one of
///
/// | tensor | shape | |
/// |---|---|---|
/// | `logits` | `[n, C]` | answers before the softmax |
/// | `probabilities` | `[n, C]` | answers as probabilities; read only if there are no logits |
/// | `features` | `[n, d]` | features, of any width |
///
/// and of metadata, which safetensors keeps as texts: `names`, a JSON list of n picture names as the data set gives them, and, if known,
/// `classes`, a JSON list of C class names. A picture in a folder has the folder as it is given to `--train`, and its path below that
/// (`photos/house/1.jpg` for `--train photos`); one of a Parquet file `train.parquet, row 7`. `lafter embed --images DATA --out FILE`
/// writes such a file, with `--classes` also its zero-shot logits. From Python:
///
/// ```python
/// import json, torch
/// from pathlib import Path
/// from safetensors.torch import save_file
///
/// names = sorted(str(path) for path in Path("photos").rglob("*.jpg"))
/// with torch.no_grad():
///     features = torch.cat([model(load(name)) for name in names]).float()  # [n, d], your encoder
/// save_file({"features": features.contiguous()}, "features.safetensors", {"names": json.dumps(names)})
/// ```
#[derive(Clone, Debug)]
pub struct Bank {
    /// The pictures' names, one for each row.
    pub names: Vec<String>,
    /// The names of the classes, in the order of the columns, if the file has them.
    pub classes: Option<Vec<String>>,
    /// Answers before the softmax `[n, C]`, f32 on the CPU; of a file of probabilities their logarithms.
    pub logits: Option<Tensor>,
    /// Features `[n, d]`, f32 on the CPU.
    pub features: Option<Tensor>,
    /// Where it was read, for messages.
    shown: String,
}

const NAMES: &str = "names";
const CLASSES: &str = "classes";

impl Bank {
    /// Reads a file and checks all of it: names without repetition, a row for each, no value that is not finite, probabilities that
    /// are some.
    ///
    /// # Errors
    /// [`Error::Data`] in one line with counts and examples; [`Error::Io`] or [`Error::Weights`] for a file that cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let shown = path.as_ref().display().to_string();
        let wrong = |what: String| Error::Data(format!("{shown}: {what}"));
        let (tensors, metadata) = read_tensors(&path, &Device::Cpu)?;
        let list = |key: &str| match metadata.get(key).map(|json| serde_json::from_str::<Vec<String>>(json)) {
            None => Ok(None),
            Some(Ok(list)) => Ok(Some(list)),
            Some(Err(error)) => Err(wrong(format!("its metadata \"{key}\" are not a JSON list of texts: {error}"))),
        };
        let names = list(NAMES)?.ok_or_else(|| {
            wrong("its metadata lack \"names\", a JSON list of the pictures' names: write it with `lafter embed`, or add them".into())
        })?;
        let mut seen: HashMap<&String, usize> = HashMap::with_capacity(names.len());
        names.iter().for_each(|name| *seen.entry(name).or_default() += 1);
        let twice: Vec<&String> = names.iter().filter(|name| seen.insert(name, 1).is_some_and(|count| count > 1)).collect();
        if !twice.is_empty() {
            let stand = if twice.len() == 1 { "stands" } else { "stand" };
            return Err(wrong(format!("{} {stand} more than once: keep one row of each", some(&twice, "picture"))));
        }
        let read = |name: &str| {
            let Some(tensor) = tensors.get(name) else { return Ok(None) };
            let (dims, dtype) = (tensor.dims(), tensor.dtype());
            if ![DType::F32, DType::F64, DType::F16, DType::BF16].contains(&dtype) {
                return Err(wrong(format!("{name} have type {dtype:?}, expected f32")));
            }
            if dims.len() != 2 || dims[0] != names.len() || dims[1] == 0 {
                return Err(wrong(format!("{name} have shape {dims:?}, expected a row for each of {} names", names.len())));
            }
            let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
            check_rows(&tensor, &names, |row| row.iter().all(|value| value.is_finite()))
                .map_err(|bad| wrong(format!("{name} of {bad} are not finite: compute them again, in f32")))?;
            Ok(Some(tensor))
        };
        let (logits, features, probabilities) = (read("logits")?, read("features")?, read("probabilities")?);
        if let Some(probabilities) = &probabilities {
            let sound = |row: &[f32]| row.iter().all(|p| *p >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-2;
            check_rows(probabilities, &names, sound)
                .map_err(|bad| wrong(format!("probabilities of {bad} are negative or do not sum to 1: are these logits?")))?;
        }
        // the least probability that f32 holds stands for 0, which has no logarithm
        let logits = match (logits, probabilities) {
            (None, Some(probabilities)) => Some(probabilities.maximum(f64::from(f32::MIN_POSITIVE))?.log()?),
            (logits, _) => logits,
        };
        if logits.is_none() && features.is_none() {
            return Err(wrong("holds neither logits, probabilities nor features: see the documentation of tune::Bank".into()));
        }
        let classes = list(CLASSES)?;
        if let (Some(classes), Some(logits)) = (&classes, &logits)
            && classes.len() != logits.dim(1)?
        {
            return Err(wrong(format!("names {} classes, its answers have {} columns", classes.len(), logits.dim(1)?)));
        }
        Ok(Self { names, classes, logits, features, shown })
    }

    /// Writes a file that [`read`](Self::read) reads, with further metadata (atomically).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(
        path: impl AsRef<Path>,
        names: &[String],
        classes: Option<&[String]>,
        tensors: &[(String, Tensor)],
        mut metadata: HashMap<String, String>,
    ) -> Result<()> {
        metadata.insert(NAMES.into(), json!(names).to_string());
        if let Some(classes) = classes {
            metadata.insert(CLASSES.into(), json!(classes).to_string());
        }
        save_tensors(path, tensors, metadata)
    }

    /// Its answers to the pictures of a data set in their order, `[n, C]`, and notices.
    ///
    /// # Errors
    /// [`Error::Data`] in one line with counts and examples if it has none, has another number of classes or other ones, lacks a
    /// picture that can be read, or if two pictures of the data set share a name.
    pub fn answers(&self, pictures: &Dataset, classes: usize) -> Result<(Tensor, Vec<String>)> {
        let Some(logits) = &self.logits else {
            return Err(self.wrong("has no answers, only features: give it `logits` or `probabilities`, or use the labeler"));
        };
        let found = logits.dim(1)?;
        if found != classes {
            return Err(self.wrong(&format!("answers {found} classes, the run has {classes}: answer the same class list")));
        }
        let (rows, notices) = self.rows_of(pictures)?;
        Ok((logits.index_select(&rows, 0)?, notices))
    }

    /// Whether its columns are these classes, as far as it names them.
    ///
    /// # Errors
    /// [`Error::Data`] in one line with the first that differs.
    pub fn check_classes(&self, classes: &[String]) -> Result<()> {
        let Some(own) = &self.classes else { return Ok(()) };
        if own.len() != classes.len() {
            return Err(self.wrong(&format!("answers {} classes, the run has {}: answer the same class list", own.len(), classes.len())));
        }
        let differ: Vec<usize> = (0..own.len()).filter(|i| own[*i] != classes[*i]).collect();
        let Some(first) = differ.first().copied() else { return Ok(()) };
        Err(self.wrong(&format!(
            "{} of its {} classes are others than the run's, class {first} is \"{}\" there and \"{}\" here: answer the same class list, in its order",
            differ.len(),
            own.len(),
            cut(&own[first]),
            cut(&classes[first])
        )))
    }

    /// Its features of the pictures of a data set in their order, `[n, d]`, and notices.
    ///
    /// # Errors
    /// As [`answers`](Self::answers).
    pub fn features(&self, pictures: &Dataset) -> Result<(Tensor, Vec<String>)> {
        let Some(features) = &self.features else { return Err(self.wrong("has no features: add a tensor `features` [n, d]")) };
        let (rows, notices) = self.rows_of(pictures)?;
        Ok((features.index_select(&rows, 0)?, notices))
    }

    /// Which row each picture has; one that cannot be read and has none, for which nobody asks, has the first.
    fn rows_of(&self, pictures: &Dataset) -> Result<(Tensor, Vec<String>)> {
        let wanted: Vec<String> = (0..pictures.len()).map(|i| pictures.name(i)).collect();
        let places: HashMap<&str, u32> = self.names.iter().map(String::as_str).zip(0..).collect();
        let missing: Vec<usize> = (0..wanted.len()).filter(|i| !places.contains_key(wanted[*i].as_str())).collect();
        let readable = missing.len() == wanted.len() || missing.iter().any(|i| pictures.image(*i).is_ok());
        let missing: Vec<&String> = missing.into_iter().map(|i| &wanted[i]).collect();
        if !missing.is_empty() && readable {
            let origin = pictures.origin();
            let has = self.names.first().map_or_else(|| "no picture".into(), |name| format!("names such as {}", cut(name)));
            return Err(self.wrong(&format!(
                "lacks {} of {} in {origin}; it has {has}: write it from the same data set",
                some(&missing, "picture"),
                wanted.len()
            )));
        }
        let rows: Vec<Option<u32>> = wanted.iter().map(|name| places.get(name.as_str()).copied()).collect();
        let mut taken = vec![false; self.names.len()];
        let mut again = |row: &Option<u32>| row.is_some_and(|row| std::mem::replace(&mut taken[row as usize], true));
        let twice: Vec<&String> = wanted.iter().zip(&rows).filter_map(|(name, row)| again(row).then_some(name)).collect();
        if !twice.is_empty() {
            return Err(self.wrong(&format!(
                "cannot tell {} of {} apart, which share a name with another: give each its own name",
                some(&twice, "picture"),
                pictures.origin()
            )));
        }
        let left: Vec<&String> = self.names.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(name, _)| name).collect();
        let mut notices = Vec::new();
        if !left.is_empty() {
            let be = if left.len() == 1 { "is" } else { "are" };
            notices.push(format!("{}: {} {be} not among the pictures of this run and {be} left out", self.shown, some(&left, "picture")));
        }
        if !missing.is_empty() {
            notices.push(format!("{}: lacks {}, which cannot be read anyway", self.shown, some(&missing, "picture")));
        }
        let rows: Vec<u32> = rows.into_iter().map(Option::unwrap_or_default).collect();
        Ok((Tensor::from_vec(rows, wanted.len(), &Device::Cpu)?, notices))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Data(format!("{}: {what}", self.shown))
    }
}

/// What a file says of the pictures of a run: a table `[n, ..]` on the CPU with a row per picture, and its hash.
pub(super) struct Stored {
    pub rows: Tensor,
    pub hash: String,
}

impl Stored {
    pub fn new(rows: Tensor) -> Result<Self> {
        Ok(Self { hash: fingerprint([&rows])?, rows })
    }

    /// As [`of_batch`].
    pub fn of_batch(&self, views: &Views) -> candle_core::Result<Tensor> {
        of_batch(&self.rows, views)
    }
}

/// The rows of a batch, on the device of its views, out of a table `[n, ..]` on the CPU with a row per picture.
///
/// # Errors
/// If the views do not say which pictures they are (Candle's).
pub(super) fn of_batch(table: &Tensor, views: &Views) -> candle_core::Result<Tensor> {
    if views.indices.is_empty() {
        candle_core::bail!("{} pictures, none of them named: stored answers need Views::indices of each", views.weak.dim(0)?);
    }
    table.index_select(&Tensor::new(&views.indices[..], &Device::Cpu)?, 0)?.to_device(views.weak.device())
}

/// The first rows that are not as they should be, with their number.
fn check_rows(rows: &Tensor, names: &[String], sound: impl Fn(&[f32]) -> bool) -> std::result::Result<(), String> {
    let rows = rows.to_vec2::<f32>().map_err(|e| e.to_string())?;
    let bad: Vec<&String> = rows.iter().zip(names).filter(|(row, _)| !sound(row)).map(|(_, name)| name).collect();
    if bad.is_empty() { Ok(()) } else { Err(some(&bad, "picture")) }
}

/// How many, and the first three.
fn some(names: &[impl AsRef<str>], what: &str) -> String {
    let first: Vec<String> = names.iter().take(3).map(|name| cut(name.as_ref())).collect();
    let more = if names.len() > 3 { ", …" } else { "" };
    format!("{} {} ({}{more})", names.len(), noun(names.len(), what), first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scenes::{Domain, Scenes};

    fn written(names: &[String], tensors: &[(&str, Tensor)], classes: Option<&[&str]>) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.safetensors");
        let tensors: Vec<(String, Tensor)> = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        let classes: Option<Vec<String>> = classes.map(|classes| classes.iter().map(|class| class.to_string()).collect());
        Bank::save(&path, names, classes.as_deref(), &tensors, HashMap::new()).unwrap();
        (folder, path)
    }

    fn rows(values: &[[f32; 2]]) -> Tensor {
        Tensor::from_slice(values.as_flattened(), (values.len(), 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn rows_come_in_the_order_of_the_pictures() {
        let pictures = Dataset::new(Scenes::new(Domain::Source, 3, 1)).unlabeled();
        let names: Vec<String> = [2, 0, 1].map(|i| pictures.name(i)).into();
        let logits = rows(&[[2., -2.], [0., 0.5], [1., -1.]]);
        let (_folder, path) = written(&names, &[("logits", logits.clone()), ("features", logits)], Some(&["a", "b"]));
        let bank = Bank::read(&path).unwrap();
        let (answers, notices) = bank.answers(&pictures, 2).unwrap();
        assert_eq!(answers.to_vec2::<f32>().unwrap(), [[0., 0.5], [1., -1.], [2., -2.]]);
        assert!(notices.is_empty());
        let (features, notices) = bank.features(&pictures.take(1)).unwrap();
        assert_eq!(features.to_vec2::<f32>().unwrap(), [[0., 0.5]]);
        assert!(
            notices.len() == 1 && notices[0].contains("2 pictures") && notices[0].contains("not among the pictures of this run"),
            "{notices:?}"
        );
    }

    /// A run leaves out what it cannot read, and so do files that others wrote.
    #[test]
    fn a_picture_that_cannot_be_read_needs_no_row() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "c.png"] {
            image::RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("a.png"), "no picture").unwrap();
        let pictures = crate::data::open(&folder.path().display().to_string(), &crate::data::OpenOptions::default()).unwrap().unlabeled();
        let names: Vec<String> = (0..3).map(|i| pictures.name(i)).collect();
        let answers = |names: &[String], n: usize| {
            let (_folder, path) = written(names, &[("logits", rows(&[[0., 1.], [1., 0.]][..n]))], None);
            Bank::read(&path).unwrap().answers(&pictures, 2)
        };
        let (found, notices) = answers(&names[1..], 2).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap()[1..], [[0., 1.], [1., 0.]]);
        assert!(notices.len() == 1 && notices[0].contains("lacks 1 picture") && notices[0].contains("a.png"), "{notices:?}");
        assert!(answers(&names[1..2], 1).unwrap_err().to_string().contains("lacks 2 pictures"));
    }

    #[test]
    fn probabilities_become_logarithms() {
        let names = ["a".to_string()];
        let (_folder, path) = written(&names, &[("probabilities", rows(&[[1.0, 0.0]]))], None);
        let logits = Bank::read(&path).unwrap().logits.unwrap();
        let back = candle_nn::ops::softmax(&logits, 1).unwrap().to_vec2::<f32>().unwrap();
        assert!((back[0][0] - 1.0).abs() < 1e-6 && back[0][1] < 1e-30, "{back:?}");
    }

    #[test]
    fn every_fault_is_one_line_with_counts_and_examples() {
        let pictures = Dataset::new(Scenes::new(Domain::Source, 3, 1)).unlabeled();
        let names: Vec<String> = (0..3).map(|i| pictures.name(i)).collect();
        let good = rows(&[[0., 1.], [1., 0.], [0.5, 0.5]]);
        let read = |names: &[String], tensors: &[(&str, Tensor)], classes: Option<&[&str]>| {
            let (_folder, path) = written(names, tensors, classes);
            Bank::read(&path).and_then(|bank| bank.answers(&pictures, 2)).unwrap_err().to_string()
        };
        let (repeated, strange) = ([&names[..2], &names[..1]].concat(), vec!["x".to_string(), "y".into(), names[0].clone()]);
        let wide = Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();
        let cases = [
            (read(&repeated, &[("logits", good.clone())], None), vec!["1 picture (", &names[0], "stands more than once"]),
            (read(&strange, &[("logits", good.clone())], None), vec!["lacks 2 pictures", &names[1], "names such as x"]),
            (read(&names, &[("logits", rows(&[[f32::NAN, 0.], [0., 0.], [1., f32::INFINITY]]))], None), vec!["2 pictures", "not finite"]),
            (read(&names, &[("logits", wide)], None), vec!["answers 5 classes", "the run has 2"]),
            (read(&names, &[("logits", good.clone())], Some(&["a", "b", "c"])), vec!["3 classes", "2 columns"]),
            (read(&names, &[("probabilities", rows(&[[3., 1.], [0.5, 0.5], [0.1, 0.2]]))], None), vec!["2 pictures", "sum to 1"]),
            (read(&names, &[("logits", rows(&[[0., 1.]]))], None), vec!["[1, 2]", "3 names"]),
            (read(&names, &[("features", good.clone())], None), vec!["no answers, only features"]),
            (read(&names, &[("other", good)], None), vec!["neither logits"]),
        ];
        for (error, words) in cases {
            assert!(words.iter().all(|word| error.contains(*word)) && !error.contains('\n'), "{error} lacks one of {words:?}");
        }
        let (_folder, path) = written(&names, &[("logits", rows(&[[0., 1.], [1., 0.], [0.5, 0.5]]))], Some(&["a", "b"]));
        let bank = Bank::read(path).unwrap();
        let turned = bank.check_classes(&["b".to_string(), "a".into()]).unwrap_err().to_string();
        assert!(turned.contains("2 of its 2 classes") && turned.contains("class 0 is \"a\" there"), "{turned}");
        bank.check_classes(&["a".to_string(), "b".into()]).unwrap();
        let path = tempfile::tempdir().unwrap().path().join("none");
        assert!(matches!(Bank::read(path), Err(Error::Io { .. })));
    }
}
