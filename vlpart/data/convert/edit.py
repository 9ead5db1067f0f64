"""Changes of a data set on its way: renaming and dropping classes, splitting, putting several sets together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, Region
from vlpart.data.readers.values import class_key
from vlpart.data.validation_split import held_out, original_image
from vlpart.errors import DataError
from vlpart.files import is_file, local_path, read_text, why
from vlpart.names import check_names


def read_renames(texts: Iterable[str]) -> dict[str, str]:
    """Renames as typed: 'bumper=car:bumper', several with commas, or the name of a text file with one on each line.

    Raises:
        DataError: no "=", or a side that is empty.
    """
    renames: dict[str, str] = {}
    for text in texts:
        if "=" not in text and is_file(local_path(text)):
            try:
                lines = read_text(local_path(text)).splitlines()
            except OSError as error:
                raise DataError(f"cannot read {text}: {why(error)}") from None
            pairs = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        else:
            pairs = text.split(",")
        for pair in pairs:
            old, equals, new = (part.strip() for part in pair.partition("="))
            if not (equals and old and new):
                raise DataError(f"a rename is 'bumper=car:bumper', not {pair.strip()!r:.80}")
            renames[old] = new
    return renames


def rename(data: LabelledSet, names: Mapping[str, str]) -> None:
    """Call classes otherwise; two that get one name become one class.

    Raises:
        DataError: a class that the set does not have.
    """
    check_names(names, data.names, "the data has no class")
    new_name = {class_key(old): new for old, new in names.items()}
    old_names, data.names = data.names, []
    chosen = {name: data.names[data.index(new_name.get(class_key(name), name))] for name in old_names}
    for region in data.regions():
        region.name = chosen[region.name]


def drop(data: LabelledSet, names: Iterable[str]) -> None:
    """Take classes and their regions out.

    Raises:
        DataError: a class that the set does not have.
    """
    given = list(names)
    check_names(given, data.names, "the data has no class")
    gone = {class_key(name) for name in given}
    data.names = [name for name in data.names if class_key(name) not in gone]
    for picture in data.pictures:
        keep(picture, [class_key(region.name) not in gone for region in picture.regions])


def keep(picture: LabelledPicture, chosen: Sequence[bool]) -> None:
    """Keep some regions; parts of objects that go have no owner any more."""
    place = {old: new for new, old in enumerate(i for i, kept in enumerate(chosen) if kept)}
    picture.regions = [region for region, kept in zip(picture.regions, chosen, strict=True) if kept]
    for region in picture.regions:
        region.owner = None if region.owner is None else place.get(region.owner)


def split(data: LabelledSet, fraction: float) -> None:
    """Put so large a part of the pictures into the val split, the others into train; variants stay together.

    Raises:
        DataError: not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"--split is the part that becomes the val split, between 0 and 1, not {fraction:g}")
    names = {number: original_image(None, picture.file_name) for number, picture in enumerate(data.pictures)}
    held = held_out(names, fraction)
    for number, picture in enumerate(data.pictures):
        picture.split = "val" if number in held else "train"


def merged(sets: Sequence[LabelledSet]) -> LabelledSet:
    """Several sets as one: classes by name, pictures of the same file as one, other pictures of one name apart."""
    if len(sets) == 1:
        return sets[0]
    whole = LabelledSet(format="+".join(data.format for data in sets))
    by_file: dict[Path, LabelledPicture] = {}
    taken: set[str] = set()
    for number, data in enumerate(sets, start=1):
        whole.notes.update(data.notes)
        for name in data.names:
            whole.index(name)
        for picture in data.pictures:
            for region in picture.regions:
                region.name = whole.names[whole.index(region.name)]
            file = None if picture.path is None else picture.path.resolve()
            same = None if file is None else by_file.get(file)
            if same is not None and (same.width, same.height) == (picture.width, picture.height):
                _append(same, picture.regions)
                continue
            if picture.file_name.casefold() in taken:
                picture.file_name = f"set{number}/{picture.file_name}"
            taken.add(picture.file_name.casefold())
            if file is not None:
                by_file[file] = picture
            whole.pictures.append(picture)
    return whole


def _append(picture: LabelledPicture, regions: Sequence[Region]) -> None:
    """Add regions that are not there already."""
    there = {(region.name, region.box_xyxy) for region in picture.regions}
    place: dict[int, int] = {}
    new: list[Region] = []
    for number, region in enumerate(regions):
        if (region.name, region.box_xyxy) not in there:
            place[number] = len(picture.regions) + len(new)
            new.append(region)
    for region in new:
        region.owner = None if region.owner is None else place.get(region.owner)
    picture.regions.extend(new)
