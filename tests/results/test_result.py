"""Result: validation, order, selection, grouping of parts, files and other forms."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from vlpart.errors import DataError, OutputError, VlpartError, VocabularyError
from vlpart.masks.stack import MaskStack
from vlpart.results.formats import yolo_data
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

SIZE = (60, 100)
VOCABULARY = Vocabulary.parse("car: wheel, door; person: head; dog")
CAR, WHEEL, DOOR, PERSON, HEAD, DOG = range(6)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[y0:y1, x0:x1] = True
    return bitmap


def result_of(*found: tuple[int, float, np.ndarray], masks: bool = True, **more: Any) -> Result:
    """(class id, score, bitmap) per detection; boxes are tight."""
    boxes = []
    for *_, bitmap in found:
        rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [1, 1, 1, 1])
    return Result(
        image_size=SIZE,
        boxes_xyxy=boxes,
        scores=[score for _, score, _ in found],
        class_ids=[class_id for class_id, *_ in found],
        masks=MaskStack.from_bitmaps([bitmap for *_, bitmap in found], SIZE) if masks else None,
        vocabulary=VOCABULARY,
        **more,
    )


@pytest.fixture
def street() -> Result:
    """Given out of order: a car with two wheels and a door, a person without a head, the head of nobody, a dog."""
    return result_of(
        (WHEEL, 0.6, rectangle(15, 30, 22, 38)),
        (CAR, 0.9, rectangle(10, 10, 50, 38)),
        (DOG, 0.3, rectangle(90, 50, 98, 58)),
        (HEAD, 0.5, rectangle(60, 2, 66, 8)),
        (WHEEL, 0.8, rectangle(38, 30, 45, 38)),
        (PERSON, 0.7, rectangle(70, 10, 80, 50)),
        (DOOR, 0.65, rectangle(25, 15, 35, 30)),
        path="street/photo.jpg",
    )


def test_sorted_by_score_with_everything_in_step(street: Result) -> None:
    assert street.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.3])
    assert street.names == ["car", "car:wheel", "person", "car:door", "car:wheel", "person:head", "dog"]
    assert street.boxes_xyxy[1].tolist() == [38, 30, 45, 38]
    assert street.masks is not None
    assert np.array_equal(street.masks[1], rectangle(38, 30, 45, 38))
    assert (street.boxes_xyxy.dtype, street.scores.dtype, street.class_ids.dtype) == (np.float32, np.float32, np.int64)


def test_masks_as_an_array() -> None:
    bitmaps = np.stack([rectangle(0, 0, 5, 5), rectangle(1, 1, 9, 9)])
    boxes = [[0, 0, 5, 5], [1, 1, 9, 9]]
    both = Result(
        image_size=SIZE, boxes_xyxy=boxes, scores=[0.2, 0.7], class_ids=[0, 1], masks=bitmaps, vocabulary=VOCABULARY
    )
    assert isinstance(both.masks, MaskStack)
    assert np.array_equal(np.asarray(both.masks), bitmaps[::-1])


def test_equal_scores_keep_their_order() -> None:
    equal = result_of(*((c, 0.5, rectangle(0, 0, 5, 5)) for c in (DOG, CAR, PERSON)))
    assert equal.class_ids.tolist() == [DOG, CAR, PERSON]


def test_parts_under_their_objects(street: Result) -> None:
    assert [(group.name, group.index, group.parts) for group in street.objects] == [
        ("car", 0, [1, 3, 4]),
        ("person", 2, []),
        ("dog", 6, []),
    ]
    assert street.objects[0].score == pytest.approx(0.9)
    assert street.loose_parts == [5]
    assert street.owners.tolist() == [-1, 0, -1, 0, 0, -1, -1]


def test_summary_and_repr(street: Result) -> None:
    summary = "photo.jpg 100x60: 1 car (2 wheel, 1 door), 1 person, 1 dog; without their object: 1 person:head"
    assert street.summary() == summary
    assert repr(street) == f"Result({summary})"
    assert result_of().summary() == "100x60: nothing found"
    assert result_of((HEAD, 0.5, rectangle(0, 0, 5, 5))).summary() == "100x60: without their object: 1 person:head"


def test_overlapping_objects_of_one_class() -> None:
    """Boxes of both cars hold the wheels; only the masks tell whose they are."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    upper, lower = (x + y < 75) & (x < 80) & (y < 55), (x + y >= 75) & (x < 80) & (y < 55)
    wheels = [rectangle(20, 20, 26, 26), rectangle(60, 40, 66, 46), rectangle(35, 36, 41, 42)]
    both = result_of(
        (CAR, 0.9, upper), (CAR, 0.8, lower), *((WHEEL, 0.5 - k / 10, wheel) for k, wheel in enumerate(wheels))
    )
    assert both.owners.tolist() == [-1, -1, 0, 1, 1]


