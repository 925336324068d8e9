//! Whether two data sets are the same.

use sha2::{Digest, Sha256};

use crate::data::dataset::Dataset;

/// Pictures that are looked at, evenly spread.
const SAMPLE: usize = 8;

impl Dataset {
    /// A hash of the number of pictures, the class names, the labels and eight of the pictures, wherever they lie: a run that
    /// is resumed asks whether it was begun on the same data.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.len() as u64).to_le_bytes());
        for class in self.classes() {
            hash.update(class.as_bytes());
            hash.update([0]);
        }
        for i in 0..self.len() {
            hash.update(self.label(i).map_or(u64::MAX, |label| label as u64).to_le_bytes());
        }
        for i in 0..SAMPLE.min(self.len()) {
            let picture = self.image(i * (self.len() - 1) / (SAMPLE - 1).max(1));
            hash.update(picture.map(|picture| picture.into_raw()).unwrap_or_default()); // one that cannot be read counts as empty
        }
        format!("{:x}", hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use crate::data::Dataset;
    use crate::data::scenes::{Domain, Scenes};

    #[test]
    fn the_same_pictures_are_the_same_and_others_are_not() {
        let set = |seed| Dataset::new(Scenes::new(Domain::Target, 20, seed));
        let whole = set(1).fingerprint();
        assert_eq!(whole, set(1).cached(1 << 20).fingerprint());
        for other in [set(2), set(1).take(19), set(1).unlabeled(), set(1).take(1), set(1).take(0)] {
            assert_ne!(whole, other.fingerprint());
        }
    }
}
