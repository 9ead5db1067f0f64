"""Join a set's own annotations with pseudo boxes of COCO's objects: training files for `tiny2` (build time only).

    python scripts/merge_pseudo_labels.py ROOT/furniture boxes.jsonl MERGED/furniture

`boxes.jsonl` comes from `pseudo_boxes.py` on the images of `train.json`. The output folder gets `train.json`, and links
to `images` and `val.json`, so that a recipe reads it like any other set. Rules:

* A box of `--threshold` (0.45) or more becomes an annotation with a `score`, which teaches what is there and not its
  outline (`Source.scored_annotations`); not where it overlaps an own object by IoU 0.5 (that one has its name already).
* A COCO name that means one of the set's own names (cosine 0.7: "couch", "sofa") is that name; one that is merely near
  to one (0.5) is left out of the set, since nobody can say which of the two a thing is.
* A COCO name whose best score in an image lies between `ABSENT` and the threshold is unknown there
  (`not_exhaustive_category_ids`); below, it is absent, and a good negative. Own names are absent where they are not
  annotated, and complete where they are (`neg_category_ids`), but for the sets that label the main object only
  (`--main-only`), and for own names that a COCO name means and the detector suspects.
* `--labels` sets (one label per image, no boxes) get one box: the best pseudo box of any name, else the image less 5%.
* `--absent scissors,vase` takes no boxes (`-`): on close pictures of tools the detector is sure of what is not there.
  The set gets these names as classes without annotations, which are good negatives where it is exhaustive.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from vlpart.text.static import StaticTextEncoder
from vlpart.text.vocabulary import Vocabulary

SAME, NEAR, ABSENT, OVERLAP = 0.7, 0.5, 0.06, 0.5
NOT_THE_SAME = {("potted plant", "plant pot")}  # near in words, another thing in the image


def iou(a: list[float], b: list[float]) -> float:
    """Of two boxes x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def meanings(categories: list[dict[str, Any]]) -> dict[str, str | None]:
    """COCO name -> the own object name it means, itself where it is new, or None where it is left out."""
    encoder, coco = StaticTextEncoder(), Vocabulary.load("coco").names
    objects = sorted({c["object"] for c in categories})
    parts = sorted({c["part"] for c in categories if c.get("part")})
    wholes = {c["name"] for c in categories if not c.get("part")}
    to_objects = encoder.encode(coco) @ encoder.encode(objects).T
    to_parts = encoder.encode(coco) @ encoder.encode(parts).T if parts else np.zeros((len(coco), 1))
    found: dict[str, str | None] = {}
    for name, objects_row, parts_row in zip(coco, to_objects, to_parts, strict=True):
        best = int(objects_row.argmax())
        if name in objects or objects_row[best] >= SAME:
            target = name if name in objects else objects[best]
            if (name, target) in NOT_THE_SAME:
                found[name] = None
                continue
            found[name] = target if target in wholes or name in objects else None
        else:
            found[name] = None if objects_row[best] >= NEAR or parts_row.max() >= SAME else name
    return found


def rectangle(box: list[float]) -> list[list[float]]:
    """A box as a polygon; its outline is never trained on."""
    x0, y0, x1, y1 = box
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def annotation(image: int, category: int, box: list[float], score: float, masks: bool) -> dict[str, Any]:
    """A pseudo annotation, without its id."""
    size = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    entry = {"image_id": image, "category_id": category, "iscrowd": 0, "bbox": size, "area": size[2] * size[3]}
    return {**entry, "score": score, **({"segmentation": rectangle(box)} if masks else {})}


