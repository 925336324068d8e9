//! An ONNX graph under construction: nodes, weights, inputs and outputs; and the file that it becomes.
//!
//! Field numbers are those of `onnx.proto3` (ONNX, github.com/onnx/onnx).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::protobuf::Message;
use crate::error::{Error, Result};
use crate::files::replace_file;
use crate::nn::{LayerNorm, Linear};

/// ONNX's numbers of element types.
pub(super) const FLOAT: i64 = 1;
pub(super) const UINT8: i64 = 2;
const INT64: i64 = 7;
const FLOAT16: i64 = 10;
/// Readers of Protocol Buffers take no larger message.
const MOST_BYTES: u64 = (1 << 31) - 1;
/// ONNX 1.12: the first version whose operators hold layer norms.
const IR_VERSION: i64 = 8;

/// A node's setting.
pub(super) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

/// A size of an input or output.
#[derive(Clone, Copy)]
pub(super) enum Size<'a> {
    Known(usize),
    /// Any size, under a name.
    Any(&'a str),
}

/// What a weight holds.
enum Values {
    Floats(Tensor),
    Halves(Tensor),
    Ints(Vec<i64>),
}

struct Weight {
    /// The message up to its values.
    head: Message,
    values: Values,
}

/// Nodes in the order in which they run, and everything they read.
pub(super) struct Graph {
    fields: Message,
    weights: Vec<Weight>,
    names: BTreeSet<String>,
    nodes: usize,
    half: bool,
}

impl Graph {
    /// `half`: matrices are stored in f16, and widened where they are read.
    pub(super) fn new(half: bool) -> Self {
        Self { fields: Message::new().text(2, "lafter"), weights: Vec::new(), names: BTreeSet::new(), nodes: 0, half }
    }

    pub(super) fn input(&mut self, name: &str, kind: i64, shape: &[Size]) {
        self.value(11, name, kind, shape);
    }

    pub(super) fn output(&mut self, name: &str, kind: i64, shape: &[Size]) {
        self.value(12, name, kind, shape);
    }

    fn value(&mut self, field: u64, name: &str, kind: i64, shape: &[Size]) {
        let sizes = shape.iter().fold(Message::new(), |sizes, size| {
            let size = match size {
                Size::Known(size) => Message::new().int(1, *size as i64),
                Size::Any(name) => Message::new().text(2, name),
            };
            sizes.message(1, &size)
        });
        let tensor = Message::new().int(1, kind).message(2, &sizes);
        let value = Message::new().text(1, name).message(2, &Message::new().message(1, &tensor));
        self.fields = std::mem::take(&mut self.fields).message(field, &value);
    }

