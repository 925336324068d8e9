//! CLIPs as people have them: training checkpoints, archives, whole modules, settings in unusual files; and what is said of
//! files that are damaged or belong to something else.

use std::path::{Path, PathBuf};

use crate::torch_file::{Item, flat, nested, write, write_raw};
use candle_core::{DType, Device, Tensor};
use lafter::clip::{Clip, ClipLoader, Tokenizer, Weights, read_tensors, save_tensors};
use lafter::nn::Activation;
use lafter::progress::silent;
use serde_json::{Value, json};
use tempfile::TempDir;

const TEXTS: [&str; 2] = ["a photo of a house", "two fish"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// A folder with some of the fixture `quick`'s files.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(fixture("quick").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// The same CLIP in open_clip's layout, without its weights.
fn open_clip_folder() -> TempDir {
    let folder = folder(&["tokenizer.json"]);
    std::fs::copy(fixture("open_clip_quick/open_clip_config.json"), folder.path().join("open_clip_config.json")).unwrap();
    folder
}

const ALL: [&str; 4] = ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"];

fn tensors(path: &str) -> Vec<(String, Tensor)> {
    let mut tensors: Vec<_> = read_tensors(fixture(path), &Device::Cpu).unwrap().0.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn open_clip_tensors() -> Vec<(String, Tensor)> {
    tensors("open_clip_quick/open_clip_model.safetensors")
}

fn load(directory: &Path) -> Clip {
    ClipLoader::from_dir(directory).load(silent).unwrap()
}

fn fail(directory: &Path) -> String {
    let error = ClipLoader::from_dir(directory).load(silent).unwrap_err().to_string();
    assert!(error.lines().count() == 1 && error.len() < 900, "{error}");
    error
}

/// Changes a JSON file of a folder.
fn change(directory: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(name);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
}

fn features(clip: &Clip) -> Vec<Vec<f32>> {
    clip.encode_text(&TEXTS).unwrap().to_vec2().unwrap()
}

fn hash() -> String {
    Weights::load(fixture("quick"), DType::F32, &Device::Cpu).unwrap().hash().unwrap().to_string()
}

#[test]
fn checkpoints_of_every_kind_give_the_same_weights() {
    let plain = open_clip_tensors();
    let number = |name: &str| (name.to_string(), Item::Number(3));
    let under =
        |name: &str, item: Item| Item::Map(vec![number("epoch"), (name.to_string(), item), ("optimizer".into(), Item::Map(vec![]))]);
    let turned = plain.iter().map(|(name, tensor)| {
        let turned = name == "token_embedding.weight" || name == "visual.proj";
        (name.clone(), if turned { Item::Turned(tensor.clone()) } else { Item::Tensor(tensor.clone()) })
    });
    let compiled = plain.iter().map(|(name, tensor)| (name.replace("visual.", "visual._orig_mod."), Item::Tensor(tensor.clone())));
    let kinds = [
        ("open_clip_pytorch_model.bin", flat(&plain, ""), ""),
        ("epoch_7.pt", under("state_dict", flat(&plain, "module.")), "state_dict.module."),
        ("last.ckpt", under("state_dict", flat(&plain, "model.clip.")), "state_dict.model.clip."),
        ("best.pth", under("model", flat(&plain, "_orig_mod.")), "model."),
        ("model.pt", under("model_state_dict", flat(&plain, "module._orig_mod.")), "model_state_dict.module."),
        ("turned.bin", Item::Map(turned.collect()), ""),
        ("module.pt", nested(&plain, false), ""),
        ("compiled.pt", Item::Map(compiled.collect()), ""),
    ];
    for (name, item, prefix) in kinds {
        let folder = open_clip_folder();
        write(&folder.path().join(name), &item, &[]);
        let clip = load(folder.path());
        assert_eq!(clip.weights_hash(), hash(), "{name}");
        let shown = if prefix.is_empty() { name.to_string() } else { format!("{name} below {}", prefix.trim_end_matches('.')) };
        assert_eq!(clip.summary().weights, shown);
        assert!(clip.notices().is_empty(), "{:?}", clip.notices());
    }
    let folder = open_clip_folder();
    let script = [("constants.pkl", &b"\x80\x02)."[..]), ("code/__torch__.py", b"class Module(Module):\n  pass\n")];
    write(&folder.path().join("script.pt"), &nested(&plain, true), &script);
    assert_eq!(load(folder.path()).weights_hash(), hash());

    // a running average next to the weights is ignored, with a notice
    let folder = open_clip_folder();
    let both = Item::Map(vec![("model".into(), flat(&plain, "")), ("model_ema".into(), flat(&plain, ""))]);
    write(&folder.path().join("both.pt"), &both, &[]);
    let clip = load(folder.path());
    assert!(clip.weights_hash() == hash() && clip.notices()[0].contains("model_ema"), "{:?}", clip.notices());
    let two = Item::Map(vec![("student".into(), flat(&plain, "")), ("teacher".into(), flat(&plain, ""))]);
    write(&folder.path().join("both.pt"), &two, &[]);
    let error = fail(folder.path());
    assert!(error.contains("student.") && error.contains("teacher."), "{error}");
}

#[test]
fn prefixes_in_safetensors_are_left_off_also_over_shards() {
    for prefix in ["_orig_mod.", "module._orig_mod.", "model."] {
        let folder = open_clip_folder();
        let renamed: Vec<_> = open_clip_tensors().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        let (first, second) = renamed.split_at(5);
        save_tensors(folder.path().join("1.safetensors"), first, Default::default()).unwrap();
        save_tensors(folder.path().join("2.safetensors"), second, Default::default()).unwrap();
        let of = |part: &[(String, Tensor)], file: &str| part.iter().map(|(name, _)| (name.clone(), json!(file))).collect::<Vec<_>>();
        let map: serde_json::Map<String, Value> = [of(first, "1.safetensors"), of(second, "2.safetensors")].concat().into_iter().collect();
        std::fs::write(folder.path().join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
        assert_eq!(load(folder.path()).weights_hash(), hash(), "{prefix}");
    }
}

#[test]
fn one_of_several_files_is_named_by_the_user() {
    let folder = open_clip_folder();
    let path = |name: &str| folder.path().join(name);
    write(&path("epoch_1.pt"), &flat(&open_clip_tensors(), ""), &[]);
    write(&path("epoch_2.pt"), &flat(&open_clip_tensors(), ""), &[]);
    write(&path("optimizer.pt"), &Item::Map(vec![]), &[]);
    let error = fail(folder.path());
    assert!(error.contains("epoch_1.pt, epoch_2.pt") && error.contains("--model FILE"), "{error}");
    let clip = ClipLoader::new(path("epoch_2.pt").to_str().unwrap()).load(silent).unwrap();
    assert_eq!((clip.weights_hash(), clip.summary().weights.as_str()), (hash().as_str(), "epoch_2.pt"));
    for other in ["open_clip_config.json", "optimizer.pt"] {
        let error = ClipLoader::new(path(other).to_str().unwrap()).load(silent).unwrap_err().to_string();
        assert!(error.contains("is a file") && error.contains("folder"), "{error}");
    }
    let alone = tempfile::tempdir().unwrap();
    std::fs::write(alone.path().join("ViT-B-32.pt"), [b"PK\x03\x04", &[0u8; 100][..]].concat()).unwrap();
    let error = ClipLoader::new(alone.path().join("ViT-B-32.pt").to_str().unwrap()).load(silent).unwrap_err().to_string();
    assert!(error.contains("is a file") && error.contains("folder"), "{error}");
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir(outer.path().join("0_CLIPModel")).unwrap();
    std::fs::write(outer.path().join("0_CLIPModel/config.json"), "{}").unwrap();
    assert!(fail(outer.path()).contains("its folder 0_CLIPModel does"));
}

/// Tensors of OpenAI's layout for a tower of width 64, in half precision, with the sizes that its archives hold.
fn openai_tensors() -> Vec<(String, Tensor)> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("logit_scale".into(), vec![]),
        ("positional_embedding".into(), vec![16, 64]),
        ("text_projection".into(), vec![64, 32]),
        ("token_embedding.weight".into(), vec![640, 64]),
        ("visual.class_embedding".into(), vec![128]),
        ("visual.conv1.weight".into(), vec![128, 3, 8, 8]),
        ("visual.positional_embedding".into(), vec![10, 128]),
        ("visual.proj".into(), vec![128, 32]),
    ];
    let mut pair = |name: String, outputs: usize, inputs: Option<usize>, dot: &str| {
        shapes.push((format!("{name}{dot}weight"), [Some(outputs), inputs].into_iter().flatten().collect()));
        shapes.push((format!("{name}{dot}bias"), vec![outputs]));
    };
    for (norm, width) in [("visual.ln_pre", 128), ("visual.ln_post", 128), ("ln_final", 64)] {
        pair(norm.into(), width, None, ".");
    }
    for (tower, layers, width) in [("visual.transformer", 2, 128), ("transformer", 1, 64)] {
        for block in (0..layers).map(|i| format!("{tower}.resblocks.{i}")) {
            pair(format!("{block}.attn.in_proj"), 3 * width, Some(width), "_");
            pair(format!("{block}.attn.out_proj"), width, Some(width), ".");
            pair(format!("{block}.ln_1"), width, None, ".");
            pair(format!("{block}.ln_2"), width, None, ".");
            pair(format!("{block}.mlp.c_fc"), 4 * width, Some(width), ".");
            pair(format!("{block}.mlp.c_proj"), width, Some(4 * width), ".");
        }
    }
    let half = |shape: Vec<usize>| (Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap() * 0.25).unwrap().to_dtype(DType::F16).unwrap();
    let sizes = [("input_resolution", 24i64), ("context_length", 16), ("vocab_size", 640)];
    let sizes = sizes.map(|(name, size)| (name.to_string(), Tensor::new(size, &Device::Cpu).unwrap()));
    shapes.into_iter().map(|(name, shape)| (name, half(shape))).chain(sizes).collect()
}

#[test]
fn an_archive_of_openai_needs_no_configuration() {
    let folder = folder(&["tokenizer.json"]);
    let path = folder.path().join("ViT-B-32.pt");
    write(&path, &nested(&openai_tensors(), true), &[("constants.pkl", b"\x80\x02).")]);
    for name in [folder.path(), &path] {
        let clip = ClipLoader::new(name.to_str().unwrap()).load(silent).unwrap();
        let (vision, text) = (&clip.config().vision, &clip.config().text);
        assert_eq!((vision.image_size, vision.patch_size, vision.width, vision.layers, vision.heads), (24, 8, 128, 2, 2));
        assert_eq!((text.vocabulary, text.context, text.width, text.layers, text.heads, text.hidden), (640, 16, 64, 1, 1, 256));
        assert_eq!((clip.config().projection, vision.activation), (32, Activation::QuickGelu));
        assert!(clip.notices()[0].contains("OpenAI's archive") && clip.logit_scale() > 1.0, "{:?}", clip.notices());
        assert_eq!(features(&clip).len(), 2);
    }
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = ClipLoader::new(path.to_str().unwrap()).load(silent).unwrap_err().to_string();
    assert!(error.contains("no tokenizer in"), "{error}");
    // the same weights as a state_dict do not tell the activation: a configuration is needed
    write(&path, &flat(&openai_tensors(), ""), &[]);
    assert!(fail(folder.path()).contains("open_clip_config.json"));
}

#[test]
fn an_archive_of_openai_keeps_its_activation_whatever_a_configuration_says() {
    let folder = folder(&["tokenizer.json"]);
    write(&folder.path().join("ViT-B-32.pt"), &nested(&openai_tensors(), true), &[("constants.pkl", b"\x80\x02).")]);
    let config = json!({ "model_cfg": {
        "embed_dim": 32, "vision_cfg": { "image_size": 24, "layers": 2, "width": 128, "patch_size": 8 },
        "text_cfg": { "context_length": 16, "vocab_size": 640, "width": 64, "heads": 1, "layers": 1 },
    }});
    std::fs::write(folder.path().join("open_clip_config.json"), config.to_string()).unwrap();
    let error = fail(folder.path());
    assert!(error.contains("OpenAI's archive") && error.contains("\"quick_gelu\": true"), "{error}");
    change(folder.path(), "open_clip_config.json", |json| json["model_cfg"]["quick_gelu"] = json!(true));
    assert_eq!(load(folder.path()).config().vision.activation, Activation::QuickGelu);
}

#[test]
fn values_that_are_not_finite_are_named() {
    for (name, bad) in [("vision_model.encoder.layers.1.mlp.fc2.bias", f32::NAN), ("logit_scale", f32::INFINITY)] {
        let spoil = |(other, tensor): (String, Tensor)| {
            let spoiled = if other == name { (tensor.ones_like().unwrap() * f64::from(bad)).unwrap() } else { tensor };
            (other, spoiled)
        };
        let folder = folder(&ALL);
        let spoiled: Vec<_> = tensors("quick/model.safetensors").into_iter().map(spoil).collect();
        save_tensors(folder.path().join("model.safetensors"), &spoiled, Default::default()).unwrap();
        let error = fail(folder.path());
        assert!(error.contains(name) && error.contains("not finite") && error.contains("model.safetensors"), "{error}");
    }
    // a factor in place of its logarithm would overflow
    let folder = folder(&ALL);
    let hundred = |(name, tensor): (String, Tensor)| {
        let tensor = if name == "logit_scale" { Tensor::new(100f32, &Device::Cpu).unwrap() } else { tensor };
        (name, tensor)
    };
    let spoiled: Vec<_> = tensors("quick/model.safetensors").into_iter().map(hundred).collect();
    save_tensors(folder.path().join("model.safetensors"), &spoiled, Default::default()).unwrap();
    assert!(fail(folder.path()).contains("logit_scale is 100"));
}

#[test]
fn image_settings_are_found_in_every_file_and_contradictions_are_said() {
    let halves = |json: &mut Value| json["image_mean"] = json!([0.5, 0.5, 0.5]);
    let old = folder(&ALL);
    change(old.path(), "preprocessor_config.json", halves);
    let expected = load(old.path());
    assert!(expected.notices().is_empty() && expected.preprocess().mean == [0.5; 3], "{:?}", expected.notices());

    let new = folder(&ALL[..3]);
    let settings: Value = serde_json::from_slice(&std::fs::read(old.path().join("preprocessor_config.json")).unwrap()).unwrap();
    let processor = json!({ "image_processor": settings, "processor_class": "CLIPProcessor" });
    std::fs::write(new.path().join("processor_config.json"), processor.to_string()).unwrap();
    let clip = load(new.path());
    assert_eq!(clip.preprocess(), expected.preprocess());
    assert_eq!((clip.notices().len(), clip.summary().image_settings.as_str()), (0, "16 pixels, bicubic (processor_config.json)"));

    let none = load(folder(&ALL[..3]).path());
    assert!(none.notices()[0].contains("OpenAI's settings at 16 pixels"), "{:?}", none.notices());

    let lacking = folder(&ALL);
    change(lacking.path(), "preprocessor_config.json", |json| drop(json.as_object_mut().unwrap().remove("image_std")));
    assert_eq!(load(lacking.path()).notices(), ["preprocessor_config.json lacks image_std: OpenAI's are used"]);

    let lacking = folder(&ALL);
    change(lacking.path(), "preprocessor_config.json", |json| drop(json.as_object_mut().unwrap().remove("size")));
    let notices = load(lacking.path()).notices().to_vec();
    assert!(notices.len() == 1 && notices[0].contains("lacks size: pictures are resized to 16 pixels"), "{notices:?}");

    let inside = open_clip_folder();
    std::fs::copy(fixture("open_clip_quick/open_clip_model.safetensors"), inside.path().join("open_clip_model.safetensors")).unwrap();
    change(inside.path(), "open_clip_config.json", |json| {
        let mut settings = json["preprocess_cfg"].take();
        settings["mean"] = json!([0.5, 0.5, 0.5]);
        json["model_cfg"]["preprocess_cfg"] = settings;
    });
    assert_eq!(load(inside.path()).preprocess().mean, [0.5; 3]);

    let both = open_clip_folder();
    std::fs::copy(fixture("open_clip_quick/open_clip_model.safetensors"), both.path().join("open_clip_model.safetensors")).unwrap();
    std::fs::copy(old.path().join("preprocessor_config.json"), both.path().join("preprocessor_config.json")).unwrap();
    let clip = load(both.path());
    assert!(clip.preprocess().mean != [0.5; 3] && clip.notices()[0].contains("prepare pictures differently"), "{:?}", clip.notices());
}

#[test]
fn nested_image_settings_come_first_and_a_saved_clip_keeps_them() {
    let both = folder(&ALL);
    let mut settings: Value = serde_json::from_slice(&std::fs::read(both.path().join("preprocessor_config.json")).unwrap()).unwrap();
    settings["image_mean"] = json!([0.5, 0.5, 0.5]);
    std::fs::write(both.path().join("processor_config.json"), json!({ "image_processor": settings }).to_string()).unwrap();
    let clip = load(both.path());
    assert_eq!(clip.preprocess().mean, [0.5; 3]);
    assert!(clip.notices()[0].starts_with("processor_config.json and preprocessor_config.json prepare"), "{:?}", clip.notices());
    let saved = tempfile::tempdir().unwrap();
    clip.save_with(clip.vision(), saved.path()).unwrap();
    assert_eq!(load(saved.path()).preprocess(), clip.preprocess());
}

#[test]
fn texts_are_read_at_the_end_that_the_tokenizer_writes() {
    let expected = features(&load(&fixture("quick")));
    for (id, said) in [(json!(639), false), (json!(5), true), (Value::Null, true)] {
        let folder = folder(&ALL);
        change(folder.path(), "config.json", |json| json["text_config"]["eos_token_id"] = id.clone());
        let clip = load(folder.path());
        assert_eq!((features(&clip), clip.notices().len()), (expected.clone(), usize::from(said)), "{id}");
        assert!(clip.notices().iter().all(|notice| notice.contains("end of text")), "{:?}", clip.notices());
        assert_eq!(clip.summary().end_of_text, "at the first <|endoftext|> (id 639)");
    }
    let pooled = open_clip_folder();
    std::fs::copy(fixture("open_clip_quick/open_clip_model.safetensors"), pooled.path().join("open_clip_model.safetensors")).unwrap();
    change(pooled.path(), "open_clip_config.json", |json| {
        json["model_cfg"]["text_cfg"]["pool_type"] = json!("eos");
        json["model_cfg"]["text_cfg"]["eos_id"] = json!(639);
    });
    let clip = load(pooled.path());
    assert!(clip.notices().is_empty() && features(&clip) == expected, "{:?}", clip.notices());
    // the highest id is another token than the end: read there as the file says, and said
    let other = folder(&ALL);
    change(other.path(), "tokenizer.json", |json| {
        let text = json.to_string().replace("639", "1000000").replace("638", "639").replace("1000000", "638");
        *json = serde_json::from_str(&text).unwrap();
    });
    assert!(load(other.path()).notices()[0].contains("highest id"));
}

/// As MetaCLIP 2 worldwide in open_clip's layout: transformers would read every text at its highest id.
#[test]
fn an_end_of_text_with_id_2_is_saved_for_open_clip_alone() {
    let base = open_clip_folder();
    std::fs::copy(fixture("open_clip_quick/open_clip_model.safetensors"), base.path().join("open_clip_model.safetensors")).unwrap();
    change(base.path(), "open_clip_config.json", |json| {
        json["model_cfg"]["text_cfg"]["pool_type"] = json!("eos");
        json["model_cfg"]["text_cfg"]["eos_id"] = json!(2);
    });
    change(base.path(), "tokenizer.json", |json| {
        let exchange = |id: &mut Value| *id = if *id == 639 { json!(2) } else { json!(639) };
        json["model"]["vocab"].as_object_mut().unwrap().values_mut().filter(|id| **id == 639 || **id == 2).for_each(exchange);
        json["added_tokens"].as_array_mut().unwrap().iter_mut().map(|token| &mut token["id"]).filter(|id| **id == 639).for_each(exchange);
    });
    let clip = load(base.path());
    let saved = tempfile::tempdir().unwrap();
    let written = clip.save_with(clip.vision(), saved.path()).unwrap();
    assert!(written.files.iter().all(|file| file != "config.json" && file != "model.safetensors"), "{:?}", written.files);
    assert!(written.notices.len() == 1 && written.notices[0].starts_with("transformers cannot load"), "{:?}", written.notices);
    let config: Value = serde_json::from_slice(&std::fs::read(saved.path().join("open_clip_config.json")).unwrap()).unwrap();
    let text = &config["model_cfg"]["text_cfg"];
    assert_eq!((&text["pool_type"], &text["eos_id"], &text["hf_tokenizer_name"]), (&json!("eos"), &json!(2), &json!("local-dir")));
    let read = load(saved.path());
    assert_eq!((read.config(), features(&read)), (clip.config(), features(&clip)));
}

#[test]
fn unknown_keys_are_named_and_other_kinds_of_models_refused() {
    let strange = folder(&ALL);
    change(strange.path(), "config.json", |json| {
        json["vision_config"]["register_tokens"] = json!(4);
        json["text_config"]["attention_dropout"] = json!(0.5);
    });
    let notices = load(strange.path()).notices().to_vec();
    assert!(notices.len() == 1 && notices[0].contains("vision_config.register_tokens"), "{notices:?}");
    for (change_to, word) in [
        (json!({ "model_type": "blip" }), "blip"),
        (json!({ "model_type": "chinese_clip", "vision_config": {}, "text_config": {} }), "chinese_clip"),
        (json!({ "architecture": "vit_base_patch32_clip_224" }), "vit_base_patch32_clip_224"),
        (json!({}), "neither a model_type nor a vision_config"),
        (json!({ "model_type": "x".repeat(100_000) }), "xxx…"),
    ] {
        change(strange.path(), "config.json", |json| *json = change_to);
        let error = fail(strange.path());
        assert!(error.contains(word), "{error}");
    }
    // without model_type, a vision tower's settings tell: configuration and weights follow one rule
    let silent_config = folder(&ALL);
    change(silent_config.path(), "config.json", |json| drop(json.as_object_mut().unwrap().remove("model_type")));
    std::fs::copy(fixture("open_clip_quick/open_clip_config.json"), silent_config.path().join("open_clip_config.json")).unwrap();
    assert_eq!(load(silent_config.path()).summary().layout, "transformers (config.json)");
}

#[test]
fn damaged_and_hostile_pickles_are_refused_in_one_line() {
    let folder = open_clip_folder();
    let path = folder.path().join("open_clip_pytorch_model.bin");
    let tensor = |size: &[u8], stride: &[u8]| {
        let storage = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0";
        let head = b"\x80\x02}X\x0b\0\0\0logit_scalectorch._utils\n_rebuild_tensor_v2\n((";
        [&head[..], storage, size, stride, b"\x89ccollections\nOrderedDict\n)RtRs."].concat()
    };
    let huge = b"J\xff\xff\xff\x7f\x85";
    for (pickle, why) in [
        (b"\x80\x02}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n)Ru.".to_vec(), "lacks an argument"),
        ([&b"\x80\x02]q\0"[..], &b"0h\0h\0\x86q\0".repeat(10_000), b"."].concat(), "too many objects"),
        ([b"]".repeat(300_000), b"a".repeat(299_999), b".".to_vec()].concat(), "holds no tensors"),
        (vec![], "ends too early"),
    ] {
        write_raw(&path, &pickle, &[vec![0; 16]], &[]);
        let error = fail(folder.path());
        assert!(error.contains(why) && error.contains("PyTorch file") && error.contains("safetensors"), "{error}");
    }
    // claimed sizes beyond the file: nothing is allocated
    for (size, stride) in
        [(&huge[..], &b"K\x01\x85"[..]), (huge, b"K\0\x85"), (b"K\x04\x85", b"J\xff\xff\xff\x7f\x85"), (b"K\x04\x85", b")")]
    {
        write_raw(&path, &tensor(size, stride), &[vec![0; 16]], &[]);
        let error = fail(folder.path());
        assert!(error.contains("PyTorch file") || error.contains(".contiguous()"), "{error}");
    }
    for (bytes, word) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"[..], "git lfs pull"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "before 1.6"),
        (b"\x80\x02}.", "is a pickle"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = fail(folder.path());
        assert!(error.contains(word), "{error}");
    }
    // a changed byte is seen by the archive's checksum
    write(&path, &flat(&open_clip_tensors(), ""), &[]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    assert!(fail(folder.path()).contains("PyTorch file"));
}

#[test]
fn a_configuration_with_layers_without_end_is_refused_at_once() {
    for layers in [65_535u64, 1_000_000, 2_000_000_000, u64::MAX] {
        let folder = folder(&ALL);
        change(folder.path(), "config.json", |json| json["vision_config"]["num_hidden_layers"] = json!(layers));
        let error = fail(folder.path());
        assert!(error.contains("config") && error.contains(&layers.to_string()), "{error}");
    }
    let folder = folder(&ALL);
    change(folder.path(), "config.json", |json| json["vision_config"]["num_hidden_layers"] = json!(4000));
    assert!(fail(folder.path()).contains("4002 layers"));
}

#[test]
fn a_damaged_tokenizer_is_an_error_and_no_panic() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/files");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(files.join("vocab.json"), folder.path().join("vocab.json")).unwrap();
    let merges = std::fs::read_to_string(files.join("merges.txt")).unwrap();
    let last = merges.lines().last().unwrap().split_once(' ').unwrap().0.to_string();
    for line in [format!("{last}{last} {last}{last}"), format!("{} x", "y".repeat(100_000))] {
        std::fs::write(folder.path().join("merges.txt"), format!("{merges}{line}\n")).unwrap();
        let error = Tokenizer::from_dir(folder.path(), 16).unwrap_err().to_string();
        assert!(error.contains("is not a tokenizer") && error.lines().count() == 1 && error.len() < 500, "{error}");
    }
    let whole: Value = serde_json::from_slice(&std::fs::read(fixture("quick/tokenizer.json")).unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = whole.clone();
        json["model"][key] = value;
        Tokenizer::from_json(json.to_string().as_bytes(), "it", 16)
    };
    assert!(with("continuing_subword_prefix", json!("#".repeat(50))).is_err());
    let replaced = |pattern: Value, content: &str| {
        let mut json = whole.clone();
        json["normalizer"] = json!({ "type": "Replace", "pattern": pattern, "content": content });
        Tokenizer::from_json(json.to_string().as_bytes(), "it", 16).and_then(|tokenizer| tokenizer.encode(&TEXTS))
    };
    let error = replaced(json!({ "String": "a" }), &"a".repeat(1000)).unwrap_err().to_string();
    assert!(error.contains("2000 times as long"), "{error}"); // the step to bytes may double it
    match replaced(json!({ "String": "" }), "a") {
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        Ok(tokens) => assert_eq!(tokens.ids.len(), 2),
    }
}

#[test]
fn a_tokenizer_that_cuts_common_words_is_said() {
    let folder = folder(&ALL);
    change(folder.path(), "tokenizer.json", |json| {
        let digits = json!({ "type": "Digits", "individual_digits": true });
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
        json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [digits, bytes] });
    });
    let clip = load(folder.path());
    assert!(clip.notices().len() == 1 && clip.notices()[0].contains("needs 11 tokens"), "{:?}", clip.notices());
}

