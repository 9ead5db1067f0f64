"""Batches are the same whatever computes them, resuming is exact, and errors arrive in one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import vlpart
from vlpart.data.indexing import load_source
from vlpart.data.loader import DrawDataset, collate, make_loader, pack
from vlpart.data.preprocess import normalise_and_pad
from vlpart.data.sampling import Draw
from vlpart.data.source import LoadedSource, Source
from vlpart.errors import DataError
from vlpart.types import AnnotationKind, Batch

from .conftest import MakeDataset

AUGMENTATION: dict[str, Any] = {
    "short_sides": (30, 60),
    "short_side_sampling": "range",
    "max_side": 90,
    "scale_jitter": (0.7, 1.4),
    "color_jitter": 0.2,
}
INCOMPLETE: dict[str, Any] = {
    "unlabelled": "unknown",
    "inside_objects": "unknown",
    "scored_annotations": "pseudo",
}


@pytest.fixture
def sources(boxed: dict[str, Any], make_dataset: MakeDataset) -> list[LoadedSource]:
    labels = make_dataset([{"size": (20, 30), "pos_category_ids": [8, 3]}] * 3, name="labels")
    return [
        load_source(Source(**boxed, **AUGMENTATION, batch_size=3, **INCOMPLETE)),
        load_source(Source(**labels, **AUGMENTATION, batch_size=2, kind=AnnotationKind.IMAGE_LABELS)),
    ]


def assert_same(a: Batch, b: Batch) -> None:
    assert (a.source, a.kind, a.image_ids, a.paths) == (b.source, b.kind, b.image_ids, b.paths)
    assert list(a.images.sizes_hw) == list(b.images.sizes_hw)
    assert torch.equal(a.images.pixels, b.images.pixels)
    for one, other in zip(a.targets, b.targets, strict=True):
        for name, value in vars(one).items():
            against = getattr(other, name)
            assert (value is None) == (against is None), name
            assert value is None or torch.equal(value, against), name


def test_batches_are_well_formed(sources: list[LoadedSource]) -> None:
    kinds = set()
    for batch in islice(make_loader(sources, seed=2, workers=0), 20):
        kinds.add(batch.kind)
        loaded = next(s for s in sources if s.name == batch.source)
        assert batch.kind is loaded.source.kind
        assert len(batch.targets) == len(batch.image_ids) == len(batch.paths) == loaded.source.batch_size
        height, width = batch.images.pixels.shape[2:]
        assert height % 32 == width % 32 == 0
        for targets, (h, w) in zip(batch.targets, batch.images.sizes_hw, strict=True):
            assert h <= height
            assert w <= width
            count = len(targets.labels)
            assert targets.boxes_xyxy.shape == (count, 4)
            if batch.kind is AnnotationKind.IMAGE_LABELS:
                assert count == 0
                assert targets.image_labels.tolist() == [0, 3]
                assert targets.masks is None
                assert targets.unknown_labels is None
                continue
            assert targets.masks is not None
            assert targets.masks.shape == (count, h, w)
            assert targets.unknown_labels is not None
            assert targets.unknown_labels.shape == (4,)
            assert targets.unknown_labels[targets.labels].all()
            assert (targets.boxes_xyxy[:, 2:] > targets.boxes_xyxy[:, :2]).all()
            assert (targets.boxes_xyxy[:, 2] <= w).all()
            assert (targets.boxes_xyxy[:, 3] <= h).all()
    assert kinds == {AnnotationKind.BOXES, AnnotationKind.IMAGE_LABELS}


def test_packing_loses_nothing(sources: list[LoadedSource]) -> None:
    dataset = DrawDataset(sources, seed=2)
    samples = [dataset[Draw(index, 0, index)] for index in range(3)]
    batch = collate([pack(sample) for sample in samples], AnnotationKind.BOXES, divisor=1)
    assert torch.equal(batch.images.pixels, normalise_and_pad([sample.image for sample in samples], 1).pixels)
    for sample, targets in zip(samples, batch.targets, strict=True):
        for name, value in vars(sample.targets).items():
            arrived = getattr(targets, name)
            if name == "only_at_matches":  # not of the image, joins in training
                assert value is arrived is None
            else:
                assert torch.equal(value, arrived), name


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(sources: list[LoadedSource], workers: int) -> None:
    straight = list(islice(make_loader(sources, seed=2, workers=0), 12))
    loader = make_loader(sources, seed=2, workers=workers)
    assert loader.state_dict()["batches"] == 0
    for batch, expected in zip(islice(loader, 5), straight[:5], strict=True):
        assert_same(batch, expected)
    state = json.loads(json.dumps(loader.state_dict()))
    assert state["batches"] == 5
    resumed = make_loader(sources, seed=2, workers=workers)
    resumed.load_state_dict(state)
    for batch, expected in zip(islice(resumed, 7), straight[5:], strict=True):
        assert_same(batch, expected)
    for batch, expected in zip(islice(loader, 3), straight[5:8], strict=True):  # a second iter() goes on
        assert_same(batch, expected)


def test_spawned_workers(boxed: dict[str, Any]) -> None:
    """The index reaches a process that shares nothing by birth. About five seconds: the worker imports torch."""
    sources = [load_source(Source(**boxed, short_sides=(30, 60)))]
    loader = make_loader(sources, seed=2, workers=1, start_method="spawn")
    for batch, expected in zip(islice(loader, 2), islice(make_loader(sources, seed=2, workers=0), 2), strict=True):
        assert_same(batch, expected)


def test_a_killed_worker_is_an_error_not_a_hang(sources: list[LoadedSource]) -> None:
    batches = iter(make_loader(sources, seed=2, workers=1))
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(DataError, match="a data worker was killed"):
        for _ in range(10):
            next(batches)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")
def test_workers_end_with_a_killed_parent(boxed: dict[str, Any], tmp_path: Path) -> None:
    """Five seconds: another Python imports torch. A batch is larger than a pipe: the worker is stuck in writing."""
    program = f"""
