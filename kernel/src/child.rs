//! The process that loads each compiled cell and runs it.
//!
//! evcxr writes `LOAD_AND_RUN <library> <function>` to our standard input and waits for `EVCXR_EXECUTION_COMPLETE`. What
//! the cell prints goes straight to the kernel: descriptors 1 and 2 are sockets, so that not even a crash loses a line.
//! The kernel picks out what is meant for evcxr and sends it back over the first socket; we pass it on. evcxr's own pipes are
//! moved away first: a program that a cell starts must neither read orders nor keep the pipes open.

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use hooks::{HOOKS_VARIABLE, Hooks};

use crate::environment;
use crate::stream::MARK;

/// The library's own file, by a link that makes it part of the package: `lafter::notebook::start()`, which the prelude calls,
/// fills the hooks.
#[path = "hooks.rs"]
mod hooks;

/// Where the kernel listens for the cell's output.
pub const SOCKET_VARIABLE: &str = "LAFTER_KERNEL_SOCKET";
/// Written to the cell's output before a cell runs, after its last expression, and after what the library draws then.
pub const BEGIN: &str = "\u{1e}LAFTER_BEGIN\n";
pub const RAN: &str = "\u{1e}LAFTER_RAN\n";
pub const END: &str = "\u{1e}LAFTER_END\n";
/// Before the secret that follows each of them, so that nothing that a cell prints is taken for one; the process' first line.
pub const SECRET: &str = "\u{1e}LAFTER_SECRET ";
/// Above this glibc maps memory anew for each tensor, which costs one page fault per page.
#[cfg(target_env = "gnu")]
const MAP_ABOVE: i32 = 1 << 30;
/// What may stay with the process after tensors are gone.
#[cfg(target_env = "gnu")]
const KEEP: i32 = 128 << 20;

static HOOKS: Hooks = Hooks::empty();

pub fn run() -> ! {
    match serve() {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("the cell's process cannot go on: {error:#}");
            std::process::exit(99)
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let _ = environment::here().map(std::env::set_current_dir); // a folder that is gone is left alone
    let socket = std::env::var(SOCKET_VARIABLE)?;
    let (out, err) = (UnixStream::connect(&socket)?, UnixStream::connect(&socket)?);
    // SAFETY: plain descriptor calls on descriptors that we own; no other thread runs yet, so the environment may be set.
    let (orders, evcxr) = unsafe {
        let (orders, evcxr) = (moved(0)?, moved(1)?);
        HOOKS.answers.store(orders.as_raw_fd(), Ordering::SeqCst);
        libc::dup2(File::open("/dev/null")?.as_raw_fd(), 0);
        libc::dup2(out.as_raw_fd(), 1);
        libc::dup2(err.as_raw_fd(), 2);
        #[cfg(target_env = "gnu")]
        {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_ABOVE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP);
        }
        libc::signal(libc::SIGINT, on_interrupt as *const () as libc::sighandler_t);
        std::env::remove_var("RUST_BACKTRACE"); // evcxr sets it; errors and panics are to be one line
        // with our number: what a cell starts inherits the variable, but has nothing at that address
        std::env::set_var(HOOKS_VARIABLE, format!("{}:{}", std::process::id(), (&raw const HOOKS).expose_provenance()));
        (orders, evcxr)
    };
    drop(err);
    std::thread::spawn(move || forward(out, evcxr));
    let secret = uuid::Uuid::new_v4().to_string();
    write_all(1, format!("{SECRET}{secret}\n").as_bytes());
    let [begin, ran, end] = marks(&secret);
    let mut variables: *mut c_void = null_mut();
    for line in BufReader::new(orders).lines() {
        let line = line?;
        let job = line.strip_prefix("LOAD_AND_RUN ").and_then(|job| job.rsplit_once(' '));
        let Some((library, function)) = job else { continue }; // an answer that nobody waited for
        // it forgets interrupts: those that come once the cell is said to run are meant
        call(&HOOKS.begin);
        let which = serde_json::json!({"op": "library", "path": library});
        write_all(1, format!("{begin}{MARK}{which}\n").as_bytes());
        variables = load_and_run(library, function, variables)?;
        write_all(1, ran.as_bytes());
        call(&HOOKS.end);
        write_all(1, end.as_bytes());
    }
    Ok(())
}

/// The lines around a cell, of a process with this secret.
pub fn marks(secret: &str) -> [String; 3] {
    [BEGIN, RAN, END].map(|mark| mark.replace('\n', &format!("{secret}\n")))
}

/// The descriptor under another number, which no program inherits.
///
/// # Safety
/// The descriptor is open.
unsafe fn moved(fd: RawFd) -> std::io::Result<File> {
    // SAFETY: as the caller promises; what comes back is nobody else's.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

/// Libraries are never unloaded: values from earlier cells point into them.
fn load_and_run(library: &str, function: &str, variables: *mut c_void) -> anyhow::Result<*mut c_void> {
    let (library, function) = (CString::new(library)?, CString::new(function)?);
    // SAFETY: evcxr generated the library with exactly this function; the pointer is the one that its predecessor returned.
    unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        anyhow::ensure!(!handle.is_null(), "cannot load the cell: {:?}", CStr::from_ptr(libc::dlerror()));
        let symbol = libc::dlsym(handle, function.as_ptr());
        anyhow::ensure!(!symbol.is_null(), "the cell has no function {function:?}");
        let function: extern "C" fn(*mut c_void) -> *mut c_void = std::mem::transmute(symbol);
        Ok(function(variables))
    }
}

/// Passes the kernel's lines on to evcxr. The kernel's end is ours too, also in the middle of a cell.
fn forward(kernel: UnixStream, mut evcxr: File) {
    for line in BufReader::new(kernel).lines().map_while(Result::ok) {
        let _ = writeln!(evcxr, "{line}");
    }
    std::process::exit(0);
}

extern "C" fn on_interrupt(_: i32) {
    call(&HOOKS.interrupt);
}

fn call(hook: &AtomicPtr<()>) {
    let hook = hook.load(Ordering::SeqCst);
    if !hook.is_null() {
        // SAFETY: only `lafter::notebook::start` stores here, functions of this type.
        unsafe { std::mem::transmute::<*mut (), extern "C" fn()>(hook)() }
    }
}

fn write_all(fd: RawFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a slice.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if n <= 0 {
            return;
        }
        bytes = &bytes[n as usize..];
    }
}
