"""`vlpart evaluate MODEL --on NAME|FILE.json|FOLDER`: the figures of a benchmark or of any COCO-style data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlpart.cli.console import Bars, note_config, print_table, say
from vlpart.cli.options import EngineName, PrecisionChoice, checked_engine, complete_models, complete_vocabularies
from vlpart.files import is_folder
from vlpart.names import config_name

if TYPE_CHECKING:
    from vlpart.evaluation.dataset import Dataset
    from vlpart.evaluation.scores import Evaluation
    from vlpart.evaluation.session import EvaluationOutcome, Request


#: What `--on` may be for the images that a training run held out.
HELD_OUT = ("held-out", "heldout", "validation")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("evaluate")(evaluate)


def evaluate(
    on: Annotated[
        str,
        typer.Option(
            "--on",
            help="coco, lvis, voc, pascal_part, partimagenet, paco, ade_parts, car_parts, faces, coco128, "
            "the yaml of a published recipe, a COCO file, a folder with a val split, or held-out: what the training "
            "run MODEL did not see.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model name, weight file, run folder or exported file; nothing with --predictions.",
            autocompletion=complete_models,
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Local weight file for the model.", dir_okay=False)] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score these detections (COCO results, or a folder of shards) without a model.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Detections of another model, to tell how sure the difference is (COCO results or shards)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="VLPART_DATA", help="Folder of the benchmarks.", file_okay=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: found by itself.", file_okay=False)
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="Other names: a list, a file, or 'car: wheel'. Matched by name, else by order.",
            autocompletion=complete_vocabularies,
        ),
    ] = None,
    annotated_classes_only: Annotated[
        bool,
        typer.Option("--annotated-classes-only", help="Count only the classes annotated in each image (LVIS way)."),
    ] = False,
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Score boxes only: for detections, or data, without masks.")
    ] = False,
    max_detections: Annotated[int | None, typer.Option(min=1, help="Detections that count.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Lowest score; default: the benchmark's, else the model's own."),
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(min=1, help="Shorter side of the network input in pixels; default: the benchmark's.")
    ] = None,
    max_side: Annotated[int | None, typer.Option(min=1, help="Its longer side, at most.")] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many evenly spaced images.")] = None,
    paraphrase: Annotated[
        str | None, typer.Option(help='Also with other words: a JSON file {"wheel": "tyre"}, or "default".')
    ] = None,
    distractors: Annotated[
        str | None, typer.Option(help="Also with names added that are not in the data: how many, a list, or a file.")
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Also precision, recall, F1, confusion at this score, and the best score."),
    ] = None,
    boundary: Annotated[
        bool, typer.Option("--boundary", help='Also boundary AP of the masks: pip install "vlpart[boundary]".')
    ] = False,
    referring: Annotated[
        bool, typer.Option("--referring", help="Also ask for every annotated part alone: IoU of the first answer.")
    ] = False,
    absent: Annotated[
        int, typer.Option(min=0, help="Also ask every image for so many nouns that are not in it, and for nonsense.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="AP only: no pairs, part IoU, recall.")] = False,
    proposals: Annotated[
        bool, typer.Option("--proposals", help="Recall of the region proposals, not of the detections.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for scores, predictions, report; resumes there.", file_okay=False),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html into the output folder.")] = True,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print every class.")] = False,
    engine: EngineName = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    precision: Annotated[PrecisionChoice, typer.Option(help="Of the computation.")] = PrecisionChoice.AUTO,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Score a model, or given detections, on a benchmark or a COCO-style file.

    With --output an interrupted evaluation goes on where it stopped. Under torchrun the images are shared out.
    """
    from dataclasses import replace

    from vlpart.evaluation.run import EXTRAS, Options
    from vlpart.evaluation.session import Request, run
    from vlpart.runtime import process_group

    if (model is None) == (predictions is None):
        raise typer.BadParameter("give the name of a model, or --predictions FILE (not both)")
    if predictions is not None and (referring or absent):
        raise typer.BadParameter("--referring and --absent ask a model: give its name instead of --predictions")
    chosen = checked_engine(model, engine)
    dataset = _held_out(on, model, max_images) or _dataset(on, data, images, max_images, need_images=model is not None)
    if boxes:
        dataset = replace(dataset, benchmark=dataset.benchmark.on_boxes())
    rule = "lvis" if annotated_classes_only else dataset.benchmark.rule
    limit = max_detections or (100 if annotated_classes_only else dataset.benchmark.max_detections)
    dataset = replace(dataset, benchmark=replace(dataset.benchmark, rule=rule, max_detections=limit))
    request = Request(
        dataset=dataset,
        title=f"{model or (predictions and predictions.name)} on {dataset.benchmark.title}",
        predictions=predictions,
        against=against,
        options=Options(
            vocabulary=_vocabulary(vocabulary),
            score_threshold=threshold,
            short_side=short_side,
            max_side=max_side,
            proposals=proposals,
            key={"precision": precision.value, "max_images": max_images, "boxes": boxes or None},
        ),
        extras=() if quick else EXTRAS,
        wordings=_wordings(paraphrase),
        distractors=distractors,
        output=output,
        report=report and output is not None,
        at=at,
        boundary=boundary,
        referring=referring,
        absent=absent,
        overridden=tuple(
            option
            for option, value in {
                "--vocabulary": vocabulary,
                "--threshold": threshold,
                "--max-detections": max_detections,
                "--short-side": short_side,
                "--max-side": max_side,
                "--annotated-classes-only": annotated_classes_only or None,
            }.items()
            if value is not None
        ),
    )
    with process_group() as group, Bars(hidden=no_progress or group.rank > 0) as progress:
        if model is not None:
            request = _with_predictor(request, model, weights, chosen, device, precision)
        outcome = run(request, group=group, progress=progress)
    if outcome is not None:
        _show(request, outcome, per_class)