    /// Adds a node and gives its output's name.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.nodes += 1;
        let output = format!("{operator}_{}", self.nodes);
        self.node_to(&output, operator, inputs, attributes);
        output
    }

    /// The same with a given name of the output.
    pub(super) fn node_to(&mut self, output: &str, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) {
        let node = inputs.iter().fold(Message::new(), |node, input| node.text(1, input));
        let node = node.text(2, output).text(3, output).text(4, operator);
        let node = attributes.iter().fold(node, |node, (name, attribute)| {
            let message = Message::new().text(1, name);
            let message = match attribute {
                Attribute::Float(value) => message.float(2, *value).int(20, 1),
                Attribute::Int(value) => message.int(3, *value).int(20, 2),
                Attribute::Text(value) => message.text(4, value).int(20, 3),
                Attribute::Ints(values) => message.ints(8, values).int(20, 7),
            };
            node.message(5, &message)
        });
        self.fields = std::mem::take(&mut self.fields).message(1, &node);
    }

    /// A weight in f32; a matrix in f16 where the graph stores halves. Gives the name under which nodes read it in f32.
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let tensor = tensor.detach().to_device(&Device::Cpu)?;
        if self.half && tensor.rank() > 1 {
            let stored = format!("{name}.f16");
            let largest = tensor.to_dtype(DType::F32)?.abs()?.max_all()?.to_scalar::<f32>()?;
            if !half::f16::from_f32(largest).is_finite() {
                return Err(Error::Usage(format!("{name} holds {largest}, which does not fit f16: export without --half")));
            }
            let halves = tensor.to_dtype(DType::F16)?;
            self.weight(&stored, FLOAT16, tensor.dims(), 2 * tensor.elem_count() as u64, Values::Halves(halves));
            return Ok(self.node("Cast", &[&stored], &[("to", Attribute::Int(FLOAT))]));
        }
        let floats = tensor.to_dtype(DType::F32)?;
        self.weight(name, FLOAT, tensor.dims(), 4 * tensor.elem_count() as u64, Values::Floats(floats));
        Ok(name.to_string())
    }

    /// Whole numbers: shapes, places.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        let name = format!("ints_{}", values.iter().map(i64::to_string).collect::<Vec<_>>().join("_"));
        self.weight(&name, INT64, &[values.len()], 8 * values.len() as u64, Values::Ints(values.to_vec()));
        name
    }

    /// One number, for all elements alike.
    pub(super) fn number(&mut self, value: f32) -> Result<String> {
        self.tensor(&format!("number_{value}"), &Tensor::new(value, &Device::Cpu)?)
    }

    /// A weight that is there already under its name is not added again.
    fn weight(&mut self, name: &str, kind: i64, dims: &[usize], bytes: u64, values: Values) {
        if self.names.insert(name.to_string()) {
            let head = dims.iter().fold(Message::new(), |head, size| head.int(1, *size as i64));
            self.weights.push(Weight { head: head.int(2, kind).text(8, name).begin(9, bytes), values });
        }
    }

    /// y = x Wᵀ + b over the last axis.
    pub(super) fn linear(&mut self, name: &str, layer: &Linear, x: &str) -> Result<String> {
        let layer = &layer.folded()?;
        let weight = self.tensor(&format!("{name}.weight"), &layer.weight.tensor().t()?)?; // [in, out]
        let y = self.node("MatMul", &[x, &weight], &[]);
        let Some(bias) = &layer.bias else { return Ok(y) };
        let bias = self.tensor(&format!("{name}.bias"), bias)?;
        Ok(self.node("Add", &[&y, &bias], &[]))
    }

    /// A layer norm over the last axis.
    pub(super) fn norm(&mut self, name: &str, norm: &LayerNorm, x: &str) -> Result<String> {
        let LayerNorm { weight, bias, eps } = norm;
        let weight = self.tensor(&format!("{name}.weight"), weight)?;
        let bias = self.tensor(&format!("{name}.bias"), bias)?;
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(*eps as f32))];
        Ok(self.node("LayerNormalization", &[x, &weight, &bias], &attributes))
    }

    /// Places `from..to` of one axis; a `to` of [`i64::MAX`] is its end.
    pub(super) fn slice(&mut self, x: &str, axis: i64, from: i64, to: i64) -> String {
        let [from, to, axis] = [from, to, axis].map(|value| self.ints(&[value]));
        self.node("Slice", &[x, &from, &to, &axis], &[])
    }

    /// Writes the file, whole or not at all; gives its length.
    pub(super) fn save(self, path: &Path, opset: i64, description: &str, metadata: &[(&str, String)]) -> Result<u64> {
        let version = env!("CARGO_PKG_VERSION");
        let model = Message::new().int(1, IR_VERSION).text(2, "lafter").text(3, version).text(6, description);
        let model = model.message(8, &Message::new().text(1, "").int(2, opset));
        let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
        let model = metadata.iter().fold(model, |model, (key, value)| model.message(14, &entry(key, value)));
        let weights: Vec<(Message, &Values)> = self.weights.iter().map(|weight| (weight.in_graph(), &weight.values)).collect();
        let graph = self.fields.len() + self.weights.iter().zip(&weights).map(|(w, (head, _))| head.len() + w.values.bytes()).sum::<u64>();
        let model = model.begin(7, graph).append(&self.fields);
        let length = model.len() + graph - self.fields.len();
        if length > MOST_BYTES {
            let (shown, gib) = (path.display(), length as f64 / f64::from(1 << 30));
            let remedy = if self.half { "choose a smaller CLIP" } else { "store its weights in f16 (--half)" };
            return Err(Error::Usage(format!("{shown} would have {gib:.1} GiB, and an ONNX file has at most 2: {remedy}")));
        }
        let mut fault = None;
        replace_file(path, |file| {
            file.write_all(model.as_bytes())?;
            for (head, values) in &weights {
                file.write_all(head.as_bytes())?;
                match values.to_bytes() {
                    Ok(bytes) => file.write_all(&bytes)?,
                    Err(error) => {
                        let said = std::io::Error::other(error.to_string());
                        fault = Some(error);
                        return Err(said);
                    }
                }
            }
            Ok(())
        })
        .map_err(|error| fault.map_or(error, Error::from))?;
        Ok(length)
    }
}

impl Weight {
    /// The field of the graph up to the values, which follow it.
    fn in_graph(&self) -> Message {
        Message::new().begin(5, self.head.len() + self.values.bytes()).append(&self.head)
    }
}

impl Values {
    fn bytes(&self) -> u64 {
        match self {
            Self::Floats(tensor) => 4 * tensor.elem_count() as u64,
            Self::Halves(tensor) => 2 * tensor.elem_count() as u64,
            Self::Ints(values) => 8 * values.len() as u64,
        }
    }

    /// Row by row, little-endian.
    fn to_bytes(&self) -> candle_core::Result<Vec<u8>> {
        Ok(match self {
            Self::Floats(tensor) => tensor.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Halves(tensor) => tensor.flatten_all()?.to_vec1::<half::f16>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Ints(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
    }
}
