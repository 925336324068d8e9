//! Commands, options, progress bars; every command is a thin call into the library.

mod ablate;
mod answers;
mod args;
mod bars;
mod card;
mod check;
mod commands;
mod describe;
mod describe_args;
mod describe_pairs;
mod export;
mod import;
mod inputs;
mod keep;
mod predict;
mod predict_args;
mod run;
mod say;
mod scenes;
mod settings;
mod signals;
mod together;
mod transduct;

use std::process::ExitCode;

use clap::Parser;
use lafter::Error;

use args::{Cli, Command};
use say::note;

/// Exit status 0, 1 for a failed run, 2 for bad usage, 143 or 129 after a signal ([`signals`]); errors on standard
/// error, one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // bad usage ends here with status 2
    signals::watch();
    let result = match cli.command {
        Command::Demo(args) => run::demo(args, &cli.common),
        Command::Run(args) => run::run(*args, &cli.common),
        Command::ZeroShot(args) => commands::zero_shot(args, &cli.common),
        Command::Evaluate(args) => commands::evaluate(args, &cli.common),
        Command::Predict(args) => predict::predict(*args, &cli.common),
        Command::Transduct(args) => transduct::transduct(args, &cli.common),
        Command::Export(args) => export::export(*args, &cli.common),
        Command::Import(args) => import::import(args, &cli.common),
        Command::Card(args) => card::card(args, &cli.common),
        Command::Check(args) => check::check(*args, &cli.common),
        Command::Embed(args) => commands::embed(args, &cli.common),
        Command::Ablate(args) => ablate::ablate(*args, &cli.common),
        Command::Settings(args) => settings::settings(args, &cli.common),
        Command::Describe(args) => describe::describe(*args, &cli.common),
        Command::Scenes(args) => scenes::scenes(args, &cli.common),
        Command::PretrainDemo(args) => commands::pretrain_demo(args, &cli.common),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {error}"));
            ExitCode::from(status(&error))
        }
    }
}

/// The exit status that says what failed.
fn status(error: &Error) -> u8 {
    match error {
        Error::Usage(_) => 2,
        Error::Interrupted(_) => signals::status(),
        _ => 1,
    }
}
