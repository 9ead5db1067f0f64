"""`vlpart parse`: part boxes for novel objects, carried over from base objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlpart.cli.console import say
from vlpart.cli.parse_support import (
    annotated_object,
    below,
    names_in,
    note,
    part_names,
    progress_bar,
    read_images,
    references_per_label,
    refuse_ignored,
    say_features,
    skipped,
    tell,
    wants_proposals,
    which_base_objects,
)

_commands = typer.Typer(
    no_args_is_help=True, help="Find parts of novel objects by their resemblance to annotated base objects."
)

_DATA, _COMPUTE, _DETECTOR, _OBJECTS = "Data", "Computation", "Detector", "Annotated objects"
_Recipe = Annotated[str | None, typer.Option(help="Published run; sets what is not given here.", rich_help_panel=_DATA)]
_Root = Annotated[
    Path | None,
    typer.Option("--data", envvar="VLPART_DATA", help="Data root of the published layout.", rich_help_panel=_DATA),
]
_FeatureWeights = Annotated[
    Path | None, typer.Option(help="Local weight file of the features.", dir_okay=False, rich_help_panel=_COMPUTE)
]
_ShortSide = Annotated[
    int | None, typer.Option(min=8, help="Shorter side of compared images, pixels.", rich_help_panel=_COMPUTE)
]
_MaxSide = Annotated[
    int | None, typer.Option(min=8, help="Limit of their longer side, pixels.", rich_help_panel=_COMPUTE)
]
_Batch = Annotated[int, typer.Option(min=1, help="Images read at a time.", rich_help_panel=_COMPUTE)]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.", rich_help_panel=_COMPUTE)]
_Precision = Annotated[str, typer.Option(help="float32 or bf16.", rich_help_panel=_COMPUTE)]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Detector: model name or weight file. Default: tiny.", rich_help_panel=_DETECTOR
    ),
]
_Weights = Annotated[
    Path | None, typer.Option(help="Local weight file of the model.", dir_okay=False, rich_help_panel=_DETECTOR)
]
_From = Annotated[
    str | None,
    typer.Option("--from", help="References per label: 'bench: chair, sofa; bus: car'.", rich_help_panel=_DATA),
]
_Boxes = Annotated[
    str,
    typer.Option(help="proposals (of the detector, as published) or masks (around them).", rich_help_panel=_DETECTOR),
]
_MinIou = Annotated[float, typer.Option(min=0, max=1, help="Overlap a proposal needs.", rich_help_panel=_DETECTOR)]
_Foreground = Annotated[
    float | None, typer.Option(min=0, max=1, help="Saliency the object needs.", rich_help_panel=_COMPUTE)
]
_References = Annotated[
    int | None,
    typer.Option(min=1, help="Bank of objects: so many vote on a part. Default: 8.", rich_help_panel=_OBJECTS),
]
_DetectorShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Bank of objects: weight of the detector. Default: 0.5.", rich_help_panel=_OBJECTS),
]
_MinConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Bank of objects: evidence a part needs. Default: 0.2.", rich_help_panel=_OBJECTS),
]
_Names = Annotated[str | None, typer.Option("--names", help="Vocabulary of the names to write; others are dropped.")]
_BaseImages = Annotated[
    Path | None, typer.Option(help="Where the images of the bank are now.", file_okay=False, rich_help_panel=_DATA)
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")]
_NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(_commands, name="parse")


@_commands.command("recipes")
def recipes() -> None:
    """List the published runs."""
    from vlpart.cli.console import print_table
    from vlpart.recipes.parser import BANKS, FINDS

    banks = [("build", b.name, b.annotations, f"bank of {b.vocabulary} at {b.short_side} px") for b in BANKS.values()]
    finds = [("find", f.name, f.labels, f"{f.output} with {f.model}, bank {f.bank}") for f in FINDS.values()]
    print_table(("command", "recipe", "reads", "gives"), [*banks, *finds])


@_commands.command("build")
def build(
    bank: Annotated[Path, typer.Argument(help="Folder of the bank to write.", file_okay=False)],
    annotations: Annotated[
        Path | None, typer.Option(help="COCO-format file of base objects and parts.", rich_help_panel=_DATA)
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of its images.", rich_help_panel=_DATA)] = None,
    recipe: _Recipe = None,
    data: _Root = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="Objects and parts by category id. Default: the names in the file.", rich_help_panel=_DATA),
    ] = None,
    only_objects: Annotated[
        str | None, typer.Option(help="Take these objects: 'chair, sofa'.", rich_help_panel=_DATA)
    ] = None,
    exclude_objects: Annotated[str, typer.Option(help="Leave these objects out.", rich_help_panel=_DATA)] = "",
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Every annotated object is a reference, also several in one image.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="dino_vits8, embedded, or timm:NAME. Default: dino_vits8, without a network embedded.",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    feature_weights: _FeatureWeights = None,
    short_side: _ShortSide = None,
    max_side: _MaxSide = None,
    batch: _Batch = 1,
    device: _Device = None,
    precision: _Precision = "float32",
    overwrite: _Overwrite = False,
    no_progress: _NoProgress = False,
) -> None:
    """Build a reference bank: describe every base image that shows exactly one annotated object, or every object.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.annotation_parser.features.load import load_features
    from vlpart.annotation_parser.references import read_base_data, read_base_objects
    from vlpart.annotation_parser.run import build_bank
    from vlpart.recipes.parser import get_bank_recipe
    from vlpart.text.vocabulary import Vocabulary

    known = None if recipe is None else get_bank_recipe(recipe)
    annotations = annotations or below(data, known.annotations if known else None, "--annotations")
    images = images or below(data, known.images if known else None, "--images")
    listed = vocabulary or (known.vocabulary if known else None)
    wanted = None if only_objects is None else names_in(only_objects)
    if objects:
        if listed is not None:
            raise typer.BadParameter("--objects takes the names in the file", param_hint="--vocabulary")
        base = read_base_objects(annotations, only_objects=wanted, exclude_objects=names_in(exclude_objects))
    else:
        base = read_base_data(
            annotations,
            vocabulary=None if listed is None else Vocabulary.of(listed),
            only_objects=wanted,
            exclude_objects=names_in(exclude_objects),
        )
    extractor = load_features(
        features or DINO,
        weights=feature_weights,
        device=device,
        precision=precision,
        on_fallback=None if features or feature_weights else note,
    )
    if known is not None and extractor.name == known.features:
        short_side, max_side = short_side or known.short_side, max_side or known.max_side
    left_out = "".join(f", {n} {why}" for why, n in base.left_out.items())
    note(f"{len(base.references)} base {'objects' if objects else 'images'}{left_out}")
    with progress_bar("describing", no_progress) as advance:
        outcome = build_bank(
            bank,
            base,
            images,
            extractor,
            short_side=short_side,
            max_side=max_side,
            batch=batch,
            overwrite=overwrite,
            progress=advance,
            on_failure=skipped,
        )
    tell(outcome, f"{outcome.items - outcome.skipped} references, {extractor.name} features")


