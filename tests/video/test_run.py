"""Videos from end to end with the embedded model: files, numbers, memory, early ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakePredictor
from tests.video.conftest import MakeVideo, frames_of
from vlpart.errors import OutputError, VideoError
from vlpart.inference.predictor import Predictor, load
from vlpart.results.result import Result
from vlpart.video.run import VideoFrame, predict_video, track_video
from vlpart.video.writer import VideoFile, WriteBehind


@pytest.fixture(scope="module")
def predictor(tiny_weights: Path) -> Predictor:
    return load("tiny", device="cpu")


def test_a_person_has_one_number_through_the_film(predictor: Predictor, make_video: MakeVideo, tmp_path: Path) -> None:
    seen: list[VideoFrame] = []
    summary = predict_video(
        predictor,
        str(make_video()),
        output=tmp_path / "out",
        vocabulary="person: hair",
        score_threshold=0.5,
        short_side=192,
        stride=2,
        batch_size=2,
        smoothing=0.5,
        on_frame=seen.append,
    )
    assert (summary.frames, summary.video, summary.lines) == (
        6,
        tmp_path / "out" / "film_parts.mp4",
        tmp_path / "out" / "film_parts.jsonl",
    )
    assert summary.video is not None
    assert summary.lines is not None
    lines = [json.loads(line) for line in summary.lines.read_text(encoding="utf-8").splitlines()]
    assert [line["frame"] for line in lines] == [0, 2, 4, 6, 8, 10]
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    people = [[d["track"] for d in line["detections"] if d["name"] == "person"] for line in lines]
    assert all(1 in found for found in people[1:])  # an object has a number from the second frame on
    owned = [(line["detections"], d) for line in lines for d in line["detections"] if d["object_index"] is not None]
    assert "person:hair" in {part["name"] for _, part in owned}
    assert all(part["track"] == found[part["object_index"]]["track"] for found, part in owned)
    for line, frame in zip(lines, seen, strict=True):
        assert Result.from_dict(line).names == frame.result.names
    drawn = frames_of(summary.video)
    assert len(drawn) == 6
    assert drawn[0].shape == (480, 640, 3)  # small frames are drawn larger


def test_only_few_frames_are_held(make_video: MakeVideo) -> None:
    fake = FakePredictor()
    found = track_video(fake, str(make_video(count=40)), score_threshold=0.4)  # type: ignore[arg-type]
    for done in found:
        assert done.tracks.tolist() in ([0, 0], [1, 1])
        del done
    assert len(fake.calls) == 40
    assert fake.most_alive <= 3


def test_the_network_computes_while_the_writer_writes() -> None:
    order: list[str] = []
    together = threading.Event()

    def slow(item: int) -> None:
        assert together.wait(5)
        order.append(f"written {item}")

    with WriteBehind(slow, depth=2) as behind:
        behind.put(1)
        order.append("computed 2")
        together.set()
        behind.put(2)
    assert order == ["computed 2", "written 1", "written 2"]


def test_an_error_of_the_writer_ends_the_run(make_video: MakeVideo, tmp_path: Path) -> None:
    def refuse(item: int) -> None:
        raise OutputError("full")

    with pytest.raises(OutputError, match="full"), WriteBehind(refuse, depth=1) as behind:
        for item in range(100):
            behind.put(item)
            time.sleep(0.001)


def test_what_is_refused(make_video: MakeVideo, tmp_path: Path) -> None:
    film = make_video("film_parts.mp4")
    fake = FakePredictor()
    with pytest.raises(OutputError, match="is the video itself"):
        predict_video(fake, str(film), output=tmp_path, name="film")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="jsonl only"):
        predict_video(fake, str(film), output=io.BytesIO())  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="no video file"):
        predict_video(fake, str(tmp_path / "absent.mp4"), output=tmp_path / "out")  # type: ignore[arg-type]


def test_lines_in_a_pipe(make_video: MakeVideo) -> None:
    pipe = io.BytesIO()
    predict_video(FakePredictor(), str(make_video(count=3)), output=pipe, formats=("jsonl",), score_threshold=0.4)  # type: ignore[arg-type]
    assert [json.loads(line)["frame"] for line in pipe.getvalue().splitlines()] == [0, 1, 2]
    assert not pipe.closed


def test_an_interrupt_leaves_files_that_play(make_video: MakeVideo, tmp_path: Path) -> None:
    film = make_video(count=400)
    command = [sys.executable, "-m", "vlpart", "predict", str(film), "-o", str(tmp_path / "out"), "-v", "person"]
    process = subprocess.Popen([*command, "--short-side", "64"], stderr=subprocess.PIPE, text=True)
    lines = tmp_path / "out" / "film_parts.jsonl"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") >= 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "frames finished" in said
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    played = frames_of(tmp_path / "out" / "film_parts.mp4")
    assert 3 <= len(written) == len(played) < 400
    assert os.listdir(tmp_path / "out") and np.asarray(played[0]).shape == (480, 640, 3)


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("before", [0, 20])
def test_a_video_that_cannot_be_written_is_told_and_is_no_result(before: int, tmp_path: Path) -> None:
    """As on a full disk: FFmpeg crashes where not even its head can be written, and later it says nothing."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = VideoFile(tmp_path / "a.mp4", Fraction(10))
    pixels = np.zeros((48, 64, 3), np.uint8)
    for number in range(before):
        file.add(pixels, number / 10)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        with pytest.raises(OutputError, match=r"cannot write .*a\.mp4"):
            for number in range(before, 100):
                file.add(pixels, number / 10)
            file.close()
        with suppress(OutputError):  # as at the end of a run
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "a.mp4").exists()
