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

from vlpart.data.readers.values import identifier
from vlpart.errors import DataError
from vlpart.evaluation import engine, operating
from vlpart.evaluation.absent import Absent, ask_absent
from vlpart.evaluation.average_precision import Checked, check
from vlpart.evaluation.benchmarks import Benchmark, get_benchmark
from vlpart.evaluation.boundary import boundary_precision
from vlpart.evaluation.boundary import library as boundary_library
from vlpart.evaluation.compare import Difference, check_rule, compare
from vlpart.evaluation.dataset import Dataset, groups_of, open_dataset
from vlpart.evaluation.detections import listed, read_content
from vlpart.evaluation.identity import matched
from vlpart.evaluation.operating import ThresholdCounts, counts_over
from vlpart.evaluation.referring import Referring, ask
from vlpart.evaluation.robustness import Variant, evaluate_variant, vocabulary_variants
from vlpart.evaluation.run import Options, Predicts, fitted, predict, score_all, settings_of, write_report
from vlpart.evaluation.scores import Evaluation, Rule
from vlpart.evaluation.shards import Predictions
from vlpart.evaluation.truth import is_part
from vlpart.evaluation.vocabularies import dataset_vocabulary
from vlpart.files import write_file
from vlpart.jobs import Progress
from vlpart.names import did_you_mean
from vlpart.runtime import World
from vlpart.zoo.run_folder import run_recipe

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
        boundary: also boundary AP of the masks, see `vlpart.evaluation.boundary`.
        at: also precision, recall, F1 and the confusion of classes at this score threshold.
        referring: also ask for every annotated part alone, see `vlpart.evaluation.referring`.
        absent: also ask for so many nouns that are not in an image, see `vlpart.evaluation.absent`; 0 = don't.
        threshold: of the precision and recall that are reported, and of what is found of absent nouns.
        overridden: which settings of the benchmark were given otherwise, for the report.
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
    at: float | None = None
    boundary: bool = False
    referring: bool = False
    absent: int = 0
    threshold: float = 0.5
    overridden: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the model is asked with, for people and files; None without a model."""
        if self.predictor is None:
            return None
        asked = asked_with(self.predictor, self.dataset.benchmark, self.options)
        return {**asked, "overridden": list(self.overridden)}


def asked_with(model: Any, benchmark: Benchmark, options: Options) -> dict[str, Any]:
    """The settings of an evaluation as plain values, as scores.json keeps them.

    Args:
        model: a predictor, or an entry of the catalogue.
        benchmark: what it is evaluated on.
        options: how it is asked.
    """
    names = options.vocabulary
    title = benchmark.vocabulary if names is None else names.title
    further = {name: value for name, value in (options.key or {}).items() if value is not None}
    settings = vars(settings_of(model, benchmark, options))
    return {**settings, **further, "vocabulary": title or "the categories of the data"}


@dataclass(frozen=True, kw_only=True)
class EvaluationOutcome:
    """What came out, on the first process.

    Attributes:
        evaluation: the scores.
        headline: the figures of the benchmark's table, in 0..1.
        variants: of the vocabulary.
        differences: from the detections to compare with: group of classes -> "ap", "ap50".
        files: what was written.
        operating_point: precision and recall at the threshold of the request.
        referring, absent: where asked for.
    """

    evaluation: Evaluation
    headline: Mapping[str, float]
    variants: tuple[Variant, ...]
    differences: Mapping[str, Mapping[str, Difference]]
    files: tuple[Path, ...]
    operating_point: ThresholdCounts
    referring: Referring | None = None
    absent: Absent | None = None


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
    if request.boundary:
        boundary_library()
    together = group or World()
    dataset = fitted(request.dataset, request.predictor)
    boxes_only = dataset is not request.dataset
    request = replace(request, dataset=dataset)
    variants = {}
    others = _others(request) if together.rank == 0 else None
    if request.predictor is not None:  # a wrong file of wordings is told before hours of work
        variants = vocabulary_variants(dataset, request.options, request.wordings, request.distractors)
    predictions = _predictions(request, together, progress)
    evaluation: Evaluation | None = None
    checked: Checked | None = None
    if predictions is not None:
        evaluation, checked = score_all(dataset, predictions, extras=request.extras)
        if request.boundary:
            evaluation = replace(evaluation, boundary=boundary_precision(checked))
        if request.at is not None:
            kind = "masks" if "masks" in dataset.benchmark.kinds else "boxes"
            evaluation = replace(evaluation, operating=operating.operating_point(checked, kind, request.at))
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
    referring, absent = _questions(request, progress)
    notes = ["The model has no mask head: boxes are scored, not masks."] if boxes_only else []
    if request.overridden:
        notes.append(f"Not the settings of the benchmark, but given: {', '.join(request.overridden)}.")
    evaluation = replace(evaluation, notes=(*evaluation.notes, *notes))
    outcome = EvaluationOutcome(
        evaluation=evaluation,
        headline=dataset.benchmark.headline_figures(evaluation),
        variants=tuple(compared),
        differences={} if others is None else _differences(dataset, others, checked, progress),
        files=(),
        operating_point=counts_over(checked, "masks" if evaluation.masks is not None else "boxes", request.threshold),
        referring=referring,
        absent=absent,
    )
    return replace(outcome, files=tuple(_write(request, outcome, checked, predictions)))


def _questions(request: Request, progress: Progress | None) -> tuple[Referring | None, Absent | None]:
    """The answers to the questions that the request asks besides the scores, from the first process alone."""
    referring: Referring | None = None
    absent: Absent | None = None
    if request.referring and request.predictor is not None:
        referring = ask(request.predictor, request.dataset, progress)
    if request.absent and request.predictor is not None:
        absent = ask_absent(
            request.predictor, request.dataset, request.absent, threshold=request.threshold, progress=progress
        )
    return referring, absent


def _folder(request: Request, name: str) -> Path | None:
    return None if request.output is None else request.output / name


def _predictions(request: Request, group: World, progress: Progress | None) -> Predictions | None:
    if request.predictor is None:
        assert request.predictions is not None
        if group.rank > 0:
            return None
        return _read(request.predictions, request.dataset)
    options = replace(
        request.options,
        output=_folder(request, "predictions"),
        proposals="recall" in request.extras and request.options.proposals,
    )
    return predict(request.predictor, request.dataset, options, group=group, progress=progress)


def _read(path: Path, dataset: Dataset) -> Predictions:
    """Detections of a file; those of images that are left out are no mistake."""
    content: Any = read_content(path)
    notes: list[str] = []
    if isinstance(content, Mapping):
        detections, notes = matched(content, dataset.truth, path, dataset.left_out.values())
    else:
        detections = listed(content, path)
    kept = [each for each in detections if identifier(each.get("image_id")) not in dataset.left_out]
    return Predictions(detections=kept, proposals={}, notes=tuple(notes))


def _others(request: Request) -> Checked | None:
    """The detections to compare with."""
    if request.against is None:
        return None
    dataset = request.dataset
    check_rule(dataset.benchmark.rule)
    return check(
        dataset.truth,
        _read(request.against, dataset).detections,
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
            build_report(
                request.title,
                request.dataset,
                checked,
                outcome.evaluation,
                outcome.variants,
                questions=(outcome.operating_point, outcome.referring, outcome.absent),
            )
        )
        files.append(write_file(request.output / "report.html", page.encode()))
    return files


def _facts(request: Request, outcome: EvaluationOutcome) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if value != value else value

    return {
        "title": request.title,
        "benchmark": request.dataset.benchmark.name,
        "settings": request.settings,
        "headline": {label: number(value) for label, value in outcome.headline.items()},
        "operating_point": {
            **asdict(outcome.operating_point),
            "precision": number(outcome.operating_point.precision),
            "recall": number(outcome.operating_point.recall),
        },
        "referring": outcome.referring and outcome.referring.to_dict(),
        "absent": outcome.absent and outcome.absent.to_dict(),
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
        score_threshold, max_detections: of sets without a benchmark, which has its own: what detections must score
            above, and how many count.

    Raises:
        DataError: a file or an image is missing or malformed, or a file is not of its benchmark.
        EvaluationError: the predictor gave something that cannot be scored.
    """
    figures: dict[str, float] = {}
    heads = []
    for each in sets:
        dataset = fitted(open_set(each, max_detections), predictor)
        own = score_threshold if dataset.benchmark.score_threshold is None else None
        predictions = predict(predictor, dataset, Options(score_threshold=own))
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
            remedy = "" if each.benchmark is None else get_benchmark(each.benchmark).remedy(each.annotations)
            raise DataError(f"evaluation set {each.name!r}: {named}{remedy}") from error


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


