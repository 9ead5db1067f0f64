"""Cameras: the frame that is there when one is wanted, and another try where the camera is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from threading import Semaphore
from typing import Any, TypeVar

from vlpart.errors import VideoError
from vlpart.video.reader import Frame, Video, open_video

Item = TypeVar("Item")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries


@dataclass
class Appetite:
    """How many frames the network would take now. The reader leaves out what a camera shows beyond them.

    Attributes:
        live: whether the frames come from a camera; of a film every frame is wanted.
    """

    size: int
    live: bool = False
    _free: Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = Semaphore(self.size)

    def wanted(self) -> bool:
        """Whether to take the frame that was just decoded. Asked in the reader's thread."""
        return not self.live or self._free.acquire(blocking=False)

    def fed(self, frames: Iterator[Item]) -> Iterator[Item]:
        """The same frames; whoever takes one will take another."""
        for frame in frames:
            if self.live:
                self._free.release()
            yield frame


def lasting_video(
    source: str,
    appetite: Appetite,
    *,
    reconnect: float = 0.0,
    on_lost: Callable[[str], object] | None = None,
    end: float | None = None,
    **which: Any,
) -> Generator[Video | Frame, None, None]:
    """What is known of a video, then its frames; of a camera those that are wanted.

    Args:
        reconnect: a camera that is lost, or ends, is opened again and again for so many seconds; time goes on.
        on_lost: told why, each time.
        end, which: see `open_video`.

    Raises:
        VideoError: see `open_video` and `Video`; of a camera that stays away, why the last try failed.
    """
    with ExitStack() as stack:
        video = stack.enter_context(open_video(source, end=end, **which))
        appetite.live = video.live
        yield video
        began = seen = time.monotonic()
        offset = 0.0
        while True:
            try:
                for frame in video.while_wanted(appetite.wanted):
                    seconds = frame.seconds + offset
                    if end is not None and seconds >= end:
                        return
                    yield replace(frame, seconds=round(seconds, 6), number=round(seconds * float(video.rate)))
                    seen = time.monotonic()
                lost = VideoError(f"{video.name} has ended")
                if not (video.live and reconnect):
                    return
            except VideoError as error:
                if not (video.live and reconnect):
                    raise
                lost = error
            stack.close()
            if on_lost is not None:
                on_lost(str(lost))
            if time.monotonic() > seen + reconnect:
                raise lost
            video = _opened(stack, source, seen + reconnect, stride=which.get("stride", 1))
            offset = time.monotonic() - began  # time went on while nothing came
            if end is not None and offset >= end:
                return


def _opened(stack: ExitStack, source: str, deadline: float, **which: Any) -> Video:
    """The camera again, tried with longer and longer pauses until the deadline."""
    pause = _FIRST_PAUSE
    while True:
        time.sleep(pause)
        try:
            return stack.enter_context(open_video(source, **which))
        except VideoError:
            pause = min(2 * pause, _LONGEST_PAUSE)
            if time.monotonic() + pause > deadline:
                raise
