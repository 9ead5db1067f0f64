"""A folder of the user's own data: which of its files is the train split, which the val split, where the images are.

Usual layouts are understood: `train.json` and `val.json` beside `images/`, COCO's
`annotations/instances_train2017.json`, Roboflow's `train/_annotations.coco.json` and `valid/_annotations.coco.json`, or
one file of any name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlpart.data.check.findings import Findings
from vlpart.data.check.images import find_images
from vlpart.data.check.leaks import source_images
from vlpart.data.check.split import Split, build_split, split_kind, split_name
from vlpart.data.readers.coco import load_json
from vlpart.data.readers.detect import detect
from vlpart.errors import DataError
from vlpart.files import is_folder

JSON_PLACES = ("*.json", "annotations/*.json", "{split}/*annotations*.json")
"""Where annotation files may be. In the folder of a split, other JSON files are one per image."""
_SPLITS = ("train", "val", "test")
_LARGE = 5 << 20
"""Bytes of a JSON file from which on it is not parsed only to see what it is."""
_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe \t\r\n\0"


@dataclass(frozen=True, kw_only=True)
class DataFolder:
    """What a folder holds. `val` is None where there is one annotation file only. The `images` of both are known."""

    root: Path
    train: Split
    val: Split | None


def json_files(root: Path, fix: str = "put the annotation file there") -> list[Path]:
    """JSON files of a folder, of its `annotations/` and of the folders of its splits.

    Args:
        root: the folder.
        fix: what the user is told to do if there are none.

    Raises:
        DataError: there are none.
    """
    if not is_folder(root):
        raise DataError(f"there is no folder {root}; give the folder of your data set (--data)")
    places = [p.format(split=name) for p in JSON_PLACES for name in ("train", "val", "valid", "test")]
    files = [file for place in dict.fromkeys(places) for file in sorted(root.glob(place))]
    if not files:
        raise DataError(f"no JSON files in {root}, its annotations/ or train/; {conversion(root) or fix}")
    return files


def conversion(root: Path) -> str | None:
    """What to run on a folder that holds a data set of another tool; None if it holds none that is known."""
    kind = foreign_kind(root)
    if kind is None:
        return None
    return f"it holds a data set of the kind {kind}: `vlpart data convert {root} --to coco --output NEW` makes it COCO"


def foreign_kind(source: Path) -> str | None:
    """Which other tool's data set a folder or file holds ("yolo", "labelme", ...); None for COCO, or for nothing known.

    A folder with any COCO-style file in a usual place counts as COCO, whatever else lies in it. A broken file counts as
    COCO, too: whoever reads it says what is wrong.
    """
    if is_folder(source):
        places = [p.format(split=name) for p in JSON_PLACES for name in ("train", "val", "valid", "test")]
        if any(_looks_like_coco(file) for place in dict.fromkeys(places) for file in source.glob(place)):
            return None
    try:
        known_format = detect(source)
    except DataError:
        return None
    return None if known_format is None or known_format[0] == "coco" else known_format[0]


def _looks_like_coco(file: Path) -> bool:
    """Whether a file is COCO, a broken one counting as such; of large ones only the beginning is read."""
    try:
        if file.stat().st_size > _LARGE:
            with file.open("rb") as opened:
                head = opened.read(1 << 16)
            return head.lstrip(_BEFORE_JSON).startswith(b"{") and b'"shapes"' not in head
        return _Reader().is_coco(file)
    except (OSError, DataError):
        return True


def open_folder(root: Path) -> DataFolder:
    """Find the splits of a data set and their images.

    Raises:
        DataError: no annotation file, several that could be one split, a broken one, one with broken entries, without
            annotations or with unnamed categories, missing images, or images that are in both splits.
    """
    files, read = json_files(root), _Reader()
    train = _pick(files, "train", root, read)
    if train is None:
        others = [file for file in files if split_kind(file, root) not in _SPLITS]
        train = _only([file for file in others if read.is_coco(file)], "train", root)
    if train is None:
        if helped := conversion(root):
            raise DataError(f"{root}: {helped}")
        names = ", ".join(str(file.relative_to(root)) for file in files[:5])
        raise DataError(
            f"{root}: none of its JSON files is a train split ({names}); call the annotation file train.json"
        )
    val = _pick(files, "val", root, read)
    folder = DataFolder(
        root=root,
        train=_usable(train, read.content(train), root),
        val=None if val is None else _usable(val, read.content(val), root),
    )
    if folder.val is not None:
        _refuse_overlap(folder.train, folder.val, root)
    return folder


def find_val(root: Path) -> Path:
    """The annotation file of the val split of a folder, which need not have a train split.

    Raises:
        DataError: there is none, or there are several, or a file that could be it is no JSON.
    """
    val = _pick(json_files(root), "val", root, _Reader())
    if val is None:
        raise DataError(f"{root} has no val split: call the annotation file val.json, or name the file itself")
    return val


class _Reader:
    """Parsed files, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Any]] = {}

    def content(self, path: Path) -> dict[str, Any]:
        if path not in self._read:
            self._read[path] = load_json(path)
        return self._read[path]

    def is_coco(self, path: Path) -> bool:
        """Whether it has images and categories; other JSON files may lie beside annotation files.

        Raises:
            DataError: it is no JSON.
        """
        try:
            content = self.content(path)
        except DataError as error:
            if "outermost value" in str(error):
                return False
            raise
        return all(isinstance(content.get(key), list) for key in ("images", "categories"))


