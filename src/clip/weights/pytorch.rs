//! Tensors of the archives that `torch.save` and `torch.jit.save` write, read one by one; nothing in them is executed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;

use super::pickle::{self, Described, Heap, Node, Value};
use crate::catch_panic::catch_panic;
use crate::error::{Error, Result};
use crate::files::Sink;

/// Objects and lists that are looked through on the way to the tensors.
const MOST_VISITS: usize = 1 << 21;
/// Most tensors; a training checkpoint has three for each of the model's.
const MOST_TENSORS: usize = 200_000;
/// Deepest nesting that is looked into.
const DEEPEST: usize = 64;
/// Longest name of a tensor.
const LONGEST_NAME: usize = 1_000;

/// An open archive and what it says of its tensors.
pub(crate) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    shown: String,
    /// The folder inside the archive that holds `data.pkl`, with a slash at its end.
    folder: String,
    tensors: Vec<(String, Info)>,
    script: bool,
}

/// One tensor of an archive.
#[derive(Clone, Debug)]
struct Info {
    kind: String,
    key: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Archive {
    /// Opens an archive and reads its description of the tensors: those of a `state_dict`, of a training checkpoint, of a whole
    /// saved module, or of a TorchScript archive, under dotted names.
    ///
    /// # Errors
    /// [`Error::Weights`] that says what the file is instead.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        if let Some(what) = foreign(&head) {
            return Err(Error::Weights(format!("{shown} is {what}")));
        }
        let fault = |why: String| {
            let remedy = "download it again, or save its state_dict as safetensors";
            Error::Weights(format!("{shown} cannot be read as a PyTorch file ({why}): {remedy}"))
        };
        let gave_up = || fault("the reader gave up".into());
        let opened = catch_panic(|| ZipArchive::new(BufReader::new(file)).map_err(|e| e.to_string()));
        let mut zip = opened.ok_or_else(gave_up)?.map_err(&fault)?;
        let names: Vec<String> = zip.file_names().filter_map(|name| name.ok().map(|name| name.into_owned())).collect();
        let Some(folder) = names.iter().find_map(|name| name.strip_suffix("data.pkl").filter(|folder| folder.ends_with('/'))) else {
            return Err(fault("the archive holds no data.pkl".into()));
        };
        let has = |name: &str| names.iter().any(|other| other.strip_prefix(folder) == Some(name));
        let script = has("constants.pkl");
        let mut order = Vec::new();
        if has("byteorder") {
            order = entry(&mut zip, &format!("{folder}byteorder"), 0, usize::MAX).map_err(&fault)?;
        }
        if order == b"big" {
            return Err(fault("its numbers are big-endian".into()));
        }
        let bytes = entry(&mut zip, &format!("{folder}data.pkl"), 0, usize::MAX).map_err(&fault)?;
        let (heap, root) = pickle::read(&bytes).map_err(&fault)?;
        let tensors = Walk::tensors(&heap, root).map_err(&fault)?;
        if tensors.is_empty() {
            return Err(fault("it holds no tensors".into()));
        }
        Ok(Self { zip, shown, folder: folder.to_string(), tensors, script })
    }

    /// True for a TorchScript archive: a program with its weights.
    pub(super) fn is_script(&self) -> bool {
        self.script
    }

    /// The tensors' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Hands every wanted tensor to `each`.
    pub(super) fn read(&mut self, wanted: impl Fn(&str) -> bool, each: Sink) -> Result<()> {
        for (name, info) in self.tensors.iter().filter(|(name, _)| wanted(name)) {
            let shown = &self.shown;
            let fault = |why: String| {
                let remedy = "download it again, or save its state_dict as safetensors";
                Error::Weights(format!("{shown} cannot be read as a PyTorch file ({name}: {why}): {remedy}"))
            };
            let dtype = dtype(&info.kind).ok_or_else(|| fault(format!("its number type {} is not supported", info.kind)))?;
            let repeats = info.shape.iter().zip(&info.strides).any(|(length, stride)| *length > 1 && *stride == 0);
            if repeats && !info.shape.contains(&0) {
                return Err(Error::Weights(format!("{shown}: {name} repeats few values (expand): save it with .contiguous()")));
            }
            let path = format!("{}data/{}", self.folder, info.key);
            let zip = &mut self.zip;
            let read = catch_panic(|| values(zip, &path, info, dtype.size_in_bytes()));
            let bytes = read.ok_or_else(|| fault("the reader gave up".into()))?.map_err(fault)?;
            each(name.clone(), Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?)?;
        }
        Ok(())
    }
}

/// What a file is that is not an archive of PyTorch, and what to do about it.
fn foreign(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"PK\x03\x04") {
        None
    } else if head.starts_with(b"version https://git-lfs") {
        Some("a Git LFS pointer, not the weights: fetch the file itself with `git lfs pull`")
    } else if head.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        Some("a PyTorch file of a version before 1.6: load it with PyTorch and save its state_dict again, or as safetensors")
    } else if head.starts_with(b"\x80") {
        Some("a pickle, no PyTorch file of version 1.6 or later: save its state_dict with torch.save, or as safetensors")
    } else {
        Some("no PyTorch file of version 1.6 or later: download it again, or save it as safetensors")
    }
}

