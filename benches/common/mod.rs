//! What the benchmarks share: a row is measured several times and printed as one line of JSON.

use std::time::Instant;

/// Runs `work` once to warm up and `repetitions` times on the clock (`LAFTER_BENCH_REPETITIONS` overrides), and prints every time.
pub fn row(name: &str, repetitions: usize, mut work: impl FnMut() -> lafter::Result<()>) -> lafter::Result<()> {
    let repetitions = std::env::var("LAFTER_BENCH_REPETITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(repetitions).max(1);
    let before = lafter::eval::peak_rss_bytes().unwrap_or(0);
    work()?;
    let (mut seconds, mut cpu) = (Vec::with_capacity(repetitions), Vec::with_capacity(repetitions));
    for _ in 0..repetitions {
        let (started, used) = (Instant::now(), cpu_seconds());
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
        cpu.push(cpu_seconds() - used);
    }
    let peak = lafter::eval::peak_rss_bytes().unwrap_or(0);
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let threads = rayon::current_num_threads();
    println!(
        "{}",
        serde_json::json!({
            "row": name, "seconds": least(&seconds), "cpu_seconds": least(&cpu), "all_seconds": seconds, "repetitions": repetitions,
            "threads": threads, "peak_rss_bytes": peak, "extra_rss_bytes": peak - before,
        })
    );
    Ok(())
}

/// Processor time of this process so far, over all threads: what a busy machine does not blur.
#[cfg(unix)]
fn cpu_seconds() -> f64 {
    // SAFETY: getrusage only writes to the struct it is given; all-zero bytes are a valid `rusage`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec as f64 + 1e-6 * time.tv_usec as f64).sum()
}

#[cfg(not(unix))]
fn cpu_seconds() -> f64 {
    f64::NAN
}
