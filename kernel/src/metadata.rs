//! `cargo metadata` of a session with the lafter library in it, though its Cargo.toml does not name it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::layout::Layout;
use crate::outline;

/// The crates whose types cells meet. rust-analyzer reads the source of each: all 300 would cost seconds and a gigabyte.
const MET: [&str; 11] = [
    "ctx",
    "lafter-notebook",
    "lafter",
    "lafter-fast",
    "lafter-loops",
    "candle-core",
    "candle-nn",
    "image",
    "half",
    "num-traits",
    "safetensors",
];

/// Keeps, of the seed's description, the crates that cells meet, with outlines of their sources; the folders of the sources themselves.
pub fn keep(layout: &Layout, description: &str) -> Result<Vec<PathBuf>> {
    let mut pruned = prune(serde_json::from_str(description)?);
    let outlines = layout.outlines();
    let _ = fs::remove_dir_all(&outlines); // of an older library
    let mut folders = Vec::new();
    for package in list(&mut pruned["packages"]).iter_mut().filter(|package| !is_cell(package)) {
        folders.extend(outline(package, &outlines)?);
    }
    fs::write(layout.description(), pruned.to_string()).with_context(|| format!("writing {}", layout.description().display()))?;
    Ok(folders)
}

/// Outlines the library of a package and lets the description name that; where the sources lie.
fn outline(package: &mut Value, outlines: &Path) -> Result<Vec<PathBuf>> {
    let word = |key: &str| package[key].as_str().unwrap_or_default();
    let to = outlines.join(format!("{}-{}", word("name"), word("version")));
    let manifest = package["manifest_path"].as_str().map(PathBuf::from).context("a package without a manifest")?;
    let mut folders = Vec::new();
    for target in list(&mut package["targets"]) {
        let root = target["src_path"].as_str().map(PathBuf::from).context("a library without a source")?;
        let (from, file) = root.parent().zip(root.file_name()).context("a source without a folder")?;
        let below = to.join(manifest.parent().and_then(|package| from.strip_prefix(package).ok()).unwrap_or(Path::new("src")));
        outline::copy(from, &below, &|_| true)?;
        target["src_path"] = below.join(file).to_string_lossy().into();
        folders.push(from.to_path_buf());
    }
    fs::create_dir_all(&to)?;
    fs::copy(&manifest, to.join("Cargo.toml")).with_context(|| format!("copying {}", manifest.display()))?;
    package["manifest_path"] = to.join("Cargo.toml").to_string_lossy().into();
    Ok(folders)
}

/// The description of the session whose manifest this is: what was kept, or joined with what Cargo says if the cell has
/// dependencies of its own.
pub fn of_session(layout: &Layout, manifest: &Path, ask: impl FnOnce() -> Result<String>) -> Result<String> {
    let kept = fs::read_to_string(layout.description()).context("no description was kept: install the kernel again")?;
    let session = manifest.parent().context("a manifest without a folder")?;
    let kept = kept.replace(&*layout.seed().to_string_lossy(), &session.to_string_lossy());
    let text = fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
    if !has_dependencies(&text) {
        return Ok(kept);
    }
    Ok(join(serde_json::from_str(&ask()?)?, serde_json::from_str(&kept)?).to_string())
}

/// Whether a session's manifest names a crate of the reader's own.
pub fn has_dependencies(manifest: &str) -> bool {
    manifest.split_once("[dependencies]").is_some_and(|(_, own)| !own.trim().is_empty())
}

fn prune(mut description: Value) -> Value {
    let packages = list(&mut description["packages"]);
    packages.retain(|package| package["name"].as_str().is_some_and(|name| MET.contains(&name)));
    for package in packages.iter_mut() {
        // only the library of each: tests and programs are no use to a cell
        list(&mut package["targets"]).retain(|target| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(is_library)));
        list(&mut package["dependencies"]).retain(|dependency| dependency["name"].as_str().is_some_and(|name| MET.contains(&name)));
    }
    let kept: HashSet<String> = packages.iter().filter_map(|package| package["id"].as_str().map(String::from)).collect();
    let known = |value: &Value| value.as_str().is_some_and(|id| kept.contains(id));
    let nodes = list(&mut description["resolve"]["nodes"]);
    nodes.retain(|node| known(&node["id"]));
    for node in nodes.iter_mut() {
        list(&mut node["dependencies"]).retain(known);
        list(&mut node["deps"]).retain(|dependency| known(&dependency["pkg"]));
    }
    description
}

fn is_library(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| ["lib", "rlib", "dylib", "cdylib"].contains(&kind))
}

