//! Copying is a fact: each block of `src/copying.md` is copied as that page says, compiled in an empty crate and run.
//!
//! What a block must do there stands in `tests/copy/NAME.rs`, which is the last file of its crate.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const TABLE: &str = include_str!("../../src/copying.md");

/// The crates that a copy may use, and the beginning of the version where several are in the tree.
const CRATES: [(&str, &str); 5] = [("candle_core", ""), ("candle_nn", ""), ("image", ""), ("rand", "0.9"), ("rayon", "")];

/// Files of a block with those of the blocks that it is made of, at most.
const FILES: usize = 3;
/// What is made of several blocks and learns: both stages of the method.
const WHOLE: [(&str, usize); 2] = [("text stage", 6), ("LaFTer step", 8)];

struct Block {
    name: String,
    /// Its own and those of the blocks that it is made of.
    files: Vec<String>,
    crates: Vec<String>,
}

impl Block {
    /// As a module is called.
    fn module(&self) -> String {
        self.name.to_lowercase().replace([' ', '-'], "_")
    }
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for row in TABLE.lines().filter(|line| line.starts_with("| ") && line.contains(".rs`")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let mut files: Vec<String> = Vec::new();
        for part in cells[1].split(", ") {
            match part.strip_prefix("those of ") {
                Some(name) => {
                    let of = blocks.iter().find(|block| block.name == name);
                    files.extend(of.unwrap_or_else(|| panic!("{row}: no block {name} above")).files.clone());
                }
                None => files.push(part.trim_matches('`').to_string()),
            }
        }
        files.sort();
        files.dedup();
        blocks.push(Block { name: cells[0].to_string(), files, crates: cells[2].split(", ").map(str::to_string).collect() });
    }
    blocks
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stem(file: &str) -> String {
    Path::new(file).file_stem().unwrap().to_string_lossy().into_owned()
}

/// The folders of all files as they stand in paths, inner ones first.
fn folders(blocks: &[Block]) -> Vec<String> {
    let files = blocks.iter().flat_map(|block| &block.files);
    let mut folders: Vec<String> = files.filter_map(|file| Some(file.rsplit_once('/')?.0.replace('/', "::"))).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
    folders.dedup();
    folders
}

/// The copy of a file, as `src/copying.md` says. `crate` is one module deeper here, since one program holds all blocks.
fn copied(file: &str, folders: &[String]) -> String {
    let source = std::fs::read_to_string(root().join("src").join(file)).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let kept = source.lines().filter(|line| !["fast::", "more::", "serde"].iter().any(|mark| line.contains(mark)));
    let mut copy = kept.fold(String::new(), |all, line| all + line + "\n");
    for folder in folders {
        copy = copy.replace(&format!("crate::{folder}::"), "crate::");
    }
    copy.replace("crate::", "super::")
}

/// The libraries of a crate in the folder of this test's build, the newest first: another build may have left its own there.
fn libraries(name: &str, version: &str) -> Vec<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let of_version = |path: &PathBuf| {
        let hash = path.file_stem().unwrap().to_string_lossy().trim_start_matches("lib").to_string();
        version.is_empty()
            || std::fs::read_to_string(folder.join(hash + ".d")).is_ok_and(|made_of| made_of.contains(&format!("/{name}-{version}")))
    };
    let begin = format!("lib{name}-");
    let found = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        path.extension().is_some_and(|ending| ending == "rlib") && path.file_name().unwrap().to_string_lossy().starts_with(&begin)
    });
    let mut found: Vec<PathBuf> = found.filter(of_version).collect();
    assert!(!found.is_empty(), "no library of {name} {version} in {}", folder.display());
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().modified().unwrap()));
    found
}

