//! The stop button: the end of the compiler, or a word to the cell that runs and, after three seconds, the end of its process.

use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cell::Cell;

/// How long a cell may take to stop.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at it.
const EVERY: Duration = Duration::from_millis(50);

/// Stops the cell. While the engine starts there is no process yet: the cell is stopped when its turn comes.
pub fn interrupt(cell: &Arc<Cell>, process: Option<Arc<Mutex<Child>>>) {
    let serial = {
        let mut state = cell.lock();
        if !state.busy {
            return;
        }
        state.interrupted = true;
        state.serial
    };
    let (cell, mut told) = (cell.clone(), None);
    if !step(&cell, process.as_deref(), serial, &mut told) {
        return;
    }
    std::thread::spawn(move || {
        // evcxr may call the compiler again, and a cell that was compiled may begin to run
        while step(&cell, process.as_deref(), serial, &mut told) {
            std::thread::sleep(EVERY);
        }
    });
}

/// One try; false when the cell has ended. `told`: since when the cell, or the shell command, knows.
fn step(cell: &Cell, process: Option<&Mutex<Child>>, serial: usize, told: &mut Option<Instant>) -> bool {
    let state = cell.lock();
    let ours = state.busy && state.serial == serial;
    if let Some(group) = state.script.filter(|_| ours) {
        match told {
            Some(since) if since.elapsed() >= PATIENCE => signal_group(group, libc::SIGKILL),
            Some(_) => {}
            None => signal_group(group, libc::SIGTERM),
        }
        told.get_or_insert_with(Instant::now);
        return true;
    }
    // one that was abandoned must not be compiled either, and not run; one that waits for the engine will not get it
    if state.holder != Some(serial) {
        return ours;
    }
    let (running, script) = (state.running, state.script);
    drop(state);
    let pid = || process.and_then(|process| process.try_lock().ok()).map_or(0, |child| child.id());
    match told {
        Some(_) if !running => return false, // it has stopped; what is compiled now is not the reader's
        None if !running => match pid() {
            0 => {}
            pid => stop_compiler(&[pid, script.unwrap_or(0)]),
        },
        None => {
            signal(pid(), libc::SIGINT);
            *told = Some(Instant::now());
        }
        Some(since) if since.elapsed() >= PATIENCE => {
            if let Some(Ok(mut child)) = process.map(Mutex::lock) {
                stop_tree_below(child.id());
                let _ = child.kill();
            }
            return false;
        }
        Some(_) => {}
    }
    true
}

/// Ends Cargo and what it started, but not the cell's process and a shell command.
fn stop_compiler(others: &[u32]) {
    for child in children(std::process::id()).into_iter().filter(|child| !others.contains(child)) {
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

fn signal_group(group: u32, signal: i32) {
    if group > 1 {
        // SAFETY: a plain system call.
        unsafe { libc::kill(-(group as i32), signal) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use jupyter_protocol::{ExecuteRequest, JupyterMessage};

    use super::*;

    fn begun() -> Cell {
        let (iopub, _messages) = tokio::sync::mpsc::unbounded_channel();
        let cell = Cell::new(iopub);
        cell.lock().begin(&JupyterMessage::new(ExecuteRequest::new("1".into()), None), 1);
        cell
    }

    #[test]
    fn an_abandoned_cell_is_stopped_only_while_it_has_the_engine() {
        let cell = begun();
        assert!(step(&cell, None, 1, &mut None), "its turn may come");
        (cell.lock().busy, cell.lock().abandoned) = (false, vec![1]);
        assert!(!step(&cell, None, 1, &mut None), "it will not run");
        cell.lock().holder = Some(1);
        assert!(step(&cell, None, 1, &mut None), "it may run yet");
        (cell.lock().holder, cell.lock().running) = (Some(2), true);
        assert!(!step(&cell, None, 1, &mut None), "what runs is the next cell");
    }

    #[test]
    fn a_shell_command_is_stopped_with_what_it_started() {
        let cell = begun();
        let mut child = Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).process_group(0).spawn().unwrap();
        cell.lock().script = Some(child.id());
        let mut told = None;
        assert!(step(&cell, None, 1, &mut told) && told.is_some());
        assert!(!child.wait().unwrap().success());
        // SAFETY: a plain system call that sends nothing
        let left = || unsafe { libc::kill(-(child.id() as i32), 0) } == 0;
        let began = Instant::now();
        while left() && began.elapsed() < PATIENCE {
            std::thread::sleep(EVERY);
        }
        assert!(!left());
    }
}
