"""How a row is scored: one file per metric, one row of the table here.

A metric's function is of one of these forms (`takes`):

    answer    score(expected, answer) -> float
    settings  make(settings) -> score(expected, answer); the suite says what it `needs` (pattern, schema)
    row       score(row) -> float, of a whole row (`edgeft.evals.scores.FIELDS`)
    judge     make(settings) -> score(row), which may write into row["notes"]

A metric of a whole suite that is no mean of its rows' scores (BLEU, macro-F1, perplexity) has a second function,
`corpus(rows) -> float`. `loss` (nats per token of the expected answer) needs no row: `evaluate` computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.errors import InputError
from edgeft.registry import Row, lookup

Score = Callable[[str, str], float]
Scorer = Callable[[dict[str, Any]], float]
Corpus = Callable[[Sequence[Mapping[str, Any]]], float]
LOSS = "loss"
_HERE = "edgeft.evals.metrics"
WRITTEN, CHOSEN, READ, LABELLED = ("generation",), ("choice", "pairs"), ("perplexity",), ("classification",)


@dataclass(frozen=True)
class Metric(Row):
    """A row of the table; what is better decides what a gate calls a drop and the report a regression. `kinds`: of
    which suites; `unbounded`: it may be more than 1."""

    higher_is_better: bool = True
    takes: str = "answer"
    kinds: tuple[str, ...] = WRITTEN
    needs: str = ""
    corpus: str = ""
    unbounded: bool = False


METRICS: dict[str, Metric] = {
    "exact_match": Metric(f"{_HERE}.exact_match:score", "the answer is the expected one to the character"),
    "normalised_match": Metric(
        f"{_HERE}.normalised_match:score", "equal but for case, punctuation and runs of spaces"
    ),
    "json_match": Metric(f"{_HERE}.json_match:score", "share of a JSON object's fields that are right"),
    "json_valid": Metric(f"{_HERE}.json_valid:make", "the answer is JSON, and fits the schema", takes="settings"),
    "json_fields": Metric(
        f"{_HERE}.json_fields:make", "share of the schema's fields that are right", takes="settings", needs="schema"
    ),
    "tool_calls": Metric(f"{_HERE}.tool_calls:score", "the calls that are expected, and no others"),
    "token_f1": Metric(f"{_HERE}.token_f1:score", "overlap of words, as SQuAD measures it"),
    "rouge1": Metric(f"{_HERE}.rouge:rouge1", "overlap of words (F)"),
    "rouge2": Metric(f"{_HERE}.rouge:rouge2", "overlap of pairs of words (F)"),
    "rougeL": Metric(f"{_HERE}.rouge:rouge_l", "longest common subsequence of words (F)"),
    "bleu": Metric(
        f"{_HERE}.bleu:score", "BLEU of the suite (0 to 100)", "eval", corpus=f"{_HERE}.bleu:corpus", unbounded=True
    ),
    "chrf": Metric(
        f"{_HERE}.chrf:score", "chrF of the suite (0 to 100)", "eval", corpus=f"{_HERE}.chrf:corpus", unbounded=True
    ),
    "accuracy": Metric(
        f"{_HERE}.accuracy:score", "the label or the choice is right", takes="row", kinds=(*WRITTEN, *CHOSEN, *LABELLED)
    ),
    "accuracy_norm": Metric(
        f"{_HERE}.accuracy_norm:score", "right, by likelihood per byte of a choice", takes="row", kinds=CHOSEN
    ),
    "pair_accuracy": Metric(
        f"{_HERE}.pair_accuracy:score",
        "the better answer is valued higher than the other, or is likelier",
        takes="row",
        kinds=("pairs",),
    ),
    "macro_f1": Metric(
        f"{_HERE}.macro_f1:score",
        "mean F1 over the labels of the suite",
        takes="row",
        kinds=(*WRITTEN, "choice", *LABELLED),
        corpus=f"{_HERE}.macro_f1:corpus",
    ),
    "regex": Metric(f"{_HERE}.regex:make", "a pattern is found in the answer", takes="settings", needs="pattern"),
    "numeric_match": Metric(f"{_HERE}.numeric_match:score", "the last number of the answer is the expected one"),
    "perplexity": Metric(
        f"{_HERE}.perplexity:score",
        "e to the nats per token",
        higher_is_better=False,
        takes="row",
        kinds=(*WRITTEN, *READ),
        corpus=f"{_HERE}.perplexity:corpus",
        unbounded=True,
    ),
    "bits_per_byte": Metric(
        f"{_HERE}.bits_per_byte:score",
        "bits per byte of text, so that tokenizers compare",
        higher_is_better=False,
        takes="row",
        kinds=(*WRITTEN, *READ),
        corpus=f"{_HERE}.bits_per_byte:corpus",
        unbounded=True,
    ),
    "repetition": Metric(
        f"{_HERE}.repetition:score",
        "share of the answer's runs of four words that stood there before",
        higher_is_better=False,
    ),
    "length": Metric(
        f"{_HERE}.length:score", "words of the answer", higher_is_better=False, unbounded=True
    ),
    "length_ratio": Metric(
        f"{_HERE}.length_ratio:score", "words of the answer to words expected", higher_is_better=False, unbounded=True
    ),
    "stopped": Metric(f"{_HERE}.stopped:score", "the model ended its answer itself", takes="row"),
    "runaway": Metric(
        f"{_HERE}.runaway:score", "the answer went on to the limit", higher_is_better=False, takes="row"
    ),
    "judge": Metric(f"{_HERE}.judge:make", "what a model behind an endpoint says", takes="judge", needs="judge"),
}  # fmt: skip
# What a suite of each kind is scored by when it does not say.
DEFAULTS = {
    "generation": ("exact_match",),
    "choice": ("accuracy",),
    "pairs": ("accuracy",),
    "perplexity": ("perplexity", "bits_per_byte"),
    "classification": ("accuracy", "macro_f1"),
}


def load(name: str) -> Score:
    """The function of a metric that takes nothing but the expected and the given answer; an `InputError` with the
    nearest name when there is none."""
    score: Score = lookup(METRICS, name, "metric").load()
    return score


def scorer(name: str, settings: Mapping[str, Any]) -> Scorer:
    """A metric as a function of a whole row."""
    metric = METRICS[name]
    loaded = metric.load()
    if metric.takes == "row":
        of_row: Scorer = loaded
        return of_row
    if metric.takes == "judge":
        judge: Scorer = loaded(settings)
        return judge
    score: Score = loaded(settings) if metric.takes == "settings" else loaded
    return lambda row: score(row["expected"], row["answer"])


def corpus(name: str) -> Corpus | None:
    """The function of a whole suite's rows, of metrics that have one."""
    target = METRICS[name].corpus if name in METRICS else ""
    if not target:
        return None
    found: Corpus = Row(target, "").load()
    return found


def check(name: str, kind: str, settings: Mapping[str, Any], suite: str) -> None:
    """Raise an `InputError` when a metric does not fit a suite of that kind with those settings."""
    lookup(METRICS, name, "metric")
    metric = METRICS[name]
    if kind not in metric.kinds:
        fitting = ", ".join(other for other, row in METRICS.items() if kind in row.kinds)
        raise InputError(f"the suite {suite!r} is of the kind {kind}, which {name} does not score", do=fitting)
    if metric.needs and not settings.get(metric.needs):
        raise InputError(f"the suite {suite!r}: {name} needs a {metric.needs}", do=f"give the suite a {metric.needs}")


def higher_is_better(name: str) -> bool:
    return name != LOSS and (name not in METRICS or METRICS[name].higher_is_better)
