"""The dry run: everything a run would do, a few real steps timed, nothing written."""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass, replace

from vlpart.data.loader import make_loader
from vlpart.errors import TrainingError
from vlpart.runtime import World
from vlpart.training.assemble import Assembly, assemble, check_evaluation
from vlpart.training.initial_weights import local_file
from vlpart.training.optimizer import trainable
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper

#: Larger batches are tried in small before: the system kills a process that asks for more memory than there is.
LARGE_BATCH = 16

#: Images of the two small batches whose difference tells what an image takes.
SMALL_BATCHES = (2, 4)


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """What a source contributes; `report` says what was left out, and why."""

    name: str
    kind: str
    images: int
    annotations: int
    classes: int
    ratio: float
    batch_size: int
    report: str


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would do.

    Attributes:
        sources: in the order of the recipe.
        init: where the first weights come from, in words.
        parameters, trained: numbers of parameters.
        checkpoint_bytes: size of one checkpoint; three are kept.
        seconds_per_step: median over the measured steps.
        images_per_step: mean over the measured steps, all processes together.
        hours: estimate for all iterations.
        teacher: how many names it holds, in words; None without one.
    """

    sources: tuple[SourceRow, ...]
    init: str
    parameters: int
    trained: int
    checkpoint_bytes: int
    seconds_per_step: float
    images_per_step: float
    hours: float
    teacher: str | None = None


def dry_run(recipe: Recipe, *, steps: int = 6, workers: int = 1, world: World | None = None) -> DryRun:
    """Assemble a run and time a few real steps (the first, which warms up, is not counted); nothing is written.

    Initial weights that are not on this machine are not downloaded: random ones take the same time.

    Raises:
        TrainingError: a loss is not finite, a teacher has nothing to hold, or batches are too large for the memory.
        DataError: data, or an evaluation set, that the run would refuse.
    """
    world = world or World()
    check_evaluation(recipe, world)
    here = recipe.init == "none" or local_file(recipe.init, recipe.architecture) is not None
    parts = assemble(recipe if here else recipe.changed(init="none"), workers=workers, world=world)
    stepper = Stepper(recipe, parts.detector, parts.compute, world)
    _refuse_too_large(parts, stepper, world)
    batches = iter(parts.loader)
    seconds: list[float] = []
    images: list[int] = []
    for _ in range(max(steps, 2)):
        began = time.perf_counter()
        result = stepper([next(batches) for _ in range(recipe.accumulate)])
        if not (result.finite or result.overflow):
            raise TrainingError(f"the loss is not finite in the dry run: {result.losses}")
        images.append(sum(world.all_gather(result.images)))
        seconds.append(time.perf_counter() - began)
    each = statistics.median(seconds[1:])
    parameters = sum(p.numel() for p in parts.detector.parameters())
    trained = sum(p.numel() for p in trainable(parts.detector).values())
    kept = parameters + trained * (2 + (recipe.ema_decay is not None))  # two moments of AdamW, the moving average
    return DryRun(
        sources=tuple(
            SourceRow(
                name=s.name,
                kind=s.source.kind.value,
                images=len(s),
                annotations=s.report.annotations,
                classes=len(s.vocabulary),
                ratio=s.source.ratio,
                batch_size=s.source.batch_size,
                report=str(s.report),
            )
            for s in parts.sources
        ),
        init=recipe.init if here else f"{recipe.init} (to be downloaded)",
        parameters=parameters,
        trained=trained,
        checkpoint_bytes=4 * kept,
        seconds_per_step=each,
        images_per_step=statistics.mean(images[1:]),
        hours=each * recipe.iterations / 3600,
        teacher=None if parts.teacher is None else str(parts.teacher),
    )


def _refuse_too_large(parts: Assembly, stepper: Stepper, world: World) -> None:
    """Estimate from two small batches what the largest one takes on a CPU (a GPU refuses by itself what is too much).

    Raises:
        TrainingError: more than the memory of this machine.
    """
    largest = max(parts.sources, key=lambda source: source.source.batch_size)
    batch_size, total = largest.source.batch_size, _memory()
    if batch_size <= LARGE_BATCH or total is None or not world.device.startswith("cpu"):
        return
    peaks = []
    for images in SMALL_BATCHES:
        small = replace(largest, source=replace(largest.source, batch_size=images))
        loader = make_loader((small,), seed=parts.recipe.seed, workers=0, rank=world.rank, world_size=world.size)
        stepper([next(iter(loader))])
        peaks.append(_peak_memory())
    per_image = (peaks[1] - peaks[0]) / (SMALL_BATCHES[1] - SMALL_BATCHES[0])
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    needed = processes * (peaks[1] + per_image * (batch_size - SMALL_BATCHES[1]))
    if world.any(needed > total):
        raise TrainingError(
            f"batches of {batch_size} images would take about {needed / 2**30:,.0f} GiB of memory, this machine has "
            f"{total / 2**30:,.0f} GiB: lower --batch-size (--accumulate adds up several batches)"
        )


def _memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _peak_memory() -> int:
    """Bytes of memory that this process had at most so far. Only where `_memory` is known."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
