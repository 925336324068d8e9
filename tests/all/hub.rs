//! Models of the hub: downloads from a stand-in server on this machine, the cache without network, errors in one line.

use std::path::{Path, PathBuf};

use crate::hub_stub::{COMMIT, Fault, Hub, unreachable};
use candle_core::{DType, Device};
use lafter::clip::hub::download_with;
use lafter::clip::{Tokenizer, Weights};
use lafter::hub::HubOptions;
use lafter::progress::{Event, Stage};

const ID: &str = "somebody/tiny-clip";

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(path)
}

fn quick() -> Vec<(&'static str, PathBuf)> {
    let file = |name| (name, fixture("quick").join(name));
    vec![file("config.json"), file("model.safetensors"), file("tokenizer.json"), file("preprocessor_config.json")]
}

#[test]
fn downloads_once_and_then_needs_no_network() {
    let mut files = quick();
    files.push(("pytorch_model.bin", fixture("micro_bin/pytorch_model.bin")));
    files.push(("README.md", fixture("versions.json")));
    let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
    let mut options = hub.options(cache.path());
    options.token = Some("secret".into());
    assert!(!format!("{options:?}").contains("secret"));
    let mut events = Vec::new();
    let folder = download_with(&options, ID, None, &mut |event| events.push(event.clone())).unwrap();
    assert!(folder.ends_with(format!("models--somebody--tiny-clip/snapshots/{COMMIT}")));
    let loaded = Weights::load(&folder, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(loaded.hash().unwrap(), Weights::load(fixture("quick"), DType::F32, &Device::Cpu).unwrap().hash().unwrap());
    Tokenizer::from_dir(&folder, 16).unwrap();
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("README.md").exists());

    let size = std::fs::metadata(fixture("quick/model.safetensors")).unwrap().len() as usize;
    let stage = Stage::from("downloading model.safetensors");
    assert!(events.contains(&Event::Started { stage: stage.clone(), total: size, unit: "bytes".into() }));
    assert!(events.contains(&Event::Advanced { stage: stage.clone(), done: size, total: size, loss: None, accuracy: None }));
    assert!(events.iter().any(|event| matches!(event, Event::Finished { stage: s, .. } if *s == stage)));
    let asked = hub.requests.lock().unwrap().len();
    assert!(hub.requests.lock().unwrap().contains(&"authorization: bearer secret".to_string()));

    assert_eq!(download_with(&options, ID, Some("main"), &mut |_| {}).unwrap(), folder);
    assert_eq!(download_with(&options, ID, Some(COMMIT), &mut |_| {}).unwrap(), folder);
    assert_eq!(download_with(&HubOptions { offline: true, ..options }, ID, None, &mut |_| {}).unwrap(), folder);
    assert_eq!(hub.requests.lock().unwrap().len(), asked);
}

#[test]
fn open_clip_repositories_and_shards_are_understood() {
    // as in timm's repositories: config.json and model.safetensors belong to another library
    let foreign = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(foreign.path(), r#"{"architecture": "vit_base_patch32_clip_224"}"#).unwrap();
    let open = fixture("open_clip_quick");
    let files = vec![
        ("config.json", foreign.path().to_path_buf()),
        ("model.safetensors", fixture("micro/model.safetensors")),
        ("open_clip_config.json", open.join("open_clip_config.json")),
        ("open_clip_model.safetensors", open.join("open_clip_model.safetensors")),
    ];
    let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    assert!(folder.join("open_clip_model.safetensors").exists() && !folder.join("model.safetensors").exists());
    Weights::load(&folder, DType::F32, &Device::Cpu).unwrap();

    let sharded = fixture("micro_sharded");
    let names = ["config.json", "model.safetensors.index.json"];
    let shards = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    let files = names.into_iter().chain(shards).map(|name| (name, sharded.join(name))).collect();
    let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    Weights::load(&folder, DType::F32, &Device::Cpu).unwrap();
    // without a tokenizer the hub is asked again, and what is there is used if it does not answer
    let silent = HubOptions { endpoint: unreachable(), ..hub.options(cache.path()) };
    assert_eq!(download_with(&silent, ID, None, &mut |_| {}).unwrap(), folder);
}

/// Another program may have fetched the model without its image settings.
#[test]
fn a_snapshot_without_image_settings_is_completed() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::None), tempfile::tempdir().unwrap());
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    let settings = folder.join("preprocessor_config.json");
    std::fs::remove_file(&settings).unwrap();
    // the hub is known to have some, and they change every number; what another program fetched may lack nothing
    let offline = HubOptions { offline: true, ..hub.options(cache.path()) };
    let error = download_with(&offline, ID, None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("unset HF_HUB_OFFLINE"), "{error}");
    std::fs::remove_dir_all(folder.ancestors().nth(2).unwrap().join("lists")).unwrap();
    let mut told = Vec::new();
    assert_eq!(download_with(&offline, ID, None, &mut |event| told.push(event.clone())).unwrap(), folder);
    assert!(matches!(&told[..], [Event::Notice(text)] if text.contains("without image settings") && text.contains(COMMIT)), "{told:?}");
    assert!(!settings.exists());
    assert_eq!(download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap(), folder);
    assert!(settings.is_file());
}

