//! [`Dataset`], the handle that everything else takes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::data::findings::Findings;
use crate::data::source::ImageSource;
use crate::describe::ClassNames;
use crate::describe::relabel::{Relabeling, relabeling};
use crate::describe::unusual::unusual_names;
use crate::error::{Error, Result};

/// A data set: a shared source, and optionally a choice of its pictures and another list of classes.
///
/// Cloning copies handles. Labels serve evaluation only; a data set without them trains just as well.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use image::RgbImage;
/// use lafter::data::{Dataset, ImageSource};
///
/// struct Flat(Vec<String>);
/// impl ImageSource for Flat {
///     fn len(&self) -> usize { 10 }
///     fn classes(&self) -> &[String] { &self.0 }
///     fn label(&self, i: usize) -> Option<usize> { Some(i % 2) }
///     fn name(&self, i: usize) -> String { format!("flat {i}") }
///     fn image(&self, i: usize) -> lafter::Result<RgbImage> { Ok(RgbImage::from_pixel(2, 2, image::Rgb([i as u8; 3]))) }
/// }
///
/// let all = Dataset::new(Flat(vec!["even".into(), "odd".into()]));
/// let odd = all.subset(&[1, 3, 5])?;
/// assert_eq!(odd.labels(), Some(vec![1, 1, 1]));
/// assert_eq!(odd.image(2)?.get_pixel(0, 0).0, [5, 5, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Dataset {
    source: Arc<dyn ImageSource>,
    /// Positions in the source, if this is not all of it.
    indices: Option<Arc<[usize]>>,
    classes: Arc<[String]>,
    /// New label of each of the source's labels, where the classes were replaced.
    relabel: Option<Arc<[usize]>>,
    /// What was found beyond what the source tells.
    notes: Arc<Findings>,
}

impl Dataset {
    /// All pictures of a source.
    pub fn new(source: impl ImageSource + 'static) -> Self {
        Self::from_arc(Arc::new(source))
    }

    /// All pictures of a shared source.
    pub fn from_arc(source: Arc<dyn ImageSource>) -> Self {
        let classes = source.classes().into();
        Self { source, indices: None, classes, relabel: None, notes: Arc::default() }
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.indices.as_ref().map_or_else(|| self.source.len(), |indices| indices.len())
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class names, in label order; empty for pictures without labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Where the pictures come from, for messages.
    pub fn origin(&self) -> String {
        self.source.origin()
    }

    /// What opening it found beyond the pictures: the split rule, files left out, what is unusual, also about the class names.
    pub fn findings(&self) -> Findings {
        let mut found = self.source.findings();
        found.add((*self.notes).clone());
        found.add(Findings { notices: unusual_names(&self.classes), ..Findings::default() });
        found
    }

    /// The same with more that was found.
    pub(crate) fn with_findings(mut self, found: Findings) -> Self {
        self.note(|notes| notes.add(found));
        self
    }

    pub(crate) fn note(&mut self, add: impl FnOnce(&mut Findings)) {
        add(Arc::make_mut(&mut self.notes));
    }

    /// See [`ImageSource::stamp`].
    pub(crate) fn stamp(&self, i: usize) -> u64 {
        self.at(i).map_or(0, |at| self.source.stamp(at))
    }

    /// See [`ImageSource::version`].
    pub(crate) fn version(&self, i: usize) -> u64 {
        self.at(i).map_or(0, |at| self.source.version(at))
    }

    /// The class of picture `i`; `None` if it is not known (or `i` is out of range).
    pub fn label(&self, i: usize) -> Option<usize> {
        let label = self.source.label(self.at(i)?)?;
        match &self.relabel {
            Some(relabel) => relabel.get(label).copied(),
            None => Some(label),
        }
    }

    /// The label of every picture, in order; `None` unless all are known.
    pub fn labels(&self) -> Option<Vec<usize>> {
        (0..self.len()).map(|i| self.label(i)).collect()
    }

    /// Whether some picture has a label.
    pub(crate) fn has_labels(&self) -> bool {
        (0..self.len()).any(|i| self.label(i).is_some())
    }

    /// Asks, before anything is computed, whether every picture has a label.
    ///
    /// # Errors
    /// [`Error::Data`] if one has none, with the reason and the remedy as far as the source knows them.
    pub fn require_labels(&self) -> Result<()> {
        let without = (0..self.len()).filter(|i| self.label(*i).is_none()).count();
        if without == 0 {
            return Ok(());
        }
        let count =
            if without == self.len() { "has no labels".to_string() } else { format!("{without} of {} pictures have no label", self.len()) };
        let reason = self.findings().unlabeled;
        let reason = reason.unwrap_or_else(|| "one folder per class is needed, or a label column".to_string());
        Err(Error::Data(format!("{}: {count}, but they are needed here: {reason}", self.origin())))
    }

    /// A name that leads the user to picture `i`.
    pub fn name(&self, i: usize) -> String {
        self.at(i).map_or_else(|| format!("picture {i} (out of range)"), |at| self.source.name(at))
    }

    /// The file of picture `i`, if it has one of its own: its name may hold bytes that are no text, which [`name`](Self::name) lacks.
    pub fn file(&self, i: usize) -> Option<PathBuf> {
        self.source.file(self.at(i)?)
    }

    /// Picture `i`, decoded.
    ///
    /// # Errors
    /// [`Error::Image`] if it cannot be decoded, [`Error::Usage`] if `i` is out of range.
    pub fn image(&self, i: usize) -> Result<RgbImage> {
        self.source.image(self.at(i).ok_or_else(|| self.beyond(i))?)
    }

    /// The pictures at `indices`, decoded in parallel: a batch for a loop of your own. [`prefetch`](crate::data::prefetch) works
    /// ahead in the background and skips what cannot be read.
    ///
    /// # Errors
    /// As [`image`](Self::image), for one that fails.
    pub fn images(&self, indices: &[usize]) -> Result<Vec<RgbImage>> {
        indices.par_iter().map(|&i| self.image(i)).collect()
    }

    /// `make` of picture `i`; a data set that keeps views ([`cached`](Self::cached)) makes each of a `kind` once.
    ///
    /// `kind` must name everything that `make` depends on except the picture. `picture` is picture `i`, if the caller has it.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn view(&self, i: usize, kind: u64, picture: Option<&RgbImage>, make: &dyn Fn(&RgbImage) -> RgbImage) -> Result<RgbImage> {
        self.source.view(self.at(i).ok_or_else(|| self.beyond(i))?, kind, picture, make)
    }

