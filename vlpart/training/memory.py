"""What a batch takes: estimated from two small ones, refused where the machine is too small, or chosen."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vlpart.data.loader import make_loader
from vlpart.data.source import LoadedSource
from vlpart.errors import TrainingError
from vlpart.runtime import World
from vlpart.training.assemble import Assembly, assemble
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper

#: Larger batches are tried in small before: the system kills a process that asks for more memory than there is.
LARGE_BATCH = 16

#: Images of the two small batches whose difference tells what an image takes.
SMALL_BATCHES = (2, 4)

#: Part of the free memory that an automatic batch may take: images differ in size and in what is on them.
SHARE = 0.7
#: Images of an automatic batch, at most; and batches that a pass over the data has, at least.
LARGEST_AUTO, FEWEST_BATCHES = 64, 8


def refuse_too_large(parts: Assembly, stepper: Stepper, world: World) -> None:
    """Estimate from two small batches what the largest one takes on a CPU (a GPU refuses by itself what is too much).

    Raises:
        TrainingError: more than the memory of this machine.
    """
    largest = _largest(parts)
    batch_size, total = largest.source.batch_size, total_memory()
    if batch_size <= LARGE_BATCH or total is None or not world.device.startswith("cpu"):
        return
    base, per_image = _measure(parts, stepper, world)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    needed = processes * (base + per_image * batch_size)
    if world.any(needed > total):
        raise TrainingError(
            f"batches of {batch_size} images would take about {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{total / 2**30:,.0f} GiB: lower --batch-size (--accumulate adds up several batches)"
        )


def automatic_batch(recipe: Recipe, world: World) -> tuple[Recipe, str]:
    """The recipe with a batch that fits into the free memory, and why it is that, in words.

    A GPU gets as many images as fit, a power of two: it computes them at once. A CPU gets the batch of the recipe, or
    fewer if it is too small for it: a larger batch takes it as much longer. Two small batches are computed for it.

    Raises:
        DataError, WeightsError, TextEncoderError, TrainingError: see `assemble`.
    """
    parts = assemble(recipe.changed(init="none") if not recipe.remembers else recipe, workers=0, world=world)
    stepper = Stepper(recipe, parts.detector, parts.compute, world)
    on_gpu = world.device.startswith("cuda")
    base, per_image = _measure(parts, stepper, world)
    if on_gpu:
        del stepper
        torch.cuda.empty_cache()
        free = float(torch.cuda.mem_get_info(torch.device(world.device))[0])
    else:
        free = available_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    fits = max(1, int((SHARE * free - base) / max(per_image, 1.0)))
    own = _largest(parts).source.batch_size
    sensible = max(own, min(LARGEST_AUTO, len(parts.sources[0]) // FEWEST_BATCHES))
    images_wanted = min(fits, sensible if on_gpu else own)
    images = min(world.all_gather(images_wanted))
    images = 1 << (images.bit_length() - 1) if on_gpu else images
    text = (
        f"batch: {images} images ({per_image / 2**20:,.0f} MiB each, {free / 2**30:.1f} GiB of memory free on "
        f"{world.device}{'' if on_gpu else '; larger ones only take longer there'})"
    )
    first = recipe.sources[0].batch_size
    return recipe.with_batch_size(max(1, round(images * first / own))), text


def _largest(parts: Assembly) -> LoadedSource:
    return max(parts.sources, key=lambda source: source.source.batch_size)


def _measure(parts: Assembly, stepper: Stepper, world: World) -> tuple[float, float]:
    """Bytes of a step without any image, and for each image of it; of the source with the largest batches."""
    largest = _largest(parts)
    on_gpu = world.device.startswith("cuda")
    peaks = []
    for images in SMALL_BATCHES:
        small = replace(largest, source=replace(largest.source, batch_size=images))
        loader = make_loader((small,), seed=parts.recipe.seed, workers=0, rank=world.rank, world_size=world.size)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(torch.device(world.device))
        stepper([next(iter(loader))])
        peaks.append(torch.cuda.max_memory_allocated(torch.device(world.device)) if on_gpu else peak_memory())
    per_image = (peaks[1] - peaks[0]) / (SMALL_BATCHES[1] - SMALL_BATCHES[0])
    return peaks[1] - per_image * SMALL_BATCHES[1], per_image


def total_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def available_memory() -> float:
    """Bytes that a process can still have without swapping; where the system does not tell, half of them all."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return (total_memory() or 8 * 2**30) / 2


def peak_memory() -> int:
    """Bytes of memory that this process had at most so far. Only where `total_memory` is known."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