#[test]
fn every_block_compiles_and_runs_in_an_empty_crate() {
    let (blocks, folder) = (blocks(), tempfile::tempdir().unwrap());
    let folders = folders(&blocks);
    assert!(blocks.len() >= 4, "the table of src/copying.md was not understood");
    let mut main = String::from("fn main() {\n");
    for block in &blocks {
        let module = block.module();
        writeln!(main, "    if let Err(error) = {module}::check::check() {{\n        panic!(\"{}: {{error}}\");\n    }}", block.name)
            .unwrap();
    }
    main.push_str("}\n");
    for block in &blocks {
        let (module, stems) = (block.module(), block.files.iter().map(|file| stem(file)).collect::<Vec<_>>());
        let inside = folder.path().join(&module);
        std::fs::create_dir(&inside).unwrap();
        for (file, stem) in block.files.iter().zip(&stems) {
            std::fs::write(inside.join(stem).with_extension("rs"), copied(file, &folders)).unwrap();
        }
        let check = std::fs::read_to_string(root().join("tests/copy").join(&module).with_extension("rs")).unwrap();
        std::fs::write(inside.join("check.rs"), check).unwrap();
        let modules: String = stems.iter().map(|stem| format!("    mod {stem};\n    use {stem}::*;\n")).collect();
        writeln!(main, "mod {module} {{\n{modules}    pub mod check;\n}}").unwrap();
    }
    let (source, program) = (folder.path().join("main.rs"), folder.path().join(format!("copies{}", std::env::consts::EXE_SUFFIX)));
    std::fs::write(&source, main).unwrap();

    let deps = std::env::current_exe().unwrap().parent().unwrap().display().to_string();
    let compile = |candle: &PathBuf| {
        let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
        rustc.args(["--edition", "2024", "--cap-lints", "allow", "-C", "opt-level=0", "-L", &format!("dependency={deps}")]);
        for (name, version) in CRATES {
            let library = if name == "candle_core" { candle.clone() } else { libraries(name, version).remove(0) };
            rustc.arg("--extern").arg(format!("{name}={}", library.display()));
        }
        rustc.arg("-o").arg(&program).arg(&source).output().unwrap()
    };
    // the one that candle_nn was built with fits
    let mut said = Vec::new();
    let compiles = |candle: &PathBuf| {
        let compiled = compile(candle);
        said.push(String::from_utf8_lossy(&compiled.stderr).into_owned());
        compiled.status.success()
    };
    assert!(libraries("candle_core", "").iter().any(compiles), "{}", said[0]);
    let run = Command::new(&program).current_dir(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_block_is_few_files_and_names_its_crates() {
    let blocks = blocks();
    for Block { name, files, crates } in &blocks {
        let most = WHOLE.iter().find(|(whole, _)| whole == name).map_or(FILES, |(_, most)| *most);
        assert!((1..=most).contains(&files.len()), "{name}: {} files, at most {most}", files.len());
        let code = |file: &String| copied(file, &folders(&blocks)).split("#[cfg(test)]").next().unwrap().to_string();
        let code: String = files.iter().map(code).collect();
        let used = ["candle", "image", "rand", "rayon"].into_iter().filter(|name| {
            let names =
                if *name == "candle" { vec!["candle_core::".to_string(), "candle_nn::".to_string()] } else { vec![format!("{name}::")] };
            code.lines().any(|line| !line.trim_start().starts_with("//") && names.iter().any(|name| line.contains(name)))
        });
        let used: Vec<&str> = used.collect();
        assert!(used == *crates || (used.is_empty() && *crates == ["std"]), "{name} uses the crates {used:?}, the table says {crates:?}");
    }
    let checks = std::fs::read_dir(root().join("tests/copy")).unwrap().count();
    assert_eq!(checks, blocks.len(), "one check for each block, and no other");
}

/// A file of `src/nn` is read in one go: at most 150 lines, its documentation and its tests not counted.
#[test]
fn plain_blocks_are_short() {
    for entry in std::fs::read_dir(root().join("src/nn")).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap().lines().map(str::trim);
        let lines = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(lines <= 150, "{}: {lines} lines of code", path.display());
    }
}

/// The lessons' lists of what to copy are rows of the table, and the files that they name are there.
#[test]
fn lessons_name_blocks_and_files_that_are_there() {
    let rows: Vec<(&str, &str)> =
        TABLE.lines().filter(|line| line.contains(".rs`")).filter_map(|line| line.trim_matches('|').split_once('|')).collect();
    let mut named = 0;
    for entry in std::fs::read_dir(root().join("notebooks")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "ipynb") {
            continue;
        }
        let lesson: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for cell in lesson["cells"].as_array().unwrap().iter().filter(|cell| cell["cell_type"] == "markdown") {
            let text: String = cell["source"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
            let shown = path.display();
            for file in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("src/") || code.starts_with("tests/")) {
                assert!(root().join(file).exists(), "{shown}: there is no {file}");
            }
            let Some((_, list)) = text.split_once("**Blocks** to copy") else { continue };
            let list = list.lines().next().unwrap().trim_end_matches('.').split_once(": ").unwrap().1;
            for block in list.split("; ") {
                let row =
                    rows.iter().any(|(name, cells)| block == format!("*{}* ({})", name.trim(), cells.split('|').next().unwrap().trim()));
                assert!(row, "{shown}: {block} is not a row of src/copying.md");
                named += 1;
            }
        }
    }
    assert!(named > 10, "{named} blocks in all lessons");
}