#[test]
fn a_broken_download_is_taken_up_where_it_stopped() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::CutAt(30_000)), tempfile::tempdir().unwrap());
    let error = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("cut off") && error.contains("run again") && error.lines().count() == 1, "{error}");
    let offline = HubOptions { offline: true, ..hub.options(cache.path()) };
    assert!(download_with(&offline, ID, None, &mut |_| {}).is_err(), "half a model is none");
    *hub.fault.lock().unwrap() = Fault::None;
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), std::fs::read(fixture("quick/model.safetensors")).unwrap());

    let (hub, cache) = (Hub::start(ID, quick(), Fault::CutOnce(30_000)), tempfile::tempdir().unwrap());
    let options = HubOptions { retries: 1, ..hub.options(cache.path()) };
    let mut last = 0;
    let mut started = 0;
    let folder = download_with(&options, ID, None, &mut |event| match event {
        Event::Started { stage, .. } if stage.name.contains("model.safetensors") => started += 1,
        Event::Advanced { stage, done, .. } if stage.name.contains("model.safetensors") => last = *done,
        _ => {}
    });
    assert!(folder.is_ok() && started == 1 && last == std::fs::metadata(fixture("quick/model.safetensors")).unwrap().len() as usize);
}

#[test]
fn what_comes_otherwise_than_asked_for_is_not_kept() {
    let (whole, weights) = (fixture("quick/model.safetensors"), "model.safetensors");
    for fault in [Fault::ChangeOnce(40_000), Fault::WrongRange(30_000), Fault::Busy(0)] {
        let (hub, cache) = (Hub::start(ID, quick(), fault), tempfile::tempdir().unwrap());
        let once = download_with(&hub.options(cache.path()), ID, None, &mut |_| {});
        assert!(once.is_err(), "nothing was wrong");
        let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(folder.join(weights)).unwrap(), std::fs::read(&whole).unwrap());

        let (hub, cache) = (Hub::start(ID, quick(), fault), tempfile::tempdir().unwrap());
        let retried = HubOptions { retries: 1, ..hub.options(cache.path()) };
        let folder = download_with(&retried, ID, None, &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(folder.join(weights)).unwrap(), std::fs::read(&whole).unwrap());
    }
    let (hub, cache) = (Hub::start(ID, quick(), Fault::Change(40_000)), tempfile::tempdir().unwrap());
    let error = download_with(&HubOptions { retries: 2, ..hub.options(cache.path()) }, ID, None, &mut |_| {}).unwrap_err();
    let asked = hub.requests.lock().unwrap().iter().filter(|path| path.ends_with(weights)).count();
    assert!(error.to_string().contains("changed on the way") && (3..=6).contains(&asked), "{error} {asked}");
    let (hub, cache) = (Hub::start(ID, quick(), Fault::Busy(3000)), tempfile::tempdir().unwrap());
    let error = download_with(&HubOptions { retries: 1, ..hub.options(cache.path()) }, ID, None, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("too many requests"), "{error}");
}

