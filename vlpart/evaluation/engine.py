"""The metric library (`hotcoco`) behind one function: checked columns in, precision and recall tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import EvaluationError
from vlpart.evaluation.detections import DetectionTable
from vlpart.evaluation.scores import Rule

IOU_TYPES = {"masks": "segm", "boxes": "bbox"}
AREAS = ("all", "small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What was measured; -1 where a class has no ground truth of that size.

    Attributes:
        precision: (10 IoUs, 101 recalls, K classes in ascending id, 4 areas).
        recall: (10, K, 4 areas, L limits); the last limit is the one of `precision`.
        limits: the L limits on detections.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    limits: tuple[int, ...]


class Index:
    """Ground truth in the form of the library, made once for all kinds and subsets of detections."""

    def __init__(self, truth: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> None:
        """`annotations` as from `clean_annotations`."""
        hotcoco = library()
        images = [
            {
                "id": image["id"],
                "width": image.get("width") or 0,
                "height": image.get("height") or 0,
                "neg_category_ids": list(image.get("neg_category_ids", ())),
                "not_exhaustive_category_ids": list(image.get("not_exhaustive_category_ids", ())),
            }
            for image in truth["images"]
        ]
        categories = [{"id": c["id"], "name": f"{c['name']} ({c['id']})"} for c in truth["categories"]]
        self.coco = hotcoco.COCO({"images": images, "annotations": list(annotations), "categories": categories})
        self.category_ids = sorted(category["id"] for category in categories)

    def results(self, table: DetectionTable, kind: str) -> Any:
        """The detections in the form of the library; the size of a detection is that of its mask or of its box."""
        columns = (table.image_ids[:, None], table.boxes_xywh, table.scores[:, None], table.category_ids[:, None])
        rows = np.hstack([np.asarray(column, dtype=np.float64) for column in columns])
        results = self.coco.load_res(rows, segmentation=table.masks if kind == "masks" else None)
        if kind == "masks" and len(table):
            results.update_anns(ids=np.arange(1, len(table) + 1), area=table.areas(kind))
        return results


def library() -> Any:
    """The module `hotcoco`.

    Raises:
        EvaluationError: it is not installed.
    """
    try:
        import hotcoco
    except ImportError as error:
        raise EvaluationError(
            f"the metrics need hotcoco, which cannot be imported ({error}): pip install hotcoco"
        ) from error
    return hotcoco


def limits_of(rule: Rule, max_detections: int) -> tuple[int, ...]:
    """The limits on detections that a rule reports recall for; the last one is that of precision."""
    if rule == "lvis":
        return (max_detections,)
    return tuple(limit for limit in sorted({1, 10, max_detections}) if limit <= max_detections)


def evaluator(
    index: Index,
    table: DetectionTable,
    kind: str,
    *,
    federated: bool,
    limits: Sequence[int],
    use_categories: bool = True,
) -> Any:
    """The library's evaluator after matching and accumulating."""
    made = library().COCOeval(index.coco, index.results(table, kind), IOU_TYPES[kind], lvis_style=federated)
    made.params.max_dets = list(limits)
    made.params.use_cats = use_categories
    made.evaluate()
    made.accumulate()
    return made


def measure(index: Index, table: DetectionTable, kind: str, *, rule: Rule, max_detections: int) -> Tensors:
    """Precision and recall under the COCO or LVIS rule. The caller has applied the limit per image of LVIS."""
    limits = limits_of(rule, max_detections)
    result = evaluator(index, table, kind, federated=rule == "lvis", limits=limits).eval
    assert result is not None
    return Tensors(
        precision=np.asarray(result["precision"][..., -1], dtype=np.float64),
        recall=np.asarray(result["recall"], dtype=np.float64),
        limits=limits,
    )
