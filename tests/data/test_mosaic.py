"""Images side by side: pixels, boxes, masks and what is unknown stay together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vlpart.data.indexing import load_source
from vlpart.data.loader import DrawDataset
from vlpart.data.mosaic import mosaic, sample_tiles, tile_geometry
from vlpart.data.records import Record
from vlpart.data.sampling import Draw
from vlpart.data.source import LoadedSource, Source
from vlpart.errors import DataError
from vlpart.types import AnnotationKind, Sample

from .conftest import MakeDataset, rectangle

SIZE = (40, 60)
COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> dict[str, Any]:
    """Three images; in number k (from 0) one car of 20 x 12 pixels that is the same place for all."""
    annotation = {"category_id": 3, "bbox": [20, 14, 20, 12], "segmentation": rectangle(20, 14, 40, 26)}
    return make_dataset([{"size": SIZE, "annotations": [annotation]} for _ in COLORS])


def load(dataset: dict[str, Any], **options: Any) -> LoadedSource:
    sides = {"short_sides": (80, 80), "short_side_sampling": "range", "max_side": 400}
    return load_source(Source(**dataset, **{**sides, **options}))


def painted(record: Record) -> NDArray[np.uint8]:
    """A dark image of its own colour whose car is white."""
    image = np.empty((*SIZE, 3), dtype=np.uint8)
    image[:] = COLORS[record.image_id - 1]
    image[14:26, 20:40] = 255
    return image


def run(loaded: LoadedSource, seed: int) -> Sample:
    return mosaic(loaded, 0, painted, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (40, 40), (1, 9), (2, 2), (1, 1)])
def test_tiles_cover_the_image_once(size: tuple[int, int]) -> None:
    counts = set()
    for seed in range(40):
        tiles = sample_tiles(size, np.random.default_rng(seed))
        covered = np.zeros(size, dtype=int)
        for y0, x0, y1, x1 in tiles:
            assert y1 > y0 and x1 > x0
            covered[y0:y1, x0:x1] += 1
        assert (covered == 1).all()
        counts.add(len(tiles))
    assert counts == ({1, 2, 4} & {2, 4} if min(size) > 1 else ({1} if size == (1, 1) else {2}))


def test_the_window_has_the_ratio_of_the_tile(dataset: dict[str, Any]) -> None:
    record = load(dataset).store[0]
    for tile in ((0, 0, 40, 60), (0, 0, 40, 20), (0, 0, 10, 60), (5, 7, 25, 47)):
        geometry = tile_geometry(0.0, record, tile, np.random.default_rng(0))
        x0, y0, x1, y1 = geometry.window
        assert 0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40
        assert geometry.size == (tile[2] - tile[0], tile[3] - tile[1])
        assert x1 - x0 == 60 or y1 - y0 == 40  # nothing is smaller than it has to be
        sx, sy = geometry.scale
        assert sx == pytest.approx(sy, rel=0.06)


def test_boxes_and_masks_are_where_their_pixels_are(dataset: dict[str, Any]) -> None:
    loaded = load(dataset)
    sizes = set()
    for seed in range(12):
        sample = run(loaded, seed)
        targets = sample.targets
        assert sample.image.shape == (3, 80, 120)
        assert sample.image_id == 1 and sample.source == "made"
        assert targets.masks is not None and targets.masks.shape == (len(targets.labels), 80, 120)
        white = (sample.image > 150).all(dim=0)
        together = targets.masks.any(dim=0)
        # edges are interpolated, so a pixel beside an edge may differ
        assert (white ^ together).sum() <= 0.15 * together.sum()
        for box, mask in zip(targets.boxes_xyxy, targets.masks, strict=True):
            ys, xs = torch.nonzero(mask, as_tuple=True)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        sizes.add(len(targets.labels))
    assert sizes >= {2, 4}


def test_unknown_in_one_is_unknown_in_the_whole(make_dataset: MakeDataset) -> None:
    car = {"category_id": 3, "bbox": [20, 14, 20, 12], "segmentation": rectangle(20, 14, 40, 26)}
    images = [
        {"size": SIZE, "annotations": [car], "not_exhaustive_category_ids": [3], "neg_category_ids": []},
        {"size": SIZE, "annotations": [car], "not_exhaustive_category_ids": [3, 8], "neg_category_ids": []},
    ]
    loaded = load(make_dataset(images), unlabelled="unknown")
    alone = [torch.zeros(len(loaded.vocabulary), dtype=torch.bool) for _ in range(2)]
    for mask, record in zip(alone, (loaded.store[0], loaded.store[1]), strict=True):
        mask[torch.from_numpy(record.unknown_labels)] = True
    assert not torch.equal(alone[0], alone[1])
    seen = set()
    for seed in range(20):
        unknown = mosaic(loaded, 0, lambda record: np.zeros((*SIZE, 3), np.uint8), np.random.default_rng(seed))
        assert unknown.targets.unknown_labels is not None
        which = tuple(unknown.targets.unknown_labels.tolist())
        assert which in {tuple(alone[0].tolist()), tuple((alone[0] | alone[1]).tolist())}
        seen.add(which)
    assert len(seen) == 2


def test_the_loader_draws_them_as_often_as_asked(dataset: dict[str, Any]) -> None:
    with_mosaics = DrawDataset([load(dataset, mosaic=0.5, flip=0.0)], seed=3)
    cars = [len(with_mosaics[Draw(index, 0, 0)].targets.labels) for index in range(60)]
    assert 15 <= sum(count > 1 for count in cars) <= 45
    again = DrawDataset([load(dataset, mosaic=0.5, flip=0.0)], seed=3)
    assert torch.equal(with_mosaics[Draw(7, 0, 0)].image, again[Draw(7, 0, 0)].image)


def test_without_mosaics_nothing_else_is_drawn(dataset: dict[str, Any]) -> None:
    plain = DrawDataset([load(dataset)], seed=3)[Draw(5, 0, 1)]
    assert len(plain.targets.labels) <= 1


def test_image_labels_have_no_mosaics(dataset: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a mosaic needs boxes"):
        load(dataset, mosaic=0.2, kind=AnnotationKind.IMAGE_LABELS)
    with pytest.raises(DataError, match="mosaic"):
        load(dataset, mosaic=1.2)
