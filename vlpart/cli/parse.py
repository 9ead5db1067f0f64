"""`vlpart parse`: part boxes for novel objects, carried over from base objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlpart.cli import parse_options as o
from vlpart.cli.console import Bars, names_in, note, note_config, print_table, say, skipped
from vlpart.cli.options import with_groups

if TYPE_CHECKING:
    from vlpart.annotation_parser.labelled_images import LabelledImage
    from vlpart.annotation_parser.references import BaseData
    from vlpart.recipes.parser import FindRecipe


commands = typer.Typer(
    no_args_is_help=True, help="Find parts of novel objects by their resemblance to annotated base objects."
)


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
@with_groups
def build(
    *,
    bank: Annotated[Path, typer.Argument(help="Folder of the bank to write.", file_okay=False)],
    annotations: Annotated[
        Path | None, typer.Option(help="COCO-format file of base objects and parts.", rich_help_panel=o.DATA)
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of its images.", rich_help_panel=o.DATA)] = None,
    recipe: o.Recipe = None,
    data: o.Root = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="Objects and parts by category id. Default: the names in the file.", rich_help_panel=o.DATA),
    ] = None,
    only_objects: Annotated[
        str | None, typer.Option(help="Take these objects: 'chair, sofa'.", rich_help_panel=o.DATA)
    ] = None,
    exclude_objects: Annotated[str, typer.Option(help="Leave these objects out.", rich_help_panel=o.DATA)] = "",
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Every annotated object is a reference, also several in one image.",
            rich_help_panel=o.DATA,
        ),
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="dino_vits8, embedded, or timm:NAME. Default: dino_vits8, without a network embedded.",
            rich_help_panel=o.COMPUTE,
        ),
    ] = None,
    computation: o.Computation,
    sides: o.Sides,
    run: o.Run,
) -> None:
    """Build a reference bank: describe every base image that shows exactly one annotated object, or every object.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.annotation_parser.features.load import load_features
    from vlpart.annotation_parser.run import build_bank
    from vlpart.recipes.parser import check_data, get_bank_recipe

    known = None if recipe is None else get_bank_recipe(recipe)
    note_config(recipe or "")
    if known is not None and data is not None and annotations is None and images is None:
        check_data([known], data)
    annotations = annotations or o.below(data, known.annotations if known else None, "--annotations")
    images = images or o.below(data, known.images if known else None, "--images")
    listed = vocabulary or (known.vocabulary if known else None)
    base = _read_base(annotations, listed, only_objects, names_in(exclude_objects), objects=objects)
    extractor = load_features(
        features or DINO,
        weights=computation.feature_weights,
        device=computation.device,
        precision=computation.precision,
        on_fallback=None if features or computation.feature_weights else note,
    )
    short_side, max_side = sides.short_side, sides.max_side
    if known is not None and extractor.name == known.features:
        short_side, max_side = short_side or known.short_side, max_side or known.max_side
    left_out = "".join(f", {n} {why}" for why, n in base.left_out.items())
    note(f"{len(base.references)} base {'objects' if objects else 'images'}{left_out}")
    with Bars(hidden=run.no_progress, transient=True) as progress:
        done = build_bank(
            bank,
            base,
            images,
            extractor,
            short_side=short_side,
            max_side=max_side,
            batch=run.batch,
            overwrite=run.overwrite,
            progress=progress,
            on_failure=skipped,
        )
    o.tell(done, f"{done.items - done.skipped} references, {extractor.name} features")


def _read_base(
    annotations: Path, listed: str | None, only: str | None, without: list[str], *, objects: bool
) -> BaseData:
    """The base images, or with `objects` every annotated object."""
    from vlpart.annotation_parser.references import read_base_data, read_base_objects
    from vlpart.text.vocabulary import Vocabulary

    chosen = None if only is None else names_in(only)
    if not objects:
        vocabulary = None if listed is None else Vocabulary.of(listed)
        return read_base_data(annotations, vocabulary=vocabulary, only_objects=chosen, exclude_objects=without)
    if listed is not None:
        raise typer.BadParameter("--objects takes the names in the file", param_hint="--vocabulary")
    return read_base_objects(annotations, only_objects=chosen, exclude_objects=without)