def _held_out(on: str, model: str | None, max_images: int | None) -> Dataset | None:
    """What `--on held-out` means for a run folder; None for any other `--on`."""
    from vlpart.evaluation.session import open_held_out

    kind, _, name = on.partition(":")
    if kind.casefold().replace("_", "-") not in HELD_OUT:
        return None
    if model is None or not Path(model).is_dir():
        raise typer.BadParameter("--on held-out goes with the folder of a training run as MODEL")
    return open_held_out(Path(model), name or None, max_images=max_images)


def _dataset(on: str, data: Path | None, images: Path | None, max_images: int | None, need_images: bool) -> Dataset:
    from vlpart.errors import DataError
    from vlpart.evaluation.benchmarks import BENCHMARKS, get_benchmark
    from vlpart.evaluation.dataset import open_dataset, open_own

    if config_name(on) != on:
        from vlpart.recipes import get_recipe

        benchmark_of = get_recipe(on, Path()).evaluate_on[0].benchmark
        note_config(on)
        on = benchmark_of or on
    own = Path(on)
    if own.suffix.lower() == ".json" or (is_folder(own) and on not in BENCHMARKS):
        dataset = open_own(own, images, max_images=max_images)
        if dataset.images is None and need_images:
            raise DataError(
                f"the images of {own} are not beside it, nor in images/ or another usual place: "
                "give their folder with --images"
            )
        return dataset
    benchmark = get_benchmark(on)
    if data is None:
        raise DataError(f"where is {on}? give the folder of the benchmarks with --data (or VLPART_DATA)")
    file, folder = benchmark.locate(data, need_images=need_images and images is None)
    return open_dataset(file, images or folder, benchmark, max_images=max_images)


def _vocabulary(text: str | None) -> Any:
    if text is None:
        return None
    from vlpart.text.vocabulary import Vocabulary

    return Vocabulary.of(text)


def _wordings(text: str | None) -> dict[str, str] | None:
    from vlpart.evaluation.robustness import DEFAULT_WORDINGS, read_wordings

    return None if text is None else read_wordings(DEFAULT_WORDINGS if text == "default" else Path(text))


