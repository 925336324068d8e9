//! Containers taken apart and put together again with the right lengths and checksums, so that a change inside reaches the
//! reader instead of failing at the wrapping.

use flate2::Crc;

/// The JSON header of a safetensors file and the values behind it.
pub fn split_safetensors(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    Some((bytes.get(8..8usize.checked_add(length)?)?, bytes.get(8 + length..)?))
}

pub fn join_safetensors(header: &[u8], values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, values].concat()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// The entries of a zip archive that holds them uncompressed, as PyTorch writes it.
pub fn split_zip(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let (count, mut at) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    let mut entries = Vec::new();
    for _ in 0..count {
        let (size, name, extra, comment) =
            (u32_at(bytes, at + 20)?, u16_at(bytes, at + 28)?, u16_at(bytes, at + 30)?, u16_at(bytes, at + 32)?);
        let local = u32_at(bytes, at + 42)?;
        let start = local + 30 + u16_at(bytes, local + 26)? + u16_at(bytes, local + 28)?;
        entries.push((bytes.get(at + 46..at + 46 + name)?.to_vec(), bytes.get(start..start + size)?.to_vec()));
        at += 46 + name + extra + comment;
    }
    Some(entries)
}

pub fn join_zip(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let mut crc = Crc::new();
        crc.update(data);
        // version, flags, method, time and date, checksum, both sizes, length of the name, no extra field
        let size = (data.len() as u32).to_le_bytes();
        let common =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0], &crc.sum().to_le_bytes()[..], &size, &size, &(name.len() as u16).to_le_bytes(), &[0, 0]]
                .concat();
        directory.extend([b"PK\x01\x02\x14\x00", &common[..], &[0; 10], &(out.len() as u32).to_le_bytes(), name].concat());
        out.extend([b"PK\x03\x04", &common[..], name, data].concat());
    }
    let (count, start, size) =
        ((entries.len() as u16).to_le_bytes(), (out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    out.extend(directory);
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start, &[0, 0]].concat());
    out
}

/// Writes the right checksum behind every chunk of these kinds in a PNG; none means all.
pub fn mend_png(bytes: &mut [u8], kinds: &[&[u8; 4]]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map(u32::from_be_bytes) {
        let end = at + 8 + length as usize;
        if bytes.len() < end + 4 {
            return;
        }
        if kinds.is_empty() || kinds.iter().any(|kind| bytes[at + 4..].starts_with(*kind)) {
            let mut crc = Crc::new();
            crc.update(&bytes[at + 4..end]);
            bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        }
        at = end + 4;
    }
}

#[test]
fn what_is_taken_apart_is_put_together_again() {
    let entries = vec![(b"a/data.pkl".to_vec(), b"pickle".to_vec()), (b"a/data/0".to_vec(), vec![0; 70])];
    assert_eq!(split_zip(&join_zip(&entries)), Some(entries));
    let bytes = join_safetensors(b"{}", b"values");
    assert_eq!(split_safetensors(&bytes), Some((&b"{}"[..], &b"values"[..])));
}
