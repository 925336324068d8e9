//! The stop button: the end of the compiler, or a word to the cell that runs and, after three seconds, the end of its process.

use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cell::Cell;

/// How long a cell may take to stop.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at it.
const EVERY: Duration = Duration::from_millis(50);

pub fn interrupt(cell: &Arc<Cell>, process: &Arc<Mutex<Child>>) {
    let serial = {
        let mut state = cell.lock();
        if !state.busy {
            return;
        }
        state.interrupted = true;
        state.serial
    };
    if !step(cell, process, serial, &mut None) {
        return;
    }
    let (cell, process) = (cell.clone(), process.clone());
    std::thread::spawn(move || {
        let mut told = None;
        // evcxr may call the compiler again, and a cell that was compiled may begin to run
        while step(&cell, &process, serial, &mut told) {
            std::thread::sleep(EVERY);
        }
    });
}

/// One try; false when the cell has ended. `told`: since when the cell knows.
fn step(cell: &Cell, process: &Mutex<Child>, serial: usize, told: &mut Option<Instant>) -> bool {
    let running = {
        let state = cell.lock();
        // one that was abandoned must not be compiled either, and not run
        if !state.abandoned.contains(&serial) && (!state.busy || state.serial != serial) {
            return false;
        }
        state.running
    };
    let pid = || process.try_lock().map(|child| child.id()).unwrap_or(0);
    match told {
        Some(_) if !running => return false, // it has stopped; what is compiled now is not the reader's
        None if !running => match pid() {
            0 => {}
            pid => stop_compiler(pid),
        },
        None => {
            signal(pid(), libc::SIGINT);
            *told = Some(Instant::now());
        }
        Some(since) if since.elapsed() >= PATIENCE => {
            if let Ok(mut child) = process.lock() {
                let _ = child.kill();
            }
            return false;
        }
        Some(_) => {}
    }
    true
}

/// Ends Cargo and what it started, but not the cell's process.
fn stop_compiler(cell: u32) {
    for child in children(std::process::id()).into_iter().filter(|child| *child != cell) {
        stop_tree(child);
    }
}

fn stop_tree(pid: u32) {
    stop_tree_below(pid);
    signal(pid, libc::SIGTERM);
}

/// Ends all that a process started.
pub fn stop_tree_below(pid: u32) {
    children(pid).into_iter().for_each(stop_tree);
}

fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn signal(pid: u32, signal: i32) {
    if pid > 1 {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid as i32, signal) };
    }
}
