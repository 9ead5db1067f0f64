"""Parts asked for alone: every annotated (object, part) pair of an image is a question, the first answer is judged.

AP rewards a ranking over a whole data set. Somebody who asks for the handle of the mug looks at the best answer only:
its mask IoU with the nearest annotation of that class. The best of the first hundred answers, whatever their rank, says
how much of what is missing is the fault of the ranking.

All pairs of an image are asked in one call: suppression works class by class and boxes belong to no class, so with a
limit of `RANKS` answers for each pair every pair gets the answers that it would get alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import EvaluationError
from vlpart.evaluation.dataset import Dataset
from vlpart.evaluation.run import Predicts
from vlpart.evaluation.truth import is_part
from vlpart.evaluation.vocabularies import dataset_vocabulary
from vlpart.jobs import Progress
from vlpart.masks.rle import coco_rle
from vlpart.masks.stack import MaskStack

RANKS = 100
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The first answer to one question.

    Attributes:
        image_id, category_id, name: the question.
        iou: of the first answer's mask with the nearest annotation of the class; 0 where nothing is found.
        intersection, union: pixels of that IoU.
        any_rank: best IoU among the first `RANKS` answers.
        score: of the first answer; 0 where nothing is found.
        mask: bitmap (H, W) of the first answer; None where nothing is found.
    """

    image_id: int
    category_id: int
    name: str
    iou: float
    intersection: int
    union: int
    any_rank: float
    score: float
    mask: MaskStack | None


@dataclass(frozen=True, kw_only=True)
class Referring:
    """The answers to all questions; figures are in 0..1, NaN without a question."""

    answers: tuple[Answer, ...]

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the first answers."""
        return _mean([a.iou for a in self.answers])

    @property
    def cumulative_iou(self) -> float:
        """Intersections of all first answers over their unions: large regions count more."""
        union = sum(a.union for a in self.answers)
        return sum(a.intersection for a in self.answers) / union if union else float("nan")

    @property
    def p50(self) -> float:
        """Share of first answers with an IoU of 0.5 or more."""
        return _mean([a.iou >= 0.5 for a in self.answers])

    @property
    def p50_95(self) -> float:
        """Mean of that share over the IoUs 0.5, 0.55, ... 0.95."""
        return _mean([np.mean([a.iou >= t for t in THRESHOLDS]) for a in self.answers])

    @property
    def any_rank(self) -> float:
        """Mean of the best IoU at any rank."""
        return _mean([a.any_rank for a in self.answers])

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON, and each class's questions and mean IoU."""
        classes: dict[str, list[float]] = {}
        for answer in self.answers:
            classes.setdefault(answer.name, []).append(answer.iou)
        figures = ("mean_iou", "cumulative_iou", "p50", "p50_95", "any_rank")
        return {
            "questions": len(self.answers),
            **{name: None if (v := getattr(self, name)) != v else v for name in figures},
            "per_class": {name: {"questions": len(v), "mean_iou": _mean(v)} for name, v in sorted(classes.items())},
        }


def ask(predictor: Predicts, dataset: Dataset, progress: Progress | None = None) -> Referring:
    """Ask for every annotated part of every image; for every annotated class where the data set has no parts.

    Args:
        predictor: `vlpart.load(...)`.
        dataset: with masks and images.
        progress: called after every image.

    Raises:
        DataError: an image is missing.
        EvaluationError: an annotation has no mask.
    """
    names = dataset_vocabulary(dataset.truth, dataset.benchmark.vocabulary)
    parts = {c["id"] for c in dataset.truth["categories"] if is_part(c)}
    category_ids = parts or {c["id"] for c in dataset.truth["categories"]}
    annotations: dict[int, dict[int, list[Mapping[str, Any]]]] = {}
    for annotation in dataset.truth["annotations"]:
        if annotation["category_id"] in category_ids and not annotation.get("iscrowd"):
            of_image = annotations.setdefault(annotation["image_id"], {})
            of_image.setdefault(annotation["category_id"], []).append(annotation)
    answers: list[Answer] = []
    images = dataset.truth["images"]
    for done, image in enumerate(images, 1):
        questions = annotations.get(image["id"], {})
        if questions:
            asked = names.subset([names.index_of_id[i] for i in questions])
            read = predictor.read(dataset.pixels_or_path(image))
            (result,) = predictor.detect([read], asked, score_threshold=0.0, max_detections=RANKS * len(asked))
            for place, (category, known) in enumerate(questions.items()):
                answers.append(_judge(result, place, known, (image["id"], category, asked.names[place])))
        if progress is not None:
            progress("asking for parts", done, len(images))
    return Referring(answers=tuple(answers))


def _judge(result: Any, place: int, known: Sequence[Mapping[str, Any]], question: tuple[int, int, str]) -> Answer:
    """The answers of class `place` of a result against the annotations of that class."""
    size = result.image_size
    truth = _flat(MaskStack.from_rles([coco_rle(_mask_of(a), size) for a in known], size))
    rows = np.flatnonzero(result.class_ids == place)
    rows = rows[np.argsort(-result.scores[rows], kind="stable")][:RANKS]
    image_id, category_id, name = question
    areas = truth.sum(axis=1)
    if not len(rows):
        largest = int(areas.max())
        return Answer(
            image_id=image_id, category_id=category_id, name=name, iou=0.0, intersection=0, union=largest,
            any_rank=0.0, score=0.0, mask=None,
        )  # fmt: skip
    found = _flat(result.masks[rows.tolist()])
    inter = found @ truth.T
    union = found.sum(axis=1)[:, None] + areas[None] - inter
    iou = inter / np.maximum(union, 1)
    nearest = int(iou[0].argmax())
    return Answer(
        image_id=image_id,
        category_id=category_id,
        name=name,
        iou=float(iou[0, nearest]),
        intersection=int(inter[0, nearest]),
        union=int(union[0, nearest]),
        any_rank=float(iou.max()),
        score=float(result.scores[rows[0]]),
        mask=result.masks[rows[:1].tolist()],
    )


def _mask_of(annotation: Mapping[str, Any]) -> Any:
    if not annotation.get("segmentation"):
        raise EvaluationError(f"annotation {annotation.get('id')} has no mask: --referring compares masks")
    return annotation["segmentation"]


def _flat(masks: MaskStack) -> NDArray[np.float32]:
    """(N, H * W) float32 0/1, whose products are exact up to 16 million pixels."""
    return np.asarray(masks, dtype=bool).reshape(len(masks), -1).astype(np.float32)


def _mean(values: Sequence[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
