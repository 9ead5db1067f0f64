"""The index is a few arrays, and travels to other processes without change."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from vlpart.data.indexing import load_source
from vlpart.data.records import RecordStore, RecordStoreBuilder
from vlpart.data.source import Source


@pytest.fixture
def store(boxed: dict[str, Any]) -> RecordStore:
    return load_source(Source(**boxed)).store


def assert_equal(a: RecordStore, b: RecordStore) -> None:
    for name, value in vars(a).items():
        if name == "_shared":
            continue
        assert np.array_equal(value, vars(b)[name]), name
        assert isinstance(vars(b)[name], type(value)), name


def test_survives_pickling(store: RecordStore) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert_equal(store, again)
    assert again[3].path == store[3].path


def test_empty_columns_survive_pickling() -> None:
    builder = RecordStoreBuilder("/root", has_masks=False)
    builder.add_image(1, "é.jpg", 3, 4, [])
    store = builder.finish()
    assert_equal(store, pickle.loads(pickle.dumps(store)))
    assert str(store[0].path) == "/root/é.jpg"
    assert store[0].segmentations is None
    assert store.image_class_pairs().shape == (0, 2)


def test_class_pairs(store: RecordStore) -> None:
    pairs = store.image_class_pairs()
    expected = sorted({(i, int(label)) for i in range(len(store)) for label in store[i].labels})
    assert [tuple(pair) for pair in pairs.tolist()] == expected


def test_memory_is_a_few_dozen_bytes_per_annotation() -> None:
    builder = RecordStoreBuilder("images", has_masks=False)
    for image in range(2000):
        for k in range(5):
            builder.add_annotation((1.0, 2.0, 3.0, 4.0), k, None)
        builder.add_image(image, f"{image:012}.jpg", 480, 640, [])
    store = builder.finish()
    assert len(store) == 2000
    assert store.nbytes < 10_000 * 20 + 2000 * 80
    assert store[1999].labels.tolist() == [0, 1, 2, 3, 4]


def test_masks_are_required_where_the_store_has_them() -> None:
    with pytest.raises(ValueError, match="segmentation"):
        RecordStoreBuilder("images", has_masks=True).add_annotation((0, 0, 1, 1), 0, None)
