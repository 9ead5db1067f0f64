"""Files that are no films, films that name other files, and addresses: one typed line each, nothing else is opened."""

from __future__ import annotations

import itertools
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.test_web import FLOODS, SLOW, Serve, flood
from tests.video.cameras import DESCRIPTION, rtp_packets, rtsp_camera
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


# ---- cameras that are slow, or never send a picture


def dripped(data: bytes) -> Iterator[bytes]:
    """A byte now and then."""
    for number in itertools.count():
        time.sleep(0.02)
        yield data[number % len(data) :][:1]


def said(number: str, body: str = "", **fields: str) -> bytes:
    """An answer in RTSP."""
    fields = {"CSeq": number, "Session": "1"} | fields
    heads = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"RTSP/1.0 200 OK\r\n{heads}\r\n{body}".encode()


def framed(channel: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("!cBH", b"$", channel, len(data) if length is None else length) + data


def sound(number: str) -> Iterator[bytes]:
    """The answer to PLAY, then sound alone, for ever."""
    yield said(number)
    for place in itertools.count():
        time.sleep(0.005)
        yield framed(2, struct.pack("!BBHII", 0x80, 0, place % 65536, 160 * place % 2**32, 7) + b"\x55" * 160)


def noise(number: str) -> Iterator[bytes]:
    """The answer to PLAY, then packets whose lengths are not theirs."""
    yield said(number)
    drawn = random.Random(0)
    for channel in itertools.cycle(range(4)):
        yield framed(channel, drawn.randbytes(700), drawn.randrange(65536))


WITH_SOUND = f"{DESCRIPTION}m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track1\r\n"
LONG = {"Content_Type": "application/sdp", "Content_Length": "2000000000"}
CAMERAS: dict[str, dict[str, Callable[[str], Iterable[bytes]]]] = {
    "no answer": {"OPTIONS": lambda number: []},
    "a dripped answer": {"OPTIONS": lambda number: dripped(said(number, "A" * 9000))},
    "endless heads": {
        "OPTIONS": lambda number: itertools.chain([said(number)[:-2]], itertools.repeat(b"A: b\r\n" * 99))
    },
    "an endless line": {"OPTIONS": lambda number: itertools.chain([b"RTSP/1.0 200 "], itertools.repeat(b"a" * 9999))},
    "endless requests": {"OPTIONS": lambda number: itertools.repeat(b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\n" * 99)},
    "a dripped description": {
        "DESCRIBE": lambda number: itertools.chain([said(number, **LONG)], dripped(b"a=x:y\r\n"))
    },
    "an endless description": {
        "DESCRIBE": lambda number: itertools.chain([said(number, DESCRIPTION, **LONG)], itertools.repeat(b"a=x:y\r\n"))
    },
    "no place": {"SETUP": lambda number: []},
    "it never plays": {"PLAY": lambda number: []},
    "nothing is played": {"PLAY": lambda number: [said(number)]},
    "half a packet": {"PLAY": lambda number: [said(number), framed(0, b"\x80\x60", 65535)]},
    "dripped packets": {"PLAY": lambda number: itertools.chain([said(number)], dripped(framed(0, b"\x80\x60" * 99)))},
    "wrong lengths": {"PLAY": noise},
    "no lengths": {"PLAY": lambda number: itertools.chain([said(number)], itertools.repeat(framed(0, b"") * 99))},
    "another channel": {"PLAY": lambda number: itertools.chain([said(number)], itertools.repeat(framed(9, b"a" * 99)))},
}


@pytest.mark.parametrize("kind", CAMERAS)
def test_slow_cameras_are_cut_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 0.5)
    started = time.monotonic()
    with rtsp_camera([], instead=CAMERAS[kind]) as address:
        assert refusal(address).endswith("its server took longer than 0.5 s")
    assert time.monotonic() - started < 15


def test_sound_alone_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets come all the time, so that FFmpeg itself waits for ever."""
    monkeypatch.setattr(reader, "_SECONDS", 0.5)
    with rtsp_camera([], instead={"PLAY": sound}, description=WITH_SOUND) as address:
        assert refusal(address).endswith("its server took longer than 0.5 s")


def test_a_camera_that_stops_in_the_middle(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_SECONDS", 2.0)
    sent = [framed(0, packet) for packet in rtp_packets(make_video(count=60))]
    play = {"PLAY": lambda number: [said(number), *sent[:-5]]}
    seen = []

    def take(address: str) -> None:
        with open_video(address) as video:
            seen.extend(frame.number for frame in video)

    with rtsp_camera([], instead=play) as address, pytest.raises(VideoError, match="took longer than 2 s") as caught:
        take(address)
    assert len(seen) > 30
    assert "secret" not in str(caught.value)
