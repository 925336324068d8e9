//! Does a rule that reads no label choose a good epoch? CLIPs of several strengths, target domains of several shifts, several seeds.
//!
//! `cargo run --release --example selection_study -- OUT` runs all of it, an evening on two cores; it goes on where it was stopped, and
//! where it is started several times at once, each with `RAYON_NUM_THREADS=1`, the processes share the runs.
//! `… -- OUT table` shows the table of what is done so far, `… -- OUT quick` is a small form of a few minutes. The table
//! and `study.csv` tell, for each rule, how far its choice lies below the best candidate of the run (the oracle, chosen with the test
//! labels), and its worst loss against zero-shot and text classifier.
//! Seeds from 602 on and the shift "texture and clutter" are kept apart: the rule was fixed before they were run. It was made on the
//! other shifts with seeds 1, 2, 301, 501 and 601.

use std::fs::File;
use std::path::{Path, PathBuf};

use lafter::clip::Clip;
use lafter::data::Dataset;
use lafter::data::scenes::{Scenes, Shift, text_set};
use lafter::eval::{Choice, Report, Table};
use lafter::experiment::Experiment;
use lafter::files::save_atomically;
use lafter::plot::{Figure, Series, Sort, bars};
use lafter::pretrain::{PretrainConfig, demo};
use lafter::progress::silent;
use lafter::{Error, LafterConfig, Preset, Result};

/// What is combined with what.
pub struct Study {
    /// Pre-training steps of each CLIP: few make a weak one; 0 is the CLIP of the crate, the strongest.
    pub steps: Vec<usize>,
    /// Scenes that each CLIP learns from.
    pub scenes: usize,
    /// How many of [`shifts`] to take.
    pub shifts: usize,
    /// The presets of tuning.
    pub presets: Vec<Preset>,
    /// Seeds of pictures, texts' noise and tuning.
    pub seeds: Vec<u64>,
    /// Training and test pictures of each run.
    pub pictures: (usize, usize),
    /// Epochs of tuning.
    pub epochs: usize,
}

impl Study {
    /// 4 CLIPs × 7 shifts × 2 presets × 3 seeds: 168 runs.
    pub fn whole() -> Self {
        Self {
            steps: vec![200, 600, 1500, 0],
            scenes: 6000,
            shifts: 7,
            presets: vec![Preset::Demo, Preset::Official],
            seeds: vec![602, 603, 601],
            pictures: (1000, 2000),
            epochs: 12,
        }
    }

    /// 1 CLIP × 2 shifts × 1 preset × 2 seeds.
    pub fn quick() -> Self {
        let presets = vec![Preset::Demo];
        Self { steps: vec![40], scenes: 400, shifts: 2, presets, seeds: vec![1, 602], pictures: (60, 48), epochs: 2 }
    }

    /// Its runs, seed by seed.
    fn cells(&self, out: &Path) -> Vec<Cell> {
        let mut cells = Vec::new();
        for seed in &self.seeds {
            for steps in &self.steps {
                for (shift_name, shift) in shifts().into_iter().take(self.shifts) {
                    for preset in &self.presets {
                        let run = format!("{shift_name}, {preset:?}, seed {seed}");
                        let folder = out.join("runs").join(format!("{steps} steps, {run}").replace([' ', ',', '\''], "-"));
                        let name = format!("{}, {run}", clip_name(*steps));
                        cells.push(Cell { name, folder, steps: *steps, shift_name, shift: shift.clone(), preset: *preset, seed: *seed });
                    }
                }
            }
        }
        cells
    }
}

/// Domains with their names, mild to hopeless and more than one kind of shift.
pub fn shifts() -> Vec<(&'static str, Shift)> {
    let fair = Shift::fair;
    vec![
        ("colored light", Shift { clutter: 0, ..fair() }),
        ("the demo's", fair()),
        ("low contrast", Shift { contrast: (0.35, 0.6), ..Shift::none() }),
        ("noise", Shift { noise: 0.15, ..Shift::none() }),
        ("light, blur, noise", Shift { blur: 2, noise: 0.08, ..fair() }),
        ("hopeless", Shift { clutter: 12, contrast: (0.1, 0.25), texture: 0.3, noise: 0.3, blur: 3, ..fair() }),
        ("texture and clutter", Shift { clutter: 8, texture: 0.2, ..Shift::none() }),
    ]
}

/// Whether nothing of this kind was looked at while the rule was made: its seed or its shift.
fn kept_apart(seed: u64, shift: &str) -> bool {
    seed >= 602 || shift == "texture and clutter"
}

/// How the table and the figure call a CLIP of so many steps of training; 0 stands for the embedded one.
fn clip_name(steps: usize) -> String {
    if steps == 0 { "the crate's CLIP".into() } else { format!("{steps} steps") }
}