    fn beyond(&self, i: usize) -> Error {
        Error::Usage(format!("picture {i} was asked for, but {} holds {}", self.origin(), self.len()))
    }

    /// The pictures at `indices`, in that order; an index may stand more than once.
    ///
    /// # Errors
    /// [`Error::Usage`] if an index is out of range.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let chosen = indices
            .iter()
            .map(|&i| self.at(i).ok_or_else(|| Error::Usage(format!("subset: index {i} of a data set of {}", self.len()))))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { indices: Some(chosen.into()), ..self.clone() })
    }

    /// The first `n` pictures, or all if there are fewer. Class folders are listed class after class:
    /// [`sample`](Self::sample) takes some of each.
    pub fn take(&self, n: usize) -> Self {
        self.at_positions(&(0..n.min(self.len())).collect::<Vec<_>>())
    }

    /// As [`subset`](Self::subset); indices out of range are passed over.
    pub(crate) fn at_positions(&self, indices: &[usize]) -> Self {
        let chosen: Vec<usize> = indices.iter().filter_map(|&i| self.at(i)).collect();
        Self { indices: Some(chosen.into()), ..self.clone() }
    }

    /// The same pictures with the classes of `list`: its order, its spelling.
    ///
    /// Each class of the data set is found in the list by its name (case, spaces, underscores and the form of accents do not
    /// matter), or by its key (`n02391049<TAB>zebra`). Where the data set only numbers its classes, the list names them by
    /// number, or line by line: from 0, or from 1 if there are as many names as the highest number. The list may hold classes
    /// that the data set lacks. Pictures without labels take the list as it is.
    ///
    /// # Errors
    /// [`Error::Data`] naming the classes that are not in the list.
    pub fn with_classes(&self, list: &ClassNames) -> Result<Self> {
        let classes: Arc<[String]> = list.names().into();
        let noted = |notices: Vec<String>| self.clone().with_findings(Findings { notices, ..Findings::default() });
        let mut notices = list.notices().to_vec();
        if self.classes.is_empty() {
            return Ok(Self { classes, ..noted(notices) });
        }
        let Relabeling { labels: map, notice } = relabeling(&self.classes, list, &self.origin())?;
        notices.extend(notice);
        let relabel = match &self.relabel {
            // `map` takes the present labels; the source's go through the present relabeling first.
            Some(first) => first.iter().filter_map(|&label| map.get(label).copied()).collect(),
            None => map,
        };
        Ok(Self { classes, relabel: Some(relabel.into()), ..noted(notices) })
    }

    /// The same pictures without their labels and classes.
    pub fn unlabeled(&self) -> Self {
        Self { classes: [].into(), relabel: Some([].into()), ..self.clone() }
    }

    /// Where its shared parts lie in memory: two that live and have the same hold the same pictures, labels and classes.
    pub(crate) fn identity(&self) -> [usize; 4] {
        let part = |part: &Option<Arc<[usize]>>| part.as_ref().map_or(0, |part| part.as_ptr().addr());
        let (source, classes) = (Arc::as_ptr(&self.source).cast::<()>().addr(), self.classes.as_ptr().addr());
        [source, part(&self.indices), classes, part(&self.relabel)]
    }

    /// Position in the source of picture `i`.
    fn at(&self, i: usize) -> Option<usize> {
        match &self.indices {
            Some(indices) => indices.get(i).copied(),
            None => (i < self.source.len()).then_some(i),
        }
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({}: {} pictures, {} classes)", self.origin(), self.len(), self.classes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(Vec<String>);
    impl ImageSource for Numbers {
        fn len(&self) -> usize {
            6
        }
        fn classes(&self) -> &[String] {
            &self.0
        }
        fn label(&self, i: usize) -> Option<usize> {
            Some(i % 3)
        }
        fn name(&self, i: usize) -> String {
            format!("number {i}")
        }
        fn image(&self, i: usize) -> Result<RgbImage> {
            Ok(RgbImage::from_pixel(1, 1, image::Rgb([i as u8; 3])))
        }
    }

    fn numbers() -> Dataset {
        Dataset::new(Numbers(vec!["polar_bear".into(), "Sea".into(), "tree".into()]))
    }

    fn list(names: &[&str]) -> ClassNames {
        ClassNames::new(names.iter().copied()).unwrap()
    }

    #[test]
    fn a_subset_of_a_subset_points_into_the_source() {
        let set = numbers().subset(&[5, 3, 1]).unwrap().subset(&[2, 0]).unwrap();
        assert_eq!((set.name(0), set.name(1), set.len()), ("number 1".into(), "number 5".into(), 2));
        assert!(set.subset(&[2]).unwrap_err().is_usage());
        assert!(set.image(2).is_err());
        assert_eq!(set.images(&[1, 0, 1]).unwrap(), [1, 0, 1].map(|i| set.image(i).unwrap()));
        assert!(set.images(&[0, 2]).is_err());
        assert_eq!(numbers().take(2).len(), 2);
        assert_eq!(numbers().take(100).len(), 6);
        assert_eq!(format!("{:?}", numbers()), "Dataset(pictures: 6 pictures, 3 classes)");
    }

    #[test]
    fn classes_are_reordered_by_name_and_may_be_more() {
        let set = numbers().with_classes(&list(&["tree", "house", "polar bear", "sea"])).unwrap();
        assert_eq!(set.labels(), Some(vec![2, 3, 0, 2, 3, 0]));
        let again = set.with_classes(&list(&["house", "sea", "polar bear", "tree"])).unwrap();
        assert_eq!(again.labels(), Some(vec![2, 1, 3, 2, 1, 3]));
    }

    #[test]
    fn a_class_that_is_not_in_the_list_is_named() {
        let error = numbers().with_classes(&list(&["tree", "polar bears", "sea"])).unwrap_err().to_string();
        assert!(error.contains("polar_bear") && error.contains("polar bears") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn keys_rename_and_numbers_are_named_by_position() {
        let set = numbers().with_classes(&list(&["tree\tlinden", "sea\tocean", "polar_bear\tice bear"])).unwrap();
        assert_eq!(set.classes(), ["linden", "ocean", "ice bear"]);
        assert_eq!(set.labels(), Some(vec![2, 1, 0, 2, 1, 0]));
        let numbered = Dataset::new(Numbers(vec!["0".into(), "1".into(), "2".into()])).with_classes(&list(&["a", "b", "c"])).unwrap();
        assert_eq!(numbered.labels(), Some(vec![0, 1, 2, 0, 1, 2]));
        assert_eq!(numbered.classes(), ["a", "b", "c"]);
    }
}
