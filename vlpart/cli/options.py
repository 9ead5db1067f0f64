"""Options that several commands share: each is written once, and so is a set of them that goes together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from vlpart.errors import VlpartError

MODEL = "Model"
IMAGES = "Images"
OUTPUT = "Output"


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer, of one whose parameters may be dataclasses of options: each field is an option.

    Called from Python, it takes the options by keyword.
    """
    groups: dict[str, tuple[Any, list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        group, fields = hints[name], [parameter]
        if isinstance(group, type) and is_dataclass(group):
            fields = list(inspect.signature(group).parameters.values())
            groups[name] = group, [field.name for field in fields]
            hints = {**hints, **get_type_hints(group, include_extras=True)}
        parameters += [
            field.replace(annotation=hints[field.name], kind=inspect.Parameter.KEYWORD_ONLY) for field in fields
        ]

    @wraps(command)
    def grouped(**given: Any) -> None:
        """The command with its groups filled."""
        for name, (group, fields) in groups.items():
            given[name] = group(**{field: given.pop(field) for field in fields if field in given})
        command(**given)

    grouped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer looks at
    grouped.__annotations__ = {each.name: each.annotation for each in parameters}
    return grouped


# ---- what a shell offers after Tab (`vlpart --install-completion`)


def _starting(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]


def complete_models(incomplete: str) -> list[str]:
    """Models of the catalogue, and run folders below `runs/`."""
    from pathlib import Path

    from vlpart.zoo.catalogue import list_models

    runs = sorted(path.parent.as_posix() for path in Path("runs").glob("*/recipe.json"))
    return _starting([*(entry.name for entry in list_models()), *runs], incomplete)


def complete_recipes(incomplete: str) -> list[str]:
    """Recipes of `vlpart recipes list`."""
    from vlpart.recipes import FINETUNE, RECIPES

    return _starting([*RECIPES, FINETUNE], incomplete)


def complete_vocabularies(incomplete: str) -> list[str]:
    """Lists of `vlpart vocabularies list`."""
    from vlpart.text.vocabulary import Vocabulary

    return _starting(Vocabulary.available(), incomplete)


def complete_formats(incomplete: str) -> list[str]:
    """Output formats; after a comma those that are not named yet."""
    from vlpart.inference.output import FORMATS

    *named, last = incomplete.split(",")
    return [",".join([*named, name]) for name in FORMATS if name.startswith(last) and name not in named]


# ---- options


class PrecisionChoice(StrEnum):
    """Choices of --precision."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BF16 = "bf16"


class EngineChoice(StrEnum):
    """Choices of --engine."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


def checked_engine(model: object, engine: EngineChoice | None) -> str | None:
    """What shall compute a model, by name; torch alone computes what is no exported file."""
    from vlpart.export.engines import check_engine

    name = None if engine is None else engine.value
    try:
        check_engine(model, name)
    except VlpartError as error:
        raise typer.BadParameter(str(error), param_hint="--engine") from error
    return name


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Model name (`vlpart models list`), weight file, run folder, or exported file. Default: tiny, or what "
        "--weights is.",
        autocompletion=complete_models,
        rich_help_panel=MODEL,
    ),
]
Weights = Annotated[Path | None, typer.Option(help="Local weight file instead of the download.", rich_help_panel=MODEL)]
Words = Annotated[
    str | None,
    typer.Option(
        "--vocabulary",
        "-v",
        help="What to look for: 'car: wheel, door; dog head', a list of `vlpart vocabularies list`, or a file.",
        autocompletion=complete_vocabularies,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps. Default: cuda where there is one, else cpu; mps only when asked for.",
        rich_help_panel=MODEL,
    ),
]
Precision = Annotated[PrecisionChoice, typer.Option(help="Of the computation.", rich_help_panel=MODEL)]
EngineName = Annotated[
    EngineChoice | None,
    typer.Option(
        "--engine",
        help="What computes an exported file (`vlpart export`). Default: onnxruntime for .onnx, openvino for .xml, "
        "else torch.",
        rich_help_panel=MODEL,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        "-t",
        min=0,
        max=1,
        help="Lowest score to keep. Default: 0.42 for one name, more for many; 0.5 for 400.",
        rich_help_panel=MODEL,
    ),
]
Overlap = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Drop what overlaps a better detection of any name by so much; 1: nothing.",
        rich_help_panel=MODEL,
    ),
]
Nested = Annotated[
    bool,
    typer.Option("--keep-nested", help="Keep detections inside a better one of the same name.", rich_help_panel=MODEL),
]
MaxDetections = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Most detections per image.", rich_help_panel=MODEL)
]
ShortSide = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Shorter side of the network input, pixels.", rich_help_panel=IMAGES),
]
MaxSide = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Limit of the longer side, pixels.", rich_help_panel=IMAGES)
]
MaxPixels = Annotated[
    int | None, typer.Option(min=0, help="Refuse larger images; 0: no limit.", rich_help_panel=IMAGES)
]
Slices = Annotated[
    int | None,
    typer.Option(
        min=64,
        max=1_000_000,
        help="For large images: look at overlapping tiles of so many pixels too, and merge what they show.",
        rich_help_panel=IMAGES,
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Go into subfolders.", rich_help_panel=IMAGES)]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.", rich_help_panel=OUTPUT)]


@dataclass(frozen=True, kw_only=True)
class Detecting:
    """What is looked for in images, with which model, and what is kept of it."""

    model: Model = None
    weights: Weights = None
    vocabulary: Words = None
    device: Device = None
    precision: Precision = PrecisionChoice.AUTO
    engine: EngineName = None
    threshold: Threshold = None
    iou: Overlap = 0.7
    nested: Nested = False
    max_detections: MaxDetections = None
    short_side: ShortSide = None
    max_side: MaxSide = None
    max_pixels: MaxPixels = None
    slices: Slices = None

    @property
    def kept_iou(self) -> float | None:
        """The overlap from which on the worse of two detections goes; None: none does."""
        return None if self.iou == 1 else self.iou

    @property
    def most_pixels(self) -> int | None:
        """Pixels of an image from which on it is refused; None: none is."""
        from vlpart.data.images import MAX_PIXELS

        return MAX_PIXELS if self.max_pixels is None else self.max_pixels or None
