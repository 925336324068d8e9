//! Named settings: LaFTer's, and those of the label-free methods after it, as far as this crate has their blocks.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::classify::{TextClassifierConfig, TextStart};
use crate::describe::names::closest;
use crate::nn::LrSchedule;
use crate::tune::{
    Align, Alignment, CandidateClasses, Candidates, CrossEntropy, Ema, Fairness, FinetuneConfig, HeadForm, Information, Labeler, Over,
    Prototypes, RefineKind, Relative, StrongConfig, TeacherHead, TeacherKind, TermKind, Threshold, WeakCrop,
};

/// A named set of settings. Those of later methods have variants for the data sets of their tables, `dpa:eurosat`; without one they
/// are for pictures of your own.
///
/// The published numbers of all of them were chosen with labels: the best epoch on the test set (LaFTer, DPA, MUST, CPL). A run here
/// reports its last epoch; compare theirs with `oracle_best`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// LaFTer's released code, which produced the published numbers.
    #[default]
    Official,
    /// LaFTer's paper where it differs from the released code.
    Paper,
    /// Official, shortened for the demo CLIP and its rendered scenes.
    Demo,
    /// DPA (Ali et al., WACV 2025): class means as a cosine head, image prototypes next to it, relative weights, fairness, alignment.
    ///
    /// What its authors do that this preset does not: random crops also in the pass that fills the memory of the prototypes before
    /// training (here the middle; in training itself the weak view is a random crop, as theirs), ImageNet cut to 50 pictures of each *true*
    /// class, templates per data set (give yours with `--templates`; descriptions, if given, enter the class means, too). Their step
    /// holds a clipping of gradients (to an L1 norm of 1), but only behind a loss scaler that `train.py` never makes: nothing is clipped
    /// there, nor here. For your own pictures: DTD's row with a = 0.5.
    Dpa(Option<TableSet>),
    /// The self-training of MUST (Li et al., 2022) on what LaFTer tunes: an averaged teacher, a fixed threshold, fairness.
    ///
    /// It is not MUST, whose authors tune the whole tower on 16 GPUs (fairness over 1,024 pictures at once) and also reconstruct masked
    /// patches. Learning rate, batch and epochs are this crate's. MUST averages fairness over batches from 512 classes on, which only
    /// `must_lite:imagenet` does here: for as many classes of your own set `averaged` in `tune.objective`.
    MustLite(Option<TableSet>),
    /// CPL (Zhang et al., 2024) within LaFTer: candidate classes in place of pseudo-labels. For your own pictures: EuroSAT's α and γ.
    Cpl(Option<TableSet>),
    /// UEO (Liang et al., 2024): entropy and diversity, weighed by the untuned CLIP; norms alone learn.
    ///
    /// Its authors use SGD with this learning rate, here it is AdamW; batch size and the plain view for both are this crate's.
    Ueo,
    /// NoLA (Imam et al., 2024): class means as a plain head, a feature labeler as the teacher, 16 visual prompts, a stronger view.
    ///
    /// What its authors do that this preset does not: the labeler reads DINO's ViT-B/16 (here the CLIP's own features, unless
    /// `tune.teacher` names a file of stored ones), batches of 512 at a learning rate of 0.004 (here 50 at the rate that their history
    /// has for a picture, 7.8e-6), a choice of the epoch by labeled validation pictures. Their code chooses the surest
    /// pictures for the classes that occur among the *true* labels.
    Nola,
}

/// A data set of the published tables.
#[allow(missing_docs)] // names of data sets
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableSet {
    ImageNet,
    Caltech101,
    Dtd,
    EuroSat,
    Aircraft,
    Food101,
    Flowers102,
    Pets,
    Sun397,
    Cars,
    Cifar10,
    Cifar100,
    Ucf101,
    Gtsrb,
}

use TableSet::*;

