//! `import`: weights that were trained in PyTorch.

use std::path::PathBuf;

use clap::Args;
use lafter::Result;
use lafter::export::from_released_with;
use serde_json::json;

use super::answers::names_of;
use super::args::{Common, ModelArgs};
use super::bars::Bars;
use super::commands::{load, print, safetensors, shown};
use super::overwrite;
use super::say::say;

pub const EXAMPLES: &str = "\
The state is what torch.save(model.state_dict(), FILE) writes of the model of LaFTer's released code (jmiemirza/LaFTer): prompts, norms,
adapter. Nothing in it is run. Its frozen tower is compared with --model.

Example:
  lafter import --model openai/clip-vit-base-patch32 --state lafter.pth \\
    --classes names.txt --out lafter.safetensors";

#[derive(Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The state of the trained model, a PyTorch or safetensors file
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// Class names, one per line, in the order of the head's outputs
    #[arg(long, value_name = "FILE")]
    pub classes: PathBuf,
    /// The LaFTer weights to write
    #[arg(long, value_name = "FILE", default_value = "lafter.safetensors")]
    pub out: PathBuf,
}

pub fn import(args: ImportArgs, common: &Common) -> Result<()> {
    overwrite::check(&args.out, [&*args.state, &*args.classes].into_iter().chain(args.model.files()))?;
    safetensors(&args.out)?;
    let mut bars = Bars::new(common.json);
    let classes = names_of(&args.classes, &mut bars)?;
    let clip = load(&args.model, common, &mut bars)?;
    let lafter = from_released_with(&args.state, clip, &classes, |event| bars.show(event))?;
    lafter.save(&args.out)?;
    let prompts = lafter.tuned().map_or(0, |tuned| tuned.prompts.count());
    if common.json {
        print(&json!({ "file": shown(&args.out), "classes": classes.len(), "prompts": prompts }));
    } else {
        say(format_args!("{}: {} classes, {prompts} prompts, norms, head", args.out.display(), classes.len()));
    }
    Ok(())
}
