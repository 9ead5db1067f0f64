"""AP of (object, part) pairs: a part counts only if it lies in the right object.

Every annotated object becomes an image of its own that holds the annotated parts of this object and the detected parts
whose detected object (see `vlpart.results.grouping`) is this one: same class, mask IoU of 0.5 or more. A detected part
without such an object goes to an image where nothing is to be found. On these images AP is computed as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import EvaluationError
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked, summarise
from vlpart.evaluation.detections import DetectionTable
from vlpart.evaluation.scores import AveragePrecision
from vlpart.evaluation.truth import federated_categories, for_kind, is_part, ordered_categories
from vlpart.masks.rle import coco_rle
from vlpart.masks.stack import MaskStack
from vlpart.results.grouping import assign_parts
from vlpart.text.vocabulary import Vocabulary

OBJECT_IOU = 0.5


def pair_precision(checked: Checked) -> AveragePrecision | None:
    """AP over the part classes, or None where no annotation says which object a part belongs to.

    Raises:
        EvaluationError: the detections have no masks.
    """
    if checked.table.masks is None:
        raise EvaluationError("AP of (object, part) pairs needs masks")
    owners = _annotated_owners(checked)
    if not any(owner is not None for owner in owners.values()):
        return None
    return _Regrouped(checked, owners).precision()


def _annotated_owners(checked: Checked) -> dict[int, int | None]:
    """Clean id of every annotated part -> clean id of its object, or None."""
    original = checked.truth["annotations"]
    kept = {annotation["id"] for annotation in checked.annotations}
    places: dict[Any, int | None] = {}
    for number, annotation in enumerate(original, start=1):
        if number in kept:  # an id that two annotations have names neither
            places[annotation["id"]] = None if annotation["id"] in places else number
    parts = {category["id"] for category in checked.truth["categories"] if is_part(category)}
    owners: dict[int, int | None] = {}
    for annotation in checked.annotations:
        if annotation["category_id"] in parts:
            owners[annotation["id"]] = places.get(annotation["object_annotation_id"])
    return owners


class _Regrouped:
    """The images made of objects, filled one real image after the other."""

    def __init__(self, checked: Checked, owners: Mapping[int, int | None]) -> None:
        self.checked, self.owners = checked, owners
        self.ordered = ordered_categories(checked.truth)
        self.vocabulary = Vocabulary.from_categories(self.ordered)
        self.counted = federated_categories(checked.truth) if checked.rule == "lvis" else {}
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.rows: list[int] = []
        self.row_images: list[int] = []

    def precision(self) -> AveragePrecision:
        """Regroup everything and score it."""
        annotations: dict[int, list[dict[str, Any]]] = {}
        for annotation in for_kind(self.checked.annotations, "masks"):
            annotations.setdefault(annotation["image_id"], []).append(annotation)
        order = np.argsort(self.checked.table.image_ids, kind="stable")
        ids = self.checked.table.image_ids[order]
        for image in self.checked.truth["images"]:
            first, last = np.searchsorted(ids, image["id"]), np.searchsorted(ids, image["id"], side="right")
            self._add(image, annotations.get(image["id"], []), order[first:last])
        categories = [category for category in self.ordered if is_part(category)]
        truth = {"images": self.images, "categories": categories, "annotations": self.annotations}
        table = self.checked.table.take(self.rows)
        table = DetectionTable(
            image_ids=np.array(self.row_images, dtype=np.int64),
            category_ids=table.category_ids,
            boxes_xywh=table.boxes_xywh,
            scores=table.scores,
            masks=table.masks,
            mask_areas=table.mask_areas,
        )
        index = engine.Index(truth, [{**a, "id": i} for i, a in enumerate(self.annotations, start=1)])
        tensors = engine.measure(
            index, table, "masks", rule=self.checked.rule, max_detections=self.checked.max_detections
        )
        return summarise(truth, tensors, {}).all

    def _add(self, image: Mapping[str, Any], known: list[dict[str, Any]], rows: NDArray[np.int64]) -> None:
        """One real image: an image for each of its objects, and one for parts without object."""
        objects = [annotation for annotation in known if annotation["id"] not in self.owners]
        new_image = {each["id"]: self._new_image(image) for each in objects}
        loose = self._new_image(image)
        for annotation in known:
            if annotation["id"] in self.owners:
                owner = self.owners[annotation["id"]]
                if owner in new_image:
                    self.annotations.append({**annotation, "image_id": new_image[owner]})
                else:  # nobody can get the object right: whatever finds the part counts neither way
                    self.annotations.append({**annotation, "image_id": loose, "iscrowd": 1})
        if not len(rows):
            return
        detected_object, is_part_row = self._owners_of(image, rows)
        right_object = self._matched_objects(objects, rows, is_part_row)
        for place, row in enumerate(rows.tolist()):
            if is_part_row[place]:
                target = right_object.get(int(detected_object[place]))
                self.rows.append(row)
                self.row_images.append(loose if target is None else new_image[target])

    def _new_image(self, image: Mapping[str, Any]) -> int:
        """An image with the size of this one and, for the LVIS rule, the same classes that count."""
        made = {"id": len(self.images) + 1, "height": image["height"], "width": image["width"]}
        if self.counted:
            made["neg_category_ids"] = sorted(self.counted[image["id"]])
            made["not_exhaustive_category_ids"] = list(image.get("not_exhaustive_category_ids", ()))
        self.images.append(made)
        return int(made["id"])

    def _owners_of(
        self, image: Mapping[str, Any], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(place of the detected object of each detected part or -1, whether a detection is a part)."""
        table = self.checked.table
        assert table.masks is not None
        xywh = table.boxes_xywh[rows]
        boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)
        classes = np.array([self.vocabulary.index_of_id[i] for i in table.category_ids[rows].tolist()], dtype=np.int64)
        masks = MaskStack.from_rles([table.masks[i] for i in rows.tolist()], (image["height"], image["width"]))
        scores = table.scores[rows].astype(np.float32)
        owners = assign_parts(boxes, scores, classes, masks, self.vocabulary)
        part = np.array([is_part(category) for category in self.ordered], dtype=bool)
        return owners, part[classes]

    def _matched_objects(
        self, objects: list[dict[str, Any]], rows: NDArray[np.int64], is_part_row: NDArray[np.bool_]
    ) -> dict[int, int]:
        """Place of a detected object -> clean id of the annotated object that it is."""
        from pycocotools import mask as coco_mask

        places = np.flatnonzero(~is_part_row).tolist()
        if not places or not objects:
            return {}
        table = self.checked.table
        assert table.masks is not None
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.checked.truth["images"]}
        size = sizes[objects[0]["image_id"]]
        known = [coco_rle(annotation["segmentation"], size) for annotation in objects]
        rles = [coco_rle(table.masks[rows[place]], size) for place in places]
        ious = np.asarray(coco_mask.iou(rles, known, [0] * len(known))).reshape(len(rles), len(known))
        classes = np.array([annotation["category_id"] for annotation in objects])
        matched = {}
        for place, overlaps in zip(places, ious, strict=True):
            overlaps = np.where(classes == table.category_ids[rows[place]], overlaps, 0)
            best = int(np.argmax(overlaps))
            if overlaps[best] >= OBJECT_IOU:
                matched[place] = int(objects[best]["id"])
        return matched
