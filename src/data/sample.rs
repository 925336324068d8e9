//! A part of a data set that stands for all of it.

use crate::data::dataset::Dataset;

impl Dataset {
    /// `n` pictures of every class in proportion to its size, or all if there are fewer: the same every time, in the order of the set.
    ///
    /// A class of a tenth of the set gives a tenth of the `n`, and at least one picture if there are as many as classes; its pictures
    /// are evenly spread over it. A data set whose labels are not all known is sampled as by [`spread`](Self::spread).
    ///
    /// ```
    /// # fn main() -> lafter::Result<()> {
    /// use lafter::data::{Dataset, scenes::{Domain, Scenes}};
    /// let all = Dataset::new(Scenes::new(Domain::Target, 120, 1));
    /// let some = all.sample(24);
    /// let of_class = |label| (0..some.len()).filter(|i| some.label(*i) == Some(label)).count();
    /// assert!(some.len() == 24 && (0..12).all(|label| of_class(label) == 2));
    /// # Ok(()) }
    /// ```
    pub fn sample(&self, n: usize) -> Self {
        let Some(labels) = self.labels().filter(|_| n < self.len()) else { return self.spread(n) };
        let mut members = vec![Vec::new(); labels.iter().max().map_or(0, |max| max + 1)];
        labels.iter().enumerate().for_each(|(i, label)| members[*label].push(i));
        members.retain(|members| !members.is_empty());
        let mut chosen = Vec::with_capacity(n);
        for (members, share) in members.iter().zip(shares(&members, n)) {
            // the middle of each of `share` equal parts
            chosen.extend((0..share).filter_map(|j| members.get((2 * j + 1) * members.len() / (2 * share))));
        }
        chosen.sort_unstable();
        let what = match members.len() {
            classes if n < classes => format!("{n} of {} pictures, from {n} of {classes} classes", self.len()),
            classes => format!("{n} of {} pictures, in proportion from each of {classes} classes", self.len()),
        };
        self.chosen(chosen, &what)
    }

    /// `n` pictures evenly spread over the set, or all if there are fewer: the same every time, in the order of the set. Labels
    /// are not asked, so this is how training pictures are chosen.
    ///
    /// One picture is taken from each of `n` equal parts, at an arbitrary place in it: where classes take turns, a fixed step could
    /// meet one class only.
    pub fn spread(&self, n: usize) -> Self {
        let len = self.len();
        if n >= len {
            return self.clone();
        }
        let part = |i: usize| (i * len / n, (i + 1) * len / n);
        let chosen = (0..n).map(part).enumerate().map(|(i, (start, end))| start + scatter(i as u64) as usize % (end - start).max(1));
        self.chosen(chosen.collect(), &format!("{n} of {len} pictures, evenly spread"))
    }

    fn chosen(&self, indices: Vec<usize>, what: &str) -> Self {
        let mut chosen = self.at_positions(&indices);
        chosen.note(|notes| notes.add_rule(what));
        chosen
    }
}

/// How many of `n` each class gives: in proportion, rounded so that the sum is `n`; none stays without one if `n` suffices.
fn shares(members: &[Vec<usize>], n: usize) -> Vec<usize> {
    let total: usize = members.iter().map(Vec::len).sum();
    let (mut before, mut shares) = (0, Vec::with_capacity(members.len()));
    for members in members {
        let after = before + members.len();
        shares.push(n * after / total - n * before / total);
        before = after;
    }
    while n >= shares.len()
        && let Some(none) = shares.iter().position(|share| *share == 0)
        && let Some(most) = (0..shares.len()).max_by_key(|i| shares[*i])
    {
        shares[none] += 1;
        shares[most] -= 1;
    }
    shares
}

/// A well-mixed number (SplitMix64's output function).
fn scatter(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::data::source::ImageSource;
    use crate::error::Result;

    /// Labels in the order given.
    struct Labels(Vec<String>, Vec<usize>);
    impl ImageSource for Labels {
        fn len(&self) -> usize {
            self.1.len()
        }
        fn classes(&self) -> &[String] {
            &self.0
        }
        fn label(&self, i: usize) -> Option<usize> {
            self.1.get(i).copied()
        }
        fn name(&self, i: usize) -> String {
            i.to_string()
        }
        fn image(&self, _: usize) -> Result<RgbImage> {
            Ok(RgbImage::new(1, 1))
        }
    }

    fn set(labels: Vec<usize>) -> Dataset {
        Dataset::new(Labels((0..10).map(|i| format!("class{i}th")).collect(), labels))
    }

    fn counts(set: &Dataset) -> Vec<usize> {
        let mut counts = vec![0; 10];
        (0..set.len()).filter_map(|i| set.label(i)).for_each(|label| counts[label] += 1);
        counts
    }

    #[test]
    fn every_class_has_its_share() {
        let sorted = set((0..1000).map(|i| i / 100).collect());
        let turns = set((0..1000).map(|i| i % 10).collect());
        for set in [&sorted, &turns] {
            assert_eq!(counts(&set.sample(50)), [5; 10]);
            assert!(counts(&set.sample(55)).iter().all(|count| (5..=6).contains(count)));
            assert!(counts(&set.spread(200)).iter().all(|count| (8..=35).contains(count)), "{:?}", counts(&set.spread(200)));
            assert_eq!((set.sample(7).len(), set.spread(7).len()), (7, 7));
            assert_eq!(counts(&set.sample(7)).iter().max(), Some(&1));
            assert_eq!((set.sample(5000).len(), set.spread(1000).len(), set.sample(0).len(), set.spread(0).len()), (1000, 1000, 0, 0));
        }
        assert_eq!(sorted.sample(50).name(0), "10");
        assert!(sorted.sample(50).findings().rule.unwrap().contains("50 of 1000 pictures, in proportion from each of 10 classes"));
        assert!(sorted.sample(7).findings().rule.unwrap().contains("7 of 10 classes"));
    }

    #[test]
    fn a_rare_class_is_not_lost() {
        let rare = set((0..1000).map(|i| if i < 991 { 0 } else { i - 990 }).collect());
        let some = counts(&rare.sample(100));
        assert!(some.iter().all(|count| *count >= 1) && some.iter().sum::<usize>() == 100, "{some:?}");
    }
}
