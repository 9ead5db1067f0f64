"""Training, the check and evaluation agree on every file: each case goes through all three.

The files are made here from a small sound set (a car and its wheel in two pictures for training, two for validation,
and detections that are the annotations), changed in one way each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from vlpart.data.check.findings import KINDS, REFUSED
from vlpart.data.check.run import check
from vlpart.data.indexing import load_source
from vlpart.data.source import Source
from vlpart.errors import DataError, VlpartError
from vlpart.evaluation.dataset import open_own
from vlpart.evaluation.run import score_all
from vlpart.evaluation.scores import Evaluation
from vlpart.evaluation.session import _read

HEIGHT, WIDTH = 120, 160
BOXES = {1: (40, 30, 50, 40), 2: (45, 60, 12, 10)}
Content = dict[str, Any]


def polygon(box: tuple[int, int, int, int]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rle(box: tuple[int, int, int, int]) -> dict[str, Any]:
    x, y, w, h = box
    bitmap = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    bitmap[y : y + h, x : x + w] = 1
    packed = coco_mask.encode(bitmap)
    return {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}


def content(kind: str) -> Content:
    images = [{"id": i + 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{kind}{i}.png"} for i in range(2)]
    annotations = []
    for image in (1, 2):
        for category, box in BOXES.items():
            entry = {"image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3]}
            entry |= {"id": len(annotations) + 1, "iscrowd": 0, "segmentation": polygon(box)}
            annotations.append(entry)
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "car:wheel"}]
    return {"images": images, "categories": categories, "annotations": annotations}


def detections() -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": 0.9, "segmentation": rle(box)}
        for image in (1, 2)
        for category, box in BOXES.items()
    ]


@dataclass
class Verdict:
    """What the three say."""

    kinds: set[str] = field(default_factory=set)
    errors: bool = False
    annotations: int | None = None
    evaluation: Evaluation | None = None
    load_error: str = ""
    evaluation_error: str = ""


def judge(root: Path, train: Path, val: Path, found: Path | None, images: Path | None = None) -> Verdict:
    """Put a file through the check, training and evaluation; only typed errors may come out."""
    verdict = Verdict()
    report = check([train], images or root / "images")
    verdict.kinds, verdict.errors = {finding.kind for finding in report.findings}, bool(report.errors)
    try:
        loaded = load_source(Source(name="s", annotations=train, images=images or root / "images"))
        verdict.annotations = len(loaded.store.labels)
    except DataError as error:
        verdict.load_error = str(error)
    try:
        dataset = open_own(val, images or root / "images")
        if found is not None:
            verdict.evaluation = score_all(dataset, _read(found, dataset))[0]
    except VlpartError as error:
        verdict.evaluation_error = str(error)
    for message in (verdict.load_error, verdict.evaluation_error):
        assert "\n" not in message and len(message) < 1000
    return verdict


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Verdict]:
    """Judge the sound set after a change of its annotation files and its detections."""
    (tmp_path / "images").mkdir()
    for name in ("train0", "train1", "val0", "val1"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")

    def judged(
        change: Callable[[Content], object] | None = None,
        change_found: Callable[[list[dict[str, Any]]], Any] | None = None,
        write: Callable[[Any], bytes] = lambda value: json.dumps(value).encode(),
    ) -> Verdict:
        for kind in ("train", "val"):
            made = content(kind)
            if change is not None:
                change(made)
            (tmp_path / f"{kind}.json").write_bytes(write(made))
        found: Any = detections()
        if change_found is not None:
            found = change_found(found) or found
        (tmp_path / "det.json").write_bytes(write(found))
        return judge(tmp_path, tmp_path / "train.json", tmp_path / "val.json", tmp_path / "det.json")

    return judged


def each(entries: list[dict[str, Any]], **changes: Any) -> None:
    for entry in entries:
        entry.update(changes)


def first(made: Content, **changes: Any) -> None:
    made["annotations"][0].update(changes)


def with_ids(images: Callable[[int], Any], categories: Callable[[int], Any] = lambda i: i) -> tuple[Any, Any]:
    """Changes of the annotation file and of the detections that give images and categories other ids."""

    def change(made: Content) -> None:
        for image in made["images"]:
            image["id"] = images(image["id"])
        for category in made["categories"]:
            category["id"] = categories(category["id"])
        change_found(made["annotations"])

    def change_found(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(image_id=images(row["image_id"]), category_id=categories(row["category_id"]))

    return change, change_found


IDS = {
    "over 2^53": with_ids(lambda i: 9007199254740992 + i),
    "19 digits": with_ids(lambda i: 2309990000000000000 + i, lambda i: 2**60 + i),
    "over 2^63": with_ids(lambda i: 10**19 + i),
    "30 digits": with_ids(lambda i: 10**30 + i, lambda i: 10**30 + i),
    "negative": with_ids(lambda i: -i, lambda i: -i),
    "zero": with_ids(lambda i: i - 1, lambda i: i - 1),
    "strings": with_ids(lambda i: f"image {i}", lambda i: f"class {i}"),
    "digits as text": with_ids(str, str),
    "leading zeros": with_ids(lambda i: f"000{i}"),
    "mixed": with_ids(lambda i: -1 if i == 1 else 1),
    "swapped": with_ids(lambda i: 3 - i, lambda i: 3 - i),
    "whole floats": with_ids(float, float),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_any_kind_are_the_same_everywhere(run: Callable[..., Verdict], name: str) -> None:
    verdict = run(*IDS[name])
    assert verdict.kinds == set() and verdict.annotations == 4
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None
    assert (verdict.evaluation.masks.all.ap, verdict.evaluation.boxes.all.ap) == (1.0, 1.0)  # type: ignore[union-attr]


ACCEPTED: dict[str, tuple[Callable[[Content], object], int, set[str]]] = {
    "crowd null": (lambda c: each(c["annotations"], iscrowd=None), 4, set()),
    "crowd '0'": (lambda c: each(c["annotations"], iscrowd="0"), 4, set()),
    "crowd 'false'": (lambda c: each(c["annotations"], iscrowd="false"), 4, set()),
    "crowd false": (lambda c: each(c["annotations"], iscrowd=False), 4, set()),
    "crowd 0.0": (lambda c: each(c["annotations"], iscrowd=0.0), 4, set()),
    "no crowd flag": (lambda c: [a.pop("iscrowd") for a in c["annotations"]], 4, set()),
    "box null": (lambda c: first(c, bbox=None), 4, set()),
    "box missing": (lambda c: c["annotations"][0].pop("bbox"), 4, set()),
    "box []": (lambda c: first(c, bbox=[]), 4, set()),
    "box of zeros": (lambda c: first(c, bbox=[0, 0, 0, 0]), 4, set()),
    "area null": (lambda c: each(c["annotations"], area=None), 4, set()),
    "stray point": (lambda c: c["annotations"][0]["segmentation"].append([80.0, 60.0]), 4, set()),
    "stray line": (lambda c: c["annotations"][0]["segmentation"].append([80.0, 60.0, 85.0, 60.0]), 4, set()),
    "float sizes": (lambda c: each(c["images"], width=160.0, height=120.0), 4, set()),
    "masks as RLE": (lambda c: [a.update(segmentation=rle(a["bbox"])) for a in c["annotations"]], 4, set()),
    "float RLE size": (
        lambda c: [a.update(segmentation={**rle(a["bbox"]), "size": [120.0, 160.0]}) for a in c["annotations"]],
        4,
        set(),
    ),
    "one box only": (lambda c: first(c, segmentation=[]), 3, {"some-without-mask"}),
    "line break in a name": (
        lambda c: c["categories"][1].update(name="car:\nwheel"),
        4,
        {"control-character-in-name"},
    ),
    "windows paths": (lambda c: [i.update(file_name=".\\images\\" + i["file_name"]) for i in c["images"]], 4, set()),
    "absolute windows paths": (
        lambda c: [i.update(file_name="C:\\me\\images\\" + i["file_name"]) for i in c["images"]],
        4,
        set(),
    ),
    "addresses": (
        lambda c: [i.update(file_name=f"https://x.org/a/{i['file_name']}?v=1") for i in c["images"]],
        4,
        set(),
    ),
    "a prefix": (lambda c: [i.update(file_name="data/images/" + i["file_name"]) for i in c["images"]], 4, set()),
    "absolute paths": (lambda c: [i.update(file_name="/no/such/" + i["file_name"]) for i in c["images"]], 4, set()),
    "owner null": (lambda c: first(c, object_annotation_id=None), 4, set()),
    "info null": (lambda c: c.update(info=None), 4, set()),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_has_one_meaning_is_accepted_everywhere(run: Callable[..., Verdict], name: str) -> None:
    change, annotations, kinds = ACCEPTED[name]
    verdict = run(change)
    assert (verdict.load_error, verdict.evaluation_error) == ("", "")
    assert verdict.kinds == kinds and verdict.annotations == annotations
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None
    assert verdict.evaluation.masks.all.ap == pytest.approx(1.0)
    assert verdict.evaluation.boxes is not None and verdict.evaluation.boxes.all.ap == pytest.approx(1.0)


NAN, INFINITY = float("nan"), float("inf")
REFUSED_CASES: dict[str, tuple[Callable[[Content], object], str]] = {
    "crowd 'a'": (lambda c: first(c, iscrowd="a"), "malformed-flag"),
    "crowd 2": (lambda c: first(c, iscrowd=2), "malformed-flag"),
    "crowd NaN": (lambda c: first(c, iscrowd=NAN), "malformed-flag"),
    "crowd []": (lambda c: first(c, iscrowd=[]), "malformed-flag"),
    "box NaN": (lambda c: first(c, bbox=[1, 2, NAN, 4]), "not-finite"),
    "box infinite": (lambda c: first(c, bbox=[1, 2, 3, INFINITY]), "not-finite"),
    "box 1e400": (lambda c: first(c, bbox=[1, 2, 3, 10**400]), "not-finite"),
    "box null inside": (lambda c: first(c, bbox=[1, 2, 3, None]), "malformed-box"),
    "box of text": (lambda c: first(c, bbox=["1", "2", "3", "4"]), "malformed-box"),
    "box of lists": (lambda c: first(c, bbox=[[1], [2], [3], [4]]), "malformed-box"),
    "box as object": (lambda c: first(c, bbox={"x": 1}), "malformed-box"),
    "five numbers": (lambda c: first(c, bbox=[1, 2, 3, 4, 5]), "malformed-box"),
    "area NaN": (lambda c: first(c, area=NAN), "not-finite"),
    "area of text": (lambda c: first(c, area="5"), "broken-entry"),
    "area negative": (lambda c: first(c, area=-5), "broken-entry"),
    "polygon NaN": (lambda c: first(c, segmentation=[[1, 2, 3, NAN, 5, 6]]), "not-finite"),
    "polygon null": (lambda c: first(c, segmentation=[[1, 2, 3, None, 5, 6]]), "malformed-mask"),
    "polygon of text": (lambda c: first(c, segmentation=[["1", "2", "3", "4", "5", "6"]]), "malformed-mask"),
    "polygon flat": (lambda c: first(c, segmentation=[1, 2, 3, 4, 5, 6]), "malformed-mask"),
    "polygon of pairs": (lambda c: first(c, segmentation=[[[1, 2], [3, 4], [5, 6]]]), "malformed-mask"),
    "polygon odd": (lambda c: first(c, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "malformed-mask"),
    "polygon far out": (lambda c: first(c, segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "malformed-mask"),
    "polygon too long": (lambda c: first(c, segmentation=[[-900, 0, 900, 0] * 400]), "malformed-mask"),
    "mask of text": (lambda c: first(c, segmentation="counts"), "malformed-mask"),
    "mask true": (lambda c: first(c, segmentation=True), "malformed-mask"),
    "RLE size": (lambda c: first(c, segmentation={"size": [WIDTH, HEIGHT], "counts": [0, 19200]}), "mask-size"),
    "RLE size infinite": (lambda c: first(c, segmentation={"size": [INFINITY, 10], "counts": []}), "malformed-mask"),
    "RLE size text": (lambda c: first(c, segmentation={"size": ["120", "160"], "counts": [9]}), "malformed-mask"),
    "RLE size huge": (lambda c: first(c, segmentation={"size": [10**30, 10], "counts": [9]}), "malformed-mask"),
    "RLE half counts": (
        lambda c: first(c, segmentation={"size": [HEIGHT, WIDTH], "counts": [0.5, 19199.5]}),
        "malformed-mask",
    ),
    "RLE counts null": (lambda c: first(c, segmentation={"size": [HEIGHT, WIDTH], "counts": None}), "malformed-mask"),
    "no box, no mask": (lambda c: first(c, bbox=None, segmentation=None), "no-box-no-mask"),
    "no annotation id": (lambda c: c["annotations"][0].update(id=None), "broken-entry"),
    "annotation id []": (lambda c: first(c, id=[1]), "broken-entry"),
    "owner []": (lambda c: first(c, object_annotation_id=[1]), "broken-entry"),
    "unknown category": (lambda c: first(c, category_id=9), "unknown-category"),
    "category of 1.5": (lambda c: first(c, category_id=1.5), "unknown-category"),
    "category null": (lambda c: first(c, category_id=None), "unknown-category"),
    "image id true": (lambda c: first(c, image_id=True), "annotation-without-image"),
    "unknown image": (lambda c: first(c, image_id=9), "annotation-without-image"),
    "image id NaN": (lambda c: first(c, image_id=NAN), "annotation-without-image"),
    "no object": (lambda c: c["annotations"].append(5), "broken-entry"),
    "image of 1.5": (lambda c: c["images"][0].update(id=1.5), "broken-entry"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "duplicate-image-id"),
    "image twice as text": (lambda c: c["images"].append({**c["images"][0], "id": "1"}), "duplicate-image-id"),
    "category twice": (lambda c: c["categories"].append({"id": 1, "name": "tree"}), "duplicate-category-id"),
    "no file name": (lambda c: c["images"][0].update(file_name=None), "broken-entry"),
    "file name 5": (lambda c: c["images"][0].update(file_name=5), "broken-entry"),
    "null character": (lambda c: c["images"][0].update(file_name="a\0b.png"), "broken-entry"),
    "half a pair": (lambda c: c["images"][0].update(file_name="a\ud800.png"), "broken-entry"),
    "no width": (lambda c: c["images"][0].pop("width"), "broken-entry"),
    "width text": (lambda c: c["images"][0].update(width="160"), "broken-entry"),
    "width NaN": (lambda c: c["images"][0].update(width=NAN), "broken-entry"),
    "width 1e400": (lambda c: c["images"][0].update(width=10**400), "broken-entry"),
    "60000 x 60000": (lambda c: c["images"][0].update(width=60000, height=60000), "broken-entry"),
    "name 5": (lambda c: c["categories"][0].update(name=5), "broken-entry"),
    "name with half a pair": (lambda c: c["categories"][0].update(name="c\ud800"), "broken-entry"),
    "name of 300 characters": (lambda c: c["categories"][0].update(name="c" * 300), "broken-entry"),
    "part 5": (lambda c: c["categories"][0].update(part=5), "broken-entry"),
    "image_count 'x'": (lambda c: c["categories"][0].update(image_count="x"), "broken-entry"),
    "info 5": (lambda c: c.update(info=5), "broken-entry"),
    "neg_category_ids 5": (lambda c: c["images"][0].update(neg_category_ids=5), "broken-entry"),
    "neg_category_ids of lists": (lambda c: c["images"][0].update(neg_category_ids=[[1]]), "unknown-category"),
}


@pytest.mark.parametrize("name", REFUSED_CASES)
def test_what_has_no_meaning_is_refused_everywhere(run: Callable[..., Verdict], name: str) -> None:
    change, kind = REFUSED_CASES[name]
    verdict = run(change)
    assert kind in REFUSED and KINDS[kind][0] == "error"
    assert kind in verdict.kinds and verdict.errors
    assert verdict.load_error and verdict.evaluation_error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_encodings(run: Callable[..., Verdict], encoding: str) -> None:
    verdict = run(write=lambda value: json.dumps(value).encode(encoding))
    assert verdict.kinds == set() and verdict.annotations == 4
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None
    assert verdict.evaluation.masks.all.ap == 1.0


def test_all_crowd(run: Callable[..., Verdict]) -> None:
    verdict = run(lambda c: each(c["annotations"], iscrowd=1))
    assert verdict.kinds == {"all-crowd"} and verdict.errors and "no image is left" in verdict.load_error
    assert verdict.evaluation is not None and math.isnan(verdict.evaluation.boxes.all.ap)  # type: ignore[union-attr]
    assert any("All annotations are crowd regions" in note for note in verdict.evaluation.notes)


def test_boxes_in_fractions_are_warned_about(run: Callable[..., Verdict]) -> None:
    def normalised(made: Content) -> None:
        for entry in made["annotations"]:
            x, y, w, h = entry["bbox"]
            entry.update(bbox=[x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], segmentation=None)

    assert run(normalised).kinds == {"normalised-boxes"}


@pytest.mark.parametrize("box", [[90, 70, -50, -40], [40, 30, 50, 0], [90, 30, -50, 40]])
def test_empty_boxes_are_left_out_everywhere(run: Callable[..., Verdict], box: list[float]) -> None:
    def change(made: Content) -> None:
        first(made, bbox=box, segmentation=None)

    verdict = run(change, lambda rows: rows[1:])
    assert verdict.kinds == {"empty-box"} and verdict.annotations == 3
    assert verdict.evaluation is not None and verdict.evaluation.annotations == 3
    assert verdict.evaluation.masks is not None and verdict.evaluation.masks.all.ap == pytest.approx(1.0)
    assert any("left out: empty box" in note for note in verdict.evaluation.notes)


@pytest.mark.parametrize(
    "mask", [[[300, 300, 310, 300, 310, 310]], [[80, 60]], {"size": [HEIGHT, WIDTH], "counts": [19200]}]
)
def test_empty_masks_are_left_out_everywhere(run: Callable[..., Verdict], mask: Any) -> None:
    verdict = run(lambda c: first(c, segmentation=mask), lambda rows: rows[1:])
    assert "empty-mask" in verdict.kinds and verdict.annotations == 3
    assert verdict.evaluation is not None and verdict.evaluation.annotations == 3


def test_areas_are_those_of_the_masks(run: Callable[..., Verdict]) -> None:
    triangle = [[10, 10, 55, 10, 10, 55]]
    packed = coco_mask.merge(coco_mask.frPyObjects(triangle, HEIGHT, WIDTH))
    as_rle = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    assert int(coco_mask.area(packed)) == 990

    for mask in (triangle, as_rle):

        def change(made: Content, mask: Any = mask) -> None:
            for entry in made["annotations"]:
                del entry["area"]
                entry.update(bbox=[10, 10, 45, 45], segmentation=mask)

        verdict = run(change, lambda rows: each(rows, bbox=[10, 10, 45, 45], segmentation=as_rle))
        assert verdict.evaluation is not None
        for scores in (verdict.evaluation.masks, verdict.evaluation.boxes):
            assert scores is not None and scores.all.ap_small == 1.0 and math.isnan(scores.all.ap_medium)


@pytest.mark.parametrize("names", [("car", "Car"), ("car", "car"), ("Car_", " car")])
def test_equal_names_under_two_ids_are_one_class(run: Callable[..., Verdict], names: tuple[str, str]) -> None:
    """The second picture has its car under the second id; the detections have it under the first."""

    def change(made: Content) -> None:
        made["categories"][0]["name"] = names[0]
        made["categories"].append({"id": 7, "name": names[1]})
        made["annotations"][2]["category_id"] = 7

    verdict = run(change)
    assert verdict.kinds == {"duplicate-category-name"} and verdict.annotations == 4
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None
    assert verdict.evaluation.masks.all.ap == 1.0 and verdict.evaluation.masks.all.classes == 2
    assert any("share their name" in note for note in verdict.evaluation.notes)


# Detections


FOUND: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "float size": lambda rows: [row["segmentation"].update(size=[120.0, 160.0]) for row in rows] and None,
    "box null": lambda rows: each(rows, bbox=None),
    "ids as text": lambda rows: [row.update(image_id=str(row["image_id"])) for row in rows] and None,
    "ids as floats": lambda rows: [row.update(image_id=float(row["image_id"])) for row in rows] and None,
    "uncompressed": lambda rows: (
        [row.update(segmentation={"size": [HEIGHT, WIDTH], "counts": _runs(row["bbox"])}) for row in rows] and None
    ),
}


def _runs(box: list[int]) -> list[int]:
    x, y, w, h = box
    flat = np.zeros((WIDTH, HEIGHT), dtype=bool)
    flat[x : x + w, y : y + h] = True
    flips = np.flatnonzero(np.diff(np.concatenate([[False], flat.ravel(), [False]])))
    edges = np.concatenate([[0], flips, [HEIGHT * WIDTH]])
    return np.diff(edges).tolist()


@pytest.mark.parametrize("name", FOUND)
def test_detections_of_other_types(run: Callable[..., Verdict], name: str) -> None:
    verdict = run(None, FOUND[name])
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None, verdict.evaluation_error
    assert verdict.evaluation.masks.all.ap == 1.0 and verdict.evaluation.boxes.all.ap == 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"score": NAN},
        {"score": "0.9"},
        {"score": None},
        {"bbox": [0, 0, INFINITY, 1]},
        {"bbox": [0, 0, 1, 10**400]},
        {"bbox": [[0], 0, 1, 1]},
        {"image_id": 10**30},
        {"image_id": [1]},
        {"image_id": NAN},
        {"category_id": "car"},
        {"segmentation": {"size": [INFINITY, 1], "counts": ""}},
        {"segmentation": {"size": [10**30, 10**30], "counts": "1"}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [[1]]}},
        {"segmentation": {"size": [HEIGHT, WIDTH]}},
        {"segmentation": 5},
    ],
)
def test_broken_detections_are_one_line(run: Callable[..., Verdict], changes: dict[str, Any]) -> None:
    verdict = run(None, lambda rows: rows[0].update(changes))
    assert verdict.evaluation is None and verdict.evaluation_error.startswith("detection 0: ")


def own_ids(images: dict[int, int], categories: dict[int, int]) -> Callable[[list[dict[str, Any]]], Any]:
    """A file as `predict --format coco` writes it, with its own numbers."""

    def change(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "images": [
                {"id": images[i], "width": WIDTH, "height": HEIGHT, "file_name": f"val{i - 1}.png"} for i in (1, 2)
            ],
            "categories": [{"id": categories[i], "name": name} for i, name in ((1, "car"), (2, "car:wheel"))],
            "annotations": [
                {**row, "image_id": images[row["image_id"]], "category_id": categories[row["category_id"]]}
                for row in rows
            ],
        }

    return change


@pytest.mark.parametrize("images", [{1: 2, 2: 1}, {1: 50, 2: 60}, {1: 1, 2: 2}])
@pytest.mark.parametrize("categories", [{1: 2, 2: 1}, {1: 1, 2: 2}])
def test_detections_with_ids_of_their_own(
    run: Callable[..., Verdict], images: dict[int, int], categories: dict[int, int]
) -> None:
    def move(made: Content) -> None:  # so that no picture may stand for the other
        for entry in made["annotations"][:2]:
            x, y, w, h = entry["bbox"]
            entry.update(bbox=[x + 20, y, w, h], segmentation=polygon((x + 20, y, w, h)))

    def found(rows: list[dict[str, Any]]) -> dict[str, Any]:
        for row in rows[:2]:
            x, y, w, h = row["bbox"]
            row.update(bbox=[x + 20, y, w, h], segmentation=rle((x + 20, y, w, h)))
        return own_ids(images, categories)(rows)

    verdict = run(move, found)
    assert verdict.evaluation is not None and verdict.evaluation.masks is not None, verdict.evaluation_error
    assert verdict.evaluation.masks.all.ap == 1.0


def _renamed(key: str, name: str) -> Callable[[list[dict[str, Any]]], Any]:
    def change(rows: list[dict[str, Any]]) -> dict[str, Any]:
        made = own_ids({1: 1, 2: 2}, {1: 1, 2: 2})(rows)
        made[key][0].update({"images": {"file_name": name}, "categories": {"name": name}}[key])
        return made

    return change


def test_detections_of_other_images_and_classes_are_named(run: Callable[..., Verdict]) -> None:
    assert "'other.png'" in run(None, _renamed("images", "other.png")).evaluation_error
    message = run(None, _renamed("categories", "automobile")).evaluation_error
    assert "'automobile'" in message and "'car'" in message
    small = run(None, lambda rows: _sized(own_ids({1: 1, 2: 2}, {1: 1, 2: 2})(rows)))
    assert "120x160 there and 160x120" in small.evaluation_error and "EXIF" in small.evaluation_error
    broken = run(
        None, lambda rows: {**own_ids({1: 1, 2: 2}, {1: 1, 2: 2})(rows), "images": [{"id": 1, "file_name": "val0.png"}]}
    )
    assert "image_id 2 is not among its own images" in broken.evaluation_error


def _sized(made: dict[str, Any]) -> dict[str, Any]:
    made["images"][0].update(width=HEIGHT, height=WIDTH)
    return made


# EXIF


@pytest.mark.parametrize(("orientation", "clear"), [(6, True), (8, True), (5, True), (3, False), (2, False)])
def test_pictures_annotated_as_stored(tmp_path: Path, orientation: int, clear: bool) -> None:
    """Where the size tells, check, training and evaluation use the stored frame; else there is a warning."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y, w, h = BOXES[1]
    pixels[y : y + h, x : x + w] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    made = content("train")
    made["annotations"] = [a for a in made["annotations"] if a["category_id"] == 1]
    for image in made["images"]:
        image["file_name"] = image["file_name"].replace(".png", ".jpg")
        Image.fromarray(pixels).save(tmp_path / "images" / image["file_name"], exif=exif, quality=95)
    made["categories"] = made["categories"][:1]
    (tmp_path / "val.json").write_text(json.dumps(made))
    report = check([tmp_path / "val.json"])
    assert [(f.kind, f.count) for f in report.findings] == ([] if clear else [("orientation-unclear", 2)])

    from tests.data.readers.bright import Bright
    from vlpart.data.loader import decode_image
    from vlpart.evaluation.run import evaluate

    stored = decode_image(tmp_path / "images" / "train0.jpg", (HEIGHT, WIDTH))
    assert (stored[y + h // 2, x + w // 2].min() > 200) == clear
    evaluation = evaluate(Bright(), tmp_path / "val.json", tmp_path / "images")
    assert evaluation.masks is not None and evaluation.boxes is not None
    assert ((evaluation.masks.all.ap50, evaluation.boxes.all.ap50) == (1.0, 1.0)) == clear

    from vlpart.data.convert import convert

    source = Source(name="s", annotations=tmp_path / "val.json", images=tmp_path / "images")
    told = [*load_source(source).report.notes, *evaluation.notes, *convert(tmp_path, tmp_path / "out", "yolo").unread]
    warned = [note for note in told if note.startswith("2 images have an EXIF entry") and "train0.jpg" in note]
    assert len(warned) == (0 if clear else 3)


# The cases of the reports


def test_every_case_of_the_reports(shared: Path) -> None:
    """Each folder of cases ends as its description says; all of them are accepted but one."""
    cases = shared / "cases" / "files"
    if not cases.is_dir():
        pytest.skip("no cases in the shared folder")
    for folder in sorted(path.parent for path in cases.glob("*/train.json")):
        found = folder / "det.json"
        verdict = judge(folder, folder / "train.json", folder / "val.json", found if found.is_file() else None)
        if folder.name == "all_crowd":
            assert verdict.errors
            continue
        assert (verdict.load_error, verdict.evaluation_error, verdict.errors) == ("", "", False), folder.name
        if verdict.evaluation is not None and verdict.evaluation.masks is not None:
            assert verdict.evaluation.masks.all.ap == pytest.approx(1.0), folder.name
    others = cases / "predictions_other_ids"
    for name in ("coco.json", "coco_other_category_ids.json"):
        dataset = open_own(others / "gt.json", others)
        masks = score_all(dataset, _read(others / name, dataset))[0].masks
        assert masks is not None and masks.all.ap == 1.0


def test_hostile_files_end_in_one_line(shared: Path) -> None:
    hostile = shared / "cases" / "hostile"
    if not hostile.is_dir():
        pytest.skip("no cases in the shared folder")
    for path in sorted(hostile.glob("*.json")):
        if path.name != "pred_segv.json":
            verdict = judge(hostile, path, path, hostile / "pred_segv.json", hostile)
            assert verdict.errors and verdict.load_error and verdict.evaluation_error, path.name
