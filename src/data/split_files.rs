//! Which files make a split, by their names: the rules of the hub's `datasets`.
//!
//! `train-00000-of-00002.parquet` names its split before the shard. Otherwise a split's name stands as a word of its own,
//! between separators, in the file's name (`cifar10_train.parquet`), or in a folder's (`default/partial-train/0000.parquet`).

use std::collections::{BTreeMap, BTreeSet};

use crate::data::split::{canonical, choose, is_split_name};
use crate::error::{Error, Result};

/// Files shown in a message at most.
const SHOWN: usize = 3;

/// The files of one split.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Positions in the list.
    pub(crate) files: Vec<usize>,
    /// The split that was asked for.
    pub(crate) wanted: Option<String>,
    /// The split's name; `None` if the files have no splits, and all were taken.
    pub(crate) split: Option<String>,
    /// The rule that chose them, in a few words.
    pub(crate) rule: Option<String>,
    /// What is unusual, one line each.
    pub(crate) notices: Vec<String>,
    /// Other splits as the user would name them, those that may have labels first.
    pub(crate) others: Vec<String>,
    /// What is missing of a set of shards: `1 of 3 shards of "test"`.
    pub(crate) missing: Option<String>,
}

impl Chosen {
    /// What to do where the labels of this split are hidden.
    pub(crate) fn instead(&self) -> String {
        match self.others.as_slice() {
            [] => "use a split that has labels, mostly \"validation\"".to_string(),
            others => format!("use a split that has labels: {}", others.join(" or ")),
        }
    }
}

/// Chooses among files (paths below the root of the data set `origin`). Never a mixture: files of other splits, and of none
/// if there are splits, stay out.
pub(crate) fn choose_files(names: &[String], wanted: Option<&str>, origin: &str) -> Result<Chosen> {
    let splits: Vec<Option<String>> = names.iter().map(|name| split_of(name)).collect();
    let found: BTreeSet<&str> = splits.iter().flatten().map(String::as_str).collect();
    let found: Vec<&str> = found.into_iter().collect();
    if found.is_empty() {
        let files: Vec<usize> = (0..names.len()).collect();
        let missing = missing_shards(names, &files, origin)?;
        // "0000.parquet", "part-1.parquet" are plainly one set.
        let stems: BTreeSet<String> = names.iter().map(|name| stem(name).chars().filter(|c| c.is_alphabetic()).collect()).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let together = format!("{} files whose names tell no split are read as one set: {}", all.len(), list(&all));
        let notices = if stems.len() > 1 { vec![together] } else { Vec::new() };
        return Ok(Chosen { files, wanted: wanted.map(str::to_string), missing, notices, ..Chosen::default() });
    }
    // "cifar10_train" is the train split if no other is
    let by_word = |wanted: &str| {
        let exact = found.iter().any(|name| canonical(name) == canonical(wanted));
        let mut words = found.iter().copied().filter(|name| words(name) == [canonical(wanted)]);
        if exact { None } else { words.next().filter(|_| words.next().is_none()) }
    };
    let chosen = match wanted.and_then(by_word) {
        Some(chosen) => chosen,
        None if wanted.is_some_and(|wanted| canonical(wanted) == "test") => match by_word("val") {
            Some(val) if !found.contains(&"test") && !found.contains(&"val") => val,
            _ => choose(&found, wanted, origin)?,
        },
        None => choose(&found, wanted, origin)?,
    };
    let files: Vec<usize> = (0..names.len()).filter(|i| splits.get(*i).is_some_and(|split| split.as_deref() == Some(chosen))).collect();
    let root = origin.strip_suffix(&format!(":{}", wanted.unwrap_or(""))).unwrap_or(origin);
    let mut others: Vec<&str> = found.iter().copied().filter(|name| *name != chosen).collect();
    others.sort_by_key(|name| if *name == "val" { 0 } else { 1 });
    let others = others.iter().map(|name| format!("{root}:{}", if *name == "val" { "validation" } else { name })).collect();
    let served = wanted.filter(|wanted| !words(chosen).contains(&canonical(wanted)) && canonical(wanted) != chosen);
    let rule = match served {
        Some(wanted) => format!("files of split \"{chosen}\", since there is none named \"{wanted}\""),
        None => format!("files of split \"{chosen}\""),
    };
    let missing = missing_shards(names, &files, origin)?;
    let (notices, wanted, split) = (notices(names, &splits, &files), wanted.map(str::to_string), Some(chosen.to_string()));
    Ok(Chosen { notices, wanted, split, rule: Some(rule), others, missing, files })
}

