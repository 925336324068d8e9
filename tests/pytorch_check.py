"""Runs the loading code of src/export/pytorch.md over transformers, and loads merged CLIPs with transformers and open_clip.

    pip install torch transformers open_clip_torch safetensors pillow
    cargo build && python tests/pytorch_check.py target/debug/lafter

The first block of Python in the page is executed as it stands. The command line's probabilities are compared with it on rendered
pictures (the differences of their logarithms are those of the logits, up to a constant a picture), its logits with those of
tests/fixtures/pytorch.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as CLIPImageProcessor  # version 5
except ImportError:
    pass

HERE = Path(__file__).parent
LIMIT = 1e-4
LAFTER = sys.argv[1]
QUICK = HERE / "fixtures" / "parity" / "quick"
failed = []


def lafter(*options):
    done = subprocess.run([LAFTER, *map(str, options)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"lafter {' '.join(map(str, options))}: {done.stderr}")
    return done.stdout


def check(what, off, limit=LIMIT):
    print(f"{'ok' if off < limit else 'FAILED':6} {what}: within {off:.1e}")
    if not off < limit:
        failed.append(what)


def page():
    """The class of the page, and how long its code is."""
    block = (HERE.parent / "src" / "export" / "pytorch.md").read_text().split("```python\n")[1].split("```")[0]
    lines = len(block.strip().splitlines())
    if lines > 40:
        failed.append(f"the page's code has {lines} lines")
    scope = {}
    exec(block, scope)
    return scope["LaFTer"], lines


def ours(model, weights, files, classes, out):
    table = out / "rows.jsonl"
    table.unlink(missing_ok=True)
    lafter("predict", "--model", model, "--weights", weights, "--top", len(classes), "--out", table, *files)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    return torch.tensor([[dict(row["top"])[name] for name in classes] for row in rows], dtype=torch.float64)


def off(logits, probabilities):
    log = logits.double().log_softmax(-1)
    return (log - probabilities.log())[probabilities > 1e-12].abs().max().item()


@torch.no_grad()
def main():
    LaFTer, lines = page()
    print(f"       the page's code: {lines} lines")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        # a state of the released code, imported
        names = out / "names.txt"
        names.write_text("fish\nhouse\nboat\ntree\ncup\n")
        lafter("import", "--model", QUICK, "--state", HERE / "fixtures" / "pytorch" / "released.pth", "--classes", names, "--out", out / "imported.safetensors")
        expected = load_file(HERE / "fixtures" / "pytorch" / "expected.safetensors")
        model = LaFTer(CLIPModel.from_pretrained(QUICK), out / "imported.safetensors")
        check("an imported state: logits", (model(expected["pixels"]) - expected["logits"]).abs().max().item())

        # the demo CLIP as a folder, so that transformers can load it: merged without tuning worth the name
        lafter("scenes", "--out", out / "scenes", "--count", 24)
        files = sorted(p for p in (out / "scenes").rglob("*.*") if p.suffix in (".png", ".jpg"))
        pictures = []
        for i, file in enumerate(files):
            picture = Image.open(file).convert("RGB")
            files[i] = out / f"{i:02}.png"
            picture.save(files[i])
            pictures.append(picture)
        short = ["--set", "tune.epochs=1", "--set", "text.epochs=50"]
        lafter("demo", "--out", out / "norms", *short, "--set", "tune.prompts=0")
        base = out / "clip"
        lafter("export", "--model", "demo", "--weights", out / "norms" / "lafter.safetensors", "--merge", base)
        processor = CLIPImageProcessor.from_pretrained(base)
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        merged(base, pixels, out)

        forms = {
            "shallow prompts": [],
            "deep prompts, an MLP": ["--set", "tune.deep_prompts=true", "--set", "text.hidden=16"],
            "no prompts, unit features": ["--set", "tune.prompts=0", "--set", "tune.normalize_student=true"],
            "a cosine head": ["--set", 'tune.head_form={"cosine": {"scale": 100}}'],
            "biases and low-rank updates": ["--set", "tune.tune_biases=true", "--set", "tune.low_rank={}"],
        }
        for name, options in forms.items():
            run = out / name.replace(" ", "-")
            data = ["--train", out / "scenes", "--classes", names_of(base, out)]
            lafter("run", "--model", base, *data, "--out", run, "--select", "last", "--batch-size", 8, *short, *options)
            weights = run / "lafter.safetensors"
            model = LaFTer(CLIPModel.from_pretrained(base), weights)
            probabilities = ours(base, weights, files, model.classes, out)
            limit = 1e-3 if "cosine" in name else LIMIT  # logits up to 100
            check(f"{name}: logits of {len(files)} pictures", off(model(pixels), probabilities), limit)
        refuses_unknown(LaFTer, base, weights, out)
    raise SystemExit(f"{len(failed)} comparisons failed: {', '.join(failed)}" if failed else 0)


def refuses_unknown(LaFTer, base, weights, out):
    """A tensor that the page does not know changes answers, so it must not be passed over."""
    with safe_open(weights, framework="pt") as file:
        save_file({"more.weight": torch.ones(1), **load_file(weights)}, out / "more.safetensors", file.metadata())
    try:
        LaFTer(CLIPModel.from_pretrained(base), out / "more.safetensors")
        failed.append("a tensor that is not known is passed over")
    except AssertionError as error:
        check("a tensor that is not known is refused", 0.0 if "more.weight" in str(error) else 1.0)


def names_of(base, out):
    with safe_open(base / "lafter.safetensors", framework="pt") as file:
        classes = json.loads(file.metadata()["lafter"])["classes"]
    names = out / "classes.txt"
    names.write_text("\n".join(classes))
    return names


def merged(base, pixels, out):
    """A merged CLIP in transformers and in open_clip, against this crate's features."""
    import open_clip

    images = out / "images.safetensors"
    lafter("embed", "--model", base, "--images", out / "scenes", "--out", images)
    ours = load_file(images)["features"]
    clip = CLIPModel.from_pretrained(base).eval()
    theirs = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    check("merged, transformers: image features", (theirs - ours).abs().max().item())
    other = open_clip.create_model(f"local-dir:{base}").eval()
    check("merged, open_clip: image features", (other.encode_image(pixels) - ours).abs().max().item())
    lines = out / "lines.txt"
    lines.write_text("a photo of a house\na fish\n")
    lafter("embed", "--model", base, "--texts", lines, "--out", out / "texts.safetensors")
    ours = load_file(out / "texts.safetensors")["features"]
    tokens = CLIPTokenizerFast.from_pretrained(base)(lines.read_text().splitlines(), padding=True, return_tensors="pt")
    theirs = clip.text_projection(clip.text_model(**tokens).pooler_output)
    check("merged, transformers: text features", (theirs - ours).abs().max().item())
    ids = torch.nn.functional.pad(tokens["input_ids"], (0, other.context_length - tokens["input_ids"].shape[1]))
    check("merged, open_clip: text features", (other.encode_text(ids) - ours).abs().max().item())


if __name__ == "__main__":
    main()
