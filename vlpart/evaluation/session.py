"""A whole evaluation as the command runs it: predict, score, variants of the vocabulary, files, report; and the
evaluation during a training run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlpart.errors import DataError
from vlpart.evaluation import engine
from vlpart.evaluation.average_precision import Checked, check
from vlpart.evaluation.benchmarks import get_benchmark
from vlpart.evaluation.compare import Difference, check_rule, compare
from vlpart.evaluation.detections import read_detections
from vlpart.evaluation.robustness import Variant, evaluate_variant, vocabulary_variants
from vlpart.evaluation.run import (
    Dataset,
    Options,
    Predicts,
    groups_of,
    open_dataset,
    predict,
    score_all,
    write_report,
)
from vlpart.evaluation.scores import Evaluation, Rule
from vlpart.evaluation.shards import Predictions
from vlpart.evaluation.truth import is_part
from vlpart.evaluation.vocabularies import dataset_vocabulary
from vlpart.files import write_file
from vlpart.jobs import Progress
from vlpart.runtime import World

if TYPE_CHECKING:
    from vlpart.training.recipe import EvaluationSet


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be evaluated.

    Attributes:
        dataset: ground truth and protocol.
        title: of the report.
        predictor: None scores the file `predictions`.
        predictions: detections to score.
        against: other detections of the same images, to compare with, see `vlpart.evaluation.compare`.
        options: how the model is asked; its `output` is filled in.
        extras: see `vlpart.evaluation.run.EXTRAS`.
        wordings, distractors: variants of the vocabulary to compare with, see `vlpart.evaluation.robustness`.
        output: folder for scores, predictions and report; None writes nothing.
        report: write the page.
    """

    dataset: Dataset
    title: str
    predictor: Predicts | None = None
    predictions: Path | None = None
    against: Path | None = None
    options: Options = field(default_factory=Options)
    extras: tuple[str, ...] = ()
    wordings: Mapping[str, str] | None = None
    distractors: str | None = None
    output: Path | None = None
    report: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluationOutcome:
    """What came out, on the first process.

    Attributes:
        evaluation: the scores.
        headline: the figures of the benchmark's table, in 0..1.
        variants: of the vocabulary.
        differences: from the detections to compare with: group of classes -> "ap", "ap50".
        files: what was written.
    """

    evaluation: Evaluation
    headline: Mapping[str, float]
    variants: tuple[Variant, ...]
    differences: Mapping[str, Mapping[str, Difference]]
    files: tuple[Path, ...]


def run(request: Request, *, group: World | None = None, progress: Progress | None = None) -> EvaluationOutcome | None:
    """Carry out a request; None on all processes but the first.

    Args:
        request: what to do.
        group: the processes that share the work.
        progress: told about every image.

    Raises:
        DataError, EvaluationError, OutputError: see `vlpart.evaluation.run.predict` and `score_all`.
    """
    engine.library()  # without it nothing can be scored: told before hours of work
    together = group or World()
    dataset = request.dataset
    variants = {}
    others = _others(request) if together.rank == 0 else None
    if request.predictor is not None:  # a wrong file of wordings is told before hours of work
        variants = vocabulary_variants(dataset, request.options, request.wordings, request.distractors)
    predictions = _predictions(request, together, progress)
    evaluation: Evaluation | None = None
    checked: Checked | None = None
    if predictions is not None:
        evaluation, checked = score_all(dataset, predictions, extras=request.extras)
    compared = []
    for name, (about, options) in variants.items():
        assert request.predictor is not None
        options = replace(options, output=_folder(request, f"predictions-{name}"))
        found = evaluate_variant(
            request.predictor, dataset, evaluation, (name, (about, options)), group=together, progress=progress
        )
        if found is not None:
            compared.append(found)
    if evaluation is None or checked is None:
        return None
    outcome = EvaluationOutcome(
        evaluation=evaluation,
        headline=dataset.benchmark.headline_figures(evaluation),
        variants=tuple(compared),
        differences={} if others is None else _differences(dataset, others, checked, progress),
        files=(),
    )
    return replace(outcome, files=tuple(_write(request, outcome, checked, predictions)))


def _folder(request: Request, name: str) -> Path | None:
    return None if request.output is None else request.output / name


def _predictions(request: Request, group: World, progress: Progress | None) -> Predictions | None:
    if request.predictor is None:
        assert request.predictions is not None
        if group.rank > 0:
            return None
        return Predictions(detections=_read(request.predictions, request.dataset), proposals={})
    options = replace(
        request.options,
        output=_folder(request, "predictions"),
        proposals="recall" in request.extras and request.options.proposals,
    )
    return predict(request.predictor, request.dataset, options, group=group, progress=progress)


