"""`vlpart data convert`: a data set of one tool in the form of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlpart.checks import typed
from vlpart.data.convert.edit import drop, merged, rename, split
from vlpart.data.convert.write import FORMS, write
from vlpart.data.readers.dataset import LabelledSet
from vlpart.data.readers.detect import hint, read_any
from vlpart.data.upright import unclear_note
from vlpart.errors import DataError

__all__ = ["FORMS", "Converted", "convert", "write"]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was done.

    Attributes:
        formats: of the sources.
        output: folder that was written.
        images, regions: how many.
        names: the classes.
        unread: what of the sources could not be used, with counts.
        lost: what the new form cannot hold, with counts.
        hint: what flat names that look like parts may be called, or None.
    """

    formats: tuple[str, ...]
    output: Path
    images: int
    regions: int
    names: tuple[str, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    hint: str | None = None


@typed("output", "form", "renames", "val_fraction")
def convert(
    sources: Sequence[Path | str] | Path | str,
    output: Path | str,
    form: str,
    *,
    renames: Mapping[str, str] | None = None,
    dropped: Iterable[str] = (),
    val_fraction: float | None = None,
) -> Converted:
    """Read one or several data sets and write them as one.

    Args:
        sources: folders or annotation files of any format that `vlpart.data.readers.detect` knows; several are put
            together by the names of their classes.
        output: a new folder.
        form: "coco", "yolo", "labelme", "voc", "cvat", "labelstudio" or "label-maps".
        renames: old name to new name, before anything is dropped.
        dropped: classes to leave out.
        val_fraction: part of the images that becomes the val split; None keeps the splits of the sources.

    Raises:
        DataError: a source of no known format or a broken one, unknown names, nothing to write.
        OutputError: the folder cannot be written, or is not empty.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    if not given:
        raise DataError("nothing to convert: give the folder or the annotation file of a data set")
    if form not in FORMS:
        raise DataError(f"unknown format {form!r}: choose from {', '.join(FORMS)}")
    sets = [read_any(Path(source)) for source in given]
    return write_set(sets, Path(output), form, renames=renames, dropped=dropped, val_fraction=val_fraction)


def write_set(
    sets: Sequence[LabelledSet],
    output: Path,
    form: str,
    *,
    renames: Mapping[str, str] | None = None,
    dropped: Iterable[str] = (),
    val_fraction: float | None = None,
) -> Converted:
    """The second half of `convert`, for data sets that were read."""
    whole = merged(sets)
    if renames:
        rename(whole, renames)
    drop(whole, dropped)
    if val_fraction is not None:
        split(whole, val_fraction)
    if not whole.pictures or not whole.names:
        raise DataError("nothing is left to write: the sources have no images, or no class is left")
    if note := unclear_note([picture.path for picture in whole.pictures if picture.path is not None]):
        whole.notes[note] += 1
    lost: Counter[str] = write(whole, output, form)
    return Converted(
        formats=tuple(data.format for data in sets),
        output=output,
        images=len(whole.pictures),
        regions=sum(1 for _ in whole.regions()),
        names=tuple(whole.names),
        unread={reason: count for reason, count in whole.notes.items() if count},
        lost={reason: count for reason, count in lost.items() if count},
        hint=hint(whole.names),
    )