#[test]
fn a_full_cache_that_cannot_be_written_serves() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::None), tempfile::tempdir().unwrap());
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    // where links cannot be made, a file stands for what nothing can be put into
    let root = folder.ancestors().nth(2).unwrap();
    std::fs::remove_dir_all(root.join("refs")).unwrap();
    std::fs::remove_dir_all(root.join("lists")).unwrap();
    std::fs::write(root.join("refs"), "").unwrap();
    std::fs::write(root.join("lists"), "").unwrap();
    assert_eq!(download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap(), folder);
}

#[test]
fn errors_say_what_was_wanted_and_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let fail = |hub: &Hub| {
        let error = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(ID) && error.lines().count() == 1, "{error}");
        error
    };
    assert!(fail(&Hub::start(ID, quick(), Fault::Status(404))).contains("check the name and the revision"));
    let refused = fail(&Hub::start(ID, quick(), Fault::Status(401)));
    assert!(refused.contains("HF_TOKEN") && refused.contains("it says: so it is"), "{refused}");
    let sent = HubOptions { token: Some("x".into()), ..Hub::start(ID, quick(), Fault::Status(403)).options(cache.path()) };
    let error = download_with(&sent, ID, None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("another HF_TOKEN (one was sent"), "{error}");
    let named = HubOptions { endpoint: "hub.test".into(), ..sent };
    assert!(download_with(&named, ID, None, &mut |_| {}).unwrap_err().to_string().contains("begin it with https://"));
    assert!(fail(&Hub::start(ID, quick(), Fault::Status(503))).contains("status 503"));
    assert!(fail(&Hub::start(ID, vec![("README.md", fixture("versions.json"))], Fault::None)).contains("no CLIP weights"));
    let mut gone = Hub::start(ID, quick(), Fault::None);
    gone.address = unreachable();
    let error = fail(&gone);
    assert!(error.contains("network cannot be reached") && error.contains("--model DIR") && error.contains("HF_HOME"), "{error}");
    let offline = HubOptions { offline: true, ..gone.options(cache.path()) };
    let error = download_with(&offline, ID, Some("v1"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("at revision v1") && error.contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn errors_show_neither_token_nor_password() {
    let cache = tempfile::tempdir().unwrap();
    let fail = |endpoint: String, token: &str| {
        let options = HubOptions { endpoint, cache: cache.path().into(), token: Some(token.into()), offline: false, retries: 0 };
        assert!(!format!("{options:?}").contains("secret"));
        let error = download_with(&options, ID, None, &mut |_| {}).unwrap_err().to_string();
        assert!(!error.contains("secret") && error.lines().count() == 1, "{error}");
        error
    };
    for token in ["\u{201c}secret\u{201d}", "secret\u{200b}", "secret\nsecret", "secret secret"] {
        assert!(fail(unreachable(), token).contains("holds no token"));
    }
    let error = fail(unreachable().replace("://", "://me:secret@"), "hf_x");
    assert!(error.contains("network cannot be reached (127.0.0.1: "), "{error}");
}

#[test]
fn ids_cannot_lead_out_of_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions { endpoint: unreachable(), cache: cache.path().into(), token: None, offline: true, retries: 0 };
    for id in ["../up", "a/b/c", "", "owner/", "./folder", "a b/c", "owner/name?x=1"] {
        assert!(download_with(&options, id, None, &mut |_| {}).unwrap_err().is_usage(), "{id}");
    }
    assert!(download_with(&options, ID, Some("../../x"), &mut |_| {}).unwrap_err().is_usage());
}

#[test]
fn another_kind_of_model_is_refused_before_its_weights_are_asked_for() {
    for (name, content, word) in [
        ("config.json", r#"{"model_type": "siglip", "vision_config": {}, "text_config": {}}"#, "siglip"),
        ("config.json", r#"{"architecture": "resnet50_clip"}"#, "resnet50_clip"),
        ("open_clip_config.json", r#"{"model_cfg": {"vision_cfg": {"layers": [3, 4, 6, 3]}, "text_cfg": {}}}"#, "ResNet"),
        ("open_clip_config.json", r#"{"model_cfg": {"audio_cfg": {"model_type": "HTSAT"}, "text_cfg": {}}}"#, "audio_cfg"),
        ("open_clip_config.json", r#"{"model_cfg": {"vision_cfg": {"timm_model_name": "convnext"}, "text_cfg": {}}}"#, "convnext"),
    ] {
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), content).unwrap();
        let mut files: Vec<_> = quick().into_iter().filter(|(other, _)| *other != "config.json").collect();
        files.push((name, config.path().to_path_buf()));
        let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
        let error = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(ID) && error.contains(word) && error.lines().count() == 1, "{error}");
        assert!(hub.requests.lock().unwrap().iter().all(|line| !line.contains("model.safetensors")), "{word}");
    }
}

#[test]
fn a_checkpoint_under_another_name_and_processor_settings_are_fetched() {
    let mut files: Vec<_> = quick().into_iter().filter(|(name, _)| !name.contains("processor") && !name.contains("model.")).collect();
    files.push(("clip.safetensors", fixture("quick/model.safetensors")));
    files.push(("optimizer.pt", fixture("versions.json")));
    files.push(("logs/other.pt", fixture("versions.json")));
    files.push(("processor_config.json", fixture("quick/preprocessor_config.json")));
    let (hub, cache) = (Hub::start(ID, files, Fault::None), tempfile::tempdir().unwrap());
    let folder = download_with(&hub.options(cache.path()), ID, None, &mut |_| {}).unwrap();
    assert!(folder.join("processor_config.json").is_file() && !folder.join("optimizer.pt").exists());
    Weights::load(&folder, DType::F32, &Device::Cpu).unwrap();
}

#[test]
fn several_processes_share_one_download() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::None), tempfile::tempdir().unwrap());
    let options = hub.options(cache.path());
    // A lock belongs to an open file, so threads stand for processes.
    let folders: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| download_with(&options, ID, None, &mut |_| {}))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert!(folders.iter().all(|folder| Weights::load(folder, DType::F32, &Device::Cpu).is_ok()));
    // Each may ask once what the file is; one of them fetches it.
    let asked = hub.requests.lock().unwrap().iter().filter(|path| path.ends_with("model.safetensors")).count();
    assert!((2..=4).contains(&asked), "{asked} requests");

    // while somebody else holds the lock, the user is told; an interrupt ends the wait
    let cache = tempfile::tempdir().unwrap();
    let options = hub.options(cache.path());
    let name = crate::hub_stub::etag(&std::fs::read(fixture("quick/config.json")).unwrap());
    let locks = cache.path().join("hub/.locks").join(format!("models--{}", ID.replace('/', "--")));
    std::fs::create_dir_all(&locks).unwrap();
    let held = std::fs::File::create(locks.join(format!("{name}.lock"))).unwrap();
    held.lock().unwrap();
    let mut notices = Vec::new();
    let folder = download_with(&options, ID, None, &mut |event| {
        if let Event::Notice(text) = event {
            notices.push(text.clone());
            held.unlock().unwrap();
        }
    });
    assert!(folder.is_ok() && notices.len() == 1 && notices[0].contains("waiting") && notices[0].contains("config.json"), "{notices:?}");
}

#[test]
fn a_mirror_may_send_to_another_host() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::None), tempfile::tempdir().unwrap());
    let options = HubOptions { endpoint: hub.mirror(), token: Some("secret".into()), ..hub.options(cache.path()) };
    let folder = download_with(&options, ID, None, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), std::fs::read(fixture("quick/model.safetensors")).unwrap());
    assert!(!hub.requests.lock().unwrap().iter().any(|line| line.contains("secret")), "the token went to another host");
}

#[test]
fn a_proxy_is_not_asked_where_no_proxy_names_the_host() {
    let (hub, cache) = (Hub::start(ID, quick(), Fault::None), tempfile::tempdir().unwrap());
    let texts = cache.path().join("texts.txt");
    std::fs::write(&texts, "a photo").unwrap();
    let mut command = crate::common::program();
    command.args(["embed", "--model", ID, "--texts"]).arg(&texts).arg("--out").arg(cache.path().join("f.safetensors"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    let command = command.env("HF_ENDPOINT", &hub.address).env("HF_HUB_CACHE", cache.path().join("hub")).env("HF_HUB_OFFLINE", "0");
    let output = command.env_remove("TRANSFORMERS_OFFLINE").env("NO_PROXY", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
