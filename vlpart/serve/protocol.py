"""HTTP/1.1 for uvicorn, with deadlines that it lacks: for heads that do not come and answers that nobody takes."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedProtocol(H11Protocol):
    """A connection that is closed when no head of a request comes, or nobody takes what is sent, for `patience` s."""

    patience = 15.0

    def connection_made(self, transport: Any) -> None:
        """A client is there: it has something to ask."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = self.loop.call_later(self.patience, self._abort)
        self._reader: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """A whole head ends the wait, a part of one begins it."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            if self._head is None:
                self._head = self.loop.call_later(self.patience, self._abort)
        else:
            self._head = _stop(self._head)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._reader = self._reader or self.loop.call_later(self.patience, self._abort)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._reader = _stop(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._head, self._reader = _stop(self._head), _stop(self._reader)
        super().connection_lost(exc)

    def _abort(self) -> None:
        self.transport.abort()


def guarded(patience: float) -> type[GuardedProtocol]:
    """The protocol with so many seconds of patience."""
    return type("GuardedProtocol", (GuardedProtocol,), {"patience": patience})


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """None, which is what a stopped timer is."""
    if timer is not None:
        timer.cancel()
    return None
