"""The dry run: everything a run would do, a few real steps timed, nothing written."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from vlpart.data.indexing import load_source
from vlpart.data.loader import make_loader
from vlpart.data.source import LoadedSource
from vlpart.errors import TrainingError
from vlpart.models.build import build_detector
from vlpart.runtime import World
from vlpart.text.clip import ClipTextEncoder
from vlpart.training.assemble import Assembly, assemble, check_evaluation, check_files, freeze
from vlpart.training.initial_weights import local_file
from vlpart.training.optimizer import trainable
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper
from vlpart.zoo.catalogue import list_models

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
        seconds_per_step: median over the measured steps; None where the recipe cannot be computed on this device.
        images_per_step: mean over the measured steps, all processes together; None as before.
        hours: estimate for all iterations; None as before.
        teacher: how many names it holds, in words; None without one.
    """

    sources: tuple[SourceRow, ...]
    init: str
    parameters: int
    trained: int
    checkpoint_bytes: int
    seconds_per_step: float | None
    images_per_step: float | None
    hours: float | None
    teacher: str | None = None


def needs(recipe: Recipe, world: World) -> list[str]:
    """What a run would need besides its data and is not here, one line each.

    Raises:
        ModelNotFoundError, WeightsError: `Recipe.init` is nothing that there is.
    """
    found = []
    if not computable(recipe, world):
        times = [entry.training_time for entry in list_models() if entry.recipe == recipe.name]
        published = f" (published: {times[0]})" if times else ""
        found.append(
            f"a GPU for {recipe.precision}{published}; with --precision float32 or bf16 it is computed here, slowly"
        )
    if recipe.init != "none" and local_file(recipe.init, recipe.architecture) is None:
        found.append(f"the first weights, {recipe.init}, which are downloaded when the run starts")
    if recipe.text_encoder == ClipTextEncoder.name and (lacking := ClipTextEncoder().lacking()):
        found.append(lacking)
    return found


def computable(recipe: Recipe, world: World) -> bool:
    """Whether the precision of a recipe can be computed on the device of this process."""
    return not (recipe.precision == "fp16" and world.device.startswith("cpu"))


def dry_run(recipe: Recipe, *, steps: int = 6, workers: int = 1, world: World | None = None) -> DryRun:
    """Assemble a run and time a few real steps (the first, which warms up, is not counted); nothing is written.

    Initial weights that are not on this machine are not downloaded: random ones take the same time. A recipe that needs
    a GPU where there is none has its data checked, and is not timed.

    Raises:
        TrainingError: a loss is not finite, a teacher has nothing to hold, or batches are too large for the memory.
        DataError: data, or an evaluation set, that the run would refuse.
    """
    world = world or World()
    check_evaluation(recipe, world)
    here = recipe.init == "none" or local_file(recipe.init, recipe.architecture) is not None
    if not computable(recipe, world):
        check_files(recipe.sources)
        sources = tuple(load_source(source) for source in recipe.sources)
        detector = build_detector(recipe.architecture, mask_on=recipe.mask_on)
        freeze(detector, recipe.frozen)
        return _summary(recipe, sources, detector, here)
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
    return replace(
        _summary(recipe, parts.sources, parts.detector, here),
        seconds_per_step=each,
        images_per_step=statistics.mean(images[1:]),
        hours=each * recipe.iterations / 3600,
        teacher=None if parts.teacher is None else str(parts.teacher),
    )


def _summary(recipe: Recipe, sources: Sequence[LoadedSource], detector: nn.Module, here: bool) -> DryRun:
    """What is known before any step; `here` = the first weights need no download."""
    parameters = sum(p.numel() for p in detector.parameters())
    trained = sum(p.numel() for p in trainable(detector).values())
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
            for s in sources
        ),
        init=recipe.init if here else f"{recipe.init} (to be downloaded)",
        parameters=parameters,
        trained=trained,
        checkpoint_bytes=4 * kept,
        seconds_per_step=None,
        images_per_step=None,
        hours=None,
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
