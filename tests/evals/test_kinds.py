"""Choices, pairs, texts, examples against the fake runtime's logits; metrics against the libraries they stand for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgeft.evals import metrics, scores, suites
from edgeft.evals.evaluate import evaluate
from edgeft.evals.likelihoods import windows
from edgeft.evals.prompts import messages_of
from edgeft.evals.questions import case_of
from edgeft.runtimes.scoring import target_logprobs
from tests.evals.fakes import END, FakeRuntime, byte_ids, chatml, conversation

CHOICES = [
    {"id": str(i), "question": f"q{i}?", "choices": ["yes", "no", "maybe so"], "answer": i % 3} for i in range(6)
]


def test_the_likeliest_choice_is_the_answer() -> None:
    runtime = FakeRuntime()
    suite = suites.from_rows("s", CHOICES, metrics=["accuracy", "accuracy_norm", "macro_f1"], kind="choice")
    found = evaluate(runtime, [suite])
    for row, raw in zip(found.rows, CHOICES, strict=True):
        prompt = byte_ids(chatml([{"role": "user", "content": raw["question"]}], True))
        sums = []
        for choice in raw["choices"]:
            rest = [*byte_ids(choice), END]
            logits = runtime.logits([*prompt, *rest])[len(prompt) - 1 : -1]
            sums.append(float(target_logprobs(logits, rest).sum()))
        assert [choice["logprob"] for choice in row["choices"]] == pytest.approx(sums, abs=1e-5)
        assert row["answer"] == raw["choices"][sums.index(max(sums))]
        assert row["scores"]["accuracy"] == float(row["answer"] == raw["choices"][raw["answer"]])
        assert row["loss"] == pytest.approx(-sums[raw["answer"]], abs=1e-5)
    from sklearn.metrics import f1_score

    wanted = f1_score(
        [row["expected"] for row in found.rows],
        [row["answer"] for row in found.rows],
        average="macro",
        labels=sorted({row["expected"] for row in found.rows}),
        zero_division=0.0,
    )
    assert found.summary["s"]["macro_f1"]["value"] == pytest.approx(wanted, abs=1e-6)


def test_pairs_and_texts() -> None:
    pairs = suites.from_rows("p", [{"good": "a b", "bad": "b a"}], metrics=["accuracy"], kind="pairs")
    texts = suites.from_rows(
        "t", [{"text": "héllo" * 3}, {"text": "x"}], metrics=["perplexity", "bits_per_byte"], kind="perplexity",
        settings={"window": 5, "overlap": 2},
    )  # fmt: skip
    found = evaluate(FakeRuntime(), [pairs, texts])
    pair, *rows = found.rows
    assert [choice["text"] for choice in pair["choices"]] == ["a b", "b a"]
    assert [row["tokens"] for row in rows] == [18, 1]  # every byte once
    nats, tokens, size = (sum(row[key] for row in rows) for key in ("loss", "tokens", "bytes"))
    figures = found.summary["t"]
    assert figures["perplexity"]["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert figures["bits_per_byte"]["value"] == pytest.approx(nats / size / math.log(2), rel=1e-5)


@pytest.mark.parametrize(("length", "longest"), [(1, 4), (4, 4), (5, 4), (9, 4), (23, 7)])
def test_windows_are_those_of_the_harness(length: int, longest: int) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    ids = list(range(100, 100 + length))
    for overlap in (1, 3):
        theirs = [
            utils.make_disjoint_window(pair)
            for pair in utils.get_rolling_token_windows(ids, prefix_token=7, max_seq_len=longest, context_len=overlap)
        ]
        assert [tuple(map(list, pair)) for pair in windows([7], ids, longest, overlap)] == theirs


def test_examples_are_answered_and_never_the_row_itself() -> None:
    rows = [conversation(f"q{i}", f"a{i}", str(i)) for i in range(6)]
    suite = suites.from_rows("s", rows, metrics=["exact_match"], asking=suites.Asking("Be brief.", few_shot=2))
    build = messages_of(suite)
    for case in suite.cases:
        system, *turns, question = build(case)
        assert system == {"role": "system", "content": "Be brief."}
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
        assert question == case.messages[0]
        assert question not in turns


@pytest.mark.parametrize(
    ("metric", "expected", "answer", "score", "settings"),
    [
        ("token_f1", "the red lamp", "a red light", 0.5, {}),
        ("rougeL", "the cat sat", "the cat sat", 1.0, {}),
        ("json_valid", "", '{"a": 1}', 1.0, {"schema": {"required": ["a"]}}),
        ("json_valid", "", '{"b": 1}', 0.0, {"schema": {"required": ["a"]}}),
        ("json_valid", "", "{", 0.0, {}),
        ("json_fields", '{"a": 1, "b": {"c": 2}}', '{"a": 1, "b": {"c": 3}}', 0.5,
         {"schema": {"properties": {"a": {}, "b": {"properties": {"c": {}}}}}}),
        ("regex", "on.", "it is on. yes", 1.0, {"pattern": r"is {expected}"}),
        ("regex", "on.", "it is only", 0.0, {"pattern": r"is {expected}"}),
        ("numeric_match", "The sum is 1,000.", "so it is 1e3", 1.0, {}),
        ("numeric_match", "-7", "7", 0.0, {}),
        ("repetition", "", "a b c d a b c d", 0.2, {}),
        ("length", "", "one two", 2.0, {}),
        ("length_ratio", "one", "one two", 2.0, {}),
        ("stopped", "", "x", 1.0, {}),
        ("runaway", "", "x", 0.0, {}),
    ],
)  # fmt: skip
def test_metrics(metric: str, expected: str, answer: str, score: float, settings: dict[str, Any]) -> None:
    row = {"expected": expected, "answer": answer, "stopped": True}
    assert metrics.scorer(metric, settings)(row) == pytest.approx(score)


def test_a_corpus_metric_is_the_librarys_over_all_rows() -> None:
    import sacrebleu

    pairs = [("the light is on now", "the light is on now"), ("set it to ten degrees", "set it to nine degrees today")]
    rows = [{"expected": e, "answer": a, "scores": {}, "loss": 1.0, "tokens": 1} for e, a in pairs]
    wanted = sacrebleu.corpus_bleu([a for _, a in pairs], [[e for e, _ in pairs]]).score
    assert scores.level(rows, "bleu").value == pytest.approx(wanted)
    change = scores.change(rows, [{**row, "answer": row["expected"]} for row in rows], "bleu")
    assert change is not None
    assert change.value == pytest.approx(100 - wanted)


def test_a_pair_of_a_dataset_is_asked_without_its_answer() -> None:
    """Held-out preference rows of a dataset artifact carry the answered conversation beside their prompt."""
    prompt = [{"role": "user", "content": "Hi?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("Hello.", "What.")]
    row = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1], "messages": [*prompt, *answers[0]]}
    case = case_of(row, "pairs", "1")
    assert list(case.messages) == prompt
    assert (case.expected, case.choices) == ("Hello.", ("Hello.", "What."))
