"""Files that are no films, films that name other files, and addresses: one typed line each, nothing else is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_web import FLOODS, SLOW, Serve, flood
from tests.video.conftest import MakeVideo
from vlpart.errors import VideoError
from vlpart.video import reader
from vlpart.video.reader import open_video
from vlpart.video.run import name_of

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
REPOSITORY = Path(__file__).resolve().parents[2]

PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile 'film.ts'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\nfilm.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "nothing": "",
}


def refusal(source: str) -> str:
    """What is said of a source that is not read."""
    with pytest.raises(VideoError) as caught, open_video(source) as video:
        list(video)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["mp4", "m3u8", "ffconcat", "sdp"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_no_other_file(kind: str, ending: str, make_video: MakeVideo, tmp_path: Path) -> None:
    make_video("film.ts", count=2)
    (tmp_path / f"list.{ending}").write_text(PLAYLISTS[kind])
    assert "cannot read the video" in refusal(str(tmp_path / f"list.{ending}"))


@pytest.mark.parametrize(
    "scheme", ["file", "ftp", "gopher", "data", "pipe", "lavfi", "concat", "subfile,,start,0,end,0,,:"]
)
def test_other_protocols_are_refused(scheme: str, make_video: MakeVideo) -> None:
    assert "is none of http://" in refusal(f"{scheme}://{make_video()}")


def test_protocols_of_cameras_are_not(make_video: MakeVideo) -> None:
    """Nobody answers there; what FFmpeg may not use, it does not even ask."""
    for scheme in ("http", "https", "rtsp", "rtsps", "rtmp"):
        said = refusal(f"{scheme}://anna:geheim@127.0.0.1:9/film.mp4")
        assert "refused" in said
        assert "geheim" not in said


@posix
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "folder.mp4").mkdir()
    said = {name: refusal(str(tmp_path / f"{name}.mp4")) for name in ("pipe", "loop", "zero", "folder", "a\0b")}
    assert "a pipe" in said["pipe"]
    assert "a device" in said["zero"]
    assert "a folder" in said["folder"]


@posix
def test_names_of_any_bytes(make_video: MakeVideo) -> None:
    film = make_video()
    odd = film.with_name(os.fsdecode(b"\xff\x1b.mp4"))
    film.rename(odd)
    with open_video(str(odd)) as video:
        assert len(list(video)) == 12


def test_frames_that_are_too_large(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    film = str(make_video(count=2))
    monkeypatch.setattr(reader, "MAX_PIXELS", 256 * 192)
    with open_video(film) as video:
        assert len(list(video)) == 2
    monkeypatch.setattr(reader, "MAX_PIXELS", 256 * 192 - 1)
    assert "256x192" in refusal(film)


def test_frames_that_grow(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder holds frames to the limit, too: not all of a film need be of the size that its head states."""
    film = str(make_video(count=2))
    with open_video(film) as video, pytest.raises(VideoError):
        monkeypatch.setattr(reader, "MAX_PIXELS", 256 * 192 - 1)
        list(video)


@pytest.mark.parametrize("source", [None, 1, b"a.mp4", [], True])
def test_sources_of_a_wrong_type(source: object) -> None:
    with pytest.raises(TypeError, match="source"), open_video(source):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("which", [{"stride": 1.5}, {"stride": "2"}, {"start": float("nan")}, {"end": float("nan")}])
def test_ranges_of_a_wrong_type(which: dict[str, object], make_video: MakeVideo) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(which))), open_video(str(make_video()), **which):  # type: ignore[arg-type]
        pass


def test_results_are_not_named_by_passwords() -> None:
    assert name_of("rtsp://anna:geheim@10.0.0.7:554") == "10.0.0.7-554"
    assert name_of("rtsp://anna:geheim@cam.local:554/live/1.sdp?token=x") == "1"
    assert name_of("rtsp://anna:geheim@cam") == "cam"


def test_a_bad_video_does_not_keep_others_from_being_read(make_video: MakeVideo, tmp_path: Path) -> None:
    make_video("good.mp4", count=2)
    (tmp_path / "bad.mp4").write_text("no film")
    command = [sys.executable, "-m", "vlpart", "predict", "bad.mp4", "good.mp4", "absent.mp4", "--format", "jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, "--short-side", "64", "-o", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["skipped", "skipped"]
    assert "good.mp4: 2 frames" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_parts.jsonl"]
    assert len([json.loads(line) for line in (tmp_path / "out" / "good_parts.jsonl").read_text().splitlines()]) == 2


@pytest.mark.parametrize("kind", ["headers", "body", "chunks", "continue"])
def test_slow_servers_are_cut_off(kind: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 1.0)
    started = time.monotonic()
    assert "cannot read the video" in refusal(f"{serve(SLOW[kind])}/film.mp4")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("kind", ["status line", "header line", "headers", "huge chunk", "negative chunk", "no length"])
def test_fast_servers_are_bounded(kind: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 2.0)
    assert "cannot read the video" in refusal(f"{serve(flood(*FLOODS[kind], []))}/film.mp4")
