//! Pictures are decoded once, not once an epoch: the files may go after the first, the results are those of a run that reads
//! them each time, bit for bit, and a cache that is too small stays under its limit.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use image::RgbImage;
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::data::{self, Dataset, ImageSource, OpenOptions, PictureCache, scenes};
use lafter::experiment::{Experiment, Outcome};
use lafter::progress;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run};

fn run(keep: impl Fn(Dataset) -> Dataset) -> Outcome {
    let (train, test) = scenes::demo_sets(2);
    let mut experiment = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    (experiment.train, experiment.test) = (keep(train.take(100)), Some(keep(test.take(60))));
    experiment.config.text.epochs = 10;
    experiment.config.tune.epochs = 2;
    experiment.run(progress::silent).unwrap()
}

#[test]
fn the_report_is_the_same_with_and_without_a_cache_and_with_one_that_is_too_small() {
    let report = |outcome: &Outcome| outcome.report.without_timing().to_json().unwrap();
    let losses = |outcome: &Outcome| outcome.history.iter().map(|epoch| epoch.loss.to_bits()).collect::<Vec<_>>();
    let without = run(|set| set);
    for limit in [1 << 30, 200_000, 0] {
        let cache = PictureCache::new(limit);
        let with = run(|set| set.cached_in(&cache));
        assert_eq!(report(&with), report(&without), "limit {limit}");
        assert_eq!(losses(&with), losses(&without), "limit {limit}");
        assert!(cache.used() <= limit && (cache.used() > 0) == (limit > 0), "{cache:?}");
    }
}

const PICTURES: usize = 24;
const EPOCHS: usize = 3;

/// One folder a class, pictures of different sizes.
fn write_pictures(folder: &Path) {
    let rendered = Dataset::new(scenes::Scenes::new(scenes::Domain::Target, PICTURES, 1));
    for i in 0..PICTURES {
        let class = folder.join(&rendered.classes()[rendered.label(i).unwrap()]);
        std::fs::create_dir_all(&class).unwrap();
        let (width, height) = (60 + i as u32, 70 + 3 * (i as u32 % 5));
        let picture = image::imageops::thumbnail(&rendered.image(i).unwrap(), width, height);
        picture.save(class.join(format!("{i:02}.png"))).unwrap();
    }
}

fn open(folder: &Path) -> Dataset {
    data::open(&folder.display().to_string(), &OpenOptions::default()).unwrap()
}

/// Epochs of tuning, `after_first` between the first and the second, then an evaluation: everything they end in.
fn tuned(set: &Dataset, after_first: impl FnOnce()) -> (Vec<u64>, Vec<u32>, f64) {
    let clip = Clip::demo().unwrap();
    let head = Head::linear(clip.config().projection, set.classes().len(), &mut Rng::new(1), &Device::Cpu).unwrap();
    let config = FinetuneConfig { prompts: 2, batch_size: 8, epochs: EPOCHS, ..FinetuneConfig::official() };
    let mut run = Run::new(Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(2)).unwrap());
    run.fit_epoch(set, progress::silent).unwrap();
    after_first();
    let losses = run.fit(set, progress::silent).unwrap().iter().map(|epoch| epoch.loss.to_bits()).collect();
    assert!(run.skipped().is_empty(), "{:?}", run.skipped());
    let weights = |values: &candle_core::Var| values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let weights = run.tuner.trainable().params.iter().flat_map(|param| weights(&param.var)).map(f32::to_bits).collect();
    (losses, weights, run.evaluate(set).unwrap().top1)
}

#[test]
fn after_the_first_epoch_the_files_are_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path());
    let expected = tuned(&open(folder.path()), || {});
    let set = open(folder.path()).cached(1 << 30);
    let remove = || std::fs::remove_dir_all(folder.path()).unwrap();
    assert!(tuned(&set, remove) == expected, "a run on kept pictures differs from one that reads them each time");
    // without a cache the missing files do end a run
    write_pictures(folder.path());
    let set = open(folder.path());
    let without = std::panic::catch_unwind(AssertUnwindSafe(|| tuned(&set, remove)));
    assert!(without.is_err());
}

/// How often each picture was decoded.
struct Counted {
    inner: Dataset,
    decoded: Arc<Vec<AtomicUsize>>,
}

impl Counted {
    fn set(inner: Dataset) -> (Dataset, impl Fn() -> Vec<usize>) {
        let decoded: Arc<Vec<AtomicUsize>> = Arc::new((0..inner.len()).map(|_| AtomicUsize::new(0)).collect());
        let counts = decoded.clone();
        (Dataset::new(Self { inner, decoded }), move || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }
}

impl ImageSource for Counted {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }
    fn label(&self, i: usize) -> Option<usize> {
        self.inner.label(i)
    }
    fn name(&self, i: usize) -> String {
        self.inner.name(i)
    }
    fn image(&self, i: usize) -> lafter::Result<RgbImage> {
        self.decoded[i].fetch_add(1, Ordering::Relaxed);
        self.inner.image(i)
    }
}

/// Bytes on the disk of the nameless files in a folder that this process holds open.
#[cfg(target_os = "linux")]
fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let held = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let ours = held.filter(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(folder)));
    ours.filter_map(|link| Some(std::fs::metadata(link).ok()?.blocks() * 512)).sum()
}

#[test]
fn each_picture_is_decoded_once_and_a_limit_that_fits_only_some_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path());
    let (set, counts) = Counted::set(open(folder.path()));
    let expected = tuned(&set, || {});
    assert_eq!(counts(), vec![EPOCHS + 1; PICTURES], "each epoch, and the evaluation");

    let whole: usize = (0..PICTURES).map(|i| open(folder.path()).image(i).unwrap().as_raw().len()).sum();
    let side = Clip::demo().unwrap().config().vision.image_size;
    let views = PICTURES * 3 * side * side;
    // room for all; for the views and a part of the pictures; for a part of the views; for nothing
    for limit in [1 << 30, views + whole / 2, views / 2, 0] {
        let kept_in = tempfile::tempdir().unwrap();
        let cache = PictureCache::new_in(kept_in.path(), limit);
        let (set, counts) = Counted::set(open(folder.path()));
        assert!(tuned(&set.cached_in(&cache), || {}) == expected, "limit {limit} changes the results");
        let (counts, used) = (counts(), cache.used());
        let decoded: usize = counts.iter().sum();
        assert!(used <= limit, "{used} of {limit} bytes");
        #[cfg(target_os = "linux")]
        assert!(on_disk(kept_in.path()) <= (limit + 4096) as u64, "{} of {limit} bytes", on_disk(kept_in.path()));
        match limit {
            0 => assert_eq!(counts, vec![EPOCHS + 1; PICTURES]),
            _ if limit > views + whole => {
                assert_eq!(counts, vec![1; PICTURES]);
                assert_eq!(used, views + whole);
                #[cfg(target_os = "linux")]
                assert!(on_disk(kept_in.path()) >= used as u64); // it lies there, not in this process
            }
            _ => assert!(used > limit / 2 && (PICTURES + 1..PICTURES * (EPOCHS + 1)).contains(&decoded), "{used} of {limit}: {counts:?}"),
        }
    }
}
