//! The index of a set of shards, kept in a file: a later start reads no header.
//!
//! The file's name is a hash of the shards' paths and of the entry that gives labels; each shard's part holds its size and version, so
//! that only shards that changed are listed anew. A file that is damaged, or of another version, counts as none.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::index::{Facts, Index};
use crate::error::Result;
use crate::files::{replace_file, version};

const VERSION: &[u8] = b"lafter shards 2\n";

/// Size and [version](version()) of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    version: u64,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let version = Some(version(path)).filter(|version| *version != 0)?; // 0: the system tells none
        Some(Self { size: std::fs::metadata(path).ok()?.len(), version })
    }
}

/// What stands before the numbers of one shard.
#[derive(Serialize, Deserialize)]
struct Head {
    stamp: Option<Stamp>,
    pictures: usize,
    names: usize,
    facts: Facts,
}

/// The file of these shards in a folder.
pub(super) fn path(folder: &Path, shards: &[PathBuf], entry: Option<&str>) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(entry.unwrap_or_default().as_bytes());
    for shard in shards {
        let whole = std::path::absolute(shard).unwrap_or_else(|_| shard.clone());
        hash.update([0]);
        hash.update(whole.as_os_str().as_encoded_bytes());
    }
    folder.join(format!("{}.index", &format!("{:x}", hash.finalize())[..32]))
}

/// The index of each shard, with the stamp that it had then; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Option<Vec<(Option<Stamp>, Index)>> {
    let bytes = std::fs::read(path).ok()?;
    let (all, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(all).as_slice() != sum {
        return None;
    }
    let mut rest = all.strip_prefix(VERSION)?;
    let mut shards = Vec::new();
    while !rest.is_empty() {
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(rest.get(..line)?).ok()?;
        rest = rest.get(line + 1..)?;
        let mut take = |count: usize| {
            let (part, after) = rest.split_at_checked(count)?;
            rest = after;
            Some(part)
        };
        let names = String::from_utf8(take(head.names)?.to_vec()).ok()?;
        let n = head.pictures;
        let small = |part: &[u8]| part.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four)).collect();
        let starts = take(n.checked_mul(8)?)?.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect();
        let (ends, sizes, labels) = (small(take(4 * n)?), small(take(4 * n)?), small(take(4 * n)?));
        shards.push((head.stamp, Index { names, ends, starts, sizes, labels, facts: head.facts }));
    }
    Some(shards)
}

/// Writes the file, whole or not at all.
pub(super) fn write(path: &Path, shards: &mut [(Option<Stamp>, Index)]) -> Result<()> {
    replace_file(path, |file| {
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            file.write_all(bytes)
        };
        put(VERSION)?;
        for (stamp, index) in shards {
            let head =
                Head { stamp: *stamp, pictures: index.ends.len(), names: index.names.len(), facts: std::mem::take(&mut index.facts) };
            let line = serde_json::to_vec(&head)?;
            index.facts = head.facts;
            put(&line)?;
            put(b"\n")?;
            put(index.names.as_bytes())?;
            let small = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
            put(&index.starts.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())?;
            put(&small(&index.ends))?;
            put(&small(&index.sizes))?;
            put(&small(&index.labels))?;
        }
        let sum = hash.finalize();
        file.write_all(&sum)
    })
}
