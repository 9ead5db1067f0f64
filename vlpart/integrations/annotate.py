"""A folder of images, labelled by a model, as a project of a labelling tool; and which images to look at first.

What a model has found is only a start: people correct it, and `vlpart train finetune` takes the corrected project.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlpart.checks import in_range, predicts, typed, whole
from vlpart.data.convert.write import require_empty, write
from vlpart.data.image_files import is_url, list_images
from vlpart.data.readers.dataset import LabelledPicture, LabelledSet, Region
from vlpart.errors import DataError, ImageError
from vlpart.inference.batch import readable_threshold
from vlpart.text.vocabulary import Vocabulary
from vlpart.web import shown

if TYPE_CHECKING:
    from vlpart.inference.base import BasePredictor
    from vlpart.results.result import Result

#: What the tools that people know are called, and the form that they read.
TOOLS = {"labelstudio": "labelstudio", "cvat": "cvat", "labelme": "labelme", "x-anylabeling": "labelme", "coco": "coco"}
RANKS = ("name", "uncertain")
#: Scores below this are no doubt, they are noise.
DOUBTFUL = 0.15


@dataclass(kw_only=True)
class Annotated:
    """What was done.

    Attributes:
        output: the folder that was written.
        images, regions: how many.
        failed: images that could not be read.
        order: (file name, expected corrections), as ranked.
        lost: what the tool's form cannot hold, with counts.
    """

    output: Path
    images: int
    regions: int
    failed: int
    order: list[tuple[str, float]]
    lost: dict[str, int] = field(default_factory=dict)


@typed()
def picture_of(result: Result, file_name: str, path: Path | None) -> LabelledPicture:
    """A result as a labelled picture, with scores, and parts that know their object.

    Args:
        result: of one image.
        file_name: of the image within its data set.
        path: where it is.
    """
    height, width = result.image_size
    picture = LabelledPicture(file_name=file_name, path=path, width=width, height=height)
    owners = result.owners.tolist()
    for i, name in enumerate(result.names):
        x0, y0, x1, y1 = (float(side) for side in result.boxes_xyxy[i])
        has_mask = result.masks is not None and result.masks.crop(i).bitmap.size
        picture.regions.append(
            Region(
                name=name,
                box_xyxy=(x0, y0, x1, y1),
                mask=result.masks.rle(i)["counts"].encode() if result.masks is not None and has_mask else None,
                owner=owners[i] if owners[i] >= 0 else None,
                score=float(result.scores[i]),
            )
        )
    return picture


@typed()
def expected_corrections(scores: Sequence[float] | Any, threshold: float) -> float:
    """How many labels of an image a person will probably have to add, change or remove.

    With a score for the probability that a detection is right, one that is kept is wrong with 1 - score, and one that
    is left out is missed with its score.

    Args:
        scores: of all detections, also of those below the threshold.
        threshold: from which on they are kept.
    """
    in_range("threshold", threshold, 0, 1)
    if scores is None:
        raise TypeError("scores must be numbers, got None")
    try:
        sure = np.asarray(scores, dtype=np.float64)
    except (ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"scores must be numbers: {str(error)[:200]}") from error
    sure = sure[sure >= DOUBTFUL]
    return float(np.where(sure >= threshold, 1 - sure, sure).sum())


@typed("output", "tool", "rank", "recursive", "on_image", "on_failure")
def annotate_folder(
    predictor: BasePredictor,
    sources: Iterable[str | Path] | str | Path,
    output: str | Path,
    tool: str = "labelstudio",
    *,
    vocabulary: Vocabulary | str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    iou: float = 0.7,
    rank: str = "name",
    top: int | None = None,
    recursive: bool = False,
    on_image: Callable[[str, Result], object] | None = None,
    on_failure: Callable[[str, ImageError], object] | None = None,
) -> Annotated:
    """Label images into a project of a tool.

    Args:
        predictor: from `vlpart.load`.
        sources: files, folders and globs.
        output: a new folder: what the tool imports, links to the images, and `ranking.csv`.
        tool: one of `TOOLS`.
        vocabulary: what to look for; None takes the predictor's own.
        score_threshold: labels need a score above it; None = that of the command line.
        iou: of two labels that overlap by so much the better one stays.
        rank: "uncertain" puts the images first that will probably need most corrections.
        top: only the first so many images.
        recursive: go into subfolders.
        on_image: called with an image and all labels of it.
        on_failure: called with an image that cannot be read, or "listing" and a folder that cannot be listed; both are
            left out.

    Raises:
        DataError: no such tool or ranking, an address among the sources, no image that can be read, or two images of
            one name.
        OutputError: the folder cannot be written, or is not empty.
        VlpartError: the vocabulary does not fit the model.
    """
    predicts(predictor)
    in_range("iou", iou, 0, 1)
    if score_threshold is not None:
        in_range("score_threshold", score_threshold, 0, 1)
    if tool not in TOOLS or rank not in RANKS:
        raise DataError(f"tools are {', '.join(TOOLS)}, rankings {', '.join(RANKS)}, not {tool!r} and {rank!r}")
    top = None if top is None else whole("top", top, 1, sys.maxsize)
    require_empty(Path(output))  # before an hour of work
    names = predictor.vocabulary if vocabulary is None else Vocabulary.of(vocabulary)
    threshold = readable_threshold(len(names)) if score_threshold is None else score_threshold
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    unlisted: list[ImageError] = []
    paths = [str(path) for path in list_images(given, recursive=recursive, on_unlisted=unlisted.append)]
    if address := next((path for path in paths if is_url(path)), None):
        raise DataError(
            f"{shown(address)}: a project has links to its images, so they must be files: download it first"
        )
    failed = len(unlisted)
    for error in unlisted:
        if on_failure is not None:
            on_failure("listing", error)
    labelled: list[tuple[float, LabelledPicture]] = []
    root = _shared_folder(paths)
    for path in paths:
        try:
            image = predictor.read(path)
        except ImageError as error:
            failed += 1
            if on_failure is not None:
                on_failure(path, error)
            continue
        (result,) = predictor.detect([image], names, score_threshold=min(threshold, DOUBTFUL))
        result = result.without_nested().without_overlapping(iou)
        doubt = expected_corrections(result.scores, threshold)
        kept = result[result.scores > threshold]
        labelled.append((doubt, picture_of(kept, Path(path).resolve().relative_to(root).as_posix(), Path(path))))
        if on_image is not None:
            on_image(path, kept)
    if not labelled:
        raise DataError(f"no image of {', '.join(map(str, given))} can be read")
    if rank == "uncertain":
        labelled.sort(key=lambda each: -each[0])
    return _write_project(Path(output), tool, f"vlpart {predictor.name}", names.names, labelled[:top], failed)


def _write_project(
    output: Path,
    tool: str,
    origin: str,
    names: Sequence[str],
    labelled: Sequence[tuple[float, LabelledPicture]],
    failed: int,
) -> Annotated:
    """What the tool imports, and the ranking; `labelled` are pictures with the corrections that each will need."""
    project = LabelledSet(format=origin, pictures=[picture for _, picture in labelled])
    project.names = list(names)
    order = [(picture.file_name, round(doubt, 3)) for doubt, picture in labelled]
    lost = write(project, output, TOOLS[tool], {"ranking.csv": _table(order, project.pictures)})
    return Annotated(
        output=output,
        images=len(labelled),
        regions=sum(len(picture.regions) for picture in project.pictures),
        failed=failed,
        order=order,
        lost={reason: count for reason, count in lost.items() if count},
    )


def _shared_folder(paths: Sequence[str]) -> Path:
    return Path(os.path.commonpath([Path(path).resolve().parent for path in paths])) if paths else Path()


def _table(order: Sequence[tuple[str, float]], pictures: Sequence[LabelledPicture]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", "expected corrections", "labels"))
    rows.writerows((name, doubt, len(p.regions)) for (name, doubt), p in zip(order, pictures, strict=True))
    return text.getvalue().encode(errors="backslashreplace")
