"""Parts of given objects: where they are looked for, what counts, what they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vlpart
from vlpart import DataError, ImageError, Result, Vocabulary, VocabularyError
from vlpart.data.images import ReadImage
from vlpart.inference.base import BasePredictor, Defaults
from vlpart.inference.given import GivenObjects, find_parts, vocabulary_for
from vlpart.inference.given_file import PartsOfGiven
from vlpart.masks.stack import MaskStack
from vlpart.types import DetectionOptions

WORDS = Vocabulary.parse("car: wheel, door; person: head")


def image_of(height: int = 100, width: int = 200) -> ReadImage:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    return ReadImage(pixels=pixels, resized=pixels, path="street.jpg")


class Eyes:
    """Finds the things of a list wherever a window holds them, in the pixels of the window that it is shown."""

    def __init__(self, things: dict[str, list[tuple[int, int, int, int]]], *, masks: bool = True) -> None:
        self.things, self.masks = things, masks
        self.asked: list[tuple[str, ...]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.corners: list[tuple[int, int]] = []

    def __call__(self, pieces: list[ReadImage], vocabulary: Vocabulary) -> list[Result]:
        self.asked.append(vocabulary.names)
        return [self.look(piece, vocabulary) for piece in pieces]

    def look(self, piece: ReadImage, vocabulary: Vocabulary) -> Result:
        self.shapes.append(piece.pixels.shape[:2])
        left, top = (int(v) for v in piece.pixels[0, 0, :2])  # `marked` wrote them there
        boxes, ids, bitmaps = [], [], []
        for name, places in self.things.items():
            for x0, y0, x1, y1 in places if name in vocabulary.names else ():
                box = np.array([x0 - left, y0 - top, x1 - left, y1 - top]).clip(0)
                box = np.minimum(box, np.array(piece.pixels.shape[1::-1] * 2))
                if (box[2:] - box[:2]).min() <= 0:
                    continue
                bitmap = np.zeros(piece.pixels.shape[:2], dtype=bool)
                bitmap[box[1] : box[3], box[0] : box[2]] = True
                boxes.append(box)
                ids.append(vocabulary.index(name))
                bitmaps.append(bitmap)
        size = (piece.pixels.shape[0], piece.pixels.shape[1])
        return Result(
            image_size=size,
            boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            scores=np.linspace(0.9, 0.5, len(boxes)),
            class_ids=np.array(ids, dtype=np.int64),
            masks=MaskStack.from_bitmaps(bitmaps, size) if self.masks else None,
            vocabulary=vocabulary,
        )


def marked(height: int = 100, width: int = 200) -> ReadImage:
    """An image whose pixels say where they are."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y, x * 0], axis=2).astype(np.uint8)
    return ReadImage(pixels=pixels, resized=pixels, path="street.jpg")


def parts(eyes: Any, words: Vocabulary | str = WORDS, image: ReadImage | None = None, **given: Any) -> Result:
    image = image or marked()
    objects = GivenObjects.of(image.pixels.shape[:2], **given)
    return find_parts(image, objects, Vocabulary.of(words), eyes, (32, 64), 100)


def test_parts_are_found_in_their_object_and_in_the_pixels_of_the_image() -> None:
    eyes = Eyes({"car:wheel": [(20, 60, 30, 70), (150, 60, 160, 70)], "person:head": [(60, 10, 70, 20)]})
    result = parts(eyes, boxes=[(10, 40, 90, 80), (120, 40, 190, 80)], names=["car", "car"])
    assert eyes.asked == [("car", "car:wheel", "car:door")]
    assert eyes.shapes == [(56, 96), (54, 84)]  # a tenth of the longer side around them
    assert [(g.name, g.score) for g in result.objects] == [("car", 1.0), ("car", 1.0)]
    assert [result.boxes_xyxy[g.parts].tolist() for g in result.objects] == [[[20, 60, 30, 70]], [[150, 60, 160, 70]]]
    wheel = result.objects[0].parts[0]
    assert result.masks is not None and result.masks[wheel].sum() == 100 and result.masks[wheel][65, 25]
    assert result.path == "street.jpg" and result.image is not None


