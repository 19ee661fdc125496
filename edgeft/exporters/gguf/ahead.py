"""An iterator that runs in a thread of its own, a few items ahead: reading while others compute. Called by `writer`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class _End:
    """What comes after the last item: nothing, or the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def ahead(items: Iterator[T], depth: int) -> Iterator[Iterator[T]]:
    """`items`, each made in another thread while earlier ones are used; at most `depth` wait (one more is being made).

    An error of the maker is raised where its item would have come; leaving the context ends the maker.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def hand(item: T | _End) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not hand(item):
                    return
            hand(_End())
        except BaseException as error:  # it is raised again where the items are used
            hand(_End(error))

    def take() -> Iterator[T]:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    maker = threading.Thread(target=make, name="read-ahead", daemon=True)
    maker.start()
    try:
        yield take()
    finally:
        stop.set()
        maker.join()
