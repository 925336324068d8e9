//! Data sets of the hub: from a stand-in server on this machine, from the cache without network, through the command line.

#[path = "all/hub_stub/mod.rs"]
mod hub_stub;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hub_stub::{COMMIT, Fault, Hub, unreachable};
use lafter::Error;
use lafter::data::{self, Dataset, OpenOptions};
use lafter::hub::HubOptions;
use lafter::progress::{self, Event, Stage};

const ID: &str = "datasets/someone/things";
const FILE: &str = "data/test-00000-of-00001.parquet";

/// Tests that open data sets in this process run one after the other: one of them interrupts all that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 12 pictures.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/snappy.parquet")
}

fn one_file(fault: Fault) -> Hub {
    let card = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    Hub::start(ID, vec![("README.md", card), (FILE, pictures())], fault)
}

fn open(spec: &str, hub: &HubOptions) -> lafter::Result<Dataset> {
    data::open(spec, &OpenOptions { hub: Some(hub.clone()), ..OpenOptions::default() })
}

/// The message, which must be one line and name what is wanted.
fn message(result: lafter::Result<Dataset>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Hub(_) | Error::Data(_)), "{error:?}");
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

#[test]
fn the_cache_serves_without_network() {
    let (_alone, cache) = (alone(), tempfile::tempdir().unwrap());
    let hub = HubOptions { endpoint: unreachable(), cache: cache.path().into(), token: None, offline: true, retries: 0 };
    message(open("hf:someone/things", &hub), &["hf:someone/things", "HF_HUB_OFFLINE", "Parquet"]);

    let root = cache.path().join("datasets--someone--things");
    let snapshot = root.join("snapshots/abc/data");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), "abc").unwrap();
    // A card alone is not the set.
    fs::write(root.join("snapshots/abc/README.md"), "# Things").unwrap();
    message(
        open("hf:someone/things", &hub),
        &["the hub's cache holds no Parquet files or tar shards at revision main", "HF_HUB_OFFLINE", "@<commit>"],
    );
    message(open("hf:someone/things/x", &hub), &["no Parquet files or tar shards in \"x\" at revision main"]);
    fs::copy(pictures(), snapshot.join("train-00000-of-00002.parquet")).unwrap();
    fs::copy(pictures(), snapshot.join("extra-00000-of-00001.parquet")).unwrap();
    // One of two shards is not the split.
    message(open("hf:someone/things:train", &hub), &["not in the hub's cache"]);
    fs::copy(pictures(), snapshot.join("train-00001-of-00002.parquet")).unwrap();
    assert_eq!(open("hf:someone/things:train", &hub).unwrap().len(), 24);
    assert_eq!(open("hf:someone/things@abc:extra", &hub).unwrap().len(), 12);
    assert_eq!(open("hf:someone/things/data:extra", &hub).unwrap().len(), 12);
    for name in ["hf:datasets/someone/things:extra", "hf://datasets/someone/things@abc:extra"] {
        assert_eq!(open(name, &hub).unwrap().len(), 12, "{name}");
    }
    message(open("hf:someone/things:nothing", &hub), &["no split \"nothing\""]);
    // as datasets' push_to_hub named shards for years
    let shard =
        |i: usize| snapshot.join(format!("test-0000{i}-of-00003-{}.parquet", ["b4aaeceff1d90ecb", "7dbbe248962764c5", "688fe130"][i]));
    fs::copy(pictures(), shard(1)).unwrap();
    message(open("hf:someone/things:test", &hub), &["not in the hub's cache"]);
    (0..3).for_each(|i| assert!(fs::copy(pictures(), shard(i)).unwrap() > 0));
    assert_eq!(open("hf:someone/things:test", &hub).unwrap().len(), 36);
    for name in ["", "../etc", "someone/things@../x", "someone/things?x=1"] {
        assert!(open(&format!("hf:{name}"), &hub).unwrap_err().is_usage(), "{name}");
    }
}

#[test]
fn the_network_then_the_cache() {
    let (_alone, hub, cache) = (alone(), one_file(Fault::None), tempfile::tempdir().unwrap());
    let online = hub.options(cache.path());
    message(open("hf:someone/absent", &online), &["hf:someone/absent", "was not found on the hub"]);
    *hub.fault.lock().unwrap() = Fault::Status(401);
    message(open("hf:someone/things", &online), &["HF_TOKEN"]);

    *hub.fault.lock().unwrap() = Fault::None;
    assert!(open("hf:someone/things:nothing", &online).is_err()); // and the card is there
    *hub.fault.lock().unwrap() = Fault::CutOnce(1000);
    let (mut events, retried) = (Vec::new(), HubOptions { retries: 1, ..online.clone() });
    let options = OpenOptions { hub: Some(retried), ..OpenOptions::default() };
    let set = data::open_with("hf:someone/things:test", &options, |event| events.push(event.clone())).unwrap();
    assert_eq!(set.len(), 12);
    let (stage, size) = (Stage::from(format!("downloading {FILE}")), fs::metadata(pictures()).unwrap().len() as usize);
    assert_eq!(events.first(), Some(&Event::Started { stage: stage.clone(), total: size, unit: "bytes".into() }));
    assert!(events.contains(&Event::Advanced { stage: stage.clone(), done: size, total: size, loss: None, accuracy: None }));
    assert!(matches!(events.last(), Some(Event::Finished { stage: last, .. }) if *last == stage));

    let silent = HubOptions { endpoint: unreachable(), ..online.clone() };
    for hub in [&online, &silent, &HubOptions { offline: true, ..silent.clone() }] {
        assert_eq!(open("hf:someone/things", hub).unwrap().len(), 12);
    }
    message(open("hf:someone/absent", &silent), &["hf:someone/absent", "network cannot be reached", "HF_HOME"]);
}

