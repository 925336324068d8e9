//! `lafter-kernel`: a Jupyter kernel for Rust with the lafter crate built ahead.

#[cfg(not(unix))]
compile_error!("lafter-kernel runs on Linux; on Windows use the Windows Subsystem for Linux");

mod assigned;
mod building;
mod cell;
mod child;
mod cli;
mod commands;
mod compile_errors;
mod compiled;
mod compiling;
mod complete;
mod definitions;
mod engine;
mod environment;
mod execute;
mod failure;
mod files;
mod history;
mod identity;
mod impls;
mod input;
mod inspect;
mod install;
mod interrupt;
mod is_complete;
mod keep;
mod known;
mod layout;
mod lexer;
mod limit;
mod link;
mod locals;
mod machine;
mod magics;
mod messages;
mod metadata;
mod moved;
mod notice;
mod outline;
mod place;
mod private;
mod publish;
mod receive;
mod relative;
mod rewrite;
mod rust_src;
mod seed;
mod server;
mod session;
mod shapes;
mod shim;
mod stream;
mod toolchain;

/// rust-analyzer allocates millions of small nodes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if !cfg!(target_os = "linux") {
        eprintln!("error: lafter-kernel runs on Linux only; elsewhere use the image of .binder/Dockerfile in its repository");
        std::process::exit(1);
    }
    shim::hook();
    if std::env::var_os(child::SOCKET_VARIABLE).is_some() && std::env::var_os("EVCXR_IS_RUNTIME").is_some() {
        child::run()
    }
    evcxr::runtime_hook(); // evcxr may also use this binary as its rustc wrapper
    if let Err(error) = cli::main() {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
