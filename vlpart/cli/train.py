"""`vlpart train RECIPE`: start, resume or dry-run a training run, on one process or on those that torchrun started."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli.completion import complete_recipes
from vlpart.cli.console import Bars, note_config, print_table, say

if TYPE_CHECKING:
    from vlpart.runtime import World
    from vlpart.training.dry_run import DryRun
    from vlpart.training.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe: its name (`vlpart recipes list`), the path of its published yaml, or a Python file.",
            autocompletion=complete_recipes,
        ),
    ],
    data: Annotated[
        Path, typer.Option(envvar="VLPART_DATA", help="Folder that holds the data sets.", file_okay=False)
    ] = Path("datasets"),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder, by default runs/RECIPE: logs, checkpoints.", file_okay=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the run folder, if any.")
    ] = False,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Steps to train; decay steps keep their place in the run.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images of a batch of the first source; others keep their proportion.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches of one step on each process.")] = None,
    scaling: Annotated[
        str | None,
        typer.Option(help="Learning rate for another total batch than the recipe's: linear, sqrt, or none."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Highest learning rate, as given, not scaled.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32, bf16, or fp16 (GPU).")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the weights, the data order and the augmentation.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="imagenet, none, a model of the zoo, a weight file, or a run folder to start from."),
    ] = None,
    validation_split: Annotated[
        float | None,
        typer.Option(
            "--validation-split",
            "--hold-out",
            min=0.0,
            max=0.9,
            help="finetune without a val split: part of the images to evaluate on; 0 = none.",
        ),
    ] = None,
    teacher: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Weight of the loss that keeps other names as the first weights had them; 0 = none."
        ),
    ] = None,
    keep: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Share of the first weights in the result; 0 = none.")
    ] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Keep a moving average of the weights, for example 0.999.")
    ] = None,
    activation_checkpointing: Annotated[
        bool | None, typer.Option("--activation-checkpointing", help="Swin: less memory for a third more time.")
    ] = None,
    same_source: Annotated[
        bool | None, typer.Option("--same-source", help="All processes take the same source in a step.")
    ] = None,
    non_finite: Annotated[
        str | None, typer.Option(help="At a loss that is not finite: stop, or skip the step.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints.")] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1, help="Steps between evaluations on val splits.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0.0, help="Stop with a checkpoint after so many minutes.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images, for each training process; 0 = none.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the model.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    log_to: Annotated[  # torchrun would take `--log` for one of its own options
        str, typer.Option(help="Logs besides log.jsonl, with commas: csv, tensorboard, wandb. '?' = where installed.")
    ] = "csv,tensorboard?",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would happen and time a few steps; write nothing.")
    ] = False,
) -> None:
    """Train a recipe.

    Ctrl-C finishes the step, writes a checkpoint and stops; --resume goes on exactly. Several processes or machines:
    torchrun --nproc-per-node N --nnodes M -m vlpart train RECIPE
    """
    import os

    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch starts

    from vlpart.recipes import get_recipe

    options = {
        "accumulate": accumulate,
        "batch_scaling": scaling,
        "precision": precision,
        "seed": seed,
        "initial_share": keep,
        "clip_norm": clip_norm,
        "ema_decay": ema_decay,
        "activation_checkpointing": activation_checkpointing,
        "same_source_on_all_ranks": same_source,
        "non_finite": non_finite,
    }
    as_given = {"learning_rate": learning_rate, "checkpoint_every": checkpoint_every, "evaluate_every": evaluate_every}
    chosen = get_recipe(
        recipe, data, init=init, validation_split=validation_split, teacher_loss_weight=teacher
    ).changed(**options)
    note_config(recipe)
    if batch_size is not None:
        chosen = chosen.with_batch_size(batch_size)

    import torch

    from vlpart.runtime import joined
    from vlpart.training.logging import check_sinks
    from vlpart.training.loop import check_output, run_lock

    if threads is not None:
        torch.set_num_threads(threads)
    logs = check_sinks(name.strip() for name in log_to.split(",") if name.strip())
    with joined(device) as world:
        count = default_workers(world) if workers is None else workers
        final = _fit_to_world(chosen, world, iterations).changed(**as_given)
        folder = output or Path("runs") / chosen.name
        if world.is_main:
            check_output(folder)
        if dry_run:
            _dry_run(final, world, count, folder)
        else:
            with run_lock(folder) if world.is_main else nullcontext():
                _run(final, world, folder, resume, time_limit, count, logs)


def default_workers(world: World) -> int:
    """Reading processes for each training process: what the cores allow, at most 4."""
    import os

    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    return max(1, min(4, (os.cpu_count() or 2) // here - 1))


def _fit_to_world(recipe: Recipe, world: World, iterations: int | None) -> Recipe:
    """The recipe for the batch it gets here; every change is said."""
    from vlpart.training.recipe import scaled, with_iterations

    fitted = scaled(recipe, world.size)
    if world.is_main:
        for change in fitted.changes:
            say(change, err=True)
    return fitted.recipe if iterations is None else with_iterations(fitted.recipe, iterations)


def _run(
    recipe: Recipe, world: World, output: Path, resume: bool, time_limit: float | None, workers: int, log_to: list[str]
) -> None:
    """Train, then export the weights. Ends with the exit code of a signal if one stopped it."""
    from vlpart.runtime import training_precision
    from vlpart.signals import exit_code
    from vlpart.training.assemble import build_trainer, describe_run, set_aside_weights
    from vlpart.training.checkpoint import export_weights
    from vlpart.training.loop import refuse_existing_run

    if not resume:
        refuse_existing_run(output)
    with Bars(in_bytes=True, transient=True) as progress:
        trainer, parts = build_trainer(
            recipe, output, workers=workers, world=world, log_to=log_to, progress=progress if world.is_main else None
        )
    step = trainer.resume() if resume else 0
    if world.is_main:
        precision, why = training_precision(recipe.precision, world.device)
        say(f"precision: {precision} ({why})", err=True)
        for source in parts.sources:
            say(str(source.report), err=True, lines=True)
        if parts.teacher is not None:
            say(str(parts.teacher), err=True)
        if step:
            say(f"resumed at step {step}", err=True)
        if trainer.changed:
            say(f"other than in the run so far: {', '.join(trainer.changed)}", err=True)
        if step < recipe.iterations and (aside := set_aside_weights(output, step)):
            say(f"the weights exported before are now {aside}", err=True)
        describe_run(recipe, parts, output)
    with Bars(transient=True) as progress:
        result = trainer.run(time_limit, say=progress.say, progress=progress)
    if world.is_main:
        if result.reason == "finished":
            weights = export_weights(result.checkpoint, output / "weights.safetensors", initial=parts.initial)
            say(f"weights: {weights}")
        else:
            say(f"stopped ({result.reason}) at step {result.step}: add --resume to go on")
    if code := exit_code(result.reason):
        raise typer.Exit(code)


def _dry_run(recipe: Recipe, world: World, workers: int, output: Path) -> None:
    """Print what a run would do."""
    from vlpart.training.dry_run import dry_run, needs

    if world.is_main:
        for need in needs(recipe, world):
            say(f"needs {need}", err=True)
    report = dry_run(recipe, workers=workers, world=world)
    if not world.is_main:
        return
    for row in report.sources:
        say(row.report, err=True, lines=True)
    rows = [
        (
            row.name,
            row.kind,
            *(f"{n:,}" for n in (row.images, row.annotations, row.classes)),
            f"{row.ratio:g}",
            row.batch_size,
        )
        for row in report.sources
    ]
    headings = ("source", "kind", "images", "annotations", "classes", "ratio", "batch")
    say(f"recipe {recipe.name}")
    print_table(headings, rows, right=headings[2:])
    for line in _plan(recipe, world, report, output):
        say(line)


def _plan(recipe: Recipe, world: World, report: DryRun, output: Path) -> list[str]:
    """What a run would do, in lines."""
    from vlpart.runtime import training_precision

    rates = f"{recipe.schedule}, learning rate {recipe.learning_rate:g}"
    if recipe.steps:
        rates += f", a tenth of it from steps {', '.join(map(str, recipe.steps))} on"
    precision, why = training_precision(recipe.precision, world.device)
    trains = f"{report.trained / 1e6:.2f} M of {report.parameters / 1e6:.2f} M parameters"
    size, folder = f"{report.checkpoint_bytes / 2**20:,.0f} MiB", output / "checkpoints"
    time = "not measured: this device does not compute in the precision of the recipe"
    if report.seconds_per_step is not None:
        each = f"{report.seconds_per_step:.2f} s per step of {report.images_per_step:.1f} images"
        time = f"{each}, about {report.hours:.1f} hours"
    evaluation = "none"
    if recipe.evaluate_every is not None and recipe.evaluate_on:
        names = (
            f"{each.name} ({each.validation_split:.0%} of the images, held out)" if each.validation_split else each.name
            for each in recipe.evaluate_on
        )
        evaluation = f"every {recipe.evaluate_every} steps on {', '.join(names)}"
    return [
        f"model: {recipe.architecture}, {trains} train, seed {recipe.seed}",
        f"precision: {precision} ({why})",
        f"first weights: {report.init}",
        f"processes: {world.size}, this one on {world.device}, {recipe.accumulate} batches a step each",
        f"schedule: {recipe.iterations} steps, warm-up {recipe.warmup_iterations}, {rates}",
        f"checkpoints: every {recipe.checkpoint_every} steps, {size} each, two and the best kept in {folder}",
        f"evaluation: {evaluation}",
        f"other names: {_remembering(recipe)}",
        *([report.teacher] if report.teacher else []),
        f"time: {time}",
    ]


def _remembering(recipe: Recipe) -> str:
    """How the run keeps what the first weights knew, in words."""
    ways = []
    if recipe.teacher_loss_weight:
        ways.append(f"{recipe.teacher_names} a batch held to the first weights (weight {recipe.teacher_loss_weight:g})")
    if recipe.initial_share:
        ways.append(f"{recipe.initial_share:.0%} of the first weights in the result")
    return ", ".join(ways) or "not kept"
