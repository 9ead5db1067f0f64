"""The queue: order, batches, bounds, and what becomes of clients that leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from vlpart.errors import ImageError
from vlpart.serve.batching import JobQueue, QueueFullError, TooSlowError, again_after
from vlpart.serve.metrics import Metrics
from vlpart.serve.settings import ServeSettings


class Gate:
    """Work that notes its batches and waits until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, payloads: Sequence[Any]) -> list[Any]:
        self.batches.append(list(payloads))
        self.begun.set()
        assert self.open.wait(20)
        return [ImageError("bad") if payload == "bad" else f"{payload}!" for payload in payloads]


def run(scenario: Callable[[JobQueue, Gate], Awaitable[None]], **settings: Any) -> Gate:
    """Run a scenario beside a queue, with a first job that holds the thread until the gate is opened."""
    gate = Gate()

    async def whole() -> None:
        queue = JobQueue(ServeSettings(**settings), Metrics())
        running = asyncio.create_task(queue.run())
        first = queue.submit([(gate, "first", None, 1)])
        await asyncio.to_thread(gate.begun.wait, 20)
        try:
            await scenario(queue, gate)
        finally:
            gate.open.set()
            await asyncio.gather(*first, return_exceptions=True)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(whole())
    return gate


def test_what_goes_together_is_computed_together_and_the_first_comes_first() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        jobs = queue.submit([(gate, "a1", "a", 1), (gate, "b1", "b", 1), (gate, "a2", "a", 1), (gate, "c", None, 1)])
        gate.open.set()
        assert await asyncio.gather(*jobs) == ["a1!", "b1!", "a2!", "c!"]

    assert run(scenario).batches == [["first"], ["a1", "a2"], ["b1"], ["c"]]


def test_a_batch_has_bounds_of_number_and_pixels() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        jobs = queue.submit([(gate, i, "k", 30 if i == 3 else 10) for i in range(6)])
        gate.open.set()
        await asyncio.gather(*jobs)

    assert run(scenario, batch=3, batch_pixels=40).batches == [["first"], [0, 1, 2], [3, 4], [5]]


def test_no_more_than_the_queue_holds() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        queue.submit([(gate, 1, None, 1)])
        with pytest.raises(QueueFullError, match="1 images wait already, of 2"):
            queue.submit([(gate, 2, None, 1), (gate, 3, None, 1)])
        assert len(queue) == 1
        queue.submit([(gate, 4, None, 1)])

    assert [2] not in run(scenario, queue=2).batches


def test_who_leaves_is_not_computed() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        leaver, stayer = queue.submit([(gate, "leaver", "k", 1), (gate, "stayer", "k", 1)])
        leaver.cancel()
        await asyncio.sleep(0)
        assert len(queue) == 1
        gate.open.set()
        assert await stayer == "stayer!"

    assert run(scenario).batches == [["first"], ["stayer"]]


def test_an_error_is_that_of_its_own_job() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        good, bad = queue.submit([(gate, "good", "k", 1), (gate, "bad", "k", 1)])
        gate.open.set()
        assert await good == "good!"
        with pytest.raises(ImageError, match="bad"):
            await bad

    run(scenario)


def test_work_that_fails_fails_for_its_batch_and_the_queue_goes_on() -> None:
    def broken(payloads: Sequence[Any]) -> list[Any]:
        raise MemoryError("no room")

    async def scenario(queue: JobQueue, gate: Gate) -> None:
        first, second, good = queue.submit([(broken, 1, "k", 1), (broken, 2, "k", 1), (gate, "good", None, 1)])
        gate.open.set()
        for job in (first, second):
            with pytest.raises(MemoryError):
                await job
        assert await good == "good!"

    run(scenario)


def test_what_waited_too_long_is_given_up() -> None:
    async def scenario(queue: JobQueue, gate: Gate) -> None:
        (late,) = queue.submit([(gate, "late", None, 1)])
        await asyncio.sleep(0.15)
        gate.open.set()
        with pytest.raises(TooSlowError, match="longer than 0.1 s"):
            await late

    assert ["late"] not in run(scenario, seconds=0.1).batches


def test_a_full_queue_says_when_about_half_of_it_will_have_gone() -> None:
    assert [again_after(8, pace) for pace in (0.0, 0.01, 3.0, 100.0)] == [1, 1, 12, 30]
