"""Work that is handed on, done in order in a thread of its own: writing while others compute. Called by `writer`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Task = Callable[[], object]


@contextmanager
def behind(most: int) -> Iterator[Callable[[Task, int], None]]:
    """Yields a function that takes tasks and their sizes; it waits while those not yet done have more than `most`
    together (one task is taken in any case).

    Leaving the context waits for all of them. An error of a task is raised at the next task handed in, or at the end;
    after it no other task is begun.
    """
    waiting: deque[tuple[Task, int] | None] = deque()
    changed = threading.Condition()
    failed: list[BaseException] = []
    held = 0

    def work() -> None:
        nonlocal held
        while True:
            with changed:
                changed.wait_for(lambda: bool(waiting))
                found = waiting.popleft()
            if found is None:
                return
            task, size = found
            try:
                if not failed:
                    task()
            except BaseException as error:  # it is raised again where tasks are handed in
                failed.append(error)
            with changed:
                held -= size
                changed.notify_all()

    def hand(task: Task, size: int) -> None:
        nonlocal held
        with changed:
            changed.wait_for(lambda: bool(failed) or not held or held + size <= most)
            if failed:
                raise failed[0]
            waiting.append((task, size))
            held += size
            changed.notify_all()

    worker = threading.Thread(target=work, name="write-behind", daemon=True)
    worker.start()
    try:
        yield hand
    except BaseException as error:
        failed.append(error)  # what still waits is not begun
        raise
    finally:
        with changed:
            waiting.append(None)
            changed.notify_all()
        worker.join()
    if failed:
        raise failed[0]
