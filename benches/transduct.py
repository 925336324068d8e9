"""The authors' formulas of StatA and TransCLIP in PyTorch, written anew: n x C x d in pieces, all n x n cosines at once.

    target/bench-venv/bin/python benches/transduct.py [--pictures 5000] [--classes 1000] [--width 512] [--threads 2] [stata transclip]

Prints one line of JSON a method, for `cargo bench --bench transduct -- stata_small transclip_small`: the least time of the repetitions, and
the least processor time of all threads, which other programs hardly blur.
"""

import argparse
import json
import resource
import time

import torch

UPDATES, ROUNDS, NEIGHBORS, PIECE = 10, 5, 3, 250


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def graph(x):
    cosines = x @ x.T
    nearest = cosines.topk(NEIGHBORS + 1, dim=1).indices[:, 1:]
    rows = torch.arange(len(x)).repeat_interleave(NEIGHBORS)
    columns = nearest.flatten()
    a = torch.sparse_coo_tensor(torch.stack([rows, columns]), cosines[rows, columns], (len(x), len(x)))
    return (a + a.T).coalesce()


def squares(x, mu, sigma):
    """sum_j (x - mu)^2 / sigma: [n, C] from [n, 1, d], [1, C, d]"""
    pieces = [((x[i : i + PIECE, None] - mu) ** 2 / sigma).sum(2) for i in range(0, len(x), PIECE)]
    return torch.cat(pieces)


def spreads(x, mu, z):
    """sum_i z (x - mu)^2: [C, d]"""
    return sum((z[i : i + PIECE, :, None] * (x[i : i + PIECE, None] - mu) ** 2).sum(0) for i in range(0, len(x), PIECE))


def assign(y, likelihood, affinity, z):
    for _ in range(ROUNDS):
        z = torch.softmax(y.log() + likelihood / 50 + torch.sparse.mm(affinity, z) / (2 * NEIGHBORS), 1)
    return z


def stata(x, w):
    y = torch.softmax(100 * x @ w.T, 1)
    z, affinity, mu = y, graph(x), w
    start = spreads(x, w, y).sum(0) / len(x)
    sigma = start.expand(len(w), -1)
    for update in range(UPDATES + 1):
        z = assign(y, -0.5 * squares(x, mu, sigma) - 0.5 * sigma.log().sum(1), affinity, z)
        if update < UPDATES:
            named = torch.bincount(z.argmax(1), minlength=len(w)).float()
            beta = (named / (1 + named))[:, None]
            mu = unit(beta * unit(z.T @ x / z.sum(0)[:, None]) + (1 - beta) * w)
            sigma = beta * spreads(x, mu, z) / z.sum(0)[:, None] + (1 - beta) * (start + (w - mu) ** 2)
    return z


def transclip(x, w):
    y = torch.softmax(100 * x @ w.T, 1)
    z, affinity = y, graph(x)
    best = y.topk(8, dim=0).indices  # [8, C]
    mu = unit((y.gather(0, best)[:, :, None] * x[best]).sum(0))
    sigma = torch.full((1, x.shape[1]), 1 / x.shape[1])
    for update in range(UPDATES + 1):
        z = assign(y, -0.5 * squares(x, mu, sigma), affinity, z)
        if update < UPDATES:
            mu = unit(z.T @ x / z.sum(0)[:, None])
            sigma = spreads(x, mu, z).sum(0, keepdim=True) / len(x)
    return z


def main():
    parser = argparse.ArgumentParser()
    for name, default in [("pictures", 5000), ("classes", 1000), ("width", 512), ("threads", 2), ("repetitions", 1)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("methods", nargs="*", default=["stata", "transclip"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    x, w = unit(torch.randn(args.pictures, args.width)), unit(torch.randn(args.classes, args.width))
    for name in args.methods:
        times, cpu = [], []
        with torch.no_grad():
            for _ in range(args.repetitions):
                started, used = time.perf_counter(), time.process_time()
                {"stata": stata, "transclip": transclip}[name](x, w)
                times.append(time.perf_counter() - started)
                cpu.append(time.process_time() - used)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        line = {"row": name, "seconds": min(times), "cpu_seconds": min(cpu), "items": args.pictures, "threads": args.threads}
        print(json.dumps({**line, "peak_rss_bytes": peak, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
