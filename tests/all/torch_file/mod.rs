//! Writes what `torch.save` and `torch.jit.save` write, so that tests need no PyTorch.

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Tensor};
use zip::write::SimpleFileOptions;

/// A value of a pickle.
pub enum Item {
    Tensor(Tensor),
    /// The same values, stored with their last axis first.
    Turned(Tensor),
    /// A vector of one value, repeated by a stride of 0.
    Expanded(Tensor, usize),
    /// True or false.
    Bool,
    Map(Vec<(String, Item)>),
    /// An instance of a class with its attributes.
    Object(&'static str, Vec<(String, Item)>),
    Number(i32),
}

/// Tensors under their names, with something before each.
pub fn flat(tensors: &[(String, Tensor)], prefix: &str) -> Item {
    Item::Map(tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), Item::Tensor(tensor.clone()))).collect())
}

/// Dotted names as objects in objects: as attributes (TorchScript), or in `_parameters` and `_modules` (a whole module).
pub fn nested(tensors: &[(String, Tensor)], script: bool) -> Item {
    let mut own: Vec<(String, Item)> = Vec::new();
    let mut parts: Vec<(String, Vec<(String, Tensor)>)> = Vec::new();
    for (name, tensor) in tensors {
        match name.split_once('.') {
            None => own.push((name.clone(), Item::Tensor(tensor.clone()))),
            Some((part, rest)) => match parts.iter_mut().find(|(other, _)| other == part) {
                Some((_, below)) => below.push((rest.to_string(), tensor.clone())),
                None => parts.push((part.to_string(), vec![(rest.to_string(), tensor.clone())])),
            },
        }
    }
    let parts: Vec<(String, Item)> = parts.into_iter().map(|(part, below)| (part, nested(&below, script))).collect();
    let training = ("training".to_string(), Item::Number(0));
    if script {
        return Item::Object("__torch__\nModule", std::iter::once(training).chain(own).chain(parts).collect());
    }
    let named = [("_parameters", own), ("_modules", parts)].map(|(name, items)| (name.to_string(), Item::Map(items)));
    Item::Object("torch.nn\nModule", std::iter::once(training).chain(named).collect())
}

/// Writes an archive; `extra` are more files in it.
pub fn write(path: &Path, value: &Item, extra: &[(&str, &[u8])]) {
    let (mut pickle, mut stores) = (b"\x80\x02".to_vec(), Vec::new());
    put(&mut pickle, &mut stores, value);
    pickle.push(b'.');
    write_raw(path, &pickle, &stores, extra);
}

/// The same around any pickle.
pub fn write_raw(path: &Path, pickle: &[u8], stores: &[Vec<u8>], extra: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    entry("data.pkl", pickle);
    stores.iter().enumerate().for_each(|(i, bytes)| entry(&format!("data/{i}"), bytes));
    [("version", &b"3\n"[..]), ("byteorder", b"little")].iter().chain(extra).for_each(|(name, bytes)| entry(name, bytes));
    archive.finish().unwrap();
}

fn put(out: &mut Vec<u8>, stores: &mut Vec<Vec<u8>>, value: &Item) {
    match value {
        Item::Tensor(tensor) => {
            let shape = tensor.dims().to_vec();
            put_tensor(out, stores, tensor, &shape, &strides(&shape));
        }
        Item::Turned(tensor) => {
            let [rows, columns] = tensor.dims()[..] else { panic!("a matrix is turned, not {:?}", tensor.dims()) };
            put_tensor(out, stores, &tensor.t().unwrap().contiguous().unwrap(), &[rows, columns], &[1, rows]);
        }
        Item::Expanded(value, count) => put_tensor(out, stores, value, &[*count], &[0]),
        Item::Bool => put_storage(out, stores, ("Bool", vec![1]), 1, &[1], &[1]),
        Item::Map(entries) => put_map(out, stores, entries),
        Item::Object(class, attributes) => {
            out.extend([b"c", class.as_bytes(), b"\n)\x81"].concat());
            put_map(out, stores, attributes);
            out.push(b'b');
        }
        Item::Number(number) => put_number(out, *number),
    }
}

fn put_map(out: &mut Vec<u8>, stores: &mut Vec<Vec<u8>>, entries: &[(String, Item)]) {
    out.extend(b"}(");
    for (key, value) in entries {
        put_text(out, key);
        put(out, stores, value);
    }
    out.push(b'u');
}

fn put_tensor(out: &mut Vec<u8>, stores: &mut Vec<Vec<u8>>, values: &Tensor, shape: &[usize], strides: &[usize]) {
    let flat = values.flatten_all().unwrap();
    let (kind, bytes): (&str, Vec<u8>) = match values.dtype() {
        DType::F16 => ("Half", flat.to_vec1::<half::f16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect()),
        DType::I64 => ("Long", flat.to_vec1::<i64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect()),
        _ => ("Float", flat.to_vec1::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    put_storage(out, stores, (kind, bytes), flat.elem_count(), shape, strides);
}

fn put_storage(
    out: &mut Vec<u8>,
    stores: &mut Vec<Vec<u8>>,
    (kind, bytes): (&str, Vec<u8>),
    count: usize,
    shape: &[usize],
    strides: &[usize],
) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(out, "storage");
    out.extend([b"ctorch\n", kind.as_bytes(), b"Storage\n"].concat());
    put_text(out, &stores.len().to_string());
    put_text(out, "cpu");
    put_number(out, count as i32);
    out.extend(b"tQ");
    put_number(out, 0);
    for sizes in [shape, strides] {
        out.push(b'(');
        sizes.iter().for_each(|size| put_number(out, *size as i32));
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    stores.push(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_number(out: &mut Vec<u8>, number: i32) {
    out.push(b'J');
    out.extend(number.to_le_bytes());
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}
