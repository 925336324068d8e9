//! [`Index`]: where the pictures of one shard lie, and the labels that stand next to them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tar::{Member, Tar};
use crate::data::class_folders::is_picture_ending;
use crate::progress::check_interrupt;

/// Bytes of the largest `.cls` and `.json` that are read.
const LARGEST_LABEL: u64 = 4096;
const LARGEST_JSON: u64 = 1 << 20;

/// A picture without a label.
pub(super) const NONE: u32 = u32::MAX;

/// The pictures of one shard, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// The members' names, one after the other, and where each ends.
    pub(super) names: String,
    pub(super) ends: Vec<u32>,
    /// Where the bytes of each begin, and how many there are.
    pub(super) starts: Vec<u64>,
    pub(super) sizes: Vec<u32>,
    /// The label of each as a position in [`Facts::texts`], or [`NONE`].
    pub(super) labels: Vec<u32>,
    pub(super) facts: Facts,
}

/// What a shard tells beyond its pictures.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The labels that occur, as they are written.
    pub(super) texts: Vec<String>,
    /// Members that are neither pictures nor labels, by ending.
    pub(super) left_out: BTreeMap<String, usize>,
    /// Pictures whose label a `.cls` gives, and those whose label a `.json` gives.
    pub(super) by_cls: usize,
    pub(super) by_json: usize,
    /// Labels without a picture of the same key next to them.
    pub(super) lost: usize,
    /// What is wrong with the rest of the shard.
    pub(super) fault: Option<String>,
}

/// The members of one key, as far as they have been met.
#[derive(Default)]
struct Group {
    key: String,
    picture: Option<Member>,
    cls: Option<String>,
    json: Option<String>,
}

impl Index {
    /// Reads a shard's headers and labels. `entry` names the label in the `.json`; without it a `.cls` goes first, then `label`
    /// and `class` of the `.json`.
    ///
    /// # Errors
    /// If the file cannot be opened, or the user interrupts.
    pub(super) fn read(path: &Path, entry: Option<&str>) -> crate::error::Result<Self> {
        let mut tar = Tar::open(path).map_err(|e| crate::error::Error::io(path, e))?;
        let (mut index, mut texts, mut group) = (Self::default(), HashMap::new(), Group::default());
        for count in 0usize.. {
            if count.is_multiple_of(1024) {
                check_interrupt("listing shards")?;
            }
            match tar.next().and_then(|member| member.map(|member| index.take(&mut tar, member, &mut group, &mut texts, entry)).transpose())
            {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(fault) => {
                    index.facts.fault = Some(fault);
                    break;
                }
            }
        }
        index.close(group, &mut texts);
        Ok(index)
    }

    fn take(
        &mut self,
        tar: &mut Tar,
        member: Member,
        group: &mut Group,
        texts: &mut HashMap<String, u32>,
        entry: Option<&str>,
    ) -> Result<(), String> {
        let folder = member.name.rfind('/').map_or(0, |slash| slash + 1);
        let file = member.name.get(folder..).unwrap_or_default();
        if file.is_empty() || file.starts_with('.') {
            return Ok(()); // what systems put there
        }
        // The key: everything before the first dot of the file's name, the folders included.
        let (stem, ending) = file.split_once('.').unwrap_or((file, ""));
        let (key, ending) = (member.name.get(..folder + stem.len()).unwrap_or_default(), ending.to_lowercase());
        if key != group.key {
            let next = Group { key: key.to_string(), ..Group::default() };
            self.close(std::mem::replace(group, next), texts);
        }
        match ending.as_str() {
            "cls" if member.size <= LARGEST_LABEL => {
                group.cls = Some(String::from_utf8_lossy(&tar.bytes(member.start, member.size)?).trim().to_string());
            }
            "json" if member.size <= LARGEST_JSON => group.json = label_in(&tar.bytes(member.start, member.size)?, entry),
            ending if is_picture_ending(ending) && group.picture.is_none() && u32::try_from(member.size).is_ok() => {
                group.picture = Some(member);
            }
            _ => *self.facts.left_out.entry(last_ending(&ending)).or_default() += 1,
        }
        if entry.is_some() {
            group.cls = None;
        }
        Ok(())
    }

    /// Adds the picture of a key whose members have all been met.
    fn close(&mut self, group: Group, texts: &mut HashMap<String, u32>) {
        let Group { picture, cls, json, .. } = group;
        let (by_cls, text) = (cls.is_some(), cls.or(json));
        let size = picture.as_ref().and_then(|picture| u32::try_from(picture.size).ok());
        let end = picture.as_ref().and_then(|picture| u32::try_from(self.names.len() + picture.name.len()).ok());
        let (Some(picture), Some(size), Some(end)) = (picture, size, end) else {
            self.facts.lost += usize::from(text.is_some());
            return;
        };
        self.names.push_str(&picture.name);
        self.ends.push(end);
        self.starts.push(picture.start);
        self.sizes.push(size);
        self.labels.push(match text {
            None => NONE,
            Some(text) => {
                *(if by_cls { &mut self.facts.by_cls } else { &mut self.facts.by_json }) += 1;
                match texts.get(&text) {
                    Some(place) => *place,
                    None => {
                        let place = u32::try_from(self.facts.texts.len()).unwrap_or(NONE);
                        self.facts.texts.push(text.clone());
                        texts.insert(text, place);
                        place
                    }
                }
            }
        });
    }

    /// Name, first byte and size of picture `i`.
    pub(super) fn get(&self, i: usize) -> Option<(&str, u64, u32)> {
        let end = *self.ends.get(i)? as usize;
        let begin = i.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        Some((self.names.get(begin..end)?, *self.starts.get(i)?, *self.sizes.get(i)?))
    }
}

/// The label that a `.json` gives: a text, a number, or a list of one.
fn label_in(bytes: &[u8], entry: Option<&str>) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let names = entry.map_or(["label", "class"], |entry| [entry, entry]);
    names.iter().filter_map(|name| value.get(name)).find_map(|value| {
        let one = value.as_array().filter(|all| all.len() == 1).and_then(|all| all.first());
        match one.unwrap_or(value) {
            Value::String(text) => Some(text.trim().to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    })
}

/// What a file that is left out is counted under, as everywhere.
fn last_ending(ending: &str) -> String {
    ending.rsplit('.').next().unwrap_or_default().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_in_json() {
        let label = |text: &str, entry| label_in(text.as_bytes(), entry);
        assert_eq!(label(r#"{"class": "a", "label": 3}"#, None).as_deref(), Some("3"));
        assert_eq!(label(r#"{"class": ["cat "]}"#, None).as_deref(), Some("cat"));
        assert_eq!(label(r#"{"label": {"a": 1}, "kind": "dog"}"#, None), None);
        assert_eq!(label(r#"{"label": 3, "kind": "dog"}"#, Some("kind")).as_deref(), Some("dog"));
        assert_eq!(label("[", None), None);
    }
}
