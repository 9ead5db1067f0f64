"""Image, boxes and masks move together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from vlpart.data.colours import jitter_colors
from vlpart.data.indexing import load_source
from vlpart.data.source import LoadedSource, Source
from vlpart.data.transforms import (
    Geometry,
    apply_geometry,
    augment,
    cut_window,
    paste,
    rasterise,
    resized,
    sample_geometry,
    transform_targets,
)
from vlpart.masks.rasterise import parse_segmentation
from vlpart.types import Sample

from .conftest import MakeDataset, gradient, rectangle


def load(
    make_dataset: MakeDataset, segmentation: Any, bbox: list[float], category: int = 3, **options: Any
) -> LoadedSource:
    annotation = {"category_id": category, "bbox": bbox, "segmentation": segmentation}
    if segmentation is None:
        del annotation["segmentation"]
    data = make_dataset([{"size": (40, 60), "annotations": [annotation]}], name=options.pop("name", "made"))
    return load_source(Source(**data, **options))


def rle(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    bitmap = np.zeros(size, dtype=np.uint8)
    bitmap[y0:y1, x0:x1] = 1
    code = coco_mask.encode(np.asfortranarray(bitmap))
    return {"size": list(size), "counts": code["counts"].decode()}


def geometry(window: tuple[int, int, int, int], size: tuple[int, int], mirrored: bool = False) -> Geometry:
    return Geometry(window=window, size=size, mirrored=mirrored)


@pytest.mark.parametrize("segmentation", [rectangle(10, 8, 30, 20), rle(10, 8, 30, 20)])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (geometry((0, 0, 60, 40), (40, 60)), (10, 8, 30, 20)),
        (geometry((0, 0, 60, 40), (40, 60), True), (30, 8, 50, 20)),
        (geometry((0, 0, 60, 40), (80, 120)), (20, 16, 60, 40)),
        (geometry((0, 0, 60, 40), (20, 30)), (5, 4, 15, 10)),
        (geometry((4, 2, 34, 22), (40, 60)), (12, 12, 52, 36)),
        (geometry((4, 2, 34, 22), (40, 60), True), (8, 12, 48, 36)),
        (geometry((20, 0, 50, 20), (20, 30)), (0, 8, 10, 20)),
    ],
)
def test_boxes_and_masks_by_hand(
    make_dataset: MakeDataset, segmentation: Any, where: Geometry, expected: tuple[int, int, int, int]
) -> None:
    loaded = load(make_dataset, segmentation, [10, 8, 20, 12])
    targets = transform_targets(loaded, loaded.store[0], where)
    x0, y0, x1, y1 = expected
    assert targets.boxes_xyxy.tolist() == [list(map(float, expected))]
    assert targets.masks is not None
    assert targets.masks.dtype == torch.bool
    mask = torch.zeros(where.size, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    assert torch.equal(targets.masks[0], mask)
    loaded = load_source(Source(**{**vars(loaded.source), "masks": False}))
    assert transform_targets(loaded, loaded.store[0], where).boxes_xyxy.tolist() == [list(map(float, expected))]


def resize_window(image: np.ndarray, where: Geometry, stored_size: tuple[int, int]) -> torch.Tensor:
    return resized(cut_window(image, where, stored_size), where)


def test_a_mirrored_image_is_the_flip_of_the_plain_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    plain = resize_window(image, geometry((3, 5, 33, 25), (31, 47)), (40, 60))
    mirrored = resize_window(image, geometry((3, 5, 33, 25), (31, 47), True), (40, 60))
    assert torch.equal(plain.flip(2), mirrored)


@pytest.mark.parametrize("size", [(31, 47), (15, 22), (97, 130)])
def test_fast_resize_is_within_one_level_of_pillow(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    fast = resize_window(image, geometry((0, 0, 60, 40), size), (40, 60)).permute(1, 2, 0).numpy()
    pillow = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    assert np.abs(fast.astype(int) - pillow.astype(int)).max() <= 1


def test_image_content_follows_the_window(make_dataset: MakeDataset) -> None:
    """Red grows to the right and green downwards: their mean under the mask tells where the pixels came from."""
    loaded = load(make_dataset, rectangle(12, 10, 28, 30), [12, 10, 16, 20])
    record = loaded.store[0]
    image = gradient(40, 60)
    expected = image[10:30, 12:28].reshape(-1, 3).mean(axis=0)
    for where in (
        geometry((0, 0, 60, 40), (100, 150)),
        geometry((0, 0, 60, 40), (100, 150), True),
        geometry((5, 3, 45, 35), (64, 80), True),
    ):
        mask = transform_targets(loaded, record, where).masks
        assert mask is not None
        pixels = resize_window(image, where, (40, 60)).permute(1, 2, 0)[mask[0]].float().mean(dim=0)
        assert np.allclose(pixels.numpy(), expected, atol=2.5), where


def test_a_draft_gives_the_same_place(make_dataset: MakeDataset) -> None:
    image = gradient(80, 120)
    half = np.array(Image.fromarray(image).resize((60, 40), Image.Resampling.BOX))
    where = geometry((20, 10, 100, 70), (30, 40), True)
    full, draft = (resize_window(array, where, (80, 120)).float() for array in (image, half))
    assert (full - draft).abs().max() < 4


def test_polygon_and_run_lengths_agree(make_dataset: MakeDataset) -> None:
    """A disc, once as polygon and once as run lengths, under random geometries."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    points = np.stack([31 + 15 * np.cos(angle), 19 + 12 * np.sin(angle)], axis=1)
    flat = points.ravel().tolist()
    polygon = parse_segmentation([flat], 40, 60)
    code = coco_mask.frPyObjects([flat], 40, 60)[0]
    counts = parse_segmentation({"size": [40, 60], "counts": code["counts"]}, 40, 60)
    assert polygon is not None
    assert counts is not None
    source = Source(name="x", annotations="a", images="b", short_sides=(30, 90), scale_jitter=(0.5, 2.0))
    for seed in range(30):
        where = sample_geometry(source, 40, 60, np.random.default_rng(seed))
        masks = np.zeros((2, *where.size), dtype=bool)
        for mask, segmentation in zip(masks, (polygon, counts), strict=True):
            x0, y0, bitmap = rasterise(segmentation, where, (40, 60))
            paste(mask, x0, y0, bitmap, 1)
        assert masks[0].any()
        assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.93, seed