def open_held_out(run: Path, name: str | None = None, *, max_images: int | None = None) -> Dataset:
    """What a training run was evaluated on and did not see: its val split, or the images that it held out, all of them.

    Args:
        run: folder of the run.
        name: which of its evaluation sets; None = the only one.
        max_images: only an evenly spaced subset of so many.

    Raises:
        DataError: the run has no such set, several and no name is given, or its files are not there any more.
        WeightsError: the folder is no run.
    """
    sets = {str(each["name"]): each for each in run_recipe(run).get("evaluate_on") or ()}
    if not sets:
        raise DataError(f"{run} was trained without evaluation, so nothing is held out: give the data with --on")
    if name is None and len(sets) > 1:
        raise DataError(f"{run} has {len(sets)} evaluation sets: name one, --on held-out:{next(iter(sets))}")
    if name is not None and name not in sets:
        raise DataError(f"{run} has no evaluation set {name!r}: {did_you_mean(name, sets) or ', '.join(sets)}")
    chosen = sets[name] if name is not None else next(iter(sets.values()))
    annotations, images = Path(chosen["annotations"]), Path(chosen["images"])
    if not annotations.is_file():
        raise DataError(
            f"{annotations}, which {run} was evaluated on, is not there: start in the folder that the training was "
            "started in, or give the data with --on"
        )
    benchmark = None if chosen.get("benchmark") is None else get_benchmark(chosen["benchmark"])
    share = float(chosen.get("validation_split") or 0.0)
    dataset = open_dataset(annotations, images, benchmark, max_images=max_images, validation_split=share)
    if benchmark is not None:
        return dataset
    title = f"{annotations}, the part that {run} held out" if share else f"{annotations}, held out by {run}"
    rule: Rule = "lvis" if chosen.get("annotated_classes_only") else dataset.benchmark.rule
    return replace(dataset, benchmark=replace(dataset.benchmark, title=title, rule=rule))
