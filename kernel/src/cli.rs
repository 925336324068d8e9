//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::install;
use crate::layout::{Layout, Scope};
use crate::seed::Wish;

/// A Jupyter kernel for Rust with the lafter crate built ahead
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile everything and register the kernel with Jupyter
    Install {
        #[command(flatten)]
        place: Where,
        /// The checkout of lafter to build (default: the one this program was built in; without one, the published crate)
        #[arg(long, value_name = "DIR")]
        checkout: Option<PathBuf>,
        /// With a language model in the cells' process (`LocalModel`): about two minutes more
        #[arg(long)]
        llm: bool,
        /// Compile at most N crates at a time (default: one a core)
        #[arg(long, short, value_name = "N")]
        jobs: Option<usize>,
    },
    /// Remove the kernel and its data
    Uninstall(Where),
    /// Print versions, paths and sizes, and run a cell
    Doctor(Where),
    /// Answer a front end (what Jupyter calls)
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        data: PathBuf,
        connection_file: PathBuf,
    },
}

#[derive(Args)]
struct Where {
    /// For this user (the default)
    #[arg(long, conflicts_with = "prefix")]
    user: bool,
    /// For one environment, for example that of a virtual environment: the value of sys.prefix
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

impl Where {
    fn scope(self) -> Scope {
        self.prefix.map_or(Scope::User, Scope::Prefix)
    }
}

pub fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Install { place, checkout, llm, jobs } => install::install(&place.scope(), &Wish { checkout, llm, jobs }),
        Command::Uninstall(place) => install::uninstall(&place.scope()),
        Command::Doctor(place) => commands::doctor(&place.scope()),
        Command::Serve { data, connection_file } => commands::serve(Layout { data }, &connection_file),
    }
}
