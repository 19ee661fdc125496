"""What a run found, gathered from its artifacts into plain dictionaries. Everything here is reproducible, so that it
can stand in `report.json`; times are gathered apart, by `speed`.

Called by the report's stage and by `terminal`. Artifacts come by target name; any of them may be missing: a run that
failed its gate has no files, a run that was stopped has even less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.artifact import Artifact
from edgeft.report.words import LOSS, count

Artifacts = Mapping[str, Artifact]
BASE, TUNED, GATE, TRAIN, DATA, MERGE_BASE = "eval.base", "eval.tuned", "gate", "train", "data", "merge_base"
PROBE, IMATRIX = "probe", "imatrix"
EXPORT, VERIFY = "export.", "verify."


def gather(artifacts: Artifacts) -> dict[str, Any]:
    """Verdict, suites, checks, files, curve, data, training and lineage of a run."""
    found: dict[str, Any] = {
        "suites": suites(artifacts),
        "labels": labels(artifacts.get(TUNED)),
        "checks": checks(artifacts.get(GATE)),
        "notes": notes(artifacts.get(GATE)),
        "probe": probe(artifacts.get(PROBE)),
        "files": exported(artifacts),
        "merge_bases": merge_bases(artifacts),
        "curve": curve(trained(artifacts)),
        "data": read(artifacts.get(DATA), "stats.json"),
        "training": _training(trained(artifacts)),
        "imatrix": dict(artifacts[IMATRIX].facts) if IMATRIX in artifacts else None,
        "lineage": lineage(artifacts),
        "settings": {name: dict(artifact.params) for name, artifact in artifacts.items()},
    }
    return {"verdict": verdict(artifacts, found), **found}


def trained_target(artifacts: Artifacts) -> str | None:
    """The name of the training whose result ships: `train`, or of several phases (`train.NAME`) the last one that is
    there, artifacts being in the order of the work."""
    return next((name for name in reversed(list(artifacts)) if name == TRAIN or name.startswith(f"{TRAIN}.")), None)


def trained(artifacts: Artifacts) -> Artifact | None:
    """That training's artifact."""
    name = trained_target(artifacts)
    return artifacts[name] if name is not None else None


def read(artifact: Artifact | None, name: str) -> Any:
    """A JSON file of an artifact, or None when there is no such artifact or file."""
    if artifact is None or not (artifact.path / name).is_file():
        return None
    return files.read_json(artifact.path / name)


def _training(artifact: Artifact | None) -> dict[str, Any] | None:
    """training.json without the long list of quantized weights."""
    found = read(artifact, "training.json")
    if found and isinstance(found.get("quantization"), dict):
        found["quantization"] = {key: value for key, value in found["quantization"].items() if key != "weights"}
    return dict(found) if found else None


def rows_of(artifact: Artifact | None) -> list[dict[str, Any]]:
    """The rows of an evaluation or a verification, or none."""
    from edgeft.evals.scores import ROWS, read_rows

    if artifact is None or not (artifact.path / ROWS).is_file():
        return []
    return read_rows(artifact.path / ROWS)


def suites(artifacts: Artifacts) -> list[dict[str, Any]]:
    """One entry per suite (or "suite/family") and metric: {"suite", "group", "metric", "base", "tuned"}; each side is
    {"value", "n", "low", "high"} or None."""
    base = read(artifacts.get(BASE), "summary.json") or {}
    tuned = read(artifacts.get(TUNED), "summary.json") or {}
    found = []
    for name in dict.fromkeys([*base, *tuned]):
        for metric in dict.fromkeys([*base.get(name, {}), *tuned.get(name, {})]):
            suite, _, group = name.partition("/")
            sides = {"base": base.get(name, {}).get(metric), "tuned": tuned.get(name, {}).get(metric)}
            found.append({"suite": suite, "group": group, "metric": metric, **sides})
    return found


def labels(artifact: Artifact | None) -> list[dict[str, Any]]:
    """One entry per suite that a head gave labels to: {"suite", "labels", "confusion"} (see `classified.by_label`)."""
    from edgeft.evals import classified

    rows = [row for row in rows_of(artifact) if row["kind"] == classified.KIND]
    return [
        {"suite": suite, **classified.by_label([row for row in rows if row["suite"] == suite])}
        for suite in dict.fromkeys(row["suite"] for row in rows)
    ]


