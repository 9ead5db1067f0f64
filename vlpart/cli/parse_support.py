"""What the commands of `vlpart parse` share: reading their options, and telling how it went."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vlpart.cli.console import say
from vlpart.errors import DataError, VlpartError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlpart.annotation_parser.labelled_images import AnnotatedObject, LabelledImage
    from vlpart.annotation_parser.run import Outcome
    from vlpart.recipes.parser import FindRecipe
    from vlpart.text.vocabulary import Vocabulary


def below(root: Path | None, place: str | None, option: str) -> Path:
    """A path of a recipe below the data root."""
    if place is None:
        raise typer.BadParameter(f"give {option}, or a published run with --recipe and --data", param_hint=option)
    if root is None:
        raise typer.BadParameter(f"give {option}, or the data root of the recipe with --data", param_hint=option)
    return root / place


_OF_IMAGES = ("boxes", "threshold", "foreground", "min_iou", "parts", "max_side")
_OF_OBJECTS = ("references", "detector_share", "min_confidence")
_OF_FOLDERS = ("label_vocabulary", "per_folder")


def refuse_ignored(context: typer.Context, *, annotated: bool) -> None:
    """Refuse options of `find` and `show` that would change nothing: of the other kind of bank, or of folders."""
    given = {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if (source := context.get_parameter_source(str(parameter.name))) is not None and source.name == "COMMANDLINE"
    }
    other = _OF_IMAGES if annotated else (*_OF_OBJECTS, *(("labels",) if context.info_name == "show" else ()))
    kind = "images; this one is of objects" if annotated else "objects: vlpart parse build --objects"
    ignored = dict.fromkeys(other, f"is for banks of {kind}")
    if "labels" in given:
        ignored |= dict.fromkeys(_OF_FOLDERS, "is for one folder per label, not for --labels")
    for name, option in given.items():
        if name in ignored:
            raise typer.BadParameter(f"{option} {ignored[name]}", param_hint=option)


def annotated_object(labels: Path | None, image: str, label: str, pixels: NDArray[np.uint8]) -> AnnotatedObject:
    """The largest annotated object of a label in an image; without a file the whole (H, W, 3) image.

    Raises:
        DataError: the file cannot be used, or has no such object in that image.
        ImageError: the image has another size than the one that is annotated.
    """
    from vlpart.annotation_parser.labelled_images import AnnotatedObject, read_objects
    from vlpart.annotation_parser.object_parser import check_size
    from vlpart.names import plain

    height, width = pixels.shape[:2]
    if labels is None:
        return AnnotatedObject(label=label, box_xyxy=(0, 0, width, height))
    here = Path(image).parts
    for entry in read_objects(labels, only=[label]):
        listed = Path(entry.file_name).parts
        if here[-len(listed) :] == listed:
            check_size(pixels, entry.size_hw, Path(image))
            objects = [each for each in entry.objects if plain(each.label) == plain(label)]
            return max(objects, key=lambda each: int(each.bitmap(height, width).sum()))
    raise DataError(f"{labels} annotates no {label} in {image}: name an image that it lists")


def part_names(given: str) -> Vocabulary:
    """The names to write, of which some must be parts."""
    from vlpart.text.vocabulary import Vocabulary

    vocabulary = Vocabulary.of(given)
    if not any(entry.part for entry in vocabulary.entries):
        raise typer.BadParameter(f"{given!r} names no parts; 'bench: leg, seat' does", param_hint="--names")
    return vocabulary


def read_images(
    labels: Path | None,
    images: Path,
    vocabulary: str | None,
    only: str | None,
    per_folder: int | None,
    *,
    annotated: bool = False,
) -> list[LabelledImage]:
    """The images to parse: of a label file (with `annotated` objects), or of one folder per label."""
    from vlpart.annotation_parser.labelled_images import read_labelled_folders, read_labels, read_objects
    from vlpart.text.vocabulary import Vocabulary

    wanted = None if only is None else names_in(only)
    if annotated:
        if labels is None:
            raise typer.BadParameter("a bank of objects needs a file of annotated objects", param_hint="--labels")
        return read_objects(labels, only=wanted)
    if labels is not None:
        return read_labels(labels, only=wanted)
    known = None if vocabulary is None else Vocabulary.of(vocabulary)
    return read_labelled_folders(images, labels=known, per_folder=per_folder, only=wanted)


def which_base_objects(given: str | None, known: FindRecipe | None, images: list[LabelledImage]) -> tuple[str, ...]:
    """The labels that the detector parses by itself: as given, else those of the recipe."""
    if given is None and (known is None or known.base_objects is not None):
        return () if known is None or known.base_objects is None else known.base_objects
    if given is None or given.strip().lower() == "all":
        return tuple(dict.fromkeys(label for image in images for label in image.labels))
    from vlpart.names import check_names

    names = names_in(given)
    check_names(names, (label for image in images for label in image.labels), "no image has the label")
    return tuple(names)


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


def wants_proposals(boxes: str) -> bool:
    """What --boxes says."""
    if boxes not in ("proposals", "masks"):
        raise typer.BadParameter(f"{boxes!r} is neither 'proposals' nor 'masks'", param_hint="--boxes")
    return boxes == "proposals"


def names_in(text: str) -> list[str]:
    """Names separated by commas or semicolons."""
    return [name.strip() for name in re.split(r"[,;]", text) if name.strip()]


def note(text: str) -> None:
    """One line on standard error."""
    say(f"note: {text}", err=True)


def skipped(image: str, error: VlpartError) -> None:
    """Say which image was left out, and why."""
    message = " ".join(str(error).split())
    say(f"skipped: {message}" if image in message else f"skipped: {image}: {message}", err=True)


def say_features(features: object) -> None:
    """Say so if the features are those of the embedded model."""
    from vlpart.annotation_parser.features.base import EMBEDDED

    if getattr(features, "name", "") == EMBEDDED:
        note("this bank has the features of the embedded model, which are weaker than DINO's")


def tell(outcome: Outcome, what: str) -> None:
    """The last line; the exit code is 1 if images were left out."""
    if outcome.written is None:
        say("this process is done; the last one to finish writes the result", err=True)
        return
    left_out = f", {outcome.skipped} skipped" if outcome.skipped else ""
    say(f"{what}{left_out} -> {outcome.written}")
    if outcome.skipped:
        raise typer.Exit(1)


@contextmanager
def progress_bar(title: str, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
