"""Choosing tokens, streaming text and counting threads, without any model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from edgeft.runtimes.answer import Answer, choose, generators
from edgeft.runtimes.threads import choose_threads

LOGITS = np.array([0.0, 2.0, -1.0, 2.0, 1.0], dtype=np.float32)


def test_greedy_takes_the_first_of_the_highest() -> None:
    assert choose(LOGITS, 0.0, None) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_sampling_follows_the_softmax(temperature: float) -> None:
    random = np.random.default_rng(5)
    drawn = np.bincount([choose(LOGITS, temperature, random) for _ in range(4000)], minlength=5)
    expected = special.softmax(LOGITS.astype(float) / temperature) * 4000
    assert stats.chisquare(drawn, expected).pvalue > 0.001


def test_a_tiny_temperature_is_nearly_greedy_and_never_overflows() -> None:
    random = np.random.default_rng(5)
    huge = np.array([-1e30, 5e4, 1e30], dtype=np.float32)
    assert {choose(huge, 1e-6, random) for _ in range(50)} == {2}


def test_each_prompt_has_its_own_randomness() -> None:
    first, second = generators(2, 1.0, 7)
    again = generators(5, 1.0, 7)
    assert first.random() == again[0].random() != second.random()
    assert generators(3, 0.0, 7) == [None] * 3


def told(tokens: list[int], *, max_tokens: int = 100) -> tuple[list[str], Answer]:
    """What an answer streams whose token ids are the bytes of a text; 0 is the stop token."""
    pieces: list[str] = []
    answer = Answer(
        lambda ids: bytes(ids).decode("utf-8", "replace"), stop_ids=[0], max_tokens=max_tokens, on_token=pieces.append
    )
    for token in tokens:
        assert not answer.done
        answer.add(token)
    return pieces, answer


def test_a_character_is_streamed_when_it_is_whole() -> None:
    pieces, answer = told([*"aé👩b".encode(), 0])
    assert pieces == ["a", "é", "👩", "b"]
    assert answer.completion().text == "aé👩b"
    assert answer.completion().stopped
    assert answer.completion().ids[-1] == 0


def test_an_unfinished_character_is_told_at_the_end() -> None:
    pieces, answer = told(list("aé".encode()[:-1]), max_tokens=2)
    assert "".join(pieces) == answer.completion().text == "a\ufffd"
    assert not answer.completion().stopped


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert choose_threads(3, 10**6) == 3
    assert choose_threads(None, 3 * 10**6) == 1
    assert choose_threads(None, 10**9) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert choose_threads(None, 10**9) == 5
