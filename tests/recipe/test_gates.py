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


FAMILIES = {"task": ("exact_match", "loss"), "general": ("exact_match", "loss")} | dict.fromkeys(
    ("general/arithmetic", "general/reading"), ("exact_match", "loss")
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("general/arithmetic.exact_match drop <= 0.05", ("general/arithmetic", "exact_match", "drop", 0.05)),
        ("task/kitchen.exact_match >= 0.9", ("task/kitchen", "exact_match", "level", 0.9)),  # known when rows are read
        ("general.accuracy drop <= 0.02", ("general", "exact_match", "drop", 0.02)),
        ("drift.mean_kl <= 0.1", (None, "drift.mean_kl", "level", 0.1)),
        ("memorised.excess <= 20%", (None, "memorised.excess", "level", 0.2)),
        ("overfit.gap <= 2.5", (None, "overfit.gap", "level", 2.5)),
        ("p95_latency <= 200ms", (None, "p95_latency", "level", 0.2)),
        ("gguf-q8_0.p50_latency < 1.5 s", (None, "p50_latency", "level", 1.5)),
        ("gguf-q8_0.tokens_per_second >= 20", (None, "tokens_per_second", "level", 20.0)),
        ("gguf-q8_0.p999_kl <= 3", (None, "p999_kl", "level", 3.0)),
    ],
)
def test_families_figures_of_the_tune_and_times(line: str, wanted: tuple[object, ...]) -> None:
    gate = parse(line, FAMILIES, EXPORTS)
    assert (gate.suite, gate.metric, gate.kind, gate.limit) == wanted
    assert gate.timed is ("latency" in line or "second" in line)


@pytest.mark.parametrize(
    ("line", "what", "do"),
    [
        ("general/arithmetik.exact_match >= 0.9", "has no family 'arithmetik'", "did you mean 'general/arithmetic'?"),
        ("drift.men_kl <= 0.1", "no figure 'drift.men_kl'", "did you mean 'drift.mean_kl'?"),
        ("drift.mean_kl rise <= 0.1", "already compares the tuned model with the base", "drift.mean_kl <= 0.1"),
        ("p95_latency <= 200", "p95_latency is a time", "write its unit: 200ms or 200s"),
        ("p95_latency rise <= 9ms", "has no rise", "write it like: p95_latency <= 9ms"),
        ("task.exact_match >= 200ms", "'ms' is a unit of time", "leave it out"),
        ("gguf-q8_0.p95_latncy <= 2s", "unknown figure 'p95_latncy'", "did you mean 'p95_latency'?"),
        ("task.accurac >= 0.9", "no metric 'accurac'", "exact_match"),
        ("memorised.train <= 30", "lies between 0 and 1", "write 30%"),
    ],
)
def test_what_is_wrong_is_refused_with_advice(line: str, what: str, do: str) -> None:
    with pytest.raises(GateError) as caught:
        parse(line, FAMILIES, EXPORTS)
    assert what in str(caught.value)
    assert do in caught.value.do


def test_the_families_of_packaged_rows_are_their_files() -> None:
    from edgeft.evals.suites import builtin_files
    from edgeft.recipe.names import BUILTIN_FAMILIES, BUILTIN_ROWS

    assert tuple(BUILTIN_FAMILIES) == BUILTIN_ROWS
    for rows, families in BUILTIN_FAMILIES.items():
        assert families == tuple(path.stem for path in builtin_files(rows))
