"""The embedded model gives the same answers however images are put together, and however many threads there are.

Sums are taken in another order then, so numbers may differ in their last bits, and a detection whose score lies at the
threshold may be there or not. The tolerance is that of docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vlpart
from vlpart.inference.predictor import Predictor, load
from vlpart.results.result import Result

BOX, SCORE, IOU = 0.1, 1e-3, 0.98
"""Pixels, score, and overlap of masks in which two answers may differ."""
SHARE = 0.05
"""Of the detections that may have no counterpart: where two overlap as much as is allowed, or score alike."""
THRESHOLD = 0.05
WORDS = "person: hair, eye, nose, mouth, arm; helmet; flag"


@cache
def tiny() -> Predictor:
    return load("tiny", device="cpu")


@cache
def images() -> tuple[np.ndarray, ...]:
    """The packaged photo of a person, its mirror image, and a piece of it."""
    path = Path(vlpart.__file__).parent / "assets" / "samples" / "astronaut.jpg"
    photo = np.array(Image.open(path).convert("RGB"))
    return photo, photo[:, ::-1].copy(), photo[:300, 100:400].copy()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_alike(one: Result, other: Result) -> None:
    """What is surely over the threshold in one answer is in the other, in the same place."""
    for left, right in ((one, other), (other, one)):
        sure = np.flatnonzero(left.scores > THRESHOLD + SCORE).tolist()
        lost = [i for i in sure if not has_like(right, left, i)]
        assert len(lost) <= SHARE * len(sure), (
            f"{len(lost)} of {len(sure)} have nothing like them, first {left[lost[0]]}"
        )


def has_like(result: Result, other: Result, i: int) -> bool:
    """Whether a result has what detection `i` of another one is."""
    assert result.masks is not None
    assert other.masks is not None
    near = (np.abs(result.boxes_xyxy - other.boxes_xyxy[i]) <= BOX).all(axis=1)
    near &= (np.abs(result.scores - other.scores[i]) <= SCORE) & (result.class_ids == other.class_ids[i])
    mask = other.masks[i]
    return any((mask & each).sum() >= IOU * (mask | each).sum() for each in result.masks[near])


OPTIONS = {"vocabulary": WORDS, "score_threshold": THRESHOLD, "short_side": 320}


@cache
def one_by_one(threads: int) -> tuple[Result, ...]:
    """The answers for every image alone."""
    torch.set_num_threads(threads)
    return tuple(tiny().predict(image, **OPTIONS) for image in images())


def test_a_batch_is_its_images_one_by_one() -> None:
    assert sum(map(len, one_by_one(1))) > 0, "nothing is found that could differ"
    for one, other in zip(one_by_one(1), tiny().predict(list(images()), **OPTIONS), strict=True):
        assert_alike(one, other)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_stream_is_its_images_one_by_one(size: int) -> None:
    answers = list(tiny().stream(iter(images()), batch_size=size, **OPTIONS))
    for one, other in zip(one_by_one(1), answers, strict=True):
        assert_alike(one, other)


def photos(folder: Path) -> Path:
    """The images as files without loss."""
    for i, pixels in enumerate(images()):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_a_bulk_job_is_its_images_one_by_one(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason='pyarrow is missing: pip install "vlpart[ray]"')
    from vlpart.bulk.run import bulk
    from vlpart.bulk.tables import read_results

    (tmp_path / "photos").mkdir()
    asked: dict[str, Any] = {**OPTIONS, "model": "tiny", "device": "cpu", "in_process": True, "batch_size": 2}
    bulk(photos(tmp_path / "photos"), tmp_path / "out", **asked, iou=None, keep_nested=True)
    for one, other in zip(one_by_one(1), read_results(str(tmp_path / "out")), strict=True):
        assert_alike(one, other)


def test_what_a_server_computes_together_is_its_images_one_by_one(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason='needs the extra "serve"')
    pytest.importorskip("httpx", reason="the test client of starlette needs httpx")
    from starlette.testclient import TestClient

    from vlpart.serve.app import create_app
    from vlpart.serve.settings import ServeSettings

    fields = {"vocabulary": WORDS, "threshold": THRESHOLD, "short_side": 320, "iou": 1, "keep_nested": True}
    files = [("images", (path.name, path.read_bytes())) for path in sorted(photos(tmp_path).iterdir())]
    with TestClient(create_app(ServeSettings(hosts=None, device="cpu"))) as client:
        answers = client.post("/v1/batch", data=fields, files=files).json()["results"]
    for one, answer in zip(one_by_one(1), answers, strict=True):
        assert_alike(one, Result.from_dict(answer))


def test_two_threads_answer_as_one() -> None:
    for one, other in zip(one_by_one(1), one_by_one(2), strict=True):
        assert_alike(one, other)


def test_the_same_again_is_the_same_to_the_last_bit() -> None:
    first, second = one_by_one(1)[0], tiny().predict(images()[0], **OPTIONS)
    assert np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
    assert np.array_equal(first.scores, second.scores)
    assert np.array_equal(first.class_ids, second.class_ids)


def test_another_answer_is_told_from_the_same() -> None:
    """The comparison itself can fail."""
    result = one_by_one(1)[0]
    assert len(result) > 0
    moved = Result(
        image_size=result.image_size,
        boxes_xyxy=result.boxes_xyxy + 1,
        scores=result.scores,
        class_ids=result.class_ids,
        masks=result.masks,
        vocabulary=result.vocabulary,
    )
    with pytest.raises(AssertionError, match="have nothing like them"):
        assert_alike(result, moved)