@_commands.command("find")
def find(
    context: typer.Context,
    bank: Annotated[
        Path | None, typer.Argument(help="Reference bank. Not needed if all labels are base objects.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images; without --labels one folder per label.", rich_help_panel=_DATA),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="COCO-format file of image labels.", rich_help_panel=_DATA)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="COCO-format file to write.")] = None,
    recipe: _Recipe = None,
    data: _Root = None,
    names: _Names = None,
    label_vocabulary: Annotated[
        str | None,
        typer.Option(help="Labels of folders, by name, WordNet id or ImageNet range.", rich_help_panel=_DATA),
    ] = None,
    only_labels: Annotated[str | None, typer.Option(help="Take these labels.", rich_help_panel=_DATA)] = None,
    per_folder: Annotated[int | None, typer.Option(min=1, help="Images per folder.", rich_help_panel=_DATA)] = None,
    sources: _From = None,
    base_images: _BaseImages = None,
    base_objects: Annotated[
        str | None,
        typer.Option(
            help="Labels that the detector parses by itself: 'car, chair' or 'all'.", rich_help_panel=_DETECTOR
        ),
    ] = None,
    model: _Model = None,
    weights: _Weights = None,
    parts: Annotated[
        str | None,
        typer.Option(help="Vocabulary of the parts it looks for. Default: its own.", rich_help_panel=_DETECTOR),
    ] = None,
    boxes: _Boxes = "proposals",
    keep_masks: Annotated[bool, typer.Option("--keep-masks", help="Write transferred masks, too.")] = False,
    min_iou: _MinIou = 0.3,
    references: _References = None,
    detector_share: _DetectorShare = None,
    min_confidence: _MinConfidence = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Score base parts need.", rich_help_panel=_DETECTOR)
    ] = 0.7,
    foreground: _Foreground = None,
    feature_weights: _FeatureWeights = None,
    short_side: _ShortSide = None,
    max_side: _MaxSide = None,
    batch: _Batch = 1,
    device: _Device = None,
    precision: _Precision = "float32",
    overwrite: _Overwrite = False,
    no_progress: _NoProgress = False,
) -> None:
    """Parse images with image-level labels into a COCO-format file of part boxes.

    With a bank of objects, --labels has annotated whole objects, and each of them is parsed, with masks.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.run import ParserSetup, find_parts, open_parser
    from vlpart.recipes.parser import check_bank, get_find_recipe
    from vlpart.text.vocabulary import Vocabulary

    known = None if recipe is None else get_find_recipe(recipe)
    labels = labels or (below(data, known.labels, "--labels") if known else None)
    images = images or below(data, known.images if known else None, "--images")
    output = output or below(data, known.output if known else None, "--output")
    allowed = references_per_label(sources)
    opened = None if bank is None else ReferenceBank(bank, base_images)
    annotated = opened is not None and opened.of_objects
    refuse_ignored(context, annotated=annotated)
    if known is not None and opened is not None:
        check_bank(known, opened)
    labelled = read_images(labels, images, label_vocabulary, only_labels, per_folder, annotated=annotated)
    written = names or (known.names if known else None)
    looked_for = parts or (known.vocabulary if known else None)
    vocabulary = None if written is None else part_names(written)
    parser = open_parser(
        ParserSetup(
            bank=bank,
            base_images=base_images,
            model=model or (known.model if known else "tiny"),
            weights=weights,
            parts=None if looked_for is None else Vocabulary.of(looked_for),
            names=vocabulary,
            base_objects=which_base_objects(base_objects, known, labelled),
            sources=allowed,
            use_proposals=wants_proposals(boxes),
            keep_masks=keep_masks,
            min_iou=min_iou,
            references=references,
            detector_share=detector_share,
            min_confidence=min_confidence,
            score_threshold=threshold,
            foreground=foreground,
            short_side=short_side,
            max_side=max_side,
            feature_weights=feature_weights,
            device=device,
            precision=precision,
        )
    )
    say_features(parser.features)
    with progress_bar("parsing", no_progress) as advance:
        outcome = find_parts(
            output,
            labelled,
            images,
            parser,
            vocabulary=vocabulary,
            batch=batch,
            overwrite=overwrite,
            progress=advance,
            on_failure=skipped,
        )
    tell(outcome, f"{outcome.parts} parts in {outcome.items - outcome.skipped} images")


@_commands.command("show")
def show(
    context: typer.Context,
    bank: Annotated[Path, typer.Argument(help="Reference bank.")],
    image: Annotated[str, typer.Argument(help="Image file or http(s) address.")],
    label: Annotated[str, typer.Option(help="What it shows: bench.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image to write.", dir_okay=False)] = Path(
        "vlpart-parse.png"
    ),
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Bank of objects: file of annotated objects; the largest of that label is parsed. Default: the "
            "image is the object.",
            rich_help_panel=_OBJECTS,
        ),
    ] = None,
    names: _Names = None,
    sources: _From = None,
    base_images: _BaseImages = None,
    model: _Model = None,
    weights: _Weights = None,
    boxes: _Boxes = "proposals",
    min_iou: _MinIou = 0.3,
    references: _References = None,
    detector_share: _DetectorShare = None,
    min_confidence: _MinConfidence = None,
    foreground: _Foreground = None,
    short_side: _ShortSide = None,
    max_side: _MaxSide = None,
    height: Annotated[int, typer.Option(min=100, max=4000, help="Height of a panel, pixels.")] = 420,
    feature_weights: _FeatureWeights = None,
    device: _Device = None,
    precision: _Precision = "float32",
) -> None:
    """Draw how a novel object is parsed: reference, target, correspondences, transferred parts and final boxes."""
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.object_parser import ObjectParser
    from vlpart.annotation_parser.run import ParserSetup, open_parser
    from vlpart.annotation_parser.show import draw_object_transfer, draw_transfer
    from vlpart.data.images import read_image
    from vlpart.files import IMAGE_FORMATS, encode_image, write_file

    if output.suffix.lower() not in IMAGE_FORMATS:
        raise typer.BadParameter(f"{output} must end in {', '.join(IMAGE_FORMATS)}", param_hint="--output")
    annotated = ReferenceBank(bank, base_images).of_objects
    refuse_ignored(context, annotated=annotated)
    pixels = read_image(image)
    target = annotated_object(labels, image, label, pixels) if annotated else None
    parser = open_parser(
        ParserSetup(
            bank=bank,
            base_images=base_images,
            model=model or "tiny",
            weights=weights,
            names=None if names is None else part_names(names),
            sources=references_per_label(sources),
            use_proposals=wants_proposals(boxes),
            min_iou=min_iou,
            references=references,
            detector_share=detector_share,
            min_confidence=min_confidence,
            foreground=foreground,
            short_side=short_side,
            max_side=max_side,
            feature_weights=feature_weights,
            device=device,
            precision=precision,
        )
    )
    parser.check_labels([label])
    say_features(parser.features)
    if isinstance(parser, ObjectParser):
        assert target is not None
        seen = parser.transfer(pixels, target)
        drawn = draw_object_transfer(seen, label, parser, height=height)
        reference, similarity, parts = seen.reference, seen.similarity, parser.sure_of(seen.parts)
    else:
        transfer = parser.transfer(pixels, label)
        drawn = draw_transfer(transfer, label, parser.renamer, height=height)
        reference, similarity = transfer.reference, transfer.similarity
        parts = parser.named(transfer, pixels.shape[:2], label)
    write_file(output, encode_image(drawn, IMAGE_FORMATS[output.suffix.lower()], output.name))
    for part in parts:
        box = " ".join(f"{value:.0f}" for value in part.box_xyxy)
        say(f"{part.name}\t{box}\t{part.score:.2f}\tfrom {part.found_as}", lines=True)
    say(f"reference {reference.file_name}, similarity {similarity:.3f} -> {output}", err=True)
