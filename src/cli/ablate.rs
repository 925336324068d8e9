//! `ablate`: a grid over settings, its runs, its table.

use std::sync::Arc;

use lafter::ablate::{self, Ablation, ImageStage, Method, Shard};
use lafter::experiment::Experiment;
use lafter::progress::Event;
use lafter::settings::{Changes, LafterConfig, full_path};
use lafter::{Error, Result};

use super::args::{AblateArgs, Common};
use super::bars::Bars;
use super::run::set_up;
use super::say::say;
use super::settings;

pub fn ablate(args: AblateArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    // what is wrong with the grid is said before a model is loaded
    let changes = settings::changes(&args.setup)?;
    let factors = factors(&args, &changes)?;
    let shard = match args.shard {
        Some(shard) => shard,
        None => task(args.collect, &mut bars)?,
    };
    let base = set_up(&args.setup, common, &mut bars)?;
    let grid = grid(&args, factors, changes, base)?.seeds(args.seeds).jobs(args.jobs).out(&args.out).shard(shard);
    if args.dry_run {
        let cells = grid.cells()?;
        let mine: Vec<String> = cells.iter().enumerate().filter(|(place, _)| shard.holds(*place)).map(|(_, cell)| cell.name()).collect();
        if common.json {
            super::commands::print(&serde_json::json!({ "runs": mine, "of": cells.len() }));
        } else {
            say(format_args!("{}\n{} of {}", mine.join("\n"), runs(mine.len()), cells.len()));
        }
        return Ok(());
    }
    let study = if args.collect { grid.collect()? } else { grid.run(|event| bars.show(event))? };
    if shard != Shard::WHOLE && !args.collect && study.missing > 0 {
        bars.show(&Event::Notice(format!("shard {shard} is done; join all with --collect")));
    }
    study.save(&args.out)?;
    if common.json {
        say(lafter::eval::to_json(&study)?.trim_end());
    } else {
        say(format_args!("{study}\ntables and figure: {}", args.out.display()));
    }
    match study.failed.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let failed = runs(study.failed.len());
            Err(Error::Data(format!("{failed} failed, the first: {first}; the same command runs what is missing, and keeps the rest")))
        }
    }
}

/// "1 run", "2 runs".
fn runs(n: usize) -> String {
    if n == 1 { "1 run".into() } else { format!("{n} runs") }
}

/// The share of this task of a SLURM array job, which it says; else the whole grid.
fn task(collects: bool, bars: &mut Bars) -> Result<Shard> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(shard) = Shard::from_slurm(variable)? else { return Ok(Shard::WHOLE) };
    if !collects {
        let id = variable("SLURM_ARRAY_TASK_ID").unwrap_or_default();
        bars.show(&Event::Notice(match shard {
            Shard::WHOLE => format!(
                "task {id} is the only one of its SLURM array and takes the whole grid: to repeat a task of a larger array give its \
                 share, as in --shard 3/16"
            ),
            _ => format!("shard {shard}, by SLURM_ARRAY_TASK_ID={id}"),
        }));
    }
    Ok(shard)
}

/// What levels of --paper and --methods set in some rows only: an option sets it for the others, a factor would undo it in these.
const PAPER_SETS: [&str; 4] = ["tune.epochs", "tune.tune_norms", "tune.prompts", "tune.augment"];
const METHODS_SET: [&str; 1] = ["text.epochs"];

/// The user's factors, each a field with its values; `changes` are what the options set.
fn factors(args: &AblateArgs, changes: &Changes) -> Result<Vec<(String, Vec<String>)>> {
    if args.vary.is_empty() && !args.paper && !args.methods {
        return Err(Error::Usage("there is nothing to vary: give --vary FIELD=V,V,…, --paper or --methods".into()));
    }
    const PAPER_VARIES_NOISE: &str = "--paper varies text.noise itself: give its levels by --noises";
    if let Some(field) = Method::VARIES.iter().find(|field| args.methods && changes.holds(field)) {
        return Err(Error::Usage(format!("--methods varies {field} itself: leave it out")));
    }
    if args.paper && changes.holds("text.noise") {
        return Err(Error::Usage(PAPER_VARIES_NOISE.into()));
    }
    if args.paper || args.methods {
        let mut base = LafterConfig::default(); // in what is looked at here the demo's settings are the same
        changes.apply(&mut base)?;
        if args.paper { ImageStage::check(&base)? } else { Method::check(&base)? }
    }
    let mut factors = Vec::with_capacity(args.vary.len());
    for factor in &args.vary {
        let Some((field, values)) = factor.split_once('=') else {
            return Err(Error::Usage(format!("--vary {factor} has no values: write --vary FIELD=V,V,…")));
        };
        let field = full_path(field.trim())?;
        if field == "seed" {
            return Err(Error::Usage("the seed is not a factor: give --seed for the first and --seeds for how many".into()));
        }
        if args.paper && field == "text.noise" {
            return Err(Error::Usage(PAPER_VARIES_NOISE.into()));
        }
        if (args.paper || args.methods) && field == "preset" {
            let varies = if args.paper { "--paper" } else { "--methods" };
            return Err(Error::Usage(format!("a preset would undo what {varies} varies: give --preset, one study each")));
        }
        if args.methods && Method::VARIES.contains(&field.as_str()) {
            return Err(Error::Usage(format!("--methods varies {field} itself: leave it out")));
        }
        for (asked, option, sets) in [(args.paper, "--paper", &PAPER_SETS[..]), (args.methods, "--methods", &METHODS_SET)] {
            if asked && sets.contains(&field.as_str()) {
                return Err(Error::Usage(format!("{field} would undo what {option} varies: give --set {field}=VALUE, one study each")));
            }
        }
        if changes.holds(&field) {
            return Err(Error::Usage(format!("{field} is varied: leave out the option that sets it")));
        }
        let values = values_of(values);
        values.iter().try_for_each(|value| Changes::default().set(&field, value))?;
        factors.push((field, values));
    }
    factors.sort_by_key(|(field, _)| field != "preset"); // the first column of the table
    Ok(factors)
}

