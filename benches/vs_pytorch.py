"""Side by side with PyTorch on this machine: every row of the benchmarks, alternating, on the same number of threads.

Install and run, in this repository:
    python3 -m venv target/bench-venv && target/bench-venv/bin/pip install torch torchvision transformers pillow numpy
    target/bench-venv/bin/python benches/vs_pytorch.py [--rounds 3] [--threads 2] [--photos FOLDER] [--json FILE] [ROW ...]
    target/bench-venv/bin/python benches/vs_pytorch.py --device cuda [ROW ...]          # on a GPU; building needs nvcc

Each round measures a row here, then in PyTorch, each in a process of its own: least wall time of its repetitions. The
table gives the least time of all rounds and the ratio's median, least and greatest over the rounds. PyTorch's allocator is
tuned as ours is: glibc keeps freed memory instead of returning it (the variables in ALLOCATOR). Pictures go through
torchvision on Pillow, texts through transformers, which pads each batch to its longest sentence.

On a GPU the clock stops when the device has finished, and memory is the peak of what tensors took on it, as the driver's pool
counts it here and as PyTorch's allocator counts it there.
"""

import argparse
import io
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "268435456"}
ROOT = Path(__file__).resolve().parent.parent

# row: (benchmark, what it is, repetitions here, repetitions in PyTorch)
ROWS = {
    "vision_forward_f32": ("towers", "vision tower, 64 images, f32", 5, 5),
    "tuning_step_f32": ("towers", "tuning step, 32 images, 50 prompts, f32", 3, 3),
    "tuning_step_bf16": ("towers", "tuning step, frozen linears in bf16 (PyTorch: autocast)", 3, 3),
    "text_epoch": ("text_epoch", "text-classifier epoch, 130,000 × 512 → 1,000, one step", 3, 3),
    "text_epoch_batches": ("text_epoch", "the same in steps of 10,000", 3, 3),
    "two_views": ("views", "decode 500 × 375, weak and strong view, one thread", 9, 9),
    "text_tower": ("text_tower", "text tower, 10,000 sentences of 9 to 45 tokens, batches of 64", 1, 1),
}


# the rows of a GPU; what is measured stands for `factor` times as much
CUDA_ROWS = {
    "vision_forward_f32": ("towers", "vision tower, 64 images, f32", 20, 20),
    "vision_forward_tf32": ("towers", "the same, TF32", 20, 20),
    "vision_forward_bf16": ("towers", "the same, frozen linears in bf16 (PyTorch: autocast)", 20, 20),
    "tuning_step_50_f32": ("towers", "tuning step, 50 images, 50 prompts, f32", 20, 20),
    "tuning_step_50_tf32": ("towers", "the same, TF32", 20, 20),
    "tuning_step_50_bf16": ("towers", "the same, frozen linears in bf16 (PyTorch: autocast)", 20, 20),
    "text_epochs_f32": ("text_epoch", "3,000 text epochs, 130,000 × 512 → 1,000, f32 (100 measured)", 3, 3),
    "text_epochs_tf32": ("text_epoch", "the same, TF32 (100 measured)", 3, 3),
}
FACTORS = {"text_epochs_f32": 30, "text_epochs_tf32": 30}


