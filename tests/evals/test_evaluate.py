from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeft.errors import DataError
from edgeft.evals import evaluate as module
from edgeft.evals import suites
from edgeft.evals.encoded import encode
from edgeft.evals.evaluate import batches, evaluate, latency
from edgeft.evals.scores import of_suite, pair, suite_names
from edgeft.progress import Progress
from edgeft.runtimes import scoring
from edgeft.runtimes.scoring import target_logprobs
from tests.evals.fakes import END, FakeRuntime, byte_ids, chatml, conversation


def suite(count: int = 6, **keywords: object) -> suites.Suite:
    rows = [conversation("q" * (i + 1), f"answer {i}", f"f:{i}", "ab"[i % 2]) for i in range(count)]
    return suites.from_rows("task", rows, metrics=["exact_match"], **keywords)  # type: ignore[arg-type]


def test_rows_and_summary() -> None:
    runtime = FakeRuntime({"q": "answer 0", "qq": "answer 1", "qqq": "answer 2"}, default="wrong")
    seen: list[Progress] = []
    found = evaluate(runtime, [suite()], seen.append, batch_size=4)
    assert [row["id"] for row in found.rows] == [f"f:{i}" for i in range(6)]
    first = found.rows[0]
    assert first["prompt"] == [{"role": "user", "content": "q"}]
    assert (first["expected"], first["answer"], first["stopped"], first["scores"]) == (
        "answer 0",
        "answer 0",
        True,
        {"exact_match": 1.0},
    )
    assert first["tokens"] == len("answer 0") + 1  # and the end of the turn, not the line break behind it
    assert found.summary["task"]["exact_match"]["value"] == 0.5
    assert found.summary["task"]["exact_match"]["n"] == 6
    assert found.summary["task/a"]["exact_match"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert list(found.summary) == ["task", "task/a", "task/b"]
    assert [len(batch) for batch in runtime.asked] == [4, 2]
    assert runtime.asked[0] == sorted(runtime.asked[0], reverse=True)
    assert seen[-1].done == seen[-1].total == 12


def test_loss_is_torchs_cross_entropy_of_the_answer() -> None:
    runtime = FakeRuntime()
    found = evaluate(runtime, [suite(3)])
    for case, row in zip(suite(3).cases, found.rows, strict=True):
        prompt = byte_ids(chatml(case.messages, True))
        ids = [*prompt, *byte_ids(case.expected), END]
        logits = torch.from_numpy(runtime.logits(ids)).double()
        wanted = torch.nn.functional.cross_entropy(
            logits[len(prompt) - 1 : -1], torch.tensor(ids[len(prompt) :]), reduction="sum"
        )
        assert row["loss"] == pytest.approx(float(wanted), abs=1e-5)
    nats, tokens = (sum(row[name] for row in found.rows) for name in ("loss", "tokens"))
    assert found.summary["task"]["loss"]["value"] == pytest.approx(nats / tokens, abs=1e-6)


def test_evaluation_does_not_depend_on_batches() -> None:
    one, other = (evaluate(FakeRuntime(), [suite()], batch_size=size) for size in (1, 64))
    assert one.rows == other.rows
    assert one.summary == other.summary


def test_a_token_that_joins_prompt_and_answer_belongs_to_the_answer() -> None:
    def joined(text: str) -> list[int]:  # one token for a line break followed by an "a"
        ids = byte_ids(text)
        out: list[int] = []
        for token in ids:
            if out and out[-1] == 10 and token == ord("a"):
                out[-1] = 255
            else:
                out.append(token)
        return out

    case = suite(1).cases[0]
    item = encode(FakeRuntime(encode=joined), case)
    assert item.ids[item.start] == 255
    assert item.end - item.start == len("answer 0") + 1


def test_rows_that_do_not_fit_are_named() -> None:
    runtime = FakeRuntime()
    runtime.context_length = 30
    with pytest.raises(DataError, match="the row 'f:5' has 56 tokens, the context of fake holds 30"):
        evaluate(runtime, [suites.from_rows("s", [conversation("q" * 30, "a" * 5, "f:5")], metrics=["exact_match"])])


def test_answers_get_what_room_the_context_has() -> None:
    runtime = FakeRuntime(default="x" * 50, stops=False)
    runtime.context_length = 48
    (row,) = evaluate(runtime, [suite(1)]).rows
    assert not row["stopped"]
    assert row["generated"] == 48 - len(byte_ids(chatml(suite(1).cases[0].messages, True)))


def test_log_probabilities_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32) * 30
    whole = target_logprobs(logits, [0, 1, 2, 3, 4, 0, 1])
    monkeypatch.setattr(scoring, "_CHUNK_VALUES", 10)
    assert np.array_equal(whole, target_logprobs(logits, [0, 1, 2, 3, 4, 0, 1]))
    wanted = torch.log_softmax(torch.from_numpy(logits).double(), dim=1)[range(7), [0, 1, 2, 3, 4, 0, 1]]
    assert whole == pytest.approx(wanted.numpy())


def test_batches_are_the_longest_first() -> None:
    assert list(batches([3, 9, 5, 9], 3)) == [[1, 3, 2], [0]]


def test_latency_asks_one_at_a_time() -> None:
    runtime = FakeRuntime()
    found = latency(runtime, [suite(2), suite(6)], 5)
    assert found["answers"] == 5
    assert all(len(batch) == 1 for batch in runtime.asked)
    assert found["p50_seconds"] <= found["p95_seconds"]
    assert found["tokens_per_second"] > 0
    assert latency(runtime, [suite()], 0) == {}


def test_latency_does_not_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATENCY_SECONDS", 0.0)
    assert latency(FakeRuntime(), [suite(6)], 5)["answers"] == 1


def test_pairs_are_the_same_rows() -> None:
    rows = evaluate(FakeRuntime(), [suite()]).rows
    assert suite_names(rows) == ["task", "task/a", "task/b"]
    assert [row["id"] for row in of_suite(rows, "task/b")] == ["f:1", "f:3", "f:5"]
    assert [first["id"] for first, second in pair(rows, rows[::-1], "x") if first is second] == [
        f"f:{i}" for i in range(6)
    ]
    with pytest.raises(DataError, match=r"x: the two evaluations are not of the same rows \(1 differ, such as 'f:5'\)"):
        pair(rows, rows[:-1], "x")
    changed = [{**rows[0], "expected": "else"}, *rows[1:]]
    with pytest.raises(DataError, match="the row 'f:0' expects another answer"):
        pair(rows, changed, "x")