def test_what_is_around_an_object_does_not_count_and_two_that_overlap_keep_their_own() -> None:
    eyes = Eyes({"car:wheel": [(4, 60, 12, 70), (40, 60, 50, 70)]})
    result = parts(eyes, boxes=[(10, 40, 90, 80), (30, 40, 110, 80)], names="car")
    assert [result.boxes_xyxy[g.parts].tolist() for g in result.objects] == [[[40, 60, 50, 70]]] * 2
    assert result.loose_parts == []
    assert sorted(len(g.parts) for g in result[[0, 1, 2]].objects) == [0, 1]


def test_masks_say_what_is_inside() -> None:
    masks = np.zeros((1, 100, 200), dtype=bool)
    masks[0, 40:80, 10:50] = True
    eyes = Eyes({"car:wheel": [(40, 60, 50, 70), (48, 60, 60, 70)]})
    inside = parts(eyes, masks=masks, names="car")
    assert inside.boxes_xyxy.tolist() == [[10, 40, 50, 80], [40, 60, 50, 70]]
    assert inside.masks is not None and np.array_equal(inside.masks[0], masks[0])
    assert len(parts(eyes, masks=masks, boxes=[(10, 40, 90, 80)], names="car")) == 2


def test_the_mask_of_a_box_comes_from_the_detection_that_is_it() -> None:
    own = parts(Eyes({"car": [(12, 42, 88, 80)]}), boxes=[(10, 40, 90, 80)], names="car")
    assert own.names == ["car"]
    assert own.masks is not None and own.masks[0].sum() == 76 * 38
    assert own.boxes_xyxy.tolist() == [[10, 40, 90, 80]]
    other = parts(Eyes({"car": [(12, 42, 30, 60)]}), boxes=[(10, 40, 90, 80)], names="car")
    assert other.masks is not None and other.masks[0].sum() == 80 * 40
    assert parts(Eyes({}, masks=False), boxes=[(10, 40, 90, 80)], names="car").masks is None


def test_which_names() -> None:
    assert vocabulary_for(Vocabulary.parse("car: wheel"), None)[1] == [0]
    flat, places = vocabulary_for(Vocabulary.from_names(["rim", "tyre"]), None)
    assert flat.names == ("object:rim", "object:tyre", "object") and places == [2]
    assert flat.texts == ("rim", "tyre", "object")
    flat, places = vocabulary_for(Vocabulary.from_names(["rim"]), ["car", "bus", "car"])
    assert flat.names == ("car:rim", "bus:rim", "car", "bus") and places == [2, 3, 2]
    alone, places = vocabulary_for(Vocabulary.from_names(["car:wheel"]), ["Car"])
    assert alone.names == ("car:wheel", "car") and places == [1]
    with pytest.raises(VocabularyError, match="parts of car, person: say which"):
        vocabulary_for(WORDS, None)
    with pytest.raises(VocabularyError, match="no parts of 'dog'; it has parts of car, person"):
        vocabulary_for(WORDS, ["dog"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no region is given"),
        ({"boxes": [[1, 2, 3]]}, "must be"),
        ({"boxes": [["a", 2, 3, 4]]}, "must be"),
        ({"boxes": [[10, 10, 10, 40]]}, "region 0 is empty"),
        ({"boxes": [[1, 1, 9, 9], [300, 10, 310, 40]]}, "region 1 is empty or not in the image of 200x100"),
        ({"boxes": [[0, 0, float("nan"), 4]]}, "must be"),
        ({"boxes": [[0, 0, 9, 9]], "names": ["a", "b"]}, "1 given objects"),
        ({"boxes": [[0, 0, 9, 9]], "scores": [2.0]}, "0..1"),
        ({"masks": np.zeros((1, 5, 5), dtype=bool)}, "masks are for|must be"),
        ({"masks": np.ones((2, 100, 200), dtype=bool), "boxes": [[0, 0, 9, 9]]}, "1 boxes and 2 masks"),
    ],
)
def test_regions_that_are_none(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        GivenObjects.of((100, 200), **given)


def test_no_objects_give_an_empty_result() -> None:
    assert len(parts(Eyes({}), boxes=np.zeros((0, 4)), names=[])) == 0


def test_known_owners_survive_sorting_filtering_and_a_file(tmp_path: Path) -> None:
    result = Result(
        image_size=(50, 50),
        boxes_xyxy=[[0, 0, 10, 10], [30, 30, 50, 50], [32, 32, 36, 36]],
        scores=[0.5, 0.6, 0.9],
        class_ids=[0, 0, 1],
        vocabulary=Vocabulary.parse("car: wheel"),
        owners=[-1, -1, 0],  # not the car that it lies in
    )
    assert result.owners.tolist() == [2, -1, -1]
    again = Result.load(result.save(tmp_path / "r.json"))
    assert again.owners.tolist() == [2, -1, -1]
    assert result[result.scores > 0.55].owners.tolist() == [-1, -1]
    for owners in ([0, -1, 0], [-1, -1, 2], [-1, -1, 5], [-1, -1]):
        with pytest.raises(ValueError, match="owners"):
            Result(
                image_size=(50, 50),
                boxes_xyxy=result.boxes_xyxy,
                scores=result.scores,
                class_ids=[0, 0, 1],
                vocabulary=result.vocabulary,
                owners=owners,
            )


# ---- with a model, and from a file


@pytest.fixture(scope="module")
def predictor() -> vlpart.Predictor:
    return vlpart.load("tiny", device="cpu")


SAMPLE = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"


def test_the_embedded_model_finds_the_parts_of_a_person(predictor: vlpart.Predictor, tiny_weights: Path) -> None:
    result = predictor.parts(
        SAMPLE, boxes=[[60, 0, 420, 511]], vocabulary="person: hair, eye, nose, mouth", score_threshold=0.5
    )
    assert [group.name for group in result.objects] == ["person"]
    assert {"person:hair", "person:eye", "person:nose", "person:mouth"} <= set(result.names)
    assert result.loose_parts == []


def coco(folder: Path, categories: list[str], boxes: list[tuple[int, list[int]]]) -> Path:
    file = folder / "objects.json"
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, start=1)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, (c, box) in enumerate(boxes, start=1)
        ],
    }
    file.write_text(json.dumps(content))
    return file