# --------------------------------------------------------------------------------------------------- the PyTorch side
def vision_tower():
    """ViT-B/32 as CLIP has it, with its frozen weights random, and what LaFTer tunes."""
    import torch
    import torch.nn.functional as F

    width, heads, layers = 768, 12, 12

    def random(*shape):
        return torch.randn(*shape) * 0.02

    class Norm:
        def __init__(self):
            self.weight, self.bias = torch.ones(width, requires_grad=True), torch.zeros(width, requires_grad=True)

        def __call__(self, x):
            return F.layer_norm(x, (width,), self.weight, self.bias, 1e-5)

    class Block:
        def __init__(self):
            self.norm1, self.norm2 = Norm(), Norm()
            shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
            self.linears = [(random(*shape), random(shape[0])) for shape in shapes]

        def __call__(self, x):
            qkv, out, up, down = self.linears
            batch, tokens, _ = x.shape
            heads_first = F.linear(self.norm1(x), *qkv).view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*heads_first.unbind(0)).transpose(1, 2).reshape(batch, tokens, width)
            x = x + F.linear(mixed, *out)
            hidden = F.linear(self.norm2(x), *up)
            return x + F.linear(hidden * torch.sigmoid(1.702 * hidden), *down)  # quick GELU

    class Tower:
        def __init__(self):
            self.patches, self.cls, self.position = random(width, 3, 32, 32), random(1, 1, width), random(1, 50, width)
            self.before, self.after, self.blocks = Norm(), Norm(), [Block() for _ in range(layers)]
            self.projection = random(width, 512)
            self.prompts, self.head = random(1, 50, width).requires_grad_(), random(100, 512).requires_grad_()

        def trainable(self):
            norms = [self.before, self.after] + [norm for block in self.blocks for norm in (block.norm1, block.norm2)]
            return [self.prompts, self.head] + [tensor for norm in norms for tensor in (norm.weight, norm.bias)]

        def __call__(self, pixels, prompts):
            batch = len(pixels)
            patches = F.conv2d(pixels, self.patches, stride=32).flatten(2).transpose(1, 2)
            x = self.before(torch.cat([self.cls.expand(batch, -1, -1), patches], 1) + self.position)
            if prompts:
                x = torch.cat([x[:, :1], self.prompts.expand(batch, -1, -1), x[:, 1:]], 1)
            for block in self.blocks:
                x = block(x)
            return self.after(x[:, 0]) @ self.projection

    return Tower()


def precision(bf16, like):
    """Autocast to bf16 on the device of a tensor, or nothing."""
    import contextlib

    import torch

    return torch.autocast(like.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def vision_forward(bf16=False):
    import torch

    tower, pixels = vision_tower(), torch.randn(64, 3, 224, 224)
    for tensor in tower.trainable():
        tensor.requires_grad_(False)

    def run():
        with torch.no_grad(), precision(bf16, pixels):
            tower(pixels, False)

    return run


def tuning_step(bf16, images=32):
    import torch
    import torch.nn.functional as F

    tower, weak, strong = vision_tower(), torch.randn(images, 3, 224, 224), torch.randn(images, 3, 224, 224)
    optimizer = torch.optim.AdamW(tower.trainable(), lr=5e-4)

    def run():
        with precision(bf16, weak):
            with torch.no_grad():
                labels = (F.normalize(tower(weak, False), dim=-1) @ tower.head.t()).argmax(1)
            logits = tower(strong, True) @ tower.head.t()
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def text_epoch(batch, epochs=1):
    import torch
    import torch.nn.functional as F

    texts = 130_000
    features = F.normalize(torch.randn(texts, 512), dim=-1)
    labels = torch.arange(texts) % 1000
    weight = ((torch.rand(1000, 512) * 2 - 1) / 512**0.5).requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=5e-4, weight_decay=0.01)

    def run():
        for start in list(range(0, texts, batch)) * epochs:
            x = features[start : start + batch]
            x = x + torch.randn_like(x) * 0.1
            loss = F.cross_entropy(F.linear(x, weight), labels[start : start + batch], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def two_views():
    import random

    import torch
    from PIL import Image, ImageFilter
    from torchvision import transforms as T

    torch.set_num_threads(1)
    jpegs = [path.read_bytes() for path in sorted(Path(os.environ["LAFTER_BENCH_PHOTOS"]).iterdir())]
    normalize = T.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    blur = T.Lambda(lambda picture: picture.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0))))
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    crop = T.RandomResizedCrop(224, scale=(0.2, 1.0))
    resize = T.Resize(224, interpolation=T.InterpolationMode.BICUBIC)
    weak = T.Compose([resize, T.CenterCrop(224), T.ToTensor(), normalize])
    strong = T.Compose([crop, jitter, T.RandomGrayscale(0.2), blur, T.RandomHorizontalFlip(), T.ToTensor(), normalize])

    def run():
        for jpeg in jpegs:
            picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
            weak(picture), strong(picture)

    return run


