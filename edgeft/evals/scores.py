"""Rows of an evaluation put together: figures per suite and per family, and rows of two evaluations paired by id.

A row is a dictionary with the keys of `FIELDS`; `write_rows` keeps rows in an artifact (Parquet) and `read_rows` reads
them back. A suite is addressed by its name, one family of it by "suite/family". Used by `evaluate`, `gates`, the stages
that judge and the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import DataError
from edgeft.evals import bootstrap, statistics
from edgeft.evals import metrics as metric_table
from edgeft.evals.estimate import CONFIDENCE, Estimate, estimate
from edgeft.evals.metrics import LOSS

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
Summary = dict[str, dict[str, dict[str, Any]]]
DIGITS = 6
_READ_ROWS = 40_000  # by all resamples of a metric that is no mean
ROWS = "rows.parquet"  # its name in an evaluation and in a verification
# Every key of a row and what it is when a row does not say it.
FIELDS: dict[str, Any] = {
    "suite": "",
    "id": "",
    "group": "",
    "kind": "generation",  # or "choice", "perplexity", "pairs", "classification"
    "prompt": [],  # [{"role", "content"}]; one message without a role when the text is not a conversation
    "rendered": "",  # the text that the model was given
    "expected": "",
    "answer": "",
    "stopped": False,  # a stop token or a stop string ended the answer
    "generated": 0,  # tokens of the answer
    "scores": {},  # metric -> value
    "loss": None,  # nats, summed over the tokens of the expected answer
    "tokens": 0,  # of the expected answer, its end of turn included
    "bytes": 0,  # of the expected answer as UTF-8
    "token_ids": [],  # of the expected answer
    "logprobs": [],  # of each of them, given all before it (float32)
    "choices": [],  # of choices, pairs and labels: [{"text", "logprob" (or "reward"), "tokens", "bytes"}]
    "notes": {},  # what a metric kept of this row, such as a judge's prompt and answer
}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as Parquet; the same rows give the same bytes. Not atomic: for files in a `.partial` folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = list(rows)
    for row in listed:
        lost = set(row) - set(FIELDS)
        if lost:
            raise ValueError(f"a row has no field {sorted(lost)[0]!r}")
    columns = [
        pa.array([_stored(row.get(field.name, FIELDS[field.name])) for row in listed], field.type)
        for field in _schema()
    ]
    table = pa.Table.from_arrays(columns, schema=_schema())
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 12)


def _stored(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value  # a map's entries, in their order


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_rows` wrote, in their order, every key of `FIELDS` there."""
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = pq.read_table(path, schema=_schema()).to_pylist()
    for row in found:
        row["scores"], row["notes"] = dict(row["scores"]), dict(row["notes"])
    return found


def _schema() -> pa.Schema:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    choice = pa.struct(
        [
            ("text", pa.string()),
            ("logprob", pa.float64()),
            ("reward", pa.float64()),
            ("tokens", pa.int32()),
            ("bytes", pa.int32()),
        ]
    )
    types = {
        "prompt": pa.list_(message),
        "stopped": pa.bool_(),
        "generated": pa.int32(),
        "scores": pa.map_(pa.string(), pa.float64()),
        "loss": pa.float64(),
        "tokens": pa.int32(),
        "bytes": pa.int32(),
        "token_ids": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float32()),
        "choices": pa.list_(choice),
        "notes": pa.map_(pa.string(), pa.string()),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in FIELDS])


