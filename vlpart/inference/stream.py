"""Items that flow through stages: read ahead in a thread of its own, taken in batches, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")

#: Seconds that the end waits for the reading thread. Python that ends while that is inside of torch aborts the process;
#: a camera or server that says nothing is not waited for any longer.
LEAVING = 2.0


def read_ahead(
    items: Iterable[Item], depth: int, idle: Callable[[], object] = lambda: None
) -> Generator[Item, None, None]:
    """Iterate in a thread of its own, at most `depth` items ahead; what the iterator raises is raised here.

    A generator is closed in that thread, too, so whatever it holds open is used by one thread alone. `idle` is called
    in the thread that takes the items, again and again while it has to wait for one.
    """
    ready: Queue[tuple[bool, Any]] = Queue(maxsize=depth)
    stop = Event()

    def put(entry: tuple[bool, Any]) -> None:
        """Hand an entry over, unless nobody wants it any more."""
        while not stop.is_set():
            with suppress(Full):
                ready.put(entry, timeout=0.1)
                return

    def work() -> None:
        """Iterate until the end, an error, or until nobody wants more."""
        try:
            for item in items:
                put((True, item))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 (handed to the consumer, which raises it)
            put((False, error))
        else:
            put((False, None))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = Thread(target=work, name="vlpart-reader", daemon=True)
    thread.start()
    try:
        while True:
            try:
                more, value = ready.get(timeout=0.1)  # with a timeout, so that Ctrl-C is heard on every system
            except Empty:
                idle()
                continue
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join(LEAVING)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
