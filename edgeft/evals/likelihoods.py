"""Suites without written answers: which of several answers is likelier, and how likely a text is. Called by
`edgeft.evals.evaluate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.errors import InputError
from edgeft.evals import metrics as metric_table
from edgeft.evals.encoded import Encoded, Steps, encode_text, of_expected
from edgeft.evals.prompts import messages_of, rendered
from edgeft.evals.questions import Case
from edgeft.evals.scores import DIGITS
from edgeft.evals.suites import Suite
from edgeft.runtimes.protocol import Likelihood, Message, Request, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator


def ask(runtime: Runtime, suite: Suite, steps: Steps, timing: dict[str, float]) -> list[dict[str, Any]]:
    """The rows of a suite of the kind choice, pairs or perplexity, scored."""
    started = time.perf_counter()
    rows = _texts(runtime, suite, steps) if suite.kind == "perplexity" else _choices(runtime, suite, steps)
    timing["loss_seconds"] += time.perf_counter() - started
    timing["scored_tokens"] += sum(row["tokens"] for row in rows)
    scorers = {name: metric_table.scorer(name, suite.settings) for name in suite.metrics}
    for row in rows:
        row["scores"] = {name: round(float(score(row)), DIGITS) for name, score in scorers.items()}
    return rows


def _scored(
    runtime: Runtime, suite: Suite, requests: Sequence[Request], steps: Steps, what: str
) -> Iterator[Likelihood]:
    """The likelihoods in order; the progress bar moves by rows, of which each may be several requests."""
    share = len(suite.cases) / max(1, len(requests))
    return iter(
        runtime.loglikelihoods(requests, on_done=lambda count: steps.go(count * share, f"{suite.name}: {what}"))
    )


def _row(suite: Suite, case: Case, prompt: Sequence[Message], text: str) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "id": case.id,
        "group": case.group,
        "kind": suite.kind,
        "prompt": [dict(turn) for turn in prompt],
        "rendered": text,
        "expected": case.expected,
    }


def _choices(runtime: Runtime, suite: Suite, steps: Steps) -> list[dict[str, Any]]:
    """Each choice as the whole answer, its end of turn included where there is a chat template."""
    turns = messages_of(suite)
    asked: list[tuple[Case, list[Message], list[Encoded]]] = []
    requests: list[Request] = []
    for case in suite.cases:
        prompt = turns(case)
        items = _encoded(runtime, suite, case, prompt)
        start = min(item.start for item in items)  # where one choice merges with the prompt, all are scored from there
        requests += [(item.ids[:start], item.ids[start : item.end]) for item in items]
        asked.append((case, prompt, items))
    found = _scored(runtime, suite, requests, steps, "choices")
    at = iter(requests)
    rows = []
    for case, prompt, items in asked:
        scored = [(next(found), list(next(at)[1])) for _ in items]
        choices = [
            {
                "text": choice,
                "logprob": round(sum(said.logprobs), DIGITS),
                "tokens": len(ids),
                "bytes": len(choice.encode("utf-8", "surrogatepass")),
            }
            for choice, (said, ids) in zip(case.choices, scored, strict=True)
        ]
        gold = case.choices.index(case.expected)
        said, ids = scored[gold]
        row = _row(suite, case, prompt, items[0].text) | of_expected(case.expected, ids, said.logprobs)
        row["answer"] = max(choices, key=lambda choice: choice["logprob"])["text"]  # the first of equals
        rows.append(row | {"choices": choices})
    return rows


def _encoded(runtime: Runtime, suite: Suite, case: Case, prompt: list[Message]) -> list[Encoded]:
    """Each choice behind the prompt; without any prompt (of a minimal pair) the choices are texts of their own."""
    if not prompt:
        found = []
        for choice in case.choices:
            ids = [*_beginning(runtime), *runtime.encode(choice)]
            if len(ids) > runtime.context_length + 1 or len(ids) < 2:
                raise InputError(f"the row {case.id!r} has {len(ids)} tokens, which {runtime.name} cannot compare")
            found.append(Encoded(ids[:1], ids, 1, len(ids)))
        return found
    text = rendered(runtime, suite, prompt, None, case.tools)
    wholes = (rendered(runtime, suite, prompt, choice, case.tools) for choice in case.choices)
    return [encode_text(runtime, case.id, text, whole) for whole in wholes]


def _beginning(runtime: Runtime) -> list[int]:
    return [] if runtime.prefix_id is None else [runtime.prefix_id]


def _texts(runtime: Runtime, suite: Suite, steps: Steps) -> list[dict[str, Any]]:
    """Texts read in windows; each token is scored once."""
    longest = min(int(suite.settings.get("window") or runtime.context_length), runtime.context_length)
    overlap = int(suite.settings.get("overlap") or 1)
    if not 1 <= overlap < longest:
        raise InputError(f"the suite {suite.name!r}: an overlap of {overlap} does not fit into a window of {longest}")
    laid = []
    requests: list[Request] = []
    for case in suite.cases:
        cut = windows(_beginning(runtime), runtime.encode(case.expected), longest, overlap)
        if not cut:
            raise InputError(f"the row {case.id!r} has no token that {runtime.name} could predict")
        requests += cut
        laid.append((case, cut))
    found = _scored(runtime, suite, requests, steps, "texts")
    rows = []
    for case, cut in laid:
        logprobs = [value for _ in cut for value in next(found).logprobs]
        ids = [token for _, continuation in cut for token in continuation]
        rows.append(_row(suite, case, (), case.expected) | of_expected(case.expected, ids, logprobs))
    return rows


def windows(beginning: Sequence[int], ids: Sequence[int], longest: int, overlap: int = 1) -> list[Request]:
    """A text in windows of at most `longest` tokens read, every token but a first one without anything before it
    predicted once.

    The first window is filled; each later one predicts up to `longest - overlap + 1` more, behind at least `overlap`
    tokens of the text; the last one is moved back to be full, so that its tokens see as much as can be (the windows of
    lm-eval's rolling log-likelihood, whose overlap is 1).
    """
    text = [*beginning, *ids]
    found: list[Request] = []
    predicted = 1
    while predicted < len(text):
        count = longest if predicted == 1 else longest - overlap + 1
        end = min(predicted + count, len(text))
        found.append((text[max(0, end - longest - 1) : predicted], text[predicted:end]))
        predicted = end
    return found
