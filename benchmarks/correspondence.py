"""Correspondences of two images and the search in a large reference bank: speed and memory.

    python benchmarks/correspondence.py [--tokens 4000] [--bank 1000000] [--threads 1]

Three ways to the nearest reference patch of every target patch (384 numbers each) run in one process and must agree:
ours (`correspondence.nearest`, tiles of one matrix product), a loop over target patches with `cosine_similarity` (how
such code is often written), and a loop with one matrix-vector product each (the best that a loop can be). A pair is two
images; times are CPU seconds (best of the repeats), because the machine may be busy. Added memory is how much the
resident size of a fresh process grows at most during the call (Linux only), against one full matrix of similarities.
The bank is random unit vectors; the search is exact.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vlpart.annotation_parser.correspondence import nearest, normalised

WIDTH = 384


def unit_vectors(count: int, seed: int) -> Tensor:
    return normalised(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)))


def ours(target: Tensor, reference: Tensor) -> Tensor:
    return nearest(target, reference).indices[:, 0]


def cosine_loop(target: Tensor, reference: Tensor) -> Tensor:
    found = torch.empty(len(target), dtype=torch.int64)
    for i, token in enumerate(target):
        found[i] = F.cosine_similarity(token[None], reference).argmax()
    return found


def vector_loop(target: Tensor, reference: Tensor) -> Tensor:
    found = torch.empty(len(target), dtype=torch.int64)
    for i, token in enumerate(target):
        found[i] = (reference @ token).argmax()
    return found


def best_of(repeats: int, action: Callable[[], object]) -> float:
    """CPU seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def resident(field: str) -> float:
    """MB of VmRSS (now) or VmHWM (highest since it was reset) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def added_memory(count: int, way: str) -> float:
    """MB that one call adds to the resident size at most."""
    torch.set_num_threads(1)
    target, reference = unit_vectors(count, 0), unit_vectors(count, 1)
    WAYS[way](target[:2], reference[:2])
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    WAYS[way](target, reference)
    return resident("VmHWM") - before


WAYS = {
    "blocked matrix products": ours,
    "loop, cosine_similarity": cosine_loop,
    "loop, matrix-vector": vector_loop,
}


def compare_images(tokens: int) -> None:
    target, reference = unit_vectors(tokens, 0), unit_vectors(tokens, 1)
    print(f"{tokens} x {tokens} tokens of {WIDTH}, {torch.get_num_threads()} thread(s); ", end="")
    print(f"a full matrix of similarities would take {tokens**2 * 4 / 1e6:.0f} MB")
    print(f"{'':<24} {'ms a pair':>10} {'pairs/s':>9} {'x ours':>7} {'added MB':>9}")
    expected, base = ours(target, reference), 0.0
    for name, way in WAYS.items():
        seconds = best_of(5 if way is ours else 1, partial(way, target, reference))
        base = base or seconds
        assert (way(target[:300], reference) == expected[:300]).float().mean() > 0.99  # ties may go either way
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            added = pool.apply(added_memory, (tokens, name)) if Path("/proc/self/clear_refs").exists() else math.nan
        print(f"{name:<24} {seconds * 1000:>10.1f} {1 / seconds:>9.2f} {seconds / base:>7.1f} {added:>9.1f}")


def ratio(tokens: int) -> float:
    """How many times as long the loop over tokens takes."""
    target, reference = unit_vectors(tokens, 0), unit_vectors(tokens, 1)
    assert (cosine_loop(target[:300], reference) == ours(target, reference)[:300]).float().mean() > 0.99
    return best_of(1, partial(cosine_loop, target, reference)) / best_of(5, partial(ours, target, reference))


def search_bank(size: int) -> None:
    bank = torch.empty(size, WIDTH)
    for start in range(0, size, 100_000):
        bank[start : start + 100_000] = unit_vectors(min(100_000, size - start), 7 + start)
    print(f"\nbank of {size:,} vectors ({bank.nbytes / 1e6:.0f} MB), exact search")
    print(f"{'queries at a time':>18} {'ms':>9} {'ms a query':>11}")
    for queries in (1, 16, 256):
        tokens = normalised(bank[:queries] + 0.01 * unit_vectors(queries, 3))
        assert nearest(tokens, bank).indices[:, 0].tolist() == list(range(queries))
        seconds = best_of(3, partial(nearest, tokens, bank))
        print(f"{queries:>18} {seconds * 1000:>9.1f} {seconds * 1000 / queries:>11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--bank", type=int, default=1_000_000, help="vectors in the bank; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compare_images(options.tokens)
    if options.bank:
        search_bank(options.bank)


if __name__ == "__main__":
    main()
