"""An annotated video and its JSON lines, written behind in a thread: whatever ends the run, the file plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlpart.errors import OutputError
from vlpart.inference.coco_file import make_folder, output_errors
from vlpart.results.result import Result
from vlpart.video.reader import Frame, import_av

Item = TypeVar("Item")

_TICKS = 90_000  # per second, the clock of MPEG
_QUALITY = "20"  # of x264: 18 can hardly be told from the source, 23 is its default


def frame_record(frame: Frame, result: Result, numbers: Sequence[int]) -> dict[str, Any]:
    """What a frame's line holds: number, seconds, and the result as `Result.to_dict` has it, `track` (the number of the
    object through the video, or null) in every detection.
    """
    data = result.to_dict()
    for detection, number in zip(data["detections"], numbers, strict=True):
        detection["track"] = int(number) or None
    return {"frame": frame.number, "seconds": frame.seconds, **data}


class LinesFile:
    """JSON lines, each written whole. `path` None writes into `pipe`; a file is there from the first line on."""

    def __init__(self, path: Path | None, pipe: Any = None) -> None:
        self._path = path
        self._file = pipe

    def add(self, record: dict[str, Any]) -> None:
        """Append a line. Raises `OutputError`."""
        line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")
        if self._path is None:
            self._file.write(line)
            self._file.flush()
            return
        with output_errors(self._path):
            if self._file is None:
                make_folder(self._path.parent)
                self._file = self._path.open("wb")
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close a file; a pipe stays open."""
        if self._path is not None and self._file is not None:
            self._file.close()


class VideoFile:
    """H.264 in MP4, in fragments from key frame to key frame: those that are written play even after a kill.

    Args:
        path: the file.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._path, self._rate = path, rate
        self._container: Any = None
        self._stream: Any = None
        self._sink: _Sink | None = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Append a frame: (H, W, 3) uint8 RGB; later ones are fitted to the size of the first. Raises `OutputError`."""
        av = import_av()
        with output_errors(self._path), _encoder_errors(self._path):
            if self._container is None:
                self._open(av, pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2)
            if pixels.shape[:2] != (self._stream.height, self._stream.width):
                pixels = _fitted(pixels, self._stream.height, self._stream.width)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            self._last = max(self._last + 1, round(seconds * _TICKS))
            frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
            self._mux(frame)

    def _mux(self, frame: Any) -> None:
        """Encode and write a frame, or with None what the encoder holds back."""
        assert self._sink is not None
        try:
            self._container.mux(self._stream.encode(frame))
        except BaseException:
            # After an error FFmpeg crashes at the next frame where it could not write the head, so this was the last.
            self._give_up()
            self._sink.check()
            raise
        self._sink.check()

    def _give_up(self) -> None:
        """Let go of the file; what does not play is no result, and deleted."""
        self._container = None
        if self._sink is not None:
            self._sink.file.close()
        if not _plays(self._path):
            self._path.unlink(missing_ok=True)

    def _open(self, av: Any, height: int, width: int) -> None:
        make_folder(self._path.parent)
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        self._sink = _Sink(self._path)
        self._container = av.open(self._sink, "w", format="mp4", options=options)
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": _QUALITY, "preset": "veryfast"}
        )
        self._stream.height, self._stream.width, self._stream.pix_fmt = max(height, 2), max(width, 2), "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def close(self) -> None:
        """Write what the encoder holds back, and the end of the file."""
        if self._container is None or self._sink is None:
            return
        with output_errors(self._path), _encoder_errors(self._path):
            self._mux(None)
            container, self._container = self._container, None
            try:
                container.close()
                self._sink.check()
            except BaseException:
                self._give_up()
                raise
            self._sink.file.close()


class _Sink:
    """What FFmpeg writes to: it goes on where a write fails, and forgets that it did."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=0)
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """All of it."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self._error = self._error or error
            raise
        return len(data)

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error


def _plays(path: Path) -> bool:
    """Whether there is a frame in a video."""
    try:
        with import_av().open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (OSError, ValueError, LookupError):  # FFmpeg's own are among these
        return False


def _fitted(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut or filled with black on the right and below."""
    fitted = np.zeros((height, width, 3), dtype=np.uint8)
    part = pixels[:height, :width]
    fitted[: part.shape[0], : part.shape[1]] = part
    return fitted


class _encoder_errors:
    """What the encoder refuses, as an `OutputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        from av.error import FFmpegError

        if isinstance(error, FFmpegError) and not isinstance(error, OSError):
            raise OutputError(f"cannot write {self._path}: {' '.join(str(error).split())}") from error


class WriteBehind(Generic[Item]):
    """Does something with items in a thread of its own, in order, at most `depth` of them waiting.

    An error there is raised at the next `put`, or at the end. When the `with` ends, for whatever reason, what waits is
    done first.
    """

    def __init__(self, do: Callable[[Item], object], depth: int) -> None:
        self._do = do
        self._queue: Queue[Item | None] = Queue(maxsize=depth)
        self._failed = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="vlpart-writer", daemon=True)

    def put(self, item: Item) -> None:
        """Hand over an item; waits while too many are waiting."""
        while True:
            self._raise()
            with suppress(Full):
                self._queue.put(item, timeout=0.1)  # with a timeout, so that Ctrl-C is heard on every system
                return

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if not self._failed.is_set():  # afterwards the queue is only emptied, so that nobody waits for ever
                try:
                    self._do(item)
                except BaseException as error:  # noqa: BLE001 (handed to the producer, which raises it)
                    self._error = error
                    self._failed.set()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()
