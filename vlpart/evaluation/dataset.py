"""What is evaluated on: ground truth, the images it is of, the groups of its classes, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vlpart.data.check.findings import Findings
from vlpart.data.check.images import find_images
from vlpart.data.check.split import build_split
from vlpart.data.folder import find_val
from vlpart.data.image_files import ImageFinder
from vlpart.data.readers import values
from vlpart.data.readers.coco import image_name
from vlpart.data.readers.values import Id
from vlpart.data.upright import is_annotated_as_stored, read_annotated, unclear_note
from vlpart.errors import DataError
from vlpart.evaluation.benchmarks import Benchmark, PartSplit, custom, part_split
from vlpart.evaluation.identity import file_id
from vlpart.evaluation.truth import held_out_part, read_ground_truth, subset
from vlpart.files import is_file, is_folder


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Ground truth, its images, and how it is scored.

    Attributes:
        truth: content of the annotation file.
        images: folder of the images; None where only predictions from a file are scored.
        benchmark: the protocol.
        left_out: images of the file that are not in `truth` because a subset was asked for: name by id in the file.
    """

    truth: dict[str, Any]
    images: Path | None
    benchmark: Benchmark
    left_out: Mapping[Id, str] = field(default_factory=dict)

    def image_path(self, image: Mapping[str, Any]) -> Path:
        """The file of an image: by its name, or where LVIS says it is.

        Raises:
            DataError: it is not there.
        """
        if self.images is None:
            raise DataError("the folder of the images is not known: give it (--images)")
        for name in _names_of(image):
            if (place := self._places.get(name)) is not None and is_file(self.images / place):
                return self.images / place
        names = _names_of(image)
        shown = self.images / names[0] if names else f"of image {file_id(image)}, which has no file_name"
        raise DataError(f"missing image {ascii(str(shown))[1:-1]}: give the folder of the images")

    def orientation_note(self) -> str | None:
        """See `vlpart.data.upright.unclear_note`; None where the images are not known."""
        if self.images is None:
            return None
        files = [self.images / place for place in self._places.values() if place is not None]
        return unclear_note(files)

    @cached_property
    def _places(self) -> dict[str, str | None]:
        """File name -> name below the folder."""
        assert self.images is not None
        return ImageFinder(self.images).find_all(name for image in self.truth["images"] for name in _names_of(image))

    def pixels_or_path(self, image: Mapping[str, Any]) -> Any:
        """What a model is given of an image, so that its answers are in the frame of the annotations.

        Its path, or (H, W, 3) uint8 pixels where only the stored frame, without the EXIF orientation, has the size that
        the annotations say.

        Raises:
            DataError: it is not there, or it is annotated as stored and damaged.
        """
        path = self.image_path(image)
        size = (image.get("height"), image.get("width"))
        if None not in size and is_annotated_as_stored(path, size):  # type: ignore[arg-type]
            return read_annotated(path, size)  # type: ignore[arg-type]
        return str(path)


def _names_of(image: Mapping[str, Any]) -> list[str]:
    """What the file of an image may be called, as `values.file_path` has it."""
    names = (values.file_path(name) for name in (image.get("file_name"), image_name(image)) if name)
    return [name for name in dict.fromkeys(names) if name]


def open_dataset(
    annotations: Path | str,
    images: Path | str | None,
    benchmark: Benchmark | None = None,
    *,
    max_images: int | None = None,
    validation_split: float = 0.0,
) -> Dataset:
    """Read the ground truth.

    Args:
        annotations: COCO-style JSON.
        images: folder of the images, or None.
        benchmark: how it is scored; None finds out.
        max_images: only an evenly spaced subset of so many images.
        validation_split: only the images that a training source with this `validation_split` leaves out; 0 = all.

    Raises:
        DataError: the file is missing or malformed.
    """
    own_names = benchmark is None or benchmark.vocabulary is None
    whole = read_ground_truth(Path(annotations), merge_names=own_names)
    truth = subset(held_out_part(whole, validation_split) if validation_split else whole, max_images)
    kept = {image["id"] for image in truth["images"]}
    left_out = {file_id(image): image["file_name"] for image in whole["images"] if image["id"] not in kept}
    return Dataset(
        truth=truth,
        images=None if images is None else Path(images),
        benchmark=benchmark or custom(Path(annotations), truth),
        left_out=left_out,
    )


def open_own(path: Path, images: Path | None, *, max_images: int | None = None) -> Dataset:
    """Read ground truth of the user's own; images are found where `vlpart data check` finds them.

    Args:
        path: a COCO-style file, or a folder whose val split is meant.
        images: folder of the images; None looks in `images/` and other usual places.
        max_images: only an evenly spaced subset of so many images.

    Raises:
        DataError: the file is missing or malformed, or the folder has no val split. Images may be missing.
    """
    path = Path(path)
    root = path if is_folder(path) else None
    file = path if root is None else find_val(root)
    dataset = open_dataset(file, images, max_images=max_images)
    if images is not None:
        return dataset
    split = build_split(file, dataset.truth, Findings(), root)
    find_images(split, root or file.parent, None)
    return replace(dataset, images=split.image_root)


def groups_of(dataset: Dataset) -> tuple[dict[str, list[int]], PartSplit | None]:
    """The groups of classes that a data set is reported by, as category ids, and its base and novel parts if any."""
    groups = dataset.benchmark.group_ids(dataset.truth)
    split = part_split(dataset.truth, groups)
    if split is not None and not {"base", "novel"} & set(groups):
        groups |= {name: list(ids) for name, ids in zip(("base", "novel"), split, strict=True) if ids}
    return groups, split
