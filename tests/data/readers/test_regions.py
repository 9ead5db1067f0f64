"""Masks verified in blocks read as masks that are looked at one by one: the same regions, and the same errors."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vlpart.data.readers import regions
from vlpart.data.readers.coco import read_header
from vlpart.data.readers.regions import read_regions
from vlpart.errors import DataError
from vlpart.evaluation.truth import check_form

SIZE = (30, 40)


def made_up(images=5, each=4):
    """A file of random masks, one of them empty."""
    rng = np.random.default_rng(0)
    annotations = []
    for image in range(1, images + 1):
        for _ in range(each):
            bitmap = np.zeros(SIZE, dtype=np.uint8)
            y, x = (int(rng.integers(0, side - 8)) for side in SIZE)
            bitmap[y : y + 8, x : x + 8] = rng.random((8, 8)) < 0.7
            if len(annotations) == 6:
                bitmap[:] = 0
            rle = coco_mask.encode(np.asfortranarray(bitmap))
            mask = {"size": list(SIZE), "counts": rle["counts"].decode()}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": 1, "segmentation": mask})
    entries = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(1, images + 1)]
    return {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}


def read(content, problem):
    header = read_header(content, Path("made_up.json"), problem)
    return [e for _, found in read_regions(header.images.values(), header.annotations, header.categories, problem)
            for _, e in found]  # fmt: skip


DAMAGE = {
    "cut off": lambda mask: mask.update(counts=mask["counts"][:-1] + "p"),
    "a character outside of the code": lambda mask: mask.update(counts=mask["counts"] + "\x7f"),
    "not ASCII": lambda mask: mask.update(counts="é" + mask["counts"]),
    "empty": lambda mask: mask.update(counts=""),
    "too few pixels": lambda mask: mask.update(counts="1"),
    "another size": lambda mask: mask.update(size=[SIZE[1], SIZE[0]]),
    "a size that is none": lambda mask: mask.update(size=[True, SIZE[1]]),
    "no counts": lambda mask: mask.pop("counts"),
}


def test_the_entries_are_those_of_single_reading(monkeypatch):
    content = made_up()
    content["annotations"][3]["segmentation"]["counts"] = content["annotations"][3]["segmentation"]["counts"].encode()
    problems: list[str] = []
    together = read(content, lambda *said: problems.append(str(said)))
    assert all(entry.mask_pixels is not None for entry in together)
    areas = [int(coco_mask.area(a["segmentation"])) for a in content["annotations"]]
    assert [entry.mask_pixels for entry in together] == areas
    monkeypatch.setattr(regions, "_verify", lambda entries: {})
    alone = read(content, lambda *said: problems.append(str(said)))
    assert not problems
    for one, other in zip(together, alone, strict=True):
        assert (one.mask, one.box_xyxy, one.unusable) == (other.mask, other.box_xyxy, other.unusable)
    assert together[6].unusable == "empty mask"


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_mask_is_refused_as_in_single_reading(name, monkeypatch):
    content = made_up()
    DAMAGE[name](content["annotations"][9]["segmentation"])

    def outcome():
        problems: list[tuple[str, str]] = []
        entries = read(copy.deepcopy(content), lambda *said: problems.append(said))
        with pytest.raises(DataError) as caught:
            check_form(copy.deepcopy(content), "made_up.json", with_files=True)
        return problems, [entry.id for entry in entries], str(caught.value)

    together = outcome()
    monkeypatch.setattr(regions, "_verify", lambda entries: {})
    assert together == outcome()
    assert len(together[0]) == 1
    assert "annotation 10 of 3.png" in together[2]
    assert together[1] == [i for i in range(1, 21) if i != 10]


def test_one_mask_object_in_images_of_two_sizes():
    content = made_up(images=2, each=1)
    content["images"][1]["width"] = SIZE[1] + 1
    content["annotations"][1]["segmentation"] = content["annotations"][0]["segmentation"]
    problems: list[str] = []
    entries = read(content, lambda kind, text: problems.append(kind))
    assert [entry.id for entry in entries] == [1]
    assert problems == ["mask-size"]


def test_areas_of_ground_truth_without_any():
    content = made_up()
    truth = check_form(content, "made_up.json", with_files=True)
    areas = [float(coco_mask.area(a["segmentation"])) for a in content["annotations"]]
    assert [a["area"] for a in truth["annotations"]] == [area for area in areas if area]
