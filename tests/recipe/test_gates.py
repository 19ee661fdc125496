"""Gate lines: what parses to what, what is refused, and what a parsed gate computes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.recipe.gates import OPERATORS, Gate, GateError, parse
from edgeft.recipe.names import FIDELITY, UNBOUNDED

SUITES = {"task": ("exact_match", "loss"), "general": ("exact_match", "json_match", "loss")}
EXPORTS = ["gguf-q8_0", "gguf-q4_k_m", "onnx-int4"]


def read(line: str) -> Gate:
    return parse(line, SUITES, EXPORTS)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("task.exact_match >= 0.90", (None, "task", "exact_match", ">=", 0.9, "level", False)),
        ("task.exact_match>=90%", (None, "task", "exact_match", ">=", 0.9, "level", False)),
        ("general.exact_match drop <= 0.03", (None, "general", "exact_match", "<=", 0.03, "drop", False)),
        ("task.loss rise <= 3%", (None, "task", "loss", "<=", 0.03, "rise", True)),
        ("task.loss < 1e-1", (None, "task", "loss", "<", 0.1, "level", False)),
        ("gguf-q8_0.task.exact_match drop <= .01", ("gguf-q8_0", "task", "exact_match", "<=", 0.01, "drop", False)),
        ("  gguf-q4_k_m.top1_agreement  >  0.95 ", ("gguf-q4_k_m", None, "top1_agreement", ">", 0.95, "level", False)),
        ("onnx-int4.mean_kl <= 2", ("onnx-int4", None, "mean_kl", "<=", 2.0, "level", False)),
    ],
)
def test_lines(line: str, wanted: tuple[object, ...]) -> None:
    gate = read(line)
    assert (gate.scope, gate.suite, gate.metric, gate.op, gate.limit, gate.kind, gate.relative) == wanted
    assert gate.text == line.strip()


def test_the_fault_is_where_the_offset_says() -> None:
    with pytest.raises(GateError, match="no metric 'exact_mtch'") as caught:
        read("  task.exact_mtch >= 0.9")
    assert caught.value.offset == 7
    assert caught.value.do == "did you mean 'exact_match'?"


def test_an_export_that_is_not_built_is_unknown() -> None:
    with pytest.raises(GateError, match="unknown export 'gguf-f16'") as caught:
        parse("gguf-f16.task.loss <= 1", SUITES, [])
    assert caught.value.do == "the recipe exports nothing"


names = st.one_of(
    st.builds(lambda suite: (None, suite), st.sampled_from(list(SUITES))),
    st.tuples(st.sampled_from(EXPORTS), st.sampled_from(list(SUITES))),
    st.builds(lambda export: (export, None), st.sampled_from(EXPORTS)),
)
spaces = st.text(" \t", min_size=1, max_size=3)


@given(names, st.data(), st.sampled_from(OPERATORS), st.booleans(), spaces)
def test_written_and_read_again(
    name: tuple[str | None, str | None], data: st.DataObject, op: str, percent: bool, space: str
) -> None:
    scope, suite = name
    metric = data.draw(st.sampled_from(SUITES[suite] if suite else FIDELITY))
    kind = data.draw(st.sampled_from(["level", "drop", "rise"])) if suite else "level"
    number = data.draw(st.floats(0, 100 if percent else 1))
    written = ".".join(part for part in (scope, suite, metric) if part)
    words = [written, *([kind] if kind != "level" else []), op, f"{number!r}{'%' if percent else ''}"]
    gate = read(space.join(words))
    assert (gate.scope, gate.suite, gate.metric, gate.op, gate.kind) == (scope, suite, metric, op, kind)
    assert gate.limit == pytest.approx(number / 100 if percent else number)
    assert gate.relative == (percent and kind != "level")


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_with_advice(line: str) -> None:
    gate, refusal = None, None
    try:
        gate = read(line)
    except GateError as error:
        refusal = error
    if refusal is not None:
        assert refusal.do
        assert 0 <= refusal.offset <= len(line)
    if gate is not None:
        assert gate.metric in (*FIDELITY, "exact_match", "json_match", "loss")


@given(st.sampled_from(["task.exact_match", "general.loss", "gguf-q8_0.mean_kl"]), st.floats(allow_nan=True))
def test_limits_are_finite_and_in_range(name: str, limit: float) -> None:
    try:
        gate = read(f"{name} >= {limit!r}")
    except GateError:
        assert not math.isfinite(limit) or (name.rpartition(".")[2] not in UNBOUNDED and not 0 <= limit <= 1)
    else:
        assert gate.limit == limit


def test_holds() -> None:
    assert read("task.loss <= 1").holds(1.0)
    assert not read("task.loss < 1").holds(1.0)
    assert read("task.loss >= 1").holds(1.0)
    assert not read("task.loss > 1").holds(1.0)
    assert read("task.loss > 1").holds(1.5)
    assert not read("task.loss <= 1").holds(math.nan)


def test_figures() -> None:
    assert read("task.exact_match >= 0.9").figure(0.8, None) == 0.8
    assert read("task.exact_match drop <= 0.1").figure(0.75, 1.0) == 0.25
    assert read("task.loss rise <= 0.1").figure(2.5, 2.0) == 0.5
    assert read("task.loss rise <= 10%").figure(2.5, 2.0) == 0.25
    assert read("task.loss rise <= 10%").figure(1.0, 0.0) == math.inf
    assert read("task.exact_match drop <= 10%").figure(0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="baseline"):
        read("task.loss rise <= 10%").figure(1.0, None)