/// One run's accuracies: zero-shot, the text classifier, their mean, each epoch, and what the signals choose.
struct Line {
    name: String,
    /// CLIP and shift.
    group: String,
    held_out: bool,
    zero_shot: f64,
    /// The mean of zero-shot and the text classifier.
    mean: f64,
    /// The text classifier, then each epoch.
    epochs: Vec<f64>,
    chosen: Choice,
}

impl Line {
    fn of(report: &Report, cell: &Cell) -> Option<Self> {
        let lafter = report.lafter.as_ref()?;
        let before = report.text_classifier.as_ref()?.evaluation.top1;
        let epochs = std::iter::once(Some(before)).chain(lafter.history.iter().map(|record| record.test_top1)).collect::<Option<_>>()?;
        let selection = report.selection.as_ref()?;
        let (chosen, zero_shot) = (selection.fits?.choice(), report.zero_shot.as_ref()?.top1);
        let group = format!("{}, {}", clip_name(cell.steps), cell.shift_name);
        let (name, held_out) = (cell.name.clone(), kept_apart(cell.seed, cell.shift_name));
        Some(Self { name, group, held_out, zero_shot, mean: selection.mean_top1?, epochs, chosen })
    }

    /// The best of zero-shot, the text classifier, their mean and the epochs.
    fn best(&self) -> f64 {
        self.epochs.iter().fold(self.zero_shot.max(self.mean), |best, top1| best.max(*top1))
    }

    /// The accuracy that a rule ends with.
    fn of_rule(&self, rule: Rule) -> f64 {
        match rule {
            Rule::Last => self.epochs[self.epochs.len() - 1],
            Rule::Signals => match self.chosen {
                Choice::ZeroShot => self.zero_shot,
                Choice::Mean => self.mean,
                Choice::TextClassifier => self.epochs[0],
                Choice::Epoch(epoch) => self.epochs[epoch],
            },
            Rule::Mean => self.mean,
            Rule::Never => self.epochs[0],
            Rule::ZeroShot => self.zero_shot,
        }
    }
}

#[derive(Clone, Copy)]
enum Rule {
    /// The last epoch: what is published.
    Last,
    /// What the signals choose ([`Fits`](lafter::eval::Fits)).
    Signals,
    /// Never tune: the mean of zero-shot and the text classifier.
    Mean,
    /// Never tune: the text classifier.
    Never,
    /// Always zero-shot.
    ZeroShot,
}

const RULES: [(&str, Rule); 5] = [
    ("last epoch", Rule::Last),
    ("signals", Rule::Signals),
    ("mean of both", Rule::Mean),
    ("text classifier", Rule::Never),
    ("zero-shot", Rule::ZeroShot),
];

/// Runs what is not done yet below `out`, and gives the table: one row for each rule, on the runs looked at and on those kept apart.
pub fn study(study: &Study, out: &Path) -> Result<Table> {
    let cells = study.cells(out);
    // first what no other process does, then what others did
    for wait in [false, true] {
        for cell in &cells {
            cell.run(study, out, wait)?;
        }
    }
    tell(&cells, out)
}

/// The table of the runs that are done; it, `study.csv` and `study.svg` are written to `out`.
fn tell(cells: &[Cell], out: &Path) -> Result<Table> {
    let done = |cell: &Cell| Line::of(&Report::load(cell.folder.join("report.json")).ok()?, cell);
    let lines: Vec<Line> = cells.iter().filter_map(done).collect();
    save_atomically(out.join("study.csv"), csv(&lines).as_bytes())?;
    figure(&lines)?.save(out.join("study.svg"))?;
    let table = table(&lines);
    save_atomically(out.join("study.md"), table.to_markdown().as_bytes())?;
    Ok(table)
}

/// One run of the study.
struct Cell {
    name: String,
    folder: PathBuf,
    steps: usize,
    shift_name: &'static str,
    shift: Shift,
    preset: Preset,
    seed: u64,
}

impl Cell {
    /// Does the run if nobody did; one that another process does is waited for, or left.
    fn run(&self, study: &Study, out: &Path, wait: bool) -> Result<()> {
        let Some(_lock) = lock(&self.folder.with_extension("lock"), wait)? else { return Ok(()) };
        if Report::load(self.folder.join("report.json")).is_err() {
            run(study, &clip(self.steps, study.scenes, out)?, &self.shift, self.preset, self.seed, &self.folder)?;
            eprintln!("{} is done", self.name);
        }
        Ok(())
    }
}

/// Keeps other processes away until it is dropped; nothing if another one is at it and is not to be waited for.
fn lock(path: &Path, wait: bool) -> Result<Option<File>> {
    let locked = || {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let file = File::create(path)?;
        if wait {
            file.lock()?;
        } else if file.try_lock().is_err() {
            return Ok(None);
        }
        Ok(Some(file))
    };
    locked().map_err(|e| Error::io(path, e))
}

