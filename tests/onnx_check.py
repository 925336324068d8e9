"""Compares exported ONNX files with this crate: onnx.checker, onnxruntime's answers, the preprocessing inside, the time.

    pip install onnx onnxruntime numpy pillow
    cargo build && python tests/onnx_check.py target/debug/lafter
    … --model DIR --weights FILE --pictures DIR --count 200     another CLIP, its LaFTer weights, pictures of your own
    … --model DIR --classes FILE                                another CLIP, zero-shot alone
    … --web DIR                                                 also in onnxruntime-web (WebAssembly), installed there by npm, in Node

Without options: the demo CLIP, tuned for an epoch on rendered scenes, and 200 of those as PNG. JPEG files are decoded by Pillow and
saved as PNG first, since decoders differ. The command line's probabilities are compared (`predict --top`, all classes); the
differences of their logarithms are those of the logits, up to a constant a picture.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

LIMIT = 1e-4
parser = argparse.ArgumentParser()
parser.add_argument("lafter")
parser.add_argument("--model", default="demo")
parser.add_argument("--weights")
parser.add_argument("--pictures")
parser.add_argument("--classes", help="class names of the zero-shot and text classifier")
parser.add_argument("--descriptions")
parser.add_argument("--count", type=int, default=200)
parser.add_argument("--web", help="folder of an npm project that has onnxruntime-web")
args = parser.parse_args()
failed = []


def lafter(*options):
    done = subprocess.run([args.lafter, *map(str, options)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"lafter {' '.join(map(str, options))}: {done.stderr}")
    return done.stdout


def check(what, good, said):
    print(f"{'ok' if good else 'FAILED':6} {what}: {said}")
    if not good:
        failed.append(what)


def prepare(out):
    """Pictures as PNG, tuned weights, class names, descriptions."""
    pictures = out / "pictures"
    pictures.mkdir()
    found = args.pictures and sorted(p for p in Path(args.pictures).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        lafter("scenes", "--out", out / "scenes", "--count", args.count)
        found = sorted(p for p in (out / "scenes").rglob("*.*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for i, path in enumerate(found[: args.count]):
        Image.open(path).convert("RGB").save(pictures / f"{i:04}.png")
    weights = args.weights
    if not weights and args.model == "demo":
        short = ["--set", "tune.epochs=1", "--set", "text.epochs=100"]
        lafter("demo", "--out", out / "run", *short)
        weights = out / "run" / "lafter.safetensors"
    return sorted(pictures.iterdir()), weights


def pixels(picture, said):
    """The weak view, from what the file's metadata say of it."""
    weak = json.loads(said["preprocess"])
    (kind, size), = weak["resize"].items()
    assert kind == "shortest_edge" and weak["resample"] == "bicubic", weak
    short, long = min(picture.size), max(picture.size)
    longer = size * long // short
    picture = picture.resize((size, longer) if picture.width <= picture.height else (longer, size), Image.Resampling.BICUBIC)
    crop, (width, height) = weak["crop"], picture.size
    rounded = round if weak["crop_rule"] == "torchvision" else int
    left, top = rounded((width - crop) / 2), rounded((height - crop) / 2)
    view = np.asarray(picture.crop((left, top, left + crop, top + crop)), dtype=np.float32) * np.float32(weak["rescale"])
    view = (view - np.array(weak["mean"], dtype=np.float32)) / np.array(weak["std"], dtype=np.float32)
    return view.transpose(2, 0, 1)


def session(path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(session, inputs, batch=16):
    """Logits and probabilities of pixels; of pictures one by one, since their sizes differ."""
    name, rows = session.get_inputs()[0].name, []
    for start in range(0, len(inputs), batch):
        rows.append(session.run(["logits", "probabilities"], {name: np.stack(inputs[start : start + batch])}))
    return [np.concatenate(part) for part in zip(*rows)]


def ours(files, classes, *options):
    """This crate's probabilities, [n, C]."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.jsonl"
        lafter("predict", "--model", args.model, *options, "--top", len(classes), "--out", table, *files)
        rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [Path(row["picture"]).name for row in rows] == [file.name for file in files]
    return np.array([[dict(row["top"])[name] for name in classes] for row in rows])


def log_off(logits, probabilities):
    """Largest difference of the logits from ours, each picture's mean taken out; ours that are 0 in print are left out."""
    shown = probabilities > 1e-30
    log = np.log(np.where(shown, probabilities, 1))
    best = probabilities.argmax(1)[:, None]
    ours = log - np.take_along_axis(log, best, 1)
    theirs = logits - np.take_along_axis(logits, best, 1)
    return np.abs(np.where(shown, ours - theirs, 0)).max()


def compare(what, out, files, pictures, options, limit=LIMIT, *form):
    path = out / "model.onnx"
    lafter("export", "--model", args.model, *options, "--out", path, *form)
    run = session(path)
    said = run.get_modelmeta().custom_metadata_map
    classes = json.loads(said["classes"])
    inside = "--pictures" in form
    inputs = [np.asarray(p) for p in pictures] if inside else [pixels(p, said) for p in pictures]
    logits, probabilities = answers(run, inputs, 1 if inside else 16)
    expected = ours(files, classes, *options)
    off, rows = log_off(logits, expected), len(files)
    same = int((probabilities.argmax(1) == expected.argmax(1)).sum())
    share = np.abs(probabilities - expected).max()
    check(what, off < limit and share < limit and same == rows, f"logits within {off:.1e}, probabilities within {share:.1e}, {same} of {rows} answers equal, {path.stat().st_size / 1e6:.1f} MB")
    return run, inputs, said


def resize_inside(out, pictures, options, said):
    """How far the pixels of the preprocessing inside are from Pillow's, in levels of 8 bits."""
    path = out / "inside.onnx"
    lafter("export", "--model", args.model, *options, "--out", path, "--pictures")
    model = onnx.load(path)
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    normalised = convolution.input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(normalised, onnx.TensorProto.FLOAT, None))
    run = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    levels = np.array(json.loads(said["std"]))[:, None, None] * 255
    noise = np.random.default_rng(1).integers(0, 2, (3, 300, 300, 3)).astype(np.uint8) * 255
    kinds = [
        ("as they are", pictures),
        ("tall", [Image.fromarray(np.concatenate([np.asarray(p)] * 3)) for p in pictures]),  # Pillow resizes them vertically first
        ("wide", [Image.fromarray(np.concatenate([np.asarray(p)] * 3, 1)) for p in pictures]),
        ("black and white noise", [Image.fromarray(n[:height, :width]) for n in noise for height, width in ((300, 250), (300, 90), (90, 300))]),
    ]
    for kind, pictures in kinds:
        off = [np.abs(run.run([normalised], {"pictures": np.asarray(p)[None]})[0][0] - pixels(p, said)) * levels for p in pictures]
        most, differing = max(o.max() for o in off), np.mean([(o > 0.5).mean() for o in off])
        check(f"pixels inside, {kind}", most < 1.1, f"at most {most:.2f} levels of 255 from Pillow's, {100 * differing:.3f} % differ")


