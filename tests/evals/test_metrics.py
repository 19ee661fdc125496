from __future__ import annotations

import pytest

from edgeft.errors import InputError
from edgeft.evals import metrics

CALL = '{"name": "rain", "arguments": {"city": "Oslo", "day": 3}}'
OTHER = '{"name": "stop", "arguments": {}}'


@pytest.mark.parametrize(
    ("metric", "expected", "answer", "score"),
    [
        ("exact_match", "yes", "yes", 1.0),
        ("exact_match", "yes", " yes\n", 1.0),
        ("exact_match", "yes", "Yes", 0.0),
        ("exact_match", "a  b", "a b", 0.0),
        ("normalised_match", "The Cat, please!", "the  cat please", 1.0),
        ("normalised_match", "ＡＢＣ", "abc", 1.0),
        ("normalised_match", "cat", "cats", 0.0),
        ("json_match", '{"a": 1, "b": {"c": [1, 2]}}', '{"b": {"c": [1, 2]}, "a": 1}', 1.0),
        ("json_match", '{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.5),
        ("json_match", '{"a": 1}', '{"a": 1, "b": 3}', 0.5),
        ("json_match", '{"a": 1}', '{"a": "1"}', 0.0),
        ("json_match", '{"a": true}', '{"a": 1}', 0.0),
        ("json_match", '{"a": 1}', '{"a": 1', 0.0),
        ("json_match", '{"a": []}', '{"a": {}}', 0.0),
        ("json_match", "{}", "{}", 1.0),
        ("json_match", '{"a": 1}', '{"a": NaN}', 0.0),
        ("json_match", '{"a": 1}', "[" * 100_000, 0.0),
        ("tool_calls", CALL, CALL, 1.0),
        (
            "tool_calls",
            CALL,
            '<tool_call>\n{"arguments": {"day": 3, "city": "Oslo"}, "name": "rain"}\n</tool_call>',
            1.0,
        ),
        ("tool_calls", CALL, '[TOOL_CALLS] [{"name": "rain", "arguments": {"city": "Oslo", "day": 3}}]', 1.0),
        ("tool_calls", CALL, 'One moment. {"name": "rain", "parameters": {"city": "Oslo", "day": 3}}', 1.0),
        ("tool_calls", CALL, '{"name": "rain", "arguments": "{\\"city\\": \\"Oslo\\", \\"day\\": 3}"}', 1.0),
        ("tool_calls", CALL, CALL[:-1], 0.0),
        ("tool_calls", CALL, f"{CALL} {CALL}", 0.0),
        ("tool_calls", CALL, CALL.replace("rain", "snow"), 0.0),
        ("tool_calls", CALL, CALL.replace("3", '"3"'), 0.0),
        ("tool_calls", CALL, CALL.replace("3", '3, "hour": 1'), 0.0),
        ("tool_calls", CALL.replace("3", "true"), CALL.replace("3", "1"), 0.0),
        ("tool_calls", CALL, "It rains.", 0.0),
        ("tool_calls", "It rains.", "It does not.", 1.0),  # no call is expected, none is made
        ("tool_calls", "It rains.", CALL, 0.0),
        ("tool_calls", CALL, "[" * 100_000, 0.0),
        ("tool_calls", f"{CALL}\n{OTHER}", f"{OTHER}\n{CALL}", 0.0),
        ("tool_calls", f"{CALL}\n{OTHER}", f"[{CALL}, {OTHER}]", 1.0),
    ],
)
def test_scores(metric: str, expected: str, answer: str, score: float) -> None:
    assert metrics.load(metric)(expected, answer) == score


def test_json_match_refuses_an_expected_answer_that_is_no_json() -> None:
    with pytest.raises(ValueError, match="expected answer is not JSON"):
        metrics.load("json_match")("turn on", "{}")


def test_every_metric_loads_and_unknown_ones_are_named() -> None:
    settings = {"schema": {"properties": {"a": {}}}, "pattern": "x", "judge": {"base_url": "http://x", "model": "m"}}
    for name in metrics.METRICS:
        assert callable(metrics.scorer(name, settings))
    assert metrics.higher_is_better("exact_match")
    assert not metrics.higher_is_better("perplexity")
    assert not metrics.higher_is_better("loss")
    with pytest.raises(InputError, match="unknown metric 'exact_mach'") as error:
        metrics.load("exact_mach")
    assert error.value.do == "did you mean 'exact_match'?"