/// Every preset by its name.
const NAMES: [(&str, Preset); 35] = [
    ("official", Preset::Official),
    ("paper", Preset::Paper),
    ("demo", Preset::Demo),
    ("dpa", Preset::Dpa(None)),
    ("dpa:imagenet", Preset::Dpa(Some(ImageNet))),
    ("dpa:caltech101", Preset::Dpa(Some(Caltech101))),
    ("dpa:dtd", Preset::Dpa(Some(Dtd))),
    ("dpa:eurosat", Preset::Dpa(Some(EuroSat))),
    ("dpa:aircraft", Preset::Dpa(Some(Aircraft))),
    ("dpa:food101", Preset::Dpa(Some(Food101))),
    ("dpa:flowers102", Preset::Dpa(Some(Flowers102))),
    ("dpa:pets", Preset::Dpa(Some(Pets))),
    ("dpa:sun397", Preset::Dpa(Some(Sun397))),
    ("dpa:cars", Preset::Dpa(Some(Cars))),
    ("dpa:cifar10", Preset::Dpa(Some(Cifar10))),
    ("dpa:cifar100", Preset::Dpa(Some(Cifar100))),
    ("dpa:ucf101", Preset::Dpa(Some(Ucf101))),
    ("must_lite", Preset::MustLite(None)),
    ("must_lite:imagenet", Preset::MustLite(Some(ImageNet))),
    ("must_lite:food101", Preset::MustLite(Some(Food101))),
    ("must_lite:sun397", Preset::MustLite(Some(Sun397))),
    ("must_lite:gtsrb", Preset::MustLite(Some(Gtsrb))),
    ("must_lite:dtd", Preset::MustLite(Some(Dtd))),
    ("must_lite:ucf101", Preset::MustLite(Some(Ucf101))),
    ("must_lite:pets", Preset::MustLite(Some(Pets))),
    ("must_lite:caltech101", Preset::MustLite(Some(Caltech101))),
    ("cpl", Preset::Cpl(None)),
    ("cpl:eurosat", Preset::Cpl(Some(EuroSat))),
    ("cpl:caltech101", Preset::Cpl(Some(Caltech101))),
    ("cpl:cifar100", Preset::Cpl(Some(Cifar100))),
    ("cpl:dtd", Preset::Cpl(Some(Dtd))),
    ("cpl:flowers102", Preset::Cpl(Some(Flowers102))),
    ("cpl:ucf101", Preset::Cpl(Some(Ucf101))),
    ("ueo", Preset::Ueo),
    ("nola", Preset::Nola),
];

impl Preset {
    /// As it is written in files and on the command line. A data set that the method has no values for is written as none.
    pub fn name(self) -> &'static str {
        let method = match self {
            Self::Dpa(_) => "dpa",
            Self::MustLite(_) => "must_lite",
            Self::Cpl(_) => "cpl",
            Self::Official | Self::Paper | Self::Demo | Self::Ueo | Self::Nola => "official",
        };
        NAMES.iter().find(|(_, preset)| *preset == self).map_or(method, |(name, _)| name)
    }

    /// The preset of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, preset)| *preset)
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// What there is to choose from, in one line.
    pub fn parse(name: &str) -> Result<Self, String> {
        let names: Vec<String> = NAMES.iter().map(|(known, _)| (*known).to_string()).collect();
        let near = closest(name, &names).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        let (method, variant) = name.split_once(':').unwrap_or((name, ""));
        let sets: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(method)?.strip_prefix(':')).collect();
        Self::from_name(name).ok_or_else(|| match sets.is_empty() || variant.is_empty() {
            true => format!(
                "there is no preset {name}{near}: official, paper, demo, dpa, must_lite, cpl, ueo, nola, or one of a table, as dpa:eurosat"
            ),
            false => format!("{method} has no values for {variant}{near}: {}; {method} alone is for pictures of your own", sets.join(", ")),
        })
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The settings of both stages.
    pub(super) fn stages(self) -> (TextClassifierConfig, FinetuneConfig) {
        match self {
            Self::Official => (TextClassifierConfig::official(), FinetuneConfig::official()),
            Self::Paper => (TextClassifierConfig::paper(), FinetuneConfig::paper()),
            Self::Demo => (
                // features 64 wide need larger steps, and more noise for the same distance, than CLIP's 512; more epochs, so that
                // the head forgets the seed of its first weights
                TextClassifierConfig { epochs: 1000, learning_rate: 5e-3, noise: 0.3, ..TextClassifierConfig::official() },
                // views of 40 pixels hold 25 patches: two prompts, mild crops, no blur
                FinetuneConfig {
                    epochs: 16,
                    learning_rate: 1e-3,
                    prompts: 2,
                    strong: StrongConfig { scale: (0.85, 1.0), blur_p: 0.0, ..StrongConfig::simsiam() },
                    normalize_student: true,
                    ..FinetuneConfig::official()
                },
            ),
            Self::Dpa(set) => (class_means(), dpa(set)),
            Self::MustLite(set) => (class_means(), must_lite(set)),
            Self::Cpl(set) => (TextClassifierConfig::official(), cpl(set)),
            Self::Ueo => (class_means(), ueo()),
            Self::Nola => (class_means(), nola()),
        }
    }
}

