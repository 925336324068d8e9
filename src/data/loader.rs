//! Batches decoded ahead of their use, by a thread in the background.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use image::RgbImage;

use crate::data::dataset::Dataset;
use crate::data::skipped::Skipped;
use crate::error::{Error, Result};
use crate::progress::no_thread;

/// What `f` made of the pictures of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Positions in the data set, in the order asked for, less the unreadable ones.
    pub indices: Vec<usize>,
    /// One item per index.
    pub items: Vec<T>,
}

impl<T> Batch<T> {
    /// How many pictures are in it.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// True if no picture of the batch could be read.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// One picture: its item, or its index and why it cannot be read.
type Decoded<T> = std::result::Result<(usize, T), (usize, String)>;

/// The batches of [`prefetch`], in order. Dropping it stops the thread.
pub struct Prefetch<T> {
    /// `None` once the last batch was taken or an error was given.
    receiver: Option<Receiver<Result<Vec<Decoded<T>>>>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    remaining: usize,
    dataset: Dataset,
    skipped: Skipped,
    max_unreadable: f64,
    /// An error found before the thread was started.
    pending: Option<Error>,
}

/// Decodes `batches` (indices into the data set) and applies `f(index, picture)`, `depth` batches ahead, on rayon's threads.
///
/// Order and content do not depend on the number of threads: draw what is random in `f` from a stream forked by the index.
/// Pictures that cannot be decoded are left out of their batch and noted in [`Prefetch::skipped`]; a batch without any
/// readable picture comes empty, so that batches can be counted. Iterate from a thread outside rayon's pool: inside a pool of
/// one thread it would wait for ever.
///
/// # Errors
/// The iterator ends with one: [`Error::Data`] once more than [`Prefetch::max_unreadable`] of the data set is unreadable,
/// [`Error::Usage`] for an index out of range.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use image::RgbImage;
/// use lafter::data::{Dataset, ImageSource, epoch_batches, prefetch};
/// # struct Flat;
/// # impl ImageSource for Flat {
/// #     fn len(&self) -> usize { 10 }
/// #     fn classes(&self) -> &[String] { &[] }
/// #     fn label(&self, _: usize) -> Option<usize> { None }
/// #     fn name(&self, i: usize) -> String { format!("flat {i}") }
/// #     fn image(&self, i: usize) -> lafter::Result<RgbImage> { Ok(RgbImage::from_pixel(2, 2, image::Rgb([i as u8; 3]))) }
/// # }
/// let pictures = Dataset::new(Flat);
/// let mut seen = Vec::new();
/// for batch in prefetch(&pictures, epoch_batches(pictures.len(), 4, false, None), 2, |_, picture| picture.get_pixel(0, 0).0[0]) {
///     seen.extend(batch?.items);
/// }
/// assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
/// # Ok(()) }
/// ```
pub fn prefetch<T, F>(dataset: &Dataset, batches: Vec<Vec<usize>>, depth: usize, f: F) -> Prefetch<T>
where
    T: Send + 'static,
    F: Fn(usize, &RgbImage) -> T + Send + Sync + 'static,
{
    prefetch_with(dataset, batches, depth, move |pictures, index| Ok(f(index, &pictures.image(index)?)))
}

/// [`prefetch`] if `f(data set, index)` gets the picture itself, or a view of it that is kept, or neither. An error of `f`
/// counts as an unreadable picture.
pub fn prefetch_with<T, F>(dataset: &Dataset, batches: Vec<Vec<usize>>, depth: usize, f: F) -> Prefetch<T>
where
    T: Send + 'static,
    F: Fn(&Dataset, usize) -> Result<T> + Send + Sync + 'static,
{
    let (sender, receiver) = sync_channel(depth.max(1).saturating_sub(UNDER_WAY - 1)); // those under way are ahead, too
    let stop = Arc::new(AtomicBool::new(false));
    let mut this = Prefetch {
        receiver: Some(receiver),
        thread: None,
        stop: stop.clone(),
        remaining: batches.len(),
        dataset: dataset.clone(),
        skipped: Skipped::new(dataset.len()),
        max_unreadable: 0.05,
        pending: None,
    };
    if let Some(index) = batches.iter().flatten().find(|&&index| index >= dataset.len()) {
        this.pending = Some(Error::Usage(format!("a batch asks for picture {index} of a data set of {}", dataset.len())));
        return this;
    }
    let source = dataset.clone();
    let work = move || run(source, batches, stop, sender, f);
    match std::thread::Builder::new().name("prefetch".to_string()).spawn(work) {
        Ok(thread) => this.thread = Some(thread),
        Err(e) => this.pending = Some(no_thread("reading pictures", &e)),
    }
    this
}

/// Batches whose pictures are in rayon's pool at a time: while the last pictures of one are decoded, the threads that are free work
/// on the next.
const UNDER_WAY: usize = 2;

/// What became of a picture of a batch: its place, and `None` if the loader was told to stop; an error for a panic.
type Done<T> = (usize, std::result::Result<Option<Decoded<T>>, ()>);

/// The thread: decodes batch after batch until all are sent, the receiver is gone, or it is told to stop.
fn run<T, F>(dataset: Dataset, batches: Vec<Vec<usize>>, stop: Arc<AtomicBool>, sender: SyncSender<Result<Vec<Decoded<T>>>>, f: F)
where
    T: Send + 'static,
    F: Fn(&Dataset, usize) -> Result<T> + Send + Sync + 'static,
{
    let origin = dataset.origin();
    let shared = Arc::new((dataset, stop.clone(), f));
    let begin = |batch: Vec<usize>| {
        let (done, results) = channel();
        let size = batch.len();
        for (place, index) in batch.into_iter().enumerate() {
            let (shared, done) = (shared.clone(), done.clone());
            rayon::spawn(move || {
                let (dataset, stop, f) = &*shared;
                let one = || match stop.load(Ordering::Relaxed) {
                    true => None,
                    false => Some(f(dataset, index).map(|item| (index, item)).map_err(|e| (index, e.to_string()))),
                };
                // a panic of `f` (or of a decoder) must end the iteration with an error, not silently
                let result = catch_unwind(AssertUnwindSafe(one)).map_err(drop);
                drop(shared);
                let _ = done.send((place, result));
            });
        }
        (size, results)
    };
    let (mut batches, mut under_way) = (batches.into_iter(), VecDeque::new());
    loop {
        while under_way.len() < UNDER_WAY {
            let Some(batch) = batches.next() else { break };
            under_way.push_back(begin(batch));
        }
        let Some((size, results)) = under_way.pop_front() else { return };
        let message = collected(size, &results).transpose();
        let failed = !matches!(message, Some(Ok(_)));
        let message =
            message.map(|all| all.map_err(|()| Error::Data(format!("{origin}: the loader's thread panicked (its message stands above)"))));
        if message.is_none_or(|message| sender.send(message).is_err()) || failed {
            stop.store(true, Ordering::Relaxed);
            // nothing of this loader is at work once its thread has ended
            under_way.iter().for_each(|(size, results)| drop(collected(*size, results)));
            return;
        }
    }
}

/// Waits for the pictures of a batch and puts them in order; `None` if the loader was told to stop, an error for a panic.
fn collected<T>(size: usize, results: &Receiver<Done<T>>) -> std::result::Result<Option<Vec<Decoded<T>>>, ()> {
    let mut all: Vec<Done<T>> = results.iter().take(size).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, result)| result).collect::<std::result::Result<Option<Vec<_>>, ()>>()
}

