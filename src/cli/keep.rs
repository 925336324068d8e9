//! What a stopped command has done, kept until the same command goes on: next to its output, or in the cache folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lafter::embed::{FeatureCache, Keep};
use lafter::{Error, Result};

use super::args::KeepArgs;

/// What to do after a command whose processes could not all end.
pub const AGAIN: &str = "repeat the command to go on";

/// `$XDG_CACHE_HOME/lafter`, or `~/.cache/lafter`.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?.join("lafter"))
}

/// Rows of a command that writes no file: in the folder `partial` of the cache.
pub fn in_cache(args: &KeepArgs, decisive: &str) -> Option<Keep> {
    Some(Keep::below(&cache_folder()?.join("partial"), decisive, every(args)))
}

/// Rows of a command that writes `out`: in the folder `out`.partial.
pub fn next_to(args: &KeepArgs, out: &Path, decisive: &str) -> Keep {
    Keep::new(partial(out), decisive, every(args))
}

/// Text features of a command that writes `out`: in the same folder.
pub fn texts_next_to(args: &KeepArgs, out: &Path) -> FeatureCache {
    FeatureCache::new(partial(out)).every(every(args))
}

fn every(args: &KeepArgs) -> Duration {
    Duration::from_secs(args.checkpoint_every)
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// A stop with what to do then.
pub fn go_on(error: Error) -> Error {
    match error {
        Error::Interrupted(what) => Error::Interrupted(format!("{what}: repeat the command to go on")),
        other => other,
    }
}

/// [`go_on`] for a command that keeps its rows.
pub fn or_go_on<T>(result: Result<T>, kept: bool) -> Result<T> {
    if kept { result.map_err(go_on) } else { result }
}
