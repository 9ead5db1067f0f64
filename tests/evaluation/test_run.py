"""Predicting and scoring a data set, with a predictor that looks at the colours of the image."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from vlpart.errors import DataError
from vlpart.evaluation.run import evaluate, write_report
from vlpart.evaluation.session import evaluate_sets
from vlpart.evaluation.truth import subset
from vlpart.evaluation.vocabularies import dataset_vocabulary
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.training.recipe import EvaluationSet

HEIGHT, WIDTH = 30, 40


class ColourPredictor:
    """Finds the red and the blue region of an image and calls them by the first and second name."""

    def __init__(self):
        self.calls = []

    def read(self, source):
        return np.asarray(Image.open(source)).astype(int)

    def detect(self, images, vocabulary=None, *, score_threshold=None, max_detections=None):
        self.calls.append((vocabulary.names, score_threshold, max_detections))
        return [self.found(pixels, vocabulary) for pixels in images]

    def found(self, pixels, vocabulary):
        masks, boxes, classes = [], [], []
        for class_id, channel in enumerate((0, 2)):
            bitmap = pixels[..., channel] > 180
            if bitmap.any():
                ys, xs = np.nonzero(bitmap)
                masks.append(bitmap)
                boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                classes.append(class_id)
        return Result(
            image_size=pixels.shape[:2],
            boxes_xyxy=boxes,
            scores=[0.9] * len(boxes),
            class_ids=classes,
            masks=MaskStack.from_bitmaps(masks, (HEIGHT, WIDTH)),
            vocabulary=vocabulary,
        )


@pytest.fixture
def dataset(tmp_path):
    """Four images: a red car everywhere, a blue wheel on the even ones; the file lists the higher id first."""
    from pycocotools import mask as coco_mask

    images, annotations = [], []
    for image_id in range(1, 5):
        array = np.full((HEIGHT, WIDTH, 3), 100, dtype=np.uint8)
        regions = {5: (slice(2, 12), slice(3, 20), (255, 0, 0))}
        if image_id % 2 == 0:
            regions[9] = (slice(15, 28), slice(10, 35), (0, 0, 255))
        for category, (rows, columns, colour) in regions.items():
            array[rows, columns] = colour
            bitmap = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
            bitmap[rows, columns] = 1
            rle = coco_mask.encode(bitmap)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
                    "area": int(bitmap.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
                }
            )
        Image.fromarray(array).save(tmp_path / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": WIDTH, "height": HEIGHT})
        images[-1]["pos_category_ids"] = sorted(regions)
    categories = [{"id": 9, "name": "car:wheel", "part": "wheel"}, {"id": 5, "name": "car", "part": None}]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_a_perfect_predictor(dataset, tmp_path):
    predictor, seen = ColourPredictor(), []
    result = evaluate(
        predictor,
        dataset,
        dataset.parent,
        score_threshold=0.2,
        progress=lambda label, done, total: seen.append((done, total)),
    )
    assert result.masks.all.ap == pytest.approx(1.0)
    assert result.boxes.parts.ap50 == pytest.approx(1.0)
    assert set(result.masks.per_class) == {"car", "car:wheel"}
    assert (result.images, result.annotations, result.detections) == (4, 6, 6)
    assert predictor.calls[0] == (("car", "car:wheel"), 0.2, 100)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    write_report(result, tmp_path / "out" / "scores.json")
    saved = json.loads((tmp_path / "out" / "scores.json").read_text())
    parts = saved["masks"]["parts"]
    assert (parts["ap"], parts["ap50"], parts["ap75"], parts["ar"], parts["classes"]) == (1, 1, 1, 1, 1)


def test_a_limit_that_most_images_reach_is_noted(dataset):
    """Found on 266 names: 99 % of the images were at the limit, and whole objects took the places of parts."""
    tight = evaluate(ColourPredictor(), dataset, dataset.parent, max_detections=1)
    (note,) = tight.notes
    assert note.startswith("100% of the images have as many detections as count (1)")
    assert "--max-detections" in note
    assert not evaluate(ColourPredictor(), dataset, dataset.parent).notes


def test_other_wordings_and_subsets(dataset):
    from vlpart.text.vocabulary import Vocabulary

    predictor = ColourPredictor()
    result = evaluate(
        predictor, dataset, dataset.parent, vocabulary=Vocabulary.from_names(["automobile", "tyre"]), max_images=2
    )
    assert result.images == 2
    assert predictor.calls[0][0] == ("automobile", "tyre")
    assert result.masks.all.ap == pytest.approx(1.0)
    with pytest.raises(DataError, match="1 names"):
        evaluate(predictor, dataset, dataset.parent, vocabulary=Vocabulary.from_names(["car"]))
    truth = json.loads(dataset.read_text())
    assert [image["id"] for image in subset(truth, 2)["images"]] == [1, 3]
    assert len(subset(truth, 10)["images"]) == 4
    assert dataset_vocabulary(truth).names == ("car", "car:wheel")


def test_a_missing_image_is_named(dataset):
    (dataset.parent / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        evaluate(ColourPredictor(), dataset, dataset.parent)


def test_figures_for_the_log_of_a_run(dataset):
    sets = (
        EvaluationSet(name="a", annotations=dataset, images=dataset.parent),
        EvaluationSet(name="b", annotations=dataset, images=dataset.parent, annotated_classes_only=True, max_images=1),
    )
    figures = evaluate_sets(ColourPredictor(), sets, score_threshold=0.1, max_detections=10)
    assert figures["a/AP"] == pytest.approx(1.0)
    assert figures["a/parts_AP50"] == pytest.approx(1.0)
    assert "b/parts_AP50" not in figures  # the only image of it has no part
    assert figures["score"] == pytest.approx(1.0)
    assert not any(math.isnan(value) for value in figures.values())
