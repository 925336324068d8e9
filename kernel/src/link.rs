//! The kernel's end of the cell's output: one thread reads both sockets and feeds the running cell.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use crate::cell::Cell;
use crate::stream::{Parser, Piece, take_whole};

/// Milliseconds without output after which an unfinished line is shown, and between two batches of text.
const TICK: i32 = 20;

/// Serves one process of cells after the other.
pub fn listen(socket: &Path, cell: Arc<Cell>) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || {
        while let (Ok((out, _)), Ok((err, _))) = (listener.accept(), listener.accept()) {
            let _ = serve(out, err, &listener, &cell); // the process has ended
            cell.lock().stopped();
        }
    });
    Ok(())
}

/// Reads to the end of a process. What it started may hold its sockets open: then it has ended when the next one comes.
fn serve(mut out: UnixStream, mut err: UnixStream, next: &UnixListener, cell: &Cell) -> std::io::Result<()> {
    err.set_nonblocking(true)?;
    let mut parser = Parser::default();
    let (mut chunk, mut errors) = (vec![0u8; 64 << 10], Vec::new());
    let mut err_open = true;
    let mut last_tick = std::time::Instant::now();
    loop {
        let descriptor = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut ready = [descriptor(out.as_raw_fd()), descriptor(next.as_raw_fd()), descriptor(err.as_raw_fd())];
        // SAFETY: the array outlives the call and its length is given.
        let n = unsafe { libc::poll(ready.as_mut_ptr(), if err_open { 3 } else { 2 }, if cell.lock().running { TICK } else { 200 }) };
        if n < 0 && std::io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return Err(std::io::Error::last_os_error());
        }
        let read = if ready[0].revents != 0 { Some(out.read(&mut chunk).unwrap_or(0)) } else { None };
        let mut pieces = parser.feed(&chunk[..read.unwrap_or(0)]);
        let ended = read == Some(0) || read.is_none() && ready[1].revents != 0;
        if n == 0 || ended {
            pieces.extend(if ended { parser.end() } else { parser.idle() });
        }
        // errors that were written before what we have read of the output must be there first
        while err_open {
            match err.read(&mut chunk) {
                Ok(0) => err_open = false,
                Ok(n) => errors.extend_from_slice(&chunk[..n]),
                Err(_) => break,
            }
        }
        let mut cell = cell.lock();
        cell.err(&take_whole(&mut errors));
        let mut evcxr = String::new();
        for piece in pieces {
            let end = piece == Piece::End;
            if let Some(line) = cell.take(piece) {
                evcxr += &line;
                evcxr.push('\n');
            }
            if end {
                last_tick = std::time::Instant::now();
            }
        }
        if last_tick.elapsed().as_millis() >= TICK as u128 {
            cell.publisher.tick();
            last_tick = std::time::Instant::now();
        }
        drop(cell);
        if ended {
            return Ok(());
        }
        out.write_all(evcxr.as_bytes())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use jupyter_protocol::{ExecuteRequest, JupyterMessage};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// A cell that runs, and where its process would connect.
    fn cell(name: &str) -> (Cell, UnboundedReceiver<JupyterMessage>, std::path::PathBuf, UnixListener) {
        let (iopub, messages) = unbounded_channel();
        let cell = Cell::new(iopub);
        let folder = std::env::temp_dir().join(format!("lafter-kernel-link-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let next = UnixListener::bind(folder.join("cell.sock")).unwrap();
        cell.lock().begin(&JupyterMessage::new(ExecuteRequest::new("1".into()), None), 1);
        cell.lock().listen_to(&folder);
        (cell, messages, folder, next)
    }

    #[test]
    fn last_words_are_shown() {
        let (cell, mut messages, folder, next) = cell("words");
        for (out, err) in [("", "why it ends\n"), ("half a line", ""), ("out", "err")] {
            let ((mut says, reads), (mut complains, hears)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
            says.write_all(out.as_bytes()).unwrap();
            complains.write_all(err.as_bytes()).unwrap();
            drop((says, complains));
            serve(reads, hears, &next, &cell).unwrap();
            cell.lock().stopped();
            let shown: String = std::iter::from_fn(|| messages.try_recv().ok())
                .map(|message| serde_json::to_value(&message.content).unwrap()["text"].as_str().unwrap_or_default().to_string())
                .collect();
            assert!(shown.contains(out) && shown.contains(err), "{shown}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_process_has_ended_when_the_next_one_comes() {
        let (cell, _messages, folder, next) = cell("next");
        let ((says, reads), (complains, hears)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let _coming = UnixStream::connect(folder.join("cell.sock")).unwrap();
        serve(reads, hears, &next, &cell).unwrap();
        drop((says, complains)); // until now a program held them that the cell had started
        std::fs::remove_dir_all(folder).unwrap();
    }
}