def test_a_part_that_would_reach_in_with_a_quarter_of_its_size_is_the_limit() -> None:
    car = (CAR, 0.9, rectangle(0, 0, 50, 50))
    assert result_of(car, (WHEEL, 0.5, rectangle(45, 20, 55, 30))).owners.tolist() == [-1, 0]
    assert result_of(car, (WHEEL, 0.5, rectangle(51, 20, 61, 30))).owners.tolist() == [-1, 0]
    assert result_of(car, (WHEEL, 0.5, rectangle(53, 20, 63, 30))).owners.tolist() == [-1, -1]


def test_thin_parts_that_the_objects_mask_misses() -> None:
    """A fifth of the part in the mask and all of it in the box is enough; nothing of it in the mask is not."""
    car = rectangle(0, 0, 50, 30)
    car[30:50, 48] = True
    assert result_of((CAR, 0.9, car), (WHEEL, 0.5, rectangle(10, 28, 12, 38))).owners.tolist() == [-1, 0]
    assert result_of((CAR, 0.9, car), (WHEEL, 0.5, rectangle(10, 32, 12, 42))).owners.tolist() == [-1, -1]


def test_nested_objects_and_double_detections() -> None:
    wheel = (WHEEL, 0.4, rectangle(20, 20, 25, 25))
    nested = result_of((CAR, 0.9, rectangle(0, 0, 90, 55)), (CAR, 0.8, rectangle(15, 15, 40, 35)), wheel)
    assert nested.owners.tolist() == [-1, -1, 1]
    double = result_of((CAR, 0.9, rectangle(10, 10, 50, 40)), (CAR, 0.35, rectangle(11, 11, 50, 40)), wheel)
    assert double.owners.tolist() == [-1, 0, -1]


def test_boxes_alone_group_too(street: Result) -> None:
    found = [
        (int(c), float(s), street.masks[i])
        for i, (c, s) in enumerate(zip(street.class_ids, street.scores, strict=True))
    ]
    boxes_only = result_of(*found, masks=False)
    assert boxes_only.masks is None
    assert boxes_only.owners.tolist() == street.owners.tolist()


def test_parts_with_an_empty_mask_go_by_their_box() -> None:
    empty = np.zeros(SIZE, dtype=bool)
    part = Result(
        image_size=SIZE,
        boxes_xyxy=[[10, 10, 50, 40], [20, 20, 25, 25]],
        scores=[0.9, 0.5],
        class_ids=[CAR, WHEEL],
        masks=MaskStack.from_bitmaps([rectangle(10, 10, 50, 40), empty]),
        vocabulary=VOCABULARY,
    )
    assert part.owners.tolist() == [-1, 0]