def test_annotations_mostly_cut_off_are_dropped(make_dataset: MakeDataset) -> None:
    for segmentation in (rectangle(10, 8, 30, 20), None):
        loaded = load(make_dataset, segmentation, [10, 8, 20, 12], name=f"cut-{segmentation is None}")
        for left, kept in ((22, True), (25, False), (35, False)):
            targets = transform_targets(loaded, loaded.store[0], geometry((left, 0, 60, 40), (40, 60 - left)))
            assert len(targets.labels) == kept
            assert targets.boxes_xyxy.shape == (kept, 4)
            assert targets.masks is None or targets.masks.shape == (kept, 40, 60 - left)


def test_masks_that_vanish_are_dropped(make_dataset: MakeDataset) -> None:
    loaded = load(make_dataset, rle(10, 8, 11, 9), [10, 8, 1, 1])
    targets = transform_targets(loaded, loaded.store[0], geometry((0, 0, 60, 40), (10, 15)))
    assert targets.boxes_xyxy.shape == (0, 4)
    assert targets.masks is not None
    assert targets.masks.shape == (0, 10, 15)


def test_boxes_can_be_kept_as_annotated(make_dataset: MakeDataset) -> None:
    loaded = load(make_dataset, rectangle(10, 8, 30, 20), [9.5, 7.5, 21, 13], boxes_from_masks=False)
    targets = transform_targets(loaded, loaded.store[0], geometry((0, 0, 60, 40), (80, 120), True))
    assert targets.boxes_xyxy.tolist() == [[59, 15, 101, 41]]


def test_left_and_right(make_dataset: MakeDataset) -> None:
    mirrored, plain = geometry((0, 0, 60, 40), (40, 60), True), geometry((0, 0, 60, 40), (40, 60))
    for swaps, expected in ((True, 2), (False, 1)):
        loaded = load(
            make_dataset,
            rectangle(10, 8, 30, 20),
            [10, 8, 20, 12],
            category=5,
            name=f"swap-{swaps}",
            flip_swaps_left_right=swaps,
            unlabelled="unknown",
        )
        targets = transform_targets(loaded, loaded.store[0], mirrored)
        assert targets.labels.tolist() == [expected]
        assert targets.unknown_labels is not None
        assert targets.unknown_labels.nonzero().ravel().tolist() == [expected]
        assert transform_targets(loaded, loaded.store[0], plain).labels.tolist() == [1]


def test_objects_whose_inside_is_unknown(make_dataset: MakeDataset) -> None:
    part, whole = ({"category_id": i, "bbox": [10, 8, 20, 12]} for i in (5, 3))
    gone = {"category_id": 3, "bbox": [50, 8, 5, 5]}
    data = make_dataset([{"size": (40, 60), "annotations": [part, gone, whole]}])
    inner = geometry((0, 0, 40, 40), (40, 40))
    open_ended = load_source(Source(**data, inside_objects="unknown"))
    names = [open_ended.vocabulary.names[i] for i in open_ended.store[0].labels]
    flags = transform_targets(open_ended, open_ended.store[0], inner).ignore_inside
    assert flags is not None
    assert flags.tolist() == [":" not in names[0], ":" not in names[2]] == [False, True]
    plain = load_source(Source(**data))
    assert transform_targets(plain, plain.store[0], inner).ignore_inside is None


