"""Streams of unknown length over the network, and what is left when they are interrupted."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.video.cameras import http_camera, jpeg_camera, rtp_packets, rtsp_camera, transport_stream
from tests.video.conftest import MakeVideo
from tests.video.test_run import FakePredictor, frames_of
from vlpart.errors import VideoError
from vlpart.video.live import Appetite
from vlpart.video.reader import open_video
from vlpart.video.run import predict_video, track_video


def pieces(data: bytes) -> list[bytes]:
    """As they might come over a network."""
    return [data[start : start + 4000] for start in range(0, len(data), 4000)]


def test_a_stream_over_http(make_video: MakeVideo, tmp_path: Path) -> None:
    sent = pieces(transport_stream(make_video(count=12)))
    lengths: list[int | None] = []
    with http_camera(sent) as address:
        summary = predict_video(
            FakePredictor(),  # type: ignore[arg-type]
            address,
            output=tmp_path / "out",
            score_threshold=0.4,
            on_open=lambda count, rate: lengths.append(count),
        )
    assert (lengths, summary.frames) == ([None], 12)
    assert len(frames_of(tmp_path / "out" / "live_parts.mp4")) == 12


def test_a_camera_that_sends_one_jpeg_after_the_other(make_video: MakeVideo) -> None:
    with jpeg_camera(frames_of(make_video(count=5))) as address, open_video(address) as video:
        assert [frame.pixels.shape for frame in video] == [(192, 256, 3)] * 5


def test_a_camera_over_rtsp(make_video: MakeVideo, tmp_path: Path) -> None:
    packets = rtp_packets(make_video(count=12))
    with rtsp_camera(packets, pause=0.02) as address:
        with open_video(address) as video:
            assert video.frames is None and video.live and "secret" not in video.name
        summary = predict_video(FakePredictor(), address, output=tmp_path / "out", score_threshold=0.4)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (tmp_path / "out" / "door_parts.jsonl").read_text().splitlines()]
    assert 1 <= summary.frames == len(lines) <= 12  # the first may be what the stream is recognised by
    times = [line["seconds"] for line in lines]
    assert times == sorted(times)


def test_a_camera_is_kept_up_with(make_video: MakeVideo) -> None:
    wanted = itertools.cycle([True, False, False])
    with rtsp_camera(rtp_packets(make_video(count=12))) as address, open_video(address) as video:
        every_third = [frame.number for frame in video.while_wanted(lambda: next(wanted))]
    assert 3 <= len(every_third) <= 4 and set(np.diff(every_third)) <= {2, 3}  # the first two may have one time
    camera, film = Appetite(1, live=True), Appetite(1)
    assert [camera.wanted(), camera.wanted()] == [True, False]  # the second comes while the first is computed
    assert list(camera.fed(iter("a"))) == ["a"] and [camera.wanted(), camera.wanted()] == [True, False]
    assert [film.wanted(), film.wanted()] == [True, True]


def test_a_camera_that_is_lost_is_tried_again(make_video: MakeVideo) -> None:
    lost: list[str] = []
    with rtsp_camera(rtp_packets(make_video(count=4))) as address:
        found = track_video(
            FakePredictor(),  # type: ignore[arg-type]
            address,
            score_threshold=0.4,
            reconnect=20,
            on_lost=lost.append,
        )
        times = []
        for done in found:
            times.append(done.frame.seconds)
            if len(lost) >= 2:  # the camera sends its four frames and ends, again and again
                break
        found.close()
    assert "has ended" in lost[0] or "cannot read" in lost[0]
    assert times == sorted(times) and times[-1] > 0.5  # the pause before the second try, at least


def test_a_camera_that_stays_away(make_video: MakeVideo) -> None:
    lost: list[str] = []
    with rtsp_camera(rtp_packets(make_video(count=4)), once=True) as address:
        found = track_video(
            FakePredictor(),  # type: ignore[arg-type]
            address,
            score_threshold=0.4,
            reconnect=3,
            on_lost=lost.append,
        )
        with pytest.raises(VideoError, match="cannot read the video rtsp"):
            for _ in found:
                pass
    assert len(lost) == 1


def test_a_camera_that_is_not_there() -> None:
    refused = pytest.raises(VideoError, match="cannot read the video http")
    with http_camera([b"no film at all"]) as address, refused, open_video(address):
        pass
    with pytest.raises(VideoError, match="cannot read the video rtsp"), open_video(address.replace("http", "rtsp")):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_camera_leaves_files_that_play(make_video: MakeVideo, tmp_path: Path) -> None:
    sent = pieces(transport_stream(make_video(count=40)))
    command = [sys.executable, "-m", "vlpart", "predict", "-o", str(tmp_path / "out"), "-v", "person"]
    lines = tmp_path / "out" / "live_parts.jsonl"
    with http_camera(sent, pause=0.02, endless=True) as address:
        asked = [*command, "--short-side", "64", address]
        process = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") >= 3):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert 3 <= lines.read_bytes().count(b"\n") == len(frames_of(tmp_path / "out" / "live_parts.mp4"))
