//! How much memory a tuning step takes, by formula, and the largest part of a batch that fits a limit.

use candle_core::DType;

use super::config::FinetuneConfig;
use crate::clip::Clip;
use crate::embed::BATCH;
use crate::error::{Error, Result};
use crate::nn::Precision;

/// The memory of a run's tuning steps on a CPU, in bytes, as far as it grows with something: the least that it takes.
///
/// With t = 1 + prompts + patches tokens of width w, hidden layers of h and L blocks, the graph of a picture holds, in f32:
///
/// - (L − 1) t (5 w + h): of each block but the last its input, query, key and value, the sum after attention and fc1's output;
/// - t · 12 w: norm, key and value of the last block, which is computed for the class token alone, and on the way back the gradients of a block's
///   input and output;
/// - patches · (3 patch² + 3 w) + t w: patches, their embedding, and the tokens with prompts.
///
/// If a block's layers are not all frozen f32 on the CPU (biases that learn, low-rank updates, weights in half precision), its operations
/// stand one by one in the graph: t (14 w + 3 h) in each. [`peak`](Self::peak) adds the weights, once more the blocks' for
/// the way back, and the pictures of this batch and of the next ones, which are made ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepMemory {
    /// Weights of the vision tower, its blocks' packed for the way back, the program itself.
    pub fixed: usize,
    /// Each picture of a batch: both views as pixels, those of the next batches as bytes.
    pub waiting: usize,
    /// Each picture that is in the tower with its graph.
    pub with_graph: usize,
    /// Each picture that is in the tower without one.
    pub without_graph: usize,
}

/// Bytes of an f32.
const F32: usize = 4;
/// The program, its threads' stacks and what allocators hold back: what a run of ViT-B/32 at batch 50 took beyond the rest.
const PROGRAM: usize = 320 << 20;
/// Batches whose views wait as bytes: those ready or under way behind the one at work.
const WAITING: usize = 3;

impl StepMemory {
    /// Of steps with these settings on this CLIP.
    pub fn of(clip: &Clip, config: &FinetuneConfig) -> Self {
        let vision = &clip.config().vision;
        let (w, h, blocks) = (vision.width, vision.hidden, vision.layers);
        let patches = (vision.image_size / vision.patch_size.max(1)).pow(2);
        let t = 1 + config.prompts + patches;
        let fused = clip.dtype() == DType::F32 && !config.tune_biases && config.low_rank.is_none();
        let block = if fused { t * (5 * w + h) } else { t * (14 * w + 3 * h) };
        let embedded = patches * (3 * vision.patch_size.pow(2) + 3 * w) + t * w;
        let with_graph = F32 * (blocks.saturating_sub(1) * block + 12 * t * w + embedded);
        let bytes = if clip.dtype() == DType::F32 { F32 } else { clip.dtype().size_in_bytes() };
        let of_blocks = blocks * (4 * w * w + 2 * w * h);
        let around = w * (3 * vision.patch_size.pow(2) + 1 + patches + clip.config().projection); // patches, positions, projection
        let rounded = if config.precision == Precision::Bf16 { 2 * 2 * of_blocks } else { 0 };
        Self {
            fixed: PROGRAM + bytes * (of_blocks + around) + F32 * of_blocks + rounded,
            waiting: 2 * (F32 + WAITING) * 3 * vision.image_size.pow(2),
            with_graph,
            without_graph: F32 * (embedded + t * (5 * w + h)),
        }
    }

    /// The peak of steps on batches of this size, of which so many pictures are worked on at a time.
    pub fn peak(&self, batch: usize, at_once: usize) -> usize {
        let at_once = at_once.min(batch);
        let graphs = at_once.saturating_mul(self.with_graph).max(BATCH * self.without_graph);
        self.fixed.saturating_add(batch.saturating_mul(self.waiting)).saturating_add(graphs)
    }

    /// The most pictures of a batch that fit at a time; `None` if not even one does.
    pub fn fitting(&self, batch: usize, bytes: usize) -> Option<usize> {
        let (mut fits, mut most) = (0, batch.max(1)); // the peak rises with their number
        while fits < most {
            let middle = most - (most - fits) / 2;
            if self.peak(batch, middle) <= bytes { fits = middle } else { most = middle - 1 }
        }
        (fits > 0).then_some(fits)
    }
}

