"""The page of a data check: which images, and what is drawn on them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlpart.data.check.run import check
from vlpart.text.vocabulary import Vocabulary
from vlpart.visualize.data_page import choose_samples, to_result, write_page

CATEGORIES = [{"id": 4, "name": "car"}, {"id": 9, "name": "car:wheel"}, {"id": 11, "name": "<b>dog</b>"}]
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def write_set(folder: Path, classes: list[list[int]], size: tuple[int, int] = (40, 60), **changes: Any) -> Path:
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, ids in enumerate(classes, start=1):
        name = f"{number}.png"
        Image.new("RGB", (size[1], size[0]), (90, 90, 90)).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1], **changes})
        for category_id in ids:
            box = {"bbox": [10, 10, 20, 20], "segmentation": SQUARE}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category_id, **box})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def images(page: Path) -> list[Image.Image]:
    codes = re.findall(r'data:image/jpeg;base64,([^"]+)"', page.read_text())
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in codes]


def test_rare_classes_come_first_and_every_class_is_shown(tmp_path: Path) -> None:
    report = check(write_set(tmp_path / "set", [[4], [4], [4, 9], [4], [11], [4, 9]]))
    split = report.splits[0]
    assert choose_samples(split, 2) == [5, 3]
    assert set(choose_samples(split, 4)) >= {3, 5, 6}
    assert sorted(choose_samples(split, 99)) == [1, 2, 3, 4, 5, 6]
    assert choose_samples(split, 3) == choose_samples(split, 3)


def test_the_page_holds_the_images_with_their_masks(tmp_path: Path) -> None:
    report = check(write_set(tmp_path / "set", [[4, 9], [11]]))
    page = write_page(report, tmp_path / "new" / "page.html")
    drawn = images(page)
    assert len(drawn) == 2
    pixels = np.asarray(drawn[0].resize((60, 40)).convert("RGB")).astype(int)
    assert np.ptp(pixels[20, 20]) > 20  # the mask has a colour
    assert np.ptp(pixels[35, 5]) < 10  # away from it the image is grey
    text = page.read_text()
    assert "&lt;b&gt;dog&lt;/b&gt;" in text
    assert "<b>dog</b>" not in text
    assert "http" not in text


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    report = check(write_set(tmp_path / "set", [[4]], size=(1200, 1800)))
    (drawn,) = images(write_page(report, tmp_path / "page.html"))
    assert drawn.size == (900, 600)


def test_findings_are_on_the_page_and_broken_images_are_passed_over(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [[4], [9]])
    (folder / "images" / "1.png").write_bytes(b"broken")
    page = write_page(check(folder), tmp_path / "page.html")
    assert "damaged, cut off" in page.read_text()
    assert len(images(page)) == 1


def test_image_labels_and_sets_without_images(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [[]], pos_category_ids=[9])
    page = write_page(check(folder), tmp_path / "page.html")
    assert "labels: car:wheel" in page.read_text()
    (folder / "images" / "1.png").unlink()
    assert "No image could be drawn" in write_page(check(folder), tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [(SQUARE, 400), ({"size": [40, 60], "counts": [0, 3, 2397]}, 3), (None, 400)],
)
def test_a_result_of_annotations(segmentation: Any, area: int) -> None:
    entries = [
        {"category_id": 9, "bbox": [10, 10, 20, 20], "segmentation": segmentation},
        {"category_id": 4, "bbox": [10, 10, 20, 20], "segmentation": SQUARE},
        {"category_id": 4, "bbox": "x", "segmentation": SQUARE},
        {"category_id": 4, "bbox": [1, 1, 2, 2], "segmentation": {"size": [9, 9], "counts": "a"}},
        {"category_id": 4, "bbox": [1, 1, 2, 2], "segmentation": [[1, 2, 3, 4, float("nan"), 5]]},
    ]
    result, left_out = to_result(entries, (40, 60), Vocabulary.from_categories(CATEGORIES))
    assert left_out == 3
    assert result.names == ["car:wheel", "car"]
    assert result.masks is not None
    assert result.masks.areas().tolist() == [area, 400]


def test_a_box_is_made_from_its_mask_and_cut_to_the_image() -> None:
    vocabulary = Vocabulary.from_categories(CATEGORIES)
    entries = [{"category_id": 4, "segmentation": SQUARE}, {"category_id": 4, "bbox": [50, 30, 90, 90]}]
    result, left_out = to_result(entries, (40, 60), vocabulary)
    assert left_out == 0
    assert result.boxes_xyxy.tolist() == [[10, 10, 30, 30], [50, 30, 60, 40]]
