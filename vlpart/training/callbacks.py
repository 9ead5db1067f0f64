"""What looks on while a run trains: a base class for your own, and the two that leave pictures in the run folder.

    class Notify(Callback):
        def on_evaluation(self, trainer, figures):
            print(trainer.step, figures["score"])

    trainer, parts = build_trainer(recipe, output, callbacks=[Notify()])

All are called in the first process only, between two steps. They may look at the trainer, ask it to stop
(`Trainer.ask_to_stop`), and must leave torch's random generators as they are, or a resumed run is another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from vlpart.errors import OutputError
from vlpart.files import encode_image, write_file
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.logging import Recorder, read_log
from vlpart.training.recipe import Recipe
from vlpart.types import Batch


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run ended: `reason` is "finished", "no improvement" (`Recipe.patience`), "time limit", what `ask_to_stop`
    was given, or the name of the signal that stopped it.
    """

    step: int
    reason: str
    checkpoint: Path
    seconds: float


class Run(Protocol):
    """What a callback sees of a `vlpart.training.loop.Trainer`; `step` counts the steps that are done."""

    recipe: Recipe
    model: nn.Module
    output: Path
    step: int

    def ask_to_stop(self, reason: str) -> None:
        """Finish the step, write a checkpoint and return, with this reason."""


class Callback:
    """Does nothing; a subclass overrides what it wants to know."""

    def on_start(self, trainer: Run, recorder: Recorder) -> None:
        """Before the first step, of a resumed run too; `recorder` takes lines and records from here on."""

    def on_batches(self, trainer: Run, batches: Sequence[Batch]) -> None:
        """What the next step learns from, before it does; the step is `trainer.step + 1`."""

    def on_step(self, trainer: Run, record: Mapping[str, Any]) -> None:
        """After a step: its record as in `log.jsonl`."""

    def on_evaluation(self, trainer: Run, figures: Mapping[str, float]) -> None:
        """After an evaluation: its figures, "score" among them."""

    def on_checkpoint(self, trainer: Run, path: Path) -> None:
        """A checkpoint was written."""

    def on_end(self, trainer: Run, result: TrainingResult) -> None:
        """After the last step, however it came to it; not after an error."""


class BatchImages(Callback):
    """Draws what the first steps of a run learn from, with the targets on it, as `batch_0.jpg`, `batch_1.jpg`, ...

    Args:
        vocabularies: the names of every source, by source name.
        count: batches.
    """

    def __init__(self, vocabularies: Mapping[str, Vocabulary], count: int = 3) -> None:
        self.vocabularies, self.count = vocabularies, count
        self._recorder = Recorder()

    def on_start(self, trainer: Run, recorder: Recorder) -> None:
        """See `Callback`."""
        self._recorder = recorder

    def on_batches(self, trainer: Run, batches: Sequence[Batch]) -> None:
        """See `Callback`."""
        if trainer.step >= self.count:
            return
        from vlpart.visualize.training import draw_batch

        sheet = draw_batch(batches[0], self.vocabularies[batches[0].source])
        try:
            write_file(trainer.output / f"batch_{trainer.step}.jpg", encode_image(sheet, "JPEG", "a batch"))
        except OutputError as error:  # the run is worth more than its pictures
            self._recorder.line(f"no picture of the batch: {error}")


class CurvesImage(Callback):
    """Draws losses, learning rate and evaluations over the steps as `curves.png`, from `log.jsonl`, at the end."""

    def __init__(self) -> None:
        self._recorder = Recorder()

    def on_start(self, trainer: Run, recorder: Recorder) -> None:
        """See `Callback`."""
        self._recorder = recorder

    def on_end(self, trainer: Run, result: TrainingResult) -> None:
        """See `Callback`."""
        from vlpart.visualize.training import draw_curves

        records = read_log(trainer.output / "log.jsonl")
        if not any(record.get("event") == "step" for record in records):
            return
        sheet = draw_curves(records, trainer.recipe.name)
        try:
            write_file(trainer.output / "curves.png", encode_image(sheet, "PNG", "curves"))
        except OutputError as error:
            self._recorder.line(f"no picture of the curves: {error}")


class PlanLines(Callback):
    """Says and logs the plan of a run before the first step, and after some steps what they take.

    Args:
        lines: the plan, see `vlpart.training.plan.plan_of`.
        after: steps until time and memory are told.
    """

    def __init__(self, lines: Sequence[str], after: int = 10) -> None:
        self.lines, self.after = tuple(lines), after
        self._recorder = Recorder()
        self._first = 0
        self._began = 0.0

    def on_start(self, trainer: Run, recorder: Recorder) -> None:
        """See `Callback`."""
        self._recorder, self._first, self._began = recorder, trainer.step, 0.0
        for line in self.lines:
            recorder.line(line)
        recorder.note({"step": trainer.step, "event": "plan", "lines": list(self.lines)})

    def on_step(self, trainer: Run, record: Mapping[str, Any]) -> None:
        """See `Callback`. The first step is not counted: it warms up."""
        done = trainer.step - self._first
        if done == 1:
            self._began = time.monotonic()
        if done < 2 or done != min(self.after, trainer.recipe.iterations - self._first):
            return
        each = (time.monotonic() - self._began) / (done - 1)
        left = each * (trainer.recipe.iterations - trainer.step)
        memory = {"memory": record["memory_mib"], "GPU memory": record.get("device_memory_mib")}
        shown = ", ".join(f"{value / 1024:.1f} GiB of {name}" for name, value in memory.items() if value is not None)
        self._recorder.line(f"measured: {each:.2f} s a step, about {duration(left)} left without evaluations, {shown}")
        measured = {"seconds_per_step": each, "seconds_left": left, "memory_mib": record["memory_mib"]}
        self._recorder.note({"step": trainer.step, "event": "measured", **measured})


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3.4 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