def _read(path: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """Detections of a file; those of images that are left out are no mistake."""

    def is_left_out(image_id: Any) -> bool:
        return type(image_id) is int and image_id in dataset.left_out  # what is no id is refused later

    return [each for each in read_detections(path) if not is_left_out(each.get("image_id"))]


def _others(request: Request) -> Checked | None:
    """The detections to compare with."""
    if request.against is None:
        return None
    dataset = request.dataset
    check_rule(dataset.benchmark.rule)
    return check(
        dataset.truth,
        _read(request.against, dataset),
        rule=dataset.benchmark.rule,
        max_detections=dataset.benchmark.max_detections,
        kinds=dataset.benchmark.kinds,
    )


def _differences(
    dataset: Dataset, others: Checked, checked: Checked, progress: Progress | None
) -> dict[str, dict[str, Difference]]:
    """By all classes, parts, objects, and the groups of the data set; of masks where there are some."""
    everything = dataset.truth["categories"]
    groups = {"all": [c["id"] for c in everything]}
    if parts := {c["id"] for c in everything if is_part(c)}:
        groups |= {"parts": list(parts), "objects": [c["id"] for c in everything if c["id"] not in parts]}
    kind = "masks" if "masks" in dataset.benchmark.kinds else "boxes"
    return compare(others, checked, kind, groups | groups_of(dataset)[0], progress=progress)


def _write(
    request: Request, outcome: EvaluationOutcome, checked: Checked, predictions: Predictions | None
) -> list[Path]:
    """scores.json, predictions.json and report.html."""
    if request.output is None:
        return []
    scores = request.output / "scores.json"
    write_report(outcome.evaluation, scores, **_facts(request, outcome))
    files = [scores]
    if request.predictor is not None and predictions is not None:
        path = request.output / "predictions.json"
        files.append(write_file(path, json.dumps(predictions.detections, separators=(",", ":")).encode()))
    if request.report:
        from vlpart.evaluation.report import build_report
        from vlpart.visualize.page import render_report

        page = render_report(
            build_report(request.title, request.dataset, checked, outcome.evaluation, outcome.variants)
        )
        files.append(write_file(request.output / "report.html", page.encode()))
    return files


def _facts(request: Request, outcome: EvaluationOutcome) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if value != value else value

    return {
        "title": request.title,
        "benchmark": request.dataset.benchmark.name,
        "headline": {label: number(value) for label, value in outcome.headline.items()},
        "vocabulary_variants": [
            {
                "name": variant.name,
                "about": variant.about,
                "headline": {label: number(value) for label, value in variant.headline.items()},
                "drop": {label: number(value) for label, value in variant.drop.items()},
                "worst": [list(row) for row in variant.worst],
            }
            for variant in outcome.variants
        ],
        "against": {
            group: {metric: asdict(difference) for metric, difference in figures.items()}
            for group, figures in outcome.differences.items()
        },
    }


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
        DataError: a file or an image is missing, or an annotation is malformed; the file is named.
    """
    for each in sets:
        try:
            dataset = open_set(each, max_detections)
            rules = dataset.benchmark
            dataset_vocabulary(dataset.truth, rules.vocabulary)
            check(dataset.truth, (), rule=rules.rule, max_detections=rules.max_detections, kinds=rules.kinds)
            for image in dataset.truth["images"]:
                dataset.image_path(image)
        except DataError as error:
            named = str(error) if str(each.annotations) in str(error) else f"{each.annotations}: {error}"
            raise DataError(f"evaluation set {each.name!r}: {named}") from error


def open_set(each: EvaluationSet, max_detections: int) -> Dataset:
    """The data of a set with the rule it is scored by: one kind only, that of the benchmark's headline.

    Raises:
        DataError: the file is missing or malformed.
    """
    benchmark = None if each.benchmark is None else get_benchmark(each.benchmark)
    dataset = open_dataset(
        each.annotations, each.images, benchmark, max_images=each.max_images, validation_split=each.validation_split
    )
    rules = dataset.benchmark
    if benchmark is None:
        rule: Rule = "lvis" if each.annotated_classes_only else "coco"
        rules = replace(rules, rule=rule, max_detections=max_detections)
    kind = next(iter(rules.headline.values())).partition(".")[0]
    return replace(dataset, benchmark=replace(rules, kinds=(kind,)))
