//! Split files in CoOp's JSON: `{"train": [[path, label, class name], …], "val": …, "test": …}`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::data::findings::Findings;
use crate::data::folder::Files;
use crate::data::repeats::repeats;
use crate::data::split::choose;
use crate::error::{Error, Result};
use crate::files::read_text;

type Entry = (String, usize, String);

/// Opens one split; the paths in the file start from `root`. The user opened `spec`, the file itself or that folder.
pub(crate) fn open(file: &Path, root: &Path, spec: &Path, wanted: Option<&str>, found: &mut Findings) -> Result<Files> {
    let shown = file.display();
    let splits: BTreeMap<String, Vec<Entry>> = serde_json::from_str(&read_text(file)?).map_err(|e| {
        let text = e.to_string();
        let fault = text.lines().next().unwrap_or("not JSON");
        Error::Data(format!("{shown}: not a split file: {fault}: expected {{\"train\": [[path, label, class name], …], …}}"))
    })?;
    let names: Vec<&str> = splits.iter().filter(|(_, entries)| !entries.is_empty()).map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Err(Error::Data(format!("{shown}: all splits are empty: expected [path, label, class name] entries under \"train\"")));
    }
    let split = choose(&names, wanted, &spec.display().to_string())?;
    let classes = class_names(splits.values().flatten(), file)?;
    let entries = splits.get(split).map(Vec::as_slice).unwrap_or_default();
    if let Some((path, ..)) = entries.first()
        && !root.join(path).exists()
    {
        let first = root.join(path);
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root }.display();
        return Err(Error::Data(format!(
            "{shown}: no picture at {}: open the folder that its paths start from, with --split {shown} (in code, \
             OpenOptions::split_file), not {root}",
            first.display()
        )));
    }
    let repeated = repeats(entries.iter().map(|(path, label, _)| (Path::new(path), label)));
    found.notices.extend(repeated.map(|text| format!("{shown}: {text}")));
    let files = entries.iter().map(|(path, label, _)| (root.join(path), Some(*label))).collect();
    Ok(Files { origin: format!("{shown}:{split}"), root: root.to_path_buf(), classes, files })
}

/// The name of each label, from the entries of all splits.
fn class_names<'a>(entries: impl Iterator<Item = &'a Entry>, file: &Path) -> Result<Vec<String>> {
    let mut names: BTreeMap<usize, &str> = BTreeMap::new();
    for (path, label, name) in entries {
        let known = *names.entry(*label).or_insert(name);
        if known != name {
            let text = format!("{}: label {label} is \"{known}\" and, for {path}, \"{name}\": correct the file", file.display());
            return Err(Error::Data(text));
        }
    }
    match (0..names.len()).find(|label| !names.contains_key(label)) {
        Some(gap) => Err(Error::Data(format!("{}: no picture has label {gap}, so it has no name: labels must run from 0", file.display()))),
        None => Ok(names.into_values().map(str::to_string).collect()),
    }
}
