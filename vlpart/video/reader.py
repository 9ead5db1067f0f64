"""Frames of video files, webcams and network cameras, one at a time (extra `video`: PyAV, which brings FFmpeg)."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import in_range, one_of, position, whole
from vlpart.data.image_files import CAMERA
from vlpart.errors import VideoError
from vlpart.files import is_there, local_path, open_regular, why
from vlpart.web import shown

if TYPE_CHECKING:
    import av.container

MAX_PIXELS = 50_000_000
"""Pixels of a frame that are read at most; 8K has 33 million."""

_SECONDS = 20.0  # for a server to answer, then to begin, and between two pictures of it
_LONGEST = 1e9  # seconds; later times are damage
_RATES = (Fraction(1, 1000), Fraction(1000))  # frames per second that are believed
_USUAL_RATE = Fraction(25)

# A playlist (HLS, DASH, concat, SDP) or a description can name files of this machine and addresses of its network, and
# FFmpeg would open them. So a film is one file or one connection, in one of the containers that hold films.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mjpeg,h264,hevc,ivf,obu,mxf,nut,"
    "dv,gif,apng,yuv4mpegpipe"
)
_PROTOCOLS = {
    "http": ("http,tcp", f"{_CONTAINERS},mpjpeg"),
    "https": ("https,http,tls,tcp", f"{_CONTAINERS},mpjpeg"),
    "rtsp": ("rtp,rtcp,udp,tcp", "rtsp"),
    "rtsps": ("rtp,rtcp,udp,tcp,tls", "rtsp"),
    "rtmp": ("rtmp,tcp", f"{_CONTAINERS},live_flv"),
    "udp": ("udp", _CONTAINERS),
    "srt": ("srt", _CONTAINERS),
}
"""Kinds of addresses: the protocols that FFmpeg may use for one, and the forms that it may find."""
_LIVE = ("rtsp", "rtsps", "rtmp", "udp", "srt")  # which do not wait for a reader that is slow

#: What the system has against a webcam, in words that say what to do.
_CAMERAS = {
    errno.ENOENT: "there is none",
    errno.EBUSY: "another program has it",
    errno.EACCES: "permission denied (on Linux, it belongs to the group `video`)",
    errno.ENODEV: "it is gone",
}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame: its place in the video (from 0), its time in seconds, and (H, W, 3) uint8 RGB, upright."""

    number: int
    seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Video:
    """What is known of an open video.

    Attributes:
        name: for messages, without credentials.
        rate: frames per second.
        frames: how many the range has after the stride; None where the length is not known.
        live: it comes as it happens, from a webcam or a network camera, and does not wait.
    """

    name: str
    rate: Fraction
    frames: int | None
    live: bool
    _container: av.container.InputContainer
    _stride: int
    _start: float
    _end: float | None

    def __iter__(self) -> Iterator[Frame]:
        """Every `stride`-th frame from `start` to `end`, until the video ends.

        Raises:
            VideoError: it is damaged, or the connection broke.
        """
        return self.while_wanted(lambda: True)

    def while_wanted(self, wanted: Callable[[], bool]) -> Iterator[Frame]:
        """The same without the frames that nobody wants when they are decoded, so that a camera is kept up with.

        Raises:
            VideoError: see `__iter__`.
        """
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        first: float | None = None
        taken = False
        with _refusals(self.name):
            if self._start > 1:
                self._container.seek(int((self._start - 1) * 1_000_000))  # to a key frame before
            for number, frame in enumerate(self._decoded(stream)):
                origin = float((stream.start_time or 0) * (stream.time_base or 0))
                seconds = number / float(self.rate) if frame.time is None else frame.time - origin
                if not abs(seconds) < _LONGEST:
                    seconds = number / float(self.rate)
                _check_size(self.name, frame)
                if seconds < self._start - 0.5 / float(self.rate):
                    continue
                if self._end is not None and seconds >= self._end:
                    return
                first = number if first is None else first
                taken = True
                if (number - first) % self._stride or not wanted():
                    continue
                place = round(seconds * float(self.rate))
                yield Frame(number=place, seconds=round(max(seconds, 0.0), 6), pixels=_upright(frame))
        if not taken:
            raise VideoError(f"{self.name} has no frame from second {self._start:g} on")

    def _decoded(self, stream: Any) -> Iterator[Any]:
        """Frames as FFmpeg decodes them. Where a server never said how much it sends, FFmpeg calls the end an error."""
        distant = "://" in self.name
        seen, begun = False, time.monotonic()
        try:
            # FFmpeg has a limit on what it waits for, which sound without pictures keeps to: so all packets are seen.
            for packet in self._container.demux() if distant else self._container.demux(stream):
                for frame in packet.decode() if packet.stream.index == stream.index else ():
                    seen = True
                    yield frame
                    begun = time.monotonic()  # whoever takes the pictures may take its time
                if distant and time.monotonic() > begun + _SECONDS:
                    raise _late(self.name)
        except (import_av().error.FFmpegError, OSError) as error:
            is_end = seen and error.errno == errno.EIO and self.frames is None and self.name.startswith("http")
            if distant and not is_end and time.monotonic() >= begun + _SECONDS:
                raise _late(self.name) from error
            if not is_end:
                raise
            for frame in stream.decode(None):  # what the decoder still holds
                frame.time_base = stream.time_base
                yield frame


