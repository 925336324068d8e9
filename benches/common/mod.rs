//! What the benchmarks share: a row is measured several times and printed as one line of JSON.

use std::time::Instant;

/// Runs `work` once to warm up and `repetitions` times on the clock (`LAFTER_BENCH_REPETITIONS` overrides), and prints every time.
pub fn row(name: &str, repetitions: usize, mut work: impl FnMut() -> lafter::Result<()>) -> lafter::Result<()> {
    let repetitions = std::env::var("LAFTER_BENCH_REPETITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(repetitions).max(1);
    let before = lafter::eval::peak_rss_bytes().unwrap_or(0);
    work()?;
    let mut seconds = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        let started = Instant::now();
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let peak = lafter::eval::peak_rss_bytes().unwrap_or(0);
    let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let threads = rayon::current_num_threads();
    println!(
        "{}",
        serde_json::json!({
            "row": name, "seconds": fastest, "all_seconds": seconds, "repetitions": repetitions,
            "threads": threads, "peak_rss_bytes": peak, "extra_rss_bytes": peak - before,
        })
    );
    Ok(())
}
