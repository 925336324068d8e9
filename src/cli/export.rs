//! `export`: the result in a form that other programs read.

use std::path::{Path, PathBuf};

use clap::Args;
use lafter::clip::Clip;
use lafter::export::{Answering, Onnx, license_of, merge};
use lafter::ranks::Alone;
use lafter::{Error, LaFTer, Result};
use serde_json::json;

use super::answers::AnswerArgs;
use super::args::{Common, ModelArgs};
use super::bars::Bars;
use super::commands::{ends_in, load, print, shown};
use super::overwrite;
use super::say::{note, say};

pub const EXAMPLES: &str = "\
An ONNX file takes pixels [n, 3, side, side] (f32, normalized) or with --pictures 8-bit pictures [n, height, width, 3], and gives
logits and probabilities. Without --weights the answers are zero-shot's, or with --descriptions the text classifier's.

Examples:
  lafter export --model M --weights lafter-out/lafter.safetensors \\
    --out model.onnx
  lafter export --model M --weights lafter-out/lafter.safetensors \\
    --out model.onnx --pictures --half --license mit
  lafter export --model M --classes names.txt --out zero-shot.onnx
  # tuned without prompts: a CLIP for any program
  lafter export --model M --weights lafter-out/lafter.safetensors --merge DIR";

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub who: AnswerArgs,
    #[command(flatten)]
    pub form: FormArgs,
    /// The ONNX file takes 8-bit pictures of any size and prepares them itself
    #[arg(long, conflicts_with = "merge")]
    pub pictures: bool,
    /// Store the ONNX file's matrices in f16: half the size, answers that differ in the third digit
    #[arg(long, conflicts_with = "merge")]
    pub half: bool,
    /// License of the base model, written into the ONNX file [default: what README.md in the model's folder says]
    #[arg(long, value_name = "NAME", conflicts_with = "merge")]
    pub license: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct FormArgs {
    /// The ONNX file to write
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A new or empty folder for an ordinary CLIP with the tuned norms, which transformers and open_clip load; for weights without
    /// prompts
    #[arg(long, value_name = "DIR", requires = "weights")]
    pub merge: Option<PathBuf>,
}

pub fn export(args: ExportArgs, common: &Common) -> Result<()> {
    if args.form.merge.is_some() && args.who.weights.is_none() {
        return Err(Error::Usage("--merge needs --weights FILE: only a tuned tower changes a CLIP".into()));
    }
    args.who.check()?;
    if let Some(out) = &args.form.out {
        overwrite::check(out, args.who.files().chain(args.model.files()))?;
        ends_in(out, "onnx", "an ONNX")?;
    }
    let mut bars = Bars::new(common.json);
    let clip = load(&args.model, common, &mut bars)?;
    if let (Some(directory), Some(weights)) = (&args.form.merge, &args.who.weights) {
        return merged(weights, clip, directory, common);
    }
    let (answering, classes) = answering(&args, &clip, common, &mut bars)?;
    let Some(out) = &args.form.out else { return Err(Error::Usage("give --out FILE or --merge DIR".into())) };
    let given = args.license.clone().filter(|name| !name.trim().is_empty());
    let license = given.or_else(|| license_of(clip.id()));
    let onnx = Onnx { pictures: args.pictures, half: args.half, license, ..Onnx::new(clip, answering, &classes) };
    let summary = onnx.save(out)?;
    summary.notices.iter().for_each(|notice| note(format_args!("note: {notice}")));
    if common.json {
        print(&json!({ "file": shown(out), "classes": classes.len(), "written": summary }));
    } else {
        say(format_args!("{}: {summary}", out.display()));
    }
    Ok(())
}

/// Writes a CLIP folder with the tuned norms.
fn merged(weights: &Path, clip: Clip, directory: &Path, common: &Common) -> Result<()> {
    let saved = merge(&LaFTer::load(weights, clip)?, directory)?;
    saved.notices.iter().for_each(|notice| note(format_args!("note: {notice}")));
    if common.json {
        print(&json!({ "folder": shown(directory), "files": saved.files, "weights_hash": saved.weights_hash }));
    } else {
        say(format_args!("{}: {}", directory.display(), saved.files.join(", ")));
    }
    Ok(())
}

/// The classifier that was asked for, and its class names.
fn answering(args: &ExportArgs, clip: &Clip, common: &Common, bars: &mut Bars) -> Result<(Answering, Vec<String>)> {
    if let Some(weights) = &args.who.weights {
        let lafter = LaFTer::load(weights, clip.clone())?;
        return Ok((Answering::of(&lafter)?, lafter.classes().to_vec()));
    }
    let names = args.who.names(bars)?;
    if let Some(lafter) = args.who.trained(&Alone, clip, &names, common, bars)? {
        return Ok((Answering::of(&lafter)?, names));
    }
    Ok((Answering::ZeroShot(args.who.prototypes(&Alone, clip, &names, bars)?), names))
}
