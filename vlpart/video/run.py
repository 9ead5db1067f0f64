"""A video in, an annotated video and a line of JSON per frame out, in constant memory.

Three things overlap: frames are decoded and resized in one thread, found things are drawn and encoded in another, and
between them the network computes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from vlpart.checks import called, in_range, one_of, predicts, typed, whole
from vlpart.data.images import ReadImage
from vlpart.errors import OutputError
from vlpart.files import is_there, local_path
from vlpart.inference.coco_file import make_folder
from vlpart.inference.stream import in_batches, read_ahead
from vlpart.results.result import Result
from vlpart.results.select import parse
from vlpart.text.vocabulary import Vocabulary
from vlpart.video.live import Appetite, lasting_video
from vlpart.video.reader import Frame, Video
from vlpart.video.tracking import DOUBTFUL, Smoother, Tracker
from vlpart.video.writer import LinesFile, VideoFile, WriteBehind, frame_record

if TYPE_CHECKING:
    from vlpart.inference.base import BasePredictor

#: What can be written: `video` NAME_parts.mp4, `jsonl` NAME_parts.jsonl.
VIDEO_FORMATS = ("video", "jsonl")
_WAITING = 4  # frames that may wait to be drawn and encoded


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """What was done to a video: frames, distinct objects, seconds of work, and the files (None = not asked for)."""

    frames: int
    objects: int
    seconds: float
    video: Path | None
    lines: Path | None


@dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """A finished frame: its place and time, the result, and for every detection the number of its object, 0 = none."""

    frame: Frame
    result: Result
    tracks: NDArray[np.int64]


def track_video(
    predictor: BasePredictor,
    source: str,
    *,
    vocabulary: Vocabulary | str | None = None,
    score_threshold: float = 0.5,
    short_side: int | None = None,
    max_side: int | None = None,
    max_detections: int | None = None,
    stride: int = 1,
    start: float = 0.0,
    end: float | None = None,
    batch_size: int = 1,
    keep_nested: bool = False,
    iou: float | None = 0.7,
    select: str | None = None,
    smoothing: float = 0.0,
    reconnect: float = 0.0,
    on_open: Callable[[int | None, float], object] | None = None,
    on_lost: Callable[[str], object] | None = None,
) -> Generator[VideoFrame, None, None]:
    """The frames of a video, one after the other, with what is in them and who it is.

    A camera (a webcam, `rtsp://`, `rtmp://`, `udp://`, `srt://`) does not wait: what it shows while the network and
    the caller are busy is left out. Of everything else each frame comes.

    Args:
        predictor: from `vlpart.load`.
        source: a video file, an address (`rtsp://...`), or "0" for the first webcam.
        vocabulary, short_side, max_side, max_detections: see `Predictor.predict`.
        score_threshold: detections with less are left out, unless they continue an object that had more.
        stride, start, end: which frames, see `vlpart.video.reader.open_video`.
        batch_size: frames per forward pass, at most; with a camera it delays the answer.
        keep_nested, iou, select: see `vlpart.predict_to_folder`.
        smoothing: weight of earlier frames in boxes and masks, 0 to 0.95.
        reconnect: a camera that is lost is opened again and again for so many seconds.
        on_open: told how many frames there will be, if that is known, and their rate.
        on_lost: told why a camera was lost, before it is tried again.

    Raises:
        VideoError: the video cannot be read, or the extra `video` is not installed.
        VlpartError, ValueError: see `Predictor.predict`.
    """
    in_range("smoothing", smoothing, 0, 0.95)
    predicts(predictor)
    one_of("keep_nested", keep_nested, bool)
    in_range("score_threshold", score_threshold, 0, 1)
    batch_size = whole("batch_size", batch_size, 1, 1 << 20)
    if iou is not None:
        in_range("iou", iou, 0, 1)
    in_range("reconnect", reconnect, 0, 1e6)
    called("on_open", on_open)
    called("on_lost", on_lost)
    if select is not None:
        parse(select, predictor.vocabulary if vocabulary is None else Vocabulary.of(vocabulary))
    sizes = {"short_side": short_side, "max_side": max_side, "max_pixels": None}
    appetite = Appetite(batch_size)
    shown = lasting_video(source, appetite, stride=stride, start=start, end=end, reconnect=reconnect, on_lost=on_lost)
    frames = _frames(shown, partial(predictor.read, **sizes))
    with closing(read_ahead(frames, depth=2 * batch_size)) as ahead:
        video = cast(Video, next(ahead))
        rate = float(video.rate / stride)
        if on_open is not None:
            on_open(video.frames, rate)
        tracker, smoother = Tracker(rate, score_threshold), Smoother(smoothing)
        for batch in in_batches(appetite.fed(cast(Iterator[tuple[Frame, ReadImage]], ahead)), batch_size):
            results = predictor.detect(
                [image for _, image in batch],
                vocabulary=vocabulary,
                score_threshold=score_threshold * DOUBTFUL,
                max_detections=max_detections,
            )
            for (frame, _), result in zip(batch, results, strict=True):
                if not keep_nested:
                    result = result.without_nested()
                if iou is not None:
                    result = result.without_overlapping(iou)
                if select is not None:
                    result = result.select(select, with_parts=True)
                result, tracks = tracker.update(result)
                if smoothing:
                    result = smoother.smooth(result, tracks)
                yield VideoFrame(frame=frame, result=result, tracks=tracks)


def _frames(
    shown: Generator[Video | Frame, None, None], read: Callable[[Any], ReadImage]
) -> Iterator[Video | tuple[Frame, ReadImage]]:
    """What is known of the video, then its frames, read for the network: all of it in one thread."""
    with closing(shown):
        for each in shown:
            yield each if isinstance(each, Video) else (each, read(each.pixels))


@typed("source", "output", "formats", "drawing", "on_frame")
def predict_video(
    predictor: BasePredictor,
    source: str,
    *,
    output: str | Path | IO[bytes] = "vlpart-results",
    name: str = "",
    formats: tuple[str, ...] = VIDEO_FORMATS,
    drawing: Mapping[str, Any] | None = None,
    on_frame: Callable[[VideoFrame], object] | None = None,
    **options: Any,
) -> VideoSummary:
    """Write what is in a video: NAME_parts.mp4, annotated, and NAME_parts.jsonl, a line per frame.

    However the run ends (Ctrl-C, an error, a full disk), the frames so far are in files that play and parse.

    Args:
        predictor, source, options: see `track_video`.
        output: folder for the results, or an open binary file that gets the lines.
        name: of the results; default: that of the video file, or "camera".
        formats: any of `VIDEO_FORMATS`; only `jsonl` goes into an open file.
        drawing: keyword arguments of `Result.plot`.
        on_frame: called with every finished frame.

    Raises:
        VideoError, VlpartError, ValueError: see `track_video`.
        OutputError: the files cannot be written, an unknown format, or the video would overwrite its source.
    """
    started = time.monotonic()
    predicts(predictor)
    one_of("name", name, str)
    if "/" in name or "\\" in name or "\0" in name:
        raise OutputError(f"the name of results is no path, got {name!r}")
    called("on_frame", on_frame)
    files = _Files.of(source, output, name, formats, drawing or {}, float(options.get("start", 0.0)))
    told = options.pop("on_open", None)

    def opened(count: int | None, rate: float) -> None:
        """Take the rate for the files, and pass it on."""
        files.rate = rate
        if told is not None:
            told(count, rate)

    frames, objects = 0, 0
    with closing(files):
        tracked = track_video(predictor, source, on_open=opened, **options)
        with WriteBehind(files.add, depth=_WAITING) as behind, closing(tracked) as found:
            for done in found:
                behind.put(done)
                frames, objects = frames + 1, max(objects, int(done.tracks.max(initial=0)))
                if on_frame is not None:
                    on_frame(done)
    seconds = time.monotonic() - started
    return VideoSummary(frames=frames, objects=objects, seconds=seconds, video=files.video_path, lines=files.lines_path)


@dataclass
class _Files:
    """What is written of a video. `start` is the time of its first frame, which the annotated video begins with."""

    video_path: Path | None
    lines_path: Path | None
    drawing: Mapping[str, Any]
    start: float
    lines: LinesFile | None
    rate: float = 25.0
    video: VideoFile | None = None

    @classmethod
    def of(
        cls,
        source: str,
        output: str | Path | IO[bytes],
        name: str,
        formats: Sequence[str],
        drawing: Mapping[str, Any],
        start: float,
    ) -> _Files:
        """Opened, or refused with an `OutputError`."""
        if not formats or set(formats) - set(VIDEO_FORMATS):
            raise OutputError(f"a video gives the formats {' and '.join(VIDEO_FORMATS)}, not {', '.join(formats)}")
        if not isinstance(output, str | Path):
            if list(formats) != ["jsonl"]:
                raise OutputError("of a video, a pipe takes the format jsonl only")
            return cls(None, None, drawing, start, LinesFile(None, output))
        folder, stem = local_path(output), name or name_of(source)
        video, lines = folder / f"{stem}_parts.mp4", folder / f"{stem}_parts.jsonl"
        for path in (video, lines):
            if is_there(path) and is_there(local_path(source)) and path.samefile(local_path(source)):
                raise OutputError(f"{path} is the video itself: choose another folder with --output")
        make_folder(folder)
        with_lines = "jsonl" in formats
        return cls(
            video_path=video if "video" in formats else None,
            lines_path=lines if with_lines else None,
            drawing=drawing,
            start=start,
            lines=LinesFile(lines) if with_lines else None,
        )

    def add(self, done: VideoFrame) -> None:
        """Write a frame."""
        tracks = done.tracks.tolist()
        if self.lines is not None:
            self.lines.add(frame_record(done.frame, done.result, tracks))
        if self.video_path is not None:
            if self.video is None:
                rate = max(Fraction(self.rate).limit_denominator(1001), Fraction(1, 1001))
                self.video = VideoFile(self.video_path, rate)
            picture = done.result.plot(done.frame.pixels, legend=False, tracks=tracks, **self.drawing)
            self.video.add(np.asarray(picture), done.frame.seconds - self.start)

    def close(self) -> None:
        """Complete what is open."""
        for file in (self.lines, self.video):
            if file is not None:
                file.close()


@typed()
def name_of(source: str) -> str:
    """What the results of a video are called."""
    if "://" in source:  # without the user and the password that the first part may have
        place = source.partition("://")[2].partition("?")[0]
        host, _, path = place.partition("/")
        plain = Path(path).stem or host.rpartition("@")[2].replace(":", "-")
        return plain.strip("[].") or "stream"
    return f"camera{source}" if source.isdecimal() else local_path(source).stem
