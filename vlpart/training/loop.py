"""The training loop: batches -> step -> log -> evaluation -> checkpoint; stoppable and exactly resumable."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from vlpart.errors import DataError, OutputError, TrainingError
from vlpart.jobs import Progress
from vlpart.runtime import World
from vlpart.signals import StopRequest
from vlpart.training.callbacks import Callback, TrainingResult
from vlpart.training.checkpoint import (
    checkpoint_path,
    latest_checkpoint,
    list_checkpoints,
    mark_best,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from vlpart.training.logging import Recorder, RunLog, Say, StepLines, open_sinks, resident_mib
from vlpart.training.optimizer import MovingAverage, learning_rate_at, set_learning_rate
from vlpart.training.recipe import Recipe, check_same_recipe
from vlpart.training.step import LossFunction, Stepper, StepResult, save_batch
from vlpart.types import Batch

#: With `non_finite="skip"`, so many bad steps in a row still stop the run.
MAX_SKIPPED_IN_A_ROW = 20

#: Why a run ends before its last step when its evaluations stay below the best one.
NO_IMPROVEMENT = "no improvement"


class BatchLoader(Protocol):
    """An endless iterable of batches whose state says which batches were *handed out* (not prefetched)."""

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Continue where `state` was taken."""


class Trainer:
    """Trains `model` as `recipe` says, in one process or in each of several.

    Args:
        recipe: the run; its sources are the loader's business.
        model: built, initialised, on the device of this process.
        loader: see `Loader`; every process has its own.
        compute: forward pass and losses of one batch (a closure over `model`).
        output: run folder: `log.jsonl`, `metrics.csv`, `checkpoints/`; written by the main process only. All processes
            must see it to resume.
        generator: the random generator `compute` draws from, if it has one of its own; its state is checkpointed.
        evaluate: scores the weights the model holds at the call; the figure "score" selects the best checkpoint (NaN
            never does). Called in the main process.
        world: the training processes.
        log_to: sinks besides `log.jsonl`, see `vlpart.training.logging.open_sinks`.
        callbacks: look on, in the main process.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        loader: BatchLoader,
        compute: LossFunction,
        output: Path,
        *,
        generator: torch.Generator | None = None,
        evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        world: World | None = None,
        log_to: Sequence[str] = (),
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.recipe, self.model, self.loader = recipe, model, loader
        self.output, self.log_to = output, log_to
        self.world = world or World()
        self.generators = (generator,) if generator is not None else ()
        self.evaluate = evaluate
        self.stepper = Stepper(recipe, model, compute, self.world)
        self.average = MovingAverage(model, recipe.ema_decay) if recipe.ema_decay is not None else None
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.best: float | None = None
        self.waiting = 0  # evaluations since the best one
        self.callbacks = tuple(callbacks) if self.world.is_main else ()
        self._stop: StopRequest | None = None
        self.changed: tuple[str, ...] = ()  # fields of the recipe that differ from those of the checkpoint

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.output / "checkpoints"

    def ask_to_stop(self, reason: str) -> None:
        """From a callback: finish the step, write a checkpoint and return, with this reason."""
        if self._stop is not None:
            self._stop.ask(reason)

    def resume(self) -> int:
        """Load the newest checkpoint of the run folder, if there is one; returns the step to go on from.

        Raises:
            TrainingError: the checkpoint is damaged, of another recipe or number of processes, or not the same for all.
        """
        content = latest_checkpoint(self.checkpoints)
        steps = self.world.all_gather(None if content is None else content["step"])
        if len(set(steps)) > 1:
            raise TrainingError(
                f"the processes find different checkpoints (steps {steps}): put {self.output} on a disk that all share"
            )
        if content is None:
            return 0
        self.changed = tuple(check_same_recipe(self.recipe, content["recipe"]))
        if len(content["ranks"]) != self.world.size:
            raise TrainingError(
                f"the checkpoint was made by {len(content['ranks'])} processes, this run has {self.world.size}: "
                "start as many, or begin a new run with --init and the weights"
            )
        try:
            self.model.load_state_dict(content["model"])
            self.stepper.load_state_dict(content["optimizer"], content.get("scaler"))
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise TrainingError(f"the checkpoint does not fit the model {self.recipe.architecture!r}") from error
        if (self.average is None) != (content["ema"] is None):
            raise TrainingError(
                "the checkpoint and this run differ in ema_decay: use the same options or another output folder"
            )
        try:
            self._restore(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            raise TrainingError(
                f"the newest checkpoint in {self.checkpoints} is malformed ({reason}): remove it to use the one before"
            ) from error
        return self.step

    def _restore(self, content: Mapping[str, Any]) -> None:
        """Take over what a checkpoint says besides model and optimizer."""
        if self.average is not None:
            self.average.load_state_dict(content["ema"])
        own = content["ranks"][self.world.rank]
        self.loader.load_state_dict(own["loader"])
        set_rng_state(own["rng"], *self.generators)
        self.step = int(content["step"])
        self.seconds = float(content["metrics"]["seconds"])
        self.skipped = int(content["metrics"]["skipped"])
        self.best = content["metrics"]["best"]
        self.waiting = int(content["metrics"].get("waiting", 0))

    def run(
        self, time_limit: float | None = None, *, say: Say | None = None, progress: Progress | None = None
    ) -> TrainingResult:
        """Train until the recipe's iterations are done, a signal comes, or `time_limit` minutes have passed.

        SIGINT and SIGTERM, to whichever process, finish the step, write a checkpoint and return (a second one
        interrupts at once).

        Args:
            time_limit: minutes.
            say: takes a line for people every `log_every` steps, and of what else happens; in the main process.
            progress: told about every step, in the main process.

        Raises:
            TrainingError: non-finite loss (the batch is saved in the run folder), a data worker died, the disk is full.
        """
        try:
            with StopRequest() as stop, self._recorder(say, progress) as recorder:
                return self._run(stop, recorder, time_limit)
        except (RuntimeError, DataError) as error:  # torch tells of dead workers wherever the main thread is
            if "DataLoader worker" not in str(error) and "data worker was killed" not in str(error):
                raise
            raise TrainingError(
                f"a process that reads images was killed at step {self.step + 1} (not enough memory?): "
                "resume with fewer --workers"
            ) from error

    def _run(self, stop: StopRequest, recorder: Recorder, time_limit: float | None) -> TrainingResult:
        began, before = time.monotonic(), self.seconds
        recipe, world = self.recipe, self.world
        self.model.train()
        self._stop = stop
        for callback in self.callbacks:
            callback.on_start(self, recorder)
        batches = iter(self.loader)
        path = checkpoint_path(self.checkpoints, self.step)
        saved_at = self.step if world.from_main(path.is_file()) else None
        stopped = NO_IMPROVEMENT if self._out_of_patience() and self.step < recipe.iterations else None
        while self.step < recipe.iterations and stopped is None:
            self._one_step(batches, recorder)
            self.seconds = before + time.monotonic() - began
            if time_limit is not None and world.is_main and time.monotonic() - began >= time_limit * 60:
                stop.ask("time limit")
            if self.step % recipe.checkpoint_every == 0 or self.step == recipe.iterations:
                path = self._save()  # an evaluation that fails must not cost the steps before it
                saved_at = self.step
            if self._evaluate_if_due(recorder):
                path = self._save()  # again: what a resumed run has to beat is in it
                saved_at = self.step
                if world.is_main:
                    mark_best(path)
            if self._out_of_patience():
                stopped, saved_at = NO_IMPROVEMENT, None  # how long it has waited is to be in the checkpoint
            if world.any(stop.reason is not None):
                stopped = next(reason for reason in world.all_gather(stop.reason) if reason)
        if saved_at != self.step:
            path = self._save()
        reason = stopped if self.step < recipe.iterations and stopped else "finished"
        recorder.line(f"{reason} at step {self.step}/{recipe.iterations}, checkpoint {path}")
        result = TrainingResult(step=self.step, reason=reason, checkpoint=path, seconds=self.seconds)
        for callback in self.callbacks:
            callback.on_end(self, result)
        return result

    def _out_of_patience(self) -> bool:
        return self.recipe.patience is not None and self.waiting >= self.recipe.patience

    def _recorder(self, say: Say | None, progress: Progress | None) -> Recorder:
        if not self.world.is_main:
            return Recorder()
        self.output.mkdir(parents=True, exist_ok=True)
        recipe = self.recipe
        return Recorder(
            RunLog(self.output / "log.jsonl", self.step),
            StepLines(self.step, recipe.iterations, recipe.log_every, say, progress),
            open_sinks(self.log_to, self.output, self.step, recipe.to_dict(), f"{recipe.name}-{self.output.name}"),
        )

    def _one_step(self, batches: Iterator[Batch], recorder: Recorder) -> None:
        """Draw the batches of one step, train on them, log."""
        recipe = self.recipe
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):  # starting workers draws from the global generator: not part of the run
            drawn = [next(batches) for _ in range(recipe.accumulate)]
        waited = time.perf_counter() - began
        for callback in self.callbacks:
            callback.on_batches(self, drawn)
        rate = learning_rate_at(recipe, self.step)
        set_learning_rate(self.stepper.optimizer, rate)
        result = self.stepper(drawn)
        if result.finite:
            self.skipped = 0
            if self.average is not None:
                self.average.update(self.model)
        else:
            self._not_finite(result, recorder)
        self.step += 1
        seconds = time.perf_counter() - began
        results = self.world.gather((result.losses, result.loss, result.sources, result.images))
        if results is None:
            return
        images = sum(each[3] for each in results)
        record = {
            "step": self.step,
            "event": "step",
            "loss": sum(each[1] for each in results) / len(results),
            "losses": mean_losses([each[0] for each in results]),
            "lr": rate,
            "grad_norm": result.grad_norm,
            "sources": [name for each in results for name in each[2]],
            "images": images,
            "seconds": seconds,
            "waited": waited,
            "images_per_second": images / max(seconds, 1e-9),
            "memory_mib": round(resident_mib(), 1),
            "skipped": not result.finite,
        }
        if self.world.device.startswith("cuda"):
            record["device_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        recorder.record(record)
        for callback in self.callbacks:
            callback.on_step(self, record)

    def _not_finite(self, result: StepResult, recorder: Recorder) -> None:
        """Save the batch; stop, or count a skipped step."""
        self.skipped += 1
        text = f"not finite at step {self.step + 1}: "
        if result.overflow:
            text += "the gradient in fp16; the loss scale is lowered"
        elif result.culprit is None:
            text += "the loss of another process, which saved its batch"
        else:
            suffix = f"_rank{self.world.rank}" if self.world.size > 1 else ""
            path = self.output / f"nonfinite_step_{self.step + 1:08d}{suffix}.pt"
            save_batch(path, result.culprit, result.losses)
            bad = [name for name, value in result.losses.items() if not abs(value) < float("inf")] or ["the gradient"]
            text += f"{', '.join(bad)} ({result.culprit.source}); batch saved as {path}"
        if self.recipe.non_finite == "stop" and not result.overflow:
            raise TrainingError(f"{text}; lower the learning rate, set clip_norm, or use non_finite='skip'")
        if self.skipped >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(f"{text}; {self.skipped} steps in a row, stopping: lower the learning rate")
        recorder.line(f"skipped: {text}")

    def _evaluate_if_due(self, recorder: Recorder) -> bool:
        """Score the averaged weights (the plain ones without an average); True for a valid score, the best so far."""
        every = self.recipe.evaluate_every
        if self.evaluate is None or every is None or (self.step % every and self.step != self.recipe.iterations):
            return False
        score = self.world.from_main(self._evaluate(recorder) if self.world.is_main else math.nan)
        if math.isnan(score) or (self.best is not None and score <= self.best):
            self.waiting += 1
            return False
        self.best, self.waiting = score, 0
        return True

    def _evaluate(self, recorder: Recorder) -> float:
        assert self.evaluate is not None
        trained = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        with torch.random.fork_rng(devices=[]):
            try:
                if self.average is not None:
                    self.model.load_state_dict(self.average.averaged_state(self.model))
                figures = dict(self.evaluate(self.model))
            finally:
                self.model.load_state_dict(trained)
                self.model.train()
        recorder.record({"step": self.step, "event": "evaluation", **figures})
        recorder.line(f"evaluation at step {self.step}: " + "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        for callback in self.callbacks:
            callback.on_evaluation(self, figures)
        return figures["score"]

    def _save(self) -> Path:
        """Write the checkpoint of the present step (in the main process)."""
        ranks = self.world.gather({"loader": self.loader.state_dict(), "rng": rng_state(*self.generators)})
        if ranks is None:
            return checkpoint_path(self.checkpoints, self.step)
        content = {
            "recipe": self.recipe.to_dict(),
            "model": self.model.state_dict(),
            **self.stepper.state_dict(),
            "ranks": ranks,
            "ema": self.average.state_dict() if self.average is not None else None,
            "metrics": {
                "seconds": self.seconds,
                "skipped": self.skipped,
                "best": self.best,
                "waiting": self.waiting,
            },
        }
        path = save_checkpoint(self.checkpoints, self.step, content)
        for callback in self.callbacks:
            callback.on_checkpoint(self, path)
        return path


def mean_losses(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every loss by name, mean over the processes that have it."""
    found: dict[str, list[float]] = {}
    for each in losses:
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def check_output(output: Path) -> None:
    """Look whether a run folder can be made and written, without making it.

    Raises:
        OutputError: something on the way to it is no folder, or not writable.
    """
    try:
        there = next(path for path in (output, *output.absolute().parents) if path.exists())
    except OSError as error:
        raise OutputError(f"cannot use the run folder {output}: {error.strerror}") from error
    if not there.is_dir():
        raise OutputError(f"cannot make the run folder {output}: {there} is a file; give another one with --output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot make the run folder {output}: {there} is not writable; give another with --output")


@contextmanager
def run_lock(output: Path) -> Iterator[None]:
    """Keep a run folder to this training, until the context ends or the process does, however it ends.

    On a file system without locks nothing is kept.

    Raises:
        TrainingError: another training has it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(output / ".lock", timeout=0)
    new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TrainingError(
            f"another training is running in {output}: wait for it, or name another folder with --output"
        ) from None
    except NotImplementedError:  # no locks here
        yield
        return
    except OSError as error:
        raise TrainingError(f"cannot write {output}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
        if new and {path.name for path in output.iterdir()} <= {".lock"}:  # the run did not even begin
            (output / ".lock").unlink(missing_ok=True)  # some versions of filelock have done so
            output.rmdir()


def refuse_existing_run(output: Path) -> None:
    """Guard a fresh run against a folder that already holds one.

    Raises:
        TrainingError: there are checkpoints in it.
    """
    if list_checkpoints(output / "checkpoints"):
        raise TrainingError(f"{output} already holds a run: add --resume to go on, or choose another output folder")
