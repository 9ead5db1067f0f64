"""`vlpart predict` for videos: what is written, and what is said about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vlpart.cli.console import Bars, say, skipped
from vlpart.errors import VideoError
from vlpart.web import shown

if TYPE_CHECKING:
    from vlpart.inference.base import BasePredictor
    from vlpart.video.run import VideoFrame

#: What the formats of images are for a video.
_FORMATS = {"image": "video", "json": "jsonl", "jsonl": "jsonl"}


def video_formats(formats: Sequence[str] | None, *, piped: bool) -> tuple[str, ...]:
    """The formats of a video that stand for those of images: the annotated video for `image`, JSON lines for `json`."""
    if formats is None:
        return ("jsonl",) if piped else ("video", "jsonl")
    unknown = [name for name in formats if name not in _FORMATS]
    if unknown:
        raise typer.BadParameter(
            f"of a video there is no {unknown[0]}: choose from image (the annotated video) and jsonl",
            param_hint="--format",
        )
    return tuple(dict.fromkeys(_FORMATS[name] for name in formats))


def run_videos(
    predictor: BasePredictor,
    videos: Sequence[str],
    *,
    output: Path,
    piped: bool,
    formats: tuple[str, ...],
    drawing: Mapping[str, Any],
    progress: bool,
    **options: Any,
) -> int:
    """Write what is in videos, one after the other; Ctrl-C completes the files of the current one and ends.

    Args:
        options: those of `vlpart.video.run.track_video`.

    Returns:
        How many could not be read; each gets a line on standard error.
    """
    from vlpart.video.run import predict_video

    names: dict[str, int] = {}
    failed = 0
    for source in videos:
        counted, told = _Counted(), shown(source) if "://" in source else source
        with Bars(hidden=not progress, transient=True) as counted.bars:
            try:
                summary = predict_video(
                    predictor,
                    source,
                    output=sys.stdout.buffer if piped else output,
                    name=_free_name(source, names),
                    formats=formats,
                    drawing=drawing,
                    on_frame=counted.frame,
                    on_open=counted.opened,
                    on_lost=lambda why: say(f"{why}: trying again", err=True),
                    **options,
                )
            except KeyboardInterrupt:
                where = "" if piped else f", results in {output}"
                say(f"interrupted: {counted.done} frames finished{where}", err=True)
                raise typer.Exit(130) from None
            except VideoError as error:
                skipped(told, error)
                failed += 1
                continue
        files = [path.name for path in (summary.video, summary.lines) if path is not None]
        where = f" -> {output}: {', '.join(files)}" if files else ""
        rate = summary.frames / max(summary.seconds, 1e-9)
        say(
            f"{told}: {summary.frames} frames, {summary.objects} objects, {summary.seconds:.1f} s "
            f"({rate:.1f} frames per second){where}",
            err=piped,
        )
    return failed


class _Counted:
    """The frames of one video so far."""

    bars: Bars

    def __init__(self) -> None:
        self.done = 0
        self._total: int | None = None

    def opened(self, count: int | None, rate: float) -> None:
        """How many there will be."""
        self._total = count

    def frame(self, found: VideoFrame) -> None:
        """One more."""
        self.done += 1
        self.bars("frames", self.done, self._total)


def _free_name(source: str, taken: dict[str, int]) -> str:
    """The name of the results: that of the video, numbered where it is not the first of that name."""
    from vlpart.video.run import name_of

    name = name_of(source)
    taken[name.casefold()] = number = taken.get(name.casefold(), 0) + 1
    return name if number == 1 else f"{name}-{number}"