def _pick(files: Sequence[Path], kind: str, root: Path, read: _Reader) -> Path | None:
    """The file of a split: `train.json` before `instances_train*.json` before any other name."""
    named = [file for file in files if split_kind(file, root) == kind]
    ranks = (
        [file for file in named if file.stem == kind],
        [file for file in named if file.name.startswith("instances_")],
        named,
    )
    for candidates in ranks:
        fitting = [file for file in candidates if read.is_coco(file)]
        if fitting:
            return _only(fitting, kind, root)
    return None


def _only(candidates: Sequence[Path], kind: str, root: Path) -> Path | None:
    if len(candidates) > 1:
        names = ", ".join(str(file.relative_to(root)) for file in candidates)
        raise DataError(
            f"{root}: {len(candidates)} files could be the {kind} split ({names}); call one of them {kind}.json, "
            "or move the others away"
        )
    return candidates[0] if candidates else None


def _usable(path: Path, content: dict[str, Any], root: Path) -> Split:
    """The split of a file, with the folder of its images."""
    findings = Findings()
    split = build_split(path, content, findings, root)
    unnamed = [category.file_id for category in split.categories.values() if not (category.name or "").strip()]
    if unnamed:
        raise DataError(f"{path}: categories {unnamed[:5]} have no name; the names are what the model learns to find")
    if errors := [finding for finding in findings.listed() if finding.severity == "error"]:
        first = errors[0]
        raise DataError(
            f"{path}: {first.count} x {first.meaning}: {first.examples[0]}; `vlpart data check {root}` lists all"
        )
    if not split.annotations:
        raise DataError(f"{path} has no annotations of its images; `vlpart data check {root}` says what is wrong")
    find_images(split, root, None)
    if split.image_root is None:
        raise DataError(f"{path}: its images are not in {root}, nor in images/ or another usual place below it")
    missing = [image.file_name for image in split.images.values() if split.image_path(image) is None]
    if missing:
        shown = ", ".join(ascii(name)[1:-1][:200] for name in missing[:3])
        raise DataError(
            f"{path}: {len(missing)} of {len(split.images)} images are not in {split.image_root}, first: {shown}; "
            f"`vlpart data check {root}` lists them"
        )
    return split


def _refuse_overlap(train: Split, val: Split, root: Path) -> None:
    """Refuse to evaluate on what is trained on: the figures would be too good, and the wrong checkpoint the best.

    Raises:
        DataError: an image of the val split, or the original of one, is in the train split.
    """
    trained = set(_files(train).values())
    same = [name for name, file in _files(val).items() if file in trained]
    sources = sorted(source_images(train) & source_images(val))
    if not (same or sources):
        return
    count = f"{len(same)} images" if same else f"crops or variants of {len(sources)} source images"
    shown, both = ", ".join((same or sources)[:3]), f"{split_name(train.path)} and {split_name(val.path)}"
    raise DataError(
        f"{root}: {count} are in both {both} ({shown}); take them out of one, or move {split_name(val.path)} away: "
        "then part of the train split is held out"
    )


def _files(split: Split) -> dict[str, Path]:
    """File name -> image, links followed."""
    assert split.image_root is not None
    paths = {image.file_name: split.image_path(image) for image in split.images.values()}
    return {name: path.resolve() for name, path in paths.items() if path is not None}
