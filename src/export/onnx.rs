//! A classifier as an ONNX file: pixels or pictures in, logits and probabilities out.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::answering::Answering;
use super::graph::{Attribute, FLOAT, Graph, Size, UINT8};
use super::pictures::weak_view;
use super::tower::tower;
use crate::classify::{Head, normalize};
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::eval::as_written;
use crate::nn::Linear;
use crate::tune::VisualPrompts;

/// The first operator set with layer norms, and the first with a resize that antialiases.
const OPSET: i64 = 17;
const OPSET_OF_PICTURES: i64 = 18;

/// What becomes an ONNX file. The file holds the vision tower, visual prompts and head as one graph; the text tower has done its
/// part. Runtimes from onnxruntime 1.17 on read it, onnxruntime-web too.
///
/// # Shapes
/// input `pixels` `[n, 3, side, side]` f32, as [`Preprocess::apply`](crate::augment::Preprocess::apply) makes them, or with
/// [`pictures`](Self::pictures) the input `pictures` `[n, height, width, 3]` u8; outputs `logits` and `probabilities`, both `[n, C]`
/// f32. n is any number from 1 on.
///
/// ```
/// use lafter::{ZeroShotClassifier, clip::Clip, describe::Templates, export::{Answering, Onnx}};
/// let (clip, classes) = (Clip::demo()?, ["house", "fish"]);
/// let zero_shot = ZeroShotClassifier::fit(&clip, &classes, &Templates::single())?;
/// let folder = tempfile::tempdir().unwrap();
/// let written = Onnx::new(clip, Answering::ZeroShot(zero_shot), &classes).save(folder.path().join("model.onnx"))?;
/// assert_eq!((written.input.as_str(), written.opset), ("pixels [n, 3, 40, 40] f32", 17));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Onnx {
    /// The CLIP underneath.
    pub clip: Clip,
    /// Whose answers the file gives.
    pub answering: Answering,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// Whether the file takes 8-bit pictures of any size and prepares them itself; default false. Its resize differs from Pillow's,
    /// which this crate's follows bit for bit, by one level of 255 in about one of ten thousand values of a photograph and two of black
    /// and white noise, and by no more in any shape of picture (`tests/onnx_check.py` measures it with onnxruntime).
    pub pictures: bool,
    /// Whether matrices are stored in f16, at half the size. They are widened when the file is loaded: products stay f32. Default
    /// false.
    pub half: bool,
    /// The license of the base model, which the file's contents are under; `None` is written as "not stated".
    pub license: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnnxSummary {
    /// The input: name, shape, type.
    pub input: String,
    /// The outputs.
    pub outputs: String,
    /// The version of ONNX's operators.
    pub opset: i64,
    /// The length of the file.
    pub bytes: u64,
    /// What the reader should know, one line each.
    pub notices: Vec<String>,
}

impl Onnx {
    /// A file that takes pixels, in f32, with no license stated.
    pub fn new(clip: Clip, answering: Answering, classes: &[impl AsRef<str>]) -> Self {
        let classes = classes.iter().map(|class| class.as_ref().to_string()).collect();
        Self { clip, answering, classes, pictures: false, half: false, license: None }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one class name a logit; [`Error::Usage`] for what an ONNX file cannot hold: more than 2 GiB,
    /// pictures prepared in a way that its operators do not know; [`Error::Io`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<OnnxSummary> {
        let (names, logits) = (self.classes.len(), self.answering.classes());
        if names != logits {
            return Err(Error::Shape(format!("{logits} logits for {names} class names: take those that the head was trained with")));
        }
        let mut graph = Graph::new(self.half);
        let side = self.clip.config().vision.image_size;
        let (pixels, input, opset) = match self.pictures {
            true => {
                let shape = [Size::Any("n"), Size::Any("height"), Size::Any("width"), Size::Known(3)];
                graph.input("pictures", UINT8, &shape);
                let pixels = weak_view(&mut graph, self.clip.preprocess(), "pictures")?;
                (pixels, "pictures [n, height, width, 3] u8".to_string(), OPSET_OF_PICTURES)
            }
            false => {
                graph.input("pixels", FLOAT, &[Size::Any("n"), Size::Known(3), Size::Known(side), Size::Known(side)]);
                ("pixels".to_string(), format!("pixels [n, 3, {side}, {side}] f32"), OPSET)
            }
        };
        self.answer(&mut graph, &pixels)?;
        for output in ["logits", "probabilities"] {
            graph.output(output, FLOAT, &[Size::Any("n"), Size::Known(names)]);
        }
        let description = format!("{} over {}, {names} classes, by lafter", self.answering.name(), self.clip.id());
        let bytes = graph.save(path.as_ref(), opset, &description, &self.metadata())?;
        let outputs = format!("logits and probabilities [n, {names}] f32");
        Ok(OnnxSummary { input, outputs, opset, bytes, notices: self.notices() })
    }

