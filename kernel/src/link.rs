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
            let _ = serve(out, err, &cell); // the process has ended
            cell.lock().stopped();
        }
    });
    Ok(())
}

fn serve(mut out: UnixStream, mut err: UnixStream, cell: &Cell) -> std::io::Result<()> {
    err.set_nonblocking(true)?;
    let mut parser = Parser::default();
    let (mut chunk, mut errors) = (vec![0u8; 64 << 10], Vec::new());
    let mut err_open = true;
    let mut last_tick = std::time::Instant::now();
    loop {
        let descriptor = |stream: &UnixStream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut ready = [descriptor(&out), descriptor(&err)];
        // SAFETY: the array outlives the call and its length is given.
        let n = unsafe { libc::poll(ready.as_mut_ptr(), if err_open { 2 } else { 1 }, if cell.lock().running { TICK } else { 200 }) };
        if n < 0 && std::io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return Err(std::io::Error::last_os_error());
        }
        let mut pieces = if n == 0 { parser.idle() } else { Vec::new() };
        if ready[0].revents != 0 {
            match out.read(&mut chunk)? {
                0 => return Ok(()),
                n => pieces.extend(parser.feed(&chunk[..n])),
            }
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
        out.write_all(evcxr.as_bytes())?;
    }
}
