"""The dry run: everything a run would do, a few real steps timed, nothing written."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from vlpart.errors import TrainingError
from vlpart.training.assemble import assemble, check_evaluation
from vlpart.training.distributed import World
from vlpart.training.initial_weights import local_file
from vlpart.training.optimizer import trainable
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """What a source contributes."""

    name: str
    kind: str
    images: int
    annotations: int
    classes: int
    ratio: float
    batch_size: int


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
        TrainingError: a loss is not finite, or a teacher has nothing to hold.
        DataError: data, or an evaluation set, that the run would refuse.
    """
    world = world or World()
    check_evaluation(recipe, world)
    here = recipe.init == "none" or local_file(recipe.init, recipe.architecture) is not None
    parts = assemble(recipe if here else recipe.changed(init="none"), workers=workers, world=world)
    stepper = Stepper(recipe, parts.detector, parts.compute, world)
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
