//! The settings of stage two.

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::bank::Bank;
use super::biases::Biases;
use super::head_form::HeadForm;
use super::low_rank::{LowRankConfig, LowRankUpdates};
use super::objective::{CrossEntropy, TermKind};
use super::refine::RefineKind;
use super::role::{Flow, What};
use super::sets::{HeadWeights, Norms, ParameterSet, Prompts};
use super::strong::StrongConfig;
use super::teacher::{Labeler, TeacherKind};
use super::weak_crop::WeakCrop;
use crate::augment::{Preprocess, StrongAugment};
use crate::classify::{MOST_EPOCHS, optimizer_fault};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{LrSchedule, Precision};

/// No tower has as many patches; a larger number is a mistake that would take the memory of the machine.
const MOST_PROMPTS: usize = 10_000;
/// Scales and weights above this, and temperatures below its inverse, leave what f32 can tell apart.
pub(super) const LARGEST: f64 = 1e6;

/// Whose head gives the pseudo-labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherHead {
    /// A frozen copy of the text classifier: the released code.
    Frozen,
    /// The head that is being tuned: the paper's f_θ in eq. 3.
    Shared,
}

/// How the vision tower is tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")] // `older` reads what earlier versions wrote
pub struct FinetuneConfig {
    /// Passes over the images, up to 10 million; default 50.
    pub epochs: usize,
    /// Images per step, at least 1. Default 50.
    pub batch_size: usize,
    /// Whether an epoch's last, smaller batch is taken, too, instead of being dropped. A set smaller than one batch is always taken.
    /// Default false.
    #[serde(default)]
    pub keep_last: bool,
    /// η, the base learning rate of AdamW, above 0 and up to 100; default 5e-4.
    pub learning_rate: f64,
    /// λ, the weight decay of AdamW, at least 0 with η λ ≤ 1, on visual prompts, norm scales and head weights; biases and norm
    /// shifts are exempt. Default 0.01.
    pub weight_decay: f64,
    /// The factor on the learning rate, step by step: `constant`, `{"warmup": {"warmup": 10}}` (steps) or
    /// `{"cosine": {"warmup": 10, "floor": 0}}`, floor 0 to 2; default constant.
    pub schedule: LrSchedule,
    /// ε of the smoothed cross entropy, 0 ≤ ε < 1; default 0.1.
    pub label_smoothing: f64,
    /// N_P, the number of visual prompts, up to 10,000; 0 tunes without any. Default 50.
    pub prompts: usize,
    /// Whether every block gets new prompts (VPT-deep), instead of the first only; refused with 0 prompts. Default false.
    pub deep_prompts: bool,
    /// Whether scale and shift of the vision tower's layer norms learn; default true.
    pub tune_norms: bool,
    /// Whether the biases of the vision tower's attention and perceptrons learn (BitFit); on a processor not with bf16. Default false.
    #[serde(default)]
    pub tune_biases: bool,
    /// Low-rank updates of attention projections (LoRA), as JSON: {"rank": 4, "alpha": 8}, both optional, and "of", a list of query,
    /// key, value and output, query and value without it. The rank is 1 to 4096 and at most the tower's width, alpha above 0 and up to
    /// 10,000. Default null, none.
    #[serde(default)]
    pub low_rank: Option<LowRankConfig>,
    /// Whether the head learns; default true.
    #[serde(default = "yes")]
    pub tune_head: bool,
    /// What becomes of the text classifier as the head: `plain`, its logits as they are, or {"cosine": {"scale": 100}}, 100 times
    /// the cosines of features and weights (the scale is above 0 and up to a million); default plain.
    #[serde(default)]
    pub head_form: HeadForm,
    /// Whose tower gives the pseudo-labels ĉ(x) of eq. 3: `tower`, the one that is tuned, `untuned`, that of the CLIP as it came, or
    /// {"ema": {"start": 0.999, "end": 0.9998, "warm": 500}}, an average of the tuned one over its steps,
    /// {"bank": {"file": "answers.safetensors"}}, another encoder's stored answers, {"labeler": {"file": "features.safetensors"}}, a
    /// small classifier on stored features, or {"transduct": "stata"}, a transductive method's answers to all pictures before training;
    /// default the tower that is tuned.
    #[serde(default)]
    pub teacher: TeacherKind,
    /// Which head gives the pseudo-labels ĉ(x) of eq. 3: `frozen`, a copy of the text classifier, or `shared`, the head that is
    /// tuned; default the frozen one.
    pub teacher_head: TeacherHead,
    /// T, by which the teacher's logits are divided before their softmax, 1e-6 to 1e6: a smaller one makes the same pseudo-labels
    /// surer. Default 1.
    #[serde(default = "one")]
    pub temperature: f64,
    /// The rules that pseudo-labels pass before the loss, in their order, as a JSON list of objects such as
    /// {"threshold": {"above": 0.7}}: each a [`RefineKind`]; default none.
    #[serde(default)]
    pub refine: Vec<RefineKind>,
    /// The loss of eq. 4 as a JSON list of weights and terms, each a [`TermKind`], each with its own settings in braces;
    /// default cross entropy alone.
    #[serde(default = "cross_entropy")]
    pub objective: Vec<(f64, TermKind)>,
    /// Whether the student's features are unit-normalized before the head; default false.
    pub normalize_student: bool,
    /// Whether the student sees strong views (the weak view otherwise: an ablation); default true.
    pub augment: bool,
    /// Which part of the resized picture the weak view of training is: `center`, as at inference, or `random`, anywhere (DPA); default
    /// center.
    #[serde(default)]
    pub weak_crop: WeakCrop,
    /// The strong view; default the released code's.
    #[serde(default)]
    pub strong: StrongConfig,
    /// Whether a GPU makes the strong views itself, bit for bit as the processor does, which is then left with reading pictures and with
    /// weak views; refused on other devices. Default false.
    #[serde(default)]
    pub views_on_gpu: bool,
    /// Epochs between two evaluations on the test set, default 1; 0 evaluates only after the last.
    pub eval_every: usize,
    /// Share of unreadable images above which the run fails, 0 to 1; default 0.05.
    pub max_unreadable: f64,
    /// Images of a step that are in memory with all that their gradients need at a time, at least 1: the gradients of the parts are
    /// summed, and the result is that of the whole batch but for rounding. Terms that need all pictures together (fairness, alignment,
    /// information) cost one more forward pass then; default null, the whole batch.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// The number format in which the tower's frozen layers multiply, `f32` or `bf16`, whatever the CLIP was loaded in; default
    /// f32.
    #[serde(default)]
    pub precision: Precision,
}