import multiprocessing, os, signal, time
from vlpart.data.loader import make_loader
from vlpart.data.source import Source
from vlpart.data.indexing import load_source
annotations, images = {str(boxed["annotations"])!r}, {str(boxed["images"])!r}
source = Source(name="boxed", annotations=annotations, images=images, short_sides=(300,))
batches = iter(make_loader([load_source(source)], seed=0, workers=1))
next(batches)
time.sleep(0.5)
print(multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(vlpart.__file__).parent.parent)}
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, env=environment, check=False, timeout=120)
    worker = Path("/proc", (tmp_path / "out").read_text().strip())
    assert worker.name.isdigit()
    deadline = time.monotonic() + 10
    while worker.is_dir() and "(zombie)" not in (worker / "status").read_text():
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.1)


def test_workers_end_with_the_iterator(sources: list[LoadedSource]) -> None:
    batches = iter(make_loader(sources, seed=2, workers=2))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert not multiprocessing.active_children()


def test_the_random_state_of_training_is_left_alone(sources: list[LoadedSource]) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for workers in (0, 1):
        next(iter(make_loader(sources, seed=2, workers=workers)))
        assert torch.equal(torch.get_rng_state(), before)


def test_ranks_get_different_images(sources: list[LoadedSource]) -> None:
    first, second = (
        list(islice(make_loader(sources, seed=2, workers=0, rank=rank, world_size=2), 4)) for rank in range(2)
    )
    shapes = [[b.images.pixels.sum().item() for b in batches] for batches in (first, second)]
    assert shapes[0] != shapes[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_line(sources: list[LoadedSource], workers: int) -> None:
    for path in Path(sources[0].store.root).iterdir():
        path.write_text("no image")
    with pytest.raises(DataError, match=r"cannot decode .*\.png") as caught:
        list(islice(make_loader(sources[:1], seed=2, workers=workers), 3))
    assert "\n" not in str(caught.value)


def test_impossible_arguments(sources: list[LoadedSource]) -> None:
    for wrong in ({"workers": -1}, {"prefetch": 0}, {"divisor": 0}):
        with pytest.raises(DataError, match="workers must be"):
            make_loader(sources, seed=0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="version None"):
        make_loader(sources, seed=0).load_state_dict({})


@pytest.mark.parametrize("name", ["car_parts", "faces", "ade_parts", "coco128"])
def test_real_data(shared: Path, name: str) -> None:
    folder = shared / "data" / name
    source = Source(
        name=name, annotations=folder / "train.json", images=folder / "images", **{**AUGMENTATION, "max_side": 512}
    )
    for batch in islice(make_loader([load_source(source)], seed=0, workers=0), 3):
        for targets in batch.targets:
            assert targets.masks is not None
            assert targets.masks.flatten(1).any(dim=1).all()
            for mask, box in zip(targets.masks, targets.boxes_xyxy.long().tolist(), strict=True):
                rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
                assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_real_image_labels(shared: Path) -> None:
    folder = shared / "data" / "imagenet_samples"
    loaded = load_source(
        Source(
            name="labels",
            annotations=folder / "image_labels.json",
            images=folder / "images",
            kind=AnnotationKind.IMAGE_LABELS,
            short_sides=(100,),
            batch_size=4,
        )
    )
    assert (len(loaded), len(loaded.vocabulary)) == (1000, 997)
    batch = next(iter(make_loader([loaded], seed=0, workers=0)))
    assert [len(targets.image_labels) for targets in batch.targets] == [1, 1, 1, 1]
