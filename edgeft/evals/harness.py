"""Tasks of the lm-eval harness asked of any runtime (`rows: lm-eval:TASK`). Called by `edgeft.evals.evaluate`.

The harness loads the task, writes its prompts and scores the answers; a runtime of ours reads and writes. Its figures
are taken over as they are; intervals are ours, from the same rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgeft import extras
from edgeft.errors import EdgeftError, InputError
from edgeft.evals import scores, statistics
from edgeft.evals.encoded import Steps, rounded
from edgeft.evals.harness_model import as_model
from edgeft.evals.metrics.bits_per_byte import score as bits_per_byte
from edgeft.evals.suites import Suite
from edgeft.runtimes.protocol import Runtime

PREFIX = "lm-eval:"
BITS = "bits_per_byte"  # the one figure of a perplexity task that rows have too
_PLAIN = "none"  # the harness's name of the filter that filters nothing


def run(
    runtime: Runtime, suite: Suite, steps: Steps, timing: dict[str, float]
) -> tuple[list[dict[str, Any]], scores.Summary]:
    """The rows of the suite's task (of a group of tasks: of each, as its family) and the harness's figures of them."""
    extras.require("harness")
    from lm_eval import evaluator, simple_evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    include = suite.settings.get("include_path")
    environment = evaluator.add_env_info
    evaluator.add_env_info = lambda _: None  # it runs pip and git in subprocesses, a minute of waiting
    started = time.perf_counter()
    try:
        manager = TaskManager(include_path=include, include_defaults=include is None)
        if include is not None and suite.task not in manager.all_tasks:  # reading the harness's own files takes long
            manager = TaskManager(include_path=include)
        found = simple_evaluate(
            model=as_model(runtime, lambda count: steps.go(count, f"{suite.name}: {suite.task}")),
            tasks=[suite.task],
            task_manager=manager,
            num_fewshot=suite.asking.few_shot or None,
            limit=suite.limit,
            system_instruction=suite.asking.system,
            apply_chat_template=suite.asking.chat,
            fewshot_as_multiturn=suite.asking.chat and suite.asking.multiturn,
            fewshot_random_seed=suite.asking.seed,
            bootstrap_iters=0,
            log_samples=True,
        )
    except EdgeftError:
        raise
    except Exception as error:  # the harness and the libraries that load its rows raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the suite {suite.name!r}: the harness cannot run {suite.task!r}: {reason}",
            do="lm-eval ls tasks lists its tasks; a folder of your own is named by include_path",
        ) from error
    finally:
        evaluator.add_env_info = environment
    timing["loss_seconds"] += time.perf_counter() - started
    several = len(found["samples"]) > 1
    rows: list[dict[str, Any]] = []
    summary: scores.Summary = {}
    for task, samples in found["samples"].items():
        group = task if several else ""
        own = _rows(suite.name, group, samples)
        rows += own
        summary[f"{suite.name}/{task}" if several else suite.name] = _figures(found["results"][task], own)
    return rows, summary


def _rows(suite: str, group: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per document; a metric behind a filter is named METRIC@FILTER, as figures are."""
    rows: dict[int, dict[str, Any]] = {}
    for sample in samples:
        identity = f"{group}:{sample['doc_id']}" if group else str(sample["doc_id"])
        row = rows.setdefault(sample["doc_id"], _row(sample) | {"suite": suite, "id": identity, "group": group})
        for metric in sample["metrics"]:
            value = sample[metric]
            if isinstance(value, bool | int | float):
                row["scores"][_name(metric, sample["filter"])] = rounded(value)
        if row["kind"] == "perplexity":
            row["scores"][BITS] = bits_per_byte(row)
    return [rows[number] for number in sorted(rows)]


def _name(metric: str, chosen: str) -> str:
    return metric if chosen == _PLAIN else f"{metric}@{chosen}"


def _row(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What a sample says: of likelihoods the choices, of written text the answer."""
    arguments, responses = sample["arguments"], [response[0] for response in sample["resps"]]
    row: dict[str, Any] = {
        **scores.FIELDS,
        "prompt": [],
        "notes": {},
        "rendered": str(arguments[0][0]),
        "expected": str(sample["target"]),
        "scores": {},
        "loss": None,
    }
    first = responses[0]
    if isinstance(first, str):
        said = sample["filtered_resps"][0]
        return row | {"answer": str(said[0] if isinstance(said, list) else said), "stopped": True}
    if isinstance(first, int | float):
        text = str(arguments[0][0])
        loss = {"loss": rounded(-first), "bytes": len(text.encode("utf-8", "surrogatepass"))}
        return row | loss | {"kind": "perplexity", "expected": text}
    choices = [
        {"text": str(asked[1]), "logprob": rounded(said[0]), "tokens": 0, "bytes": len(str(asked[1]).encode())}
        for asked, said in zip(arguments, responses, strict=True)
    ]
    best = max(choices, key=lambda choice: choice["logprob"])
    return row | {"kind": "choice", "choices": choices, "answer": best["text"]}


def _figures(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The harness's figures: {metric: {"value", "n", "low", "high"}}; an interval where the rows have that score."""
    found = {}
    for key, value in results.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = _name(metric, chosen)
        scored = [row["scores"][name] for row in rows if name in row["scores"]]
        estimate = statistics.mean(scored) if len(scored) == len(rows) else None
        low, high = (estimate.low, estimate.high) if estimate is not None else (None, None)
        found[name] = {"value": float(value), "n": len(rows), "low": low, "high": high}
    return found
