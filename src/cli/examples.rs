//! What `--help` shows below the options: each line can be copied, so none is wider than a terminal.

pub const EXAMPLES: &str = "\
Examples:
  lafter demo   # the whole method in a minute or two, nothing to download
  lafter run --model openai/clip-vit-base-patch32 \\
    --train photos/ --test labeled/ --descriptions texts.json
  lafter predict --model openai/clip-vit-base-patch32 \\
    --weights lafter-out/lafter.safetensors a.jpg b.jpg";

pub const RUN_EXAMPLES: &str = "\
Data: a folder with one folder per class (or a flat folder of pictures for --train), a Parquet file or directory in the hub's
image layout, WebDataset's tar shards (a folder, or a pattern as 'shards/{00000..01281}.tar'), a CIFAR binary directory,
hf:owner/name. Labels of --train are never used in training.

Examples:
  lafter run --model openai/clip-vit-base-patch32 \\
    --train photos/ --test labeled/ --descriptions texts.json
  lafter run --model ./my-clip --train train.parquet --test test.parquet \\
    --preset paper --epochs 20 --out out
  # without any label
  lafter run --model openai/clip-vit-base-patch32 \\
    --train photos/ --classes names.txt
  # any setting: `lafter settings` lists all
  lafter run … --set tune.teacher_head=shared \\
    --set 'tune.strong.scale=[0.5,1]'
  # continues a stopped run
  lafter run … --out out --resume
  # takes each step in parts that fit, with the same result
  lafter run … --memory-gib 3
  # shares the run among four processes (a build with `--features mpi`)
  mpirun -n 4 lafter run …";

pub const EMBED_EXAMPLES: &str = "\
Examples:
  lafter embed --model M --images photos/ --out images.safetensors
  # stored answers to tune on
  lafter embed --model L --images photos/ --classes names.txt \\
    --out answers.safetensors
  lafter embed --model M --texts lines.txt --out texts.safetensors";

pub const CHECK_EXAMPLES: &str = "\
Shows the model and where its settings came from, the pictures that were taken and left out, the split rule, the classes and
their counts, three prompts as they will be read, and what is unusual. The sheet shows pictures as the model sees them.
Without --train and --test it shows the model, with --classes also the texts, and draws no sheet.

Examples:
  lafter check --model openai/clip-vit-base-patch32 \\
    --train photos/ --test labeled/
  lafter check --model ./my-clip --test hf:owner/name --classes names.txt \\
    --sheet sheet.png";

pub const ABLATE_EXAMPLES: &str = "\
Fields are those of report.json's config: text.noise, tune.prompts, tune.teacher_head, tune.strong.blur_p, … (`lafter settings`
lists all), and preset, which brings all its settings with it, other than those that --set and the options name.

In a SLURM array job each task picks its own share of the grid (--shard 1/1 runs all of it there): --array=0-15,
--array=1-16 and --array=0-30:2 all make 16 shares. All tasks write into the same --out.

Examples:
  lafter ablate --model demo --vary text.noise=0,0.3,1 \\
    --vary tune.prompts=0,2,8 --seeds 3 --jobs 2
  lafter ablate --model demo --paper --noises 0,0.3 --seeds 5 --out study
  lafter ablate --model demo --paper --only texts=names,all --out study
  # 16 shares; when all are done, --collect joins them
  sbatch --array=0-15 --wrap 'lafter ablate --model demo --paper --out study'
  lafter ablate --model demo --paper --out study --collect";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::args::Cli;

    /// Help is wrapped at the width of the terminal; a command that is wrapped cannot be copied.
    #[test]
    fn examples_fit_into_80_columns() {
        for command in std::iter::once(&Cli::command()).chain(Cli::command().get_subcommands()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = help.lines().filter(|line| line.starts_with("  "));
            example.for_each(|line| assert!(line.chars().count() <= 80, "{}: {line}", command.get_name()));
        }
    }
}
