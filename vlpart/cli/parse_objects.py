"""`vlpart parse find-objects` and `show-object`: parts of objects that are annotated already, with masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli import parse_options as o
from vlpart.cli.console import names_in
from vlpart.cli.options import with_groups
from vlpart.cli.parse import commands
from vlpart.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlpart.annotation_parser.labelled_images import AnnotatedObject

_Bank = Annotated[Path, typer.Argument(help="Bank of objects: vlpart parse build --objects.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `vlpart parse`."""
    commands.command("find-objects")(find_objects)
    commands.command("show-object")(show_object)


@with_groups
def find_objects(
    *,
    bank: _Bank,
    labels: Annotated[Path, typer.Option(help="COCO-format file of annotated objects.", rich_help_panel=o.DATA)],
    images: Annotated[Path, typer.Option(help="Folder of its images.", rich_help_panel=o.DATA)],
    output: Annotated[Path, typer.Option("--output", "-o", help="COCO-format file to write.")],
    only_labels: o.OnlyLabels = None,
    asked: o.Parsing,
    voting: o.Voting,
    run: o.Run,
) -> None:
    """Parse annotated whole objects into a COCO-format file of these objects and their parts, with masks.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.labelled_images import read_objects
    from vlpart.annotation_parser.run import open_object_parser

    options = voting.options(asked.sources)
    opened = ReferenceBank(bank, asked.base_images)
    labelled = read_objects(labels, only=None if only_labels is None else names_in(only_labels))
    vocabulary = o.part_names(asked.names)
    parser = asked.open(open_object_parser, opened, options, names=vocabulary)
    o.parse_all(output, labelled, images, parser, vocabulary, run)


@with_groups
def show_object(
    *,
    bank: _Bank,
    image: o.ImageToShow,
    label: o.Label,
    output: o.Drawing = Path("vlpart-parse.png"),
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File of annotated objects; the largest of that label is parsed. Default: the image is the object.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    asked: o.Parsing,
    voting: o.Voting,
    height: o.PanelHeight = 420,
) -> None:
    """Draw how an annotated object is parsed: the most similar reference, correspondences, and the parts."""
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.run import open_object_parser
    from vlpart.annotation_parser.show import draw_object_transfer
    from vlpart.data.images import read_image

    o.check_drawing(output)
    options = voting.options(asked.sources)
    opened = ReferenceBank(bank, asked.base_images)
    pixels = read_image(image)
    target = _annotated_object(labels, image, label, pixels)
    parser = asked.open(open_object_parser, opened, options)
    parser.check_labels([label])
    seen = parser.transfer(pixels, target)
    o.write_drawing(output, draw_object_transfer(seen, label, parser, height=height))
    o.tell_transfer(output, seen.reference, seen.similarity, parser.sure_of(seen.parts))


def _annotated_object(labels: Path | None, image: str, label: str, pixels: NDArray[np.uint8]) -> AnnotatedObject:
    """The largest annotated object of a label in an image; without a file the whole (H, W, 3) image.

    Raises:
        DataError: the file cannot be used, has no such object in that image, or says another size of it.
    """
    from vlpart.annotation_parser.labelled_images import AnnotatedObject, read_objects
    from vlpart.data.upright import check_size
    from vlpart.names import plain

    height, width = pixels.shape[:2]
    if labels is None:
        return AnnotatedObject(label=label, box_xyxy=(0, 0, width, height))
    here = Path(image).parts
    for entry in read_objects(labels, only=[label]):
        listed = Path(entry.file_name).parts
        if here[-len(listed) :] == listed:
            check_size(Path(image), (height, width), entry.size_hw or (height, width))
            objects = [each for each in entry.objects if plain(each.label) == plain(label)]
            return max(objects, key=lambda each: int(each.bitmap(height, width).sum()))
    raise DataError(f"{labels} annotates no {label} in {image}: name an image that it lists")
