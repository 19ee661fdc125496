"""Ask a runtime every question of the suites and score its answers. Called by the `eval` and `verify` stages.

The runtime's own template renders the prompts and its own tokenizer encodes them, so what is judged is what a device
would do. Answers are greedy. The loss is that of the expected answer after the same prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from edgeft.evals import metrics as metric_table
from edgeft.evals.encoded import Encoded, Steps, encode_text, of_expected, rounded
from edgeft.evals.prompts import messages_of, rendered
from edgeft.evals.questions import Case
from edgeft.evals.scores import Summary, summarise
from edgeft.evals.suites import Suite
from edgeft.progress import Listener, silent
from edgeft.runtimes.classifier import Classifier
from edgeft.runtimes.protocol import Completion, Message, Runtime
from edgeft.runtimes.reward import RewardModel

BATCH = 64
LATENCY_SECONDS = 5.0


@dataclass(frozen=True)
class Evaluation:
    """`rows` in the order of the suites, `summary` of them, and how long it took (seconds, tokens): `timing`."""

    rows: list[dict[str, Any]]
    summary: Summary
    timing: dict[str, float]


def evaluate(
    runtime: Runtime | Classifier | RewardModel,
    suites: Sequence[Suite],
    listen: Listener = silent,
    *,
    batch_size: int = BATCH,
    batch_tokens: int | None = None,
) -> Evaluation:
    """Every suite answered and scored. A `DataError` for a row that does not fit the runtime's context, an `InputError`
    for a suite that asks for labels of what writes answers, or the other way round.

    batch_size    answers written together at most
    batch_tokens  tokens read together at most, in runtimes that read rows together; default the runtime's own
    """
    from edgeft.evals import classified, likelihoods, preferred

    for suite in suites:
        preferred.fits(runtime, suite)
        classified.fits(runtime, suite)
    if batch_tokens is not None:
        runtime.batch_tokens = batch_tokens
    rows: list[dict[str, Any]] = []
    summaries: Summary = {}
    timing = {"generate_seconds": 0.0, "generated_tokens": 0.0, "loss_seconds": 0.0, "scored_tokens": 0.0}
    ahead = Steps(sum(units(suite) for suite in suites), listen)
    for suite in suites:
        if not suite.task and suite.kind == classified.KIND:
            rows += classified.ask(cast(Classifier, runtime), suite, ahead, timing)
            continue
        if isinstance(runtime, RewardModel):
            rows += preferred.ask(runtime, suite, ahead, timing)
            continue
        writer = cast(Runtime, runtime)
        if suite.task:
            from edgeft.evals import harness

            asked, figures = harness.run(writer, suite, ahead, timing)
            summaries |= figures
        elif suite.kind == "generation":
            asked = _written(writer, suite, ahead, timing, batch_size)
        else:
            asked = likelihoods.ask(writer, suite, ahead, timing)
        rows += asked
    return Evaluation(rows, summarise(rows, summaries), {name: round(value, 3) for name, value in timing.items()})


def units(suite: Suite) -> int:
    """Steps of the progress bar: of a written answer two, for the answer and for its loss."""
    if suite.task:
        return suite.limit or 1
    return len(suite.cases) * (2 if suite.kind == "generation" else 1)


def _written(
    runtime: Runtime, suite: Suite, steps: Steps, timing: dict[str, float], batch_size: int
) -> list[dict[str, Any]]:
    """Answers written to a suite's questions, and the loss of the expected ones."""
    turns = messages_of(suite)
    prompts = [turns(case) for case in suite.cases]
    encoded = []
    for case, prompt in zip(suite.cases, prompts, strict=True):
        texts = (rendered(runtime, suite, prompt, answer, case.tools) for answer in (None, case.turn))
        encoded.append(encode_text(runtime, case.id, *texts))
    started = time.perf_counter()
    answers: list[Completion | None] = [None] * len(encoded)
    stop = {"stop": suite.asking.stop} if suite.asking.stop else {}
    for indices in batches([len(item.prompt) for item in encoded], batch_size):
        room = room_for([encoded[i] for i in indices], suite, runtime.context_length)
        found = runtime.generate([encoded[i].prompt for i in indices], max_tokens=room, **stop)
        for index, completion in zip(indices, found, strict=True):
            answers[index] = completion
        steps.go(len(indices), f"{suite.name}: answers")
    timing["generate_seconds"] += time.perf_counter() - started
    started = time.perf_counter()
    logprobs = answer_logprobs(runtime, encoded, lambda count: steps.go(count, f"{suite.name}: loss"))
    timing["loss_seconds"] += time.perf_counter() - started
    scorers = {name: metric_table.scorer(name, suite.settings) for name in suite.metrics}
    rows = []
    for case, prompt, item, answer, said in zip(suite.cases, prompts, encoded, answers, logprobs, strict=True):
        assert answer is not None
        row = _row(suite, case, prompt, item, answer)
        if case.calls:  # as the template writes it, which is what the model was taught to answer
            row["expected"] = runtime.decode(item.ids[item.start : item.end])
        row |= of_expected(row["expected"], item.ids[item.start : item.end], said)
        row["scores"] = {name: rounded(score(row)) for name, score in scorers.items()}
        rows.append(row)
        timing["generated_tokens"] += len(answer.ids)
        timing["scored_tokens"] += item.end
    return rows


