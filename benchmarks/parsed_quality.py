"""How good are the parts that the annotation parser found? Compares them with annotated ones that it never saw.

    python benchmarks/parsed_quality.py runs/ladder_parsed.json ROOT/ade_parts/train.json

For every annotated part of a parsed object: the overlap with the best parsed part of the same name in the same
image, 0 if there is none. Parts that the parser found and nobody annotated are counted, not judged: annotations are
not exhaustive. With confidences, also how the overlap grows with them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def read(path: Path) -> tuple[dict[str, dict[str, list[dict[str, Any]]]], dict[str, list[str]]]:
    """Annotations by file name and category name, and the labels of every image (parsed files only)."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in document["categories"]}
    files = {i["id"]: i["file_name"] for i in document["images"]}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: defaultdict(list) for name in files.values()}
    for annotation in document["annotations"]:
        found[files[annotation["image_id"]]][names[annotation["category_id"]]].append(annotation)
    return found, {i["file_name"]: i.get("image_labels", []) for i in document["images"]}


def overlaps(truth: dict[str, Any], candidates: list[dict[str, Any]]) -> tuple[float, float | None, float]:
    """Best IoU of boxes, IoU of the masks of the same candidate, and its score."""
    if not candidates:
        return 0.0, None, 0.0
    ious = coco_mask.iou([c["bbox"] for c in candidates], [truth["bbox"]], [0])[:, 0]
    best = int(ious.argmax())
    masked = None
    if "segmentation" in candidates[best]:
        masked = float(coco_mask.iou([candidates[best]["segmentation"]], [truth["segmentation"]], [0])[0, 0])
    return float(ious[best]), masked, float(candidates[best].get("score", 1.0))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("parsed", type=Path)
    arguments.add_argument("truth", type=Path)
    given = arguments.parse_args()
    parsed, labels = read(given.parsed)
    truth, _ = read(given.truth)
    rows: dict[str, list[tuple[float, float | None, float]]] = defaultdict(list)
    unjudged = total = 0
    for file_name, found in parsed.items():
        parts = {name: each for name, each in found.items() if ":" in name}
        total += sum(len(each) for each in parts.values())
        unjudged += sum(len(each) for name, each in parts.items() if name not in truth[file_name])
        for name, annotated in truth[file_name].items():
            owner, _, part = name.partition(":")
            if part and owner in labels[file_name]:
                rows[owner] += [overlaps(annotation, found.get(name, [])) for annotation in annotated]
    print(f"{len(parsed)} images, {total} parsed parts, {unjudged} of them of names not annotated in the image")
    print(f"{'':16}  truth  found  box IoU  over .5  mask IoU  over .5")
    for owner in sorted(rows):
        report(owner, rows[owner])
    everything = [row for each in rows.values() for row in each]
    report("all", everything)
    for least in (0.2, 0.3, 0.4, 0.5, 0.6):
        report(f"  score >= {least}", [row for row in everything if row[2] >= least])


def report(title: str, rows: list[tuple[float, float | None, float]]) -> None:
    """One line."""
    if not rows:
        return
    boxes = np.array([row[0] for row in rows])
    masks = np.array([row[1] or 0.0 for row in rows if row[1] is not None or row[0] == 0])  # not found counts as 0
    if all(row[1] is None for row in rows):
        masks = masks[:0]
    line = f"{title:16}{len(rows):7}{np.mean(boxes > 0):7.0%}{boxes.mean():9.2f}{np.mean(boxes > 0.5):9.0%}"
    print(line + (f"{masks.mean():10.2f}{np.mean(masks > 0.5):9.0%}" if len(masks) else ""))


if __name__ == "__main__":
    main()
