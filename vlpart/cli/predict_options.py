"""The options of `vlpart predict`, by what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlpart.cli.completion import complete_formats, complete_models, complete_vocabularies
from vlpart.errors import VlpartError

_MODEL = "Model"
_IMAGES = "Images"
_OUTPUT = "Output"
_DRAWING = "Pictures"
_VIDEO = "Videos"


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


class Colours(StrEnum):
    """Choices of --colours."""

    OBJECT = "object"
    INSTANCE = "instance"
    CLASS = "class"
    PART = "part"


def checked_formats(values: list[str] | None) -> list[str] | None:
    """Repeated and comma-separated values as one checked list."""
    if not values:
        return None
    from vlpart.inference.output import check_formats

    names = [name.strip().lower() for value in values for name in value.split(",") if name.strip()]
    try:
        return list(check_formats(names))
    except VlpartError as error:
        raise typer.BadParameter(str(error)) from error


def checked_engine(model: object, engine: EngineChoice | None) -> str | None:
    """What shall compute a model, by name; torch alone computes what is no exported file."""
    from vlpart.export.engines import check_engine

    name = None if engine is None else engine.value
    try:
        check_engine(model, name)
    except VlpartError as error:
        raise typer.BadParameter(str(error), param_hint="--engine") from error
    return name


def parsed_shard(value: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8)."""
    if value is None:
        return 1, 1
    number, _, count = value.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"'{value}' is no share of the images: write 1/8 to 8/8", param_hint="--shard")
    return int(number), int(count)


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="Image files, folders, globs or http(s) addresses; videos, rtsp:// addresses, 0 for the first webcam; - "
        "is an image from standard input, `sample` the photo that comes with the package.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Model name (`vlpart models list`), weight file, run folder, or exported file. Default: tiny, or what "
        "--weights is.",
        autocompletion=complete_models,
        rich_help_panel=_MODEL,
    ),
]
Weights = Annotated[
    Path | None, typer.Option(help="Local weight file instead of the download.", rich_help_panel=_MODEL)
]
Words = Annotated[
    str | None,
    typer.Option(
        "--vocabulary",
        "-v",
        help="What to look for: 'car: wheel, door; dog head', a list of `vlpart vocabularies list`, or a file.",
        autocompletion=complete_vocabularies,
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps. Default: cuda where there is one, else cpu; mps only when asked for.",
        rich_help_panel=_MODEL,
    ),
]
Precision = Annotated[PrecisionChoice, typer.Option(help="Of the computation.", rich_help_panel=_MODEL)]
EngineName = Annotated[
    EngineChoice | None,
    typer.Option(
        "--engine",
        help="What computes an exported file (`vlpart export`). Default: onnxruntime for .onnx, openvino for .xml, "
        "else torch.",
        rich_help_panel=_MODEL,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        "-t",
        min=0,
        max=1,
        help="Lowest score to keep. Default: 0.45 for one name, more for many; 0.53 for 350.",
        rich_help_panel=_MODEL,
    ),
]
Overlap = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Drop what overlaps a better detection of any name by so much; 1: nothing.",
        rich_help_panel=_MODEL,
    ),
]
Nested = Annotated[
    bool,
    typer.Option("--keep-nested", help="Keep detections inside a better one of the same name.", rich_help_panel=_MODEL),
]
Objects = Annotated[
    Path | None,
    typer.Option(
        help="Find the parts of the objects in this COCO file (or data set of another form), and nothing else.",
        rich_help_panel=_MODEL,
    ),
]
Like = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]PHOTO@REGION",
        help="Find more like this: a region of a photo, 'wheel=photo.jpg@10,20,60,70' (x0,y0,x1,y1 in pixels) or "
        "'photo.jpg@mask.png'; may be repeated, and goes with --vocabulary.",
        rich_help_panel=_MODEL,
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="PHRASE",
        help="Keep only this, objects with their parts: 'left wheel of the second car', 'largest person'.",
        rich_help_panel=_MODEL,
    ),
]
MaxDetections = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Most detections per image.", rich_help_panel=_MODEL)
]
ShortSide = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Shorter side of the network input, pixels.", rich_help_panel=_IMAGES),
]
MaxSide = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Limit of the longer side, pixels.", rich_help_panel=_IMAGES)
]
MaxPixels = Annotated[
    int | None, typer.Option(min=0, help="Refuse larger images; 0: no limit.", rich_help_panel=_IMAGES)
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Go into subfolders.", rich_help_panel=_IMAGES)]
Batch = Annotated[
    int, typer.Option(min=1, help="Images per forward pass, at most; a CPU takes fewer.", rich_help_panel=_IMAGES)
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results; - is standard output.", rich_help_panel=_OUTPUT)
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        "-f",
        help="image, json, jsonl (a line per image), coco, labels (PNG label maps), labelme, yolo, crops, cutouts "
        "(transparent PNG); repeat or separate with commas. Default: image,json; with -o - jsonl.",
        callback=checked_formats,
        autocompletion=complete_formats,
        rich_help_panel=_OUTPUT,
    ),
]
Labels = Annotated[bool, typer.Option("--labels/--no-labels", help="Names.", rich_help_panel=_DRAWING)]
Scores = Annotated[
    bool, typer.Option("--scores/--no-scores", help="Scores behind the names.", rich_help_panel=_DRAWING)
]
Masks = Annotated[
    bool,
    typer.Option("--masks/--no-masks", help="Masks; boxes are drawn instead of them.", rich_help_panel=_DRAWING),
]
Boxes = Annotated[bool, typer.Option("--boxes", help="Boxes too.", rich_help_panel=_DRAWING)]
ColourChoice = Annotated[
    Colours,
    typer.Option(
        "--colours",
        "--colors",
        help="object: an object and its parts go together; instance: all differ; class, part: by name.",
        rich_help_panel=_DRAWING,
    ),
]
LineWidth = Annotated[
    float | None, typer.Option(min=0.5, max=200, help="Of contours, pixels.", rich_help_panel=_DRAWING)
]
FontSize = Annotated[float | None, typer.Option(min=4, max=500, help="Of names, pixels.", rich_help_panel=_DRAWING)]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing", help="Leave out images whose results are there.", rich_help_panel=_OUTPUT),
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.", rich_help_panel=_OUTPUT)]
Slices = Annotated[
    int | None,
    typer.Option(
        min=64,
        max=1_000_000,
        help="For large images: look at overlapping tiles of so many pixels too, and merge what they show.",
        rich_help_panel=_IMAGES,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only every N-th image, from the I-th on: for N processes with one output folder. With --skip-existing it "
        "can be run again.",
        rich_help_panel=_IMAGES,
    ),
]
Stride = Annotated[int, typer.Option(min=1, help="Every so many frames.", rich_help_panel=_VIDEO)]
Start = Annotated[float, typer.Option(min=0, help="Second of the video to begin at.", rich_help_panel=_VIDEO)]
End = Annotated[float | None, typer.Option(min=0, help="Second of the video to end at.", rich_help_panel=_VIDEO)]
Smoothing = Annotated[
    float,
    typer.Option(min=0, max=0.95, help="Weight of earlier frames in boxes and masks; 0: none.", rich_help_panel=_VIDEO),
]
