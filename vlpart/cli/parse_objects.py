"""`vlpart parse find-objects` and `show-object`: parts of objects that are annotated already, with masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli import parse_options as o
from vlpart.cli.console import names_in
from vlpart.cli.parse import commands
from vlpart.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlpart.annotation_parser.labelled_images import AnnotatedObject

_Bank = Annotated[Path, typer.Argument(help="Bank of objects: vlpart parse build --objects.")]
_LongSide = Annotated[
    int | None,
    typer.Option(
        min=8, help="Longer side of a cut-out object, pixels. Default: the bank's.", rich_help_panel=o.COMPUTE
    ),
]
_References = Annotated[int, typer.Option(min=1, help="So many vote on a part.", rich_help_panel=o.COMPUTE)]
_DetectorShare = Annotated[
    float, typer.Option(min=0, max=1, help="Weight of the detector beside the votes.", rich_help_panel=o.DETECTOR)
]
_MinConfidence = Annotated[float, typer.Option(min=0, max=1, help="Mean score that a part needs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `vlpart parse`."""
    commands.command("find-objects")(find_objects)
    commands.command("show-object")(show_object)


def find_objects(
    bank: _Bank,
    labels: Annotated[Path, typer.Option(help="COCO-format file of annotated objects.", rich_help_panel=o.DATA)],
    images: Annotated[Path, typer.Option(help="Folder of its images.", rich_help_panel=o.DATA)],
    output: Annotated[Path, typer.Option("--output", "-o", help="COCO-format file to write.")],
    names: o.Names = None,
    only_labels: Annotated[str | None, typer.Option(help="Take these labels.", rich_help_panel=o.DATA)] = None,
    per_label: o.From = None,
    base_images: o.BaseImages = None,
    model: o.Model = None,
    weights: o.Weights = None,
    detector_share: _DetectorShare = 0.5,
    references: _References = 8,
    min_confidence: _MinConfidence = 0.2,
    feature_weights: o.FeatureWeights = None,
    long_side: _LongSide = None,
    batch: o.BatchSize = 1,
    device: o.Device = None,
    precision: o.ParsePrecision = "float32",
    overwrite: o.Overwrite = False,
    no_progress: o.NoProgress = False,
) -> None:
    """Parse annotated whole objects into a COCO-format file of these objects and their parts, with masks.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.labelled_images import read_objects
    from vlpart.annotation_parser.object_parser import VotingOptions
    from vlpart.annotation_parser.run import open_object_parser

    options = VotingOptions(
        long_side=long_side,
        references=references,
        detector_share=detector_share,
        min_confidence=min_confidence,
        sources=o.references_per_label(per_label),
    )
    opened = ReferenceBank(bank, base_images)
    labelled = read_objects(labels, only=None if only_labels is None else names_in(only_labels))
    vocabulary = o.part_names(names)
    parser = open_object_parser(
        opened,
        options,
        names=vocabulary,
        model=model or "tiny",
        weights=weights,
        feature_weights=feature_weights,
        device=device,
        precision=precision,
    )
    o.say_features(opened)
    o.parse_all(output, labelled, images, parser, vocabulary, batch=batch, overwrite=overwrite, hidden=no_progress)


def show_object(
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
    names: o.Names = None,
    per_label: o.From = None,
    base_images: o.BaseImages = None,
    model: o.Model = None,
    weights: o.Weights = None,
    detector_share: _DetectorShare = 0.5,
    references: _References = 8,
    min_confidence: _MinConfidence = 0.2,
    feature_weights: o.FeatureWeights = None,
    long_side: _LongSide = None,
    height: o.PanelHeight = 420,
    device: o.Device = None,
    precision: o.ParsePrecision = "float32",
) -> None:
    """Draw how an annotated object is parsed: the most similar reference, correspondences, and the parts."""
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.object_parser import VotingOptions
    from vlpart.annotation_parser.run import open_object_parser
    from vlpart.annotation_parser.show import draw_object_transfer
    from vlpart.data.images import read_image

    o.check_drawing(output)
    options = VotingOptions(
        long_side=long_side,
        references=references,
        detector_share=detector_share,
        min_confidence=min_confidence,
        sources=o.references_per_label(per_label),
    )
    opened = ReferenceBank(bank, base_images)
    pixels = read_image(image)
    target = _annotated_object(labels, image, label, pixels)
    parser = open_object_parser(
        opened,
        options,
        names=o.part_names(names),
        model=model or "tiny",
        weights=weights,
        feature_weights=feature_weights,
        device=device,
        precision=precision,
    )
    parser.check_labels([label])
    o.say_features(opened)
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
