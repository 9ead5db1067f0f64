"""Which frames are read, and what is said of what is no video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.video.conftest import MakeVideo
from vlpart.data.image_files import is_video
from vlpart.errors import VideoError
from vlpart.video.reader import open_video


@pytest.mark.parametrize(
    ("stride", "start", "end", "places"),
    [
        (1, 0.0, None, list(range(12))),
        (5, 0.0, None, [0, 5, 10]),
        (1, 0.4, 0.7, [4, 5, 6]),
        (2, 0.3, None, [3, 5, 7, 9, 11]),
    ],
)
def test_frames_of_a_range(
    make_video: MakeVideo, stride: int, start: float, end: float | None, places: list[int]
) -> None:
    with open_video(str(make_video()), stride=stride, start=start, end=end) as video:
        assert (video.rate, video.frames) == (10, len(places))
        frames = list(video)
    assert [frame.number for frame in frames] == places
    assert [frame.seconds for frame in frames] == pytest.approx([place / 10 for place in places])
    assert frames[0].pixels.shape == (192, 256, 3)
    assert frames[0].pixels.dtype == np.uint8


def test_a_start_far_in_is_sought(make_video: MakeVideo) -> None:
    with open_video(str(make_video(count=60)), start=5.0) as video:
        assert [frame.number for frame in video] == list(range(50, 60))


def test_what_is_no_video(tmp_path: Path, make_video: MakeVideo) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    for source, message in (("text.mp4", "cannot read the video"), ("absent.mp4", "there is no video file")):
        with pytest.raises(VideoError, match=message), open_video(str(tmp_path / source)):
            pass
    film = str(make_video())
    with pytest.raises(VideoError, match="no frame from second 9"), open_video(film, start=9) as video:
        list(video)
    for wrong in ({"stride": 0}, {"start": 2.0, "end": 1.0}):
        with pytest.raises(VideoError, match="stride is at least 1"), open_video(film, **wrong):
            pass


def test_a_cut_film_gives_what_it_has(make_video: MakeVideo, tmp_path: Path) -> None:
    whole = make_video("film.ts", count=120).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: len(whole) // 2])
    with open_video(str(tmp_path / "cut.ts")) as video:
        assert 0 < len(list(video)) < 120


def test_what_is_taken_for_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all(map(is_video, ("a.MP4", "rtsp://host/1", "0", "https://host/a.webm?x=1")))
    assert not any(map(is_video, ("a.jpg", "photos", "https://host/a.jpg", "100", "-")))
    (tmp_path / "0").touch()
    assert not is_video("0")
