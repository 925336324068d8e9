//! The compiling of a cell's `:dep` crates, which evcxr reports on our own standard error, shown in the cell.

use std::fs::File;
use std::io::{BufRead, BufReader, Result, Write};
use std::os::fd::FromRawFd;
use std::sync::Arc;

use crate::cell::Cell;

/// From now on lines like "Compiling serde v1.0" belong to the cell that runs; all others go where they went.
pub fn show(cell: Arc<Cell>) -> Result<()> {
    let mut ends = [0; 2];
    // SAFETY: plain descriptor calls; the descriptors are ours.
    let (ours, mut before) = unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let before = File::from_raw_fd(libc::dup(2));
        libc::dup2(ends[1], 2);
        libc::close(ends[1]);
        for fd in [2, ends[0]] {
            libc::fcntl(fd, libc::F_SETFD, if fd == 2 { 0 } else { libc::FD_CLOEXEC });
        }
        (File::from_raw_fd(ends[0]), before)
    };
    std::thread::spawn(move || {
        for line in BufReader::new(ours).lines().map_while(Result::ok) {
            let mut state = cell.lock();
            if state.busy && line.trim_start().starts_with("Compiling ") {
                state.publisher.out(&format!("{}\n", line.trim()));
                state.publisher.tick();
            } else {
                let _ = writeln!(before, "{line}");
            }
        }
    });
    Ok(())
}
