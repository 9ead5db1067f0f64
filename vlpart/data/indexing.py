"""Annotation file -> record store: ids to vocabulary indices, bad annotations out, and a count of what was left out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlpart.data.categories import EXCLUDED, flip_labels, map_categories
from vlpart.data.hold_out import held_out, original_picture
from vlpart.data.readers import AnnotationEntry, ImageEntry, get_reader
from vlpart.data.records import RecordStore, RecordStoreBuilder
from vlpart.data.segmentation import Segmentation, parse_segmentation, segmentation_box
from vlpart.data.source import LoadedSource, LoadReport, Source
from vlpart.errors import DataError
from vlpart.types import AnnotationKind

EMPTY_BOX = 1e-5  # SPEC.md section 2: boxes this thin are dropped
Box = tuple[float, float, float, float]


def index_source(source: Source) -> LoadedSource:
    """See `vlpart.data.source.load_source`."""
    path = Path(source.annotations)
    file = get_reader(source.reader)(path)
    report = LoadReport(source=source.name)
    vocabulary, class_of = map_categories(source, file.categories, report)
    builder = RecordStoreBuilder(str(source.images), has_masks=source.wants_masks and file.has_masks)
    indexer = _Indexer(source, class_of, report, builder)
    for image in _not_held_out(source, file.images, report):
        indexer.add(image)
    store = indexer.finish()
    if not len(store):
        raise DataError(f"{path}: no picture is left to train on: {report}".replace("\n", ";"))
    refuse_missing_images(store, path)
    report.images, report.annotations = len(store), len(store.labels)
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
    """The pictures to train on; how many are held out is noted."""
    if not source.hold_out:
        return images
    listed = list(images)
    names = {image.id: original_picture(image.source_image, image.file_name) for image in listed}
    held = held_out(names, source.hold_out)
    report.notes.append(f"{len(held)} of {len(listed)} pictures are held out for evaluation")
    return [image for image in listed if image.id not in held]


@dataclass(kw_only=True, slots=True)
class Presence:
    """What a file says about the classes of one picture.

    Attributes:
        source_image: the picture it was cropped from, if any.
        positive, negative, open_ended: classes that are there, that are not, and that are not exhaustively annotated.
        used: whether the picture is trained on; one that is not still tells about its source picture.
    """

    source_image: str | None
    positive: set[int]
    negative: set[int]
    open_ended: set[int]
    used: bool


def unknown_classes(images: Sequence[Presence]) -> list[list[int]]:
    """Classes whose *further* presence is unknown, sorted, for every picture that is used.

    Some sources label each (picture, object class, part class) on *one* object only: where a picture has five chairs,
    one carries the leg mask and another the seat mask. So a chair leg without a mask is no background. But a class that
    is annotated nowhere in the picture was looked for and not found: it is absent. Hence the unknown classes of a
    picture are those annotated in it or in any other crop of the same source picture, and those the file calls not
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
    """Adds pictures to a store and keeps the report."""

    def __init__(
        self, source: Source, class_of: Mapping[int, int], report: LoadReport, builder: RecordStoreBuilder
    ) -> None:
        self.source, self.class_of, self.report, self.builder = source, class_of, report, builder
        self.presence: list[Presence] = []
        self.bad_segmentations: list[str] = []

    def add(self, image: ImageEntry) -> None:
        """Index one picture, or count it as left out."""
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
        """The store.

        Raises:
            DataError: malformed segmentations were found.
        """
        if self.bad_segmentations:
            first = "; ".join(self.bad_segmentations[:3])
            raise DataError(
                f"{self.source.annotations}: {len(self.bad_segmentations)} malformed segmentations, first: {first}; "
                "fix them, or train on boxes with Source(masks=False)"
            )
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
        segmentation: Segmentation | None = None
        reason = "crowd region" if annotation.crowd else None
        if reason is None and self.builder.has_masks:
            try:
                segmentation = parse_segmentation(annotation.segmentation, image.height, image.width)
            except DataError as error:
                self.bad_segmentations.append(f"annotation {annotation.id}: {error}")
                return False
            if annotation.segmentation is None:
                reason = "no segmentation, while others have one (Source(masks=False) trains on all boxes)"
            elif segmentation is None:
                reason = "empty mask"
        box = annotation.box_xyxy
        if reason is None:
            if box is None and segmentation is not None:
                box = segmentation_box(segmentation, image.height, image.width)
            reason, box = usable_box(box, image.height, image.width)
        if reason is not None or box is None:
            self.report.drop_annotation(reason or "no box", annotation.id)
            return False
        self.builder.add_annotation(box, label, segmentation, annotation.scored)
        return True


def usable_box(box: Box | None, height: int, width: int) -> tuple[str | None, Box | None]:
    """`(None, box clipped to the picture)`, or `(why it cannot be used, None)`."""
    if box is None:
        return "no box", None
    if not all(map(math.isfinite, box)):
        return "box is not finite", None
    if box[2] - box[0] <= EMPTY_BOX or box[3] - box[1] <= EMPTY_BOX:
        return "empty box", None
    x0, y0, x1, y1 = max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3])
    if x1 - x0 <= EMPTY_BOX or y1 - y0 <= EMPTY_BOX:
        return "box outside the picture", None
    return None, (x0, y0, x1, y1)


def refuse_missing_images(store: RecordStore, annotations: Path) -> None:
    """Compare the file names of a store with listings of their folders.

    Raises:
        DataError: folders or pictures that do not exist: how many, and the first ones.
    """
    wanted: dict[str, list[str]] = {}
    for index in range(len(store)):
        folder, name = os.path.split(store.file_name(index))
        wanted.setdefault(folder, []).append(name)
    missing: list[Path] = []
    for folder, names in wanted.items():
        try:
            present = set(os.listdir(Path(store.root, folder)))  # noqa: PTH208 - names only, a million at once
        except OSError:
            present = set()
        missing += [Path(folder, name) for name in names if name not in present]
    if missing:
        endings = ", ".join(
            f"{count} {ending or '(no ending)'}" for ending, count in Counter(m.suffix for m in missing).items()
        )
        raise DataError(
            f"{len(missing)} of {len(store)} pictures of {annotations} are not in {store.root} ({endings}), "
            f"first: {', '.join(map(str, missing[:3]))}; check Source.images"
        )
