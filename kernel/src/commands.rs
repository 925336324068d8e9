//! `serve`, what a kernelspec starts, and `doctor`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::cell::Cell;
use crate::engine::{self, Engine};
use crate::layout::{Layout, Scope, size};
use crate::private::Private;
use crate::server;
use crate::session::{self, Session};
use crate::shim;
use crate::toolchain;

/// Answers a Jupyter front end.
pub fn serve(layout: Layout, connection_file: &Path) -> Result<()> {
    toolchain::complete_path();
    let session = open(&layout)?;
    let identity = toolchain::recorded(&layout);
    let rust_version = toolchain::rust_version(&identity).unwrap_or("1");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(server::serve(connection_file, session, rust_version, &layout))
}

fn open(layout: &Layout) -> Result<Session> {
    if !layout.library().0.is_file() {
        bail!(
            "{} holds no build: run `lafter-kernel install`, or `cargo run --release -p lafter-kernel -- install` in the checkout",
            layout.data.display()
        );
    }
    if !toolchain::is_as_recorded(&toolchain::recorded(layout)) {
        bail!("Rust has changed since the kernel was installed: run `cargo run --release -p lafter-kernel -- install` again");
    }
    let session = Session::new(layout).with_context(|| format!("making a folder in {}", layout.sessions().display()))?;
    // SAFETY: no thread was started yet
    unsafe {
        engine::set_environment(layout, &session);
        shim::set_environment(layout)?;
    }
    Ok(session)
}

/// Starts a session and runs a cell that makes a tensor; the seconds that both took.
pub fn try_cell(layout: &Layout) -> Result<(f64, f64)> {
    let started = Instant::now();
    let session = open(layout)?;
    let (iopub, _messages) = tokio::sync::mpsc::unbounded_channel();
    let mut engine = Engine::start(&session, Arc::new(Cell::new(iopub)), Arc::default(), Private::default())?;
    let ready = started.elapsed().as_secs_f64();
    let code = "let check = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;\nassert_eq!(check.dims(), [2, 3]);";
    engine.execute(code, &|_, _| String::new()).map_err(|failure| anyhow!("the first cell failed: {}", failure.lines.join("\n")))?;
    Ok((ready, started.elapsed().as_secs_f64() - ready))
}

/// Versions, paths, sizes, and a cell.
pub fn doctor(scope: &Scope) -> Result<()> {
    toolchain::complete_path();
    println!("{:12} {} (evcxr 0.22)", "kernel", env!("CARGO_PKG_VERSION"));
    let mut missing = Vec::new();
    for need in toolchain::needs() {
        match need.found {
            Ok(found) => println!("{:12} {found}", need.name),
            Err(remedy) => {
                println!("{:12} {remedy}", need.name);
                missing.push(need.name);
            }
        }
    }
    let (layout, folder) = (scope.layout()?, scope.kernelspec()?);
    let checkout = std::fs::read_to_string(layout.data.join("checkout")).unwrap_or_else(|_| "not installed".into());
    println!("{:12} {}", "checkout", checkout.trim());
    for (name, path) in
        [("kernelspec", folder.join("kernel.json")), ("binary", layout.binary()), ("seed", layout.seed()), ("sessions", layout.sessions())]
    {
        let size = if path.is_dir() { size(&path) } else { path.metadata().map_or(0, |file| file.len()) };
        let state = if path.exists() { format!("{} kB", size >> 10) } else { "not there".into() };
        println!("{name:12} {} ({state})", path.display());
    }
    if !missing.is_empty() {
        bail!("missing: {}", missing.join(", "));
    }
    let dead = session::remove_dead(&layout.sessions());
    if dead > 0 {
        println!("{:12} removed {dead} folders that killed kernels left", "sessions");
    }
    if layout.unfinished().exists() {
        bail!("an install was begun and not ended: run it again, it goes on from there");
    }
    let (ready, first) = try_cell(&layout)?;
    println!("{:12} ready after {ready:.1} s, first cell {first:.1} s", "a cell");
    Ok(())
}