def test_real_annotations_group_as_annotated(shared: Path) -> None:
    """Every part of the ground truth of three data sets finds the object it is annotated with (200 images)."""
    checked = 0
    for name in ("faces", "car_parts", "ade_parts"):
        data = json.loads((shared / "data" / name / "val.json").read_text())
        vocabulary = Vocabulary.from_categories(data["categories"])
        for image in data["images"][:70]:
            found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
            size = (image["height"], image["width"])
            boxes = np.array([a["bbox"] for a in found], dtype=float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            result = Result(
                image_size=size,
                boxes_xyxy=boxes,
                scores=np.ones(len(found)),
                class_ids=[vocabulary.index_of_id[a["category_id"]] for a in found],
                masks=MaskStack.from_rles([a["segmentation"] for a in found], size),
                vocabulary=vocabulary,
            )
            for annotation, owner in zip(found, result.owners.tolist(), strict=True):
                if annotation.get("object_annotation_id"):
                    assert found[owner]["id"] == annotation["object_annotation_id"]
                    checked += 1
    assert checked > 900


def test_many_detections_group_fast_and_small() -> None:
    """300 detections of one class on a large image: no array of N x H x W is made."""
    import tracemalloc

    rng = np.random.default_rng(0)
    corners = rng.random((300, 2)) * [3600, 2600]
    sides = np.where(np.arange(300)[:, None] % 6 == 0, rng.random((300, 2)) * 300 + 100, rng.random((300, 2)) * 60 + 5)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    many = Result(
        image_size=(3000, 4000),
        boxes_xyxy=boxes,
        scores=np.linspace(1, 0.1, 300),
        class_ids=np.where(np.arange(300) % 6 == 0, CAR, WHEEL),
        masks=MaskStack(rng.random((300, 28, 28)) > 0.1, boxes, (3000, 4000)),
        vocabulary=VOCABULARY,
    )
    tracemalloc.start()
    assert len(many.objects) == 50
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_indexing(street: Result) -> None:
    assert street[0].names == ["car"]
    assert street[-1].names == ["dog"]
    assert street[1:3].names == ["car:wheel", "person"]
    assert street[[6, 0]].names == ["car", "dog"]  # always by score
    assert street[street.scores > 0.6].names == street.names[:4]
    assert [one.names[0] for one in street] == street.names
    assert len(street[[]]) == 0
    assert street[:2].path == street.path
    for key, error in ((7, IndexError), ([True], IndexError), ("car", TypeError), (1.0, TypeError)):
        with pytest.raises(error):
            street[key]


def test_filter(street: Result) -> None:
    assert street.filter(score=0.65).names == street.names[:4]
    assert street.filter(names="Car").names == ["car"]
    assert street.filter(names=["car:wheel", "dog"]).names == ["car:wheel", "car:wheel", "dog"]
    assert street.filter(objects="person").names == ["person", "person:head"]
    assert street.filter(parts=False).names == ["car", "person", "dog"]
    assert street.filter(parts=True, objects=["car"], score=0.7).names == ["car:wheel"]
    assert street.filter(parts=["WHEEL", "head"]).names == ["car:wheel", "car:wheel", "person:head"]
    assert len(street.filter()) == 7
    with pytest.raises(VocabularyError, match="wheel"):
        street.filter(names="car:weel")


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"score": "a"}, ValueError, "between 0 and 1, got 'a'"),
        ({"score": 50}, ValueError, "between 0 and 1"),
        ({"score": float("nan")}, ValueError, "between 0 and 1"),
        ({"objects": "catt"}, VocabularyError, "has no object 'catt'"),
        ({"objects": ["car", "persn"]}, VocabularyError, "'persn'; did you mean person"),
        ({"objects": "wheel"}, VocabularyError, "has no object 'wheel'"),
        ({"parts": "car"}, VocabularyError, "has no part 'car'"),
        ({"parts": "weel"}, VocabularyError, "'weel'; did you mean wheel"),
        ({"parts": 1}, VocabularyError, "has no part '1'"),
        ({"names": 1}, VocabularyError, "'1' is not in"),
    ],
)
def test_conditions_that_mean_nothing(
    street: Result, conditions: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        street.filter(**conditions)


def test_an_object_that_only_its_parts_name_is_one() -> None:
    pascal = Vocabulary.load("pascal_part")  # a list of parts only
    result = Result(image_size=SIZE, boxes_xyxy=[], scores=[], class_ids=[], vocabulary=pascal)
    assert len(result.filter(objects="dog")) == 0
    with pytest.raises(VocabularyError, match="dogs"):
        result.filter(objects="dogs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_xyxy": [[0, 0, np.nan, 1]]}, "NaN"),
        ({"boxes_xyxy": [[5, 0, 1, 1]]}, "x1 >= x0"),
        ({"boxes_xyxy": [[0, 0, 1]]}, r"boxes \(N, 4\)"),
        ({"boxes_xyxy": [0, 0, 1, 1]}, r"boxes \(N, 4\)"),
        ({"boxes_xyxy": [[0, 0, 1, 1]] * 2}, "one of each"),
        ({"scores": [0.5, 0.5]}, "one of each"),
        ({"scores": [np.nan]}, "scores"),
        ({"scores": [1.5]}, "scores"),
        ({"class_ids": [6]}, r"0\.\.5"),
        ({"class_ids": [-1]}, r"0\.\.5"),
        ({"class_ids": [1.5]}, "whole numbers"),
        ({"image_size": (0, 5)}, "image_size"),
        ({"masks": MaskStack.from_bitmaps(np.ones((2, 5, 5), dtype=bool))}, "one of each"),
        ({"masks": MaskStack.from_bitmaps(np.ones((1, 5, 6), dtype=bool))}, "masks are for"),
        ({"image": np.zeros((5, 6, 3), dtype=np.uint8)}, "image has the shape"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "image_size": (5, 5),
        "boxes_xyxy": [[0, 0, 1, 1]],
        "scores": [0.5],
        "class_ids": [0],
        "vocabulary": VOCABULARY,
    }
    assert len(Result(**good)) == 1
    with pytest.raises(ValueError, match=message):
        Result(**{**good, **change})