    /// Tower, classifier, softmax.
    fn answer(&self, graph: &mut Graph, pixels: &str) -> Result<()> {
        let logits = match &self.answering {
            Answering::Tuned(tuned) => {
                let features = tower(graph, &tuned.vision, &tuned.prompts, pixels)?;
                let features = if tuned.normalize { unit(graph, &features) } else { features };
                head(graph, &tuned.head, &features)?
            }
            Answering::Text(classifier) => {
                let features = tower(graph, self.clip.vision(), &VisualPrompts::none(), pixels)?;
                let features = unit(graph, &features);
                head(graph, &classifier.head, &features)?
            }
            Answering::ZeroShot(classifier) => {
                let features = tower(graph, self.clip.vision(), &VisualPrompts::none(), pixels)?;
                let features = unit(graph, &features);
                let weights = graph.tensor("classes.weight", &classifier.weights.t()?)?;
                let cosines = graph.node("MatMul", &[&features, &weights], &[]);
                let scale = graph.number(classifier.scale as f32)?;
                graph.node("Mul", &[&cosines, &scale], &[])
            }
        };
        graph.node_to("logits", "Identity", &[&logits], &[]);
        graph.node_to("probabilities", "Softmax", &["logits"], &[("axis", Attribute::Int(-1))]);
        Ok(())
    }

    /// What the file says about itself, as texts; lists and structures are JSON.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        let weak = self.clip.preprocess();
        vec![
            ("classes", json!(self.classes).to_string()),
            ("classifier", self.answering.name().to_string()),
            ("mean", json!(as_written(&weak.mean)).to_string()),
            ("std", json!(as_written(&weak.std)).to_string()),
            ("side", weak.side().to_string()),
            ("preprocess", json!(weak).to_string()),
            ("base_model", self.clip.id().to_string()),
            ("base_weights", self.clip.weights_hash().to_string()),
            ("base_license", self.license.clone().unwrap_or_else(|| "not stated".into())),
            ("weights", if self.half { "f16" } else { "f32" }.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ]
    }

    fn notices(&self) -> Vec<String> {
        let license = self.license.is_none().then(|| "the license of the base model is not stated in the file: --license says it".into());
        let tower = match &self.answering {
            Answering::Tuned(tuned) => &tuned.vision,
            _ => self.clip.vision(),
        };
        let rounded = tower.precision() == Some(crate::nn::Precision::Bf16);
        let rounded = rounded.then(|| "the tower was tuned in bf16, and the file multiplies in f32: answers differ a little".into());
        license.into_iter().chain(rounded).collect()
    }
}

/// x / ‖x‖ over the last axis.
fn unit(graph: &mut Graph, x: &str) -> String {
    let squares = graph.node("Mul", &[x, x], &[]);
    let axis = graph.ints(&[-1]);
    let sum = graph.node("ReduceSum", &[&squares, &axis], &[("keepdims", Attribute::Int(1))]);
    let length = graph.node("Sqrt", &[&sum], &[]);
    graph.node("Div", &[x, &length], &[])
}

/// The head's layers with a ReLU between; a cosine head's one layer with its rows of unit length.
fn head(graph: &mut Graph, head: &Head, features: &str) -> Result<String> {
    if let (Some(scale), [layer]) = (head.scale, &head.layers[..]) {
        let (features, weight) = (unit(graph, features), normalize(&layer.weight.tensor())?);
        let cosines = graph.linear("head.0", &Linear::new(weight, None), &features)?;
        let scale = graph.number(scale as f32)?;
        return Ok(graph.node("Mul", &[&cosines, &scale], &[]));
    }
    let mut x = features.to_string();
    for (i, layer) in head.layers.iter().enumerate() {
        if i > 0 {
            x = graph.node("Relu", &[&x], &[]);
        }
        x = graph.linear(&format!("head.{i}"), layer, &x)?;
    }
    Ok(x)
}

impl fmt::Display for OnnxSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}, opset {}, {:.1} MB", self.input, self.outputs, self.opset, self.bytes as f64 / 1e6)
    }
}
