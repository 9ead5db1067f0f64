"""What a run is going to do, in lines for people: the dry run prints them, a run says and logs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from vlpart.checks import typed
from vlpart.data.indexing import load_source
from vlpart.data.source import LoadedSource
from vlpart.errors import TrainingError
from vlpart.runtime import World, training_precision
from vlpart.training.assemble import Assembly
from vlpart.training.callbacks import BatchImages, Callback, CurvesImage, PlanLines
from vlpart.training.optimizer import trainable
from vlpart.training.recipe import Recipe, images_per_step


@typed()
def standard_callbacks(recipe: Recipe, parts: Assembly, output: Path, world: World | None = None) -> list[Callback]:
    """What `vlpart train` has: the plan, pictures of the first batches, curves at the end."""
    teacher = None if parts.teacher is None else str(parts.teacher)
    return [
        PlanLines(plan_of(recipe, parts.sources, parts.detector, output, world or World(), teacher=teacher)),
        BatchImages({source.name: source.vocabulary for source in parts.sources}),
        CurvesImage(),
    ]


def steps_of_epochs(recipe: Recipe, epochs: float, world_size: int = 1) -> int:
    """Steps that go through the images of the only source so many times; its annotation file is read for it.

    Raises:
        TrainingError: several sources, which have no common pass, or no passes.
        DataError: the source cannot be read.
    """
    if len(recipe.sources) > 1:
        raise TrainingError(
            f"--epochs is for a single source, this recipe has {len(recipe.sources)}: give --iterations"
        )
    if not epochs > 0:
        raise TrainingError(f"--epochs must be above 0, got {epochs:g}")
    images = len(load_source(recipe.sources[0]))
    return max(1, round(epochs * images / images_per_step(recipe, world_size)))


def plan_of(
    recipe: Recipe,
    sources: Sequence[LoadedSource],
    detector: nn.Module,
    output: Path,
    world: World,
    init: str | None = None,
    teacher: str | None = None,
) -> tuple[str, ...]:
    """The plan.

    Args:
        recipe: as it runs.
        sources: its data, loaded.
        detector: its model, with what does not train frozen.
        output: run folder.
        world: the training processes.
        init: where the first weights come from, in words; None = `recipe.init`.
        teacher: how many names it holds, in words.
    """
    rates = f"{recipe.schedule}, learning rate {recipe.learning_rate:g}"
    if recipe.steps:
        rates += f", a tenth of it from steps {', '.join(map(str, recipe.steps))} on"
    precision, why = training_precision(recipe.precision, world.device)
    parameters, trained = parameter_counts(detector)
    size, folder = f"{checkpoint_bytes(recipe, detector) / 2**20:,.0f} MiB", output / "checkpoints"
    each = images_per_step(recipe, world.size)
    batches = f"{recipe.accumulate} batch{'es' if recipe.accumulate > 1 else ''} a step each"
    trains = f"{trained / 1e6:.2f} M of {parameters / 1e6:.2f} M parameters train"
    steps = f"{recipe.iterations:,} of {each} images{_passes(recipe, sources, each)}"
    lines = [
        f"model: {recipe.architecture}, {trains}, seed {recipe.seed}",
        f"first weights: {init or recipe.init}",
        f"precision: {precision} ({why})",
        f"processes: {world.size}, this one on {world.device}, {batches}",
        f"steps: {steps}, warm-up {recipe.warmup_iterations}, {rates}",
        f"checkpoints: every {recipe.checkpoint_every} steps, {size} each, two and the best kept in {folder}",
        f"evaluation: {_evaluation(recipe)}",
        f"other names: {_remembering(recipe)}",
    ]
    return (*lines, teacher) if teacher is not None else tuple(lines)


def parameter_counts(detector: nn.Module) -> tuple[int, int]:
    """Parameters of the model, and those of them that train."""
    everything = sum(p.numel() for p in detector.parameters())
    return everything, sum(p.numel() for p in trainable(detector).values())


def checkpoint_bytes(recipe: Recipe, detector: nn.Module) -> int:
    """Size of one checkpoint: parameters, the two moments of AdamW, the moving average."""
    everything, trained = parameter_counts(detector)
    return 4 * (everything + trained * (2 + (recipe.ema_decay is not None)))


def _passes(recipe: Recipe, sources: Sequence[LoadedSource], each: int) -> str:
    """How often a single source is gone through."""
    if len(sources) > 1:
        return " of the first source"
    images = len(sources[0])
    return f", {recipe.iterations * each / images:.3g} passes over {images:,} images"


def _evaluation(recipe: Recipe) -> str:
    if recipe.evaluate_every is None or not recipe.evaluate_on:
        return "none"
    names = (
        f"{each.name} ({each.validation_split:.0%} of the images, held out)" if each.validation_split else each.name
        for each in recipe.evaluate_on
    )
    ends = f", ends after {recipe.patience} without a better one" if recipe.patience is not None else ""
    return f"every {recipe.evaluate_every} steps on {', '.join(names)}{ends}"


def _remembering(recipe: Recipe) -> str:
    """How the run keeps what the first weights knew, in words."""
    ways = []
    if recipe.teacher_loss_weight:
        ways.append(f"{recipe.teacher_names} a batch held to the first weights (weight {recipe.teacher_loss_weight:g})")
    if recipe.initial_share:
        ways.append(f"{recipe.initial_share:.0%} of the first weights in the result")
    return ", ".join(ways) or "not kept"
