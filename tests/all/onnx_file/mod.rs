//! Reads an ONNX file back and computes what its nodes say, with Candle's plain operations: an opinion of its own on the export.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor, bail};

/// A field of a message: a number, or bytes.
#[derive(Clone, Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message's fields in their order.
struct Message(Vec<(u64, Field)>);

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|(_, value)| value)
    }

    fn numbers(&self, field: u64) -> Vec<u64> {
        self.all(field).map(|value| if let Field::Number(number) = value { *number } else { panic!("field {field}") }).collect()
    }

    fn number(&self, field: u64) -> u64 {
        self.numbers(field).first().copied().unwrap_or(0)
    }

    fn bytes(&self, field: u64) -> Vec<&[u8]> {
        self.all(field).map(|value| if let Field::Bytes(bytes) = value { bytes.as_slice() } else { panic!("field {field}") }).collect()
    }

    fn texts(&self, field: u64) -> Vec<String> {
        self.bytes(field).into_iter().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }

    fn text(&self, field: u64) -> String {
        self.texts(field).first().cloned().unwrap_or_default()
    }

    fn messages(&self, field: u64) -> Vec<Message> {
        self.bytes(field).into_iter().map(Message::read).collect()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(count);
    *bytes = rest;
    head
}

pub struct Node {
    pub operator: String,
    pub inputs: Vec<String>,
    pub output: String,
    ints: HashMap<String, Vec<i64>>,
    floats: HashMap<String, f32>,
    pub texts: HashMap<String, String>,
}

/// What a file says.
pub struct Model {
    pub opset: u64,
    pub ir: u64,
    pub metadata: HashMap<String, String>,
    pub nodes: Vec<Node>,
    pub weights: HashMap<String, Tensor>,
    /// Name, element type, sizes: a number, or a name.
    pub inputs: Vec<(String, u64, Vec<String>)>,
    pub outputs: Vec<(String, u64, Vec<String>)>,
}

impl Model {
    pub fn read(path: impl AsRef<Path>) -> Self {
        let model = Message::read(&std::fs::read(path).unwrap());
        let graph = &model.messages(7)[0];
        let value = |message: Message| {
            let tensor = &message.messages(2)[0].messages(1)[0];
            let size = |size: Message| if size.text(2).is_empty() { size.number(1).to_string() } else { size.text(2) };
            (message.text(1), tensor.number(1), tensor.messages(2)[0].messages(1).into_iter().map(size).collect())
        };
        Self {
            opset: model.messages(8)[0].number(2),
            ir: model.number(1),
            metadata: model.messages(14).iter().map(|entry| (entry.text(1), entry.text(2))).collect(),
            nodes: graph.messages(1).iter().map(node).collect(),
            weights: graph.messages(5).iter().map(weight).collect(),
            inputs: graph.messages(11).into_iter().map(value).collect(),
            outputs: graph.messages(12).into_iter().map(value).collect(),
        }
    }

    /// Every name is written before it is read, and none twice.
    pub fn check_names(&self) {
        let mut known: Vec<&String> = self.weights.keys().chain(self.inputs.iter().map(|input| &input.0)).collect();
        for node in &self.nodes {
            for input in node.inputs.iter().filter(|input| !input.is_empty()) {
                assert!(known.contains(&input), "{} reads {input}, which is not there", node.output);
            }
            assert!(!known.contains(&&node.output), "{} is written twice", node.output);
            known.push(&node.output);
        }
        self.outputs.iter().for_each(|output| assert!(known.contains(&&output.0), "{} is never written", output.0));
    }

    /// The named values that the nodes compute from the input.
    pub fn run(&self, input: &Tensor) -> Result<HashMap<String, Tensor>> {
        let mut values = self.weights.clone();
        values.insert(self.inputs[0].0.clone(), input.clone());
        values.insert(String::new(), Tensor::zeros((), DType::F32, &Device::Cpu)?); // an input that is left out
        for node in &self.nodes {
            let inputs: Vec<&Tensor> = node.inputs.iter().map(|name| &values[name]).collect();
            let output = node.run(&inputs)?;
            values.insert(node.output.clone(), output);
        }
        Ok(values)
    }
}

fn node(message: &Message) -> Node {
    let mut node = Node {
        operator: message.text(4),
        inputs: message.texts(1),
        output: message.text(2),
        ints: HashMap::new(),
        floats: HashMap::new(),
        texts: HashMap::new(),
    };
    for attribute in message.messages(5) {
        let name = attribute.text(1);
        let signed = |field| attribute.numbers(field).into_iter().map(|number| number as i64).collect();
        match attribute.number(20) {
            1 => drop(node.floats.insert(name, f32::from_bits(attribute.number(2) as u32))),
            2 => drop(node.ints.insert(name, signed(3))),
            3 => drop(node.texts.insert(name, attribute.text(4))),
            7 => drop(node.ints.insert(name, signed(8))),
            other => panic!("an attribute of type {other}"),
        }
    }
    node
}

fn weight(message: &Message) -> (String, Tensor) {
    let dims: Vec<usize> = message.numbers(1).into_iter().map(|size| size as usize).collect();
    let dtype = [(1, DType::F32), (7, DType::I64), (10, DType::F16)].iter().find(|(kind, _)| *kind == message.number(2)).unwrap().1;
    (message.text(8), Tensor::from_raw_buffer(message.bytes(9)[0], dtype, &dims, &Device::Cpu).unwrap())
}