def test_to_coco(street: Result) -> None:
    vocabulary = Vocabulary.from_categories([{"id": 7, "name": "cat"}, {"id": 3, "name": "cow"}])
    mapped = Result(
        image_size=SIZE,
        boxes_xyxy=[[10.5, 20, 30.25, 40]],
        scores=[0.87],
        class_ids=[1],
        masks=MaskStack.from_bitmaps([rectangle(11, 20, 30, 40)]),
        vocabulary=vocabulary,
    )
    (entry,) = mapped.to_coco(image_id=42)
    assert entry["image_id"] == 42
    assert entry["category_id"] == 3
    assert entry["bbox"] == [10.5, 20, 19.75, 20]
    assert entry["score"] == 0.87
    assert coco_mask.area(entry["segmentation"]) == 19 * 20
    assert json.loads(json.dumps(entry)) == entry
    assert {e["image_id"] for e in street.to_coco()} == {1}
    assert [e["category_id"] for e in street.to_coco("x")] == [1, 2, 4, 3, 2, 5, 6]
    assert "segmentation" not in result_of((DOG, 0.5, rectangle(0, 0, 5, 5)), masks=False).to_coco(1)[0]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_round_trip_through_json(street: Result, masks: bool, full: bool) -> None:
    given = street if masks else Result.from_dict({**street.to_dict(), "detections": without_masks(street)})
    back = Result.from_dict(json.loads(given.to_json(full_vocabulary=full)))
    assert np.array_equal(back.boxes_xyxy, street.boxes_xyxy)
    assert np.array_equal(back.scores, street.scores)
    assert back.names == street.names
    assert back.owners.tolist() == street.owners.tolist()
    assert back.path == street.path
    assert (back.masks is not None) == masks
    if back.masks is not None:
        assert np.array_equal(np.asarray(back.masks), np.asarray(street.masks))
    if full:
        assert back.vocabulary == street.vocabulary
        assert np.array_equal(back.class_ids, street.class_ids)