/// The paper's grid, the user's factors, or both; of their levels those that `--only` leaves.
fn grid(args: &AblateArgs, factors: Vec<(String, Vec<String>)>, changes: Changes, base: Experiment) -> Result<Ablation> {
    let changes = Arc::new(changes);
    let mut grid = match (args.paper, args.methods) {
        (true, _) => ablate::paper(base, &args.noises),
        (_, true) => ablate::methods(base),
        _ => Ablation::new(base),
    };
    for (field, values) in factors {
        let (name, changes) = (field.clone(), changes.clone());
        grid = grid.vary_experiment(&field, values, move |experiment, value| {
            // ranges may span several factors: `cells` looks at them together
            experiment.config.assign(&name, &value)?;
            // a preset comes before what the options set
            if name == "preset" { changes.apply_fields(&mut experiment.config) } else { Ok(()) }
        });
    }
    args.only.iter().try_fold(grid, |grid, only| match only.split_once('=') {
        Some((factor, levels)) => grid.only(factor.trim(), &values_of(levels)),
        None => Err(Error::Usage(format!("--only {only} has no levels: write --only FACTOR=LEVEL,LEVEL,…"))),
    })
}

/// Parts at the commas outside brackets and braces: `[0.2,1],[0.5,1]` are two values.
fn values_of(text: &str) -> Vec<String> {
    let (mut values, mut depth) = (vec![String::new()], 0i32);
    for c in text.chars() {
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        match (c, values.last_mut()) {
            (',', _) if depth <= 0 => values.push(String::new()),
            (c, Some(value)) => value.push(c),
            (_, None) => {}
        }
    }
    values.into_iter().map(|value| value.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use lafter::ablate::Cell;
    use lafter::clip::Clip;

    use super::*;
    use crate::cli::args::{Cli, Command};

    #[test]
    fn lists_are_single_values() {
        assert_eq!(values_of("0, 0.3,1"), ["0", "0.3", "1"]);
        assert_eq!(values_of("[0.2,1],[0.5, 1]"), ["[0.2,1]", "[0.5, 1]"]);
        assert_eq!(
            values_of(r#""constant",{"cosine":{"warmup":10,"floor":0}}"#),
            [r#""constant""#, r#"{"cosine":{"warmup":10,"floor":0}}"#]
        );
        assert_eq!(values_of(""), [""]);
    }

    /// The cells that options ask for, over the demo.
    fn cells(options: &str) -> Result<Vec<Cell>> {
        let options = options.split(' ').map(|option| option.replace('\u{a0}', " ")); // a space that is no border
        let line = ["lafter", "ablate", "--model", "demo"].map(String::from).into_iter().chain(options);
        let Command::Ablate(args) = Cli::parse_from(line).command else { unreachable!() };
        let changes = settings::changes(&args.setup)?;
        let factors = factors(&args, &changes)?;
        let mut base = Experiment::demo(Clip::demo()?, 1)?;
        changes.apply(&mut base.config)?;
        grid(&args, factors, changes, base)?.cells()
    }

    #[test]
    fn ranges_are_those_of_a_whole_cell() {
        let count = |options: &str| cells(options).unwrap().len();
        let objectives = r#"[[1,"cross_entropy"]],[[1,"cross_entropy"],[1,"alignment"]]"#;
        assert_eq!(count(&format!("--preset dpa --vary tune.objective={objectives}")), 2);
        // what learns comes last
        let nothing = "--vary tune.prompts=0 --vary tune.tune_norms=false --vary tune.tune_head=false";
        assert_eq!(count(&format!("{nothing} --vary tune.tune_biases=true")), 1);
        let epochs = cells("--set text.start=class_means --vary text.epochs=0,100").unwrap();
        assert_eq!(epochs.iter().map(|cell| cell.experiment.config.text.epochs).collect::<Vec<_>>(), [0, 100]);
        assert_eq!(count("--paper --noises 0 --only texts=names,all --only image\u{a0}stage=both"), 2);
        assert!(cells("--vary text.noise=0,-1").unwrap_err().to_string().contains("at least 0"));
    }

    #[test]
    fn what_would_be_ignored_or_called_wrongly_is_refused() {
        for (options, says) in [
            ("--epochs 5 --vary tune.epochs=1,2", "tune.epochs is varied"),
            ("--preset paper --vary preset=demo,official", "preset is varied"),
            ("--vary tune.epochs=1,many", "cannot be many"),
            ("--methods --preset nola", "tune.teacher"),
            ("--methods --preset must_lite", "tune.teacher"),
            ("--paper --only texts", "--only FACTOR=LEVEL"),
            ("--paper --only text=names", "texts, image stage, noise"),
            ("--paper --only texts=names,some", "texts has no level \"some\": its levels are names, templates,"),
            ("--paper --preset dpa", "tune.prompts"),
            ("--paper --prompts 0", "tune.prompts"),
            ("--paper --set tune.tune_norms=false", "tune.tune_norms"),
        ] {
            let error = cells(options).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(says), "{options}: {error}");
        }
        for options in ["--methods", "--methods --preset paper", "--paper", "--paper --preset official"] {
            cells(options).unwrap();
        }
    }
}
