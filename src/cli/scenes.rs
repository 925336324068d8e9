//! `scenes`: rendered pictures as files, to try every other command on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, Shift};
use lafter::progress::{Event, check_interrupt};
use lafter::{Error, Result};
use serde_json::{Value, json};

use super::args::{Common, at_least_one};
use super::bars::Bars;
use super::commands::print;
use super::overwrite;
use super::say::say;

pub const EXAMPLES: &str = "\
Shifts, each with the target domain's value: clutter=4 (shapes behind the object), cast=[1,1,1] (the light's color), cast_spread=0.45,
contrast=[1,1], haze=0.43, texture=0, noise=0, blur=0.

Examples:
  # one folder a class, as --train and --test take it
  lafter scenes --out scenes
  # pictures without labels
  lafter scenes --out photos --flat --count 200
  lafter scenes --out hard --shift noise=0.1 --shift 'contrast=[0.4,0.7]'";

#[derive(Args)]
pub struct ScenesArgs {
    /// The folder to write; it must be empty or new
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many pictures
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = at_least_one())]
    pub count: usize,
    /// Which rendering
    #[arg(long, value_enum, default_value_t = DomainArg::Target)]
    pub domain: DomainArg,
    /// A dial of the rendering, as in noise=0.1; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub shift: Vec<String>,
    /// All pictures in one folder, without labels
    #[arg(long)]
    pub flat: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum DomainArg {
    /// Clean pictures: what the demo CLIP saw
    Source,
    /// The same classes at a fair, under colored light, with clutter
    Target,
}

pub fn scenes(args: ScenesArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    overwrite::new_or_empty(&args.out)?;
    let scenes = match (args.domain, args.shift.as_slice()) {
        (DomainArg::Source, []) => Scenes::new(Domain::Source, args.count, common.seed),
        (DomainArg::Target, []) => Scenes::new(Domain::Target, args.count, common.seed),
        (domain, dials) => {
            let start = if domain == DomainArg::Source { Shift::none() } else { Shift::fair() };
            Scenes::shifted(turned(start, dials)?, args.count, common.seed)
        }
    };
    let scenes = Dataset::new(scenes);
    let new = !args.out.exists();
    if let Err(error) = write(&scenes, &args, &mut bars) {
        if new {
            let _ = std::fs::remove_dir(&args.out); // as it was before
        }
        return Err(error);
    }
    if common.json {
        print(&json!({ "folder": args.out.display().to_string(), "pictures": args.count, "classes": scenes.classes() }));
    } else {
        let labels = scenes.labels().unwrap_or_default();
        let drawn = scenes.classes().iter().enumerate().filter(|(label, _)| labels.contains(label)).map(|(_, class)| class.as_str());
        let pictures = if args.count == 1 { "picture" } else { "pictures" };
        say(format_args!("{} {pictures} of {} written to {}", args.count, drawn.collect::<Vec<_>>().join(", "), args.out.display()));
    }
    Ok(())
}

/// All pictures or none: they lie in a hidden folder until the last is there.
fn write(scenes: &Dataset, args: &ScenesArgs, bars: &mut Bars) -> Result<()> {
    let io = |e| Error::io(&args.out, e);
    std::fs::create_dir_all(&args.out).map_err(io)?;
    let hidden = tempfile::Builder::new().prefix(overwrite::UNFINISHED).tempdir_in(&args.out).map_err(io)?;
    let width = args.count.max(1).ilog10() as usize + 1;
    bars.show(&Event::Started { stage: "rendering".into(), total: args.count, unit: "pictures".into() });
    for i in 0..args.count {
        check_interrupt("rendering stopped, nothing was written")?;
        let class = scenes.label(i).and_then(|label| scenes.classes().get(label)).filter(|_| !args.flat);
        let folder = class.map_or(hidden.path().to_path_buf(), |class| hidden.path().join(class));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let path = folder.join(format!("{i:0width$}.png"));
        let mut png = std::io::Cursor::new(Vec::new());
        let encoded = scenes.image(i)?.write_to(&mut png, image::ImageFormat::Png);
        encoded.map_err(|e| Error::Image(format!("{}: {e}", path.display())))?;
        lafter::files::save_atomically(&path, png.get_ref())?;
        bars.show(&Event::Advanced { stage: "rendering".into(), done: i + 1, total: args.count, loss: None, accuracy: None });
    }
    overwrite::new_or_empty(&args.out)?; // nobody else was faster
    for entry in std::fs::read_dir(hidden.path()).map_err(io)? {
        let entry = entry.map_err(io)?;
        std::fs::rename(entry.path(), args.out.join(entry.file_name())).map_err(io)?;
    }
    Ok(())
}

/// A shift with some dials turned.
fn turned(start: Shift, dials: &[String]) -> Result<Shift> {
    let mut value = json!(start);
    let known = value.as_object().map(|dials| dials.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
    for dial in dials {
        let wrong = |why: &str| Error::Usage(format!("--shift {dial}: {why}: the dials are {known}, with values as in noise=0.1"));
        let (key, text) = dial.split_once('=').ok_or_else(|| wrong("has no value"))?;
        let place = value.get_mut(key.trim()).ok_or_else(|| wrong("is not a dial"))?;
        *place = serde_json::from_str::<Value>(text.trim()).map_err(|_| wrong("is not a number or a list of numbers"))?;
        serde_json::from_value::<Shift>(value.clone()).map_err(|_| wrong("does not fit"))?;
    }
    let shift: Shift = serde_json::from_value(value).map_err(|e| Error::Usage(format!("--shift: {e}")))?;
    shift.validate().map_err(|e| Error::Usage(format!("--shift: {e}")))?;
    Ok(shift)
}
