"""One of two training processes; `test_distributed.py` starts both and compares what they write with a single process.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python two_processes.py FOLDER
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from killable import RandomBatches, make_recipe, make_trainer
from made_up import add_architecture, boxes_source, small_recipe

from vlpart.errors import TrainingError
from vlpart.losses.options import LossOptions
from vlpart.runtime import World, joined
from vlpart.training.assemble import build_trainer
from vlpart.training.loop import Trainer
from vlpart.training.optimizer import trainable
from vlpart.training.recipe import Recipe
from vlpart.types import AnnotationKind

NOTHING_SUBSAMPLED = {
    "losses": LossOptions(proposals_before_nms=50, proposals=30, rpn_anchors=20_000, roi_regions=8_000),
    "ema_decay": None,
    "clip_norm": None,
}


def same_batch_trainer(data: Path, accumulate: int, output: Path, **options) -> Trainer:
    """Three steps of the small detector that draw no random sample: one process with two batches, or two with one.

    Steps of gradient descent, whose momentum sums the gradients up: AdamW's first steps have the size of the learning
    rate whatever the size of the gradient, so where a gradient is zero but for rounding, its sign, which depends on the
    processor, moves a weight.
    """
    recipe = small_recipe(
        data,
        iterations=3,
        accumulate=accumulate,
        same_source_on_all_ranks=True,
        learning_rate=1e-2,
        frozen=(),
        **NOTHING_SUBSAMPLED,
    )
    with patch("vlpart.training.step.make_optimizer", plain_descent):
        return build_trainer(recipe, output, workers=0, **options)[0]


def plain_descent(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(trainable(model).values()), lr=recipe.learning_rate, momentum=0.9)


def two_kinds_recipe(data: Path) -> Recipe:
    """Boxes with masks in one source, image labels in the other; processes draw them as they come."""
    labels = boxes_source(data, name="labels", kind=AnnotationKind.IMAGE_LABELS)
    return small_recipe(data, iterations=6, sources=(boxes_source(data), labels), ema_decay=0.9)


def small_trainer(output: Path, world: World, recipe: Recipe, **options):
    """`killable`'s small model with other batches and dropout on every process."""
    trainer = make_trainer(
        output, recipe, loader=RandomBatches(recipe.seed + world.rank, bad_at=options.pop("bad_at", None)), world=world
    )
    torch.manual_seed(world.seed(recipe.seed))
    return trainer


def weights_hash(trainer: Trainer) -> str:
    """Of the parameters and their average. (Running statistics, which only the small model has, are each process's.)"""
    digest = hashlib.sha256()
    average = trainer.average.shadow if trainer.average is not None else {}
    for value in (*trainer.model.parameters(), *average.values()):
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def compare_with_one_process(world: World, data: Path, folder: Path) -> object:
    trainer = same_batch_trainer(data, 1, folder / "same", world=world)
    trainer.run()
    return weights_hash(trainer)


def mix_kinds(world: World, data: Path, folder: Path) -> object:
    trainer, _ = build_trainer(two_kinds_recipe(data), folder / "kinds", workers=0, world=world)
    trainer.run()
    return weights_hash(trainer)


def stop_and_resume(world: World, data: Path, folder: Path) -> object:
    """Process 1 gets a signal in step 2; what follows the resume must be as if nothing had happened."""
    recipe = make_recipe(iterations=6, checkpoint_every=100)
    whole = small_trainer(folder / "whole", world, recipe)
    whole.run()
    first = small_trainer(folder / "parts", world, recipe)
    compute = first.stepper.compute

    def interrupted(batch):
        if world.rank == 1 and first.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(batch)

    first.stepper.replica.module.compute = interrupted
    stopped = first.run()
    second = small_trainer(folder / "parts", world, recipe)
    resumed_at = second.resume()
    second.run()
    return [stopped.step, stopped.reason, resumed_at, weights_hash(second) == weights_hash(whole)]


def meet_a_bad_batch(world: World, data: Path, folder: Path) -> object:
    """The third batch of process 1 is not finite: both skip that step, or both stop."""
    bad_at = 2 if world.rank == 1 else None
    skipping = small_trainer(folder / "skip", world, make_recipe(non_finite="skip", accumulate=2), bad_at=bad_at)
    skipping.run()
    stopping = small_trainer(folder / "stop", world, make_recipe(), bad_at=bad_at)
    try:
        stopping.run()
        message = ""
    except TrainingError as error:
        message = str(error)
    return [weights_hash(skipping), message]


def refuse_one_process(world: World, data: Path, folder: Path) -> object:
    """A checkpoint of two processes is not for one."""
    alone = small_trainer(folder / "whole", replace(world, size=1, rank=0, group=None), make_recipe(iterations=9))
    try:
        alone.resume()
    except TrainingError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Run everything and write the outcomes of this process."""
    torch.set_num_threads(1)
    add_architecture()
    with joined("cpu") as world:
        outcomes = {
            function.__name__: function(world, folder / "data", folder)
            for function in (
                compare_with_one_process,
                mix_kinds,
                stop_and_resume,
                meet_a_bad_batch,
                refuse_one_process,
            )
        }
    (folder / f"rank{world.rank}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