/// Chooses among splits whose files a data set's card names.
pub(crate) fn choose_named(names: &[String], splits: &[(String, Vec<usize>)], wanted: Option<&str>, origin: &str) -> Result<Chosen> {
    let found: Vec<&str> = splits.iter().map(|(name, _)| name.as_str()).collect();
    let chosen = choose(&found, wanted, origin)?;
    let files: Vec<usize> = splits.iter().find(|(name, _)| name == chosen).map(|(_, files)| files.clone()).unwrap_or_default();
    if files.is_empty() {
        return Err(Error::Hub(format!(
            "{origin}: the files that its card names for the split \"{chosen}\" are not there: name another split"
        )));
    }
    let root = origin.strip_suffix(&format!(":{}", wanted.unwrap_or(""))).unwrap_or(origin);
    let others = found.iter().filter(|name| **name != chosen).map(|name| format!("{root}:{name}")).collect();
    let rule = match wanted.filter(|wanted| canonical(wanted) != canonical(chosen)) {
        Some(wanted) => format!("files of split \"{chosen}\" by the card, since there is none named \"{wanted}\""),
        None => format!("files of split \"{chosen}\" by the card"),
    };
    let missing = missing_shards(names, &files, origin)?;
    Ok(Chosen {
        files,
        wanted: wanted.map(str::to_string),
        split: Some(canonical(chosen)),
        rule: Some(rule),
        notices: Vec::new(),
        others,
        missing,
    })
}

/// What a user may not expect of this choice.
fn notices(names: &[String], splits: &[Option<String>], files: &[usize]) -> Vec<String> {
    let mut notices = Vec::new();
    let without: Vec<&str> = names.iter().zip(splits).filter(|(_, split)| split.is_none()).map(|(name, _)| name.as_str()).collect();
    if !without.is_empty() {
        notices.push(format!("files whose names tell no split are left out: {}", list(&without)));
    }
    let chosen = || files.iter().filter_map(|i| names.get(*i)).map(String::as_str);
    let contradicted: Vec<&str> = chosen().filter(|name| contradicts(name)).collect();
    if !contradicted.is_empty() {
        notices.push(format!("the file's name counts where its folder names another split: {}", list(&contradicted)));
    }
    let folders: BTreeSet<String> = chosen().map(configuration).collect();
    if folders.len() > 1 {
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        notices
            .push(format!("files of several folders are read as one set: {} (configurations of a set are opened apart)", list(&folders)));
    }
    if chosen().any(|name| name.split('/').any(|part| part.starts_with("partial-"))) {
        notices.push("only the first part of a large set: the hub's conversion (partial-…) stops there".to_string());
    }
    notices
}

/// The folders of a path that tell no split.
fn configuration(name: &str) -> String {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let parts: Vec<&str> = folders.split('/').filter(|folder| words(folder).is_empty()).collect();
    if parts.is_empty() || parts == [""] { ".".to_string() } else { parts.join("/") }
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, … ({})", names.len()) } else { shown }
}

/// One shard of several: `train-00000-of-00002.parquet`, also with a hash at the end.
struct Shard<'a> {
    before: &'a str,
    number: usize,
    count: usize,
}

impl<'a> Shard<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (before, after) = stem(name).rsplit_once("-of-")?;
        let (before, number) = before.rsplit_once('-')?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (count, rest) = after.split_at_checked(digits)?;
        let apart = rest.is_empty() || rest.starts_with(['-', '_', '.']);
        Some(Self { before, number: number.parse().ok()?, count: count.parse().ok().filter(|_| apart)? })
    }
}

