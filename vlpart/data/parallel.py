"""The same function over many files, in this process or in several, in order and with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vlpart.errors import DataError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Called with (what is being done, done, total).
Progress = Callable[[str, int, int], None]


def default_processes() -> int:
    """Processes a command uses unless told: the processors of this machine, 8 at most."""
    return max(1, min(8, os.cpu_count() or 1))


def run_over(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    *,
    processes: int = 1,
    label: str = "",
    progress: Progress | None = None,
    chunk: int = 16,
) -> Iterator[Answer]:
    """`function(item)` of every item, in the order of the items.

    Args:
        function: a module-level function (or a `partial` of one); it should not raise for a bad file but say so in its
            answer, since an exception ends the run.
        processes: 1 = in this process. More are started fresh ("spawn"), so a script that asks for them needs
            `if __name__ == "__main__":`.
        label: what is being done, for `progress`.
        chunk: items handed to a process at a time.

    Raises:
        DataError: a process was killed from outside (usually for want of memory).
    """
    total = len(items)
    if progress is not None:
        progress(label, 0, total)
    answers = map(function, items) if processes <= 1 or total <= chunk else _in_pool(function, items, processes, chunk)
    for done, answer in enumerate(answers, start=1):
        yield answer
        if progress is not None:
            progress(label, done, total)


def _in_pool(function: Callable[[Item], Answer], items: Sequence[Item], processes: int, chunk: int) -> Iterator[Answer]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, usually for want of memory; run again with fewer --processes"
        ) from None
    finally:  # also when this process is interrupted: nothing new starts, what runs ends with its chunk
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