/// Cargo's description, with the kept crates added and the cell depending on the library.
fn join(mut cargo: Value, mut kept: Value) -> Value {
    for (of_cargo, of_kept) in [("/packages", "/packages"), ("/resolve/nodes", "/resolve/nodes")] {
        let Some(added) = kept.pointer_mut(of_kept).map(Value::take) else { continue };
        let Some(Value::Array(all)) = cargo.pointer_mut(of_cargo) else { continue };
        let there: HashSet<Value> = all.iter().map(|entry| entry["id"].clone()).collect();
        let (cell, others): (Vec<Value>, Vec<Value>) = added.as_array().cloned().unwrap_or_default().into_iter().partition(is_cell);
        all.extend(others.into_iter().filter(|entry| !there.contains(&entry["id"])));
        if let (Some(own), Some(kept)) = (all.iter_mut().find(|entry| is_cell(entry)), cell.first()) {
            for edges in ["dependencies", "deps"] {
                let extra = kept[edges].as_array().cloned().unwrap_or_default();
                if let Some(edges) = own[edges].as_array_mut() {
                    edges.extend(extra);
                }
            }
        }
    }
    cargo
}

/// The cell's package, or its node.
fn is_cell(entry: &Value) -> bool {
    entry["name"] == "ctx" || entry["name"].is_null() && entry["id"].as_str().is_some_and(|id| id.contains("#ctx@"))
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made an array above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(names: &[&str]) -> Value {
        let id = |name: &str| format!("path+file:///seed#{name}@1.0.0");
        let package = |name: &&str| {
            let targets = json!([{"kind": ["lib"]}, {"kind": ["test"]}]);
            json!({"name": name, "id": id(name), "targets": targets, "dependencies": [{"name": "lafter"}, {"name": "arrow"}]})
        };
        let node = |name: &&str| json!({"id": id(name), "dependencies": [id("lafter"), id("arrow")], "deps": [{"pkg": id("lafter")}, {"pkg": id("arrow")}]});
        json!({"packages": names.iter().map(package).collect::<Vec<_>>(), "resolve": {"nodes": names.iter().map(node).collect::<Vec<_>>()}})
    }

    #[test]
    fn only_what_cells_meet_is_kept() {
        let pruned = prune(description(&["ctx", "lafter", "arrow"]));
        assert_eq!(pruned["packages"].as_array().unwrap().len(), 2);
        assert_eq!(pruned["packages"][0]["targets"].as_array().unwrap().len(), 1);
        assert_eq!(pruned["resolve"]["nodes"][0]["deps"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_session_reads_outlines_wherever_the_checkout_is() {
        let layout = Layout { data: std::env::temp_dir().join(format!("lafter-kernel-metadata-{}", std::process::id())) };
        let checkout = layout.data.join("checkout");
        fs::create_dir_all(checkout.join("src/deep")).unwrap();
        fs::write(checkout.join("Cargo.toml"), "[package]").unwrap();
        fs::write(checkout.join("src/lib.rs"), "mod deep; fn a() { 1 }").unwrap();
        fs::write(checkout.join("src/deep/mod.rs"), "fn b() { 2 }").unwrap();
        std::os::unix::fs::symlink("nowhere", checkout.join("src/.#lib.rs")).unwrap(); // of an editor
        let target = json!({"kind": ["lib"], "src_path": checkout.join("src/lib.rs")});
        let package = json!({"name": "lafter", "id": "lafter", "targets": [target], "manifest_path": checkout.join("Cargo.toml")});
        let folders = keep(&layout, &json!({"packages": [package], "resolve": {"nodes": []}}).to_string()).unwrap();
        assert_eq!(folders, [checkout.join("src")]);
        fs::remove_dir_all(&checkout).unwrap();
        let kept: Value = serde_json::from_str(&fs::read_to_string(layout.description()).unwrap()).unwrap();
        let root = kept["packages"][0]["targets"][0]["src_path"].as_str().unwrap();
        assert_eq!(fs::read_to_string(root).unwrap(), "mod deep; fn a() {}");
        assert_eq!(fs::read_to_string(Path::new(root).with_file_name("deep/mod.rs")).unwrap(), "fn b() {}");
        assert_eq!(fs::read_to_string(kept["packages"][0]["manifest_path"].as_str().unwrap()).unwrap(), "[package]");
        fs::remove_dir_all(&layout.data).unwrap();
    }

    #[test]
    fn a_cells_own_dependencies_stand_beside_the_library() {
        let joined = join(prune(description(&["ctx", "half"])), prune(description(&["ctx", "lafter", "half"])));
        let names: Vec<&str> = joined["packages"].as_array().unwrap().iter().filter_map(|package| package["name"].as_str()).collect();
        assert_eq!(names, ["ctx", "half", "lafter"]);
        assert_eq!(joined["resolve"]["nodes"][0]["deps"].as_array().unwrap().len(), 1);
    }
}
