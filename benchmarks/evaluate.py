"""Time of scoring, beside pycocotools and lvis-api on the same detections.

    python benchmarks/evaluate.py [--scale 0.1] [--yardsticks]

Two made-up sets: 5,000 images, 100,000 masks, 93 classes under the COCO rule; 2,000 images, 120,000 detections,
1,203 classes under the LVIS rule. Prints CPU seconds for boxes and masks, the check of the input included, and with
--yardsticks the same for pycocotools and lvis-api with the ratio and the largest difference of the precision. `--scale`
takes a fraction of the images. The row "reading" is ground truth alone, and how many times as long it takes to verify
its masks one at a time. Input is the list of dictionaries that a JSON file gives, for all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vlpart.evaluation import average_precision as coco
from vlpart.evaluation import engine
from vlpart.evaluation.truth import check_form
from vlpart.masks.rasterise import parse_segmentation

HEIGHT, WIDTH = 480, 640
SETS = {"coco 93": (5000, 100_000, 93, "coco", 100), "lvis 1203": (2000, 120_000, 1203, "lvis", 300)}


def blob(rng: np.random.Generator, box: np.ndarray) -> dict[str, Any]:
    """An ellipse in a box, as RLE."""
    x, y, w, h = (int(v) for v in box)
    bitmap = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    rows, columns = np.ogrid[:h, :w]
    tilt = rng.uniform(0.7, 1.3)
    inside = ((rows - h / 2) / (h / 2)) ** 2 + (tilt * (columns - w / 2) / (w / 2)) ** 2 <= 1
    bitmap[y : y + h, x : x + w] = inside
    rle = coco_mask.encode(bitmap)
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def made_up(images: int, detections: int, classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth with 7 annotations an image, and detections: good and bad ones of them, and some anywhere."""
    rng = np.random.default_rng(0)
    truth, found = [], []
    entries = []
    for image in range(1, images + 1):
        present = rng.integers(1, classes + 1, 7).tolist()
        for category in present:
            w, h = rng.integers(12, 200, 2)
            box = np.array([rng.integers(0, WIDTH - w), rng.integers(0, HEIGHT - h), w, h])
            mask = blob(rng, box)
            area = int(coco_mask.area({"size": mask["size"], "counts": mask["counts"].encode()}))
            entry = {"image_id": image, "category_id": category, "bbox": [int(v) for v in box], "segmentation": mask}
            truth.append({**entry, "id": len(truth) + 1, "area": area, "iscrowd": 0})
        for _ in range(detections // images):
            if rng.random() < 0.6:
                source = truth[-int(rng.integers(1, 8))]
                moved = np.array(source["bbox"]) + np.append(rng.integers(-8, 9, 2), rng.integers(-6, 7, 2))
                category = source["category_id"]
            else:
                w, h = rng.integers(12, 200, 2)
                moved = np.array([rng.integers(0, WIDTH - w), rng.integers(0, HEIGHT - h), w, h])
                category = int(rng.integers(1, classes + 1))
            moved[2:] = np.clip(moved[2:], 6, 200)
            moved[:2] = np.clip(moved[:2], 0, [WIDTH, HEIGHT] - moved[2:])
            box = [float(v) for v in moved]
            detection = {"image_id": image, "category_id": category, "bbox": box, "score": float(rng.random())}
            found.append({**detection, "segmentation": blob(rng, moved)})
        absent = [int(v) for v in rng.integers(1, classes + 1, 40) if v not in present]
        entries.append({"id": image, "height": HEIGHT, "width": WIDTH, "neg_category_ids": sorted(set(absent))})
        entries[-1]["not_exhaustive_category_ids"] = present[:1] if image % 10 == 0 else []
    categories = [{"id": k, "name": f"class {k}", "frequency": "rcf"[k % 3]} for k in range(1, classes + 1)]
    return {"images": entries, "annotations": truth, "categories": categories}, found


def cpu_seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads, and what the action gave."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def ours(truth: dict[str, Any], found: list[dict[str, Any]], rule: Any, limit: int, kinds: Sequence[str]) -> Any:
    """The precision of every kind, as `score_detections` computes it."""
    checked = coco.check(truth, found, rule=rule, max_detections=limit, kinds=kinds)
    precision = {}
    for kind in kinds:
        table = checked.table.take(checked.table.areas(kind) > 0) if rule == "lvis" else checked.table
        tensors = engine.measure(checked.index, table, kind, rule=rule, max_detections=limit)
        coco.summarise(truth, tensors, {})
        precision[kind] = tensors.precision
    return precision


def one_by_one(truth: dict[str, Any]) -> None:
    """Verify every mask of the ground truth alone."""
    for annotation in truth["annotations"]:
        parse_segmentation(annotation["segmentation"], HEIGHT, WIDTH)


def yardstick(truth: str, found: str, rule: str, limit: int, kind: str) -> Callable[[], np.ndarray]:
    """pycocotools or lvis-api on copies of the input (they change it; reading the JSON is not counted)."""
    content, results = json.loads(truth), json.loads(found)
    name = {"masks": "segm", "boxes": "bbox"}[kind]
    if kind == "masks":
        for each in results:
            del each["bbox"]

    def with_pycocotools() -> np.ndarray:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        index = COCO()
        index.dataset = content
        index.createIndex()
        evaluator = COCOeval(index, index.loadRes(results), name)
        evaluator.params.maxDets = [1, 10, limit]
        evaluator.evaluate()
        evaluator.accumulate()
        return evaluator.eval["precision"][..., -1]

    def with_lvis_api() -> np.ndarray:
        np.float = float  # type: ignore[attr-defined]  # what lvis-api calls has left numpy
        from lvis import LVIS, LVISEval, LVISResults

        index = LVIS.__new__(LVIS)
        index.logger = logging.getLogger("lvis")
        index.dataset = content
        index._create_index()
        evaluator = LVISEval(index, LVISResults(index, results, max_dets=limit), name)
        evaluator.evaluate()
        evaluator.accumulate()
        return evaluator.eval["precision"]

    return with_pycocotools if rule == "coco" else with_lvis_api


def ratio(name: str, scale: float) -> float:
    """How many times as long pycocotools or lvis-api takes for boxes and masks of a set."""
    warnings.simplefilter("ignore")
    images, detections, classes, rule, limit = SETS[name]
    truth, found = made_up(max(int(images * scale), 1), int(detections * scale), classes)
    texts, other = (json.dumps(truth), json.dumps(found)), 0.0
    spent, measured = cpu_seconds(partial(ours, truth, found, rule, limit, ("boxes", "masks")))
    for kind, precision in measured.items():
        with contextlib.redirect_stdout(io.StringIO()):
            seconds, expected = cpu_seconds(yardstick(*texts, rule, limit, kind))
        assert np.abs(precision - expected).max() < 1e-6
        other += seconds
    return other / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the images")
    parser.add_argument("--yardsticks", action="store_true", help="also time pycocotools and lvis-api")
    parser.add_argument("--only", choices=list(SETS), help="one set")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'set':>10} {'kinds':>11} {'images':>8} {'detections':>10} {'CPU s':>8}")
    for name, (images, detections, classes, rule, limit) in SETS.items():
        if arguments.only not in (None, name):
            continue
        count = max(int(images * arguments.scale), 1)
        truth, found = made_up(count, int(detections * arguments.scale), classes)
        spent, _ = cpu_seconds(partial(check_form, truth, name))
        alone, _ = cpu_seconds(partial(one_by_one, truth))
        print(
            f"{name:>10} {'reading':>11} {count:>8} {len(truth['annotations']):>10} {spent:>8.2f}"
            f"   masks one at a time {alone:.2f}, {alone / spent:.1f} times as long",
            flush=True,
        )
        texts = (json.dumps(truth), json.dumps(found)) if arguments.yardsticks else ("", "")
        spent, measured = 0.0, {}
        for kinds in (("boxes",), ("boxes", "masks")):
            spent, measured = cpu_seconds(partial(ours, truth, found, rule, limit, kinds))
            print(f"{name:>10} {'+'.join(kinds):>11} {count:>8} {len(found):>10} {spent:>8.2f}", flush=True)
        total = 0.0
        for kind in measured if arguments.yardsticks else ():
            with contextlib.redirect_stdout(io.StringIO()):
                other, expected = cpu_seconds(yardstick(*texts, rule, limit, kind))
            total += other
            gap = float(np.abs(measured[kind] - expected).max())
            print(f"{'yardstick':>10} {kind:>11} {other:>28.2f}   largest difference {gap:.1e}", flush=True)
        if arguments.yardsticks:
            print(f"{'':>10} {'both':>11} {total:>28.2f}   {total / spent:.1f} times as long", flush=True)


if __name__ == "__main__":
    main()
