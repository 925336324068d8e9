//! Every loader on damaged files: no panic, no hang, no gigabyte, one line of error, and nothing wrong taken for right.
//!
//! One test for each loader (`cargo test --test fuzz png`). Input `n` of a loader is the same on every machine; the first ones are
//! the valid files themselves, which must be taken. tests/README.md says how to run more of them and one alone.

mod allocator;
mod containers;
mod data;
mod models;
mod mutate;
mod runs;
#[allow(dead_code)] // no test uses all of it
#[path = "../all/tar_file/mod.rs"]
mod tar_file;
mod texts;
#[allow(dead_code)] // no test uses all of it
#[path = "../all/torch_file/mod.rs"]
mod torch_file;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use lafter::rng::Rng;

use allocator::{Counting, LIMIT, peak_of};
use mutate::{Form, mutate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One kind of file and what reads it.
struct Loader<'a> {
    /// The name of the test.
    name: &'static str,
    /// Inputs of the short form; `LAFTER_FUZZ` sets another number.
    inputs: usize,
    /// What the file is called in its folder.
    file: &'a str,
    form: Form,
    /// Valid files; the damaged ones are made of these.
    seeds: Vec<Vec<u8>>,
    /// Other files of the folder.
    others: Vec<(&'static str, Vec<u8>)>,
}

/// Processor time that one input may take, of code that is not optimized on a slow processor.
const SECONDS: f64 = 15.0;
/// After so long an input does not come back.
const HANGS: Duration = Duration::from_secs(60);
/// Characters of a message, without the folder's path: what `Error` cuts it to.
const MESSAGE: usize = 1601;

impl Loader<'_> {
    /// Gives every input to `read`, which gets the folder: it passes on the loader's error, and panics where what was accepted
    /// cannot be right.
    fn check(self, read: impl Fn(&Path) -> lafter::Result<()> + Send + Sync) {
        let folder = root().join(self.name);
        std::thread::scope(|scope| {
            // the stack of a program's main thread
            let thread = std::thread::Builder::new().name(self.name.into()).stack_size(8 << 20);
            let running = thread.spawn_scoped(scope, || self.run(&folder, &read)).expect("a thread");
            let failures = running.join().expect("the harness itself");
            if !failures.is_empty() {
                let list: Vec<String> = failures.into_values().map(|(what, which)| format!("  {}: {what}", shown(&which))).collect();
                panic!("{}: inputs that lie in {}:\n{}", self.name, root().display(), list.join("\n"));
            }
        });
    }

    /// The failures by kind, each with an example and the numbers of its inputs.
    fn run(&self, folder: &Path, read: &dyn Fn(&Path) -> lafter::Result<()>) -> BTreeMap<String, (String, Vec<usize>)> {
        prepare();
        QUIET.set(true);
        let _ = std::fs::remove_dir_all(folder);
        for (name, bytes) in &self.others {
            write(&folder.join(name), bytes);
        }
        let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
        let (first, count) = (number("LAFTER_FUZZ_FROM").unwrap_or(0), number("LAFTER_FUZZ").unwrap_or(self.inputs));
        let replayed = std::env::var_os("LAFTER_FUZZ_INPUT").map(|path| std::fs::read(path).expect("LAFTER_FUZZ_INPUT names a file"));
        let stream = Rng::new(self.name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte)));
        let (mut failures, mut accepted) = (BTreeMap::<String, (String, Vec<usize>)>::new(), 0);
        for n in if replayed.is_some() { 0..1 } else { first..first + count } {
            let valid = replayed.is_none() && n < self.seeds.len();
            let input = match (&replayed, self.seeds.get(n)) {
                (Some(input), _) => input.clone(),
                (None, Some(seed)) => seed.clone(),
                (None, None) => mutate(&mut stream.fork(n as u64), &self.seeds, self.form),
            };
            write(&folder.join(self.file), &input);
            running().insert(self.name, (n, Instant::now()));
            let (started, read) = (processor_seconds(), AssertUnwindSafe(|| read(folder)));
            let (result, peak) = peak_of(|| catch_unwind(read));
            let seconds = processor_seconds() - started;
            running().remove(self.name);
            accepted += usize::from(matches!(result, Ok(Ok(()))));
            let fault = match result {
                Err(panic) => Some((PLACE.take(), said(&panic))),
                Ok(Err(error)) => fault_of(&error.to_string(), folder, valid),
                Ok(Ok(())) => None,
            };
            let costs = (peak > LIMIT).then(|| ("memory".to_string(), format!("more than a GiB of memory ({} MiB)", peak >> 20)));
            let slow = (seconds > SECONDS).then(|| ("time".to_string(), format!("more than {SECONDS} seconds ({seconds:.0})")));
            for (kind, what) in [fault, costs, slow].into_iter().flatten() {
                let (_, which) = failures.entry(kind.clone()).or_insert((format!("{what} ({kind})"), Vec::new()));
                if which.is_empty() {
                    write(&root().join(format!("{}-{n}", self.name)), &input);
                }
                which.push(n);
            }
        }
        if replayed.is_some() || count > self.inputs {
            let count = if replayed.is_some() { 1 } else { count };
            println!("{}: {count} inputs, {accepted} accepted, {} kinds of failure", self.name, failures.len());
        }
        failures
    }
}

/// What is wrong with a message, or with the refusal of a valid file: the kind, and the message.
fn fault_of(error: &str, folder: &Path, valid: bool) -> Option<(String, String)> {
    let short = error.replace(&folder.display().to_string(), "");
    let kind = match short.chars().count() {
        _ if valid => "a valid file is refused",
        _ if short.contains(|c: char| c.is_control()) => "a control character in a message",
        length if length > MESSAGE => "a long message",
        _ => return None,
    };
    Some((kind.into(), short.escape_debug().take(300).collect()))
}

fn said(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").escape_debug().take(200).collect()
}

fn shown(which: &[usize]) -> String {
    let first: Vec<String> = which.iter().take(3).map(usize::to_string).collect();
    format!("{}{}", first.join(", "), if which.len() > 3 { format!(" and {} more", which.len() - 3) } else { String::new() })
}

/// Where inputs lie: the one under way in a folder for each loader, failures next to it.
fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz")
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder in target");
    std::fs::write(path, bytes).expect("room in target");
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)).expect("a fixture")
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

static RUNNING: Mutex<BTreeMap<&'static str, (usize, Instant)>> = Mutex::new(BTreeMap::new());

fn running() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, (usize, Instant)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics of inputs are noted, not printed; an input that does not come back ends the process with its number.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
            // threads of a pool have no name: their panics come back to the one that asked
            let quiet = QUIET.try_with(Cell::get).unwrap_or(true) || std::thread::current().name().is_none();
            let _ = PLACE.try_with(|last| last.replace(place));
            if !quiet {
                others(info);
            }
        }));
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                if let Some((name, (n, _))) = running().iter().find(|(_, (_, since))| since.elapsed() > HANGS) {
                    eprintln!("fuzz: {name}: input {n} does not come back; it lies in {}", root().join(name).display());
                    std::process::abort();
                }
            }
        });
    });
}

/// Processor time of this thread: a busy machine is not a hang.
#[cfg(unix)]
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the struct only.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
fn processor_seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}
