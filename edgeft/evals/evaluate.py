"""Ask a runtime every question of the suites and score its answers. Called by the `eval` and `verify` stages.

The runtime's own template renders the prompts and its own tokenizer encodes them, so what is judged is what a device
would do. Answers are greedy. The loss is that of the expected answer after the same prompt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.errors import DataError
from edgeft.evals import metrics as metric_table
from edgeft.evals.scores import DIGITS, Summary, summarise
from edgeft.evals.suites import Case, Suite
from edgeft.progress import Listener, Progress, silent
from edgeft.runtimes.protocol import Completion, Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 64
LATENCY_SECONDS = 5.0
_CHUNK_VALUES = 4_000_000  # float64 values of one log-softmax: 32 MB


@dataclass(frozen=True)
class Evaluation:
    """`rows` in the order of the suites, `summary` of them, and how long it took (seconds, tokens): `timing`."""

    rows: list[dict[str, Any]]
    summary: Summary
    timing: dict[str, float]


@dataclass(frozen=True)
class Encoded:
    """A case as token ids: `prompt` ends where the assistant speaks; `ids` holds the expected answer too, whose tokens
    are ids[start:end] (the end of turn included)."""

    prompt: list[int]
    ids: list[int]
    start: int
    end: int
    text: str = ""  # the rendered prompt


def evaluate(
    runtime: Runtime, suites: Sequence[Suite], listen: Listener = silent, *, batch_size: int = BATCH
) -> Evaluation:
    """Every suite answered and scored. A `DataError` for a row that does not fit the runtime's context."""
    rows: list[dict[str, Any]] = []
    timing = {"generate_seconds": 0.0, "generated_tokens": 0.0, "loss_seconds": 0.0, "scored_tokens": 0.0}
    total = 2 * sum(len(suite.cases) for suite in suites)
    done = 0
    for suite in suites:
        encoded = [encode(runtime, case) for case in suite.cases]
        started = time.perf_counter()
        answers: list[Completion | None] = [None] * len(encoded)
        for indices in batches([len(item.prompt) for item in encoded], batch_size):
            room = room_for([encoded[i] for i in indices], suite, runtime.context_length)
            found = runtime.generate([encoded[i].prompt for i in indices], max_tokens=room)
            for index, completion in zip(indices, found, strict=True):
                answers[index] = completion
            done += len(indices)
            listen(Progress(done, total, "row", f"{suite.name}: answers"))
        timing["generate_seconds"] += time.perf_counter() - started
        started = time.perf_counter()
        found_logprobs: dict[int, NDArray[np.float64]] = {}
        for index, logprobs in answer_logprobs(runtime, encoded):
            found_logprobs[index] = logprobs
            done += 1
            listen(Progress(done, total, "row", f"{suite.name}: loss"))
        timing["loss_seconds"] += time.perf_counter() - started
        scorers = {name: metric_table.load(name) for name in suite.metrics}
        for index, (case, item, answer) in enumerate(zip(suite.cases, encoded, answers, strict=True)):
            assert answer is not None
            row = _row(suite, case, item, answer)
            row["scores"] = {name: _rounded(score(case.expected, answer.text)) for name, score in scorers.items()}
            row |= _of_expected(case, item, found_logprobs[index])
            rows.append(row)
            timing["generated_tokens"] += len(answer.ids)
            timing["scored_tokens"] += item.end
    return Evaluation(rows, summarise(rows), {name: round(value, 3) for name, value in timing.items()})


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)


def _of_expected(case: Case, item: Encoded, logprobs: NDArray[np.float64]) -> dict[str, Any]:
    """What a row says about the expected answer: each token's log probability, and their sum as a loss."""
    return {
        "loss": _rounded(-logprobs.sum()),
        "tokens": item.end - item.start,
        "bytes": len(case.expected.encode("utf-8", "surrogatepass")),
        "token_ids": list(item.ids[item.start : item.end]),
        "logprobs": logprobs.astype("float32").tolist(),
    }