/// The number type of a storage's class or of a `torch.dtype`.
fn dtype(kind: &str) -> Option<DType> {
    Some(match kind {
        "FloatStorage" | "float32" => DType::F32,
        "DoubleStorage" | "float64" => DType::F64,
        "HalfStorage" | "float16" => DType::F16,
        "BFloat16Storage" | "bfloat16" => DType::BF16,
        "ByteStorage" | "uint8" => DType::U8,
        "LongStorage" | "int64" => DType::I64,
        _ => return None,
    })
}

/// Bytes `from..from + count` of an archive's entry, fewer at its end. Entries of PyTorch are not compressed, so that no more
/// memory is taken than the file has bytes.
fn entry(zip: &mut ZipArchive<BufReader<File>>, name: &str, from: u64, count: usize) -> Result<Vec<u8>, String> {
    let mut entry = zip.by_name(name).map_err(|e| e.to_string())?;
    if entry.size() != entry.compressed_size() {
        return Err(format!("{name} is compressed"));
    }
    let count = count.min(usize::try_from(entry.size().saturating_sub(from)).unwrap_or(usize::MAX));
    let io = |e: std::io::Error| format!("{name}: {e}");
    let skipped = std::io::copy(&mut Read::by_ref(&mut entry).take(from), &mut std::io::sink()).map_err(io)?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut entry).take(count as u64).read_to_end(&mut bytes).map_err(io)?;
    if skipped < from || bytes.len() < count {
        return Err(format!("{name} ends too early"));
    }
    // at the end the checksum is compared
    std::io::copy(&mut entry, &mut std::io::sink()).map_err(io)?;
    Ok(bytes)
}

/// The values of a tensor in row-major order, `size` bytes each.
fn values(zip: &mut ZipArchive<BufReader<File>>, path: &str, info: &Info, size: usize) -> Result<Vec<u8>, String> {
    let impossible = || format!("shape {:?} with strides {:?}", info.shape, info.strides);
    if info.shape.len() != info.strides.len() {
        return Err(impossible());
    }
    let product = info.shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
    let count = product.ok_or_else(impossible)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // elements from the first to the last
    let mut axes = info.shape.iter().zip(&info.strides);
    let span = axes.try_fold(1usize, |span, (length, stride)| span.checked_add((length - 1).checked_mul(*stride)?));
    // strides that overlap would make many values of few
    let span = span.filter(|span| count <= *span).ok_or_else(impossible)?;
    let (from, length) = (info.offset.checked_mul(size), span.checked_mul(size));
    let (from, length) = from.zip(length).ok_or_else(impossible)?;
    let stored = entry(zip, path, from as u64, length)?;
    if stored.len() < length {
        return Err(format!("{path} ends too early"));
    }
    let mut axes = info.strides.iter().zip(&info.shape).rev();
    if axes.try_fold(1, |step, (stride, length)| (*length == 1 || *stride == step).then_some(step * length)).is_some() {
        return Ok(stored);
    }
    let mut values = Vec::with_capacity(count * size);
    let mut place = vec![0; info.shape.len()];
    for _ in 0..count {
        let start = size * place.iter().zip(&info.strides).map(|(index, stride)| index * stride).sum::<usize>();
        values.extend_from_slice(&stored[start..start + size]); // within `span`, which was read
        for (index, length) in place.iter_mut().zip(&info.shape).rev() {
            *index += 1;
            if *index < *length {
                break;
            }
            *index = 0;
        }
    }
    Ok(values)
}

/// The search for tensors in a pickle's value.
struct Walk<'a> {
    heap: &'a Heap<'a>,
    name: String,
    visits: usize,
    found: Vec<(String, Info)>,
}

impl<'a> Walk<'a> {
    fn tensors(heap: &'a Heap<'a>, root: Value<'a>) -> Result<Vec<(String, Info)>, String> {
        let mut walk = Self { heap, name: String::new(), visits: 0, found: Vec::new() };
        walk.value(root, 0)?;
        Ok(walk.found)
    }

    fn value(&mut self, value: Value<'a>, depth: usize) -> Result<(), String> {
        let Some(node) = self.heap.node(value).filter(|_| depth < DEEPEST && self.name.len() < LONGEST_NAME) else { return Ok(()) };
        self.visits += 1;
        if self.visits > MOST_VISITS || self.found.len() > MOST_TENSORS {
            return Err("it describes too many objects".into());
        }
        match node {
            Node::Tensor(Described { kind, key, offset, shape, strides }) => {
                let info =
                    Info { kind: kind.to_string(), key: key.to_string(), offset: *offset, shape: shape.clone(), strides: strides.clone() };
                self.found.push((self.name.clone(), info));
            }
            Node::Map(entries) => self.entries(entries, depth)?,
            Node::Object { state, items, .. } => {
                self.value(*state, depth + 1)?;
                self.entries(items, depth)?;
            }
            Node::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.below(&index.to_string(), *value, depth)?;
                }
            }
            Node::Global(..) | Node::Storage { .. } => {}
        }
        Ok(())
    }

    fn entries(&mut self, entries: &[(Value<'a>, Value<'a>)], depth: usize) -> Result<(), String> {
        for (key, value) in entries {
            match key {
                // a module keeps its tensors and its parts in these
                Value::Text("_parameters" | "_buffers" | "_modules") => self.value(*value, depth + 1)?,
                Value::Text(key) => self.below(key, *value, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn below(&mut self, key: &str, value: Value<'a>, depth: usize) -> Result<(), String> {
        let length = self.name.len();
        if length > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.value(value, depth + 1)?;
        self.name.truncate(length);
        Ok(())
    }
}