def text_tower():
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    # CLIP's ids: start 49406, end 49407, which also pads
    tower = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=512, bos_token_id=49406, eos_token_id=2)).eval()
    sentences = [[49406] + [320] * (7 + i * 7919 % 37) + [49407] for i in range(10_000)]

    def run(warm_up=False):
        some = sentences[:256] if warm_up else sentences
        with torch.inference_mode():
            for start in range(0, len(some), 64):
                batch = some[start : start + 64]
                longest = max(map(len, batch))
                ids = torch.tensor([ids + [49407] * (longest - len(ids)) for ids in batch])
                mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch])
                tower(input_ids=ids, attention_mask=mask)

    return run


def measure(row, repetitions, threads, device):
    import torch

    torch.set_num_threads(threads)
    cuda = device != "cpu"
    finish = torch.cuda.synchronize if cuda else lambda: None
    if cuda:
        torch.cuda.set_device(device)
        for products in (torch.backends.cuda.matmul, torch.backends.cudnn):
            products.allow_tf32 = row.endswith(("tf32", "bf16"))
    make = {
        "vision_forward_f32": vision_forward,
        "vision_forward_tf32": vision_forward,
        "vision_forward_bf16": lambda: vision_forward(True),
        "tuning_step_50_f32": lambda: tuning_step(False, 50),
        "tuning_step_50_tf32": lambda: tuning_step(False, 50),
        "tuning_step_50_bf16": lambda: tuning_step(True, 50),
        "text_epochs_f32": lambda: text_epoch(130_000, 100),
        "text_epochs_tf32": lambda: text_epoch(130_000, 100),
        "tuning_step_f32": lambda: tuning_step(False),
        "tuning_step_bf16": lambda: tuning_step(True),
        "text_epoch": lambda: text_epoch(130_000),
        "text_epoch_batches": lambda: text_epoch(10_000),
        "two_views": two_views,
        "text_tower": text_tower,
    }[row]
    with torch.device(device):  # tensors are made there; inside, each operation would cost some microseconds more
        work = make()
    usage = lambda: resource.getrusage(resource.RUSAGE_SELF)
    peak = lambda: usage().ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    before = peak()
    work(warm_up=True) if row == "text_tower" else work()
    finish()
    seconds, cpu = [], []
    for _ in range(repetitions):
        used, started = usage(), time.perf_counter()
        work()
        finish()
        seconds.append(time.perf_counter() - started)
        cpu.append(usage().ru_utime + usage().ru_stime - used.ru_utime - used.ru_stime)
    result = {"row": row, "seconds": min(seconds), "cpu_seconds": min(cpu), "peak_rss_bytes": peak(), "extra_rss_bytes": peak() - before}
    result["peak_device_bytes"] = torch.cuda.max_memory_allocated() if cuda else None
    print(json.dumps(result))