def in_the_web(out, pictures, options, said):
    """Logits of onnxruntime-web beside onnxruntime's, from pixels and with the preprocessing inside."""
    script = """
        import fs from 'fs';
        import * as ort from 'onnxruntime-web';
        ort.env.wasm.numThreads = 1;
        const [model, input, type, data, dims] = JSON.parse(fs.readFileSync(0));
        const bytes = fs.readFileSync(data);
        const values = type === 'uint8' ? new Uint8Array(bytes) : new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        const session = await ort.InferenceSession.create(fs.readFileSync(model), { executionProviders: ['wasm'] });
        const { logits } = await session.run({ [input]: new ort.Tensor(type, values, dims) });
        console.log(JSON.stringify(Array.from(logits.data)));
    """
    (Path(args.web) / "onnx_check.mjs").write_text(script)
    for name, form, value in (("pixels", [], pixels(pictures[0], said)), ("pictures", ["--pictures"], np.asarray(pictures[0]))):
        path, data = out / "web.onnx", out / "input.bin"
        lafter("export", "--model", args.model, *options, "--out", path, *form)
        data.write_bytes(value[None].tobytes())
        given = json.dumps([str(path), name, str(value.dtype), str(data), list(value[None].shape)])
        done = subprocess.run(["node", "onnx_check.mjs"], input=given, cwd=args.web, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"node: {done.stderr}")
        off = np.abs(np.array(json.loads(done.stdout)) - answers(session(path), [value])[0][0]).max()
        check(f"onnxruntime-web, {name}", off < LIMIT, f"logits within {off:.1e} of onnxruntime's")


def main():
    print(f"       onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        files, weights = prepare(out)
        pictures = [Image.open(file).convert("RGB") for file in files]
        options = ["--weights", weights] if weights else ["--classes", args.classes]
        if weights:
            run, inputs, said = compare("LaFTer, f32", out, files, pictures, options)
            compare("LaFTer, f16 weights", out, files, pictures, options, 0.2, "--half")
            compare("LaFTer, pictures inside", out, files, pictures, options, 0.2, "--pictures")
            resize_inside(out, pictures, options, said)
            names = out / "names.txt"
            names.write_text("\n".join(json.loads(said["classes"])))
        listed = ["--classes", args.classes or names]
        zero_shot = compare("zero-shot", out, files, pictures, listed, 1e-3)  # 1/τ times as large
        if not weights:
            run, inputs, said = zero_shot
        if args.descriptions:
            compare("text classifier", out, files, pictures, [*listed, "--descriptions", args.descriptions])
        if args.web:
            in_the_web(out, pictures, options, said)
        speed(files, run, inputs, options)
    raise SystemExit(f"{len(failed)} comparisons failed: {', '.join(failed)}" if failed else 0)


def speed(files, run, inputs, options):
    """Seconds a picture, decoding left out of onnxruntime's; ours as the difference of a long and a short command."""

    def command(files):
        started = time.perf_counter()
        lafter("predict", "--model", args.model, *options, *files)
        return time.perf_counter() - started

    few, times, theirs = files[:16], [], []
    for _ in range(3):
        times.append((command(files) - command(few)) / max(len(files) - len(few), 1))
        started = time.perf_counter()
        answers(run, inputs)
        theirs.append((time.perf_counter() - started) / len(inputs))
    print(f"       milliseconds a picture, best of three: lafter {1e3 * min(times):.2f} with decoding, onnxruntime {1e3 * min(theirs):.2f} without")


if __name__ == "__main__":
    main()