#[test]
fn what_is_odd_beside_the_weights_is_said() {
    let folder = folder(&ALL);
    let clip = |folder: &TempDir| Clip::from_dir(folder.path()).unwrap();
    let before = clip(&folder);
    assert!(!before.notices().iter().any(|notice| notice.contains("is read;") || notice.contains("values from")), "{:?}", before.notices());
    std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), "old").unwrap();
    std::fs::write(
        folder.path().join("preprocessor_config.json"),
        r#"{"size": 16, "do_rescale": false, "image_processor_type": "ViTImageProcessor"}"#,
    )
    .unwrap();
    let after = clip(&folder);
    for word in ["LoRA", "pytorch_model.bin in the same folder is not", "values from", "ViTImageProcessor"] {
        assert!(after.notices().iter().any(|notice| notice.contains(word)), "no {word}: {:?}", after.notices());
    }
    assert_ne!(before.settings_hash(), after.settings_hash());
    assert_eq!(before.weights_hash(), after.weights_hash());
}

#[test]
fn names_of_other_tools_lead_to_the_hub_id() {
    for (name, right) in [
        ("ViT-B/32", "openai/clip-vit-base-patch32"),
        ("hf-hub:laion/CLIP-ViT-B-32", "laion/CLIP-ViT-B-32"),
        ("https://huggingface.co/openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("openai/clip-vit-base-patch32@main", "as the revision, main"),
    ] {
        let error = lafter::clip::ClipLoader::new(name).load(|_| {}).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(right) && !error.to_string().contains("--"), "{error}");
    }
}
