//! `card`: README.md of a run's folder.

use std::path::PathBuf;

use clap::Args;
use lafter::export::{Card, CardOutcome, license_of};
use lafter::tune::WeightsInfo;
use lafter::{Error, Result};
use serde_json::json;

use super::args::Common;
use super::commands::{print, shown};
use super::say::say;

pub const EXAMPLES: &str = "\
`lafter run` writes a card, too; this command writes it anew, with a name and a license. Names of folders on this machine are left out.

Example:
  lafter card --run lafter-out --name birds-of-my-garden --license cc-by-4.0";

#[derive(Args)]
pub struct CardArgs {
    /// The folder of a finished run, with report.json and lafter.safetensors
    #[arg(long, value_name = "DIR", default_value = "lafter-out")]
    pub run: PathBuf,
    /// The title [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The license of these weights, as the hub names it [default: left for you to fill in]
    #[arg(long, value_name = "NAME")]
    pub license: Option<String>,
    /// Replace a README.md that was edited, or is not a card
    #[arg(long)]
    pub overwrite: bool,
}

pub fn card(args: CardArgs, common: &Common) -> Result<()> {
    if let Some(missing) = ["report.json", "lafter.safetensors"].iter().find(|name| !args.run.join(name).exists()) {
        let run = args.run.display();
        return Err(Error::Usage(format!("{run} holds no {missing}: --run takes the folder of a finished run")));
    }
    let base_license = license_of(&WeightsInfo::read(args.run.join("lafter.safetensors"))?.base_model);
    let path = args.run.join("README.md");
    let card = Card { name: args.name, license: args.license, base_license };
    if card.write(&args.run, args.overwrite)? == CardOutcome::Kept {
        return Err(Error::Usage(format!("{} was edited, or is not a card of lafter: --overwrite replaces it", path.display())));
    }
    if common.json {
        print(&json!({ "file": shown(&path) }));
    } else {
        say(format_args!("{} written: look at its license field before you upload the folder", path.display()));
    }
    Ok(())
}
