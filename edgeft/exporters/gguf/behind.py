"""Work that is handed on, done in order in a thread of its own: writing while others compute. Called by `writer`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Task = Callable[[], object]


@contextmanager
def behind(depth: int) -> Iterator[Callable[[Task], None]]:
    """Yields a function that takes tasks; at most `depth` wait (one more is at work), then it waits too.

    Leaving the context waits for all of them. An error of a task is raised at the next task handed in, or at the end;
    after it no other task is begun.
    """
    waiting: queue.Queue[Task | None] = queue.Queue(maxsize=depth)
    failed: list[BaseException] = []

    def work() -> None:
        while (task := waiting.get()) is not None:
            if failed:
                continue  # taken off, so that nobody waits for room
            try:
                task()
            except BaseException as error:  # it is raised again where tasks are handed in
                failed.append(error)

    def hand(task: Task) -> None:
        if failed:
            raise failed[0]
        waiting.put(task)

    worker = threading.Thread(target=work, name="write-behind", daemon=True)
    worker.start()
    try:
        yield hand
    except BaseException as error:
        failed.append(error)  # what still waits is not begun
        raise
    finally:
        waiting.put(None)
        worker.join()
    if failed:
        raise failed[0]
