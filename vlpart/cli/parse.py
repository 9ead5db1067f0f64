"""`vlpart parse`: part boxes for novel objects, carried over from base objects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli.console import Bars, names_in, note, note_config, print_table, say, skipped
from vlpart.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.image_parser import ImageParser
    from vlpart.annotation_parser.labelled_images import LabelledImage
    from vlpart.annotation_parser.object_parser import ObjectParser
    from vlpart.annotation_parser.output import ParsedPart
    from vlpart.annotation_parser.references import Reference
    from vlpart.annotation_parser.run import ParserRun
    from vlpart.recipes.parser import FindRecipe
    from vlpart.text.vocabulary import Vocabulary

commands = typer.Typer(
    no_args_is_help=True, help="Find parts of novel objects by their resemblance to annotated base objects."
)

DATA, COMPUTE, DETECTOR = "Data", "Computation", "Detector"
_Recipe = Annotated[
    str | None, typer.Option(help="Published run, or its yaml; sets what is not given here.", rich_help_panel=DATA)
]
_Root = Annotated[
    Path | None,
    typer.Option("--data", envvar="VLPART_DATA", help="Data root of the published layout.", rich_help_panel=DATA),
]
FeatureWeights = Annotated[
    Path | None, typer.Option(help="Local weight file of the features.", dir_okay=False, rich_help_panel=COMPUTE)
]
ShortSide = Annotated[
    int | None, typer.Option(min=8, help="Shorter side of compared images, pixels.", rich_help_panel=COMPUTE)
]
MaxSide = Annotated[
    int | None, typer.Option(min=8, help="Limit of their longer side, pixels.", rich_help_panel=COMPUTE)
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images read at a time.", rich_help_panel=COMPUTE)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.", rich_help_panel=COMPUTE)]
ParsePrecision = Annotated[str, typer.Option(help="float32 or bf16.", rich_help_panel=COMPUTE)]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Detector: model name or weight file. Default: tiny.", rich_help_panel=DETECTOR),
]
Weights = Annotated[
    Path | None, typer.Option(help="Local weight file of the model.", dir_okay=False, rich_help_panel=DETECTOR)
]
From = Annotated[
    str | None,
    typer.Option("--from", help="References per label: 'bench: chair, sofa; bus: car'.", rich_help_panel=DATA),
]
_Boxes = Annotated[
    str,
    typer.Option(help="proposals (of the detector, as published) or masks (around them).", rich_help_panel=DETECTOR),
]
_MinIou = Annotated[float, typer.Option(min=0, max=1, help="Overlap a proposal needs.", rich_help_panel=DETECTOR)]
_Foreground = Annotated[
    float | None, typer.Option(min=0, max=1, help="Saliency the object needs.", rich_help_panel=COMPUTE)
]
Names = Annotated[str | None, typer.Option("--names", help="Vocabulary of the names to write; others are dropped.")]
BaseImages = Annotated[
    Path | None, typer.Option(help="Where the images of the bank are now.", file_okay=False, rich_help_panel=DATA)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]
ImageToShow = Annotated[str, typer.Argument(metavar="IMAGE", help="Image file or http(s) address.")]
Label = Annotated[str, typer.Option(help="What it shows: bench.")]
Drawing = Annotated[Path, typer.Option("--output", "-o", help="Image to write.", dir_okay=False)]
PanelHeight = Annotated[int, typer.Option(min=100, max=4000, help="Height of a panel, pixels.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(commands, name="parse")


@commands.command("recipes")
def recipes() -> None:
    """List the published runs."""
    from vlpart.recipes.parser import BANKS, FINDS

    banks = [("build", b.name, b.annotations, f"bank of {b.vocabulary} at {b.short_side} px") for b in BANKS.values()]
    finds = [("find", f.name, f.labels, f"{f.output} with {f.model}, bank {f.bank}") for f in FINDS.values()]
    print_table(("command", "recipe", "reads", "gives"), [*banks, *finds])


@commands.command("build")
def build(
    bank: Annotated[Path, typer.Argument(help="Folder of the bank to write.", file_okay=False)],
    annotations: Annotated[
        Path | None, typer.Option(help="COCO-format file of base objects and parts.", rich_help_panel=DATA)
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of its images.", rich_help_panel=DATA)] = None,
    recipe: _Recipe = None,
    data: _Root = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="Objects and parts by category id. Default: the names in the file.", rich_help_panel=DATA),
    ] = None,
    only_objects: Annotated[
        str | None, typer.Option(help="Take these objects: 'chair, sofa'.", rich_help_panel=DATA)
    ] = None,
    exclude_objects: Annotated[str, typer.Option(help="Leave these objects out.", rich_help_panel=DATA)] = "",
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Every annotated object is a reference, also several in one image.",
            rich_help_panel=DATA,
        ),
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="dino_vits8, embedded, or timm:NAME. Default: dino_vits8, without a network embedded.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    feature_weights: FeatureWeights = None,
    short_side: ShortSide = None,
    max_side: MaxSide = None,
    batch: BatchSize = 1,
    device: Device = None,
    precision: ParsePrecision = "float32",
    overwrite: Overwrite = False,
    no_progress: NoProgress = False,
) -> None:
    """Build a reference bank: describe every base image that shows exactly one annotated object, or every object.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.annotation_parser.features.load import load_features
    from vlpart.annotation_parser.references import read_base_data, read_base_objects
    from vlpart.annotation_parser.run import build_bank
    from vlpart.recipes.parser import check_data, get_bank_recipe
    from vlpart.text.vocabulary import Vocabulary

    known = None if recipe is None else get_bank_recipe(recipe)
    note_config(recipe or "")
    if known is not None and data is not None and annotations is None and images is None:
        check_data([known], data)
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
    with Bars(hidden=no_progress, transient=True) as progress:
        run = build_bank(
            bank,
            base,
            images,
            extractor,
            short_side=short_side,
            max_side=max_side,
            batch=batch,
            overwrite=overwrite,
            progress=progress,
            on_failure=skipped,
        )
    tell(run, f"{run.items - run.skipped} references, {extractor.name} features")


