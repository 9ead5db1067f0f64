"""Large images in tiles: borders, pieces, parts, and a mosaic in which each photo is found again."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlpart
from vlpart.data.images import ReadImage, Tiling
from vlpart.inference.predictor import Predictor, load
from vlpart.inference.slices import detect_in_tiles, tiles_of
from vlpart.masks.stack import MaskStack
from vlpart.results.result import Result
from vlpart.text.vocabulary import Vocabulary

WORDS = Vocabulary.parse("car: wheel")
RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize(
    ("size", "side"), [((100, 100), 100), ((480, 640), 200), ((7000, 9000), 1024), ((90, 640), 128)]
)
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], side: int) -> None:
    tiles = tiles_of(size, side)
    covered = np.zeros(size, dtype=np.uint8)
    for x0, y0, x1, y1 in tiles:
        assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
        assert (x1 - x0, y1 - y0) == (min(side, size[1]), min(side, size[0]))
        covered[y0:y1, x0:x1] = 1
    assert covered.all()
    lefts = sorted({tile[0] for tile in tiles})
    assert all(b - a <= side * 0.75 + 1 for a, b in itertools.pairwise(lefts))


def look(images: list[ReadImage], smallest: int = 0) -> list[Result]:
    """Finds red rectangles (car) and green ones (wheel) in the resized images, at their exact place."""
    results = []
    for image in images:
        boxes, class_ids, masks = [], [], []
        for class_id, colour in enumerate((RED, GREEN)):
            seen = (image.pixels == colour).all(axis=2)
            if class_id == 0:
                seen |= (image.pixels == GREEN).all(axis=2)  # a wheel covers its car
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            if len(rows) and len(rows) * len(columns) >= smallest:
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                class_ids.append(class_id)
                masks.append(seen)
        size = image.pixels.shape[:2]
        results.append(
            Result(
                image_size=size,
                boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
                scores=[0.5 + 0.1 * i for i in class_ids],
                class_ids=class_ids,
                masks=MaskStack.from_bitmaps(np.array(masks, dtype=bool).reshape(-1, *size), size),
                vocabulary=WORDS,
            )
        )
    return results


def large(pixels: np.ndarray, side: int) -> ReadImage:
    return ReadImage(pixels=pixels, resized=pixels, tiling=Tiling(side=side, short_side=side, max_side=side))


@pytest.mark.parametrize("left", [10, 60, 75, 90, 140])
def test_an_object_across_borders_is_one_with_its_part(left: int) -> None:
    pixels = np.zeros((120, 300, 3), dtype=np.uint8)
    pixels[20:80, left : left + 110] = RED  # wider than a tile
    pixels[60:80, left + 40 : left + 60] = GREEN

    def only_tiles(images: list[ReadImage]) -> list[Result]:
        return [
            Result.__getitem__(r, slice(0, 0)) if i.tiling else r for i, r in zip(images, look(images), strict=True)
        ]

    result = detect_in_tiles(large(pixels, 100), only_tiles)
    assert sorted(result.names) == ["car", "car:wheel"]
    car, wheel = result.names.index("car"), result.names.index("car:wheel")
    assert result.boxes_xyxy[car].tolist() == [left, 20, left + 110, 80]
    assert result.boxes_xyxy[wheel].tolist() == [left + 40, 60, left + 60, 80]
    assert result.masks is not None
    assert result.masks.areas()[car] == 60 * 110
    assert [(group.name, group.parts) for group in result.objects] == [("car", [wheel])]
    assert result.image is pixels


def test_what_the_whole_image_shows_is_not_found_in_pieces_too() -> None:
    pixels = np.zeros((200, 300, 3), dtype=np.uint8)
    pixels[10:190, 15:285] = RED
    result = detect_in_tiles(large(pixels, 100), look)
    assert (result.names, result.boxes_xyxy.tolist()) == (["car"], [[15, 10, 285, 190]])


def test_two_things_side_by_side_stay_two() -> None:
    pixels = np.zeros((90, 320, 3), dtype=np.uint8)
    pixels[20:60, 20:60] = RED
    pixels[20:60, 240:280] = RED

    def tiles_only(images: list[ReadImage]) -> list[Result]:
        return [r[0:0] if i.tiling else r for i, r in zip(images, look(images), strict=True)]

    result = detect_in_tiles(large(pixels, 120), tiles_only)
    assert sorted(result.boxes_xyxy.tolist()) == [[20, 20, 60, 60], [240, 20, 280, 60]]


@pytest.fixture(scope="module")
def predictor(tiny_weights: Path) -> Predictor:
    return load("tiny", device="cpu")


def test_a_large_image_shows_what_its_crops_show(predictor: Predictor) -> None:
    """Four photos in one image: whatever a crop shows whole, in it and in the merged result, and eyes only there."""
    path = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
    with Image.open(path) as file:
        photo = np.asarray(file.convert("RGB"))
    mosaic = np.concatenate([np.concatenate([photo, photo[:, ::-1]], axis=1)] * 2)
    asked = {"vocabulary": "person: hair, mouth, eye", "score_threshold": 0.5}
    merged = predictor.predict(mosaic, slices=512, **asked)
    found = []
    for x0, y0, x1, y1 in tiles_of((1024, 1024), 512):
        crop = predictor.predict(mosaic[y0:y1, x0:x1], **asked)
        for name, box in zip(crop.names, crop.boxes_xyxy + np.array([x0, y0, x0, y0]), strict=True):
            cut = (np.abs(box - [x0, y0, x1, y1]) < 15) & [x0 > 0, y0 > 0, x1 < 1024, y1 < 1024]
            if not cut.any():
                found.append(overlaps(box, merged.boxes_xyxy[np.array(merged.names) == name]).max() >= 0.5)
    assert len(found) >= 12
    assert np.mean(found) >= 0.8  # two crops may disagree on the extent of a person
    eyes = merged.filter(names="person:eye")
    assert len(eyes) > len(predictor.predict(mosaic, **asked).filter(names="person:eye"))


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box with others."""
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    shared = sides.prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared)


def test_an_image_smaller_than_a_tile_is_taken_whole(predictor: Predictor, photo_array: np.ndarray) -> None:
    assert predictor.read(photo_array, slices=200).tiling is None
    assert predictor.read(photo_array, slices=100).tiling is not None
    with pytest.raises(ValueError, match="slices"):
        predictor.predict(photo_array, "car", slices=10)
