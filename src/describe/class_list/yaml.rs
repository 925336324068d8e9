//! Class names in the YAML file of a data set.

use super::Pair;
use super::lines::{bare, by_number, twice};
use super::values::pairs_of;
use crate::describe::literal::read_literal;

/// What a file has of a YAML data set's `names:`.
pub(super) enum Yaml {
    No,
    Names(Vec<Pair>),
    Unclear,
}

/// The part `names:` of a file such as YOLO's data.yaml: a list in brackets, `- airplane` or `0: airplane` below.
pub(super) fn yaml_names(lines: &[(usize, &str)]) -> Yaml {
    let begins = lines.iter().enumerate().find_map(|(i, (_, line))| Some((i, line.strip_prefix("names:")?.trim())));
    let Some((at, same)) = begins else { return Yaml::No };
    let below = lines.get(at + 1..).unwrap_or_default();
    if same.starts_with(['[', '{']) {
        let all = std::iter::once(same).chain(below.iter().map(|(_, line)| *line)).collect::<Vec<_>>().join("\n");
        let end = all.find(if same.starts_with('[') { ']' } else { '}' }).unwrap_or(0);
        let text = all.get(..=end).unwrap_or_default();
        if let Some((pairs, _)) = read_literal(text).as_ref().and_then(pairs_of) {
            return Yaml::Names(pairs);
        }
        // YAML needs no quotation marks.
        let words: Vec<&str> = text.trim_matches(['[', ']']).split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let plain = same.starts_with('[') && !words.is_empty() && !text.contains(['"', '\'', '#', '{']);
        return if plain { Yaml::Names(words.into_iter().map(twice).collect()) } else { Yaml::Unclear };
    }
    if !same.is_empty() && !same.starts_with('#') {
        return if at == 0 { Yaml::No } else { Yaml::Unclear };
    }
    let part = |line: &&str| line.starts_with([' ', '\t', '#']) || line.starts_with("- ");
    let block = below.iter().map(|(_, line)| *line).take_while(part).map(|line| line.split(" #").next().unwrap_or(line).trim());
    let block: Vec<&str> = block.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let entries: Option<Vec<&str>> = block.iter().map(|line| line.strip_prefix("- ")).collect();
    match entries.filter(|names| !names.is_empty()) {
        Some(names) => Yaml::Names(names.into_iter().map(|name| twice(&bare(name))).collect()),
        None => match by_number(&block) {
            Some((pairs, _)) => Yaml::Names(pairs),
            // `names:` as a title above plain lines
            None if at == 0 && block.iter().all(|line| !line.contains(':')) => Yaml::No,
            None => Yaml::Unclear,
        },
    }
}