@commands.command("find")
def find(
    bank: Annotated[
        Path | None, typer.Argument(help="Reference bank. Not needed if all labels are base objects.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images; without --labels one folder per label.", rich_help_panel=DATA),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="COCO-format file of image labels.", rich_help_panel=DATA)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="COCO-format file to write.")] = None,
    recipe: _Recipe = None,
    data: _Root = None,
    names: Names = None,
    label_vocabulary: Annotated[
        str | None,
        typer.Option(help="Labels of folders, by name, WordNet id or ImageNet range.", rich_help_panel=DATA),
    ] = None,
    only_labels: Annotated[str | None, typer.Option(help="Take these labels.", rich_help_panel=DATA)] = None,
    per_folder: Annotated[int | None, typer.Option(min=1, help="Images per folder.", rich_help_panel=DATA)] = None,
    per_label: From = None,
    base_images: BaseImages = None,
    base_objects: Annotated[
        str | None,
        typer.Option(
            help="Labels that the detector parses by itself: 'car, chair' or 'all'.", rich_help_panel=DETECTOR
        ),
    ] = None,
    model: Model = None,
    weights: Weights = None,
    parts: Annotated[
        str | None,
        typer.Option(help="Vocabulary of the parts it looks for. Default: its own.", rich_help_panel=DETECTOR),
    ] = None,
    boxes: _Boxes = "proposals",
    keep_masks: Annotated[bool, typer.Option("--keep-masks", help="Write transferred masks, too.")] = False,
    min_iou: _MinIou = 0.3,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Score base parts need.", rich_help_panel=DETECTOR)
    ] = 0.7,
    foreground: _Foreground = None,
    feature_weights: FeatureWeights = None,
    short_side: ShortSide = None,
    max_side: MaxSide = None,
    batch: BatchSize = 1,
    device: Device = None,
    precision: ParsePrecision = "float32",
    overwrite: Overwrite = False,
    no_progress: NoProgress = False,
) -> None:
    """Parse images with image-level labels into a COCO-format file of part boxes, as published.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.image_parser import ParserOptions
    from vlpart.annotation_parser.run import open_image_parser
    from vlpart.names import check_names
    from vlpart.recipes.parser import check_bank, check_data, get_find_recipe
    from vlpart.text.vocabulary import Vocabulary

    known = None if recipe is None else get_find_recipe(recipe)
    note_config(recipe or "")
    if known is not None and data is not None and labels is None and images is None:
        check_data([known], data)
    labels = labels or (below(data, known.labels, "--labels") if known else None)
    images = images or below(data, known.images if known else None, "--images")
    output = output or below(data, known.output if known else None, "--output")
    sources = references_per_label(per_label)
    opened = None if bank is None else ReferenceBank(bank, base_images)
    if known is not None and opened is not None:
        check_bank(known, opened)
    labelled = _read_images(labels, images, label_vocabulary, only_labels, per_folder)
    by_itself = _base_objects(base_objects, known)
    if base_objects is not None and by_itself is not None:
        check_names(by_itself, (label for image in labelled for label in image.labels), "no image has the label")
    vocabulary = part_names(names or (known.names if known else None))
    looked_for = parts or (known.vocabulary if known else None)
    parser = open_image_parser(
        opened,
        ParserOptions(
            short_side=short_side,
            max_side=max_side,
            foreground=foreground,
            min_iou=min_iou,
            use_proposals=_wants_proposals(boxes),
            keep_masks=keep_masks,
            base_objects=by_itself,
            sources=sources,
        ),
        names=vocabulary,
        model=model or (known.model if known else "tiny"),
        weights=weights,
        parts=None if looked_for is None else Vocabulary.of(looked_for),
        score_threshold=threshold,
        feature_weights=feature_weights,
        device=device,
        precision=precision,
    )
    say_features(opened)
    parse_all(output, labelled, images, parser, vocabulary, batch=batch, overwrite=overwrite, hidden=no_progress)


@commands.command("show")
def show(
    bank: Annotated[Path, typer.Argument(help="Reference bank.")],
    image: ImageToShow,
    label: Label,
    output: Drawing = Path("vlpart-parse.png"),
    names: Names = None,
    per_label: From = None,
    base_images: BaseImages = None,
    model: Model = None,
    weights: Weights = None,
    boxes: _Boxes = "proposals",
    min_iou: _MinIou = 0.3,
    foreground: _Foreground = None,
    short_side: ShortSide = None,
    max_side: MaxSide = None,
    height: PanelHeight = 420,
    feature_weights: FeatureWeights = None,
    device: Device = None,
    precision: ParsePrecision = "float32",
) -> None:
    """Draw how a novel object is parsed: reference, target, correspondences, transferred parts and final boxes."""
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.image_parser import ParserOptions
    from vlpart.annotation_parser.run import open_image_parser
    from vlpart.annotation_parser.show import draw_transfer
    from vlpart.data.images import read_image

    check_drawing(output)
    opened = ReferenceBank(bank, base_images)
    pixels = read_image(image)
    parser = open_image_parser(
        opened,
        ParserOptions(
            short_side=short_side,
            max_side=max_side,
            foreground=foreground,
            min_iou=min_iou,
            use_proposals=_wants_proposals(boxes),
            sources=references_per_label(per_label),
        ),
        names=part_names(names),
        model=model or "tiny",
        weights=weights,
        feature_weights=feature_weights,
        device=device,
        precision=precision,
    )
    parser.check_labels([label])
    say_features(opened)
    transfer = parser.transfer(pixels, label)
    write_drawing(output, draw_transfer(transfer, label, parser.renamer, height=height))
    tell_transfer(output, transfer.reference, transfer.similarity, parser.named(transfer, pixels.shape[:2], label))


def below(root: Path | None, place: str | None, option: str) -> Path:
    """A path of a recipe below the data root."""
    if place is None:
        raise typer.BadParameter(f"give {option}, or a published run with --recipe and --data", param_hint=option)
    if root is None:
        raise typer.BadParameter(f"give {option}, or the data root of the recipe with --data", param_hint=option)
    return root / place


def references_per_label(text: str | None) -> dict[str, tuple[str, ...]]:
    """The references of labels: "bench: chair, sofa; bus: car"."""
    found: dict[str, tuple[str, ...]] = {}
    for piece in (text or "").split(";"):
        label, colon, names = piece.partition(":")
        if not piece.strip():
            continue
        if not colon or not label.strip() or not names_in(names):
            raise DataError(f"--from needs 'label: object, object; label: object', not {piece.strip()!r}")
        found[label.strip()] = tuple(names_in(names))
    return found


def part_names(given: str | None) -> Vocabulary | None:
    """The names to write, of which some must be parts; None takes every part as it comes."""
    from vlpart.text.vocabulary import Vocabulary

    if given is None:
        return None
    vocabulary = Vocabulary.of(given)
    if not any(entry.part for entry in vocabulary.entries):
        raise typer.BadParameter(f"{given!r} names no parts; 'bench: leg, seat' does", param_hint="--names")
    return vocabulary


def _read_images(
    labels: Path | None, images: Path, vocabulary: str | None, only: str | None, per_folder: int | None
) -> list[LabelledImage]:
    """The images to parse: of a label file, or of one folder per label."""
    from vlpart.annotation_parser.labelled_images import read_labelled_folders, read_labels
    from vlpart.text.vocabulary import Vocabulary

    wanted = None if only is None else names_in(only)
    if labels is None:
        known = None if vocabulary is None else Vocabulary.of(vocabulary)
        return read_labelled_folders(images, labels=known, per_folder=per_folder, only=wanted)
    for value, option in ((vocabulary, "--label-vocabulary"), (per_folder, "--per-folder")):
        if value is not None:
            raise typer.BadParameter(f"{option} is for one folder per label, not for --labels", param_hint=option)
    return read_labels(labels, only=wanted)


def _base_objects(given: str | None, known: FindRecipe | None) -> frozenset[str] | None:
    """The labels that the detector parses by itself: as given, else those of the recipe; None = all of them."""
    if given is None:
        names: Iterable[str] | None = () if known is None else known.base_objects
    else:
        names = None if given.strip().lower() == "all" else names_in(given)
    return None if names is None else frozenset(names)


def _wants_proposals(boxes: str) -> bool:
    """What --boxes says."""
    if boxes not in ("proposals", "masks"):
        raise typer.BadParameter(f"{boxes!r} is neither 'proposals' nor 'masks'", param_hint="--boxes")
    return boxes == "proposals"


def parse_all(
    output: Path,
    labelled: list[LabelledImage],
    images: Path,
    parser: ImageParser | ObjectParser,
    vocabulary: Vocabulary | None,
    *,
    batch: int,
    overwrite: bool,
    hidden: bool,
) -> None:
    """Run a parser over images, with a bar unless it is hidden, and tell how it went."""
    from vlpart.annotation_parser.run import find_parts

    with Bars(hidden=hidden, transient=True) as progress:
        run = find_parts(
            output,
            labelled,
            images,
            parser,
            vocabulary=vocabulary,
            batch=batch,
            overwrite=overwrite,
            progress=progress,
            on_failure=skipped,
        )
    tell(run, f"{run.parts} parts in {run.items - run.skipped} images")


def say_features(bank: ReferenceBank | None) -> None:
    """Say so if the features are those of the embedded model."""
    from vlpart.annotation_parser.features.base import EMBEDDED

    if bank is not None and bank.features == EMBEDDED:
        note("this bank has the features of the embedded model, which are weaker than DINO's")


def check_drawing(output: Path) -> None:
    """Refuse what no image can be written to, before anything is loaded."""
    from vlpart.files import IMAGE_FORMATS

    if output.suffix.lower() not in IMAGE_FORMATS:
        raise typer.BadParameter(f"{output} must end in {', '.join(IMAGE_FORMATS)}", param_hint="--output")


def write_drawing(output: Path, drawn: Image) -> None:
    """Write an image in the format of its name."""
    from vlpart.files import IMAGE_FORMATS, encode_image, write_file

    write_file(output, encode_image(drawn, IMAGE_FORMATS[output.suffix.lower()], output.name))


def tell_transfer(output: Path, reference: Reference, similarity: float, parts: Iterable[ParsedPart]) -> None:
    """A line for every part that was found, and where the drawing is."""
    for part in parts:
        box = " ".join(f"{value:.0f}" for value in part.box_xyxy)
        say(f"{part.name}\t{box}\t{part.score:.2f}\tfrom {part.found_as}", lines=True)
    say(f"reference {reference.file_name}, similarity {similarity:.3f} -> {output}", err=True)


def tell(run: ParserRun, what: str) -> None:
    """The last line; the exit code is 1 if images were left out."""
    if run.written is None:
        say("this process is done; the last one to finish writes the result", err=True)
        return
    left_out = f", {run.skipped} skipped" if run.skipped else ""
    say(f"{what}{left_out} -> {run.written}")
    if run.skipped:
        raise typer.Exit(1)
