//! What the benchmarks share: a row is measured several times and printed as one line of JSON.
//!
//! `cargo bench --bench NAME` measures every row of a file; `cargo bench --bench NAME -- ROW --repetitions 9` one of them;
//! `cargo bench --features cuda --bench NAME -- ROW --device cuda` on a GPU, for rows of towers and text epochs.
#![allow(dead_code)] // each benchmark is a program of its own and needs a part of this

pub mod device;
pub mod fma;

use std::time::Instant;

use candle_core::Device;

/// Repetitions of a row, which rows are asked for (all if none is), and where they compute.
pub struct Bench {
    pub device: Device,
    repetitions: usize,
    rows: Vec<String>,
}

impl Bench {
    pub fn from_args(repetitions: usize) -> lafter::Result<Self> {
        let mut this = Self { device: Device::Cpu, repetitions, rows: Vec::new() };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--repetitions" => this.repetitions = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(repetitions),
                "--device" => this.device = lafter::device::open(&arguments.next().unwrap_or_default())?,
                _ => this.rows.push(argument),
            }
        }
        Ok(this)
    }

    /// Whether a row was named: some take too long to run unasked.
    pub fn named(&self, row: &str) -> bool {
        self.rows.iter().any(|named| named == row)
    }

    /// Whether no row was named.
    pub fn takes_all(&self) -> bool {
        self.rows.is_empty()
    }

    /// How often a row is measured.
    pub fn repetitions(&self) -> usize {
        self.repetitions.max(1)
    }

    /// Runs `work` once to warm up and then on the clock, and prints the least and the median time. `items`: how many
    /// pictures, texts, … one run takes.
    pub fn row(&self, name: &str, items: usize, mut work: impl FnMut() -> lafter::Result<()>) -> lafter::Result<()> {
        self.long_row(name, items, |_| work())
    }

    /// The same for work that takes long: `work(true)` is a small part of it, to warm up.
    pub fn long_row(&self, name: &str, items: usize, mut work: impl FnMut(bool) -> lafter::Result<()>) -> lafter::Result<()> {
        if !self.rows.is_empty() && !self.named(name) {
            return Ok(());
        }
        let peak = || lafter::eval::peak_rss_bytes().unwrap_or(0);
        let before = peak();
        device::choose_tf32(name);
        work(true)?;
        self.device.synchronize()?;
        let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..self.repetitions.max(1) {
            let (started, used) = (Instant::now(), cpu_seconds());
            work(false)?;
            self.device.synchronize()?;
            seconds.push(started.elapsed().as_secs_f64());
            cpu.push(cpu_seconds() - used);
        }
        for values in [&mut seconds, &mut cpu] {
            values.sort_by(f64::total_cmp);
        }
        let line = serde_json::json!({
            "row": name, "seconds": seconds[0], "median": seconds[seconds.len() / 2], "cpu_seconds": cpu[0], "items": items,
            "repetitions": seconds.len(), "threads": rayon::current_num_threads(),
            "peak_rss_bytes": peak(), "extra_rss_bytes": peak() - before, "peak_device_bytes": device::peak_bytes(&self.device),
        });
        println!("{line}");
        Ok(())
    }
}

/// What work took: seconds on the clock, and processor seconds of all threads.
pub fn timed(work: impl FnOnce() -> lafter::Result<()>) -> lafter::Result<[f64; 2]> {
    let (started, used) = (Instant::now(), cpu_seconds());
    work()?;
    Ok([started.elapsed().as_secs_f64(), cpu_seconds() - used])
}

/// Processor time of this process so far, over all threads: what a busy machine hardly blurs.
#[cfg(unix)]
pub fn cpu_seconds() -> f64 {
    // SAFETY: getrusage only writes to the struct it is given; all-zero bytes are a valid `rusage`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec as f64 + 1e-6 * time.tv_usec as f64).sum()
}

#[cfg(not(unix))]
pub fn cpu_seconds() -> f64 {
    f64::NAN
}
