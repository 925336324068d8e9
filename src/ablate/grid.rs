//! The grid: factors, their levels, seeds, and the cells they make.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::shard::Shard;
use crate::device::kind;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::settings::LafterConfig;

type Change = Arc<dyn Fn(&mut Experiment) -> Result<()> + Send + Sync>;

/// One value of a factor: what the table calls it and what it changes.
#[derive(Clone)]
struct Level {
    label: String,
    change: Change,
}

/// A grid of runs over a base: every combination of the factors' levels, with every seed.
///
/// ```no_run
/// use lafter::{ablate::Ablation, clip::Clip, experiment::Experiment};
/// let base = Experiment::demo(Clip::demo()?, 7777)?;
/// let study = Ablation::new(base)
///     .vary("noise", [0.0, 0.1, 1.0], |config, noise| config.text.noise = noise)
///     .vary("prompts", [0, 2, 8], |config, prompts| config.tune.prompts = prompts)
///     .seeds(3)
///     .out("study")
///     .run(|_| {})?;
/// println!("{}", study.table());
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct Ablation {
    base: Experiment,
    factors: Vec<(String, Vec<Level>)>,
    seeds: usize,
    pub(super) out: Option<PathBuf>,
    pub(super) jobs: usize,
    pub(super) shard: Shard,
}

/// One run of a grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Factor and level, in the order of the factors.
    pub settings: Vec<(String, String)>,
    /// The base with those settings and this run's seed.
    pub experiment: Experiment,
}

impl Ablation {
    /// A grid with the base as its only setting.
    pub fn new(base: Experiment) -> Self {
        Self { base, factors: Vec::new(), seeds: 1, out: None, jobs: 1, shard: Shard::WHOLE }
    }

    /// Adds a factor over any field of the settings; the table calls a level by its value.
    pub fn vary<V>(
        self,
        factor: &str,
        values: impl IntoIterator<Item = V>,
        set: impl Fn(&mut LafterConfig, V) + Send + Sync + 'static,
    ) -> Self
    where
        V: fmt::Display + Clone + Send + Sync + 'static,
    {
        self.vary_experiment(factor, values, move |experiment, value| {
            set(&mut experiment.config, value);
            Ok(())
        })
    }

    /// Adds a factor over anything in the run: its texts, its images, its model.
    pub fn vary_experiment<V>(
        mut self,
        factor: &str,
        values: impl IntoIterator<Item = V>,
        set: impl Fn(&mut Experiment, V) -> Result<()> + Send + Sync + 'static,
    ) -> Self
    where
        V: fmt::Display + Clone + Send + Sync + 'static,
    {
        let set = Arc::new(set);
        let level = |value: V| {
            let set = set.clone();
            Level { label: value.to_string(), change: Arc::new(move |experiment| set(experiment, value.clone())) }
        };
        self.factors.push((factor.to_string(), values.into_iter().map(level).collect()));
        self
    }