def of_suite(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows of a suite ("general") or of one family of it ("general/arithmetic"), in their order."""
    suite, _, group = name.partition("/")
    return [row for row in rows if row["suite"] == suite and (not group or row["group"] == group)]


def suite_names(rows: Iterable[Row]) -> list[str]:
    """Suites in the order of the rows, each followed by its families where it has any."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        groups.setdefault(row["suite"], {})
        if row["group"]:
            groups[row["suite"]].setdefault(row["group"])
    return [name for suite, found in groups.items() for name in (suite, *(f"{suite}/{group}" for group in found))]


def summarise(rows: Sequence[Row], known: Summary | None = None) -> Summary:
    """{suite or suite/family: {metric: {"value", "n", "low", "high"}}}; loss in nats per token of expected answers.
    `known`: figures that come from elsewhere (of the harness) and are not computed here."""
    summary: Summary = {}
    for name in suite_names(rows):
        chosen = of_suite(rows, name)
        summary[name] = {metric: as_json(level(chosen, metric)) for metric in metrics_of(chosen)}
        summary[name] |= (known or {}).get(name, {})
    return summary


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """The metrics of a suite's rows, loss included where it was measured. The rows of one label alone have no F1: what
    was taken for that label by mistake is not among them."""
    found = list(rows[0]["scores"])
    if {(row.get("kind"), row.get("group")) for row in rows} == {("classification", rows[0]["expected"])}:
        found = [metric for metric in found if metric != "macro_f1"]
    return [*found, *([LOSS] if all(row["loss"] is not None and row["tokens"] for row in rows) else [])]


def level(rows: Sequence[Row], metric: str) -> Estimate:
    """A metric of a suite: the mean of its rows' scores, or what the metric makes of them all."""
    if metric == LOSS:
        return statistics.ratio(*losses(rows))
    corpus = metric_table.corpus(metric)
    if corpus is not None:
        return _resampled(len(rows), lambda chosen: corpus([rows[i] for i in chosen]))
    return statistics.mean([row["scores"][metric] for row in rows])


def value_of(rows: Sequence[Row], metric: str) -> float:
    """The value of `level`, without its interval."""
    if metric == LOSS:
        nats, tokens = losses(rows)
        return math.fsum(nats) / math.fsum(tokens)
    corpus = metric_table.corpus(metric)
    return math.fsum(row["scores"][metric] for row in rows) / len(rows) if corpus is None else corpus(rows)


def change(before: Sequence[Row], after: Sequence[Row], metric: str, *, relative: bool = False) -> Estimate | None:
    """after - before of a metric that is no mean of its rows' scores, the rows paired (as a share of `before` when
    relative); None for a metric that is one."""
    corpus = metric_table.corpus(metric)
    if corpus is None:
        return None

    def difference(chosen: Sequence[int]) -> float:
        first, second = (corpus([rows[i] for i in chosen]) for rows in (before, after))
        return (second - first) / abs(first) if relative and first else second - first

    return _resampled(len(before), difference)


def _resampled(n: int, statistic: Callable[[Sequence[int]], float]) -> Estimate:
    """A statistic of row numbers with a percentile bootstrap over rows (fewer resamples where there are many rows: such
    statistics read every row each time)."""
    import numpy as np

    value = statistic(range(n))
    if n < 2:
        return Estimate(value, n, None, None)
    random = np.random.default_rng(bootstrap.SEED)
    resamples = max(99, min(999, _READ_ROWS // n))
    drawn = np.array([statistic(random.integers(0, n, n).tolist()) for _ in range(resamples)])

    def at(confidence: float) -> tuple[float, float]:
        tail = 50 * (1 - confidence)
        low, high = np.percentile(drawn, [tail, 100 - tail])
        return float(low), float(high)

    return estimate(value, n, at, CONFIDENCE, finest=1 / (resamples + 1))


def losses(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """(nats, tokens) per row."""
    return [row["loss"] for row in rows], [float(row["tokens"]) for row in rows]


def pair(before: Sequence[Row], after: Sequence[Row], what: str) -> list[tuple[Row, Row]]:
    """The rows of two evaluations of the same suite, side by side, in the order of the first.

    A `DataError` when they are not the very same rows (ids and expected answers): comparing others says nothing.
    """
    second = {row["id"]: row for row in after}
    if [row["id"] for row in before] != [row["id"] for row in after] and set(second) != {row["id"] for row in before}:
        odd = sorted({row["id"] for row in before} ^ set(second))
        raise DataError(f"{what}: the two evaluations are not of the same rows ({len(odd)} differ, such as {odd[0]!r})")
    pairs = [(row, second[row["id"]]) for row in before]
    for first, other in pairs:
        if first["expected"] != other["expected"]:
            raise DataError(f"{what}: the row {first['id']!r} expects another answer in each evaluation")
    return pairs


def as_json(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": round(estimate.value, DIGITS),
        "n": estimate.n,
        "low": None if estimate.low is None else round(estimate.low, DIGITS),
        "high": None if estimate.high is None else round(estimate.high, DIGITS),
    }
