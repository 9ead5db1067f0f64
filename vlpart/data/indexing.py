"""Annotation file -> record store: category ids to classes of the vocabulary, bad annotations out, and a count of what
was left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import typed
from vlpart.data.image_files import ImageFinder
from vlpart.data.readers import AnnotationEntry, CategoryEntry, ImageEntry, get_reader
from vlpart.data.readers.base import Collected
from vlpart.data.readers.regions import EMPTY_BOX
from vlpart.data.readers.values import class_key
from vlpart.data.records import RecordStore, RecordStoreBuilder
from vlpart.data.source import LoadedSource, LoadReport, Source
from vlpart.data.upright import unclear_note
from vlpart.data.validation_split import held_out, original_image
from vlpart.errors import DataError
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import AnnotationKind

if TYPE_CHECKING:
    from vlpart.data.source import LoadReport, Source


Box = tuple[float, float, float, float]


@typed()
def load_source(source: Source) -> LoadedSource:
    """Read, check and index a source.

    Raises:
        DataError: broken or missing annotation file, entries that are not what they should be (see
            `vlpart.data.readers.coco`), missing images, or nothing left to train on. Single annotations that cannot be
            used (empty boxes, empty masks, crowd regions) are left out and counted in `LoadedSource.report`.
    """
    path = Path(source.annotations)
    problems = Collected()
    file = get_reader(source.reader)(path, problems, masks=source.wants_masks)
    problems.refuse(path)
    report = LoadReport(source=source.name)
    vocabulary, class_of = map_categories(source, file.categories, report)
    builder = RecordStoreBuilder(str(source.images), has_masks=source.wants_masks and file.has_masks)
    indexer = _Indexer(source, class_of, report, builder)
    for image in _not_held_out(source, file.images, report):
        indexer.add(image)
    problems.refuse(path)
    store = indexer.finish()
    if not len(store):
        raise DataError(f"{path}: no image is left to train on: {report}".replace("\n", ";"))
    store = with_found_images(store, path, report)
    report.images, report.annotations = len(store), len(store.labels)
    if note := unclear_note([Path(store.root, store.file_name(index)) for index in range(len(store))]):
        report.notes.append(note)
    if file.has_masks and source.kind in (AnnotationKind.BOXES, AnnotationKind.PARTS) and not source.masks:
        report.notes.append("boxes only: the masks of the file are not used")
    return LoadedSource(
        source=source,
        store=store,
        vocabulary=vocabulary,
        image_counts=np.bincount(store.image_class_pairs()[:, 1], minlength=len(vocabulary)).astype(np.int64),
        flip_labels=flip_labels(source, vocabulary.names, report),
        report=report,
    )


def _not_held_out(source: Source, images: Iterable[ImageEntry], report: LoadReport) -> Iterable[ImageEntry]:
    """The images to train on; how many are held out is noted."""
    if not source.validation_split:
        return images
    listed = list(images)
    names = {image.id: original_image(image.source_image, image.file_name) for image in listed}
    held = held_out(names, source.validation_split)
    report.notes.append(f"{len(held)} of {len(listed)} images are held out for evaluation")
    return [image for image in listed if image.id not in held]


@dataclass(kw_only=True, slots=True)
class Presence:
    """What a file says about the classes of one image.

    Attributes:
        source_image: the image it was cropped from, if any.
        positive, negative, open_ended: classes that are there, that are not, and that are not exhaustively annotated.
        used: whether the image is trained on; one that is not still tells about its source image.
    """

    source_image: str | None
    positive: set[int]
    negative: set[int]
    open_ended: set[int]
    used: bool


def unknown_classes(images: Sequence[Presence]) -> list[list[int]]:
    """Classes whose *further* presence is unknown, sorted, for every image that is used.

    Some sources label each (image, object class, part class) on *one* object only: where an image has five chairs,
    one carries the leg mask and another the seat mask. So a chair leg without a mask is no background. But a class that
    is annotated nowhere in the image was looked for and not found: it is absent. Hence the unknown classes of a
    image are those annotated in it or in any other crop of the same source image, and those the file calls not
    exhaustive, without those it calls absent.
    """
    by_source: dict[str, set[int]] = {}
    for image in images:
        if image.source_image is not None:
            by_source.setdefault(image.source_image, set()).update(image.positive)
    found = []
    for image in images:
        if image.used:
            everywhere = image.positive if image.source_image is None else by_source[image.source_image]
            found.append(sorted((everywhere | image.open_ended) - image.negative))
    return found


class _Indexer:
    """Adds images to a store and keeps the report."""

    def __init__(
        self, source: Source, class_of: Mapping[int, int], report: LoadReport, builder: RecordStoreBuilder
    ) -> None:
        self.source, self.class_of, self.report, self.builder = source, class_of, report, builder
        self.presence: list[Presence] = []

    def add(self, image: ImageEntry) -> None:
        """Index one image, or count it as left out."""
        if image.width < 1 or image.height < 1:
            raise DataError(f"{self.source.annotations}: image {image.id} has the size {image.width}x{image.height}")
        of_image_labels = self.source.kind is AnnotationKind.IMAGE_LABELS
        annotated: set[int] = set()
        kept = 0
        for annotation in image.annotations:
            label = self._class(annotation.category_id, f"annotation {annotation.id}")
            if label == EXCLUDED:
                self.report.drop_annotation("excluded category", annotation.id)
                continue
            annotated.add(label)
            if not of_image_labels:
                kept += self._add_annotation(annotation, label, image)
        image_labels: list[int] = []
        if of_image_labels:
            declared = {self._class(i, f"image {image.id}") for i in image.positive_ids}
            image_labels = sorted((annotated | declared) - {EXCLUDED})
        used = bool(kept or image_labels) or not self.source.filter_empty
        if self.source.unlabelled == "unknown":
            self._remember(image, annotated, used)
        if used:
            self.builder.add_image(image.id, image.file_name, image.height, image.width, image_labels)
        else:
            self.report.drop_image("no labels" if of_image_labels else "no annotations", image.id)

    def finish(self) -> RecordStore:
        """The store."""
        for labels in unknown_classes(self.presence):
            self.builder.add_unknown(labels)
        return self.builder.finish()

    def _remember(self, image: ImageEntry, annotated: set[int], used: bool) -> None:
        def known(ids: Sequence[int]) -> set[int]:
            return {self.class_of.get(category_id, EXCLUDED) for category_id in ids} - {EXCLUDED}

        self.presence.append(
            Presence(
                source_image=image.source_image,
                positive=annotated | known(image.positive_ids),
                negative=known(image.negative_ids),
                open_ended=known(image.not_exhaustive_ids),
                used=used,
            )
        )

    def _class(self, category_id: int, where: str) -> int:
        if category_id not in self.class_of:
            raise DataError(
                f"{self.source.annotations}: {where} has the category id {category_id}, which is not among the file's "
                f"categories or not in the vocabulary {self.source.vocabulary!r}; "
                "fix the file or name another vocabulary"
            )
        return self.class_of[category_id]

    def _add_annotation(self, annotation: AnnotationEntry, label: int, image: ImageEntry) -> bool:
        """Add it and return True, or count why not and return False."""
        reason, box = "crowd region" if annotation.crowd else annotation.unusable, annotation.box_xyxy
        if reason == "no box":
            raise DataError(
                f"{self.source.annotations}: annotation {annotation.id} of {image.file_name} has neither a box nor a "
                "mask; take it out, or give it a bbox"
            )
        if reason is None and self.builder.has_masks and annotation.segmentation is None:
            reason = "no segmentation, while others have one (Source(masks=False) trains on all boxes)"
        if reason is None:
            reason, box = usable_box(box, image.height, image.width)
        if reason is not None or box is None:
            self.report.drop_annotation(reason or "no box", annotation.id)
            return False
        self.builder.add_annotation(box, label, annotation.mask if self.builder.has_masks else None, annotation.scored)
        return True


def usable_box(box: Box | None, height: int, width: int) -> tuple[str | None, Box | None]:
    """`(None, box clipped to the image)`, or `(why it cannot be used, None)`."""
    if box is None:
        return "no box", None
    if not all(map(math.isfinite, box)):
        return "box is not finite", None
    if box[2] - box[0] <= EMPTY_BOX or box[3] - box[1] <= EMPTY_BOX:
        return "empty box", None
    x0, y0, x1, y1 = max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3])
    if x1 - x0 <= EMPTY_BOX or y1 - y0 <= EMPTY_BOX:
        return "box outside the image", None
    return None, (x0, y0, x1, y1)


def with_found_images(store: RecordStore, annotations: Path, report: LoadReport) -> RecordStore:
    """The store with the names that its images have on disk, see `vlpart.data.image_files`.

    Raises:
        DataError: images that are not there: how many, and the first ones.
    """
    names = [store.file_name(index) for index in range(len(store))]
    place_of = ImageFinder(store.root).find_all(names)
    missing = [Path(name) for name in names if place_of[name] is None]
    if missing:
        endings = ", ".join(
            f"{count} {ending or '(no ending)'}" for ending, count in Counter(m.suffix for m in missing).items()
        )
        raise DataError(
            f"{len(missing)} of {len(store)} images of {annotations} are not in {store.root} ({endings}), "
            f"first: {', '.join(ascii(str(name))[1:-1][:200] for name in missing[:3])}; check Source.images"
        )
    moved = [name for name in place_of if place_of[name] != name]
    if not moved:
        return store
    report.notes.append(
        f"{len(moved)} images have other folders than the file says, first {moved[0]}: {place_of[moved[0]]}"
    )
    return store.renamed([str(place_of[name]) for name in names])


EXCLUDED = -1
"""Class of the categories that `only_objects`, `exclude_objects` and `take` leave out."""


def map_categories(
    source: Source, categories: Sequence[CategoryEntry], report: LoadReport
) -> tuple[Vocabulary, dict[int, int]]:
    """The vocabulary of a source, and category id -> index in it, or `EXCLUDED`.

    With "dataset" the classes are the file's categories in the order given (readers sort by id). Names that are
    equal, or differ in case, spaces and underscores only, become one class: they give one text embedding. With a list,
    a category is the entry of the same name (of the same id where the file has no names); categories that are not in
    the list stay unmapped, an error once something is annotated with one.

    Raises:
        DataError: unnamed categories with "dataset", a filter that names an unknown object, or one that leaves nothing.
        VocabularyError: no list or file of that name.
    """
    if source.vocabulary != "dataset":
        return _map_to_list(source, categories)
    unnamed = [category.id for category in categories if not category.name]
    if unnamed or not categories:
        raise DataError(
            f"{source.annotations}: vocabulary='dataset' needs named categories; ids without: {unnamed[:5]}"
        )
    _refuse_unknown_filters(source, {category.object_name for category in categories})
    first: dict[str, CategoryEntry] = {}
    for category in categories:
        if _wanted(source, category.object_name, category.part is not None):
            first.setdefault(class_key(str(category.name)), category)
    merged = sum(_wanted(source, c.object_name, c.part is not None) for c in categories) - len(first)
    if merged:
        report.notes.append(f"{merged} categories share their name with another one and were merged into it")
    if not first:
        raise DataError(f"source {source.name!r}: only_objects / exclude_objects / take leave no category")
    vocabulary = Vocabulary.from_categories(
        (
            {
                "id": category.id,
                "name": category.name,
                "object": category.object,
                "part": category.part,
                "image_count": category.image_count,
                "frequency": category.frequency,
            }
            for category in first.values()
        ),
        title=source.name,
    )
    place = {folded: index for index, folded in enumerate(first)}
    return vocabulary, {category.id: place.get(class_key(str(category.name)), EXCLUDED) for category in categories}


def _map_to_list(source: Source, categories: Sequence[CategoryEntry]) -> tuple[Vocabulary, dict[int, int]]:
    full = Vocabulary.load(source.vocabulary)
    objects = [full.object_name(i) for i in range(len(full))]
    _refuse_unknown_filters(source, set(objects))
    kept = [i for i, name in enumerate(objects) if _wanted(source, name, full.is_part(i))]
    if not kept:
        raise DataError(f"source {source.name!r}: only_objects / exclude_objects / take leave no category")
    vocabulary = full if len(kept) == len(full) else full.subset(kept)
    index = {old: new for new, old in enumerate(kept)}
    if not any(category.name for category in categories):
        return vocabulary, {entry.id: index.get(i, EXCLUDED) for i, entry in enumerate(full.entries)}
    by_name: dict[str, list[int]] = {}
    for i, name in enumerate(full.names):
        by_name.setdefault(_plain(name), []).append(i)
    mapping = {}
    for category in categories:
        same_name = by_name.get(_plain(category.name or ""), [])
        if same_name:  # some lists have a name twice: the id tells which
            same_id = [i for i in same_name if full.entries[i].id == category.id]
            mapping[category.id] = index.get((same_id or same_name)[0], EXCLUDED)
    return vocabulary, mapping


def _plain(name: str) -> str:
    """Spelling variants of one category name: case, underscores for spaces."""
    return name.casefold().replace("_", " ").strip()


def _wanted(source: Source, object_name: str, is_part: bool) -> bool:
    if object_name in source.exclude_objects or source.take == ("objects" if is_part else "parts"):
        return False
    return source.only_objects is None or object_name in source.only_objects


def _refuse_unknown_filters(source: Source, known: set[str]) -> None:
    unknown = sorted({*(source.only_objects or ()), *source.exclude_objects} - known)
    if unknown:
        raise DataError(
            f"source {source.name!r}: only_objects / exclude_objects name unknown objects: {', '.join(unknown[:5])}"
        )


def flip_labels(source: Source, names: Sequence[str], report: LoadReport) -> NDArray[np.int64]:
    """(C,) int64: the class that a class becomes in a mirrored image ("left mirror": "right mirror"), if any."""
    place = {name: index for index, name in enumerate(names)}
    target = np.arange(len(names), dtype=np.int64)
    if not source.flip_swaps_left_right:
        return target
    other = {"left": "right", "right": "left"}
    alone = []
    for index, name in enumerate(names):
        mirrored = re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: other[match.group()], name)
        if mirrored in place:
            target[index] = place[mirrored]
        else:
            alone.append(name)
    if alone:
        report.notes.append(
            f"{len(alone)} names with left or right have no counterpart and keep their label: {alone[:3]}"
        )
    return target
