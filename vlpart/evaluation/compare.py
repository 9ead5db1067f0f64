"""Whether detections are better than others on the same images, or only luckier with them: a paired bootstrap."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlpart.errors import EvaluationError
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked
from vlpart.evaluation.scores import Rule
from vlpart.jobs import Progress

#: Times that the images are drawn anew, and the share of them whose differences lie within the interval.
SAMPLES = 200
CONFIDENCE = 0.9

METRICS = {"ap": "AP", "ap50": "AP50"}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of two sets of detections, in 0..1.

    Attributes:
        first, second: the figure of each.
        low, high: of second - first, the middle `CONFIDENCE` of the samples. If 0 lies between them, other images of
            the same kind may well turn the order round. It says nothing about other runs of the same training.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """Second less first."""
        return self.second - self.first


def check_rule(rule: Rule) -> None:
    """Raise an `EvaluationError` for a rule without comparison."""
    if rule == "voc":
        raise EvaluationError(
            "detections are compared under the COCO or the LVIS rule, not under that of VOC: score the annotation file "
            "itself (--on FILE.json), or leave --against away"
        )


def compare(
    first: Checked,
    second: Checked,
    kind: str,
    groups: Mapping[str, Collection[int]],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    progress: Progress | None = None,
) -> dict[str, dict[str, Difference]]:
    """AP and AP50 of two sets of detections for the same ground truth, for groups of classes.

    Args:
        first, second: from `vlpart.evaluation.average_precision.check`, of the same ground truth under the same rule.
        kind: "masks" or "boxes".
        groups: category ids by name; groups without an annotation are left out.
        samples: how often the images are drawn with replacement, the same ones for both.
        confidence: share of the samples between `Difference.low` and `Difference.high`.
        progress: told after every group.

    Returns:
        Group to {"ap": ..., "ap50": ...}.

    Raises:
        EvaluationError: the VOC rule, or different rules or ground truth.
    """
    check_rule(first.rule)
    if (first.rule, first.max_detections) != (second.rule, second.max_detections) or (
        first.annotations != second.annotations
    ):
        raise EvaluationError("detections are compared on the same ground truth under the same rule")
    annotated = {annotation["category_id"] for annotation in first.annotations}
    found = {}
    for number, (name, ids) in enumerate(groups.items(), start=1):
        if annotated & set(ids):
            index = _index(first, set(ids))
            pair = [_evaluator(checked, index, kind) for checked in (first, second)]
            result = engine.library().compare(*pair, n_bootstrap=samples, seed=0, confidence=confidence)
            found[name] = {ours: _difference(result, theirs) for ours, theirs in METRICS.items()}
        if progress is not None:
            progress("comparing", number, len(groups))
    return found


def _index(checked: Checked, ids: set[int]) -> engine.Index:
    """The ground truth of some classes."""
    truth = {**checked.truth, "categories": [c for c in checked.truth["categories"] if c["id"] in ids]}
    return engine.Index(truth, [annotation for annotation in checked.annotations if annotation["category_id"] in ids])


def _evaluator(checked: Checked, index: engine.Index, kind: str) -> object:
    """The library's evaluator of the classes of the index; the limit on detections was applied to all classes."""
    table = checked.counted(kind)
    return engine.evaluator(
        index,
        table.take(np.isin(table.category_ids, index.category_ids)),
        kind,
        federated=checked.rule == "lvis",
        limits=engine.limits_of(checked.rule, checked.max_detections),
    )


def _difference(result: Mapping[str, Any], metric: str) -> Difference:
    interval = result["ci"][metric]
    return Difference(
        first=result["metrics_a"][metric],
        second=result["metrics_b"][metric],
        low=interval["lower"],
        high=interval["upper"],
    )
