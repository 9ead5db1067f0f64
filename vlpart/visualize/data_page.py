"""A page to look at: sample images of a data set with their masks, what was found, and the class histogram.

One HTML file without scripts and without anything from outside; the images are in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.checks import typed, whole
from vlpart.data.check.split import Split
from vlpart.data.readers.base import CategoryEntry, ImageEntry
from vlpart.data.readers.regions import read_annotation
from vlpart.data.readers.values import Id
from vlpart.data.upright import read_annotated
from vlpart.errors import DataError, ImageError, VocabularyError
from vlpart.files import encode_image, write_file
from vlpart.masks.rasterise import Segmentation
from vlpart.masks.rle import coco_rle
from vlpart.text.vocabulary import Vocabulary
from vlpart.visualize.page import render

if TYPE_CHECKING:
    from vlpart.data.check.run import CheckReport
    from vlpart.results.result import Result

SAMPLES = 24
"""Images of every file."""
SIDE = 900
"""Longer side that images are scaled down to before they are drawn on."""
ROWS = 60
"""Classes in the histogram of the page."""


@dataclass(frozen=True, slots=True)
class DrawnSample:
    """A drawn image as JPEG, with its title and one line below it."""

    jpeg: bytes
    title: str
    caption: str


@typed()
def write_page(report: CheckReport, path: Path, *, samples: int = SAMPLES) -> Path:
    """Write the page of a check.

    Args:
        report: what `vlpart.data.check.run.check` gave.
        path: the HTML file to write; folders are made as needed.
        samples: images of every file, chosen so that as many classes as possible are among them, rare ones first.

    Raises:
        OutputError: the page cannot be written.
    """
    if not isinstance(getattr(report, "splits", None), list):
        raise TypeError(f"report must be a CheckReport, got a {type(report).__name__}")
    samples = whole("samples", samples, 0, 10_000)
    sections = []
    for split in report.splits:
        counts = report.histogram(split)
        top = max((max(count.annotations, count.images) for count in counts), default=0) or 1
        sections.append({"split": split, "counts": counts, "top": top, "samples": draw_samples(split, samples)})
    page = render(
        "data_page.html.j2",
        title=", ".join(split.name for split in report.splits) or "data check",
        findings=list(report.findings),
        sections=sections,
        rows=ROWS,
    )
    return write_file(path, page.encode("utf-8", "backslashreplace"))


def choose_samples(split: Split, number: int) -> list[int]:
    """Image ids: again and again the fullest image of the class that is shown least so far, rare classes first.

    The same file gives the same choice. A file without any annotation gives its first images.
    """
    classes_of = {image_id: classes for image_id in split.images if (classes := _classes(split, image_id))}
    if not classes_of:
        return list(split.images)[:number]
    having: dict[int, list[int]] = {}
    for image_id, classes in sorted(classes_of.items(), key=lambda item: (len(item[1]), -item[0])):
        for category_id in classes:
            having.setdefault(category_id, []).append(image_id)
    frequency = {category_id: len(images) for category_id, images in having.items()}
    shown: Counter[int] = Counter()
    chosen: dict[int, None] = {}
    while having and len(chosen) < number:
        category_id = min(having, key=lambda c: (shown[c], frequency[c], c))
        image_id = having[category_id].pop()
        if not having[category_id]:
            del having[category_id]
        if image_id not in chosen:
            chosen[image_id] = None
            shown.update(classes_of[image_id])
    return list(chosen)


def _classes(split: Split, image_id: int) -> set[int]:
    return set(split.labels(image_id)).union(split.images[image_id].positive_ids)


def draw_samples(split: Split, number: int) -> Iterator[DrawnSample]:
    """Samples of a split, drawn; images that cannot be read are passed over."""
    if split.image_root is None or not split.categories:
        return
    try:
        categories = [
            {"id": c.id, "name": c.name, "object": c.object, "part": c.part} for c in split.categories.values()
        ]
        vocabulary = Vocabulary.from_categories(categories, title=split.name)
    except VocabularyError:
        names = [{"id": i, "name": f"category {i}"} for i in split.categories]
        vocabulary = Vocabulary.from_categories(names, title=split.name)
    for image_id in choose_samples(split, number):
        image = split.images[image_id]
        try:
            yield draw_sample(split, image, vocabulary)
        except (ImageError, DataError):
            continue


def draw_sample(split: Split, image: ImageEntry, vocabulary: Vocabulary) -> DrawnSample:
    """One image with its annotations.

    Raises:
        DataError: the image cannot be read, or has another size than the file says.
    """
    from vlpart.visualize.draw import draw_result

    path = split.image_path(image)
    if path is None:
        raise DataError(f"{image.file_name} is missing")
    height, width = image.height, image.width
    pixels = read_annotated(path, (height, width))
    raw = split.annotations.get(image.id, [])
    result, left_out = to_result(raw, (height, width), vocabulary, split.header.categories)
    scale = min(1.0, SIDE / max(height, width))
    small, drawn = _scaled(pixels, result, scale)
    annotated = draw_result(small, drawn, scores=False, legend=False)
    labels = [split.category_name(i) for i in image.positive_ids]
    counted = Counter(split.category_name(number) for number in split.labels(image.id))
    listed = ", ".join(f"{n} {name}" for name, n in counted.most_common()) or "no annotations"
    caption = f"labels: {', '.join(labels)}" if labels and not raw else listed
    if left_out:
        caption += f"; {left_out} could not be drawn"
    title = f"{image.file_name} (id {image.known_as}, {width}x{height})"
    return DrawnSample(encode_image(annotated, "JPEG", image.file_name), title, caption)


def to_result(
    entries: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    vocabulary: Vocabulary,
    categories: Mapping[Id, CategoryEntry] | None = None,
) -> tuple[Result, int]:
    """Annotations as a `Result` with scores of 1, and how many could not be used (no box, a broken mask).

    Where only some have masks, the others get the filled box as theirs.

    Args:
        entries: of the file.
        size: (height, width) of their image.
        vocabulary: its ids are those of the reader.
        categories: of the file, by its ids; default: those of the vocabulary.
    """
    from vlpart.masks.stack import MaskStack
    from vlpart.results.result import Result

    boxes: list[tuple[float, float, float, float]] = []
    rles: list[dict[str, Any] | None] = []
    classes: list[int] = []
    image = ImageEntry(id=0, file_name="", height=size[0], width=size[1])
    known = categories or {entry.id: CategoryEntry(id=entry.id, name=entry.name) for entry in vocabulary.entries}
    for number, raw in enumerate(entries):
        entry = read_annotation({"id": number, **raw}, image, known, lambda *_: None)
        box = None if entry is None else _clipped(entry.box_xyxy, size)
        if entry is not None and box is not None:
            boxes.append(box)
            rles.append(None if entry.mask is None else _rle(entry.mask, size))
            classes.append(vocabulary.index_of_id[entry.category_id])
    masks = None
    if any(rle is not None for rle in rles):
        filled = [_filled(box, size) if rle is None else rle for box, rle in zip(boxes, rles, strict=True)]
        masks = MaskStack.from_rles(filled, size)
    result = Result(
        image_size=size,
        boxes_xyxy=boxes,
        scores=[1.0] * len(boxes),
        class_ids=classes,
        masks=masks,
        vocabulary=vocabulary,
    )
    return result, len(entries) - len(boxes)


def _rle(mask: Segmentation, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(mask, bytes):
        return {"size": list(size), "counts": mask}
    return coco_rle([polygon.ravel().astype(float).tolist() for polygon in mask], size)


def _clipped(
    box: tuple[float, float, float, float] | None, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x0, x1 = (min(max(value, 0.0), float(size[1])) for value in (box[0], box[2]))
    y0, y1 = (min(max(value, 0.0), float(size[0])) for value in (box[1], box[3]))
    return (x0, y0, x1, y1) if x1 >= x0 and y1 >= y0 else None


def _filled(box: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, Any]:
    import numpy as np

    from vlpart.masks.rle import encode_runs, runs_of_bitmap

    x0, y0, x1, y1 = (round(value) for value in box)
    return encode_runs(runs_of_bitmap(np.ones((max(0, y1 - y0), max(0, x1 - x0)), dtype=bool), x0, y0, size[0]), size)


def _scaled(pixels: Any, result: Result, scale: float) -> tuple[Any, Result]:
    if scale >= 1:
        return pixels, result
    import numpy as np
    from PIL import Image

    from vlpart.results.result import Result

    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
    factors = np.array([width / pixels.shape[1], height / pixels.shape[0]] * 2, dtype=np.float32)
    resized = Result(
        image_size=(height, width),
        boxes_xyxy=result.boxes_xyxy * factors,
        scores=result.scores,
        class_ids=result.class_ids,
        masks=None if result.masks is None else result.masks.resized((height, width)),
        vocabulary=result.vocabulary,
    )
    return small, resized