impl<T> Prefetch<T> {
    /// The share of the data set, 0 to 1, that may be unreadable before the iteration fails; 0.05 unless set.
    pub fn max_unreadable(mut self, share: f64) -> Self {
        self.max_unreadable = share;
        self
    }

    /// Notes unreadable pictures in `log`, so that the epochs of a run share one.
    pub fn log(mut self, log: &Skipped) -> Self {
        self.skipped = log.clone();
        self
    }

    /// The log of unreadable pictures so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits to send wakes up when the receiver is gone.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn note(&self, index: usize, reason: &str) -> Result<()> {
        self.skipped.add(index, &self.dataset.name(index), reason);
        if self.skipped.share() <= self.max_unreadable {
            return Ok(());
        }
        let entries = self.skipped.entries();
        let first: Vec<&str> = entries.iter().take(3).map(|(_, reason)| reason.as_str()).collect();
        Err(Error::Data(format!(
            "{}: {} of {} pictures cannot be read, more than the {} % allowed ({}{}): repair or remove them (of a run, tune.max_unreadable allows more)",
            self.dataset.origin(),
            entries.len(),
            self.dataset.len(),
            self.max_unreadable * 100.0,
            first.join("; "),
            if entries.len() > 3 { "; …" } else { "" },
        )))
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<Batch<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.pending.take() {
            self.finish();
            return Some(Err(error));
        }
        if self.remaining > 0 {
            self.remaining -= 1;
            let message = match self.receiver.as_ref()?.recv() {
                Ok(message) => message,
                Err(_) => Err(Error::Data(format!("{}: the loader's thread ended early", self.dataset.origin()))),
            };
            let mut batch = Batch { indices: Vec::new(), items: Vec::new() };
            let taken = message.and_then(|decoded| {
                decoded.into_iter().try_for_each(|one| match one {
                    Ok((index, item)) => {
                        batch.indices.push(index);
                        batch.items.push(item);
                        Ok(())
                    }
                    Err((index, reason)) => self.note(index, &reason),
                })
            });
            if let Err(e) = taken {
                self.finish();
                return Some(Err(e));
            }
            return Some(Ok(batch));
        }
        self.finish();
        None
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T> fmt::Debug for Prefetch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefetch({} batches to come of {:?})", self.remaining, self.dataset)
    }
}
