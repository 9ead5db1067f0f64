"""The options of `vlpart predict` alone, by what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vlpart.checks import natural
from vlpart.cli.options import IMAGES, MODEL, OUTPUT, complete_formats
from vlpart.errors import VlpartError

_DRAWING = "Pictures"
_VIDEO = "Videos"


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


def parsed_shard(value: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8)."""
    if value is None:
        return 1, 1
    number, count = (natural(part) for part in value.partition("/")[::2])
    if number is None or count is None or not 1 <= number <= count:
        raise typer.BadParameter(f"'{value:.80}' is no share of the images: write 1/8 to 8/8", param_hint="--shard")
    return number, count


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="Image files, folders, globs or http(s) addresses; videos, rtsp:// addresses, 0 for the first webcam; - "
        "is an image from standard input, `sample` the photo that comes with the package.",
    ),
]
Objects = Annotated[
    Path | None,
    typer.Option(
        help="Find the parts of the objects in this COCO file (or data set of another form), and nothing else.",
        rich_help_panel=MODEL,
    ),
]
Like = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]PHOTO@REGION",
        help="Find more like this: a region of a photo, 'wheel=photo.jpg@10,20,60,70' (x0,y0,x1,y1 in pixels) or "
        "'photo.jpg@mask.png'; may be repeated, and goes with --vocabulary.",
        rich_help_panel=MODEL,
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="PHRASE",
        help="Keep only this, objects with their parts: 'left wheel of the second car', 'largest person'.",
        rich_help_panel=MODEL,
    ),
]
Batch = Annotated[
    int, typer.Option(min=1, help="Images per forward pass, at most; a CPU takes fewer.", rich_help_panel=IMAGES)
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results; - is standard output.", rich_help_panel=OUTPUT)
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
        rich_help_panel=OUTPUT,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing", help="Leave out images whose results are there.", rich_help_panel=OUTPUT),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only every N-th image, from the I-th on: for N processes with one output folder. With --skip-existing it "
        "can be run again.",
        rich_help_panel=IMAGES,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the annotated image looks."""

    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Names.", rich_help_panel=_DRAWING)] = True
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Scores behind the names.", rich_help_panel=_DRAWING)
    ] = True
    masks: Annotated[
        bool,
        typer.Option("--masks/--no-masks", help="Masks; boxes are drawn instead of them.", rich_help_panel=_DRAWING),
    ] = True
    boxes: Annotated[bool, typer.Option("--boxes", help="Boxes too.", rich_help_panel=_DRAWING)] = False
    colours: Annotated[
        Colours,
        typer.Option(
            "--colours",
            "--colors",
            help="object: an object and its parts go together; instance: all differ; class, part: by name.",
            rich_help_panel=_DRAWING,
        ),
    ] = Colours.OBJECT
    line_width: Annotated[
        float | None, typer.Option(min=0.5, max=200, help="Of contours, pixels.", rich_help_panel=_DRAWING)
    ] = None
    font_size: Annotated[
        float | None, typer.Option(min=4, max=500, help="Of names, pixels.", rich_help_panel=_DRAWING)
    ] = None

    def arguments(self) -> dict[str, Any]:
        """As `Result.plot` takes it."""
        return {**vars(self), "boxes": self.boxes or None, "colours": self.colours.value}


@dataclass(frozen=True, kw_only=True)
class OfVideos:
    """Which frames of a video are looked at, and what they have from those before."""

    stride: Annotated[int, typer.Option(min=1, help="Every so many frames.", rich_help_panel=_VIDEO)] = 1
    start: Annotated[float, typer.Option(min=0, help="Second of the video to begin at.", rich_help_panel=_VIDEO)] = 0.0
    end: Annotated[float | None, typer.Option(min=0, help="Second of the video to end at.", rich_help_panel=_VIDEO)] = (
        None
    )
    smoothing: Annotated[
        float,
        typer.Option(
            min=0, max=0.95, help="Weight of earlier frames in boxes and masks; 0: none.", rich_help_panel=_VIDEO
        ),
    ] = 0.0
    reconnect: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e6,
            help="A camera that is lost is tried again for so many seconds.",
            rich_help_panel=_VIDEO,
        ),
    ] = 0.0