def _with_predictor(
    request: Request,
    model: str,
    weights: Path | None,
    engine: str | None,
    device: str | None,
    precision: PrecisionChoice,
) -> Request:
    from dataclasses import replace

    from vlpart.export.engines import is_exported

    if is_exported(model):
        if request.options.proposals:
            raise typer.BadParameter("an exported file has no proposals to look at: name a model")
        from vlpart.export.predictor import load_exported

        return replace(request, predictor=load_exported(model, engine))
    from vlpart.inference.predictor import load
    from vlpart.runtime import local_device

    predictor = load(model, weights=weights, device=device or local_device(), precision=precision.value)
    return replace(request, predictor=predictor)


def _show(request: Request, outcome: EvaluationOutcome, per_class: bool) -> None:
    """Print the figures, in percent."""
    evaluation = outcome.evaluation
    rule = {"lvis": "annotated classes only", "voc": "VOC 2007", "coco": "COCO"}[evaluation.rule]
    counts = f"{evaluation.images} images, {evaluation.annotations} annotations, {evaluation.detections} detections"
    say(f"{request.title}: {counts}, rule: {rule}; percent")
    for line in _settings(request):
        say(line)
    headings = ("classes", "number", "mask AP", "mask AP50", "mask AP75", "box AP", "box AP50", "box AP75")
    print_table(headings, _rows(evaluation, per_class), right=headings[1:])
    lines = [f"{label} {_percent(value)}" for label, value in outcome.headline.items()]
    kinds = {path.partition(".")[0] for path in request.dataset.benchmark.headline.values()}
    say(f"headline: {', '.join(lines)} ({' and '.join(sorted(kinds))})")
    for line in (*_more(evaluation), *_asked(outcome)):
        say(line)
    _show_operating(evaluation)
    for variant in outcome.variants:
        drops = ", ".join(
            f"{k} {_percent(v)} ({_percent(-variant.drop[k], sign=True)})" for k, v in variant.headline.items()
        )
        say(f"{variant.name} ({variant.about}): {drops}")
    for line in _against(request, outcome):
        say(line)
    for note in evaluation.notes:
        say(f"note: {note}")
    for path in outcome.files:
        say(f"wrote {path}")


def _show_operating(evaluation: Evaluation) -> None:
    """Precision, recall and F1 at a threshold, and the classes that are taken for each other most often."""
    if (point := evaluation.operating) is None:
        return
    say(f"detections with a score of {point.threshold:g} or more ({point.kind}, IoU 0.5):")
    headings = ("class", "right", "wrong", "missed", "precision", "recall", "F1", "best score", "its F1")
    rows = [
        (
            *(name, str(row.right), str(row.wrong), str(row.missed)),
            *(_percent(value) for value in (row.precision, row.recall, row.f1)),
            "-" if row.best_threshold != row.best_threshold else f"{row.best_threshold:.3f}",
            _percent(row.best_f1),
        )
        for name, row in [("all", point.all), *point.per_class.items()]
    ]
    print_table(headings, rows, right=headings[1:])
    if point.confusion is not None:
        names, counts = point.confusion.names, point.confusion.counts
        pairs = [
            (count, f"{names[i]} found as {names[j]}")
            for i, row in enumerate(counts[:-1])
            for j, count in enumerate(row)
            if i != j and count
        ]
        for count, text in sorted(pairs, key=lambda pair: -pair[0])[:10]:
            say(f"  {count} x {text}")


def _settings(request: Request) -> Iterator[str]:
    """What the model was asked with."""
    settings = request.settings
    if settings is None:
        return
    own = "the model's own"
    threshold, side = settings["score_threshold"], settings["short_side"]
    size = own if side is None else f"{side} x {settings['max_side'] or own}"
    above = own if threshold is None else f"{threshold:g}"
    yield (
        f"asked with: vocabulary {settings['vocabulary']}, score above {above}, "
        f"{settings['max_detections']} detections, image size {size}"
    )


