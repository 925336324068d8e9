//! Encoded pictures by index: in memory up to a limit, the rest in an unnamed temporary file.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

enum Place {
    /// The source has no bytes for this one.
    Nowhere,
    Memory(Arc<[u8]>),
    File {
        offset: u64,
        len: usize,
    },
}

/// A finished store; reading is thread-safe.
pub(crate) struct Blobs {
    places: Vec<Place>,
    /// One file position for all threads: reads are short against decoding.
    file: Option<Mutex<File>>,
}

/// A store being filled, in order.
pub(crate) struct BlobsBuilder {
    places: Vec<Place>,
    file: Option<BufWriter<File>>,
    in_memory: usize,
    in_file: u64,
    limit: usize,
}

impl BlobsBuilder {
    /// `limit`: bytes kept in memory before the file is begun.
    pub(crate) fn new(limit: usize) -> Self {
        Self { places: Vec::new(), file: None, in_memory: 0, in_file: 0, limit }
    }

    pub(crate) fn push(&mut self, bytes: Option<&[u8]>) -> Result<()> {
        let place = match bytes {
            None => Place::Nowhere,
            Some(bytes) if self.in_memory + bytes.len() <= self.limit => {
                self.in_memory += bytes.len();
                Place::Memory(bytes.into())
            }
            Some(bytes) => {
                let file = match &mut self.file {
                    Some(file) => file,
                    none => none.insert(BufWriter::with_capacity(1 << 20, tempfile::tempfile().map_err(spilling)?)),
                };
                file.write_all(bytes).map_err(spilling)?;
                let offset = self.in_file;
                self.in_file += bytes.len() as u64;
                Place::File { offset, len: bytes.len() }
            }
        };
        self.places.push(place);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Blobs> {
        let file = match self.file {
            Some(writer) => Some(Mutex::new(writer.into_inner().map_err(|e| spilling(e.into_error()))?)),
            None => None,
        };
        Ok(Blobs { places: self.places, file })
    }
}

fn spilling(error: std::io::Error) -> Error {
    Error::Data(format!(
        "encoded pictures beyond the memory limit cannot be kept in {}: {error}: free space there, or set TMPDIR to another disk",
        std::env::temp_dir().display()
    ))
}

impl Blobs {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The bytes of one picture; `None` where the source had none.
    pub(crate) fn get(&self, i: usize) -> Result<Option<Arc<[u8]>>> {
        let (offset, len) = match self.places.get(i) {
            Some(Place::Memory(bytes)) => return Ok(Some(bytes.clone())),
            Some(Place::File { offset, len }) => (*offset, *len),
            Some(Place::Nowhere) | None => return Ok(None),
        };
        let Some(file) = &self.file else { return Ok(None) };
        let mut bytes = vec![0; len];
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(spilling)?;
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_comes_back_from_the_file() {
        let mut builder = BlobsBuilder::new(1000);
        for i in 0..100u8 {
            builder.push((i != 50).then(|| vec![i; 1 + usize::from(i)]).as_deref()).unwrap();
        }
        let blobs = builder.finish().unwrap();
        assert!(blobs.file.is_some());
        (0..100u8).into_par_iter().for_each(|i| match blobs.get(usize::from(i)).unwrap() {
            Some(bytes) => assert_eq!(&*bytes, vec![i; 1 + usize::from(i)]),
            None => assert_eq!(i, 50),
        });
        assert_eq!(blobs.len(), 100);
    }

    #[test]
    fn a_small_store_needs_no_file() {
        let mut builder = BlobsBuilder::new(10);
        builder.push(Some(&[1; 10])).unwrap();
        assert!(builder.finish().unwrap().file.is_none());
    }
}
