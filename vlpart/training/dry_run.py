"""The dry run: everything a run would do, a few real steps timed, nothing written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from vlpart.data.indexing import load_source
from vlpart.data.source import LoadedSource
from vlpart.errors import TrainingError
from vlpart.models.build import build_detector
from vlpart.runtime import World
from vlpart.text.clip import ClipTextEncoder
from vlpart.training.assemble import assemble, check_evaluation, check_files, freeze
from vlpart.training.initial_weights import local_file
from vlpart.training.logging import resident_mib
from vlpart.training.memory import refuse_too_large
from vlpart.training.plan import checkpoint_bytes, parameter_counts, plan_of
from vlpart.training.recipe import Recipe
from vlpart.training.step import Stepper
from vlpart.zoo.catalogue import list_models


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
        memory_mib: of this process after the steps.
        plan: the lines of `vlpart.training.plan.plan_of`.
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
    memory_mib: float = 0.0
    plan: tuple[str, ...] = ()


def needs(recipe: Recipe, world: World) -> list[str]:
    """What a run would need besides its data and is not here, one line each.

    Raises:
        ModelNotFoundError, WeightsError: `Recipe.init` is nothing that there is.
    """
    rows = []
    if not computable(recipe, world):
        times = [entry.training_time for entry in list_models() if entry.recipe == recipe.name]
        published = f" (published: {times[0]})" if times else ""
        rows.append(
            f"a GPU for {recipe.precision}{published}; with --precision float32 or bf16 it is computed here, slowly"
        )
    if recipe.init != "none" and local_file(recipe.init, recipe.architecture) is None:
        rows.append(f"the first weights, {recipe.init}, which are downloaded when the run starts")
    if recipe.text_encoder == ClipTextEncoder.name and (lacking := ClipTextEncoder().lacking()):
        rows.append(lacking)
    return rows


def computable(recipe: Recipe, world: World) -> bool:
    """Whether the precision of a recipe can be computed on the device of this process."""
    return not (recipe.precision == "fp16" and world.device.startswith("cpu"))


def dry_run(
    recipe: Recipe, *, steps: int = 6, workers: int = 1, world: World | None = None, output: Path = Path("runs")
) -> DryRun:
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
        plan = plan_of(recipe, sources, detector, output, world, _init(recipe, here))
        return replace(_summary(recipe, sources, detector, here), plan=plan)
    parts = assemble(recipe if here else recipe.changed(init="none"), workers=workers, world=world)
    stepper = Stepper(recipe, parts.detector, parts.compute, world)
    refuse_too_large(parts, stepper, world)
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
    teacher = None if parts.teacher is None else str(parts.teacher)
    return replace(
        _summary(recipe, parts.sources, parts.detector, here),
        seconds_per_step=each,
        images_per_step=statistics.mean(images[1:]),
        hours=each * recipe.iterations / 3600,
        teacher=teacher,
        memory_mib=resident_mib(),
        plan=plan_of(recipe, parts.sources, parts.detector, output, world, _init(recipe, here), teacher),
    )


def _init(recipe: Recipe, here: bool) -> str:
    return recipe.init if here else f"{recipe.init} (to be downloaded)"


def _summary(recipe: Recipe, sources: Sequence[LoadedSource], detector: nn.Module, here: bool) -> DryRun:
    """What is known before any step; `here` = the first weights need no download."""
    parameters, trained = parameter_counts(detector)
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
        init=_init(recipe, here),
        parameters=parameters,
        trained=trained,
        checkpoint_bytes=checkpoint_bytes(recipe, detector),
        seconds_per_step=None,
        images_per_step=None,
        hours=None,
    )