#[test]
fn a_data_set_that_moved_on_is_not_mixed_with_its_old_files() {
    let (_alone, hub, cache) = (alone(), one_file(Fault::None), tempfile::tempdir().unwrap());
    let root = cache.path().join("hub/datasets--someone--things");
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), "old").unwrap();
    let old = root.join("snapshots/old").join(FILE);
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    fs::write(&old, "no longer there").unwrap();
    assert_eq!(open("hf:someone/things", &hub.options(cache.path())).unwrap().len(), 12);
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn an_interrupt_stops_between_two_files() {
    let (_alone, cache) = (alone(), tempfile::tempdir().unwrap());
    let shards = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    let hub = Hub::start(ID, shards.map(|name| (name, pictures())).to_vec(), Fault::None);
    let options = OpenOptions { hub: Some(hub.options(cache.path())), ..OpenOptions::default() };
    let stop = |event: &Event| {
        if let Event::Finished { .. } = event {
            progress::interrupt();
        }
    };
    // also within one, however fast it comes
    let at_once = |event: &Event| {
        if let Event::Advanced { .. } = event {
            progress::interrupt();
        }
    };
    let error = data::open_with("hf:someone/things", &options, at_once).unwrap_err();
    progress::clear_interrupt();
    assert!(matches!(error, Error::Interrupted(_)), "{error:?}");
    let error = data::open_with("hf:someone/things", &options, stop).unwrap_err();
    progress::clear_interrupt();
    assert!(matches!(error, Error::Interrupted(_)), "{error:?}");
    let asked = |name: &str| hub.requests.lock().unwrap().iter().filter(|path| path.ends_with(name)).count();
    let first = asked(shards[0]);
    assert!(first > 0 && asked(shards[1]) == 0);
    assert_eq!(data::open("hf:someone/things", &options).unwrap().len(), 24);
    assert_eq!(asked(shards[0]), first, "the first file was downloaded again");
}

#[test]
fn a_converted_copy_has_its_splits_and_a_card_names_the_classes() {
    let (_alone, cache) = (alone(), tempfile::tempdir().unwrap());
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/plain.parquet");
    let card = cache.path().join("card.md");
    let names = "---\ndataset_info:\n- config_name: default\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': sea\n          '1': ice\n          '2': bear\n---\n";
    fs::write(&card, names).unwrap();
    let files = ["default/partial-train/0000.parquet", "default/partial-train/0001.parquet", "default/partial-test/0000.parquet"];
    let hub = Hub::start(ID, files.iter().map(|name| (*name, plain.clone())).chain([("README.md", card)]).collect(), Fault::None);
    let options = OpenOptions { hub: Some(hub.options(cache.path())), ..OpenOptions::split(lafter::data::Split::Test) };
    let set = data::open("hf:someone/things", &options).unwrap();
    assert_eq!((set.len(), set.classes()), (12, &["sea", "ice", "bear"].map(String::from)[..]));
    assert!(set.findings().notices.iter().any(|notice| notice.contains("first part")), "{:?}", set.findings());
    assert_eq!(open("hf:someone/things:train", &hub.options(cache.path())).unwrap().len(), 24);
}

#[test]
fn a_part_of_a_split_is_not_the_split_and_an_older_state_is_told() {
    let (_alone, cache) = (alone(), tempfile::tempdir().unwrap());
    let names = ["data/train-0.parquet", "data/test-0.parquet", "data/test-1.parquet"];
    let hub = Hub::start(ID, names.map(|name| (name, pictures())).to_vec(), Fault::None);
    let online = hub.options(cache.path());
    let offline = HubOptions { offline: true, ..online.clone() };
    let opened = open("hf:someone/things:train", &online).unwrap();
    assert_eq!((opened.len(), opened.findings().commit.as_deref()), (12, Some(COMMIT)));
    let inputs = lafter::inputs::Inputs::default().with_set("train", &opened).to_string();
    assert!(inputs.contains(&format!("commit {COMMIT}")), "{inputs}");
    // the train split alone is cached: another is not taken for the test split
    message(open("hf:someone/things:test", &offline), &["only 0 of 2 files"]);
    *hub.fault.lock().unwrap() = Fault::Refuse("test-1");
    message(open("hf:someone/things:test", &online), &["status 503"]);
    message(open("hf:someone/things:test", &offline), &["only 1 of 2 files"]);
    for fault in [Fault::Status(401), Fault::Status(500), Fault::Status(404)] {
        *hub.fault.lock().unwrap() = fault;
        let (mut told, options) = (Vec::new(), OpenOptions { hub: Some(online.clone()), ..OpenOptions::default() });
        data::open_with("hf:someone/things:train", &options, |event| told.push(event.clone())).unwrap();
        assert!(matches!(&told[..], [Event::Notice(text)] if text.contains(COMMIT) && text.contains("so it is")), "{told:?}");
    }
}