def merged(
    content: dict[str, Any], lines: dict[str, dict[str, Any]], threshold: float, main_only: bool
) -> dict[str, Any]:
    """The set with the pseudo annotations of its images."""
    means = meanings(content["categories"])
    own = {c["name"]: c["id"] for c in content["categories"]}
    place = dict(own)
    for name in means.values():
        if name is not None:
            place.setdefault(name, max(place.values()) + 1)
    content["categories"] += [
        {"id": i, "name": n, "object": n, "part": None, "supercategory": "OBJECT"}
        for n, i in place.items()
        if n not in own
    ]
    wholes = {c["id"] for c in content["categories"] if not c.get("part")}
    masks = any(a.get("segmentation") for a in content["annotations"])
    boxes: dict[int, list[list[float]]] = {}
    seen: dict[int, set[int]] = {}
    for a in content["annotations"]:
        seen.setdefault(a["image_id"], set()).add(a["category_id"])
        if a["category_id"] in wholes:
            x, y, w, h = a["bbox"]
            boxes.setdefault(a["image_id"], []).append([x, y, x + w, y + h])
    added: list[dict[str, Any]] = []
    for image in content["images"]:
        line = lines[image["file_name"]]
        suspected = {place[n] for name, s in line["tops"].items() if s >= ABSENT and (n := means[name]) is not None}
        for *box, score, name in line["boxes"]:
            if score < threshold or means[name] is None or min(box[2] - box[0], box[3] - box[1]) < 4:
                continue
            if any(iou(box, other) >= OVERLAP for other in boxes.get(image["id"], [])):
                continue
            added.append(annotation(image["id"], place[means[name]], box, score, masks))
        complete = set() if main_only else set(own.values())
        annotated = seen.get(image["id"], set())
        image["not_exhaustive_category_ids"] = sorted(suspected)
        image["neg_category_ids"] = sorted((complete - suspected) | (complete & annotated))
    return {**content, "annotations": content["annotations"] + added}


def labelled(content: dict[str, Any], lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A set of one label per image, with one box each."""
    names: dict[str, int] = {}
    category = {c["id"]: names.setdefault(c["name"].lower(), c["id"]) for c in content["categories"]}
    annotations = []
    for image in content["images"]:
        line = lines[image["file_name"]]
        w, h = image["width"], image["height"]
        found = sorted((b for b in line["boxes"] if b[5] != "person"), key=lambda b: -b[4])
        box = found[0][:4] if found else [0.05 * w, 0.05 * h, 0.95 * w, 0.95 * h]
        annotations.append(annotation(image["id"], category[image["pos_category_ids"][0]], box, 0.5, False))
        image["pos_category_ids"] = []
    content["categories"] = [
        {"id": i, "name": n, "object": n, "part": None, "supercategory": "OBJECT"} for n, i in names.items()
    ]
    return {**content, "annotations": annotations}


def with_absent(content: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The set with classes that none of its images shows."""
    known = {c["name"] for c in content["categories"]}
    first = 1 + max(c["id"] for c in content["categories"])
    new = [name for name in names if name not in known]
    content["categories"] += [
        {"id": i, "name": n, "object": n, "part": None, "supercategory": "OBJECT"} for i, n in enumerate(new, first)
    ]
    return content


def main() -> None:
    """Read, merge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("boxes", type=Path, help="of pseudo_boxes.py, or - with --absent")
    parser.add_argument("output", type=Path)
    parser.add_argument("--threshold", type=float, default=0.45)
    parser.add_argument("--main-only", action="store_true")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--absent", type=lambda names: names.split(","), help="names that no image shows")
    options = parser.parse_args()
    source = options.data / ("image_labels.json" if options.labels else "train.json")
    content = json.loads(source.read_text())
    if options.absent:
        result = with_absent(content, options.absent)
    else:
        lines = {line["file"]: line for line in map(json.loads, options.boxes.read_text().splitlines())}
        result = (
            labelled(content, lines) if options.labels else merged(content, lines, options.threshold, options.main_only)
        )
    for number, entry in enumerate(result["annotations"], 1):
        if "score" in entry:
            entry["id"] = number + 10_000_000
    options.output.mkdir(parents=True, exist_ok=True)
    written = options.output / "train.json"
    written.unlink(missing_ok=True)  # it may be a link to the set's own file
    written.write_text(json.dumps(result))
    for name in ("images", "val.json"):
        link = options.output / name
        if (options.data / name).exists() and not link.exists():
            link.symlink_to((options.data / name).resolve())
    scored = sum("score" in a for a in result["annotations"])
    print(
        f"{options.output}: {len(result['images'])} images, {len(result['annotations'])} annotations, {scored} pseudo"
    )


if __name__ == "__main__":
    main()