impl FinetuneConfig {
    /// The released code, which produced the published numbers.
    pub fn official() -> Self {
        Self {
            epochs: 50,
            batch_size: 50,
            keep_last: false,
            learning_rate: 5e-4,
            weight_decay: 0.01,
            schedule: LrSchedule::Constant,
            label_smoothing: 0.1,
            prompts: 50,
            deep_prompts: false,
            tune_norms: true,
            tune_biases: false,
            low_rank: None,
            tune_head: yes(),
            head_form: HeadForm::Plain,
            teacher: TeacherKind::Tower,
            teacher_head: TeacherHead::Frozen,
            temperature: one(),
            refine: Vec::new(),
            objective: cross_entropy(),
            normalize_student: false,
            augment: true,
            weak_crop: WeakCrop::Center,
            strong: StrongConfig::simsiam(),
            views_on_gpu: false,
            eval_every: 1,
            max_unreadable: 0.05,
            micro_batch: None,
            precision: Precision::F32,
        }
    }

    /// The paper's text: the head of eq. 3 is the head of eq. 4, SimSiam's blur; what it leaves open is as in
    /// [`official`](Self::official).
    pub fn paper() -> Self {
        Self { teacher_head: TeacherHead::Shared, strong: StrongConfig::paper(), ..Self::official() }
    }

    /// α_h: the strong view at the side, mean and standard deviation of the weak view. If [`augment`](Self::augment) is off, the strong
    /// view that is nearest to the weak one; a [`Run`](super::Run) then takes the weak view itself.
    pub fn strong_view(&self, weak: &Preprocess) -> StrongAugment {
        if self.augment { self.strong.view(weak) } else { StrongAugment::none(weak.side()).normalized_like(weak) }
    }

