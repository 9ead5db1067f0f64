"""Sets that are scored during a run: each by the rule of its benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.made_up import annotation
from vlpart.errors import DataError, TrainingError
from vlpart.evaluation.session import evaluate_sets, open_set
from vlpart.masks.stack import MaskStack
from vlpart.recipes import get_recipe
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary
from vlpart.training.recipe import EvaluationSet

SIZE = (40, 50)


class Told:
    """Says what it is told for every image: a list of (name, box, score)."""

    def __init__(self, answers: dict[str, list[tuple[str, tuple[int, int, int, int], float]]]) -> None:
        self.answers, self.limits = answers, []

    def read(self, source):
        return Path(source).name

    def detect(self, images, vocabulary=None, *, score_threshold=None, max_detections=None):
        self.limits.append(max_detections)
        return [self.found(name, vocabulary) for name in images]

    def found(self, name, vocabulary):
        found = self.answers[name]
        masks = []
        for _, (x, y, w, h), _ in found:
            masks.append(np.zeros(SIZE, dtype=bool))
            masks[-1][y : y + h, x : x + w] = True
        return Result(
            image_size=SIZE,
            boxes_xyxy=[[x, y, x + w, y + h] for _, (x, y, w, h), _ in found],
            scores=[score for *_, score in found],
            class_ids=[vocabulary.index(name) for name, *_ in found],
            masks=MaskStack.from_bitmaps(masks, SIZE),
            vocabulary=vocabulary,
        )


def make_set(folder: Path, content: dict[str, Any], **options: Any) -> EvaluationSet:
    (folder / "val2017").mkdir(parents=True)
    for image in content["images"]:
        image |= {"height": SIZE[0], "width": SIZE[1]}
        Image.new("RGB", SIZE[::-1]).save(folder / "val2017" / image["file_name"])
    (folder / "truth.json").write_text(json.dumps(content))
    return EvaluationSet(name="set", annotations=folder / "truth.json", images=folder / "val2017", **options)


def listed(vocabulary: str) -> list[dict[str, Any]]:
    return [{"id": entry.id, "name": entry.name} for entry in Vocabulary.load(vocabulary).entries]


BOX, OTHER = (5, 6, 20, 15), (26, 20, 14, 12)


def test_voc_is_scored_on_boxes_and_without_difficult_objects(tmp_path: Path) -> None:
    names = [category["name"] for category in listed("voc")]
    ids = {category["name"]: category["id"] for category in listed("voc")}
    boxes = [
        annotation(1, BOX, 1, ids[names[0]], SIZE),
        annotation(2, OTHER, 1, ids[names[0]], SIZE, difficult=1),  # found or not: it does not count
    ]
    for each in boxes:
        del each["segmentation"]
    content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": boxes, "categories": listed("voc")}
    each = make_set(tmp_path, content, benchmark="voc")
    figures = evaluate_sets(Told({"1.png": [(names[0], BOX, 0.9)]}), [each], score_threshold=0.1, max_detections=10)
    assert figures == {"set/box_AP": pytest.approx(1), "set/box_AP50": pytest.approx(1), "score": pytest.approx(1)}
    without = EvaluationSet(name="set", annotations=each.annotations, images=each.images)
    plain = evaluate_sets(Told({"1.png": [(names[0], BOX, 0.9)]}), [without], score_threshold=0.1, max_detections=10)
    assert plain["set/box_AP50"] == pytest.approx(0.505, abs=0.01)  # COCO's rule counts the difficult one as missed


def test_lvis_asks_for_300_and_counts_only_verified_classes(tmp_path: Path) -> None:
    categories = listed("lvis_v1")[:3]
    first, _, third = (category["name"] for category in categories)
    ids = [category["id"] for category in categories]
    image = {"id": 1, "file_name": "1.png", "neg_category_ids": [ids[1]], "not_exhaustive_category_ids": []}
    content = {"images": [image], "annotations": [annotation(1, BOX, 1, ids[0], SIZE)], "categories": categories}
    each = make_set(tmp_path, content, benchmark="lvis")
    predictor = Told({"1.png": [(third, OTHER, 0.95), (first, BOX, 0.9)]})  # nobody looked for the third
    figures = evaluate_sets(predictor, [each], score_threshold=0.1, max_detections=10)
    assert (predictor.limits, figures["set/AP"]) == ([300], pytest.approx(1))
    assert open_set(each, 10).benchmark.rule == "lvis"


def test_boxes_only_files_have_box_figures(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "car:wheel"}]
    annotations = [annotation(1, BOX, 1, 1, SIZE), annotation(2, OTHER, 1, 2, SIZE)]
    for each in annotations:
        each["segmentation"] = []
    content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": annotations, "categories": categories}
    boxes = make_set(tmp_path, content)
    figures = evaluate_sets(
        Told({"1.png": [("car:wheel", OTHER, 0.9)]}), [boxes], score_threshold=0.1, max_detections=5
    )
    assert set(figures) == {"set/box_AP", "set/box_AP50", "set/parts_box_AP50", "score"}
    assert (figures["set/parts_box_AP50"], figures["score"]) == (pytest.approx(1), pytest.approx(1))


def test_without_a_valid_figure_there_is_no_score(tmp_path: Path) -> None:
    content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    figures = evaluate_sets(Told({"1.png": []}), [make_set(tmp_path, content)], score_threshold=0.1, max_detections=5)
    assert np.isnan(figures["score"])


def test_held_out_images_only(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(10)]
    annotations = [annotation(i + 1, BOX, i, 1, SIZE) for i in range(10)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    each = make_set(tmp_path, content, validation_split=0.3)
    truth = open_set(each, 5).truth
    assert (len(truth["images"]), len(truth["annotations"])) == (3, 3)


def test_published_recipes_name_their_benchmark() -> None:
    for name in ("voc", "coco", "lvis", "paco", "partimagenet"):
        (each,) = get_recipe(f"r50_{name}", Path("datasets")).evaluate_on
        assert (each.benchmark, each.annotated_classes_only) == (name, False)
    assert get_recipe("r50_pascalpart", Path("datasets")).evaluate_on[0].benchmark == "pascal_part"


def test_benchmarks_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean lvis"):
        EvaluationSet(name="a", annotations=tmp_path, images=tmp_path, benchmark="lviss")
    with pytest.raises(TrainingError, match="annotated_classes_only"):
        EvaluationSet(name="a", annotations=tmp_path, images=tmp_path, benchmark="lvis", annotated_classes_only=True)
