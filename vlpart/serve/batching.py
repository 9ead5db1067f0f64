"""A bounded queue in front of one thread that computes, in batches of what goes together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vlpart.errors import VlpartError
from vlpart.serve.metrics import Metrics
from vlpart.serve.settings import ServeSettings

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Payloads to answers, in order; an answer that is an exception is raised for its own payload alone. Runs in the
thread."""


#: Bounds of the seconds after which a client that met a full queue should ask again.
AGAIN = (1, 30)


class QueueFullError(VlpartError):
    """There is no place in the queue.

    Attributes:
        again: seconds after which to ask again.
    """

    def __init__(self, text: str, again: int = AGAIN[0]) -> None:
        super().__init__(text)
        self.again = again


def again_after(waiting: int, pace: float) -> int:
    """Seconds until about half of a full queue has gone: sooner, most of those who ask would be refused again.

    Args:
        waiting: images in the queue.
        pace: seconds that an image takes; 0 = not known yet.
    """
    least, most = AGAIN
    return min(max(math.ceil(pace * waiting / 2), least), most)


class TooSlowError(VlpartError):
    """A job waited longer than the server allows."""


@dataclass(eq=False)
class Job:
    """One thing to compute.

    Attributes:
        work: how.
        payload: what.
        key: jobs of equal work and key are computed together; None = alone.
        pixels: how large it is.
        answer: what comes of it; cancelling it takes the job out of the queue.
        start: when it was submitted, by `time.monotonic`.
    """

    work: Work
    payload: Any
    key: Hashable
    pixels: int
    answer: asyncio.Future[Any]
    start: float = field(default_factory=time.monotonic)


class JobQueue:
    """First come, first served; what goes together with the first is computed with it.

    All methods belong to the thread of the event loop. `Work` runs in a thread of its own, one at a time.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._jobs: deque[Job] = deque()
        self._filled = asyncio.Event()
        self._pace = 0.0  # seconds that an image takes, of late
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vlpart-compute")

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, jobs: Sequence[tuple[Work, Any, Hashable, int]]) -> list[asyncio.Future[Any]]:
        """Put jobs (work, payload, key, pixels) into the queue, all or none.

        Raises:
            QueueFullError: there is not enough room.
        """
        free = self._settings.queue - len(self._jobs)
        if len(jobs) > free:
            self._metrics.refused.labels("queue").inc()
            raise QueueFullError(
                f"{len(self._jobs)} images wait already, of {self._settings.queue}: try again later",
                again_after(len(self._jobs), self._pace),
            )
        loop = asyncio.get_running_loop()
        made = [Job(*job, answer=loop.create_future()) for job in jobs]
        for job in made:
            self._jobs.append(job)
            job.answer.add_done_callback(lambda _, job=job: self._forget(job))  # type: ignore[misc]
        self._metrics.waiting.set(len(self._jobs))
        self._filled.set()
        return [job.answer for job in made]

    def _forget(self, job: Job) -> None:
        if job.answer.cancelled():
            self._metrics.given_up.labels("client left").inc()
            with suppress(ValueError):  # it is being computed
                self._jobs.remove(job)
            self._metrics.waiting.set(len(self._jobs))

    async def run(self) -> None:
        """Compute what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._filled.wait()
                batch = self._take()
                if not batch:
                    self._filled.clear()
                    continue
                started = time.monotonic()
                done = await loop.run_in_executor(self._thread, _computed, batch)
                seconds = time.monotonic() - started
                self._metrics.computing.observe(seconds)
                each = seconds / len(batch)
                self._pace = each if not self._pace else 0.8 * self._pace + 0.2 * each
                for job, answer in zip(batch, done, strict=True):
                    if job.answer.done():
                        continue
                    if isinstance(answer, BaseException):
                        job.answer.set_exception(answer)
                    else:
                        job.answer.set_result(answer)
        finally:
            for job in list(self._jobs):
                job.answer.cancel()
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> list[Job]:
        """The first job and those behind it that go with it; what waited too long is given up."""
        for job in [job for job in self._jobs if time.monotonic() - job.start > self._settings.seconds]:
            self._jobs.remove(job)
            self._metrics.given_up.labels("waited too long").inc()
            job.answer.set_exception(
                TooSlowError(f"it waited longer than {self._settings.seconds:g} s: try again later")
            )
        batch: list[Job] = []
        pixels = 0
        for job in list(self._jobs):
            alike = not batch or (job.key is not None and (job.work, job.key) == (batch[0].work, batch[0].key))
            if alike and (not batch or pixels + job.pixels <= self._settings.batch_pixels):
                batch.append(job)
                pixels += job.pixels
                if len(batch) == self._settings.batch:
                    break
        for job in batch:
            self._jobs.remove(job)
        self._metrics.waiting.set(len(self._jobs))
        if batch:
            self._metrics.batches.observe(len(batch))
        return batch


def _computed(batch: list[Job]) -> Sequence[Any]:
    """The answers of a batch, in the thread that computes. An error of all is the error of each."""
    try:
        return batch[0].work([job.payload for job in batch])
    except Exception as error:  # noqa: BLE001  whatever it is, the thread goes on and the clients hear of it
        return [error] * len(batch)