    /// Leaves only these levels of a factor, named as the table names them: a part of [`paper`](super::paper) or
    /// [`methods`](super::methods). An order other than theirs changes nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] for a factor or a level that the grid does not have.
    ///
    /// ```
    /// use lafter::{ablate, clip::Clip, experiment::Experiment};
    /// let grid = ablate::paper(Experiment::demo(Clip::demo()?, 7777)?, &[0.1]).only("image stage", &["none", "both"])?;
    /// assert_eq!(grid.cells()?.len(), ablate::TextSource::ALL.len() * 2);
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn only(mut self, factor: &str, levels: &[impl AsRef<str>]) -> Result<Self> {
        let factors = self.factors().join(", ");
        let Some((_, own)) = self.factors.iter_mut().find(|(name, _)| name == factor) else {
            return Err(Error::Usage(format!("the grid has no factor {factor:?}, but {factors}: only these have levels to choose from")));
        };
        if let Some(other) = levels.iter().find(|level| own.iter().all(|own| own.label != level.as_ref())) {
            let labels = own.iter().map(|level| level.label.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("{factor} has no level {:?}: its levels are {labels}", other.as_ref())));
        }
        own.retain(|own| levels.iter().any(|level| own.label == level.as_ref()));
        Ok(self)
    }

    /// Runs each setting with `count` seeds, counted from the base's (default 1).
    pub fn seeds(mut self, count: usize) -> Self {
        self.seeds = count.max(1);
        self
    }

    /// Keeps each cell's report in `folder` and never runs a finished cell again.
    pub fn out(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out = Some(folder.into());
        self
    }

    /// Runs up to `jobs` cells at a time, as far as memory allows (default 1; on a GPU there is no more).
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Runs one part of the grid only (default: all of it).
    pub fn shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Two cells of one name would overwrite each other.
    fn check(&self) -> Result<()> {
        for (i, (factor, levels)) in self.factors.iter().enumerate() {
            if self.factors[..i].iter().any(|(other, _)| other == factor) {
                return Err(Error::Usage(format!("the factor {factor} stands twice: give all its levels at once")));
            }
            if levels.is_empty() {
                return Err(Error::Usage(format!("the factor {factor} has no level: give at least one value")));
            }
            if let Some((_, level)) = levels.iter().enumerate().find(|(at, level)| levels[..*at].iter().any(|l| l.label == level.label)) {
                return Err(Error::Usage(format!("{factor}={} stands twice: leave one out", level.label)));
            }
        }
        Ok(())
    }

    /// Names of the factors.
    pub fn factors(&self) -> Vec<String> {
        self.factors.iter().map(|(name, _)| name.clone()).collect()
    }

    /// All runs of the whole grid: settings in the order of the factors, the last varying fastest, seeds innermost. A factor
    /// named `preset` is applied before all others. Runs share pictures, texts and weights, so a large grid takes little memory.
    ///
    /// # Errors
    /// [`Error::Usage`] for a factor or level given twice, a factor without levels, or settings that a run would refuse;
    /// [`Error::Text`] if a factor leaves a run without texts.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        self.check()?;
        // a preset brings settings with it, which the other factors change: it comes first, wherever it stands
        let mut order: Vec<usize> = (0..self.factors.len()).collect();
        order.sort_by_key(|factor| self.factors[*factor].0 != "preset");
        let mut settings = vec![(vec![0; self.factors.len()], self.base.clone())];
        for factor in order {
            let levels = &self.factors[factor].1;
            let mut next = Vec::with_capacity(settings.len() * levels.len());
            for (places, experiment) in &settings {
                for (place, level) in levels.iter().enumerate() {
                    let (mut places, mut experiment): (Vec<usize>, Experiment) = (places.clone(), experiment.clone());
                    (level.change)(&mut experiment)?;
                    places[factor] = place;
                    next.push((places, experiment));
                }
            }
            settings = next;
        }
        settings.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut cells = Vec::with_capacity(settings.len() * self.seeds);
        for (places, experiment) in settings {
            experiment.config.validate()?;
            let levels = self.factors.iter().zip(places);
            let settings: Vec<_> = levels.map(|((factor, levels), place)| (factor.clone(), levels[place].label.clone())).collect();
            for seed in 0..self.seeds as u64 {
                let mut experiment = experiment.clone();
                experiment.config.seed = experiment.config.seed.wrapping_add(seed);
                cells.push(Cell { settings: settings.clone(), experiment });
            }
        }
        Ok(cells)
    }
}

impl Cell {
    /// "noise=0.1 prompts=2 seed=7777".
    pub fn name(&self) -> String {
        let settings = self.settings.iter().map(|(factor, level)| format!("{factor}={level} "));
        format!("{}seed={}", settings.collect::<String>(), self.experiment.config.seed)
    }

    /// The folder of its results: its name and a hash of everything that decides them (`data`: the fingerprints of both data sets,
    /// then those of the files of stored answers that it names), with the kind of device, so that a finished cell is found again however
    /// the grid around it changes, and never taken for another. Where pictures and model lie decides nothing; with `paths` it does, as in
    /// older studies.
    pub(super) fn folder(&self, data: &[String], paths: bool) -> String {
        let mut settings = self.experiment.settings();
        for place in ["model", "train", "test"].iter().filter(|_| !paths) {
            settings[place] = Value::Null;
        }
        let mut decisive = vec![settings, json!(data), json!(self.experiment.config.seed), json!(env!("CARGO_PKG_VERSION"))];
        let device = self.experiment.clip.device();
        decisive.extend((!device.is_cpu()).then(|| json!(kind(device)))); // none on a CPU, as in the names of older studies
        let decisive = Value::from(decisive);
        let hash = format!("{:x}", Sha256::digest(decisive.to_string()));
        let safe = |c: char| if c.is_ascii_alphanumeric() || "=.-".contains(c) { c } else { '-' };
        let name: String = self.name().chars().map(safe).take(80).collect();
        format!("{name}-{}", &hash[..12])
    }
}

impl fmt::Debug for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let factors: Vec<String> = self.factors.iter().map(|(name, levels)| format!("{name} ({})", levels.len())).collect();
        write!(f, "Ablation({}, {} seeds)", factors.join(" × "), self.seeds)
    }
}
