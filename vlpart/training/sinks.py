"""Where the figures of a run go besides `log.jsonl`: a CSV table, TensorBoard, Weights & Biases."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vlpart.errors import TrainingError

SINKS = {"csv": "csv", "tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}
"""Name to the module that it needs."""

_INSTALLATION = {
    "tensorboard": 'TensorBoard is not installed: pip install "vlpart[train]"',
    "wandb": "Weights & Biases is not installed: pip install wandb",
}


class Sink(Protocol):
    """Takes the figures of one step or evaluation."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures."""

    def close(self) -> None:
        """Finish."""


def flat(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a log record by name; losses as `losses/NAME`, figures of an evaluation as `evaluation/NAME`."""
    prefix = "evaluation/" if record.get("event") == "evaluation" else ""
    found: dict[str, float] = {}
    for key, value in record.items():
        if key in ("step", "event"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{key}/{name}": float(number) for name, number in value.items()}
        elif isinstance(value, int | float):
            found[prefix + key] = float(value)
    return found


def check_sinks(names: Iterable[str]) -> list[str]:
    """Which sinks a run can have, before anything of it is written.

    Args:
        names: out of `SINKS`; "tensorboard?" asks for it only where it is installed.

    Returns:
        The names without question marks, those that are not installed left out.

    Raises:
        TrainingError: an unknown name, or a package that is not installed.
    """
    found = []
    for name in names:
        plain = name.removesuffix("?")
        if plain not in SINKS:
            raise TrainingError(f"unknown log {name!r}: use {', '.join(SINKS)}, or none with --log-to ''")
        try:
            importlib.import_module(SINKS[plain])
        except ImportError as error:
            if plain == name:
                raise TrainingError(f"{_INSTALLATION[plain]}, or leave it out of --log-to") from error
        else:
            found.append(plain)
    return found


def open_sinks(names: Iterable[str], output: Path, step: int, recipe: Mapping[str, Any], run_name: str) -> list[Sink]:
    """The sinks of a run that goes on after `step`.

    Args:
        names: see `check_sinks`.
        output: run folder.
        step: figures of later steps, from before a resume, are dropped.
        recipe: its plain values, shown by W&B.
        run_name: name of the run there.

    Raises:
        TrainingError: an unknown name, a package that is not installed, or the folder cannot be written.
    """
    sinks: list[Sink] = []
    for name in check_sinks(names):
        match name:
            case "csv":
                sinks.append(CsvSink(output / "metrics.csv", step))
            case "tensorboard":
                sinks.append(TensorBoardSink(output / "tensorboard", step))
            case "wandb":
                sinks.append(WandbSink(output, recipe, run_name))
    return sinks


class CsvSink:
    """A table with one row per step or evaluation and one column per figure.

    A figure that turns up later gets its column then: the file is written anew, and older rows are empty there.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        self.columns = ["step"]
        rows: list[dict[str, str]] = []
        if step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                table = csv.DictReader(file)
                whole = (row for row in table if None not in row.values() and row["step"].isdigit())
                rows = [row for row in whole if int(row["step"]) <= step]
                self.columns = list(table.fieldnames or self.columns)
        self._rewrite(rows)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a row."""
        new = [name for name in figures if name not in self.columns]
        if new:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self.columns += new
            self._rewrite(rows)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow({"step": step, **figures})
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Nothing is held open."""

    def _rewrite(self, rows: Sequence[Mapping[str, str]]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, self.columns, lineterminator="\n", extrasaction="ignore")
                table.writeheader()
                table.writerows(rows)
            temporary.replace(self.path)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> TrainingError:
        return TrainingError(f"cannot write {self.path}: {error.strerror}; checkpoints are intact, resume when it can")


class TensorBoardSink:
    """Scalars for TensorBoard."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add scalars."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._writer.close()


class WandbSink:
    """A run on Weights & Biases; its id is kept in the run folder, so that a resumed run goes on with it."""

    def __init__(self, output: Path, recipe: Mapping[str, Any], name: str) -> None:
        wandb = importlib.import_module("wandb")
        remembered = output / "wandb_id.txt"
        identifier = remembered.read_text(encoding="utf-8").strip() if remembered.is_file() else None
        self._run = wandb.init(
            project="vlpart", name=name, dir=str(output), config=dict(recipe), id=identifier, resume="allow"
        )
        remembered.write_text(f"{self._run.id}\n", encoding="utf-8")

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log figures."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()