def test_json_has_the_ids_of_its_entries_and_only_what_was_found(street: Result) -> None:
    few = street[:2]
    data = few.to_dict()
    assert [entry["name"] for entry in data["vocabulary"]["entries"]] == ["car", "car:wheel"]
    names = {entry["id"]: entry["name"] for entry in data["vocabulary"]["entries"]}
    assert [names[d["category_id"]] for d in data["detections"]] == few.names
    assert {d["category_id"] for d in data["detections"]} == {e["category_id"] for e in few.to_coco()}
    assert len(few.to_dict(full_vocabulary=True)["vocabulary"]["entries"]) == len(street.vocabulary)


def test_json_of_version_1_still_loads(street: Result) -> None:
    """There `class_id` was the place of an entry, from 0, and `object_index` was called `object`."""
    data = street.to_dict(full_vocabulary=True)
    for detection, class_id in zip(data["detections"], street.class_ids.tolist(), strict=True):
        del detection["category_id"]
        detection |= {"class_id": class_id, "object": detection.pop("object_index")}
    old = Result.from_dict({**data, "version": 1})
    assert old.names == street.names
    assert np.array_equal(old.class_ids, street.class_ids)
    assert old.owners.tolist() == street.owners.tolist()


@pytest.mark.parametrize("masks", [True, False])
def test_a_wheel_just_outside_the_mask_of_its_car_is_its_part(masks: bool) -> None:
    """Below the car, one pixel away; a wheel as far away as it is high belongs to nobody."""
    body = (CAR, 0.9, rectangle(10, 10, 60, 30))
    near, far = ((WHEEL, 0.8, rectangle(20, y, 30, y + 10)) for y in (31, 42))
    assert result_of(body, near, masks=masks).owners.tolist() == [-1, 0]
    assert result_of(body, far, masks=masks).loose_parts == [1]


def without_masks(result: Result) -> list[dict[str, Any]]:
    return [{key: value for key, value in d.items() if key != "mask"} for d in result.to_dict()["detections"]]


def test_json_names_the_object_of_each_part(street: Result) -> None:
    data = street.to_dict()
    assert [d["object_index"] for d in data["detections"]] == [None, 0, None, 0, 0, None, None]
    assert data["detections"][0]["score"] == 0.9
    assert data["image_size"] == [60, 100]
    assert result_of().to_dict()["detections"] == []
    assert len(Result.from_dict(result_of().to_dict())) == 0


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "other"},
        {"version": 3},
        {"image_size": [60]},
        {"image_size": None},
        {"vocabulary": None},
        {"detections": None},
        {"detections": [{}]},
        {"detections": [{"box_xyxy": [0, 0, 1, 1], "score": 0.5, "category_id": 99}]},
        {"detections": [{"box_xyxy": [0, 0, "x", 1], "score": 0.5, "category_id": 1}]},
        {
            "detections": [
                {"box_xyxy": [0, 0, 1, 1], "score": 0.5, "category_id": 1, "mask": {"size": [1, 1], "counts": "?"}}
            ]
        },
    ],
)
def test_damaged_json_is_a_data_error(street: Result, damage: dict[str, Any]) -> None:
    with pytest.raises((DataError, VocabularyError)):
        Result.from_dict({**street.to_dict(), **damage})


def test_other_things_are_no_saved_results() -> None:
    with pytest.raises(DataError, match="not a saved result"):
        Result.from_dict([])  # type: ignore[arg-type]


def test_label_maps(street: Result) -> None:
    labels = street.label_map()
    assert labels.dtype == np.uint16
    assert labels.shape == SIZE
    assert labels[33, 40] == WHEEL + 1  # over the car
    assert labels[12, 12] == CAR + 1
    assert labels[0, 0] == 0
    assert street.label_map("instance")[33, 16] == 5
    overlapping = result_of((DOG, 0.9, rectangle(0, 0, 10, 10)), (CAR, 0.5, rectangle(0, 0, 20, 20)))
    assert overlapping.label_map()[5, 5] == DOG + 1
    with pytest.raises(ValueError, match="'class' or 'instance', not 'x'"):
        street.label_map("x")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="boxes only"):
        result_of((DOG, 0.9, rectangle(0, 0, 10, 10)), masks=False).label_map()


