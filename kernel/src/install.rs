//! `install` and `uninstall`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::commands;
use crate::layout::{Layout, Scope, size};
use crate::machine;
use crate::seed::{self, Wish};
use crate::toolchain;

/// Checks the machine, builds the seed, writes the kernelspec, and runs a cell. Everything that can be missing is asked for first.
pub fn install(scope: &Scope, wish: &Wish) -> Result<()> {
    let checkout = wish.checkout()?;
    let layout = scope.layout()?;
    let folder = scope.kernelspec()?;
    let mut needs = toolchain::needs();
    let compiled_in = checkout.as_ref().map_or(layout.data.as_path(), |checkout| checkout.as_path());
    needs.extend(machine::needs(&layout.data, &folder, compiled_in));
    for need in needs {
        match need.found {
            Ok(found) => println!("{:9} {found}", need.name),
            Err(remedy) => bail!("{}: {remedy}", need.name),
        }
    }
    match &checkout {
        Some(checkout) => {
            println!("building lafter and Candle of {} for notebooks; what is compiled there already is used", checkout.display())
        }
        None => println!("building lafter {} and Candle for notebooks", env!("CARGO_PKG_VERSION")),
    }
    let (started, before) = (Instant::now(), machine::seconds_of_children());
    fs::write(layout.unfinished(), "").with_context(|| format!("writing in {}", layout.data.display()))?;
    let built = seed::build(&layout, wish)?;
    let binary = layout.binary();
    copy_binary(&binary)?;
    write_kernelspec(&folder, &layout)?;
    println!("trying a cell");
    commands::try_cell(&layout)?;
    fs::remove_file(layout.unfinished()).with_context(|| format!("removing {}", layout.unfinished().display()))?;
    println!(
        "installed: kernel \"LaFTer (Rust)\" in {}, {} MB in {}; {} of {} crates were compiled, {:.0} s with {:.0} s of processor time",
        folder.display(),
        size(&layout.data) >> 20,
        layout.data.display(),
        built.crates.1,
        built.crates.0,
        started.elapsed().as_secs_f64(),
        machine::seconds_of_children() - before,
    );
    Ok(())
}

pub fn uninstall(scope: &Scope) -> Result<()> {
    for folder in [scope.kernelspec()?, scope.layout()?.data] {
        match fs::remove_dir_all(&folder) {
            Ok(()) => println!("removed {}", folder.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("{} is not there", folder.display()),
            Err(error) => bail!("{}: {error}", folder.display()),
        }
    }
    Ok(())
}

/// `cargo clean` in the checkout must not take the kernel with it. A running kernel keeps the file it was started from.
fn copy_binary(to: &Path) -> Result<()> {
    let from = std::env::current_exe()?;
    if from == to {
        return Ok(());
    }
    let new = to.with_extension("new");
    fs::create_dir_all(to.parent().context("the binary has no folder")?)?;
    // debug information is four fifths of the file; `strip` comes with the linker
    let stripped = Command::new("strip").arg("--strip-debug").arg("-o").args([&new, &from]).output();
    if !stripped.is_ok_and(|output| output.status.success()) {
        fs::copy(&from, &new).with_context(|| format!("copying to {}", new.display()))?;
    }
    fs::rename(&new, to).with_context(|| format!("replacing {}", to.display()))
}

fn write_kernelspec(folder: &Path, layout: &Layout) -> Result<()> {
    let spec = kernelspec(layout);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let (file, new) = (folder.join("kernel.json"), folder.join("kernel.json.new"));
    fs::write(&new, serde_json::to_string_pretty(&spec)? + "\n").with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, &file).with_context(|| format!("writing {}", file.display()))
}

fn kernelspec(layout: &Layout) -> serde_json::Value {
    json!({
        "argv": [layout.binary(), "serve", "--data", layout.data, "{connection_file}"],
        "display_name": "LaFTer (Rust)",
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": {"debugger": false},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernelspec_names_the_copied_binary_and_its_data() {
        let folder = std::env::temp_dir().join(format!("lafter-kernelspec-{}", std::process::id()));
        let layout = Layout { data: "/data with space".into() };
        write_kernelspec(&folder, &layout).unwrap();
        let spec: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("kernel.json")).unwrap()).unwrap();
        assert_eq!(spec["argv"], json!(["/data with space/bin/lafter-kernel", "serve", "--data", "/data with space", "{connection_file}"]));
        assert_eq!((spec["display_name"].as_str(), spec["interrupt_mode"].as_str()), (Some("LaFTer (Rust)"), Some("message")));
        fs::remove_dir_all(folder).unwrap();
    }
}