/// The file's name without its folders and ending.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.strip_suffix(".parquet").or_else(|| file.strip_suffix(".tar")).unwrap_or(file)
}

/// The splits that a name holds as words of their own, in their one spelling. Capitals begin a word (`cifarTrain`), and "set" or
/// "data" may follow (`testset`): beyond the hub's rules, but nobody means anything else by it.
fn words(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            spaced.push(' ');
        }
        spaced.push(if c.is_alphabetic() { c } else { ' ' });
        before = c;
    }
    let mut found: Vec<String> = Vec::new();
    for word in spaced.to_lowercase().split_whitespace() {
        let bare = ["set", "data", "split", "images"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        let word = canonical(bare);
        if is_split_name(bare) && !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// The split that a file's path tells. A name that holds several is a split of its own: `train_val.parquet` is neither.
fn split_of(name: &str) -> Option<String> {
    let joined = |words: Vec<String>| (!words.is_empty()).then(|| words.join("_"));
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let by_folder = || folders.rsplit('/').find_map(|folder| joined(words(folder)));
    match Shard::of(name) {
        // A sharded file says its split, whatever that is called ("extra", "cifar10_train"); "data" and the like say none.
        Some(shard) if !words(shard.before).is_empty() => Some(canonical(shard.before)),
        Some(shard) => by_folder().or_else(|| Some(canonical(shard.before))),
        None => joined(words(stem(name))).or_else(by_folder),
    }
}

/// True if the file's name tells one split and its folder another.
fn contradicts(name: &str) -> bool {
    let (file, folders) = (words(stem(name)), name.rsplit_once('/').map_or("", |(folders, _)| folders));
    let folder = folders.rsplit('/').map(words).find(|words| !words.is_empty());
    !file.is_empty() && folder.is_some_and(|folder| folder != file)
}

/// What is missing where the files are numbered shards.
///
/// # Errors
/// [`Error::Data`] if a shard is there twice, or of two versions of a set.
fn missing_shards(names: &[String], files: &[usize], origin: &str) -> Result<Option<String>> {
    let mut sets: BTreeMap<(&str, &str), BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
    for name in files.iter().filter_map(|i| names.get(*i)) {
        if let Some(shard) = Shard::of(name) {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            sets.entry((folder, shard.before)).or_default().entry(shard.count).or_default().push(shard.number);
        }
    }
    let mut missing = None;
    for ((_, before), by_count) in sets {
        let twice = by_count.values().any(|numbers| numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len());
        if by_count.len() > 1 || twice {
            let counts: Vec<String> = by_count.iter().map(|(count, numbers)| format!("{} shards \"of {count}\"", numbers.len())).collect();
            let remedy = "keep the shards of one version only";
            return Err(Error::Data(format!("{origin}: holds \"{before}\" twice, in {}: {remedy}", counts.join(" and "))));
        }
        for (count, numbers) in by_count.iter().filter(|(count, numbers)| numbers.len() < **count) {
            missing = missing.or(Some(format!("{} of {count} shards of \"{before}\"", numbers.len())));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_tells_its_split() {
        for (name, split) in [
            ("data/train-00000-of-00002.parquet", Some("train")),
            ("data/test-00000-of-00003-b4aaeceff1d90ecb.parquet", Some("test")),
            ("cropped/extra-00001-of-00002.parquet", Some("extra")),
            ("train/data-00001-of-00002.parquet", Some("train")),
            ("default/validation/0000.parquet", Some("val")),
            ("default/partial-train/0000.parquet", Some("train")),
            ("partial-test/0000.parquet", Some("test")),
            ("test.parquet", Some("test")),
            ("train_1.parquet", Some("train")),
            ("cifar10_train.parquet", Some("train")),
            ("my.Training set 2.parquet", Some("train")),
            ("eval/part.parquet", Some("test")),
            ("dev.parquet", Some("val")),
            ("train_val.parquet", Some("train_val")),
            ("pictures.parquet", None),
            ("cifarTrain.parquet", Some("train")),
            ("testset.parquet", Some("test")),
            ("split=val/0.parquet", Some("val")),
            ("trainable.parquet", None),
            ("latest.parquet", None),
        ] {
            assert_eq!(split_of(name).as_deref(), split, "{name}");
        }
    }

    #[test]
    fn splits_are_never_mixed() {
        let all = names(&["cifar10_train.parquet", "cifar10_test.parquet", "train_val.parquet", "other.parquet"]);
        let test = choose_files(&all, Some("test"), "x").unwrap();
        assert_eq!((test.files, test.split.as_deref(), test.others.len()), (vec![1], Some("test"), 2));
        assert!(test.notices[0].contains("other.parquet"), "{:?}", test.notices);
        assert_eq!(choose_files(&all, Some("train"), "x").unwrap().files, [0]);
        assert!(choose_files(&all, None, "x").unwrap_err().to_string().contains("several splits"));

        // sharded names are whole: "train_extra" is not part of "train"
        let all = names(&["data/train-00000-of-00001.parquet", "data/train_extra-00000-of-00001.parquet"]);
        assert_eq!(choose_files(&all, Some("train"), "x").unwrap().files, [0]);
        let all = names(&["data/c10_train-00000-of-00001.parquet", "data/c10_val-00000-of-00001.parquet"]);
        assert_eq!(choose_files(&all, Some("train"), "x").unwrap().files, [0]);
        let val = choose_files(&all, Some("test"), "x").unwrap();
        assert!(val.files == [1] && val.rule.unwrap().contains("none named \"test\""));
    }

    #[test]
    fn files_without_splits_belong_together() {
        let all = names(&["a.parquet", "b.parquet"]);
        let chosen = choose_files(&all, Some("train"), "x").unwrap();
        assert_eq!((chosen.files, chosen.split, chosen.rule), (vec![0, 1], None, None));
        assert!(chosen.notices[0].contains("a.parquet, b.parquet"));
        assert!(choose_files(&names(&["0000.parquet", "0001.parquet"]), None, "x").unwrap().notices.is_empty());
    }

    #[test]
    fn shards_are_counted() {
        let shard = |i: usize, n: usize, hash: &str| format!("data/test-0000{i}-of-0000{n}{hash}.parquet");
        let missing = |names: &[String]| choose_files(names, Some("test"), "x").map(|chosen| chosen.missing);
        assert_eq!(missing(&[shard(0, 3, "-b4"), shard(1, 3, "-7d"), shard(2, 3, "-68")]).unwrap(), None);
        assert_eq!(missing(&[shard(1, 3, "-7d")]).unwrap().unwrap(), "1 of 3 shards of \"test\"");
        for twice in [[shard(0, 1, "-aa"), shard(0, 1, "-bb")], [shard(0, 1, ""), shard(0, 2, "")]] {
            assert!(missing(&twice).unwrap_err().to_string().contains("twice"), "{twice:?}");
        }
    }

    #[test]
    fn what_is_unusual_is_said() {
        let partial = choose_files(&names(&["d/partial-test/0000.parquet", "d/partial-train/0000.parquet"]), Some("test"), "x").unwrap();
        assert!(partial.notices[0].contains("first part"));
        let odd = choose_files(&names(&["train/test_1.parquet", "train/a.parquet"]), Some("test"), "x").unwrap();
        assert!(odd.files == [0] && odd.notices[0].contains("train/test_1.parquet"));
        let two = choose_files(&names(&["fine/test/0.parquet", "coarse/test/0.parquet"]), Some("test"), "x").unwrap();
        assert!(two.notices[0].contains("coarse, fine"), "{:?}", two.notices);
        let hidden = choose_files(&names(&["test.parquet", "train.parquet", "dev.parquet"]), Some("test"), "d").unwrap();
        assert_eq!(hidden.instead(), "use a split that has labels: d:validation or d:train");
    }
}