def test_annotations_with_a_score_are_known_as_such(make_dataset: MakeDataset) -> None:
    drawn, gone, parsed = ({"category_id": 3, "bbox": [x, 8, 5, 5]} for x in (4, 50, 10))
    data = make_dataset([{"size": (40, 60), "annotations": [drawn, gone | {"score": 0.7}, parsed | {"score": 0.0}]}])
    inner = geometry((0, 0, 40, 40), (40, 40))
    pseudo = load_source(Source(**data, scored_annotations="pseudo"))
    assert Source(**data, scored_annotations="inexact") == Source(
        **data, scored_annotations="pseudo"
    )  # its former name
    assert pseudo.store[0].scored.tolist() == [False, True, True]
    flags = transform_targets(pseudo, pseudo.store[0], inner).pseudo_labels
    assert flags is not None
    assert flags.tolist() == [False, True]
    plain = load_source(Source(**data))
    assert transform_targets(plain, plain.store[0], inner).pseudo_labels is None


def test_sizes_that_are_drawn() -> None:
    common = {"name": "x", "annotations": "a", "images": "b"}
    choice = Source(**common, short_sides=(30, 50), max_side=1000)
    span = Source(**common, short_sides=(30, 50), max_side=1000, short_side_sampling="range")
    bounded = Source(**common, short_sides=(50,), max_side=60)
    jittered = Source(**common, short_sides=(40,), scale_jitter=(0.5, 2.0))
    drawn: dict[str, set[tuple[int, int]]] = {"choice": set(), "span": set(), "bounded": set(), "jittered": set()}
    flips = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        drawn["choice"].add(sample_geometry(choice, 40, 60, rng).size)
        where = sample_geometry(span, 40, 60, rng)
        drawn["span"].add(where.size)
        flips += where.mirrored
        drawn["bounded"].add(sample_geometry(bounded, 40, 60, rng).size)
        where = sample_geometry(jittered, 40, 60, rng)
        drawn["jittered"].add(where.size)
        x0, y0, x1, y1 = where.window
        assert 0 <= x0 < x1 <= 60
        assert 0 <= y0 < y1 <= 40
        if where.size != (40, 60):
            assert where.window == (0, 0, 60, 40)
        assert np.isclose(*where.scale, rtol=0.1)
    assert drawn["choice"] == {(30, 45), (50, 75)}
    assert {height for height, _ in drawn["span"]} == set(range(30, 51))
    assert drawn["bounded"] == {(40, 60)}
    assert max(drawn["jittered"]) == (40, 60)
    assert min(height for height, _ in drawn["jittered"]) in (20, 21)
    assert 150 < flips < 250


def test_augment_is_a_function_of_the_generator(make_dataset: MakeDataset) -> None:
    loaded = load(
        make_dataset,
        rectangle(10, 8, 30, 20),
        [10, 8, 20, 12],
        short_sides=(30, 50),
        short_side_sampling="range",
        scale_jitter=(0.8, 1.5),
        color_jitter=0.4,
        strong_augmentation=True,
        min_visible=0.0,
    )

    def run(seed: int) -> Sample:
        return augment(loaded, loaded.store[0], gradient(40, 60), np.random.default_rng(seed))

    one, same, other = run(1), run(1), run(2)
    assert one.image.dtype == torch.uint8
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.targets.boxes_xyxy, same.targets.boxes_xyxy)
    assert one.image.shape != other.image.shape or not torch.equal(one.image, other.image)


@pytest.mark.parametrize("sides", [(30, 40), (60, 80), (90, 120)])
def test_colours_are_the_same_before_and_after_a_resize(make_dataset: MakeDataset, sides: tuple[int, int]) -> None:
    """A larger image gets its colours before it is resized, a smaller one after: nobody sees which."""
    loaded = load(make_dataset, rectangle(10, 8, 30, 20), [10, 8, 20, 12], color_jitter=0.4)
    where = geometry((0, 0, 80, 60), sides)
    image = gradient(60, 80)
    record = replace(loaded.store[0], height=60, width=80)
    for seed in range(4):
        sample = apply_geometry(loaded, record, image, where, np.random.default_rng(seed))
        plain = np.ascontiguousarray(resize_window(image, where, (60, 80)).permute(1, 2, 0).numpy())
        expected = np.asarray(jitter_colors(Image.fromarray(plain), 0.4, np.random.default_rng(seed))).astype(int)
        found = sample.image.permute(1, 2, 0).numpy().astype(int)
        assert found.shape == (*sides, 3)
        assert np.abs(found - expected).mean() < 2.5