/// The text classifier is the mean text feature of each class.
fn class_means() -> TextClassifierConfig {
    TextClassifierConfig { start: TextStart::ClassMeans, epochs: 0, ..TextClassifierConfig::official() }
}

/// `scripts` and `utils` of Externalhappy/DPA, for ViT-B/32.
fn dpa(set: Option<TableSet>) -> FinetuneConfig {
    // learning rate, share a of the prototypes, sharpness w and weight of the alignment
    let (learning_rate, share, scale, alignment) = match set {
        Some(ImageNet) => (1e-6, 0.5, 100.0, 1.0),
        Some(Caltech101) => (1e-4, 0.5, 100.0, 1.0),
        Some(Dtd) => (5e-5, 0.2, 100.0, 1.0),
        Some(EuroSat) => (3e-5, 0.5, 1.0, 0.01),
        Some(Aircraft) => (3e-6, 0.5, 100.0, 1.0),
        Some(Food101) => (1e-6, 0.2, 100.0, 1.0),
        Some(Flowers102) => (1e-4, 0.5, 1.0, 1.0),
        Some(Pets) => (7e-5, 0.01, 100.0, 1.0),
        Some(Sun397) => (1e-6, 0.5, 100.0, 1.0),
        Some(Cars) => (5e-6, 0.5, 100.0, 1.0),
        Some(Cifar10) => (8e-5, 0.1, 100.0, 0.1),
        Some(Cifar100) => (1e-5, 0.2, 100.0, 1.0),
        Some(Ucf101) => (1e-5, 0.5, 100.0, 1.0),
        Some(Gtsrb) | None => (5e-5, 0.5, 100.0, 1.0),
    };
    let fairness = if set == Some(Sun397) { 0.2 } else { 1.0 };
    FinetuneConfig {
        epochs: if matches!(set, Some(EuroSat | Aircraft)) { 10 } else { 15 },
        batch_size: 64,
        keep_last: true,
        learning_rate,
        weight_decay: 0.1,
        schedule: LrSchedule::Cosine { warmup: 0, floor: 2e-6 / learning_rate }, // to 2e-6, which is more than some begin with
        label_smoothing: 0.0,
        prompts: 0,
        head_form: HeadForm::Cosine { scale: 100.0 },
        teacher_head: TeacherHead::Shared,
        refine: vec![
            RefineKind::Align(Align::default()),
            RefineKind::Prototypes(Prototypes { share, ..Prototypes::default() }),
            RefineKind::Relative(Relative {}),
        ],
        objective: vec![
            (1.0, TermKind::CrossEntropy(CrossEntropy {})),
            (fairness, TermKind::Fairness(Fairness { averaged: false })),
            (alignment, TermKind::Alignment(Alignment { scale })),
        ],
        weak_crop: WeakCrop::Random,
        strong: StrongConfig::dpa(),
        ..FinetuneConfig::official()
    }
}

