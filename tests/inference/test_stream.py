"""Streams of images: constant memory, order, failures, an early end."""

from __future__ import annotations

import gc
import io
import itertools
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakePredictor, files_of
from vlpart.errors import ImageError, OutputError, VocabularyError
from vlpart.inference.batch import predict_to_folder
from vlpart.inference.predictor import Predictor, load
from vlpart.inference.stream import read_ahead
from vlpart.results.result import Result


@pytest.fixture(scope="module")
def predictor(tiny_weights: Path) -> Predictor:
    return load("tiny", device="cpu")


def test_a_stream_gives_what_single_calls_give(predictor: Predictor, photo_array: np.ndarray) -> None:
    images = [photo_array, photo_array[:, ::-1].copy(), photo_array[:60].copy()]
    words = {"vocabulary": "person; car", "score_threshold": 0.01, "short_side": 96}
    streamed = list(predictor.stream(iter(images), **words, batch_size=2))
    assert [r.image_size for r in streamed] == [(90, 120), (90, 120), (60, 120)]
    for result, image in zip(streamed, images, strict=True):
        alone = predictor.predict(image, **words)
        assert result.names == alone.names
        np.testing.assert_allclose(result.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)


def test_a_stream_of_a_folder_and_of_a_pattern(predictor: Predictor, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.png"):
        (folder / name).write_bytes(photo.read_bytes())
    for named, expected in ((folder, ["a.jpg", "b.jpg", "c.png"]), (f"{folder}/*.jpg", ["a.jpg", "b.jpg"])):
        streamed = predictor.stream(named, "car", short_side=32)
        assert [Path(str(each.path)).name for each in streamed] == expected
    with pytest.raises(ImageError, match="no image matches"):
        predictor.stream(f"{folder}/*.webp", "car")


def test_an_endless_stream_holds_few_images_and_ends_its_thread(predictor: Predictor) -> None:
    taken: list[int] = []
    alive: list[weakref.ref[np.ndarray]] = []

    def camera() -> Iterator[np.ndarray]:
        for number in itertools.count():
            taken.append(number)
            frame = np.full((48, 64, 3), number % 256, dtype=np.uint8)
            alive.append(weakref.ref(frame))
            yield frame
            del frame

    before = threading.active_count()
    stream = predictor.stream(camera(), "car", short_side=32)
    for _ in range(8):
        next(stream)
        gc.collect()
        assert sum(each() is not None for each in alive) <= 6  # read ahead, being read, and with the result
    stream.close()
    assert len(taken) <= 12
    for thread in threading.enumerate():
        if thread.name == "vlpart-reader":
            thread.join(5)
    assert threading.active_count() <= before


def test_an_unreadable_image_ends_the_stream_or_is_reported(predictor: Predictor, photo: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        list(predictor.stream([missing, photo], "car", short_side=32))
    failures: list[tuple[object, str]] = []
    results = list(
        predictor.stream(
            [photo, missing, photo],
            "car",
            short_side=32,
            batch_size=2,
            on_failure=lambda image, error: failures.append((image, str(error))),
        )
    )
    assert [result.path for result in results] == [str(photo), str(photo)]
    assert [image for image, _ in failures] == [missing]


def test_what_is_wrong_with_a_stream_is_said_before_an_image_is_taken(predictor: Predictor) -> None:
    def images() -> Iterator[np.ndarray]:
        raise AssertionError("taken")
        yield np.zeros(0)

    with pytest.raises(VocabularyError):
        predictor.stream(images(), [])
    with pytest.raises(ValueError, match="batch_size"):
        predictor.stream(images(), "car", batch_size=0)


def test_an_error_of_the_iterable_comes_where_it_belongs() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    ahead = read_ahead(items(), depth=3)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="unplugged"):
        next(ahead)


def lines(data: bytes) -> list[Result]:
    return [Result.from_dict(json.loads(line)) for line in data.splitlines()]


def test_lines_of_json_in_a_pipe_and_in_a_folder(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes(photo.read_bytes())
    pipe = io.BytesIO()
    summary = predict_to_folder(FakePredictor(), tmp_path, output=pipe, formats=["jsonl"])  # type: ignore[arg-type]
    assert (summary.finished, summary.failed) == (2, 0)
    written = lines(pipe.getvalue())
    assert [Path(result.path or "").name for result in written] == ["other.jpg", "photo.jpg"]
    assert written[0].names == ["car", "car:wheel"]
    predict_to_folder(FakePredictor(), tmp_path, output=tmp_path / "out", formats=["jsonl"])  # type: ignore[arg-type]
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == pipe.getvalue()


def test_a_picture_in_a_pipe_is_one(photo: Path) -> None:
    pipe = io.BytesIO()
    failures: list[str] = []
    summary = predict_to_folder(
        FakePredictor(),  # type: ignore[arg-type]
        [photo, f"{photo.parent}/./../{photo.parent.name}/photo.jpg", photo.parent / "absent.jpg"],
        output=pipe,
        formats=["image"],
        on_failure=lambda image, error: failures.append(str(error)),
    )
    assert pipe.getvalue().startswith(b"\xff\xd8")
    assert (summary.finished, len(failures)) == (1, 1)  # the same photo by another name comes once
    with pytest.raises(OutputError, match="pipe"):
        predict_to_folder(FakePredictor(), photo, output=pipe, formats=["coco"])  # type: ignore[arg-type]


def test_shards_share_the_images_and_the_names(photo: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "sub.jpg"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(photo.read_bytes())
    source, whole, shared_out = tmp_path / "in", tmp_path / "whole", tmp_path / "shared_out"
    predict_to_folder(FakePredictor(), source, output=whole, formats=["json"])  # type: ignore[arg-type]
    for i in (2, 1, 3):
        shards = {"output": shared_out, "formats": ["json", "coco"], "shard": (i, 3)}
        predict_to_folder(FakePredictor(), source, **shards)  # type: ignore[arg-type]
    assert [name for name in files_of(shared_out) if "coco" not in name] == files_of(whole)
    parts = [json.loads((shared_out / f"coco_{i}_of_3.json").read_text())["images"] for i in (1, 2, 3)]
    assert sorted(image["file_name"] for part in parts for image in part) == ["a.jpg", "a.png", "b.jpg", "sub.jpg"]
    assert [len(part) for part in parts] == [2, 1, 1]
    with pytest.raises(ValueError, match="shard"):
        predict_to_folder(FakePredictor(), source, output=whole, shard=(0, 3))  # type: ignore[arg-type]