/// The CLIP of so many steps, trained once; the crate's own for 0.
fn clip(steps: usize, scenes: usize, out: &Path) -> Result<Clip> {
    if steps == 0 {
        return Clip::demo();
    }
    let folder = out.join(format!("clip-{steps}"));
    let _lock = lock(&folder.with_extension("lock"), true)?; // another process may be training it
    if !folder.join("summary.json").exists() {
        let warmup = (steps / 10).max(1);
        let test_scenes = scenes.min(960);
        demo(&PretrainConfig { steps, warmup, scenes, test_scenes, ..PretrainConfig::demo() }, &folder, silent)?;
    }
    Clip::from_dir(folder)
}

fn run(study: &Study, clip: &Clip, shift: &Shift, preset: Preset, seed: u64, folder: &Path) -> Result<Report> {
    let (train, test) = study.pictures;
    let pictures = |n, seed| Dataset::new(Scenes::shifted(shift.clone(), n, seed)).cached(1 << 28);
    let mut run = Experiment::new(clip.clone(), text_set()?, pictures(train, 2 * seed).unlabeled(), pictures(test, 2 * seed + 1));
    run.config = LafterConfig { seed, ..LafterConfig::new(preset) };
    run.config.text.hold_out = 0.1; // for one of the signals
    run.config.tune.epochs = study.epochs;
    run.config.tune.prompts = run.config.tune.prompts.min(10); // a view has 25 patches
    (run.out, run.resume, run.predictions) = (Some(folder.to_path_buf()), folder.exists(), false);
    Ok(run.run(silent)?.report)
}

fn table(lines: &[Line]) -> Table {
    let header = [
        "rule",
        "runs",
        "number",
        "mean regret",
        "worst regret",
        "mean gain over last",
        "worst against text classifier",
        "worst against zero-shot and text",
    ];
    let mut table = Table::new(&header);
    for held_out in [false, true] {
        let some: Vec<&Line> = lines.iter().filter(|line| line.held_out == held_out).collect();
        if some.is_empty() {
            continue;
        }
        for (name, rule) in RULES {
            let regret: Vec<f64> = some.iter().map(|line| line.best() - line.of_rule(rule)).collect();
            let gain: Vec<f64> = some.iter().map(|line| line.of_rule(rule) - line.of_rule(Rule::Last)).collect();
            let worst = |than: fn(&Line) -> f64| some.iter().map(|line| line.of_rule(rule) - than(line)).fold(f64::INFINITY, f64::min);
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let number = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "–".to_string() };
            table.push([
                name.to_string(),
                if held_out { "kept apart" } else { "looked at" }.to_string(),
                some.len().to_string(),
                number(mean(&regret)),
                number(regret.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
                number(mean(&gain)),
                number(worst(|line| line.epochs[0])),
                number(worst(|line| line.epochs[0].max(line.zero_shot))),
            ]);
        }
    }
    table
}

/// The mean regret of each rule by CLIP and shift.
fn figure(lines: &[Line]) -> Result<Figure> {
    let mut groups: Vec<String> = Vec::new();
    for line in lines {
        if !groups.contains(&line.group) {
            groups.push(line.group.clone());
        }
    }
    let of_rule = |(name, rule): (&str, Rule)| {
        let mean = |group: &String| {
            let regret: Vec<f64> = lines.iter().filter(|line| line.group == *group).map(|line| line.best() - line.of_rule(rule)).collect();
            regret.iter().sum::<f64>() / regret.len() as f64
        };
        Series::new(name, groups.iter().map(mean))
    };
    bars("Points below the best candidate", "points of top-1", &groups, &RULES.map(of_rule), Sort::AsGiven)
}

/// Every run: its accuracies, and what the signals chose.
fn csv(lines: &[Line]) -> String {
    let mut table =
        Table::new(&["run", "kept_apart", "zero_shot", "text_classifier", "mean", "last", "signals", "signals_choose", "oracle"]);
    for line in lines {
        let top1 = |value: f64| format!("{value:.3}");
        table.push([
            line.name.clone(),
            line.held_out.to_string(),
            top1(line.zero_shot),
            top1(line.epochs[0]),
            top1(line.mean),
            top1(line.of_rule(Rule::Last)),
            top1(line.of_rule(Rule::Signals)),
            match line.chosen {
                Choice::ZeroShot => "zero-shot".to_string(),
                Choice::TextClassifier => "text classifier".to_string(),
                Choice::Mean => "mean".to_string(),
                Choice::Epoch(epoch) => epoch.to_string(),
            },
            top1(line.best()),
        ]);
    }
    table.to_csv()
}

#[allow(dead_code)] // a test includes this file
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let table = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [out] => study(&Study::whole(), Path::new(out)),
        [out, "quick"] => study(&Study::quick(), Path::new(out)),
        [out, "table"] => tell(&Study::whole().cells(Path::new(out)), Path::new(out)),
        _ => {
            eprintln!("usage: selection_study OUT [quick|table]");
            std::process::exit(2);
        }
    }?;
    println!("{table}");
    Ok(())
}