# --------------------------------------------------------------------------------------------------------- both sides
def run_line(command, environment):
    """The JSON line that a measurement prints."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return json.loads(lines[-1])


def photographs(folder):
    """Sixteen JPEGs of 500 × 375: the photographs of a folder, or smooth random fields where none is named."""
    import numpy
    from PIL import Image

    out = Path(tempfile.mkdtemp(prefix="lafter-photos-"))
    names = sorted(Path(folder).iterdir())[:16] if folder else range(16)
    for i, name in enumerate(names):
        if folder:
            picture = Image.open(name).convert("RGB").resize((500, 375), Image.Resampling.LANCZOS)
        else:  # amplitudes of 1/f, as photographs have
            rng = numpy.random.default_rng(name)
            frequency = numpy.hypot(numpy.fft.fftfreq(375)[:, None], numpy.fft.fftfreq(500)[None])
            frequency[0, 0] = 1
            spectrum = numpy.fft.fft2(rng.normal(size=(3, 375, 500))) / frequency
            field = numpy.fft.ifft2(spectrum).real
            field = 128 + 55 * (field - field.mean()) / field.std()
            picture = Image.fromarray(field.clip(0, 255).astype("uint8").transpose(1, 2, 0))
        picture.save(out / f"{i:02}.jpg", quality=95)
    return out


def gpu(device):
    """The name and toolkit of a GPU; ends the program with one line where there is none."""
    import torch

    if not torch.cuda.is_available():
        sys.exit(f"--device {device}: PyTorch {torch.__version__} finds no GPU: run where there is one, with a PyTorch built for CUDA")
    if (torch.device(device).index or 0) >= torch.cuda.device_count():
        sys.exit(f"--device {device}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    if not shutil.which("nvcc"):
        sys.exit(f"--device {device}: nvcc is not on the PATH: building with CUDA needs its toolkit")
    return f"{torch.cuda.get_device_name(device)}, PyTorch's CUDA {torch.version.cuda}"


def versions(threads):
    import PIL
    import torch
    import torchvision
    import transformers

    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    processor = platform.processor() or platform.machine()
    try:
        processor = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, transformers {transformers.__version__}, Pillow {PIL.__version__}"
    return f"{processor}, {threads} threads; rustc {rustc}, mimalloc; {packages}, glibc malloc with {' '.join(f'{k}={v}' for k, v in ALLOCATOR.items())}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = f"{', '.join(ROWS)}; with --device cuda: {', '.join(CUDA_ROWS)}"
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to measure [default: all]: {names}")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N [default: cpu]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photos", help="folder of photographs for the views")
    parser.add_argument("--json", help="where all measurements go")
    parser.add_argument("--cpu", action="store_true", help="compare processor time, which a busy machine hardly blurs")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--repetitions", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, options.repetitions, options.threads, options.device)
    device = options.device
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        parser.error(f"--device {device}: expected cpu, cuda or cuda:N")
    cuda = device != "cpu"
    if cuda and options.cpu:
        parser.error("--cpu compares processor time, which says nothing of a GPU")
    known = CUDA_ROWS if cuda else ROWS
    rows = options.rows or list(known)
    unknown = [row for row in rows if row not in known]
    if unknown:
        parser.error(f"no row {', '.join(unknown)} with --device {device}: there are {', '.join(known)}")

    card = f"{gpu(device)}; " if cuda else ""
    print(card + versions(options.threads), flush=True)
    features = ["--features", "cuda"] if cuda else []
    benches = sorted({known[row][0] for row in rows})
    build = ["cargo", "bench", "--no-run"] + features + [argument for bench in benches for argument in ("--bench", bench)]
    if subprocess.run(build, cwd=ROOT).returncode != 0:
        sys.exit("the benchmarks cannot be built: the reason stands above")
    environment = {"RAYON_NUM_THREADS": str(options.threads)}
    if "views" in benches:
        environment["LAFTER_BENCH_PHOTOS"] = str(photographs(options.photos))
    found = {row: [] for row in rows}
    for round in range(options.rounds):
        for row in rows:
            bench, _, ours, theirs = known[row]
            here = ["cargo", "bench", "--quiet"] + features + ["--bench", bench, "--", row, "--repetitions", str(ours)]
            there = [sys.executable, __file__, "--measure", row, "--repetitions", str(theirs), "--threads", str(options.threads)]
            here, there = ([*command, "--device", device] if cuda else command for command in (here, there))
            pair = run_line(here, environment), run_line(there, environment | ALLOCATOR)
            found[row].append(pair)
            print(f"round {round + 1}  {row:20} {pair[0]['seconds']:8.3f} s   PyTorch {pair[1]['seconds']:8.3f} s", file=sys.stderr, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))

    wanted = "cpu_seconds" if options.cpu else "seconds"
    print(f"\n| {'processor' if options.cpu else 'wall'} time | lafter | PyTorch | times as fast (least–greatest) | memory, lafter / PyTorch |")
    print("|---|---|---|---|---|")
    memory_key, extra_key = ("peak_device_bytes", None) if cuda else ("peak_rss_bytes", "extra_rss_bytes")
    for row, pairs in found.items():
        key = wanted if all(wanted in measured for pair in pairs for measured in pair) else "seconds"
        ratios = [theirs[key] / ours[key] for ours, theirs in pairs]
        least = [FACTORS.get(row, 1) * min(pair[side][key] for pair in pairs) for side in (0, 1)]
        memory = " / ".join(f"{max(pair[side][memory_key] or 0 for pair in pairs) / 1e9:.2f} GB" for side in (0, 1))
        if extra_key in pairs[0][0]:
            extra = " / ".join(f"{max(pair[side][extra_key] for pair in pairs) / 1e6:.0f}" for side in (0, 1))
            memory += f" (the work: {extra} MB)"
        spread = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {known[row][1]} | {least[0]:.3g} s | {least[1]:.3g} s | {spread} | {memory} |")


if __name__ == "__main__":
    main()
