"""The published tables again: the models of the catalogue evaluated on the benchmarks one after the other, and every
figure of the paper beside ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlpart.errors import DataError, EvaluationError, VlpartError
from vlpart.evaluation.benchmarks import BENCHMARKS, Benchmark
from vlpart.evaluation.dataset import open_dataset
from vlpart.evaluation.run import Options
from vlpart.evaluation.session import Request, asked_with, run
from vlpart.files import cache_folder, read_json, write_file
from vlpart.jobs import Progress
from vlpart.runtime import World, local_device
from vlpart.zoo.catalogue import ModelEntry, get_model, list_models

#: (model, benchmark) -> headline figures in 0..1 by label; raises `VlpartError`.
Evaluate = Callable[[ModelEntry, Benchmark], Mapping[str, float]]

_TITLES = {
    "VOC": "voc",
    "COCO": "coco",
    "LVIS": "lvis",
    "PartImageNet": "partimagenet",
    "Pascal Part": "pascal_part",
    "PACO": "paco",
}
_BY_TABLE = {"PartImageNet, cross-dataset": "partimagenet", "Pascal Part, cross-category": "pascal_part"}
_SECOND = {"AP50": "AP50", "APr": "APr"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of a published table.

    Attributes:
        table, row, model: where it stands.
        benchmark: what it was measured on.
        label: of the figure in the benchmark's headline ("AP", "base AP50", "dog head AP50").
        published: percent.
        ours: percent, or None.
        missing: why there is none: "weights", "data", or the message of an error.
    """

    table: str
    row: str
    model: str
    benchmark: str
    label: str
    published: float
    ours: float | None = None
    missing: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published figure, in percent points."""
        return None if self.ours is None else self.ours - self.published


@dataclass(frozen=True, kw_only=True)
class ZooTable:
    """All cells, and by name what was not there to fill them."""

    cells: tuple[Cell, ...]
    missing_weights: tuple[str, ...] = ()
    missing_data: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [{**vars(cell), "difference": cell.difference} for cell in self.cells]
        missing = {"weights": list(self.missing_weights), "data": dict(self.missing_data), "failed": dict(self.failed)}
        return {"cells": rows, "missing": missing}


def published_cells(models: Sequence[str] | None = None, benchmarks: Sequence[str] | None = None) -> tuple[Cell, ...]:
    """Every published figure of the catalogue, without ours.

    Args:
        models, benchmarks: names to keep; None keeps all.

    Raises:
        ModelNotFoundError: no such model.
        DataError: no such benchmark, or a metric of the catalogue that no benchmark reports.
    """
    entries = [get_model(name) for name in models] if models else [e for e in list_models() if not e.embedded]
    if benchmarks and (unknown := set(benchmarks) - set(_TITLES.values())):
        raise DataError(f"the published tables have no benchmark {min(unknown)!r}: {', '.join(_TITLES.values())}")
    cells = (cell for entry in entries for cell in _cells_of(entry))
    return tuple(cell for cell in cells if not benchmarks or cell.benchmark in benchmarks)


def _cells_of(entry: ModelEntry) -> Iterator[Cell]:
    for result in entry.published:
        for metric, value in result.metrics.items():
            name, labels = _labels(result.table, metric)
            values = value if isinstance(value, tuple) else (value,)
            for label, figure in zip(labels, values, strict=True):
                yield Cell(
                    table=result.table,
                    row=result.row,
                    model=entry.name,
                    benchmark=name,
                    label=label,
                    published=float(figure),
                )


def _labels(table: str, metric: str) -> tuple[str, list[str]]:
    """(benchmark, labels of its headline) of a metric: "VOC AP/AP50", "Base(77) AP/AP50", "dog head"."""
    name, _, measures = metric.partition(" AP")
    benchmark = _TITLES.get(name) or _BY_TABLE.get(table)
    if benchmark is None:
        raise DataError(f"no benchmark reports the published metric {metric!r} of the table {table!r}")
    headline = BENCHMARKS[benchmark].headline
    if " AP" not in metric:  # a single class
        labels = [label for label in headline if label.startswith(f"{metric} ")]
    else:
        group = name.partition("(")[0].lower()
        prefix = {"base": "base ", "novel": "novel "}.get(group, "parts " if benchmark == "paco" else "")
        seconds = [_SECOND[part] for part in measures.split("/")[1:]]
        labels = [f"{prefix}{measure}" for measure in ("AP", *seconds)]
    if not labels or not set(labels) <= set(headline):
        raise DataError(f"the benchmark {benchmark} does not report {metric!r}")
    return benchmark, labels


def weights_present(entry: ModelEntry) -> bool:
    """Whether the weights of a model are on this machine."""
    from vlpart.zoo.catalogue import ASSETS

    return ((ASSETS if entry.embedded else cache_folder() / "models") / entry.file_name).is_file()


def fill(cells: Sequence[Cell], data: Path | None, evaluate: Evaluate, *, keep_going: bool = True) -> ZooTable:
    """Put our figures beside the published ones wherever weights and data are here.

    Args:
        cells: from `published_cells`.
        data: folder of the benchmarks, see `vlpart.evaluation.benchmarks`; None counts all data as missing.
        evaluate: measures one model on one benchmark; called once for each pair.
        keep_going: note an error and go on with the next pair.
    """
    figures: dict[tuple[str, str], Mapping[str, float] | str] = {}
    missing_data: dict[str, str] = {}
    missing_weights: list[str] = []
    failed: dict[str, str] = {}
    filled = []
    for cell in cells:
        pair = (cell.model, cell.benchmark)
        if pair not in figures:
            entry, benchmark = get_model(cell.model), BENCHMARKS[cell.benchmark]
            problem = _missing_data(benchmark, data)
            if problem:
                missing_data[benchmark.name] = problem
            if not weights_present(entry) and entry.name not in missing_weights:
                missing_weights.append(entry.name)
            reasons = ["weights"] * (entry.name in missing_weights) + ["data"] * bool(problem)
            figures[pair] = " and ".join(reasons) or _measured(entry, benchmark, evaluate, failed, keep_going)
        found = figures[pair]
        ours = None if isinstance(found, str) else found.get(cell.label)
        usable = ours is not None and ours == ours
        reason = found if isinstance(found, str) else "" if usable else "not reported"
        value = 100 * ours if usable and ours is not None else None
        filled.append(Cell(**{**vars(cell), "ours": value, "missing": reason}))
    return ZooTable(
        cells=tuple(filled), missing_weights=tuple(missing_weights), missing_data=missing_data, failed=failed
    )


def _missing_data(benchmark: Benchmark, data: Path | None) -> str:
    if data is None:
        return "no data folder was given (--data)"
    try:
        benchmark.locate(data)
    except DataError as error:
        return str(error)
    return ""


def _measured(
    entry: ModelEntry,
    benchmark: Benchmark,
    evaluate: Evaluate,
    failed: dict[str, str],
    keep_going: bool,
) -> Mapping[str, float] | str:
    try:
        return evaluate(entry, benchmark)
    except VlpartError as error:
        if not keep_going:
            raise
        failed[f"{entry.name} on {benchmark.name}"] = str(error)
        return "failed"


def stored_figures(
    folder: Path, entry: ModelEntry, benchmark: Benchmark, options: Options | None = None
) -> dict[str, float] | None:
    """The headline of an earlier evaluation, `FOLDER/MODEL/BENCHMARK/scores.json`; None if there is none.

    Args:
        folder: output of the table.
        entry, benchmark: which evaluation.
        options: how the model would be asked now.

    Raises:
        EvaluationError: the file is damaged, or the model was asked otherwise.
    """
    path = folder / entry.name / benchmark.name / "scores.json"
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        then, now = content["settings"] or {}, asked_with(entry, benchmark, options or Options())
        names = [name for name in {**now, **then} if name != "overridden"]
        if (odd := next((name for name in names if then.get(name) != now.get(name)), None)) is not None:
            raise EvaluationError(
                f"{path} was made with {odd} {then.get(odd)}, now it would be {now.get(odd)}: delete {path.parent} to "
                "evaluate again, or give another --output"
            )
        headline = content["headline"]
        return {str(label): float("nan") if value is None else float(value) for label, value in headline.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} is damaged: delete it to evaluate again") from error


def to_markdown(table: ZooTable) -> str:
    """One table per published table: ours / published (difference), and a list of what is missing."""
    lines = ["# Published figures and ours", ""]
    lines.append("Percent. Each cell: ours / published (difference); a dash where we have no figure yet.")
    for name in dict.fromkeys(cell.table for cell in table.cells):
        lines += ["", f"## {name[0].upper()}{name[1:]}", ""]
        lines += _markdown_table([cell for cell in table.cells if cell.table == name])
    lines += ["", "## Missing", ""]
    lines += [f"* weights of `{name}`: `vlpart models download {name}`" for name in table.missing_weights]
    lines += [
        f"* data of `{name}`: {problem.removeprefix(f'{name}: ')}" for name, problem in table.missing_data.items()
    ]
    lines += [f"* `{name}` failed: {problem}" for name, problem in table.failed.items()]
    if lines[-1] == "":
        lines.append("Nothing.")
    return "\n".join(lines) + "\n"


def _markdown_table(cells: Sequence[Cell]) -> list[str]:
    columns = list(dict.fromkeys((cell.benchmark, cell.label) for cell in cells))
    rows = list(dict.fromkeys((cell.model, cell.row) for cell in cells))
    several = len({benchmark for benchmark, _ in columns}) > 1
    heads = [f"{benchmark} {label}" if several else label for benchmark, label in columns]
    lines = [f"| model | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(columns)]
    cell_of = {(cell.model, cell.row, cell.benchmark, cell.label): cell for cell in cells}
    for model, row in rows:
        texts = [_text(cell_of.get((model, row, *column))) for column in columns]
        lines.append(f"| `{model}` ({row}) | {' | '.join(texts)} |")
    return lines


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.ours is None or cell.difference is None:
        return f"– / {cell.published:.1f}"
    return f"{cell.ours:.1f} / {cell.published:.1f} ({cell.difference:+.1f})"


def write_tables(table: ZooTable, folder: Path) -> tuple[Path, Path]:
    """Write `zoo.md` and `zoo.json`.

    Raises:
        OutputError: the folder cannot be written.
    """
    text = json.dumps(table.to_dict(), indent=1) + "\n"
    return write_file(folder / "zoo.md", to_markdown(table).encode()), write_file(folder / "zoo.json", text.encode())


class ZooRunner:
    """Measures pairs of model and benchmark; every one has a folder `OUTPUT/MODEL/BENCHMARK`.

    Args:
        data: folder of the benchmarks.
        output: folder for the evaluations.
        max_images: only an evenly spaced subset; such figures are kept in folders of their own.
        device, precision: arguments of `vlpart.load`.
        group: the processes that share the work.
        progress: told about every image.
    """

    def __init__(
        self,
        data: Path,
        output: Path,
        *,
        max_images: int | None = None,
        device: str | None = None,
        precision: str = "auto",
        group: World | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.data, self.max_images, self.device, self.precision = data, max_images, device, precision
        self.output = output if max_images is None else output / f"sample-{max_images}"
        self.group, self.progress = group or World(), progress
        self._loaded: tuple[str, Any] | None = None

    def figures(self, entry: ModelEntry, benchmark: Benchmark) -> Mapping[str, float]:
        """The headline in 0..1, from an earlier evaluation or a new one.

        Raises:
            VlpartError: whatever loading, predicting or scoring raises.
        """
        options = Options(key={"precision": self.precision, "max_images": self.max_images})
        stored = self.group.from_main(stored_figures(self.output, entry, benchmark, options))
        if stored is not None:
            return stored
        file, images = benchmark.locate(self.data)
        request = Request(
            dataset=open_dataset(file, images, benchmark, max_images=self.max_images),
            title=f"{entry.name} on {benchmark.title}",
            predictor=self._predictor(entry),
            options=options,
            output=self.output / entry.name / benchmark.name,
        )
        outcome = run(request, group=self.group, progress=self.progress)
        return self.group.from_main({} if outcome is None else dict(outcome.headline))

    def _predictor(self, entry: ModelEntry) -> Any:
        """The model, kept until another one is asked for."""
        from vlpart.inference.predictor import load

        if self._loaded is None or self._loaded[0] != entry.name:
            self._loaded = None  # gives the memory back first
            self._loaded = entry.name, load(entry.name, device=self.device or local_device(), precision=self.precision)
        return self._loaded[1]
