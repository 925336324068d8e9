//! [`Tar`]: the members of a tar archive with their places, from the headers alone.
//!
//! Reads ustar (POSIX.1-1988), pax (POSIX.1-2001: `path`, `size`) and GNU tar's long names and base-256 sizes. Checksums are
//! verified, and what a header claims is never taken as memory before it is compared with a bound and the file's length.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Headers and members begin at multiples of it.
const BLOCK: usize = 512;

/// Bytes of the longest name.
const LONGEST_NAME: usize = 4096;

/// Bytes of the largest record of a long name or of pax entries.
const LARGEST_RECORD: u64 = 1 << 16;

/// One regular file of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where its bytes begin.
    pub(super) start: u64,
    pub(super) size: u64,
}

/// An archive, read from header to header.
pub(super) struct Tar {
    file: BufReader<File>,
    /// Where the reader stands, where the next header is, and where the file ends.
    at: u64,
    next: u64,
    len: u64,
}

impl Tar {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        // enough for a label and the headers around it; more would read the pictures, too
        Ok(Self { file: BufReader::with_capacity(8 * BLOCK, file), at: 0, next: 0, len })
    }

    /// The next regular file; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the rest of the archive, in a few words.
    pub(super) fn next(&mut self) -> Result<Option<Member>, String> {
        let (mut long_name, mut long_size) = (None, None);
        loop {
            let at = self.next;
            if at == self.len && long_name.is_none() && long_size.is_none() {
                return Ok(None); // an archive without its two empty blocks: others read it, too
            }
            let header: [u8; BLOCK] = match self.len.checked_sub(at) {
                Some(left) if left >= BLOCK as u64 => {
                    let mut header = [0; BLOCK];
                    self.read(at, &mut header)?;
                    header
                }
                _ => return Err(format!("ends at byte {} in the middle of a member", self.len)),
            };
            if header.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let size =
                checked(&header).and_then(|()| number(&header[124..136])).ok_or_else(|| format!("has no tar header at byte {at}"))?;
            let kind = header[156];
            let of_file = matches!(kind, 0 | b'0' | b'7');
            // pax entries and long names are of the member that follows them
            let size = long_size.filter(|_| !matches!(kind, b'L' | b'K' | b'x' | b'g')).unwrap_or(size);
            let start = at + BLOCK as u64;
            let end = start.checked_add(size).filter(|end| *end <= self.len);
            let end = end.ok_or_else(|| format!("ends at byte {} in the middle of a member", self.len))?;
            self.next = end.checked_next_multiple_of(BLOCK as u64).unwrap_or(self.len).min(self.len);
            match kind {
                b'L' | b'x' if size > LARGEST_RECORD => return Err(format!("has a name of {size} bytes at byte {at}")),
                b'L' => long_name = Some(until_zero(&self.bytes(start, size)?).to_vec()),
                b'x' => {
                    let record = self.bytes(start, size)?;
                    long_name = pax(&record, b"path").map(<[u8]>::to_vec).or(long_name);
                    long_size = pax(&record, b"size").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).or(long_size);
                }
                b'K' | b'g' => {}
                _ if of_file => {
                    let name = long_name.take().unwrap_or_else(|| short_name(&header));
                    if name.len() > LONGEST_NAME {
                        return Err(format!("has a name of {} bytes at byte {at}", name.len()));
                    }
                    return Ok(Some(Member { name: String::from_utf8_lossy(&name).into_owned(), start, size }));
                }
                // a folder, a link, a device
                _ => (long_name, long_size) = (None, None),
            }
        }
    }

    /// Bytes of a small member.
    pub(super) fn bytes(&mut self, start: u64, size: u64) -> Result<Vec<u8>, String> {
        if start.checked_add(size).is_none_or(|end| end > self.len) {
            return Err(format!("ends at byte {} in the middle of a member", self.len));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| "has too large a member".to_string())?];
        self.read(start, &mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("cannot be read at byte {at} ({error})");
        let distance = i64::try_from(at).ok().zip(i64::try_from(self.at).ok()).map_or(0, |(to, from)| to - from);
        self.file.seek_relative(distance).map_err(fault)?;
        self.at = at;
        self.file.read_exact(bytes).map_err(fault)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// Whether the sum of a header's bytes, its own field taken as blanks, is the one that it states (some writers add signed bytes).
fn checked(header: &[u8; BLOCK]) -> Option<()> {
    let stated = i64::try_from(number(&header[148..156])?).ok()?;
    let blank = |i: usize, byte: u8| if (148..156).contains(&i) { b' ' } else { byte };
    let sum = |value: fn(u8) -> i64| header.iter().enumerate().map(|(i, byte)| value(blank(i, *byte))).sum::<i64>();
    (stated == sum(i64::from) || stated == sum(|byte| i64::from(byte as i8))).then_some(())
}

/// A number in octal digits, or in base 256 if its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = until_zero(field).trim_ascii();
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(digit.into())
    })
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// The name in a header, with ustar's prefix before it.
fn short_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (until_zero(&header[..100]), until_zero(&header[345..500]));
    // GNU's own format has times there
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
}

/// The value of a pax entry: lines of `length key=value`, the last one counts.
fn pax<'a>(mut record: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    while let Some(blank) = record.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(record.get(..blank)?).ok()?.parse().ok()?;
        let entry = record.get(blank + 1..length.checked_sub(1)?)?;
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        if &entry[..equals] == wanted {
            found = Some(&entry[equals + 1..]);
        }
        record = record.get(length..)?;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_pax_entries() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   12 \0"), Some(10));
        assert_eq!(number(&[0x80, 0, 0, 1, 0]), Some(256));
        assert_eq!((number(b"9\0"), number(&[0xff; 12])), (None, None));
        assert_eq!(pax(b"12 path=a/b\n11 size=64\n", b"size"), Some(&b"64"[..]));
        assert_eq!(pax(b"12 path=a/b\n", b"path"), Some(&b"a/b"[..]));
        for broken in [&b"999 path=a\n"[..], b"x path=a\n", b"0 path=a\n", b"4 a=\n", b" "] {
            assert_eq!(pax(broken, b"path"), None);
        }
    }
}