def _against(request: Request, outcome: EvaluationOutcome) -> Iterator[str]:
    """The differences from other detections, a line for each group of classes."""
    if not outcome.differences:
        return
    from vlpart.evaluation.compare import CONFIDENCE

    yield f"change from {request.against} (in brackets: {CONFIDENCE:.0%} of the draws of other images like these):"
    for group, figures in outcome.differences.items():
        cells = [
            f"{title} {_percent(figures[key].first)} -> {_percent(figures[key].second)}, "
            f"{_percent(figures[key].change, sign=True)} ({_percent(figures[key].low, sign=True)} to "
            f"{_percent(figures[key].high, sign=True)})"
            for key, title in (("ap", "AP"), ("ap50", "AP50"))
        ]
        yield f"  {group}: {'; '.join(cells)}"


def _rows(evaluation: Evaluation, per_class: bool) -> list[list[str]]:
    """All, parts, objects, groups, and the classes if asked for."""
    kinds = [scores for scores in (evaluation.masks, evaluation.boxes) if scores is not None]
    first = kinds[0]
    names = [(name, name.replace(" ", "_"), "") for name in ("all", "parts", "objects", "parts by name")]
    names += [(name, "groups", name) for name in first.groups]
    if per_class:
        names += [(name, "per_class", name) for name in first.per_class]
    rows = []
    for label, attribute, key in names:
        cells = [label, ""]
        for scores in (evaluation.masks, evaluation.boxes):
            figure = None if scores is None else getattr(scores, attribute)
            value = figure[key] if key and figure is not None else figure
            if value is not None:
                cells[1] = str(value.classes)
            cells += ["-"] * 3 if value is None else [_percent(x) for x in (value.ap, value.ap50, value.ap75)]
        if cells[1] != "0":
            rows.append(cells)
    return rows


def _more(evaluation: Evaluation) -> Iterator[str]:
    """One line for each further measure that was taken."""
    if (pairs := evaluation.pairs) is not None:
        figures = f"AP {_percent(pairs.ap)}, AP50 {_percent(pairs.ap50)}"
        yield f"parts in the right object: {figures} ({pairs.classes} classes)"
    for title, iou in (
        ("part IoU, all pixels", evaluation.part_iou),
        ("part IoU, within objects", evaluation.part_iou_in_objects),
    ):
        if iou is not None:
            split = "" if iou.hiou != iou.hiou else f", base {_percent(iou.base)}, novel {_percent(iou.novel)}"
            split += "" if iou.hiou != iou.hiou else f", hIoU {_percent(iou.hiou)}"
            yield f"{title}: mIoU {_percent(iou.miou)}{split} (detections over {iou.score_threshold:g})"
    if evaluation.boundary is not None:
        groups = (f"{n} AP {_percent(v.ap)}, AP50 {_percent(v.ap50)}" for n, v in evaluation.boundary.items())
        yield f"boundary: {'; '.join(groups)}"
    if (recall := evaluation.recall) is not None:
        for limit, value in recall.all.items():
            sizes = (f"{size} {_percent(getattr(recall, size)[limit])}" for size in ("small", "medium", "large"))
            yield f"class-agnostic recall of {recall.source}, best {limit}: {_percent(value)} ({', '.join(sizes)})"


def _asked(outcome: EvaluationOutcome) -> Iterator[str]:
    """Precision and recall at the threshold, and the answers to further questions."""
    point = outcome.operating_point
    yield f"over {point.threshold:g}: precision {_percent(point.precision)}, recall {_percent(point.recall)}"
    if (r := outcome.referring) is not None:
        yield (
            f"asked alone ({len(r.answers)} questions): mean IoU {_percent(r.mean_iou)}, cumulative IoU "
            f"{_percent(r.cumulative_iou)}, P50 {_percent(r.p50)}, P50-95 {_percent(r.p50_95)}, best at any rank "
            f"{_percent(r.any_rank)}"
        )
    if (a := outcome.absent) is not None:
        often = ", ".join(f"{name} ({count})" for name, count in a.worst[:5])
        most = f", most often {often}" if often else ""
        yield f"absent: {a.per_image:.2f} detections of {a.names} nouns per image{most}"
        yield f"random strings found: {a.strings_found} of {a.strings}"


def _percent(value: float, sign: bool = False) -> str:
    return "-" if value != value else f"{100 * value:{'+' if sign else ''}.1f}"