impl FinetuneConfig {
    /// Sets [`micro_batch`](Self::micro_batch) so that tuning on so many pictures stays below so many GiB in each of the processes that
    /// share a batch, by the formula of [`StepMemory`]. Gives one line on what it chose.
    ///
    /// # Errors
    /// [`Error::Usage`] if not even one picture at a time fits, or the limit is no number of GiB; on a GPU, whose memory is not counted
    /// here.
    pub fn fit_memory(&mut self, clip: &Clip, pictures: usize, gib: f64, processes: usize) -> Result<String> {
        const GIB: f64 = (1u64 << 30) as f64;
        if !(gib > 0.0 && gib < 1e6) {
            return Err(Error::Usage(format!("--memory-gib must be above 0, got {gib}")));
        }
        if !clip.device().is_cpu() {
            return Err(Error::Usage("--memory-gib counts the memory of the CPU: on a GPU, give --set tune.micro_batch=N".into()));
        }
        let (memory, batch) = (StepMemory::of(clip, self), self.batch_size.min(pictures).div_ceil(processes.max(1)));
        let of = |at_once: usize| memory.peak(batch, at_once) as f64 / GIB;
        let Some(fitting) = memory.fitting(batch, (gib * GIB) as usize) else {
            let smaller = if batch > 1 { "a smaller batch size, " } else { "" };
            return Err(Error::Usage(format!(
                "--memory-gib {gib}: tuning takes about {:.2} GiB even with one of {batch} pictures at a time: choose {smaller}fewer prompts or a smaller model",
                of(1)
            )));
        };
        self.micro_batch = (fitting < batch).then_some(fitting);
        Ok(match self.micro_batch {
            None => format!("--memory-gib {gib}: steps of {batch} pictures take about {:.2} GiB at once", of(batch)),
            Some(part) => format!(
                "--memory-gib {gib}: steps of {batch} pictures would take about {:.2} GiB, so they are taken in parts of {part}: about {:.2} GiB",
                of(batch),
                of(part)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::classify::{Head, TextClassifier};
    use crate::eval::peak_rss_bytes;
    use crate::rng::Rng;
    use crate::tune::Finetuner;

    const BATCH: usize = 192;
    const PARTS: &str = "LAFTER_TEST_PARTS";
    const BIASES: &str = "LAFTER_TEST_BIASES";

    fn config(parts: usize, biases: bool) -> FinetuneConfig {
        FinetuneConfig { micro_batch: Some(parts), tune_biases: biases, ..FinetuneConfig::official() }
    }

    /// What a step adds to the memory of a process of its own at most, if the batch is taken in parts of this size.
    fn measured(parts: usize, biases: bool) -> f64 {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tune::memory::tests::the_formula_is_what_is_measured", "--nocapture"]);
        child.env("MALLOC_MMAP_THRESHOLD_", "65536").env(PARTS, parts.to_string()); // what is freed is given back
        if biases {
            child.env(BIASES, "1");
        }
        let said = String::from_utf8_lossy(&child.output().unwrap().stdout).into_owned();
        let peak = said.split_once("peak ").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        peak.unwrap_or_else(|| panic!("{said}"))
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_formula_is_what_is_measured() {
        let clip = Clip::demo().unwrap();
        if let Some(parts) = std::env::var_os(PARTS) {
            let parts = parts.to_str().unwrap().parse().unwrap();
            let head = Head::linear(clip.config().projection, 12, &mut Rng::new(3), clip.device()).unwrap();
            let config = config(parts, std::env::var_os(BIASES).is_some());
            let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(4)).unwrap();
            let side = clip.config().vision.image_size;
            let view = |seed| Rng::new(seed).normal_tensor((BATCH, 3, side, side), 1.0, clip.device()).unwrap();
            let (weak, strong) = (view(5), view(6));
            tuner.step(&weak.narrow(0, 0, 2).unwrap(), &strong.narrow(0, 0, 2).unwrap()).unwrap();
            // the peak from here on
            let before = std::fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| peak_rss_bytes());
            tuner.step(&weak, &strong).unwrap();
            println!("peak {}", before.map_or(f64::NAN, |before| (peak_rss_bytes().unwrap() - before) as f64));
            return;
        }
        for (biases, most) in [(false, 1.2), (true, 1.5)] {
            let slope = (measured(BATCH, biases) - measured(24, biases)) / (BATCH - 24) as f64;
            let formula = StepMemory::of(&clip, &config(1, biases)).with_graph as f64;
            println!("biases {biases}: {slope:.0} bytes a picture, the formula says {formula:.0}: {:.3}", formula / slope);
            // a system that does not let a process measure itself anew says nothing
            assert!(slope.is_nan() || (0.95..most).contains(&(formula / slope)), "measured {slope}, formula {formula}");
        }
    }

    #[test]
    fn the_largest_part_that_fits_is_taken_and_what_cannot_fit_is_refused() {
        let clip = Clip::demo().unwrap();
        let mut config = FinetuneConfig { batch_size: 200, ..FinetuneConfig::official() };
        let memory = StepMemory::of(&clip, &config);
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        let said = config.fit_memory(&clip, 1000, gib(memory.peak(200, 120) + 1), 1).unwrap();
        assert!(config.micro_batch == Some(120) && said.contains("parts of 120") && !said.contains('\n'), "{said}");
        config.fit_memory(&clip, 1000, gib(memory.peak(50, 30) + 1), 4).unwrap();
        assert_eq!(config.micro_batch, Some(30), "of a quarter of the batch");
        for batch_size in [200, 3_000_000, usize::MAX] {
            let mut large = FinetuneConfig { batch_size, ..config.clone() };
            large.fit_memory(&clip, 60, gib(memory.peak(60, 40) + 1), 1).unwrap();
            assert_eq!(large.micro_batch, Some(40), "no batch is larger than the set");
        }
        assert_eq!((memory.fitting(usize::MAX, usize::MAX - 1), memory.peak(usize::MAX, 1)), (None, usize::MAX));
        let said = config.fit_memory(&clip, 1000, 64.0, 1).unwrap();
        assert!(config.micro_batch.is_none() && said.contains("at once"), "{said}");
        for (bad, word) in [(gib(memory.peak(200, 1)) * 0.99, "one of 200 pictures"), (0.0, "above 0"), (f64::NAN, "above 0")] {
            let error = config.fit_memory(&clip, 1000, bad, 1).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(word), "{error}");
        }
    }
}
