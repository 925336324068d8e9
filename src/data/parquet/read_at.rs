//! [`ReadAt`]: a file that several threads read at once.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// An open file, read by offset: unlike a `File` with its one position, threads do not disturb each other.
pub(super) struct ReadAt {
    file: Arc<File>,
    len: u64,
}

impl ReadAt {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), len })
    }
}

impl Length for ReadAt {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ReadAt {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // What is read this way is a page's header: some tens of bytes.
        let from = || From { file: self.file.clone(), offset: start };
        let mut head = Vec::new();
        from().take(24).read_to_end(&mut head)?;
        if let Some((unpacked, packed)) = page_sizes(&head)
            && unpacked > LARGE_PAGE.max(packed.saturating_mul(MOST_PACKED))
        {
            return Err(ParquetError::General(format!("a page claims {unpacked} bytes, packed into {packed}")));
        }
        Ok(BufReader::with_capacity(512, from()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Before the memory is taken: a damaged header may claim any length.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("its {} bytes end before a page does", self.len)));
        }
        let mut buffer = vec![0; length];
        From { file: self.file.clone(), offset: start }.read_exact(&mut buffer)?;
        Ok(buffer.into())
    }
}

/// Pages of at most so many bytes are not asked how they became so small.
const LARGE_PAGE: u64 = 256 << 20;

/// Deflate packs no tighter.
const MOST_PACKED: u64 = 1100;

/// The two sizes that a page's header begins with, unpacked and packed: the Parquet reader takes memory of the first one before
/// it looks at the page.
fn page_sizes(head: &[u8]) -> Option<(u64, u64)> {
    const NEXT_I32: u8 = 0x15; // Thrift's compact protocol: the next field, a number in zigzag form
    let mut rest = head.iter();
    let mut number = || {
        rest.next().filter(|byte| **byte == NEXT_I32)?;
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = *rest.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value >> 1);
            }
        }
        None
    };
    let (_kind, unpacked, packed) = (number()?, number()?, number()?);
    Some((unpacked, packed))
}

/// The file's bytes from an offset on.
pub(super) struct From {
    file: Arc<File>,
    offset: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.offset)?;
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_not_claim_what_its_bytes_cannot_hold() {
        assert_eq!(page_sizes(&[0x15, 0, 0x15, 0x80, 0x01, 0x15, 0x14]), Some((64, 10)));
        assert_eq!(page_sizes(&[0x15, 0, 0x15]), None);
        let file = tempfile::NamedTempFile::new().unwrap();
        // two gigabytes, packed into ten bytes
        std::fs::write(file.path(), [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x14, 0, 0]).unwrap();
        let error = ReadAt::open(file.path()).unwrap().get_read(0).map(drop).unwrap_err().to_string();
        assert!(error.contains("2147483647"), "{error}");
    }
}
