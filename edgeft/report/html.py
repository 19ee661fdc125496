"""The HTML page: one file, no network, everything escaped. Called by the report's stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import files
from edgeft.artifact import MANIFEST
from edgeft.report import charts, glance, marked, plots, words
from edgeft.report.facts import TUNED, VERIFY, Artifacts, skills

_HERE = Path(__file__).parent
_HIDDEN = ("builtin",)  # digests that only fingerprints need


def page(found: Mapping[str, Any], speed: Mapping[str, Mapping[str, Any]], environment: Mapping[str, Any]) -> str:
    """The page about `facts.gather`'s findings (with "title", "changes", "samples" and "regressions"), the measurements
    of each target, and the machine they were taken on."""
    import jinja2

    loader = jinja2.FileSystemLoader(_HERE)
    jinja = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    jinja.filters |= {
        "percent": words.percent,
        "small": words.small,
        "size": words.size,
        "rate": words.rate,
    }
    jinja.globals |= {
        "figure": words.figure,
        "change": words.change,
        "interval": words.interval,
        "count": words.count,
        "pieces": marked.pieces,
    }
    whole = [entry for entry in found["suites"] if not entry["group"]]
    shown = tables([*whole, *skills(found["suites"], found["labels"])], found["changes"])
    latencies = {name.removeprefix(VERIFY): _latency(speed[name]) for name in speed if name.startswith(VERIFY)}
    trained_rate = _latency(speed.get(TUNED, {})).get("tokens_per_second")
    stats = found["data"] or {}
    text: str = jinja.get_template("page.html").render(
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
        found=found,
        glance=glance.tiles(found, shown),
        tables=shown,
        drawings={
            "curve": plots.loss_curve(found["curve"]),
            "forgetting": plots.forgetting(shown["families"]),
            "trade_off": plots.trade_off(
                found["files"],
                {name: entry.get("tokens_per_second") for name, entry in latencies.items()},
                {"score": _trained_score(found), "rate": trained_rate},
            ),
            "lengths": plots.lengths(stats.get("splits") or {}, stats.get("sequence_len")),
        },
        times={check["gate"]: check["detail"] for entry in speed.values() for check in entry.get("timing") or ()},
        overfitted=plots.overfitted(found["curve"]),
        rates=latencies,
        trained_rate=trained_rate,
        chains=glance.chains(found["lineage"]),
        seconds={name: entry["seconds"] for name, entry in speed.items() if "seconds" in entry},
        memory={name: entry["peak_rss_bytes"] for name, entry in speed.items() if "peak_rss_bytes" in entry},
        settings=settings(found["settings"]),
        data=data_card(stats),
        checks_of_data=data_checks(stats),
        stats=stats,
        environment=environment,
    )
    return text


def _trained_score(found: Mapping[str, Any]) -> float | None:
    """The trained model's own value of the score that the files are shown with."""
    score = next((entry["score"] for entry in found["files"] if entry["score"]), None)
    if score is None:
        return None
    for entry in found["suites"]:
        if not entry["group"] and (entry["suite"], entry["metric"]) == (score["suite"], score["metric"]):
            return entry["tuned"]["value"] if entry["tuned"] else None
    return None


def _finalize(value: Any) -> Any:
    """Every text that reaches the page has its control characters shown; escaping follows."""
    return words.visible(value) if type(value) is str else value


def _latency(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("latency")
    return found if isinstance(found, Mapping) else {}


def tables(
    entries: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the two before/after tables: {"suites": …, "families": …}, with their bars and paired changes."""
    known = {(entry["suite"], entry["metric"]): entry for entry in changes}
    found: dict[str, list[dict[str, Any]]] = {"suites": [], "families": []}
    for entry in entries:
        sides = [side for side in (entry["base"], entry["tuned"]) if side]
        metric = entry["metric"]
        highest = 1.0 if words.is_share(metric, *sides) else max(side["high"] or side["value"] for side in sides)
        name = f"{entry['suite']}/{entry['group']}" if entry["group"] else entry["suite"]
        row = {
            **entry,
            "n": sides[0]["n"],
            "base_bar": charts.bar(entry["base"], highest),
            "tuned_bar": charts.bar(entry["tuned"], highest),
            "change": known.get((name, metric)),
        }
        row["direction"] = _direction(row["change"], metric)
        found["families" if entry["group"] else "suites"].append(row)
    return found


def _direction(change: Mapping[str, Any] | None, metric: str) -> str:
    """ "better" or "worse" when the interval of the change, and its p value if it has one, leave no doubt, else ""."""
    if change is None or change["low"] is None or change["low"] <= 0 <= change["high"]:
        return ""
    if change.get("p_value") is not None and change["p_value"] >= 0.05:
        return ""
    rose = change["low"] > 0
    return "better" if rose != (metric == words.LOSS) else "worse"


def data_card(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per split: rows, tokens, tokens that are learnt, lengths, rows that are in the training data too."""
    return [
        {
            "split": split,
            "rows": entry.get("rows"),
            "tokens": entry.get("tokens"),
            "trained_tokens": entry.get("trained_tokens"),
            "roles": entry.get("tokens_by_role") or {},
            "doubles": (stats.get("duplicates") or {}).get(split),
            "length": entry.get("length") or {},
            "too_long": (entry.get("too_long") or {}).get("rows", 0),
            "too_long_examples": (entry.get("too_long") or {}).get("examples") or [],
            "leaked": ((stats.get("leakage") or {}).get(split) or {}).get("rows"),
        }
        for split, entry in (stats.get("splits") or {}).items()
    ]


def data_checks(stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the data stage looked for: {"check", "policy", "rows", "dropped", "examples"}; none when it does not say."""
    found = stats.get("checks")
    if not isinstance(found, Mapping):
        return []
    return [
        {
            "check": name.replace("_", " "),
            "policy": entry.get("policy"),
            "rows": entry.get("rows", 0),
            "dropped": entry.get("dropped", 0),
            "examples": [str(example) for example in entry.get("examples") or []][:3],
        }
        for name, entry in found.items()
        if isinstance(entry, Mapping)
    ]


def settings(params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Parameters per target, nested ones flattened to dotted names, as text."""
    return {target: dict(_flat(values)) for target, values in params.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key in _HIDDEN or value in (None, [], {}):
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            found += _flat({str(number): item for number, item in enumerate(value)}, f"{name}.")
        else:
            found.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found


def environment(artifacts: Artifacts) -> dict[str, str]:
    """The machine and the versions that made the last artifact, as its manifest tells them."""
    found: dict[str, str] = {}
    for artifact in artifacts.values():
        manifest = files.read_json(artifact.path / MANIFEST)
        found = dict(_flat({"edgeft": manifest.get("edgeft", ""), **manifest.get("environment", {})}))
    return found
