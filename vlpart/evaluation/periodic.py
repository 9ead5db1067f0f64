"""The evaluation during a training run: every set by the rule of its benchmark, and one figure to choose by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlpart.errors import DataError
from vlpart.evaluation.benchmarks import get_benchmark
from vlpart.evaluation.coco import check
from vlpart.evaluation.run import Dataset, Options, Predicts, open_dataset, predict, score_all
from vlpart.evaluation.scores import Rule
from vlpart.evaluation.vocabularies import dataset_vocabulary

if TYPE_CHECKING:
    from vlpart.training.recipe import EvaluationSet


def evaluate_sets(
    predictor: Predicts, sets: Sequence[EvaluationSet], *, score_threshold: float, max_detections: int
) -> dict[str, float]:
    """AP and AP50 of several data sets for the log of a run: "SET/AP", "SET/AP50", "SET/parts_AP50".

    Sets that are scored on boxes have "SET/box_AP", "SET/box_AP50", "SET/parts_box_AP50" instead. "score" is the mean
    AP50 of the sets, each over its parts where it has any; NaN where no set has a valid figure.

    Args:
        predictor: `vlpart.load(...)`.
        sets: what to score.
        score_threshold: detections below it are not asked for.
        max_detections: detections that count, in sets without a benchmark.

    Raises:
        DataError: a file or an image is missing or malformed, or a file is not of its benchmark.
        EvaluationError: the predictor gave something that cannot be scored.
    """
    figures: dict[str, float] = {}
    heads = []
    for each in sets:
        dataset = open_set(each, max_detections)
        predictions = predict(predictor, dataset, Options(score_threshold=score_threshold))
        assert predictions is not None  # a group of one
        evaluation = score_all(dataset, predictions)[0]
        scores, prefix = (evaluation.masks, "") if evaluation.masks is not None else (evaluation.boxes, "box_")
        assert scores is not None
        figures |= {f"{each.name}/{prefix}AP": scores.all.ap, f"{each.name}/{prefix}AP50": scores.all.ap50}
        if scores.parts.classes:
            figures[f"{each.name}/parts_{prefix}AP50"] = scores.parts.ap50
        heads.append(scores.parts.ap50 if scores.parts.classes else scores.all.ap50)
    valid = [value for value in heads if not math.isnan(value)]
    figures["score"] = sum(valid) / len(valid) if valid else math.nan
    return figures


def check_sets(sets: Sequence[EvaluationSet], max_detections: int) -> None:
    """Look for what would stop an evaluation, before anything is trained.

    Args:
        sets: what will be scored.
        max_detections: see `evaluate_sets`.

    Raises:
        DataError: a file or a picture is missing, or an annotation is malformed; the file is named.
    """
    for each in sets:
        try:
            dataset = open_set(each, max_detections)
            rules = dataset.benchmark
            dataset_vocabulary(dataset.truth, rules.vocabulary)
            check(dataset.truth, (), rule=rules.rule, max_detections=rules.max_detections, kinds=rules.kinds)
            for image in dataset.truth["images"]:
                dataset.picture(image)
        except DataError as error:
            named = str(error) if str(each.annotations) in str(error) else f"{each.annotations}: {error}"
            raise DataError(f"evaluation set {each.name!r}: {named}") from error


def open_set(each: EvaluationSet, max_detections: int) -> Dataset:
    """The data of a set with the rule it is scored by: one kind only, that of the benchmark's headline.

    Raises:
        DataError: the file is missing or malformed.
    """
    benchmark = None if each.benchmark is None else get_benchmark(each.benchmark)
    dataset = open_dataset(each.annotations, each.images, benchmark, max_images=each.max_images, hold_out=each.hold_out)
    rules = dataset.benchmark
    if benchmark is None:
        rule: Rule = "lvis" if each.annotated_classes_only else "coco"
        rules = replace(rules, rule=rule, max_detections=max_detections)
    kind = next(iter(rules.headline.values())).partition(".")[0]
    return replace(dataset, benchmark=replace(rules, kinds=(kind,)))
