"""The `report` stage: one HTML page about a run, the same in Markdown, and model cards with the figures of each file,
from whatever artifacts there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgeft import extras, files
from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Inputs, Work

VERSION = 2
PAGE, MARKDOWN, FACTS, CARDS = "report.html", "report.md", "report.json", "cards"


class Params(BaseModel):
    model_config = ConfigDict(frozen=True)

    title: str = Field("edgeft", description="the page's title")
    samples: int = Field(12, ge=0, description="sample answers shown side by side")


def run(params: Params, inputs: Inputs, work: Work) -> Outcome:
    extras.require("eval")
    from edgeft.report import cards, facts, html, markdown, samples

    artifacts = inputs.artifacts
    found = {"title": params.title, **facts.gather(artifacts), "changes": changes(artifacts)}
    found["samples"] = samples.side_by_side(artifacts, params.samples)
    found["regressions"] = samples.regressions(artifacts)
    files.write_json(work.folder / FACTS, found)
    files.write_text(work.folder / PAGE, html.page(found, facts.speed(artifacts), html.environment(artifacts)))
    files.write_text(work.folder / MARKDOWN, markdown.page(found))
    for name, card in cards.complete(artifacts).items():
        (work.folder / CARDS / name).mkdir(parents=True)
        files.write_text(work.folder / CARDS / name / cards.README, card)
    verdict = found["verdict"]
    return Outcome("report", facts={"state": verdict["state"], "sentence": verdict["sentence"]}, volatile=(PAGE,))


def changes(artifacts: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Tuned against base, paired row by row: {"suite", "metric", "value", "n", "low", "high", "p_value"} per suite (or
    "suite/family") and metric."""
    from edgeft.evals import scores
    from edgeft.report import facts

    base, tuned = (facts.rows_of(artifacts.get(name)) for name in (facts.BASE, facts.TUNED))
    if not base or not tuned:
        return []
    found = []
    for name in scores.suite_names(base):
        found += paired_changes(scores.of_suite(base, name), scores.of_suite(tuned, name), name)
    return found


def paired_changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], name: str
) -> list[dict[str, Any]]:
    """One entry per metric that both sides of a suite have, paired row by row. A `DataError` when they are not the same
    rows."""
    from edgeft.evals import scores, statistics
    from edgeft.evals.metrics import LOSS

    pairs = scores.pair(before, after, name)
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = []
    known = scores.metrics_of(second)
    for metric in (one for one in scores.metrics_of(first) if one in known):
        p_value = None
        if metric == LOSS:
            estimate = statistics.paired_ratio_difference(scores.losses(first), scores.losses(second))
        else:
            old, new = ([row["scores"][metric] for row in rows] for rows in (first, second))
            estimate = statistics.paired_difference(old, new)
            if statistics.is_binary(old) and statistics.is_binary(new):
                p_value = round(statistics.mcnemar(old, new), 6)
        found.append({"suite": name, "metric": metric, **scores.as_json(estimate), "p_value": p_value})
    return found
