"""Evaluate the models of the catalogue on the benchmarks, one after the other, reusing what was done before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vlpart.evaluation.benchmarks import Benchmark
from vlpart.evaluation.distributed import Group, local_device
from vlpart.evaluation.run import Options, Progress, open_dataset
from vlpart.evaluation.session import Request, run
from vlpart.evaluation.zoo_table import stored_figures
from vlpart.zoo.catalogue import ModelEntry


class ZooRunner:
    """Measures pairs of model and benchmark; every one has a folder `OUTPUT/MODEL/BENCHMARK`.

    Args:
        data: folder of the benchmarks.
        output: folder for the evaluations.
        max_images: only an evenly spaced subset; such figures are kept in folders of their own.
        device, precision: arguments of `vlpart.load`.
        group: the processes that share the work.
        progress: given a description, what to call after every image.
    """

    def __init__(
        self,
        data: Path,
        output: Path,
        *,
        max_images: int | None = None,
        device: str | None = None,
        precision: str = "auto",
        group: Group | None = None,
        progress: Callable[[str], Progress] | None = None,
    ) -> None:
        self.data, self.max_images, self.device, self.precision = data, max_images, device, precision
        self.output = output if max_images is None else output / f"sample-{max_images}"
        self.group, self.progress = group or Group(), progress
        self._loaded: tuple[str, Any] | None = None

    def figures(self, entry: ModelEntry, benchmark: Benchmark) -> Mapping[str, float]:
        """The headline in 0..1, from an earlier evaluation or a new one.

        Raises:
            VlpartError: whatever loading, predicting or scoring raises.
        """
        stored = self.group.from_first(stored_figures(self.output, entry, benchmark))
        if stored is not None:
            return stored
        file, images = benchmark.locate(self.data)
        request = Request(
            dataset=open_dataset(file, images, benchmark, max_images=self.max_images),
            title=f"{entry.name} on {benchmark.title}",
            predictor=self._predictor(entry),
            options=Options(key={"precision": self.precision, "max_images": self.max_images}),
            output=self.output / entry.name / benchmark.name,
        )
        outcome = run(request, group=self.group, progress=self.progress)
        return self.group.from_first({} if outcome is None else dict(outcome.headline))

    def _predictor(self, entry: ModelEntry) -> Any:
        """The model, kept until another one is asked for."""
        from vlpart.predictor import load

        if self._loaded is None or self._loaded[0] != entry.name:
            self._loaded = None  # gives the memory back first
            self._loaded = entry.name, load(entry.name, device=self.device or local_device(), precision=self.precision)
        return self._loaded[1]
