"""What a run says while it runs: `log.jsonl` (every step), lines for people, and other sinks: a CSV table, TensorBoard,
Weights & Biases.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from vlpart.errors import TrainingError
from vlpart.files import MAX_JSON_BYTES, is_there, read_regular, why
from vlpart.jobs import Progress

Say = Callable[[str], object]
"""Called with one line for people."""


class RunLog:
    """Append-only JSON lines in `<run>/log.jsonl`, one object per event, flushed at once.

    Opened for a run that resumes at step S, it drops the records of steps after S (they are computed again).
    """

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_log(path) if record["step"] <= resume_step] if resume_step else []
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
            temporary.replace(path)
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"cannot write {path}: {error.strerror}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. It needs a key "step".

        Raises:
            TrainingError: the disk is full.
        """
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"cannot write {self.path}: {error.strerror}; checkpoints are intact, free some space and resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a `log.jsonl`; a line cut off by a kill, or that is no record with a step, is left out.

    Raises:
        TrainingError: there is something of that name that cannot be read.
    """
    if not is_there(path):
        return []
    try:
        lines = read_regular(path, MAX_JSON_BYTES).splitlines()
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {why(error)}") from error
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records


def resident_mib() -> float:
    """Resident memory of this process in MiB (peak where the present value is not offered); 0 where neither is."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        try:
            import resource
        except ImportError:
            return 0.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return pages * 4096 / 2**20


class StepLines:
    """A line for people every `every` steps, and the progress of every one.

    Args:
        start, total: steps done before, and of the whole run.
        every: steps between two lines.
        say: takes the lines; None is mute.
        progress: told about every step.
    """

    def __init__(
        self, start: int, total: int, every: int, say: Say | None = None, progress: Progress | None = None
    ) -> None:
        self.start, self.total, self.every = start, total, every
        self._say, self._progress = say, progress
        self._began = time.monotonic()
        self._recent: list[Mapping[str, Any]] = []

    def step(self, record: Mapping[str, Any]) -> None:
        """Tell about one step record of the log."""
        self._recent.append(record)
        done = int(record["step"])
        if self._progress is not None:
            self._progress("training", done, self.total)
        if done % self.every and done != self.total:
            return
        left = (time.monotonic() - self._began) / max(done - self.start, 1) * (self.total - done)
        self.line(f"step {done}/{self.total}  {self._summary()}  left {left / 60:.0f} min")
        self._recent.clear()

    def line(self, text: str) -> None:
        """Say one line."""
        if self._say is not None:
            self._say(text)

    def _summary(self) -> str:
        """Means since the last line."""
        recent = self._recent
        images, seconds = (sum(r[key] for r in recent) for key in ("images", "seconds"))
        losses: dict[str, list[float]] = {}
        for record in recent:
            for name, value in record["losses"].items():
                losses.setdefault(name, []).append(value)
        parts = [f"loss {_mean([r['loss'] for r in recent]):.3f}"]
        parts += [f"{name.removeprefix('loss_')} {_mean(values):.3f}" for name, values in losses.items()]
        parts += [
            f"lr {recent[-1]['lr']:.2e}",
            f"grad {_mean([r['grad_norm'] for r in recent]):.2f}",
            f"{images / max(seconds, 1e-9):.2f} img/s",
            f"{recent[-1]['memory_mib'] / 1024:.2f} GiB",
        ]
        if "device_memory_mib" in recent[-1]:
            parts.append(f"GPU {recent[-1]['device_memory_mib'] / 1024:.2f} GiB")
        return "  ".join(parts)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


class Recorder:
    """Log, sinks and lines of a run together, as a context; `Recorder()` alone is mute.

    Args:
        log: None in processes that do not write.
        lines: None likewise.
        sinks: closed at the end.
    """

    def __init__(self, log: RunLog | None = None, lines: StepLines | None = None, sinks: Sequence[Sink] = ()) -> None:
        self.log, self.lines, self.sinks = log, lines, sinks

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self.sinks:
            sink.close()
        if self.log is not None:
            self.log.close()

    def record(self, record: Mapping[str, Any]) -> None:
        """Write the record of a step or an evaluation everywhere."""
        if self.log is not None:
            self.log.write(record)
        for sink in self.sinks:
            sink.write(int(record["step"]), flat(record))
        if self.lines is not None and record["event"] == "step":
            self.lines.step(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Write a record that is no figure of a step into the log alone."""
        if self.log is not None:
            self.log.write(record)

    def line(self, text: str) -> None:
        """One line for people."""
        if self.lines is not None:
            self.lines.line(text)


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
    numbers: dict[str, float] = {}
    for key, value in record.items():
        if key in ("step", "event"):
            continue
        if isinstance(value, Mapping):
            numbers |= {f"{key}/{name}": float(number) for name, number in value.items()}
        elif isinstance(value, int | float):
            numbers[prefix + key] = float(value)
    return numbers


def check_sinks(names: Iterable[str]) -> list[str]:
    """Which sinks a run can have, before anything of it is written.

    Args:
        names: out of `SINKS`; "tensorboard?" asks for it only where it is installed.

    Returns:
        The names without question marks, those that are not installed left out.

    Raises:
        TrainingError: an unknown name, or a package that is not installed.
    """
    installed = []
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
            installed.append(plain)
    return installed


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
            names, whole = self._read()
            rows = [row for row in whole if None not in row.values() and row["step"].isdecimal()]
            rows = [row for row in rows if len(row["step"]) < 20 and int(row["step"]) <= step]
            self.columns = names or self.columns
        self._rewrite(rows)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a row."""
        new = [name for name in figures if name not in self.columns]
        if new:
            _, rows = self._read()
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

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and rows that are there; rows cut off have None."""
        try:
            text = read_regular(self.path, MAX_JSON_BYTES).decode("utf-8")
            table = csv.DictReader(io.StringIO(text, newline=""))
            rows = [row for row in table if None not in row]
        except (OSError, ValueError, csv.Error) as error:
            raise TrainingError(f"cannot read {self.path}: {why(error)}; move it away") from error
        names = list(table.fieldnames or [])
        if names and "step" not in names:
            raise TrainingError(f"cannot read {self.path}: it has no column 'step'; move it away")
        return names, rows

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


def _remembered(path: Path) -> str | None:
    """The id in a file of one line, or None if there is none."""
    try:
        return read_regular(path, 1000).decode("ascii").strip() or None
    except (OSError, ValueError):
        return None


class WandbSink:
    """A run on Weights & Biases; its id is kept in the run folder, so that a resumed run goes on with it."""

    def __init__(self, output: Path, recipe: Mapping[str, Any], name: str) -> None:
        wandb = importlib.import_module("wandb")
        remembered = output / "wandb_id.txt"
        identifier = _remembered(remembered)
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