@commands.command("find")
@with_groups
def find(
    *,
    bank: Annotated[
        Path | None, typer.Argument(help="Reference bank. Not needed if all labels are base objects.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images; without --labels one folder per label.", rich_help_panel=o.DATA),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="COCO file of image labels.", rich_help_panel=o.DATA)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="COCO-format file to write.")] = None,
    recipe: o.Recipe = None,
    data: o.Root = None,
    label_vocabulary: Annotated[
        str | None,
        typer.Option(help="Labels of folders, by name, WordNet id or ImageNet range.", rich_help_panel=o.DATA),
    ] = None,
    only_labels: o.OnlyLabels = None,
    per_folder: Annotated[int | None, typer.Option(min=1, help="Images per folder.", rich_help_panel=o.DATA)] = None,
    asked: o.Parsing,
    matching: o.Matching,
    base_objects: Annotated[
        str | None,
        typer.Option(
            help="Labels that the detector parses by itself: 'car, chair' or 'all'.", rich_help_panel=o.DETECTOR
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(help="Vocabulary of the parts it looks for. Default: its own.", rich_help_panel=o.DETECTOR),
    ] = None,
    keep_masks: Annotated[bool, typer.Option("--keep-masks", help="Write transferred masks, too.")] = False,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Score base parts need.", rich_help_panel=o.DETECTOR)
    ] = 0.7,
    run: o.Run,
) -> None:
    """Parse images with image-level labels into a COCO-format file of part boxes, as published.

    Interrupted, it goes on when it is run again. Under torchrun the images are shared out.
    """
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.run import open_image_parser
    from vlpart.names import check_names
    from vlpart.recipes.parser import check_bank, check_data, get_find_recipe
    from vlpart.text.vocabulary import Vocabulary

    known = None if recipe is None else get_find_recipe(recipe)
    note_config(recipe or "")
    if known is not None and data is not None and labels is None and images is None:
        check_data([known], data)
    labels = labels or (o.below(data, known.labels, "--labels") if known else None)
    images = images or o.below(data, known.images if known else None, "--images")
    output = output or o.below(data, known.output if known else None, "--output")
    sources = asked.sources
    opened = None if bank is None else ReferenceBank(bank, asked.base_images)
    if known is not None and opened is not None:
        check_bank(known, opened)
    labelled = _read_images(labels, images, label_vocabulary, only_labels, per_folder)
    by_itself = _base_objects(base_objects, known)
    if base_objects is not None and by_itself is not None:
        check_names(by_itself, (label for image in labelled for label in image.labels), "no image has the label")
    vocabulary = o.part_names(asked.names or (known.names if known else None))
    looked_for = parts or (known.vocabulary if known else None)
    parser = asked.open(
        open_image_parser,
        opened,
        matching.options(sources, keep_masks=keep_masks, base_objects=by_itself),
        names=vocabulary,
        model=asked.model or (known.model if known else "tiny"),
        parts=None if looked_for is None else Vocabulary.of(looked_for),
        score_threshold=threshold,
    )
    o.parse_all(output, labelled, images, parser, vocabulary, run)


@commands.command("show")
@with_groups
def show(
    *,
    bank: Annotated[Path, typer.Argument(help="Reference bank.")],
    image: o.ImageToShow,
    label: o.Label,
    output: o.Drawing = Path("vlpart-parse.png"),
    asked: o.Parsing,
    matching: o.Matching,
    height: o.PanelHeight = 420,
) -> None:
    """Draw how a novel object is parsed: reference, target, correspondences, transferred parts and final boxes."""
    from vlpart.annotation_parser.bank import ReferenceBank
    from vlpart.annotation_parser.run import open_image_parser
    from vlpart.annotation_parser.show import draw_transfer
    from vlpart.data.images import read_image

    o.check_drawing(output)
    opened = ReferenceBank(bank, asked.base_images)
    pixels = read_image(image)
    parser = asked.open(open_image_parser, opened, matching.options(asked.sources))
    parser.check_labels([label])
    transfer = parser.transfer(pixels, label)
    o.write_drawing(output, draw_transfer(transfer, label, parser.renamer, height=height))
    o.tell_transfer(output, transfer.reference, transfer.similarity, parser.named(transfer, pixels.shape[:2], label))