    /// What learns: visual prompts, the norms and the head if they are tuned, and if asked for biases and low-rank updates.
    pub fn sets(&self) -> Vec<Box<dyn ParameterSet>> {
        let mut sets: Vec<Box<dyn ParameterSet>> = vec![Box::new(Prompts)];
        if self.tune_norms {
            sets.push(Box::new(Norms));
        }
        if self.tune_head {
            sets.push(Box::new(HeadWeights));
        }
        if self.tune_biases {
            sets.push(Box::new(Biases));
        }
        if self.low_rank.is_some() {
            sets.push(Box::new(LowRankUpdates));
        }
        sets
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`] for the first setting that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Usage(format!("tuning: {what}")));
        if self.batch_size == 0 {
            return wrong("batch size must be at least 1".into());
        }
        if self.micro_batch == Some(0) {
            return wrong("micro batch must be at least 1, or null for the whole batch".into());
        }
        if self.epochs > MOST_EPOCHS {
            return wrong(format!("at most {MOST_EPOCHS} epochs, got {}", self.epochs));
        }
        if self.prompts > MOST_PROMPTS {
            return wrong(format!("at most {MOST_PROMPTS} visual prompts, got {}", self.prompts));
        }
        if let Some(fault) = optimizer_fault(self.learning_rate, self.weight_decay, self.label_smoothing, &self.schedule) {
            return wrong(fault);
        }
        // the fields of the strong view count also if it is left out: they are in the report
        self.strong.view(&Preprocess::clip(224)).validate()?;
        if !(1.0 / LARGEST..=LARGEST).contains(&self.temperature) {
            return wrong(format!("temperature must lie in [1e-6, 1e6], got {}", self.temperature));
        }
        if let Some(fault) = self.low_rank.as_ref().and_then(|set| set.check().err()) {
            return wrong(fault);
        }
        let rules = self.refine.iter().map(RefineKind::check);
        let blocks = std::iter::once(self.teacher.check()).chain(rules).chain(self.objective.iter().map(|(_, term)| term.check()));
        if let Some(fault) = blocks.filter_map(std::result::Result::err).next() {
            return wrong(fault);
        }
        if let Some((weight, term)) = self.objective.iter().find(|(weight, _)| !(*weight > 0.0 && *weight <= LARGEST)) {
            let name = term.name();
            return wrong(format!("the objective weighs {name} by {weight}: give it a weight above 0 and at most 1e6, or leave it out"));
        }
        if self.objective.is_empty() {
            return wrong("the objective has no term: give it at least cross_entropy".into());
        }
        if let Some(fault) = self.flow_fault().or_else(|| self.idle_fault().map(Into::into)) {
            return wrong(fault);
        }
        if let HeadForm::Cosine { scale } = self.head_form
            && !(scale > 0.0 && scale <= LARGEST)
        {
            return wrong(format!("the scale of a cosine head must be above 0 and at most 1e6, got {scale}"));
        }
        if self.prompts == 0 && self.sets().len() == 1 {
            return wrong("nothing learns: give it prompts, norms, the head, biases or low-rank updates".into());
        }
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return wrong(format!("the tolerated share of unreadable images must lie in [0, 1], got {}", self.max_unreadable));
        }
        Ok(())
    }
}

impl FinetuneConfig {
    /// Whether the device can do what is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] for [`views_on_gpu`](Self::views_on_gpu) on another device, and for [`tune_biases`](Self::tune_biases) with
    /// bf16 on a processor, which packs weights for bf16 together with biases that stay.
    pub fn check_device(&self, device: &Device) -> Result<()> {
        let fault = match (self.views_on_gpu && !device.is_cuda(), device.is_cpu() && self.tune_biases && self.precision == Precision::Bf16)
        {
            (true, _) => "views_on_gpu is set, but the CLIP is not on a GPU: leave it off, or take --device cuda",
            (_, true) => "on a processor, layers whose biases learn multiply in f32: leave precision f32, or tune_biases false",
            _ => return Ok(()),
        };
        Err(Error::Usage(format!("tuning: {fault}")))
    }

    /// The files of stored answers and features that the settings name.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let of_teacher = match &self.teacher {
            TeacherKind::Bank(bank) => Some(&bank.file),
            TeacherKind::Labeler(labeler) => labeler.file.as_ref(),
            _ => None,
        };
        let of_terms = self.objective.iter().filter_map(|(_, term)| match term {
            TermKind::Distillation(term) => Some(&term.file),
            _ => None,
        });
        of_teacher.into_iter().chain(of_terms).map(PathBuf::as_path).collect()
    }

    /// Whether the stored answers that the settings name fit these pictures and classes, before any work.
    ///
    /// # Errors
    /// As [`Bank::read`], [`Bank::answers`], [`Bank::check_classes`] and [`Bank::features`].
    pub fn check_pictures(&self, pictures: &Dataset, classes: &[String]) -> Result<()> {
        let answers = |file: &Path| {
            let bank = Bank::read(file)?;
            bank.check_classes(classes)?;
            bank.answers(pictures, classes.len()).map(drop)
        };
        match &self.teacher {
            TeacherKind::Bank(bank) => answers(&bank.file)?,
            TeacherKind::Labeler(Labeler { file: Some(file), .. }) => drop(Bank::read(file)?.features(pictures)?),
            _ => {}
        }
        self.objective.iter().try_for_each(|(_, term)| match term {
            TermKind::Distillation(term) => answers(&term.file),
            _ => Ok(()),
        })
    }

    /// What a block needs and no block before it gives, or gives and no block after it needs; blocks that do not go together.
    fn flow_fault(&self) -> Option<String> {
        let rules: Vec<(String, &dyn Flow)> = self.refine.iter().map(|rule| (rule.name(), rule.flow())).collect();
        let terms: Vec<(String, &dyn Flow)> = self.objective.iter().map(|(_, term)| (term.name(), term.flow())).collect();
        let mut given = vec![What::Answers, What::Labels, What::Weights];
        for (name, flow) in rules.iter().chain(&terms) {
            if let Some(missing) = flow.needs().iter().find(|need| !given.contains(need)) {
                return Some(format!("{name} {}", missing.remedy()));
            }
            given.extend(flow.gives());
        }
        let mut read: Vec<What> = terms.iter().flat_map(|(_, flow)| flow.needs().iter().copied()).collect();
        for (name, flow) in rules.iter().rev() {
            if !flow.chooses() && !flow.gives().iter().any(|given| read.contains(given)) {
                return Some(format!(
                    "{name} changes what no rule after it and no term of the objective reads: leave it out, move it, or give the \
                     objective cross_entropy"
                ));
            }
            read.retain(|what| !flow.gives().contains(what)); // what was there before is replaced, unless the rule itself reads it
            read.extend(flow.needs());
        }
        let subset = self.refine.iter().find(|rule| matches!(rule, RefineKind::TopK(_) | RefineKind::Candidates(_)));
        if let Some(subset) = subset
            && self.refine.iter().any(|rule| matches!(rule, RefineKind::FlexMatch(_)))
        {
            let name = subset.name();
            return Some(format!(
                "flex_match counts the pictures that {name} leaves out as never sure: take free_match, or one of the two"
            ));
        }
        let alignment = |(_, term): &(f64, TermKind)| matches!(term, TermKind::Alignment(_));
        if self.objective.iter().any(alignment) && !self.tune_head {
            return Some("alignment reaches the head alone, and tune_head is false: leave the term out".into());
        }
        let more = self.prompts > 0 || self.sets().len() > 1 + usize::from(self.tune_head);
        (more && self.objective.iter().all(alignment))
            .then(|| "alignment reaches the head alone, and more is to learn: give the objective cross_entropy, too".into())
    }

    /// A setting that would do nothing.
    fn idle_fault(&self) -> Option<&'static str> {
        (self.deep_prompts && self.prompts == 0).then_some("deep_prompts is set, but there are 0 prompts: leave it off, or give it prompts")
    }
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn cross_entropy() -> Vec<(f64, TermKind)> {
    vec![(1.0, TermKind::CrossEntropy(CrossEntropy {}))]
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self::official()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::{Candidates, Fairness, FlexMatch, Over, Threshold, TopK};

    #[test]
    fn every_number_has_its_range() {
        let (official, strong) = (FinetuneConfig::official, StrongConfig::simsiam);
        let threshold = |above| RefineKind::Threshold(Threshold { above, over: Over::Batch });
        let fair = TermKind::Fairness(Fairness { averaged: false });
        let flex = |subset| vec![RefineKind::FlexMatch(FlexMatch::default()), subset];
        official().validate().unwrap();
        let objective = [official().objective, vec![(0.2, fair.clone())]].concat();
        FinetuneConfig { refine: vec![threshold(0.0), threshold(0.5)], objective, temperature: 0.25, ..official() }.validate().unwrap();
        let cosine = |floor| LrSchedule::Cosine { warmup: 3, floor };
        FinetuneConfig { schedule: cosine(0.1), weight_decay: 0.0, epochs: 0, prompts: 0, ..official() }.validate().unwrap();
        for (bad, word) in [
            (FinetuneConfig { batch_size: 0, ..official() }, "batch size"),
            (FinetuneConfig { micro_batch: Some(0), ..official() }, "micro batch"),
            (FinetuneConfig { epochs: usize::MAX, ..official() }, "epochs"),
            (FinetuneConfig { prompts: 1_000_000_000, ..official() }, "prompts"),
            (FinetuneConfig { learning_rate: f64::NAN, ..official() }, "learning rate"),
            (FinetuneConfig { learning_rate: 1e300, ..official() }, "learning rate"),
            (FinetuneConfig { weight_decay: f64::NAN, ..official() }, "weight decay"),
            (FinetuneConfig { weight_decay: -1.0, ..official() }, "weight decay"),
            (FinetuneConfig { weight_decay: 1e6, ..official() }, "weight decay"),
            (FinetuneConfig { label_smoothing: 1.0, ..official() }, "smoothing"),
            (FinetuneConfig { schedule: cosine(7.0), ..official() }, "floor"),
            (FinetuneConfig { schedule: cosine(f64::NAN), ..official() }, "floor"),
            (FinetuneConfig { strong: StrongConfig { scale: (0.5, 0.2), ..strong() }, ..official() }, "scale"),
            (FinetuneConfig { strong: StrongConfig { scale: (f32::NAN, 1.0), ..strong() }, augment: false, ..official() }, "scale"),
            (FinetuneConfig { strong: StrongConfig { blur_p: 1.5, ..strong() }, ..official() }, "blur_p"),
            (FinetuneConfig { strong: StrongConfig { hue: 0.6, ..strong() }, ..official() }, "hue"),
            (FinetuneConfig { strong: StrongConfig { blur_sigma: (0.0, 2.0), ..strong() }, ..official() }, "blur_sigma"),
            (FinetuneConfig { max_unreadable: f64::NAN, ..official() }, "unreadable"),
            (FinetuneConfig { deep_prompts: true, prompts: 0, ..official() }, "deep_prompts"),
            (FinetuneConfig { temperature: 0.0, ..official() }, "temperature"),
            (FinetuneConfig { temperature: f64::NAN, ..official() }, "temperature"),
            (FinetuneConfig { refine: vec![threshold(1.0)], ..official() }, "above"),
            (FinetuneConfig { refine: vec![threshold(0.5), threshold(f64::NAN)], ..official() }, "above"),
            (FinetuneConfig { refine: flex(RefineKind::TopK(TopK::default())), ..official() }, "that top_k leaves out"),
            (FinetuneConfig { refine: flex(RefineKind::Candidates(Candidates::default())), ..official() }, "that candidates leaves out"),
            (FinetuneConfig { objective: Vec::new(), ..official() }, "objective"),
            (FinetuneConfig { low_rank: Some(LowRankConfig { rank: 0, ..LowRankConfig::default() }), ..official() }, "rank"),
            (FinetuneConfig { low_rank: Some(LowRankConfig { alpha: f64::NAN, ..LowRankConfig::default() }), ..official() }, "alpha"),
            (FinetuneConfig { low_rank: Some(LowRankConfig { of: Vec::new(), ..LowRankConfig::default() }), ..official() }, "query"),
            (FinetuneConfig { objective: vec![(-1.0, fair.clone())], ..official() }, "weighs fairness"),
            (FinetuneConfig { objective: vec![(1.0, fair.clone())], refine: vec![threshold(0.5)], ..official() }, "cross_entropy"),
        ] {
            let error = bad.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(word) && !error.to_string().contains('\n'), "{word}: {error}");
        }
    }

    /// A bias is part of a packed layer: where it learns, the weights would be multiplied unrounded, in some layers alone.
    #[test]
    fn biases_and_bf16_are_refused_on_a_processor() {
        let config = FinetuneConfig { tune_biases: true, precision: Precision::Bf16, ..FinetuneConfig::official() };
        assert!(config.check_device(&Device::Cpu).unwrap_err().to_string().contains("tune_biases"));
        for good in [FinetuneConfig { tune_biases: false, ..config.clone() }, FinetuneConfig { precision: Precision::F32, ..config }] {
            good.check_device(&Device::Cpu).unwrap();
        }
    }
}
