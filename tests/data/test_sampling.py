"""Weights as specified, the same draws for a seed, disjoint ranks, batches of one source and orientation."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest

from vlpart.data.indexing import load_source
from vlpart.data.sampling import (
    BatchSampler,
    Draw,
    DrawStream,
    EpochStream,
    augmentation_generator,
    image_weights,
    repeat_factors,
)
from vlpart.data.source import LoadedSource, Source
from vlpart.errors import DataError

from .conftest import MakeDataset


@pytest.fixture
def two(boxed: dict[str, Any], make_dataset: MakeDataset) -> list[LoadedSource]:
    box = [{"category_id": 3, "bbox": [1, 1, 4, 4]}]
    other = make_dataset([{"size": (20, 30), "annotations": box}] * 3, name="other")
    return [load_source(Source(**boxed, ratio=1, batch_size=3)), load_source(Source(**other, ratio=3, batch_size=2))]


def test_weights_balance_sources_by_ratio(two: list[LoadedSource]) -> None:
    first, second = image_weights(two)
    assert np.allclose(first, 11 / 11 * 1 / 4)
    assert np.allclose(second, 11 / 3 * 3 / 4)
    assert np.isclose(second.sum() / first.sum(), 3)


def test_repeat_factors_by_hand(make_dataset: MakeDataset) -> None:
    def boxes(*ids: int) -> list[dict[str, Any]]:
        return [{"category_id": i, "bbox": [1, 1, 4, 4]} for i in ids]

    # car in 4 of 4 images, dog in 1 of 4 (twice in one image counts once)
    images = [{"size": (9, 9), "annotations": boxes(*ids)} for ids in ((3,), (3, 3), (3,), (3, 8, 8))]
    data = make_dataset(images)
    store = load_source(Source(**data)).store
    raw = np.array([1.0, 1.0, 1.0, np.sqrt(0.36 / 0.25)])
    assert np.allclose(repeat_factors(store, 4, 0.36), raw)
    assert np.allclose(repeat_factors(store, 4, 0.1), 1)
    (weights,) = image_weights([load_source(Source(**data, repeat_threshold=0.36))])
    assert np.allclose(weights, raw * 4 / raw.sum())


def test_draws_follow_the_weights_and_the_seed() -> None:
    stream = DrawStream([np.array([1.0, 3.0]), np.array([4.0, 0.0])], seed=5)
    draws = [stream[i] for i in range(20_000)]
    counts = Counter((draw.source, draw.image) for draw in draws)
    assert counts[(1, 1)] == 0
    assert abs(counts[(0, 0)] / 20_000 - 1 / 8) < 0.01
    assert abs(counts[(0, 1)] / 20_000 - 3 / 8) < 0.015
    again = DrawStream([np.array([1.0, 3.0]), np.array([4.0, 0.0])], seed=5)
    assert [again[i] for i in (19_999, 3, 5000)] == [draws[i] for i in (19_999, 3, 5000)]
    other = DrawStream([np.array([1.0, 3.0]), np.array([4.0, 0.0])], seed=6)
    assert [other[i] for i in range(50)] != draws[:50]


def test_an_epoch_has_every_image_once_before_any_comes_again() -> None:
    stream = EpochStream(np.ones(7), seed=3)
    drawn = [stream[i].image for i in range(21)]
    epochs = [drawn[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = EpochStream(np.ones(7), seed=3)
    assert [again[i].image for i in (20, 0, 9)] == [drawn[i] for i in (20, 0, 9)]
    assert [EpochStream(np.ones(7), seed=4)[i].image for i in range(7)] != epochs[0]


def test_repeat_factors_of_epochs_are_rounded_at_random() -> None:
    """Image 1 comes two or three times, 2.25 on average; the standard error over 4,000 epochs is 0.007."""
    stream = EpochStream(np.array([1.0, 2.25]), seed=0)
    counts = [np.bincount(stream.epoch(number), minlength=2) for number in range(4000)]
    assert {tuple(count) for count in counts} == {(1, 2), (1, 3)}
    assert abs(np.mean([count[1] for count in counts]) - 2.25) < 0.03


def test_ranks_share_out_an_epoch_and_resume(make_dataset: MakeDataset) -> None:
    annotations = [{"category_id": 3, "bbox": [1, 1, 4, 4]}]
    data = make_dataset([{"size": (9, 9), "annotations": annotations} for _ in range(8)])
    source = load_source(Source(**data, batch_size=2))
    ranks = [BatchSampler([source], seed=1, sampling="epochs", rank=rank, world_size=2) for rank in (0, 1)]
    first = [draw.image for _ in range(2) for rank in ranks for draw in rank.next_batch()]
    assert sorted(first) == list(range(8))
    state = ranks[0].state_dict()
    resumed = BatchSampler([source], seed=1, sampling="epochs", rank=0, world_size=2)
    resumed.load_state_dict(state)
    assert [resumed.next_batch() for _ in range(5)] == [ranks[0].next_batch() for _ in range(5)]
    with pytest.raises(DataError, match="sampling was 'epochs' and is 'weighted'"):
        BatchSampler([source], seed=1, rank=0, world_size=2).load_state_dict(state)


def test_augmentation_randomness_depends_on_seed_and_draw() -> None:
    values = {augmentation_generator(seed, index).random() for seed in (0, 1) for index in (0, 1, 2**40)}
    assert len(values) == 6
    assert augmentation_generator(1, 7).random() == augmentation_generator(1, 7).random()


def test_a_batch_has_one_source_and_one_orientation(two: list[LoadedSource]) -> None:
    for draws in islice(BatchSampler(two, seed=1), 200):
        assert len({draw.source for draw in draws}) == 1
        loaded = two[draws[0].source]
        assert len(draws) == loaded.source.batch_size
        assert len({loaded.store.heights[d.image] >= loaded.store.widths[d.image] for d in draws}) == 1


def test_every_draw_is_used_once(two: list[LoadedSource]) -> None:
    sampler = BatchSampler(two, seed=1)
    used = [draw.index for draws in islice(sampler, 300) for draw in draws]
    state = sampler.state_dict()
    assert sorted(used + state["waiting"]) == list(range(state["next_draw"]))


def test_ranks_are_disjoint_and_together_complete(two: list[LoadedSource]) -> None:
    used: list[int] = []
    ends = []
    for rank in range(3):
        sampler = BatchSampler(two, seed=1, rank=rank, world_size=3)
        mine = [draw.index for draws in islice(sampler, 60) for draw in draws]
        assert {index % 3 for index in mine} == {rank}
        used += mine + sampler.state_dict()["waiting"]
        ends.append(sampler.state_dict()["next_draw"])
    assert len(used) == len(set(used))
    assert set(range(min(ends))) <= set(used)


def test_same_source_ranks_see_what_one_process_sees(two: list[LoadedSource], boxed: dict[str, Any]) -> None:
    ranks = [BatchSampler(two, seed=1, rank=rank, world_size=2, same_source=True) for rank in range(2)]
    larger = [load_source(Source(**{**vars(s.source), "batch_size": 2 * s.source.batch_size})) for s in two]
    for whole in islice(BatchSampler(larger, seed=1), 40):
        parts = [sampler.next_batch() for sampler in ranks]
        assert len(parts[0]) == len(parts[1])
        assert parts[0] + parts[1] == whole


def test_resume_is_exact(two: list[LoadedSource]) -> None:
    straight = list(islice(BatchSampler(two, seed=3), 50))
    for stop in (0, 1, 17):
        sampler = BatchSampler(two, seed=3)
        for _ in range(stop):
            sampler.next_batch()
        state = json.loads(json.dumps(sampler.state_dict()))
        resumed = BatchSampler(two, seed=3)
        resumed.load_state_dict(state)
        assert list(islice(resumed, 50 - stop)) == straight[stop:]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"rank": 1, "world_size": 2},
        {"same_source": True},
    ],
)
def test_resume_refuses_another_run(two: list[LoadedSource], other: dict[str, Any]) -> None:
    state = BatchSampler(two, seed=3).state_dict()
    with pytest.raises(DataError, match=f"cannot resume the data order: {next(iter(other))}"):
        BatchSampler(two, **{"seed": 3, **other}).load_state_dict(state)
    with pytest.raises(DataError, match="cannot resume the data order: sources"):
        BatchSampler(two[:1], seed=3).load_state_dict(state)


def test_impossible_arguments(two: list[LoadedSource]) -> None:
    with pytest.raises(DataError, match="at least one source"):
        BatchSampler([], seed=0)
    with pytest.raises(DataError, match="unique"):
        BatchSampler([two[0], two[0]], seed=0)
    with pytest.raises(DataError, match="rank 2"):
        BatchSampler(two, seed=0, rank=2, world_size=2)
    with pytest.raises(DataError, match="seed"):
        BatchSampler(two, seed=-1)


def test_draws_are_plain_values() -> None:
    assert Draw(1, 2, 3) == Draw(1, 2, 3)