def _row(suite: Suite, case: Case, prompt: Sequence[Message], item: Encoded, answer: Completion) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "id": case.id,
        "group": case.group,
        "kind": "generation",
        "prompt": [dict(message) for message in prompt],
        "rendered": item.text,
        "expected": case.expected,
        "answer": answer.text,
        "stopped": answer.stopped,
        "generated": len(answer.ids),
    }


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `size`, of similar length, the longest first: what does not fit fails early."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def room_for(items: Sequence[Encoded], suite: Suite, context_length: int) -> int:
    """Tokens an answer may have: the suite's limit, or what is left of the context."""
    return max(1, min(suite.max_tokens, context_length - max(len(item.prompt) for item in items)))


def answer_logprobs(
    runtime: Runtime, items: Sequence[Encoded], on_done: Callable[[int], None] | None = None
) -> list[tuple[float, ...]]:
    """The log probability of each token of the expected answers, given all before it."""
    requests = [(item.ids[: item.start], item.ids[item.start : item.end]) for item in items]
    return [found.logprobs for found in runtime.loglikelihoods(requests, on_done=on_done)]


def answer_losses(runtime: Runtime, items: Sequence[Encoded]) -> Iterator[tuple[int, float]]:
    """(index, nats summed over the tokens of the expected answer, each given all before it)."""
    for index, logprobs in enumerate(answer_logprobs(runtime, items)):
        yield index, -sum(logprobs)


def latency(
    runtime: Runtime | Classifier, suites: Sequence[Suite], count: int, *, most: float | None = None
) -> dict[str, Any]:
    """What one user alone waits: the first questions, one at a time, until `most` seconds have passed. Seconds (p50,
    p95, and of each answer) and generated tokens/s, which a classifier has not; {} when nothing was asked."""
    if hasattr(runtime, "classify"):
        from edgeft.evals import classified

        return _waited(classified.latency(runtime, suites, count, LATENCY_SECONDS if most is None else most))
    seconds: list[float] = []
    tokens = 0
    asked = [suite for suite in suites if suite.kind == "generation"]
    questions = [(suite, case) for suite in asked for case in suite.cases]
    for suite, case in questions[:count]:
        prompt = runtime.encode(rendered(runtime, suite, messages_of(suite)(case), None, case.tools))
        started = time.perf_counter()
        room = max(1, min(suite.max_tokens, runtime.context_length - len(prompt)))
        (answer,) = runtime.generate([prompt], max_tokens=room)
        seconds.append(time.perf_counter() - started)
        tokens += len(answer.ids)
        if sum(seconds) > (LATENCY_SECONDS if most is None else most):
            break
    return _waited(seconds, tokens)


def _waited(seconds: Sequence[float], tokens: int | None = None) -> dict[str, Any]:
    """What `latency` tells of the seconds that single answers took, and the tokens that were generated in them."""
    import numpy as np

    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "answers": len(seconds),
        "p50_seconds": round(float(p50), 4),
        "p95_seconds": round(float(p95), 4),
        **({} if tokens is None else {"tokens_per_second": round(tokens / sum(seconds), 1)}),
        "seconds": [round(value, 4) for value in seconds],
    }