class NoModel(BasePredictor):
    """A predictor around `Eyes`."""

    def __init__(self, eyes: Eyes) -> None:
        self.eyes, self.vocabulary, self.mask_on = eyes, WORDS, True
        self.defaults = Defaults(short_side=32, max_side=64, score_threshold=0.1, max_detections=10)

    def _text(self, vocabulary: Vocabulary) -> None:
        return None

    def _detect(self, images: Any, names: Vocabulary, text: Any, options: DetectionOptions) -> list[Result]:
        return self.eyes(images, names)


def test_objects_of_a_coco_file(tmp_path: Path) -> None:
    for name, size in (("a.png", (60, 40)), ("b.png", (60, 40)), ("c.png", (20, 20))):
        Image.fromarray(marked(size[1], size[0]).pixels).save(tmp_path / name)
    file = coco(tmp_path, ["car", "dog"], [(1, [5, 5, 40, 30]), (2, [1, 1, 9, 9])])
    seen = PartsOfGiven(NoModel(Eyes({"car:wheel": [(10, 20, 16, 26), (10, 20, 16, 27)]})), file, keep_nested=False)
    failed: list[str] = []
    summary = vlpart.predict_to_folder(
        seen,
        [tmp_path / "a.png", tmp_path / "b.png"],
        output=tmp_path / "out",
        formats=["json"],
        on_failure=lambda image, error: failed.append(str(error)),
    )
    assert (summary.finished, summary.failed) == (1, 1)
    assert "does not list" in failed[0]
    result = Result.load(tmp_path / "out" / "a_parts.json")
    assert result.names == ["car", "car:wheel"]
    assert [group.parts for group in result.objects] == [[1]]
    (tmp_path / "c.png").replace(tmp_path / "a.png")
    with pytest.raises(ImageError, match="another a.png: of 60x40 pixels, not 20x20"):
        seen.read(str(tmp_path / "a.png"))
    with pytest.raises(DataError, match="no object that the vocabulary has parts of: it has dog, the vocabulary"):
        PartsOfGiven(NoModel(Eyes({})), coco(tmp_path, ["dog"], [(1, [1, 1, 9, 9])]))
