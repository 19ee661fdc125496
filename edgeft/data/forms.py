"""Which rows an objective needs, which forms give them, and how a row of a form becomes one. Used by
`edgeft.data.rows`, `prepare` and `edgeft check`."""

from __future__ import annotations

from typing import Any

from edgeft.errors import DataError, Location

Value = dict[str, Any]
# Objective -> the rows it learns from, as stats.json names them (`rows_form`).
NEEDS: dict[str, str] = {
    "sft": "language",
    "distill": "language",
    "cpt": "language",
    "dpo": "preference",
    "orpo": "preference",
    "reward": "preference",
    "kto": "unpaired_preference",
    "grpo": "prompts",
    "classification": "classification",
}
_ANSWERED = ("messages", "sharegpt", "alpaca", "prompt_completion", "extraction", "classification")
# Rows -> the forms that give them.
SERVING: dict[str, tuple[str, ...]] = {
    "language": (*_ANSWERED, "text"),
    "preference": ("preference",),
    "unpaired_preference": ("unpaired_preference", "preference"),
    "prompts": ("prompts", *_ANSWERED),
    "classification": ("classification",),
}


def serving(objective: str) -> tuple[str, ...]:
    """The forms of rows that an objective can learn from."""
    return ("text",) if objective == "cpt" else SERVING[NEEDS[objective]]


def refusal(form: str, objective: str) -> str | None:
    """Why rows of a form do not serve an objective; None when they do."""
    if form in serving(objective):
        return None
    return f"objective {objective} cannot learn from {form} rows"


def advice(objective: str) -> str:
    return f"it needs rows of the type {' or '.join(serving(objective))}"


def check(form: str, objective: str, where: Location) -> None:
    """Raise a `DataError` when rows of a form do not serve an objective."""
    reason = refusal(form, objective)
    if reason:
        raise DataError(reason, where=where, do=advice(objective))


def converted(value: Value, form: str, objective: str) -> list[tuple[str, Value]]:
    """(suffix of the id, row) of each row that a row of a form gives for an objective."""
    need = NEEDS[objective]
    if need == "unpaired_preference" and form == "preference":
        kept = {key: value[key] for key in ("prompt", "tools") if key in value}
        return [
            (f"/{side}", {**kept, "completion": value[side], "label": side == "chosen"})
            for side in ("chosen", "rejected")
        ]
    if form == "classification" and need != "classification":
        asked = value["prompt"] if "prompt" in value else [{"role": "user", "content": value["text"]}]
        value = {"messages": [*asked, {"role": "assistant", "content": value["label"]}], "label": value["label"]}
    if need == "prompts" and form != "prompts":
        *prompt, last = value["messages"]
        rest = {key: found for key, found in value.items() if key not in ("messages", "tools")}
        tools = {"tools": value["tools"]} if "tools" in value else {}
        return [("", {"prompt": prompt, "reference": {"answer": last["content"], **rest}, **tools})]
    return [("", value)]


def with_system(value: Value, system: str) -> Value:
    """The row with a system turn before its conversation, unless it has one (or is no conversation)."""
    key = "messages" if "messages" in value else "prompt"
    listed = value.get(key)
    if not listed or listed[0]["role"] == "system":
        return value
    return {**value, key: [{"role": "system", "content": system}, *listed]}


def conversations(value: Value) -> list[list[dict[str, Any]]]:
    """Every conversation that a row holds, whole: of a preference the one with the better and that with the worse
    answer."""
    if "messages" in value:
        return [value["messages"]]
    ends = [value[key] for key in ("chosen", "rejected", "completion") if key in value]
    return [[*value["prompt"], *end] for end in ends] if ends else [value["prompt"]] if "prompt" in value else []


def asked(value: Value) -> Any:
    """What a row asks, its answer left out: equal for two rows with the same question."""
    if "messages" in value:
        return value["messages"][:-1]
    return value.get("prompt", value.get("text"))


def answered(value: Value) -> list[dict[str, Any]] | None:
    """The row as a conversation with its expected answer, for suites that ask the models; None when it has none."""
    if "messages" in value:
        return list(value["messages"])
    if "chosen" in value:
        return [*value["prompt"], *value["chosen"]]
    if "completion" in value:
        return [*value["prompt"], *value["completion"]] if value["label"] else None
    if "label" in value:
        question = value["prompt"] if "prompt" in value else [{"role": "user", "content": value["text"]}]
        return [*question, {"role": "assistant", "content": value["label"]}]
    answer = value.get("reference", {}).get("answer")
    return [*value["prompt"], {"role": "assistant", "content": answer}] if isinstance(answer, str) else None


def text_of(value: Value) -> str:
    """All of a row's own words, for comparing rows by likeness."""
    turns = [turn for turn in conversations(value)[:1] for turn in turn] + list(value.get("rejected", ()))
    said = [str(turn["content"]) for turn in turns] + [
        value[key] for key in ("text", "label") if isinstance(value.get(key), str)
    ]
    return "\n".join(said)