/// Thresholds and averages of salesforce/MUST.
fn must_lite(set: Option<TableSet>) -> FinetuneConfig {
    let (above, start, warm) = match set {
        Some(ImageNet | Food101) => (0.7, 0.999, 2000),
        Some(Sun397) => (0.4, 0.99, 500),
        Some(Gtsrb) => (0.3, 0.99, 500),
        Some(Dtd) => (0.4, 0.99, 100),
        Some(Pets | Caltech101) => (0.7, 0.99, 100),
        _ => (0.5, 0.99, 500), // UCF-101's
    };
    let fairness = if set == Some(Sun397) { 0.2 } else { 1.0 };
    FinetuneConfig {
        epochs: 30,
        batch_size: 64,
        learning_rate: 5e-5,
        label_smoothing: 0.0,
        head_form: HeadForm::Cosine { scale: 100.0 },
        teacher: TeacherKind::Ema(Ema { start, warm, ..Ema::default() }),
        teacher_head: TeacherHead::Shared,
        refine: vec![RefineKind::Threshold(Threshold { above, over: Over::Kept })],
        objective: vec![
            (1.0, TermKind::CrossEntropy(CrossEntropy {})),
            (fairness, TermKind::Fairness(Fairness { averaged: set == Some(ImageNet) })), // from 512 classes on
        ],
        ..FinetuneConfig::official()
    }
}

/// α and γ of CPL's experiments within LaFTer; all else is LaFTer's.
fn cpl(set: Option<TableSet>) -> FinetuneConfig {
    let (alpha, gamma) = match set {
        Some(Caltech101) => (0.9, 0.5),
        Some(Cifar100 | Flowers102) => (0.9, 0.75),
        Some(Dtd) => (0.45, 1.0),
        Some(Ucf101) => (0.45, 0.5),
        _ => (0.6, 0.75), // EuroSAT's
    };
    FinetuneConfig {
        temperature: 0.25,
        refine: vec![RefineKind::Candidates(Candidates { alpha, gamma, ..Candidates::default() })],
        objective: vec![(1.0, TermKind::Candidates(CandidateClasses {}))],
        ..FinetuneConfig::official()
    }
}

fn ueo() -> FinetuneConfig {
    FinetuneConfig {
        epochs: 5,
        batch_size: 64,
        learning_rate: 1e-4,
        prompts: 0,
        tune_head: false,
        head_form: HeadForm::Cosine { scale: 100.0 },
        teacher: TeacherKind::Untuned,
        objective: vec![(1.0, TermKind::Information(Information { weighted: true, ..Information::default() }))],
        augment: false,
        ..FinetuneConfig::official()
    }
}

/// `trainers/NoLA.py` of fazliimam/NoLA.
fn nola() -> FinetuneConfig {
    let batch_size = 50;
    FinetuneConfig {
        batch_size,
        learning_rate: 7.8e-6 * batch_size as f64,
        prompts: 16,
        teacher: TeacherKind::Labeler(Labeler::default()),
        strong: StrongConfig::nola(),
        ..FinetuneConfig::official()
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LafterConfig;

    #[test]
    fn each_has_a_name_works_and_is_written_and_read() {
        for (name, preset) in NAMES {
            let config = LafterConfig::new(preset);
            config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((preset.name(), Preset::from_name(name)), (name, Some(preset)));
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<LafterConfig>(&written).unwrap(), config, "{written}");
            assert!(written.starts_with(&format!("{{\"preset\":\"{name}\"")), "{written}");
        }
        assert_eq!(Preset::Cpl(Some(Gtsrb)).name(), "cpl");
    }

    #[test]
    fn unknown_ones_say_what_there_is() {
        for (name, says) in
            [("papers", "official"), ("dpa:eurosta", "did you mean dpa:eurosat"), ("cpl:pets", "flowers102"), ("ueo:x", "ueo")]
        {
            let error = Preset::parse(name).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    /// The rows of DPA's table differ where it says so.
    #[test]
    fn variants_have_the_values_of_their_row() {
        let (own, eurosat, sun) = (dpa(None), dpa(Some(EuroSat)), dpa(Some(Sun397)));
        assert_eq!((own.learning_rate, own.epochs, eurosat.learning_rate, eurosat.epochs), (5e-5, 15, 3e-5, 10));
        assert_eq!(own.refine, eurosat.refine);
        assert_ne!(own.refine, dpa(Some(Dtd)).refine);
        assert_eq!(eurosat.objective[2], (0.01, TermKind::Alignment(Alignment { scale: 1.0 })));
        assert_eq!((sun.objective[1].0, sun.schedule), (0.2, LrSchedule::Cosine { warmup: 0, floor: 2.0 })); // it rises
    }
}
