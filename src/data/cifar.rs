//! CIFAR-10 and CIFAR-100 in their binary form.
//!
//! A record is one label byte (CIFAR-100: coarse, then fine) and 3 × 32 × 32 bytes, color plane by color plane
//! (cs.toronto.edu/~kriz/cifar.html). Fine labels are read.

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::findings::Findings;
use crate::data::source::ImageSource;
use crate::data::split::choose;
use crate::error::{Error, Result};
use crate::files::fnv;
use crate::files::read_text;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// The records of one split, as they are on disk: 3 kB per picture.
struct Cifar {
    origin: String,
    split: &'static str,
    classes: Vec<String>,
    records: Vec<u8>,
    /// Bytes before the pixels; the last of them is the label.
    label_bytes: usize,
}

/// One of the two layouts, as found in a folder.
struct Layout {
    label_bytes: usize,
    /// The file of the class names.
    names: PathBuf,
    /// The files of each split that are there.
    splits: [(&'static str, Vec<PathBuf>); 2],
}

impl Layout {
    /// CIFAR-10, then CIFAR-100.
    fn both(folder: &Path) -> [Self; 2] {
        let existing = |names: &[&str]| names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect::<Vec<_>>();
        let batches = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
        let ten = [("train", existing(&batches)), ("test", existing(&["test_batch.bin"]))];
        let hundred = [("train", existing(&["train.bin"])), ("test", existing(&["test.bin"]))];
        [
            Self { label_bytes: 1, names: folder.join("batches.meta.txt"), splits: ten },
            Self { label_bytes: 2, names: folder.join("fine_label_names.txt"), splits: hundred },
        ]
    }

    fn found(&self) -> Vec<&'static str> {
        self.splits.iter().filter(|(_, files)| !files.is_empty()).map(|(name, _)| *name).collect()
    }
}

/// True for a folder that holds binary CIFAR files.
pub(crate) fn is_cifar(folder: &Path) -> bool {
    Layout::both(folder).iter().any(|layout| !layout.found().is_empty())
}

/// Opens one split of such a folder.
pub(crate) fn open(folder: &Path, wanted: Option<&str>) -> Result<impl ImageSource + use<>> {
    let shown = folder.display();
    for layout in Layout::both(folder) {
        let (found, Layout { label_bytes, names, splits }) = (layout.found(), layout);
        if found.is_empty() {
            continue;
        }
        let split = choose(&found, wanted, &shown.to_string())?;
        let text = read_text(&names).map_err(|e| Error::Data(format!("{e}: the file of class names belongs next to the pictures")))?;
        let classes: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
        let mut records = Vec::new();
        for file in splits.iter().filter(|(name, _)| *name == split).flat_map(|(_, files)| files) {
            let bytes = std::fs::read(file).map_err(|e| Error::io(file, e))?;
            check(&bytes, label_bytes, classes.len(), file)?;
            records.extend_from_slice(&bytes);
        }
        return Ok(Cifar { origin: format!("{shown}:{split}"), split, classes, records, label_bytes });
    }
    Err(Error::Data(format!("{shown}: holds no data_batch_1.bin, test_batch.bin, train.bin or test.bin")))
}

/// Whole records, and labels that have a name.
fn check(bytes: &[u8], label_bytes: usize, classes: usize, file: &Path) -> Result<()> {
    let record = label_bytes + 3 * PLANE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let (shown, len) = (file.display(), bytes.len());
        return Err(Error::Data(format!("{shown}: {len} bytes are not whole records of {record}: the file is cut off, fetch it again")));
    }
    let label = |record: &[u8]| record.get(label_bytes - 1).map_or(0, |byte| usize::from(*byte));
    match bytes.chunks_exact(record).position(|record| label(record) >= classes) {
        Some(at) => Err(Error::Data(format!("{}: record {at} has a label beyond the {classes} class names", file.display()))),
        None => Ok(()),
    }
}

impl Cifar {
    fn record(&self, i: usize) -> Option<&[u8]> {
        let size = self.label_bytes + 3 * PLANE;
        self.records.get(i.checked_mul(size)?..)?.get(..size)
    }
}

impl ImageSource for Cifar {
    fn len(&self) -> usize {
        self.records.len() / (self.label_bytes + 3 * PLANE)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.record(i)?.get(self.label_bytes - 1).map(|byte| usize::from(*byte))
    }

    fn name(&self, i: usize) -> String {
        format!("{}, record {i}", self.origin)
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        let out_of_range = || Error::Usage(format!("{}: picture {i} of {} was asked for", self.origin, self.len()));
        let pixels = self.record(i).and_then(|record| record.get(self.label_bytes..)).ok_or_else(out_of_range)?;
        // [3, 32, 32] -> [32, 32, 3]
        let mut interleaved = vec![0; 3 * PLANE];
        for (channel, plane) in pixels.chunks_exact(PLANE).enumerate() {
            interleaved.iter_mut().skip(channel).step_by(3).zip(plane).for_each(|(to, from)| *to = *from);
        }
        RgbImage::from_raw(SIDE as u32, SIDE as u32, interleaved).ok_or_else(out_of_range)
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn stamp(&self, i: usize) -> u64 {
        self.record(i).map_or(0, fnv)
    }

    fn version(&self, i: usize) -> u64 {
        self.stamp(i) // of its bytes
    }

    fn findings(&self) -> Findings {
        Findings { rule: Some(format!("split {} of CIFAR's binary files", self.split)), ..Findings::default() }
    }
}