#[test]
fn the_card_names_configurations_and_splits() {
    let (_alone, cache) = (alone(), tempfile::tempdir().unwrap());
    let card = cache.path().join("card.md");
    let entry = |name: &str, train: &str, test: &str| {
        format!("- config_name: {name}\n  data_files:\n  - split: train\n    path: {train}\n  - split: test\n    path: {test}\n")
    };
    fs::write(&card, format!("---\nconfigs:\n{}{}---\n", entry("small", "data/part1*", "data/part2*"), entry("big", "x/*", "y/**")))
        .unwrap();
    let names = ["data/part1.parquet", "data/part2.parquet", "x/0.parquet", "x/1.parquet", "y/a/2.parquet"];
    let files = names.iter().map(|name| (*name, pictures())).chain([("README.md", card)]).collect();
    let hub = Hub::start(ID, files, Fault::None);
    let online = hub.options(cache.path());
    message(open("hf:someone/things", &online), &["several configurations, small, big", "hf:someone/things/small"]);
    message(open("hf:someone/things/medium", &online), &["its card names small, big"]);
    for (name, pictures) in [("small:train", 12), ("small:test", 12), ("big:train", 24), ("big:test", 12)] {
        assert_eq!(open(&format!("hf:someone/things/{name}"), &online).unwrap().len(), pictures, "{name}");
    }
    // files that two patterns name count once; a card of other files tells nothing
    let twice = cache.path().join("twice.md");
    let write = |text: &str| fs::write(&twice, text).unwrap();
    for (card, count) in [
        (entry("default", "data/part1*", "data/part[2-3]*").replace("path: data/part[2-3]*", "path: [data/part2*, 'data/*2*'] # two"), 12),
        (entry("default", "a*.csv", "b*.csv"), 24),
    ] {
        write(&format!("---\nconfigs:\n{card}---\n"));
        let files = vec![("data/part1.parquet", pictures()), ("data/part2.parquet", pictures()), ("README.md", twice.clone())];
        let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
        let set = open("hf:someone/things:test", &hub.options(cache.path())).unwrap();
        assert_eq!((set.len(), set.findings().notices.iter().any(|notice| notice.contains("by their names"))), (count, count == 24));
    }
    message(open("hf:someone/things/small:extra", &online), &["no split \"extra\", only \"train\", \"test\""]);
    let offline = HubOptions { offline: true, ..online };
    assert_eq!(open("hf:someone/things/big:train", &offline).unwrap().len(), 24);
}

/// The command, with the hub's settings in its environment.
fn lafter(hub: &Hub, cache: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lafter"));
    command.args(args).env("HF_ENDPOINT", &hub.address).env("HF_HUB_CACHE", cache).env("HF_TOKEN", "secret");
    command.env("HF_HUB_OFFLINE", "no").env_remove("TRANSFORMERS_OFFLINE");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn the_command_line_shows_downloads_and_with_json_nothing_but_json() {
    let (hub, cache) = (one_file(Fault::None), tempfile::tempdir().unwrap());
    let test = ["zero-shot", "--model", "demo", "--test", "hf:someone/things", "--json"];
    let output = lafter(&hub, &cache.path().join("a"), &test);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["zero_shot"]["top1"].is_number(), "{result}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(hub.requests.lock().unwrap().contains(&"authorization: bearer secret".to_string()));

    let out = cache.path().join("features.safetensors").display().to_string();
    let output = lafter(&hub, &cache.path().join("b"), &["embed", "--model", "demo", "--images", "hf:someone/things", "--out", &out]);
    let shown = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(shown.contains(&format!("downloading {FILE}")), "{shown}");
}

#[test]
fn pictures_of_the_hub_are_predicted() {
    let (hub, folder) = (one_file(Fault::None), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("names.txt"), "boat\nhouse").unwrap();
    let (names, table) = (at("names.txt"), at("table.csv"));
    let line = ["predict", "--model", "demo", "--classes", &names, "--out", &table, "hf:someone/things"];
    lafter(&hub, &folder.path().join("cache"), &line);
    let rows = fs::read_to_string(table).unwrap();
    assert_eq!(rows.lines().count(), 13, "{rows}");
    assert!(rows.lines().skip(1).all(|row| row.contains("boat") && row.contains("house")), "{rows}"); // answer and runner-up
}
