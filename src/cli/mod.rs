//! Commands, options, progress bars; every command is a thin call into the library.

mod ablate;
mod answers;
mod args;
mod bars;
mod card;
mod check;
mod commands;
mod data_args;
mod describe;
mod describe_args;
mod describe_pairs;
mod examples;
mod export;
mod import;
mod inputs;
mod keep;
mod overwrite;
mod predict;
mod predict_args;
mod run;
mod say;
mod scenes;
mod settings;
mod signals;
mod threads;
mod together;
mod transduct;

use std::process::ExitCode;

use clap::Parser;
use lafter::{Error, Result};

use args::{Cli, Command};
use say::note;
use together::{on_first, refused};

/// Exit status 0, 1 for a failed run, 2 for bad usage, 143 or 129 after a signal ([`signals`]); errors on standard
/// error, one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // bad usage ends here with status 2
    threads::bound();
    signals::watch();
    // each process of a job has a share of its own then, and errors of its own
    let started = threads::start();
    let apart = started.is_err() || matches!(&cli.command, Command::Ablate(args) if args.shard.is_some());
    match started.and_then(|()| run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // what fails before the processes of a job have met, fails in all of them
            if apart || lafter::ranks::launched_rank() == 0 {
                note(format_args!("error: {error}"));
            }
            ExitCode::from(status(&error))
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let common = &cli.common;
    match cli.command {
        Command::Demo(args) => run::demo(args, common),
        Command::Run(args) => run::run(*args, common),
        Command::ZeroShot(args) => commands::zero_shot(args, common),
        Command::Evaluate(args) => commands::evaluate(args, common),
        Command::Predict(args) => predict::predict(*args, common),
        Command::Embed(args) => commands::embed(args, common),
        Command::Ablate(args) if args.shard.is_some() => ablate::ablate(*args, common),
        Command::Ablate(args) if args.dry_run || args.collect => on_first("ablate", || ablate::ablate(*args, common)),
        Command::Ablate(args) => refused("ablate", "give each process its share with --shard I/N, or start one with --jobs N")
            .and_then(|()| ablate::ablate(*args, common)),
        Command::Transduct(args) => on_first("transduct", || transduct::transduct(args, common)),
        Command::Export(args) => on_first("export", || export::export(*args, common)),
        Command::Import(args) => on_first("import", || import::import(args, common)),
        Command::Card(args) => on_first("card", || card::card(args, common)),
        Command::Check(args) => on_first("check", || check::check(*args, common)),
        Command::Settings(args) => on_first("settings", || settings::settings(args, common)),
        Command::Describe(args) => on_first("describe", || describe::describe(*args, common)),
        Command::Scenes(args) => on_first("scenes", || scenes::scenes(args, common)),
        Command::PretrainDemo(args) => on_first("pretrain-demo", || commands::pretrain_demo(args, common)),
    }
}

/// The exit status that says what failed.
fn status(error: &Error) -> u8 {
    match error {
        error if error.is_usage() => 2,
        Error::Interrupted(_) => signals::status(),
        _ => 1,
    }
}
