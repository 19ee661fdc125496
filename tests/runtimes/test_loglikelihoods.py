"""Scores of continuations against the full logits of each request, read by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.runtimes import hf_scoring, scoring
from edgeft.runtimes.hf import open_hf

REQUESTS = [
    ([5, 6, 7], [8, 9]),
    ([5, 6, 7], [8, 10, 11]),
    ([5, 6, 7], [12]),
    ([5, 6, 7, 8, 9, 10, 11, 12], [13, 14]),
    ([5, 6, 7, 8, 9, 10, 11, 13], [13, 14]),
    ([40], [41, 42, 43, 44]),
    ([5, 6, 7], [8, 9]),
    (list(range(60, 90)), [5]),
]


def check(runtime: Any, tolerance: float) -> None:
    heard: list[int] = []
    found = runtime.loglikelihoods(REQUESTS, on_done=heard.append)
    assert sum(heard) == len(REQUESTS)
    for (prefix, continuation), said in zip(REQUESTS, found, strict=True):
        logits = runtime.logits([*prefix, *continuation])[len(prefix) - 1 : -1]
        assert said.logprobs == pytest.approx(scoring.target_logprobs(logits, continuation), abs=tolerance)
        assert said.greedy == (logits.argmax(axis=1).tolist() == continuation)


@pytest.mark.parametrize("budget", [16, 1 << 14])
def test_a_transformers_model(tiny_llama: Any, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_hf(tiny_llama) as runtime:
        runtime.batch_tokens = budget
        assert hf_scoring.may_share(runtime._model)
        check(runtime, 2e-5)
        greedy = runtime.generate([[5, 6, 7]], max_tokens=3)[0].ids
        assert runtime.loglikelihoods([([5, 6, 7], greedy)])[0].greedy
        monkeypatch.setattr(hf_scoring, "_LOGITS", 3 * runtime.vocab_size)  # several passes for one batch
        check(runtime, 2e-5)


def test_the_layers_run_once_however_many_logits_are_needed(
    tiny_llama: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large vocabulary takes the output layer in pieces; the layers below it are not run again for each."""
    for adapter in (None, tiny_adapter):
        with open_hf(tiny_llama, adapter) as runtime:
            layer = runtime._model.get_decoder().layers[0]
            ran: list[int] = []
            layer.register_forward_hook(lambda *_, ran=ran: ran.append(1))
            whole = runtime.loglikelihoods(REQUESTS)
            together = len(ran)
            monkeypatch.setattr(hf_scoring, "_LOGITS", 3 * runtime.vocab_size)
            pieces = runtime.loglikelihoods(REQUESTS)
            assert len(ran) == 2 * together
            for one, other in zip(whole, pieces, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
            monkeypatch.undo()
            assert runtime.logits([5, 6, 7]).shape == (3, runtime.vocab_size), "the model is as it was"


def test_every_runtime(runtime: Any) -> None:
    check(runtime, 2e-3 if runtime.name.startswith("gguf") else 1e-4)
    check(runtime, 2e-3 if runtime.name.startswith("gguf") else 1e-4)  # and with what is left in the cache
    assert runtime.prefix_id is not None


def test_no_logits_are_computed_that_nobody_needs(tiny_llama: Any) -> None:
    with open_hf(tiny_llama) as runtime:
        widths: list[int] = []
        head = runtime._model.get_output_embeddings()
        head.register_forward_hook(lambda _m, _i, output: widths.append(output.shape[1]))
        runtime.loglikelihoods(REQUESTS)
        assert sum(widths) <= sum(len(continuation) for _, continuation in REQUESTS)


IDS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=8), st.integers(1, 20))
def test_a_tree_holds_every_request(requests: list[tuple[list[int], list[int]]], most: int) -> None:
    found = scoring.trees(requests, most)
    seen = {}
    for tree in found:
        for number, path in tree.paths:
            seen[number] = [tree.ids[i] for i in path]
            assert [tree.depths[i] for i in path] == list(range(len(path)))
            assert [tree.parents[i] for i in path] == [-1, *path[:-1]][: len(path)]
    assert seen == {n: [*prefix, *rest][:-1] for n, (prefix, rest) in enumerate(requests)}
    assert [len(tree) for tree in found] == sorted((len(tree) for tree in found), reverse=True)


def test_shared_tokens_stand_once() -> None:
    (tree,) = scoring.trees([([1, 2, 3, 4], [5, 6]), ([1, 2, 3, 4], [7, 8]), ([1, 2, 3, 4], [5, 9])], 100)
    assert sorted(tree.ids) == [1, 2, 3, 4, 5, 7]
    assert np.diff([len(path) for _, path in tree.paths]).tolist() == [0, 0]