def _read_images(
    labels: Path | None, images: Path, vocabulary: str | None, only: str | None, per_folder: int | None
) -> list[LabelledImage]:
    """The images to parse: of a label file, or of one folder per label."""
    from vlpart.annotation_parser.labelled_images import read_labelled_folders, read_labels
    from vlpart.text.vocabulary import Vocabulary

    chosen = None if only is None else names_in(only)
    if labels is None:
        known = None if vocabulary is None else Vocabulary.of(vocabulary)
        return read_labelled_folders(images, labels=known, per_folder=per_folder, only=chosen)
    for value, option in ((vocabulary, "--label-vocabulary"), (per_folder, "--per-folder")):
        if value is not None:
            raise typer.BadParameter(f"{option} is for one folder per label, not for --labels", param_hint=option)
    return read_labels(labels, only=chosen)


def _base_objects(text: str | None, known: FindRecipe | None) -> frozenset[str] | None:
    """The labels that the detector parses by itself: as given, else those of the recipe; None = all of them."""
    if text is None:
        names: Iterable[str] | None = () if known is None else known.base_objects
    else:
        names = None if text.strip().lower() == "all" else names_in(text)
    return None if names is None else frozenset(names)


# ---- all published runs


@commands.command("golden")
@with_groups
def golden(
    *,
    architecture: Annotated[str, typer.Option(help="Detector: r50, or swin (the _swinbase files).")] = "r50",
    data: Annotated[
        Path,
        typer.Option("--data", envvar="VLPART_DATA", help="Data root of the published layout.", rich_help_panel=o.DATA),
    ] = Path("datasets"),
    bank: Annotated[
        Path,
        typer.Option(help="Reference bank of Pascal Part; built if it is not there.", rich_help_panel=o.DATA),
    ] = Path("banks/pascal_part"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done and what is missing; write nothing.")
    ] = False,
    computation: o.Computation,
    run: o.Run,
) -> None:
    """Parse the golden ImageNet images as published: the parts of four vocabularies, and the bank that they need.

    What is there already stays; interrupted, the command goes on when it is run again. Under torchrun the images of
    every run are shared out.
    """
    from vlpart.annotation_parser.bank import HEADER
    from vlpart.annotation_parser.features.base import DINO
    from vlpart.recipes.parser import BANKS, check_data, golden_runs, not_here

    finds = [(each, run.overwrite or not (data / each.output).is_file()) for each in golden_runs(architecture)]
    to_do = [each for each, wanted in finds if wanted]
    base = [BANKS[each.bank] for each in to_do if each.searches and not (bank / HEADER).is_file()]
    if dry_run:
        rows = [("build", each.name, data / each.annotations, each.features, bank, "to do") for each in base]
        rows += [
            ("find", x.name, data / x.labels, x.model, data / x.output, "to do" if wanted else "there, stays")
            for x, wanted in finds
        ]
        print_table(("command", "recipe", "reads", "with", "writes", "state"), rows)
        for path, command in not_here([*base, *to_do], data).items():
            say(f"missing: {path} (`{command}`)")
        return
    check_data([*base, *to_do], data)
    options: dict[str, Any] = {"data": data, **vars(computation), "batch": run.batch, "no_progress": run.no_progress}
    steps = [partial(build, bank=bank, recipe=each.name, features=DINO, **options) for each in base]
    for each, wanted in finds:
        if wanted:
            used = bank if each.searches else None
            steps.append(partial(find, bank=used, recipe=each.name, overwrite=run.overwrite, **options))
        else:
            note(f"{data / each.output} is there and stays; --overwrite replaces it")
    if any([_left_something_out(step) for step in steps]):  # noqa: C419  a list: all steps are taken
        raise typer.Exit(1)


def _left_something_out(step: Callable[[], None]) -> bool:
    """Take a step; what one image does to a run ends that run only with exit code 1."""
    try:
        step()
    except typer.Exit as ended:
        if ended.exit_code != 1:
            raise
        return True
    return False