def skills(entries: Sequence[Mapping[str, Any]], labelled: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of `suites` that are families of skills: not whole suites, and not one label of a classification,
    which has a table of its own."""
    known = {(found["suite"], one["label"]) for found in labelled for one in found["labels"]}
    return [entry for entry in entries if entry["group"] and (entry["suite"], entry["group"]) not in known]


def checks(artifact: Artifact | None) -> list[dict[str, Any]]:
    verdict_file = read(artifact, "verdict.json")
    return list(verdict_file["checks"]) if verdict_file else []


def notes(artifact: Artifact | None) -> list[str]:
    """What the verdict tells besides its gates: drift, memorised rows, leakage."""
    found = (read(artifact, "verdict.json") or {}).get("notes") or []
    return [note for note in found if isinstance(note, str)]


def probe(artifact: Artifact | None) -> dict[str, Any] | None:
    """What every tune is asked, whatever its recipe measures: {"figures": {name: estimate}, "drift": {kind: KL}}."""
    figures = read(artifact, "figures.json")
    if not figures:
        return None
    return {"figures": figures, "drift": (read(artifact, "drift.json") or {}).get("kinds") or {}}


def curve(artifact: Artifact | None) -> list[dict[str, Any]]:
    """The points of the loss curve: {"step", "loss"?, "eval_loss"?, "learning_rate"?}."""
    if artifact is None or not (artifact.path / "curve.jsonl").is_file():
        return []
    return list(files.read_jsonl(artifact.path / "curve.jsonl"))


def exported(artifacts: Artifacts) -> list[dict[str, Any]]:
    """One entry per export of the recipe that was written or judged."""
    names = [name.removeprefix(EXPORT) for name in artifacts if name.startswith(EXPORT)]
    names += [name.removeprefix(VERIFY) for name in artifacts if name.startswith(VERIFY)]
    return [_file(name, artifacts) for name in dict.fromkeys(names)]


def _file(name: str, artifacts: Artifacts) -> dict[str, Any]:
    export, judged = artifacts.get(EXPORT + name), artifacts.get(VERIFY + name)
    fidelity = read(judged, "fidelity.json") or {}
    logits = fidelity.get("logits") or {}
    return {
        "name": name,
        "size": export.size() if export else None,
        "passed": judged.passed if judged else None,
        "checks": checks(judged),
        "causes": [text for text in fidelity.get("causes") or [] if isinstance(text, str)],
        "merge_base": export.facts.get("merge_base") if export else None,
        "imatrix": ((export.facts.get("imatrix") or {}).get("digest") if export else None),
        "rendering_equal": _share(fidelity.get("rendering")),
        "ids_equal": _share(fidelity.get("tokens")),
        "awkward_equal": _share(fidelity.get("awkward")),
        "stop_ids": fidelity.get("stop_ids"),
        "all": logits.get("all"),
        "answer": logits.get("answer"),
        "same_answers": fidelity.get("answers"),
        "summary": read(judged, "summary.json") or {},
        "score": _score(read(judged, "summary.json") or {}),
    }


def merge_bases(artifacts: Artifacts) -> list[dict[str, Any]]:
    """What `merge_base: auto` measured: {"export", "chosen", "rows", "candidates": [{"name", "mean_kl", "loss", "score"
    …}]} per thing that ships, the trained model first among the candidates."""
    found = []
    for name, artifact in artifacts.items():
        if name.partition(".")[0] != MERGE_BASE:
            continue
        figures = artifact.facts.get("candidates") or {}
        rows = [{"name": which, **_named_score(entry)} for which, entry in figures.items()]
        known = {key: artifact.facts.get(key) for key in ("export", "chosen", "rows")}
        found.append({**known, "candidates": rows})
    return found


def _named_score(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate's figures, with the first score under the name "score"."""
    figures = ("mean_kl", "answer_mean_kl", "p99_kl", "top1_agreement")
    metric = next((key for key in entry if key not in (*figures, LOSS)), None)
    shown = {key: entry.get(key) for key in (*figures, LOSS)}
    return {**shown, "metric": metric, "score": entry[metric] if metric else None}


def _share(part: Mapping[str, Any] | None) -> float | None:
    return None if part is None else float(part["share"])


def _score(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first suite's first metric: what a table of files shows."""
    for suite, metrics in summary.items():
        for metric, estimate in metrics.items():
            if metric != LOSS:
                return {"suite": suite, "metric": metric, **estimate}
    return None


def lineage(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Each artifact with its digest and what it was made of."""
    return [
        {
            "target": name,
            "kind": artifact.kind,
            "fingerprint": artifact.fingerprint,
            "digest": artifact.digest,
            "passed": artifact.passed,
            "size": artifact.size(),
            "inputs": {role: _source(entry) for role, entry in artifact.inputs.items()},
        }
        for name, artifact in artifacts.items()
    ]


def _source(entry: Any) -> dict[str, Any]:
    """What an input was: a target and its digest, or a source's reference (no absolute path) and its digest."""
    ref = str(entry.get("ref", ""))
    shown = {} if not ref or Path(ref).is_absolute() else {"ref": ref}
    return {key: entry[key] for key in ("target", "digest") if entry.get(key)} | shown


def verdict(artifacts: Artifacts, found: Mapping[str, Any]) -> dict[str, Any]:
    """{"state": passed | failed | unfinished, "sentence", "why": [lines]}: the first thing a reader sees."""
    gate = artifacts.get(GATE)
    lines, judged = found["checks"], [file for file in found["files"] if file["passed"] is not None]
    if gate is not None and not gate.passed:
        failed = [line for line in lines if not line["passed"]]
        shipped = "" if found["files"] else ": nothing was exported"
        sentence = f"The tuned model failed {len(failed)} of {count(len(lines), 'gate')}{shipped}."
        return {"state": "failed", "sentence": sentence, "why": [_why(line) for line in failed]}
    open_lines = sum(line["status"] == "undecided" for line in lines)
    doubt = f" ({open_lines} of them with too few rows to be sure)" if open_lines else ""
    gates = f"passed {count(len(lines), 'gate')}{doubt}" if gate is not None else "was not gated"
    wrong = [file for file in judged if not file["passed"]]
    if wrong:
        named = ", ".join(file["name"] for file in wrong)
        sentence = (
            f"The tuned model {gates}, but {len(wrong)} of {count(len(judged), 'file')} failed verification: {named}."
        )
        why = [f"{file['name']}: {_why(line)}" for file in wrong for line in file["checks"] if not line["passed"]]
        return {"state": "failed", "sentence": sentence, "why": why}
    if TUNED not in artifacts and not judged:
        return {"state": "unfinished", "sentence": "Nothing has been judged yet: this run is not finished.", "why": []}
    open_files = [file["name"] for file in found["files"] if file["passed"] is None]
    if open_files:
        sentence = f"The tuned model {gates}; not verified yet: {', '.join(open_files)}."
        return {"state": "unfinished", "sentence": sentence, "why": []}
    if not judged:
        state = "unfinished" if gate is None else "passed"
        return {"state": state, "sentence": f"The tuned model {gates}; no file was exported.", "why": []}
    subject = "the file" if len(judged) == 1 else f"all {len(judged)} files"
    sentence = f"The tuned model {gates}, and {subject} passed the comparison with it."
    return {"state": "passed", "sentence": sentence, "why": []}


def _why(line: Mapping[str, Any]) -> str:
    return f"{line['gate']}: {line['detail']}"


def speed(artifacts: Artifacts) -> dict[str, dict[str, Any]]:
    """Measured, not reproducible: {target: its measurements} of the evaluations, and seconds of every target."""
    return {name: dict(artifact.measurements) for name, artifact in artifacts.items() if artifact.measurements}


def tokens_per_second(artifact: Artifact | None) -> float | None:
    """What one user alone gets, from an evaluation's or a verification's measurements."""
    waited = artifact.measurements.get("latency") if artifact else None
    return waited.get("tokens_per_second") if isinstance(waited, Mapping) else None
