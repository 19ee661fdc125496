"""Writing behind: in order, bounded, and an error of a task is raised where tasks are handed in."""

from __future__ import annotations

import threading

import pytest

from edgeft.exporters.gguf.behind import behind


def test_in_order_and_all_done_at_the_end() -> None:
    done: list[int] = []
    with behind(2) as hand:
        for number in range(50):
            hand(lambda number=number: done.append(number), 1)
    assert done == list(range(50))


def test_no_more_than_the_sizes_allow_waits() -> None:
    go, begun = threading.Event(), threading.Event()
    handed: list[int] = []

    def slow() -> None:
        begun.set()
        go.wait(10)

    def feed() -> None:
        with behind(30) as hand:
            for number in range(6):
                hand(slow, 10)
                handed.append(number)

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert begun.wait(10)
    feeder.join(0.2)
    assert len(handed) <= 3, "one at work and two waiting"
    go.set()
    feeder.join(10)
    assert len(handed) == 6


def test_one_larger_than_all_is_taken() -> None:
    done: list[int] = []
    with behind(5) as hand:
        for number in range(3):
            hand(lambda number=number: done.append(number), 100)
    assert done == [0, 1, 2]


def test_an_error_is_raised_and_nothing_is_begun_after_it() -> None:
    done: list[int] = []

    def fails() -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"), behind(1) as hand:  # noqa: PT012
        hand(fails, 1)
        for number in range(100):
            hand(lambda number=number: done.append(number), 1)
    assert not done


def test_an_error_of_the_last_task_is_raised_at_the_end() -> None:
    with pytest.raises(ValueError, match="last"), behind(1) as hand:
        hand(lambda: int("last"), 1)


def test_an_error_outside_leaves_what_waits() -> None:
    go = threading.Event()
    done: list[int] = []
    with pytest.raises(KeyError), behind(3) as hand:  # noqa: PT012
        hand(lambda: go.wait(10), 1)
        hand(lambda: done.append(1), 1)
        threading.Timer(0.05, go.set).start()
        raise KeyError
    assert not done
