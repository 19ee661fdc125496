"""Suites of the kind `pairs` put to a reward model: does the better answer get the higher value? Called by
`edgeft.evals.evaluate`.

A row's loss is what training minimises (Bradley-Terry): minus the log-sigmoid of how far the better answer's value lies
above the other's, in nats; so `loss` of the suite is its mean, and log 2 where the head cannot tell.
"""

from __future__ import annotations

import math
import time
from typing import Any

from edgeft.errors import InputError
from edgeft.evals import metrics as metric_table
from edgeft.evals.encoded import Encoded, Steps, encode_text, rounded
from edgeft.evals.prompts import messages_of, rendered
from edgeft.evals.questions import Case
from edgeft.evals.suites import Suite
from edgeft.runtimes.protocol import Message
from edgeft.runtimes.reward import RewardModel

KIND = "pairs"


def fits(runtime: Any, suite: Suite) -> None:
    """An `InputError` when a reward model is asked for anything but which answer is better."""
    if isinstance(runtime, RewardModel) and (suite.task or suite.kind != KIND):
        raise InputError(
            f"{runtime.name} is a reward model and writes no answers, which the suite {suite.name!r} asks for",
            do=f"ask it which of two answers is better: kind: {KIND}",
        )


def ask(model: RewardModel, suite: Suite, steps: Steps, timing: dict[str, float]) -> list[dict[str, Any]]:
    """The rows of a suite, both answers valued and scored."""
    started = time.perf_counter()
    turns = messages_of(suite)
    asked: list[tuple[Case, list[Message]]] = [(case, turns(case)) for case in suite.cases]
    items = [_encoded(model, suite, case, prompt, answer) for case, prompt in asked for answer in case.choices]
    values = model.rewards(
        [item.ids[: item.end] for item in items], on_done=lambda count: steps.go(count / 2, f"{suite.name}: values")
    ).tolist()
    timing["loss_seconds"] += time.perf_counter() - started
    timing["scored_tokens"] += sum(item.end for item in items)
    scorers = {name: metric_table.scorer(name, suite.settings) for name in suite.metrics}
    rows = []
    for at, (case, prompt) in enumerate(asked):
        both = slice(2 * at, 2 * at + 2)
        row = _row(suite, case, prompt, items[both], values[both])
        row["scores"] = {name: rounded(score(row)) for name, score in scorers.items()}
        rows.append(row)
    return rows


def _encoded(model: RewardModel, suite: Suite, case: Case, prompt: list[Message], answer: str) -> Encoded:
    """The conversation; up to its `end`, which is that of the answer, it is what training gave the head."""
    if not prompt:
        raise InputError(f"the row {case.id!r} has no question: a reward model values answers to one")
    asked: Any = model  # renders and encodes as a runtime does
    text, whole = (rendered(asked, suite, prompt, said, case.tools) for said in (None, answer))
    return encode_text(asked, case.id, text, whole)


def _row(suite: Suite, case: Case, prompt: list[Message], items: list[Encoded], values: list[float]) -> dict[str, Any]:
    margin = values[0] - values[1]
    return {
        "suite": suite.name,
        "id": case.id,
        "group": case.group,
        "kind": KIND,
        "prompt": [dict(turn) for turn in prompt],
        "rendered": items[0].text,
        "expected": case.expected,
        "answer": case.choices[0 if margin > 0 else 1],
        "loss": rounded(math.log1p(math.exp(-abs(margin))) + max(-margin, 0.0)),
        "tokens": 1,
        "choices": [
            {
                "text": text,
                "reward": rounded(value),
                "tokens": item.end - item.start,
                "bytes": len(text.encode("utf-8", "surrogatepass")),
            }
            for text, value, item in zip(case.choices, values, items, strict=True)
        ],
    }