def _row(suite: Suite, case: Case, item: Encoded, answer: Completion) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "id": case.id,
        "group": case.group,
        "kind": "generation",
        "prompt": [dict(message) for message in case.messages],
        "rendered": item.text,
        "expected": case.expected,
        "answer": answer.text,
        "stopped": answer.stopped,
        "generated": len(answer.ids),
    }


def encode(runtime: Runtime, case: Case) -> Encoded:
    """A case as the runtime writes and reads it.

    The answer starts at the first token that differs from the prompt's: where prompt and answer would merge into one
    token, that token belongs to the answer.
    """
    messages = list(case.messages)
    text = runtime.render(messages, add_generation_prompt=True)
    prompt = runtime.encode(text)
    ids = runtime.encode(runtime.render([*messages, {"role": "assistant", "content": case.expected}]))
    if len(ids) > runtime.context_length or len(prompt) >= runtime.context_length:
        raise DataError(
            f"the row {case.id!r} has {max(len(ids), len(prompt))} tokens, the context of {runtime.name} holds "
            f"{runtime.context_length}",
            do="leave the row out of the suite, or use a base with a longer context",
        )
    start = common_prefix(prompt, ids)
    if not 0 < start < len(ids):
        raise DataError(f"the chat template of {runtime.name} does not write the answer of the row {case.id!r}")
    return Encoded(prompt, ids, start, _end_of_turn(ids, start, runtime.stop_ids), text)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _end_of_turn(ids: Sequence[int], start: int, stop_ids: Sequence[int]) -> int:
    """Just after the answer's first stop token; what the template writes behind it (a newline) is not the answer's."""
    for index in range(start, len(ids)):
        if ids[index] in stop_ids:
            return index + 1
    return len(ids)


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `size`, of similar length, the longest first: what does not fit fails early."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def room_for(items: Sequence[Encoded], suite: Suite, context_length: int) -> int:
    """Tokens an answer may have: the suite's limit, or what is left of the context."""
    return max(1, min(suite.max_tokens, context_length - max(len(item.prompt) for item in items)))


def answer_logprobs(runtime: Runtime, items: Sequence[Encoded]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(index, log probability of each token of the expected answer, given all before it), rows of like length
    together."""
    order = [index for batch in batches([item.end for item in items], len(items)) for index in batch]
    found = runtime.logits_batch([items[index].ids[: items[index].end] for index in order])
    for index, logits in zip(order, found, strict=True):
        item = items[index]
        targets = item.ids[item.start : item.end]
        yield index, target_logprobs(logits[item.start - 1 : item.end - 1], targets)


def target_logprobs(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float64]:
    """float64[T]: log probability of each target under logits float32[T, V]; in float64, a block of rows at a time."""
    import numpy as np
    from scipy.special import logsumexp

    found = np.empty(len(targets), dtype=np.float64)
    step = max(1, _CHUNK_VALUES // logits.shape[1])
    for first in range(0, len(targets), step):
        chunk = logits[first : first + step].astype(np.float64)
        chosen = np.asarray(targets[first : first + step])
        found[first : first + step] = chunk[np.arange(len(chosen)), chosen] - logsumexp(chunk, axis=1)
    return found


def latency(runtime: Runtime, suites: Sequence[Suite], count: int, *, most: float | None = None) -> dict[str, Any]:
    """What one user alone waits: the first questions, one at a time, until `most` seconds have passed. Seconds (p50,
    p95, and of each answer) and generated tokens/s; {} when nothing was asked."""
    import numpy as np

    seconds: list[float] = []
    tokens = 0
    questions = [(asked, case) for asked in suites for case in asked.cases]
    for suite, case in questions[:count]:
        item = encode(runtime, case)
        started = time.perf_counter()
        (answer,) = runtime.generate([item.prompt], max_tokens=room_for([item], suite, runtime.context_length))
        seconds.append(time.perf_counter() - started)
        tokens += len(answer.ids)
        if sum(seconds) > (LATENCY_SECONDS if most is None else most):
            break
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, [50, 95])
    return {
        "answers": len(seconds),
        "p50_seconds": round(float(p50), 4),
        "p95_seconds": round(float(p95), 4),
        "tokens_per_second": round(tokens / sum(seconds), 1),
        "seconds": [round(value, 4) for value in seconds],
    }
