"""Bytes that a tuning step of ViT-B/32 (batch 50, 50 visual prompts) moves in a GPU's memory, from what was asked of its driver.

    python3 benches/cuda_traffic.py ONE TWO

ONE and TWO are files of tests/cuda_count.c: the row `tuning_step_50_f32` or `tuning_step_50_bf16` of the bench `towers` with one and
with two repetitions; their difference is a step. Each product has its matrices once, and its result twice if it is added to. Each
kernel has each value that it reads or writes once: what a block of threads reads again comes from a cache.
"""

import re
import sys

WIDTH, WEAK, STRONG = 768, 50, 100  # tokens of a weak view, and of a strong one with its prompts
LEAST = {"f32": 22.0, "bf16": 11.0}  # GB: norms, projections, attention, hidden layers, residuals of fused blocks
STRIP = 16  # rows of a block of `begin_backward`


def bytes_per_thread(name, kind):
    e = 2 if "bf16" in kind else 4
    row = WIDTH / 32  # values of a row for each thread of its warp
    scores = (WEAK * WEAK + STRONG * STRONG) / (WEAK + STRONG) / 32  # a row's scores, weak and strong together
    known = {
        "begin": row * (4 + e + 4), "split": 2 * e, "from_heads": 2 * e, "join": 2 * e, "hidden": 2 * e, "hidden_backward": 3 * e,
        "probabilities": scores * 2 * e, "probabilities_backward": STRONG / 32 * 3 * e, "round": 6, "patches": 8, "layer_norm": row * 8,
        "begin_backward": (STRIP * (3 * 4 + e) + 2 * 4) * WIDTH / 256, "layer_norm_backward": row * 12, "layer_norm_sums": 64 * 8,
        "strip_sums": 5000 / STRIP / 2, "copy2d": 2 * e, "const_set": e, "cast_f32": 6, "cast_bf16": 6, "adamw": 28,
    }  # fmt: skip
    base = re.sub(r"_(f32|bf16)$", "", name)
    return known.get(base, 3 * e)  # Candle's: two inputs and a result at most


def read(path):
    lines = open(path).read().splitlines()
    products, moved = (float(re.search(what + r" \(([\d.]+) MB", lines[0])[1]) for what in (r"products \d+", "moved"))
    kernels = {name: float(threads) * 1e6 for name, _, threads in (line.split() for line in lines[1:])}
    return products, moved, kernels


def main(one, two):
    (products, moved, before), (products2, moved2, kernels) = read(one), read(two)
    step = {name: (threads - before.get(name, 0)) for name, threads in kernels.items()}
    gb = {name: threads * bytes_per_thread(name, name) / 1e9 for name, threads in step.items() if threads > 0}
    gb |= {"products": (products2 - products) / 1e3, "cleared, copied": (moved2 - moved) / 1e3}
    for name, size in sorted(gb.items(), key=lambda item: -item[1]):
        print(f"{name:32} {size:7.3f} GB")
    least = LEAST["bf16" if "begin_bf16" in step else "f32"]
    total = sum(gb.values())
    print(f"{'together':32} {total:7.3f} GB, {total / least:.2f} times the least, {least} GB")


main(*sys.argv[1:])
