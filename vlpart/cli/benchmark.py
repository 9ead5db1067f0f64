"""`vlpart benchmark`: what things cost on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlpart.cli.console import print_table, say
from vlpart.cli.options import complete_models

if TYPE_CHECKING:
    import torch

    from vlpart.inference.predictor import Predictor

_PHOTOS = ((640, 480), (1280, 960), (4000, 3000))  # width, height
_SHARES = (0.5, 1.5)  # of the model's own input size
_NAMES = (1, 100, 1000)
_BATCH = 2  # images in a training step


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: is done, in words.
        seconds: by the clock, the least of the runs.
        cpu_seconds: of all threads together in that run: more than the clock says, where several compute.
        mebibytes: that the process took at most, where it was a process of its own.
    """

    what: str
    seconds: float
    cpu_seconds: float
    mebibytes: float | None = None


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("benchmark")(benchmark)


def benchmark(
    model: Annotated[
        str, typer.Argument(help="Model name, weight file or run folder.", autocompletion=complete_models)
    ] = "tiny",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: CUDA if there is one.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, of which the fastest counts.")] = 3,
    every_precision: Annotated[
        bool, typer.Option("--every-precision", help="Measure bf16 even where no instructions make it fast.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What predicting and training cost on this machine.

    A cold start, a photo by its size, by the size of the network's input and by the number of names, a training step,
    and which precision is fastest. The clock and the processor's time tell each other apart where other programs run.
    """
    from vlpart.zoo.resolve import resolve

    resolve(model)  # what is not there is said before anything is measured
    machine = _machine(device)
    if not as_json:
        say("  ".join(f"{name}: {value}" for name, value in machine.items()))
    rows = []
    for row in _measured(model, device, runs, every_precision):
        rows.append(row)
        if sys.stderr is not None and sys.stderr.isatty():
            say(f"{row.what}: {row.seconds:.3g} s", err=True)
    if as_json:
        typer.echo(json.dumps({"machine": machine, "model": model, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    headings = ("what", "seconds", "CPU seconds", "MiB")
    cells = [
        (
            row.what,
            f"{row.seconds:.3g}",
            f"{row.cpu_seconds:.3g}",
            "" if row.mebibytes is None else f"{row.mebibytes:.0f}",
        )
        for row in rows
    ]
    print_table(headings, cells, right=headings[1:])
    for kind in ("photo", "training step"):
        say(_fastest(kind, rows))


def _machine(device: str | None) -> dict[str, str]:
    import platform

    import torch

    from vlpart.runtime import bf16_instructions, choose_device

    chosen = choose_device(device)
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "processor": processor,
        "threads": str(torch.get_num_threads()),
        "bf16 instructions": ", ".join(bf16_instructions()) or "none",
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen),
        "torch": torch.__version__,
    }


def _measured(model: str, device: str | None, runs: int, every_precision: bool) -> Iterator[Row]:
    from vlpart.inference.predictor import load
    from vlpart.runtime import training_precision

    yield _cold(model, device)
    predictor = load(model, device=device)
    yield from _photos(predictor, runs)
    yield from _names(predictor, runs)
    precisions: list[Literal["float32", "bf16"]] = ["float32"]
    if every_precision or training_precision("auto", predictor.device)[0] == "bf16":
        precisions.append("bf16")
    for precision in precisions:
        other = load(model, device=device, precision=precision)
        yield _timed(f"photo, {precision}", partial(other, _photo(640, 480)), runs, predictor.device)
    for precision in precisions:
        step = _training_step(predictor, precision)
        yield _timed(f"training step, {_BATCH} images, {precision}", step, runs, predictor.device)


def _cold(model: str, device: str | None) -> Row:
    """A whole command in a process of its own, after one that fills the caches of the system."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vlpart", "predict", "sample", "--model", model, "--output", folder]
        command += ["--device", device] if device else []
        for _ in range(2):
            began, before = time.perf_counter(), _children()
            subprocess.run(command, check=True, capture_output=True)
            seconds, after = time.perf_counter() - began, _children()
    return Row("vlpart predict, cold", seconds, after[0] - before[0], after[1])


def _children() -> tuple[float, float | None]:
    """CPU seconds and the highest memory (MiB) of processes that were started; not known on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan"), None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 2**20


def _photos(predictor: Predictor, runs: int) -> Iterator[Row]:
    """By the size of the photo, which is scaled to the size of the input, and by that size."""
    for width, height in _PHOTOS:
        photo = _photo(width, height)
        yield _timed(f"photo of {width}x{height}", partial(predictor, photo), runs, predictor.device)
    own, photo = predictor.defaults.short_side, _photo(1280, 960)
    for share in _SHARES:
        side = round(own * share)
        work = partial(predictor, photo, short_side=side)
        yield _timed(f"photo, input of {side} instead of {own}", work, runs, predictor.device)


def _names(predictor: Predictor, runs: int) -> Iterator[Row]:
    """By the number of names, whose vectors are there already."""
    import numpy as np

    from vlpart.text.vocabulary import Vocabulary

    photo, length = _photo(640, 480), predictor.embed(predictor.vocabulary).shape[1]
    for count in _NAMES:
        vectors = np.random.default_rng(0).standard_normal((count, length))
        names = Vocabulary.from_embeddings([f"thing {i}" for i in range(count)], vectors)
        yield _timed(f"photo, {count:,} names", partial(predictor, photo, names), runs, predictor.device)


def _photo(width: int, height: int) -> Any:
    """The photo of the package, scaled."""
    import numpy as np
    from PIL import Image

    sample = Path(__file__).parents[1] / "assets" / "samples" / "astronaut.jpg"
    with Image.open(sample) as image:
        return np.asarray(image.convert("RGB").resize((width, height)))


def _training_step(predictor: Predictor, precision: Literal["float32", "bf16"]) -> Callable[[], object]:
    """A step on images of noise with a few boxes and masks, of the model's architecture and input size."""
    import torch

    from vlpart.data.source import Source
    from vlpart.losses.by_kind import compute_losses
    from vlpart.losses.options import LossOptions
    from vlpart.models.build import build_detector
    from vlpart.models.config import get_architecture
    from vlpart.runtime import World
    from vlpart.training.recipe import Recipe
    from vlpart.training.step import Stepper
    from vlpart.types import AnnotationKind, Batch, ImageBatch, Targets

    device, sizes = predictor.device, get_architecture(predictor.architecture)
    detector = build_detector(sizes, mask_on=predictor.mask_on).to(device).train()
    text = torch.nn.functional.normalize(torch.randn(80, sizes.text_dim, device=device), dim=1)
    side = -(-predictor.defaults.short_side // 32) * 32
    masks = torch.zeros(4, side, side, dtype=torch.bool, device=device)
    boxes = (
        torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.2, 0.2, 0.3, 0.3], [0.5, 0.4, 0.9, 0.9], [0.6, 0.5, 0.7, 0.7]]) * side
    )
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    target = Targets(
        boxes_xyxy=boxes.to(device),
        labels=torch.arange(4, device=device),
        masks=masks if predictor.mask_on else None,
        image_labels=torch.zeros(0, dtype=torch.int64, device=device),
    )
    images = ImageBatch(pixels=torch.randn(_BATCH, 3, side, side, device=device), sizes_hw=[(side, side)] * _BATCH)
    batch = Batch(images=images, targets=[target] * _BATCH, source="made up", kind=AnnotationKind.PARTS)
    recipe = Recipe(
        name="benchmark",
        architecture=predictor.architecture,
        text_encoder="static",
        sources=(Source(name="made up", annotations="none", images="none"),),
        iterations=1,
        precision=precision,
    )
    stepper = Stepper(
        recipe, detector, lambda b: compute_losses(detector, b, text, LossOptions()), World(device=str(device))
    )
    return lambda: stepper([batch])


def _timed(what: str, work: Callable[[], object], runs: int, device: torch.device) -> Row:
    """The fastest of some runs, after one that warms up."""
    import torch

    timings = []
    for _ in range(runs + 1):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        timings.append((time.perf_counter() - began, time.process_time() - cpu))
    return Row(what, *min(timings[1:]))


def _fastest(kind: str, rows: list[Row]) -> str:
    """Which precision is, of those measured."""
    measured = {row.what.rpartition(", ")[2]: row.seconds for row in rows if row.what.startswith(f"{kind}, ")}
    measured = {name: seconds for name, seconds in measured.items() if name in ("float32", "bf16")}
    best = min(measured, key=measured.__getitem__)
    if len(measured) == 1:
        return f"{kind}: {best} (no instructions for bf16 here, which is many times slower then)"
    other = max(measured.values()) / measured[best]
    return f"{kind}: {best} is fastest, {other:.2f} times as fast as the other precision"
