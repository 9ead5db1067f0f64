"""What a user sees at a threshold: precision and recall of the detections over it, and regions with two names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked
from vlpart.results.result import Result

SAME_REGION = 0.8


@dataclass(frozen=True, kw_only=True)
class ThresholdCounts:
    """Counts over all images at one threshold on the score, detections matched at IoU 0.5 within their class.

    Attributes:
        threshold: detections of that score or more count.
        right, wrong, missed: true positives, false positives, false negatives.
    """

    threshold: float
    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the detections that are right; NaN without one."""
        found = self.right + self.wrong
        return self.right / found if found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the annotations that are found; NaN without one."""
        there = self.right + self.missed
        return self.right / there if there else float("nan")


def counts_over(checked: Checked, kind: str, threshold: float = 0.5) -> ThresholdCounts:
    """Precision and recall at a threshold, under the rule of the evaluation (classes that do not count are left out).

    Args:
        checked: what was scored.
        kind: "masks" or "boxes".
        threshold: on the score.
    """
    judge = engine.evaluator(
        checked.index,
        checked.table.take(checked.table.scores >= threshold),
        kind,
        federated=checked.rule == "lvis",
        limits=(max(checked.max_detections, 1),),
    )
    each = judge.image_diagnostics(iou_thr=0.5, score_thr=threshold)["img_summary"].values()
    right, wrong, missed = (sum(int(summary[key]) for summary in each) for key in ("tp", "fp", "fn"))
    return ThresholdCounts(threshold=threshold, right=right, wrong=wrong, missed=missed)


def doubly_named(results: Iterable[Result]) -> tuple[int, int]:
    """Detections that share their region (mask IoU over 0.8) with one of another name, and all detections.

    Args:
        results: with masks.
    """
    shared, total = 0, 0
    for result in results:
        count = len(result)
        total += count
        if count < 2 or result.masks is None:
            continue
        flat = np.asarray(result.masks, dtype=bool).reshape(count, -1).astype(np.float32)
        inter = flat @ flat.T
        areas = flat.sum(axis=1)
        iou = inter / np.maximum(areas[:, None] + areas[None] - inter, 1)
        other_name = np.asarray(result.class_ids)[:, None] != np.asarray(result.class_ids)[None]
        shared += int(((iou > SAME_REGION) & other_name).any(axis=1).sum())
    return shared, total
