"""Loading a source: classes, filters, presence, and a report of everything that was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlpart.data.indexing import Presence, load_source, unknown_classes
from vlpart.data.source import LoadedSource, Source
from vlpart.errors import DataError
from vlpart.types import AnnotationKind

from .conftest import MakeDataset, rectangle


def labels_of(loaded: LoadedSource) -> list[list[str]]:
    return [[loaded.vocabulary.names[label] for label in loaded.store[i].labels] for i in range(len(loaded))]


def test_records(boxed: dict[str, Any]) -> None:
    loaded = load_source(Source(**boxed))
    assert len(loaded) == 11
    assert loaded.vocabulary.names == ("car", "car:left mirror", "car:right mirror", "dog")
    record = loaded.store[1]
    assert (record.image_id, record.height, record.width) == (2, 40, 60)
    assert record.path == Path(boxed["images"]) / "0002.png"
    assert record.boxes_xyxy.tolist() == [[4, 5, 24, 20], [7, 6, 27, 21]]
    assert record.labels.tolist() == [1, 2]
    assert record.segmentations is not None
    assert [polygon.tolist() for polygon in record.segmentations[1]] == [[[7, 6], [27, 6], [27, 21], [7, 21]]]
    assert loaded.image_counts.sum() == loaded.report.annotations == 21
    with pytest.raises(IndexError):
        loaded.store[11]


def test_bad_annotations_are_counted_not_hidden(make_dataset: MakeDataset) -> None:
    whole = rectangle(1, 1, 5, 5)
    annotations = [
        {"category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": whole},
        {"category_id": 3, "bbox": None, "segmentation": whole, "iscrowd": "1"},
        {"category_id": 3, "bbox": [1, 1, 0, 4], "segmentation": whole},
        {"category_id": 3, "bbox": [1, 1, -3, 4], "segmentation": whole},
        {"category_id": 3, "bbox": [90, 1, 4, 4], "segmentation": whole},
        {"category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": whole, "iscrowd": 1},
        {"category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 2, 2]]},
        {"category_id": 3, "bbox": [1, 1, 4, 4]},
        {"category_id": 3, "segmentation": whole},
        {"category_id": 3, "bbox": [-5, -5, 50, 50], "segmentation": whole},
    ]
    loaded = load_source(Source(**make_dataset([{"size": (20, 30), "annotations": annotations}, {"size": (9, 9)}])))
    assert loaded.store[0].boxes_xyxy.tolist() == [[1, 1, 5, 5], [1, 1, 5, 5], [0, 0, 30, 20]]
    dropped = loaded.report.dropped_annotations
    assert {reason.split(",")[0]: count for reason, count in dropped.items()} == {
        "empty box": 2,
        "box outside the image": 1,
        "crowd region": 2,
        "empty mask": 1,
        "no segmentation": 1,
    }
    assert loaded.report.dropped_images == {"no annotations": 1}
    assert loaded.report.examples["empty box"] == [3, 4]
    assert "2 annotations left out: empty box (first ids [3, 4])" in str(loaded.report)


def test_boxes_only(make_dataset: MakeDataset) -> None:
    data = make_dataset(
        [{"size": (9, 9), "annotations": [{"category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": "bad"}]}]
    )
    loaded = load_source(Source(**data, masks=False))
    assert loaded.store[0].segmentations is None
    parsed = load_source(Source(**data, kind=AnnotationKind.PARSED_PARTS))
    assert parsed.store[0].segmentations is None


def test_empty_images_stay_if_asked(make_dataset: MakeDataset) -> None:
    data = make_dataset([{"size": (9, 9)}])
    with pytest.raises(DataError, match="no image of|is left to train on"):
        load_source(Source(**data))
    loaded = load_source(Source(**data, filter_empty=False))
    assert loaded.store[0].boxes_xyxy.shape == (0, 4)


def test_malformed_masks_are_an_error(make_dataset: MakeDataset) -> None:
    bad = {"category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": {"size": [9, 9], "counts": "~~~"}}
    data = make_dataset([{"size": (9, 9), "annotations": [bad, bad]}])
    with pytest.raises(DataError, match=r"2 malformed segmentations, first: annotation 1"):
        load_source(Source(**data))


def test_unknown_category(make_dataset: MakeDataset) -> None:
    annotations = [{"category_id": 99, "bbox": [1, 1, 4, 4]}]
    with pytest.raises(DataError, match="annotation 1 has the category id 99"):
        load_source(Source(**make_dataset([{"size": (9, 9), "annotations": annotations}])))


def test_missing_images(boxed: dict[str, Any]) -> None:
    for number in (3, 7):
        (boxed["images"] / f"{number:04}.png").unlink()
    with pytest.raises(DataError, match=r"2 of 11 images .* first: 0003.png, 0007.png"):
        load_source(Source(**boxed))
    with pytest.raises(DataError, match="11 of 11"):
        load_source(Source(**{**boxed, "images": boxed["images"] / "elsewhere"}))


def test_images_in_folders(make_dataset: MakeDataset) -> None:
    box = [{"category_id": 3, "bbox": [1, 1, 4, 4]}]
    data = make_dataset([{"size": (9, 9), "file_name": "a.png", "annotations": box}])
    (data["images"] / "sub").mkdir()
    (data["images"] / "a.png").rename(data["images"] / "sub" / "a.png")
    content = json.loads(data["annotations"].read_text())
    content["images"][0]["file_name"] = "sub/a.png"
    data["annotations"].write_text(json.dumps(content))
    assert load_source(Source(**data)).store[0].path.is_file()


def test_object_filters(boxed: dict[str, Any]) -> None:
    full = load_source(Source(**boxed))
    cars = load_source(Source(**boxed, only_objects=frozenset({"car"})))
    dogs = load_source(Source(**boxed, exclude_objects=frozenset({"car"})))
    assert cars.vocabulary.names == ("car", "car:left mirror", "car:right mirror")
    assert dogs.vocabulary.names == ("dog",)
    assert cars.report.annotations + dogs.report.annotations == full.report.annotations
    assert cars.report.dropped_annotations == {"excluded category": dogs.report.annotations}
    assert {name for names in labels_of(dogs) for name in names} == {"dog"}
    with pytest.raises(DataError, match="unknown objects: cat"):
        load_source(Source(**boxed, exclude_objects=frozenset({"cat"})))
    with pytest.raises(DataError, match="leave no category"):
        load_source(Source(**boxed, exclude_objects=frozenset({"car", "dog"})))


def test_objects_or_parts_only(boxed: dict[str, Any]) -> None:
    full = load_source(Source(**boxed))
    objects, parts = (load_source(Source(**boxed, take=take)) for take in ("objects", "parts"))
    assert objects.vocabulary.names == ("car", "dog")
    assert parts.vocabulary.names == ("car:left mirror", "car:right mirror")
    assert objects.report.annotations + parts.report.annotations == full.report.annotations
    assert {name for names in labels_of(parts) for name in names} <= set(parts.vocabulary.names)
    with pytest.raises(DataError, match="take leave no category"):
        load_source(Source(**boxed, take="parts", exclude_objects=frozenset({"car"})))
    with pytest.raises(DataError, match="take is 'all'"):
        Source(**boxed, take="masks")


def test_named_list_maps_by_name(make_dataset: MakeDataset) -> None:
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "Traffic_Light"}, {"id": 3, "name": "unicorn"}]
    box = [{"category_id": 2, "bbox": [1, 1, 4, 4]}]
    data = make_dataset([{"size": (9, 9), "annotations": box}], categories=categories, name="a")
    loaded = load_source(Source(**data, vocabulary="coco"))
    assert len(loaded.vocabulary) == 80
    assert labels_of(loaded) == [["traffic light"]]
    box = [{"category_id": 3, "bbox": [1, 1, 4, 4]}]
    data = make_dataset([{"size": (9, 9), "annotations": box}], categories=categories, name="b")
    with pytest.raises(DataError, match="category id 3.*vocabulary 'coco'"):
        load_source(Source(**data, vocabulary="coco"))


def test_named_list_maps_by_id_without_names(make_dataset: MakeDataset) -> None:
    box = [{"category_id": 10, "bbox": [1, 1, 4, 4]}]
    data = make_dataset([{"size": (9, 9), "annotations": box}], categories=[{"id": 10}])
    assert labels_of(load_source(Source(**data, vocabulary="coco"))) == [["traffic light"]]
    with pytest.raises(DataError, match="needs named categories"):
        load_source(Source(**data))


def test_names_that_differ_in_case_are_one_class(make_dataset: MakeDataset) -> None:
    categories = [{"id": 1, "name": "cardigan"}, {"id": 2, "name": "crane"}, {"id": 3, "name": "Cardigan"}]
    boxes = [{"category_id": i, "bbox": [1, 1, 4, 4]} for i in (1, 2, 3)]
    loaded = load_source(Source(**make_dataset([{"size": (9, 9), "annotations": boxes}], categories=categories)))
    assert loaded.vocabulary.names == ("cardigan", "crane")
    assert loaded.store[0].labels.tolist() == [0, 1, 0]
    assert loaded.image_counts.tolist() == [1, 1]
    assert "1 categories share their name" in str(loaded.report)


def test_image_labels(make_dataset: MakeDataset) -> None:
    images = [{"size": (9, 9), "pos_category_ids": [8, 3]}, {"size": (9, 9)}]
    loaded = load_source(Source(**make_dataset(images), kind=AnnotationKind.IMAGE_LABELS))
    assert len(loaded) == 1
    assert loaded.store[0].image_labels.tolist() == [0, 3]
    assert loaded.image_counts.tolist() == [1, 0, 0, 1]
    assert loaded.report.dropped_images == {"no labels": 1}


def test_unknown_rule() -> None:
    def presence(source: str | None, positive: set[int], negative: set[int], open_: set[int], used: bool) -> Presence:
        return Presence(source_image=source, positive=positive, negative=negative, open_ended=open_, used=used)

    images = [
        presence("a", {0, 1}, set(), set(), True),
        presence("a", {2}, {1}, {4}, True),  # another crop of the same image; class 1 is said to be absent from it
        presence("a", {3}, set(), set(), False),  # not trained on, but tells about image a
        presence(None, {5}, set(), set(), True),
        presence(None, {6}, set(), set(), True),  # no source image: nothing is shared
    ]
    assert unknown_classes(images) == [[0, 1, 2, 3], [0, 2, 3, 4], [5], [6]]


def test_unknown_labels_of_a_source(make_dataset: MakeDataset) -> None:
    box = [{"category_id": 3, "bbox": [1, 1, 4, 4]}]
    images = [
        {"size": (9, 9), "source_image": "s", "annotations": box, "pos_category_ids": [3]},
        {"size": (9, 9), "source_image": "s", "annotations": [], "pos_category_ids": [8]},
        {"size": (9, 9), "source_image": "t", "annotations": box, "neg_category_ids": [3]},
    ]
    data = make_dataset(images)
    loaded = load_source(Source(**data, unlabelled="unknown"))
    assert [loaded.store[i].unknown_labels.tolist() for i in range(2)] == [[0, 3], []]
    assert load_source(Source(**data)).store[0].unknown_labels.tolist() == []


def test_left_and_right_swap_only_where_both_exist(make_dataset: MakeDataset) -> None:
    names = ["car:left mirror", "car:right mirror", "left hand", "bright lamp", "back left door", "back right door"]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    data = make_dataset(
        [{"size": (9, 9), "annotations": [{"category_id": 0, "bbox": [1, 1, 4, 4]}]}], categories=categories
    )
    assert load_source(Source(**data)).flip_labels.tolist() == [0, 1, 2, 3, 4, 5]
    loaded = load_source(Source(**data, flip_swaps_left_right=True))
    assert loaded.flip_labels.tolist() == [1, 0, 2, 3, 5, 4]
    assert "1 names with left or right have no counterpart" in str(loaded.report)


@pytest.mark.parametrize(
    "wrong",
    [
        {"short_sides": ()},
        {"short_sides": (0,)},
        {"short_side_sampling": "random"},
        {"short_side_sampling": "range"},
        {"short_sides": (9, 5), "short_side_sampling": "range"},
        {"max_side": 0},
        {"ratio": 0},
        {"batch_size": 0},
        {"repeat_threshold": -1.0},
        {"unlabelled": "maybe"},
        {"inside_objects": "maybe"},
        {"negative_names": "some"},
        {"scored_annotations": "maybe"},
        {"flip": 1.5},
        {"min_visible": -0.1},
        {"scale_jitter": (2.0, 1.0)},
        {"color_jitter": 2.0},
        {"name": ""},
        {"name": "a|b"},
    ],
)
def test_impossible_sources(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="source"):
        Source(**{"name": "x", "annotations": "a", "images": "b", **wrong})


def test_real_data(shared: Path) -> None:
    folder = shared / "data" / "ade_parts"
    loaded = load_source(
        Source(name="ade", annotations=folder / "train.json", images=folder / "images", unlabelled="unknown")
    )
    assert (len(loaded), loaded.report.annotations, len(loaded.vocabulary)) == (2006, 9003, 266)
    assert not loaded.report.dropped_annotations
    by_image: dict[str, set[int]] = {}
    for image in json.loads((folder / "train.json").read_text())["images"]:
        by_image.setdefault(image["source_image"], set()).update(image["pos_category_ids"])
    first = json.loads((folder / "train.json").read_text())["images"][0]
    ids = np.array(loaded.vocabulary.ids)
    assert set(ids[loaded.store[0].unknown_labels].tolist()) == by_image[first["source_image"]]
