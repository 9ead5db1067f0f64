"""Stopping on purpose: the first signal (Ctrl-C, SIGTERM, or SIGHUP of a terminal that is closed) asks for a stop after
the running step, a second one insists.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


def heard(number: int) -> bool:
    """Whether to take a signal: what `nohup` has a program ignore stays so; handlers that are not Python's, too."""
    known = signal.getsignal(number)
    return known is not None and not (number == getattr(signal, "SIGHUP", None) and known == signal.SIG_IGN)


class StopRequest:
    """Inside `with`, `reason` becomes the name of the first signal; before and after it, signals do what they did.

    Handlers can only be set in the main thread, and one that is not Python's cannot be put back; there this changes
    nothing.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._previous: dict[int, Any] = {}

    def ask(self, reason: str) -> None:
        """Ask for a stop without a signal; the first reason counts."""
        self.reason = self.reason or reason

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if heard(number):
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def deliver(self) -> None:
        """After the `with`: let a signal that came inside do what it would have done at once."""
        if self.reason is not None:
            signal.raise_signal(signal.Signals[self.reason])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def exit_code(reason: str) -> int:
    """What a shell expects of a program that stopped for `reason`: 128 + the number of the signal, else 0."""
    return 128 + signal.Signals[reason] if reason in signal.Signals.__members__ else 0
