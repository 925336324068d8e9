//! Commands, options, progress bars; every command is a thin call into the library.

mod ablate;
mod args;
mod bars;
mod check;
mod commands;
mod describe;
mod describe_args;
mod run;
mod say;

use std::process::ExitCode;

use clap::Parser;
use lafter::progress;

use args::{Cli, Command};
use say::note;

/// Exit status 0, 1 for a failed run, 2 for bad usage; errors on standard error, one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // bad usage ends here with status 2
    // a file larger than `ulimit -f` allows is then an error of the write, not the end of the process
    #[cfg(unix)]
    // SAFETY: sets how a signal is treated, before any thread is started.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    // the first Ctrl-C stops at the next safe point and saves; the second ends the process
    let handler = ctrlc::set_handler(|| {
        if progress::interrupted() {
            std::process::exit(130);
        }
        progress::interrupt();
        note(format_args!("\nstopping at the next safe point (Ctrl-C again ends at once)"));
    });
    if let Err(error) = handler {
        note(format_args!("note: Ctrl-C will end the run without saving: {error}"));
    }
    let result = match cli.command {
        Command::Demo(args) => run::demo(args, &cli.common),
        Command::Run(args) => run::run(*args, &cli.common),
        Command::ZeroShot(args) => commands::zero_shot(args, &cli.common),
        Command::Evaluate(args) => commands::evaluate(args, &cli.common),
        Command::Predict(args) => commands::predict(args, &cli.common),
        Command::Check(args) => check::check(*args, &cli.common),
        Command::Embed(args) => commands::embed(args, &cli.common),
        Command::Ablate(args) => ablate::ablate(*args, &cli.common),
        Command::Describe(args) => describe::describe(*args, &cli.common),
        Command::PretrainDemo(args) => commands::pretrain_demo(args, &cli.common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {error}"));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}
