"""`vlpart train RECIPE`: start, resume or dry-run a training run, on one process or on those that torchrun started."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.checks import natural
from vlpart.cli.console import Bars, note_config, print_table, say
from vlpart.cli.options import complete_recipes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from vlpart.runtime import World
    from vlpart.training.callbacks import TrainingResult
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
    epochs: Annotated[
        float | None, typer.Option(min=0.0, help="Length as passes over the images of a single source.")
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            "--batch",
            metavar="N|auto",
            help="Images of a batch of the first source; others keep their proportion. auto = what the memory holds.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=16, help="Shorter side of the images in pixels, in training (at most) and afterwards."),
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
    negatives: Annotated[
        bool | None,
        typer.Option("--negatives/--no-negatives", help="Images without annotations train, too: nothing is in them."),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="Modules that do not train, with commas: backbone, fpn, rpn, roi_heads, or parts."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many evaluations without a better one; the best is exported."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Any field of the recipe, e.g. losses.roi_regions=128; repeat."
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

    from vlpart.recipes import FINETUNE, get_recipe

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
        "patience": patience,
    }
    as_given = {"learning_rate": learning_rate, "checkpoint_every": checkpoint_every, "evaluate_every": evaluate_every}
    if recipe == FINETUNE:
        data = _own_data(data, output or Path("runs") / FINETUNE, resume, dry_run)
    chosen = get_recipe(
        recipe, data, init=init, validation_split=validation_split, teacher_loss_weight=teacher
    ).changed(**options)
    note_config(recipe)
    chosen = _shaped(chosen, _batch(batch_size), image_size, negatives, freeze, settings or [])
    if epochs is not None and iterations is not None:
        raise typer.BadParameter("give --epochs or --iterations, not both")

    import torch

    from vlpart.runtime import joined
    from vlpart.training.logging import check_sinks
    from vlpart.training.loop import check_output, run_lock
    from vlpart.training.settings import with_settings

    if threads is not None:
        torch.set_num_threads(threads)
    logs = check_sinks(name.strip() for name in log_to.split(",") if name.strip())
    with joined(device) as world:
        count = default_workers(world) if workers is None else workers
        final = _fit_to_world(chosen, world, iterations, epochs, batch_size == "auto").changed(**as_given)
        final = with_settings(final, settings or [])  # again: what is given is not scaled
        folder = output or Path("runs") / chosen.name
        if world.is_main:
            check_output(folder)
        if dry_run:
            _dry_run(final, world, count, folder)
        else:
            with run_lock(folder) if world.is_main else nullcontext():
                _run(final, world, folder, resume, time_limit, count, logs)


def _own_data(data: Path, run: Path, resume: bool, dry_run: bool) -> Path:
    """The data of a fine-tuning as COCO: itself, or what a data set of another tool becomes, in the folder of the run.

    A dry run has it in a temporary folder, which goes with the process.
    """
    import atexit
    import os
    import shutil
    import tempfile

    from vlpart.data.convert import convert
    from vlpart.data.folder import foreign_kind

    kind = foreign_kind(data) if data.exists() else None
    if kind is None or int(os.environ.get("WORLD_SIZE", 1)) > 1:  # several processes: the error names the command
        return data
    output = run / "data" / data.resolve().name
    if resume and output.is_dir():
        return output
    if dry_run:
        folder = tempfile.mkdtemp(prefix="vlpart-data-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        output = Path(folder) / output.name
    else:
        from vlpart.training.loop import check_output, refuse_existing_run

        check_output(run)
        refuse_existing_run(run)
        shutil.rmtree(output, ignore_errors=True)
    done = convert(data, output, "coco")
    say(
        f"{data}: a data set of the kind {kind}, {done.images} images, {done.regions} regions, as COCO in {output}",
        err=True,
    )
    for reason, count in done.unread.items():
        say(f"not read: {count} x {reason}", err=True)
    if done.hint:
        say(f"hint: {done.hint}", err=True)
    return output


def default_workers(world: World) -> int:
    """Reading processes for each training process: what the cores allow, at most 4."""
    import os

    here = natural(os.environ.get("LOCAL_WORLD_SIZE", "")) or world.size
    return max(1, min(4, (os.cpu_count() or 2) // here - 1))


def _batch(text: str | None) -> int | None:
    """The number of `--batch-size`; None for "auto" and where it is not given."""
    if text in (None, "auto"):
        return None
    number = natural(text or "")
    if not number:
        raise typer.BadParameter(f"--batch-size is a number of images or auto, not {text!r:.80}")
    return number


def _shaped(
    recipe: Recipe,
    batch_size: int | None,
    image_size: int | None,
    negatives: bool | None,
    freeze: str | None,
    settings: Sequence[str],
) -> Recipe:
    """The recipe with the options that change more than one field, then with single fields."""
    from dataclasses import replace

    from vlpart.training.settings import frozen_modules, with_image_size, with_settings

    if batch_size is not None:
        recipe = recipe.with_batch_size(batch_size)
    if image_size is not None:
        recipe = with_image_size(recipe, image_size)
    if negatives is not None:
        recipe = recipe.changed(sources=tuple(replace(each, filter_empty=not negatives) for each in recipe.sources))
    if freeze is not None:
        recipe = recipe.changed(frozen=(*recipe.frozen, *frozen_modules(freeze)))
    return with_settings(recipe, settings)


def _fit_to_world(
    recipe: Recipe, world: World, iterations: int | None, epochs: float | None, automatic: bool
) -> Recipe:
    """The recipe for the batch it gets here; every change is said."""
    from vlpart.training.recipe import scaled, with_iterations

    changes: tuple[str, ...] = ()
    if automatic:
        from vlpart.training.memory import automatic_batch

        recipe, chosen = automatic_batch(recipe, world)
        changes = (chosen,)
    fitted = scaled(recipe, world.size)
    if world.is_main:
        for change in (*changes, *fitted.changes):
            say(change, err=True)
    if epochs is not None:
        from vlpart.training.plan import steps_of_epochs

        iterations = steps_of_epochs(fitted.recipe, epochs, world.size)
    return fitted.recipe if iterations is None else with_iterations(fitted.recipe, iterations)


def _run(
    recipe: Recipe, world: World, output: Path, resume: bool, time_limit: float | None, workers: int, log_to: list[str]
) -> None:
    """Train, then export the weights. Ends with the exit code of a signal if one stopped it."""
    from vlpart.signals import exit_code
    from vlpart.training.assemble import build_trainer, describe_run, set_aside_weights
    from vlpart.training.loop import NO_IMPROVEMENT, refuse_existing_run
    from vlpart.training.plan import standard_callbacks

    if not resume:
        refuse_existing_run(output)
    with Bars(in_bytes=True, transient=True) as progress:
        trainer, parts = build_trainer(
            recipe, output, workers=workers, world=world, log_to=log_to, progress=progress if world.is_main else None
        )
    step = trainer.resume() if resume else 0
    if world.is_main:
        for source in parts.sources:
            say(str(source.report), err=True, lines=True)
        if step:
            say(f"resumed at step {step}", err=True)
        if trainer.changed:
            say(f"other than in the run so far: {', '.join(trainer.changed)}", err=True)
        if step < recipe.iterations and (aside := set_aside_weights(output, step)):
            say(f"the weights exported before are now {aside}", err=True)
        describe_run(recipe, parts, output)
        trainer.callbacks = tuple(standard_callbacks(recipe, parts, output, world))
    with Bars(transient=True) as progress:
        result = trainer.run(time_limit, say=progress.say, progress=progress)
    if world.is_main:
        if result.reason in ("finished", NO_IMPROVEMENT):
            _export(result, output, parts.initial)
        else:
            say(f"stopped ({result.reason}) at step {result.step}: add --resume to go on")
    if code := exit_code(result.reason):
        raise typer.Exit(code)


def _export(result: TrainingResult, output: Path, initial: Mapping[str, Tensor] | None) -> None:
    """Write the weights of a finished run; of one that stopped improving, those that were best."""
    from vlpart.training.checkpoint import export_weights
    from vlpart.training.loop import NO_IMPROVEMENT

    best = output / "checkpoints" / "best.pt"
    early = result.reason == NO_IMPROVEMENT and best.is_file()
    weights = export_weights(best if early else result.checkpoint, output / "weights.safetensors", initial=initial)
    if result.reason == NO_IMPROVEMENT:
        kept = "the best checkpoint is" if early else "no evaluation gave a figure; the last checkpoint is"
        say(f"ended at step {result.step}, no improvement any more: {kept} exported")
    say(f"weights: {weights}")


def _dry_run(recipe: Recipe, world: World, workers: int, output: Path) -> None:
    """Print what a run would do."""
    from vlpart.training.callbacks import duration
    from vlpart.training.dry_run import dry_run, needs

    if world.is_main:
        for need in needs(recipe, world):
            say(f"needs {need}", err=True)
    report = dry_run(recipe, workers=workers, world=world, output=output)
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
    for line in report.plan:
        say(line)
    time = "not measured: this device does not compute in the precision of the recipe"
    if report.seconds_per_step is not None and report.hours is not None:
        each = f"{report.seconds_per_step:.2f} s per step of {report.images_per_step:.1f} images"
        time = f"{each}, about {duration(report.hours * 3600)}; memory: {report.memory_mib / 1024:.1f} GiB"
    say(f"time: {time}")