fn whole(tensor: &Tensor) -> Result<Vec<i64>> {
    tensor.flatten_all()?.to_vec1()
}

/// Planes `[1, 3, h, w]` at another size.
fn resized(planes: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, rows, columns) = planes.dims4()?;
    let pixels = planes.squeeze(0)?.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
    let picture = image::RgbImage::from_raw(columns as u32, rows as u32, pixels).unwrap();
    let picture = lafter::augment::ops::resize(&picture, width as u32, height as u32, lafter::augment::Resample::Bicubic);
    Tensor::from_vec(picture.into_raw(), (1, height, width, 3), &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()
}

impl Node {
    fn axis(&self, x: &Tensor) -> usize {
        let axis = self.ints["axis"][0];
        if axis < 0 { (x.rank() as i64 + axis) as usize } else { axis as usize }
    }

    fn run(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        match (self.operator.as_str(), inputs) {
            ("Add", [a, b]) => a.broadcast_add(b),
            ("Sub", [a, b]) => a.broadcast_sub(b),
            ("Mul", [a, b]) => a.broadcast_mul(b),
            ("Div", [a, b]) => a.broadcast_div(b),
            ("Max", [a, b]) => a.broadcast_maximum(b),
            ("MatMul", [a, b]) => a.contiguous()?.broadcast_matmul(&b.contiguous()?),
            ("Cast", _) => x.to_dtype(DType::F32),
            ("Concat", _) => Tensor::cat(inputs, self.axis(x)),
            ("Conv", [x, kernel]) => x.conv2d(kernel, 0, self.ints["strides"][0] as usize, 1, 1),
            ("Erf", _) => x.erf(),
            ("Expand", [x, shape]) => {
                let shape = whole(shape)?;
                let sizes: Vec<usize> = shape.iter().zip(x.dims()).map(|(new, old)| (*new as usize).max(*old)).collect();
                x.broadcast_as(sizes)
            }
            ("Greater", [a, b]) => a.broadcast_gt(b),
            ("Identity", _) => Ok(x.clone()),
            ("LayerNormalization", [x, weight, bias]) => {
                let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
                let variance = (centered.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.floats["epsilon"]))?;
                centered.broadcast_div(&variance.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
            }
            ("ReduceMin", [x]) => x.min_keepdim(0),
            // one direction at a time, with this crate's numbers; those of onnxruntime: tests/onnx_check.py
            ("Resize", [x, _, _, sizes]) => {
                let sizes: Vec<usize> = whole(sizes)?.iter().map(|size| *size as usize).collect();
                assert_eq!(
                    (self.floats["cubic_coeff_a"], &self.ints["antialias"][..], &self.ints["exclude_outside"][..]),
                    (-0.5, &[1][..], &[1][..])
                );
                let changed: Vec<usize> = (0..4).filter(|axis| sizes[*axis] != x.dims()[*axis]).collect();
                match changed[..] {
                    [] => Ok((*x).clone()),
                    [2] | [3] => resized(x, sizes[2], sizes[3]),
                    _ => bail!("{:?} to {sizes:?} in one node", x.dims()),
                }
            }
            ("ReduceSum", [x, axes]) => {
                assert_eq!(whole(axes)?, [-1]);
                x.sum_keepdim(D::Minus1)
            }
            ("Relu", _) => x.relu(),
            ("Reshape", [x, shape]) => {
                let size = |(i, size): (usize, &i64)| if *size == 0 { x.dims()[i] as i64 } else { *size };
                let sizes: Vec<i64> = whole(shape)?.iter().enumerate().map(size).collect();
                let known: i64 = sizes.iter().filter(|size| **size > 0).product();
                let size = |size: &i64| if *size < 0 { x.elem_count() / known as usize } else { *size as usize };
                x.reshape(sizes.iter().map(size).collect::<Vec<_>>())
            }
            ("Shape", _) => {
                let sizes: Vec<i64> = x.dims().iter().map(|size| *size as i64).collect();
                let part = sizes[self.ints["start"][0] as usize..self.ints["end"][0] as usize].to_vec();
                Tensor::new(part, &Device::Cpu)
            }
            ("Sigmoid", _) => candle_nn::ops::sigmoid(x),
            ("Slice", [x, from, to, axes]) => {
                let (from, to, axes) = (whole(from)?, whole(to)?, whole(axes)?);
                (0..axes.len()).try_fold((*x).clone(), |x, i| {
                    let (from, axis) = (from[i] as usize, axes[i] as usize);
                    x.narrow(axis, from, to[i].min(x.dims()[axis] as i64) as usize - from)
                })
            }
            ("Softmax", _) => candle_nn::ops::softmax(x, self.axis(x)),
            ("Sqrt", _) => x.sqrt(),
            ("Transpose", _) => x.permute(self.ints["perm"].iter().map(|axis| *axis as usize).collect::<Vec<_>>()),
            ("Where", [on, a, b]) => on.broadcast_as(a.shape())?.where_cond(a, b),
            (other, _) => bail!("no {other} of {} inputs is known here", inputs.len()),
        }
    }
}
