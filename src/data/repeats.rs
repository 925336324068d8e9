//! Pictures that a list names in several rows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// What to say of rows, each a picture and its label, among which a picture stands several times. No more than hashes are held: there may
/// be a million rows.
pub(crate) fn repeats<'a>(rows: impl Iterator<Item = (&'a Path, impl Hash)>) -> Option<String> {
    let mut rows: Vec<(u64, u64)> = rows.map(|(path, label)| (hash(path), hash(label))).collect();
    rows.sort_unstable();
    let (mut several, mut different) = (0usize, 0usize);
    for same in rows.chunk_by(|one, next| one.0 == next.0).filter(|same| same.len() > 1) {
        several += 1;
        different += usize::from(same.first() != same.last());
    }
    let labels = if different > 0 { format!(", {different} of them with different labels") } else { String::new() };
    (several > 0).then(|| format!("{several} pictures stand in several rows{labels}: each row counts"))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_stand_in_several_rows_are_counted() {
        let said = |rows: &[(&str, usize)]| repeats(rows.iter().map(|(path, label)| (Path::new(path), label)));
        assert_eq!(said(&[("a/1.jpg", 0), ("a/2.jpg", 0), ("b/1.jpg", 1)]), None);
        let several = said(&[("2.jpg", 0), ("1.jpg", 0), ("1.jpg", 1), ("1.jpg", 0), ("3.jpg", 2), ("3.jpg", 2)]);
        assert_eq!(several.unwrap(), "2 pictures stand in several rows, 1 of them with different labels: each row counts");
        assert_eq!(said(&[("x/3.jpg", 2), ("x/./3.jpg", 2)]).unwrap(), "1 pictures stand in several rows: each row counts");
    }
}