def _check_size(name: str, shown: Any) -> None:
    """Refuse what is too large; `shown` is a stream or a frame, whose size need not be that of the stream."""
    if shown.width * shown.height > MAX_PIXELS:
        raise VideoError(
            f"{name} has frames of {shown.width}x{shown.height}, more than {MAX_PIXELS:,} pixels: make it smaller first"
        )


def _upright(frame: Any) -> NDArray[np.uint8]:
    """The pixels as a player shows them: telephones store a film of their own orientation and an angle with it."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


@contextmanager
def open_video(source: str, *, stride: int = 1, start: float = 0.0, end: float | None = None) -> Iterator[Video]:
    """Open a video file, an address, or a webcam by its number.

    Playlists (HLS, DASH, concat ...) are not read: they name other files and addresses.

    Args:
        source: a path, `rtsp://...`, `https://...`, or "0" for the first webcam.
        stride: take every so many frames.
        start, end: seconds of the video.

    Raises:
        VideoError: PyAV is not installed, there is no such file or camera, it is no video, its frames are too large, or
            a value is out of range.
        TypeError, ValueError: an argument of a wrong type, or that is no number.
    """
    one_of("source", source, str, Path)
    source = str(source)
    whole("stride", position("stride", stride), -(1 << 31), 1 << 31)
    for value_name, value in (("start", start), ("end", end)):
        if value is not None:
            in_range(value_name, value, -_LONGEST, _LONGEST)
    if stride < 1 or start < 0 or (end is not None and end <= start):
        raise VideoError(
            f"a stride is at least 1 and an end after its start, got stride {stride}, start {start:g}, end {end}"
        )
    av = import_av()
    address, options = _address(source)
    name = shown(source) if "://" in source else source
    camera = "format" in options
    if camera:
        name = f"camera {source} ({address})" if address.startswith("/dev") else f"camera {source}"
    distant, begun = "://" in source, time.monotonic()
    with _refusals(name):
        try:
            container = av.open(address, timeout=_SECONDS if distant else None, **options)
        except (av.error.FFmpegError, OSError) as error:
            if distant and time.monotonic() >= begun + _SECONDS:
                raise _late(name) from error
            if not isinstance(error, av.error.ArgumentError):
                raise
            # of a form that is not among ours
            reason = "it is no film (a playlist, which names other files, is not read)"
            raise VideoError(f"cannot read {_called(name)}: {reason}") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{name} has no pictures, only sound: name a video")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoError(f"cannot read {_called(name)}: it is of an unknown codec")
        _check_size(name, stream)
        rate = Fraction(stream.average_rate or stream.guessed_rate or _USUAL_RATE)
        rate = rate if _RATES[0] <= rate <= _RATES[1] else _USUAL_RATE
        yield Video(
            name=name,
            rate=rate,
            frames=_frames_of(stream, rate, stride, start, end),
            live=camera or source.partition("://")[0].lower() in _LIVE,
            _container=container,
            _stride=stride,
            _start=start,
            _end=end,
        )


def _frames_of(stream: Any, rate: Fraction, stride: int, start: float, end: float | None) -> int | None:
    total = stream.frames or (round(float(stream.duration * stream.time_base) * rate) if stream.duration else 0)
    if not total:
        return None if end is None else max(1, round((end - start) * rate / stride))
    last = total if end is None else min(total, round(end * rate))
    return max(0, -(-(last - round(start * rate)) // stride))


def _address(source: str) -> tuple[str, dict[str, Any]]:
    """What FFmpeg calls a source, and the options for it."""
    if CAMERA.fullmatch(source) and not is_there(local_path(source)):
        if sys.platform == "darwin":
            return source, {"format": "avfoundation", "options": {"framerate": "30"}}
        if sys.platform == "win32":
            raise VideoError("webcams are read on Linux and macOS: on Windows, let a program send it as rtsp://")
        return f"/dev/video{source}", {"format": "v4l2"}
    if "://" in source:
        scheme = source.partition("://")[0].lower()
        if scheme not in _PROTOCOLS:
            known = ", ".join(f"{each}://" for each in _PROTOCOLS)
            raise VideoError(f"the address {shown(source)} is none of {known}: name a file by its path")
        options = dict(zip(("protocol_whitelist", "format_whitelist"), _PROTOCOLS[scheme], strict=True))
        if scheme.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        return source, {"options": options}
    path = local_path(source)
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise VideoError(f"there is no video file {path}") from None
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot read the video {path}: {why(error)}") from error
    absolute = path if path.is_absolute() else Path.cwd() / path
    return str(absolute), {"options": {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}}


def import_av() -> Any:
    """PyAV. Raises `VideoError` where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise VideoError('videos need PyAV: pip install "vlpart[video]"') from error
    return av


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What FFmpeg has against a video, as a `VideoError`."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if name.startswith("camera "):
            reason = _CAMERAS.get(getattr(error, "errno", None) or 0, reason)
        raise VideoError(f"cannot read {_called(name)}: {reason}") from error


def _late(name: str) -> VideoError:
    """FFmpeg has many words for a server that takes too long, of which most say something else."""
    return VideoError(f"cannot read {_called(name)}: its server took longer than {_SECONDS:g} s")


def _called(name: str) -> str:
    return name if name.startswith("camera ") else f"the video {name}"
