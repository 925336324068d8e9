//! The stop button: first a word to the cell, then, after three seconds, the end of its process.

use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cell::Cell;

/// How long a cell may take to stop.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn interrupt(cell: &Arc<Cell>, process: &Arc<Mutex<Child>>) {
    let (running, serial) = {
        let mut state = cell.lock();
        if !state.busy {
            return;
        }
        state.interrupted = true;
        (state.running, state.serial)
    };
    let pid = process.lock().map(|child| child.id()).unwrap_or(0);
    if !running {
        stop_compiler(pid);
        return;
    }
    signal(pid, libc::SIGINT);
    let (cell, process) = (cell.clone(), process.clone());
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        let still = |state: &crate::cell::State| state.busy && state.running && state.serial == serial;
        if still(&cell.lock())
            && let Ok(mut child) = process.lock()
        {
            let _ = child.kill();
        }
    });
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
