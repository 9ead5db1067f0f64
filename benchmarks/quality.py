"""The table of what a model is worth, in one go: `python benchmarks/quality.py MODEL --data ROOT`.

For every data set below ROOT (`NAME/val.json`, `NAME/images`): mask AP50 of parts and objects; precision and recall
over 0.5, of all detections and of those that the command line draws (one name a region); the first answer when a part
is asked for alone (and the best at any rank); absent nouns and random strings that are found; and the share of
detections that share their region with another name, with the model's own vocabulary, as found and as drawn.
`--images N` takes an evenly spaced subset of every set. MODEL is a model name, a weight file or a run folder.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vlpart.evaluation.absent import ask_absent
from vlpart.evaluation.dataset import Dataset, open_dataset
from vlpart.evaluation.operating import ThresholdCounts, counts_over, doubly_named
from vlpart.evaluation.referring import ask
from vlpart.evaluation.run import Options, predict, score_all
from vlpart.inference.predictor import Predictor, load

#: Data sets, and whether only the classes annotated in an image count.
SETS = {
    "car_parts": False,
    "faces": False,
    "ade_parts": True,
    "coco128": False,
    "coco_more": False,
    "animals": False,
    "clothes": False,
    "tools": False,
    "furniture": True,
    "cats": False,
    "facades": False,
}
WITH_QUESTIONS = ("ade_parts", "car_parts", "faces", "clothes")


def measure(predictor: Predictor, root: Path, name: str, images: int | None, absent: int) -> dict[str, Any]:
    """The figures of one data set; 0..1, counts, or None where it has no such figure."""
    dataset = open_dataset(root / name / "val.json", root / name / "images", max_images=images)
    rule = "lvis" if SETS[name] else "coco"
    dataset = replace(dataset, benchmark=replace(dataset.benchmark, rule=rule, max_detections=100, kinds=("masks",)))  # type: ignore[arg-type]
    predictions = predict(predictor, dataset, Options(score_threshold=0.02))
    assert predictions is not None
    evaluation, checked = score_all(dataset, predictions)
    assert evaluation.masks is not None
    point = counts_over(checked, "masks")
    row: dict[str, Any] = {
        "images": evaluation.images,
        "parts_ap50": evaluation.masks.parts.ap50 if evaluation.masks.parts.classes else None,
        "objects_ap50": evaluation.masks.objects.ap50 if evaluation.masks.objects.classes else None,
        "precision": point.precision,
        "recall": point.recall,
    }
    drawn = _drawn_counts(predictor, dataset)
    row |= {"precision_drawn": drawn.precision, "recall_drawn": drawn.recall}
    if name in WITH_QUESTIONS:
        asked = ask(predictor, dataset)
        row |= {
            "first": asked.mean_iou,
            "cumulative": asked.cumulative_iou,
            "p50": asked.p50,
            "any_rank": asked.any_rank,
        }
    if absent:
        found = ask_absent(predictor, _fewer(dataset, 20), absent)
        row |= {"absent_per_image": found.per_image, "strings": found.strings_found, "worst": list(found.worst[:5])}
    row["two_names"], row["two_names_drawn"] = _two_names(predictor, _fewer(dataset, 40))
    return row


def _fewer(dataset: Dataset, images: int) -> Dataset:
    from vlpart.evaluation.truth import subset

    return replace(dataset, truth=subset(dataset.truth, images))


class _Drawing:
    """A predictor whose results are what the command line draws by default (`--iou`)."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.read = predictor.read

    def detect(self, images: Any, vocabulary: Any = None, **options: Any) -> list[Any]:
        """See `Predictor.detect`."""
        return [each.without_overlapping() for each in self._predictor.detect(images, vocabulary, **options)]


def _drawn_counts(predictor: Predictor, dataset: Dataset) -> ThresholdCounts:
    """Right, wrong and missed over 0.5 among the detections that are drawn."""
    predictions = predict(_Drawing(predictor), dataset, Options(score_threshold=0.5))
    assert predictions is not None
    return counts_over(score_all(dataset, predictions)[1], "masks")


def _two_names(predictor: Predictor, dataset: Dataset) -> tuple[list[int], list[int]]:
    """[detections that share their region with another name, detections], the model's vocabulary, over 0.5: of the
    results as they are, and of what the command line draws (`--iou`).
    """
    paths = [str(dataset.image_path(image)) for image in dataset.truth["images"]]
    results = [predictor.predict(path, score_threshold=0.5) for path in paths]
    return list(doubly_named(results)), list(doubly_named(each.without_overlapping() for each in results))


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table, in percent."""
    table = Table(title="val splits; percent, but for counts")
    headings = (
        "set",
        "images",
        "parts AP50",
        "objects AP50",
        "P@0.5",
        "R@0.5",
        "P drawn",
        "R drawn",
        "first",
        "any rank",
        "absent",
        "strings",
        "2 names",
        "drawn",
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for name, row in rows.items():
        cells = [
            _percent(row.get(k))
            for k in (
                "parts_ap50",
                "objects_ap50",
                "precision",
                "recall",
                "precision_drawn",
                "recall_drawn",
                "first",
                "any_rank",
            )
        ]
        named_twice = [
            f"{100 * shared / total:.1f}" if total else "-"
            for shared, total in (row["two_names"], row["two_names_drawn"])
        ]
        absent = row.get("absent_per_image")
        table.add_row(
            name,
            str(row["images"]),
            *cells,
            "" if absent is None else f"{absent:.2f}",
            str(row.get("strings", "")),
            *named_twice,
        )
    Console(width=150).print(table)


def _percent(value: float | None) -> str:
    return "" if value is None else "-" if value != value else f"{100 * value:.1f}"


def main() -> None:
    """Measure every set that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--images", type=int, help="evenly spaced images of every set; default: all")
    parser.add_argument("--absent", type=int, default=300, help="absent nouns and random strings; 0 = none")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = load(options.model, precision="float32")
    rows: dict[str, dict[str, Any]] = {}
    for name in options.sets:
        if not (options.data / name / "val.json").is_file():
            print(f"{name}: not in {options.data}, left out")
            continue
        began = time.time()
        rows[name] = measure(predictor, options.data, name, options.images, options.absent)
        print(f"{name}: {time.time() - began:.0f} s", flush=True)
        if options.output:
            options.output.write_text(json.dumps(rows, indent=1))
    show(rows)


if __name__ == "__main__":
    main()