def test_to_supervision(street: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("supervision")
    detections = street.to_supervision()
    assert np.array_equal(detections.xyxy, street.boxes_xyxy)
    assert np.array_equal(np.asarray(detections.mask), np.asarray(street.masks))
    assert detections.data["class_name"].tolist() == street.names
    ids, owners = detections.data["id"].tolist(), detections.data["owner"].tolist()
    assert [ids.index(owner) if owner >= 0 else -1 for owner in owners] == street.owners.tolist()
    assert detections.class_id.tolist() == street.class_ids.tolist()
    assert len(result_of().to_supervision()) == 0
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(OutputError, match=r'pip install "vlpart\[supervision\]"'):
        street.to_supervision()


def test_owners_survive_merging_and_filtering(street: Result) -> None:
    supervision = pytest.importorskip("supervision")
    one, other = street.to_supervision(), Result.from_dict({**street.to_dict(), "path": "b.jpg"}).to_supervision()
    both = supervision.Detections.merge([one, other])
    assert len(set(both.data["id"].tolist())) == len(both)
    kept = both[np.arange(len(both)) % 3 != 0]
    names = dict(zip(both.data["id"].tolist(), both.data["class_name"].tolist(), strict=True))
    for name, owner in zip(kept.data["class_name"], kept.data["owner"].tolist(), strict=True):
        assert (owner >= 0) == (":" in name and name.split(":")[0] == names.get(owner))


def test_to_labelme(street: Result) -> None:
    data = street.to_labelme()
    assert (data["imagePath"], data["imageData"], data["imageHeight"], data["imageWidth"]) == ("photo.jpg", None, *SIZE)
    assert street.to_labelme("../in/photo.jpg")["imagePath"] == "../in/photo.jpg"
    shapes = data["shapes"]
    assert [shape["label"] for shape in shapes] == street.names
    assert [shape["group_id"] for shape in shapes] == list(range(1, 8))
    assert {shape["shape_type"] for shape in shapes} == {"polygon"}
    assert [shape["description"] for shape in shapes] == [
        "",
        "part of car 1",
        "",
        "part of car 1",
        "part of car 1",
        "",
        "",
    ]
    car = np.array(shapes[0]["points"])
    assert [*car.min(axis=0), *car.max(axis=0)] == [10, 10, 50, 38]
    json.dumps(data, allow_nan=False)


def test_to_labelme_of_pieces_and_of_detections_without_a_mask() -> None:
    two = rectangle(5, 5, 25, 25) | rectangle(50, 5, 60, 15)
    shapes = result_of((DOG, 0.9, two), (CAR, 0.8, rectangle(0, 0, 0, 0))).to_labelme()["shapes"]
    assert [(s["label"], s["group_id"], s["shape_type"]) for s in shapes] == [
        ("dog", 1, "polygon"),
        ("dog", 1, "polygon"),
        ("car", 2, "rectangle"),
    ]
    alone = result_of((DOG, 0.9, rectangle(5, 6, 25, 30)), masks=False).to_labelme()["shapes"]
    assert (alone[0]["shape_type"], alone[0]["points"]) == ("rectangle", [[5, 6], [25, 30]])
    assert result_of().to_labelme() == {**result_of().to_labelme(), "shapes": [], "imagePath": ""}


def test_yolo_labels_are_read_back(street: Result, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text(street.to_yolo())
    (tmp_path / "data.yaml").write_text(yolo_data(VOCABULARY))
    found = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    assert found.classes == list(VOCABULARY.names)
    ((_, _, detections),) = list(found)
    assert detections.class_id.tolist() == street.class_ids.tolist()
    for mask, read in zip(street.masks, detections.mask, strict=True):
        assert read[mask].mean() > 0.85  # the line may be half a pixel off
        assert read.sum() <= mask.sum() + mask.any(axis=0).sum() + mask.any(axis=1).sum() + 1  # and the line


def test_yolo_labels_by_hand() -> None:
    two = rectangle(0, 0, 20, 20) | rectangle(50, 0, 60, 12)
    line = result_of((WHEEL, 0.9, two)).to_yolo()
    values = np.array(line.split(), dtype=float)
    assert (line[-1], values[0], len(values) % 2) == ("\n", WHEEL, 1)
    assert values[1:].reshape(-1, 2).max(axis=0).tolist() == [0.6, 0.333333]
    assert result_of((DOG, 0.9, rectangle(10, 6, 30, 36)), masks=False).to_yolo() == f"{DOG} 0.2 0.35 0.2 0.5\n"
    assert result_of((DOG, 0.9, rectangle(0, 0, 0, 0))).to_yolo().startswith(f"{DOG} 0.01 0.0166667 ")
    assert result_of().to_yolo() == ""


def test_names_that_yaml_would_take_for_something_else() -> None:
    names = ["no", "a:b", 'quote "', "# x", "1"]
    text = yolo_data(Vocabulary.from_names(names))
    assert text.splitlines()[4:] == ['  0: "no"', '  1: "a:b"', '  2: "quote \\""', '  3: "# x"', '  4: "1"']


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP")])
def test_save_images(street: Result, tmp_path: Path, suffix: str, kind: str) -> None:
    image = np.full((*SIZE, 3), 90, dtype=np.uint8)
    path = street.save(tmp_path / "new" / "folder" / f"out{suffix}", image=image, minimum_side=0)
    with Image.open(path) as saved:
        assert saved.format == kind
        assert saved.size == (100, 60)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_save_json(street: Result, tmp_path: Path) -> None:
    path = street.save(tmp_path / "out.json")
    for back in (Result.load(path), Result.load(str(path))):
        assert (back.names, back.path, back.image) == (street.names, street.path, None)
        assert np.array_equal(np.asarray(back.masks), np.asarray(street.masks))
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    assert Result.load(path, image).image is image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "not a saved"),
        (None, "No such"),
    ],
)
def test_files_that_are_no_saved_results(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x_parts.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Result.load(path)


def test_save_never_overwrites_the_input_and_leaves_nothing_behind(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (100, 60)).save(photo)
    before = photo.read_bytes()
    result = result_of((DOG, 0.9, rectangle(0, 0, 10, 10)), path=photo)
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png", tmp_path / "." / "photo.png"):
        with pytest.raises(OutputError, match="is the input image"):
            result.save(target)
    (tmp_path / "file").touch()
    (tmp_path / "taken.png").mkdir()
    for target in (tmp_path / "file" / "out.png", tmp_path / "taken.png", tmp_path / "out.bmp", tmp_path / "out"):
        with pytest.raises(OutputError):
            result.save(target)
    assert photo.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link.png", "photo.png", "taken.png"]


def test_plot_finds_its_image(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (100, 60), (10, 20, 30)).save(photo)
    found = [(DOG, 0.9, rectangle(0, 0, 10, 10))]
    assert result_of(*found, path=photo).plot(minimum_side=0).size == (100, 60)
    assert result_of(*found).plot(Image.open(photo), minimum_side=0).getpixel((90, 50)) == (10, 20, 30)
    with pytest.raises(OutputError, match="no image"):
        result_of(*found).plot()
    with pytest.raises(OutputError, match="the image is"):
        result_of(*found).plot(np.zeros((60, 99, 3), dtype=np.uint8))
    with pytest.raises(VlpartError, match="no such image"):
        result_of(*found, path=tmp_path / "gone.png").plot()


@pytest.mark.parametrize("masks", [True, False])
def test_nested_detections_of_one_class_go(masks: bool) -> None:
    result = result_of(
        (PERSON, 0.9, rectangle(10, 5, 40, 55)),
        (PERSON, 0.6, rectangle(12, 8, 25, 20)),  # inside the better one
        (PERSON, 0.5, rectangle(35, 5, 60, 55)),  # beside it
        (HEAD, 0.4, rectangle(15, 6, 25, 14)),  # another class
        (PERSON, 0.3, rectangle(5, 2, 45, 58)),  # around the better one: not inside
        masks=masks,
    )
    left = result.without_nested()
    assert [round(float(s), 1) for s in left.scores] == [0.9, 0.5, 0.4, 0.3]
    assert len(result.without_nested(share=1.01)) == 5
    assert len(result[:0].without_nested()) == 0


def test_one_region_has_one_name_where_asked_for() -> None:
    """The dog that is also called a cat; the face that is all there is of a person; one box beside another."""
    result = Result(
        image_size=(100, 200),
        boxes_xyxy=[[0, 0, 50, 50], [0, 0, 50, 48], [100, 0, 150, 50], [100, 0, 150, 49], [60, 60, 99, 99]],
        scores=[0.9, 0.8, 0.7, 0.6, 0.5],
        class_ids=[0, 1, 3, 2, 1],
        vocabulary=Vocabulary.parse("dog; cat; person: face"),
    )
    assert result.without_overlapping().names == ["dog", "person", "cat"]
    assert len(result.without_overlapping(1.0)) == 5
    assert len(result.without_overlapping(0.99)) == 5
    assert result[:0].without_overlapping().names == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        result.without_overlapping(1.5)


def test_overlap_is_that_of_masks() -> None:
    bitmaps = np.zeros((2, 40, 40), dtype=bool)
    bitmaps[0, :20], bitmaps[1, 4:20] = True, True
    result = Result(
        image_size=(40, 40),
        boxes_xyxy=[[0, 0, 40, 20], [0, 0, 40, 20]],
        scores=[0.9, 0.8],
        class_ids=[0, 1],
        masks=bitmaps,
        vocabulary=Vocabulary.parse("dog; cat"),
    )
    assert len(result.without_overlapping(0.82)) == 2
    assert len(result.without_overlapping(0.78)) == 1


def test_what_is_around_a_better_one_of_its_name_goes_as_well() -> None:
    result = Result(
        image_size=(100, 100),
        boxes_xyxy=[[20, 20, 50, 50], [10, 10, 90, 90], [10, 10, 90, 90]],
        scores=[0.9, 0.8, 0.7],
        class_ids=[0, 0, 1],
        vocabulary=Vocabulary.parse("dog; sofa"),
    )
    assert result.without_overlapping().names == ["dog", "sofa"]


def thin_and_ring() -> list[np.ndarray]:
    thin = np.zeros(SIZE, dtype=bool)
    thin[np.arange(50), np.arange(50)] = True
    return [thin, rectangle(10, 10, 50, 50) & ~rectangle(20, 20, 40, 40)]


@pytest.mark.parametrize("mask", thin_and_ring())
def test_thin_masks_and_holes_survive_labelme_and_yolo(mask: np.ndarray) -> None:
    result = result_of((DOG, 0.9, mask))
    (shape,) = result.to_labelme()["shapes"]
    (x0, y0), (x1, y1) = shape["points"] if shape["shape_type"] == "mask" else ((0, 0), (0, 0))
    if shape["shape_type"] == "mask":
        stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
        assert np.array_equal(stored, mask[y0 : y1 + 1, x0 : x1 + 1]) and stored.sum() == mask.sum()
    else:
        assert np.array_equal(_filled([np.array(shape["points"])]), mask)
    line = np.array(result.to_yolo().split()[1:], dtype=float).reshape(-1, 2) * SIZE[::-1]
    assert (_filled([line]) != mask).sum() <= 0.04 * mask.sum()


def _filled(polygons: list[np.ndarray]) -> np.ndarray:
    from pycocotools import mask as coco_mask

    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], *SIZE))) > 0
