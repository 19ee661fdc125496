"""Rows of the recipes that read something out of what they are given: every expected answer can be read there, fits its
schema or its tools, and is what training teaches."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from edgeft.data.formats import messages as messages_form
from edgeft.data.masks import IGNORED, Masker
from edgeft.evals.metrics import tool_calls
from edgeft.models.base import resolve
from edgeft.models.tokenizer import load_tokenizer
from tools import make_tasks

DATA = make_tasks.FOLDER


def test_every_order_fits_the_schema_and_says_what_is_extracted() -> None:
    schema = json.loads((DATA / "extraction" / "schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for split in make_tasks.SIZES:
        rows: list[Any] = make_tasks.rows("extraction", split)
        for row in rows:
            validator.validate(row["json"])
            for value in row["json"].values():
                assert value is None or str(value) in row["text"]
        days = [row["json"]["day"] for row in rows]
        assert 0.2 < days.count(None) / len(days) < 0.6


def test_every_citation_is_a_passage_that_holds_the_word() -> None:
    for split in make_tasks.SIZES:
        rows: list[Any] = make_tasks.rows("citations", split)
        for row in rows:
            asked, answer = (turn["content"] for turn in row["messages"])
            *passages, question = asked.split("\n")
            word, _, cited = answer.partition(": ")
            assert f"{cited}." in passages
            assert word in cited.split()
            assert len({passage.rpartition("[")[2] for passage in passages}) == 3
            assert question.endswith(("?", "."))


def test_every_call_is_of_a_tool_that_is_offered() -> None:
    for split in make_tasks.SIZES:
        rows: list[Any] = make_tasks.rows("tools", split)[:150]
        names = set()
        for row in rows:
            offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
            calls = [call["function"] for turn in row["messages"] for call in turn.get("tool_calls", ())]
            assert calls
            for call in calls:
                jsonschema.validate(call["arguments"], offered[call["name"]] | {"additionalProperties": False})
                names.add(call["name"])
            if split != "train":
                assert row["messages"][-1]["tool_calls"]
        assert len(names) == 12


def test_the_template_of_the_tools_trains_calls_and_answers_alone() -> None:
    template = (DATA / "tools" / "template.jinja").read_text(encoding="utf-8")
    tokenizer = load_tokenizer(resolve("builtin:sprout"), chat_template=template)
    masker = Masker(tokenizer, ("assistant",), (2047,))
    for given in make_tasks.rows("tools", "train")[:12]:
        row = messages_form.normal(dict(given))
        (example,) = masker.encode(row["messages"], row["tools"])
        taught = tokenizer.decode([label for label in example.labels if label != IGNORED])
        turns = [turn for turn in row["messages"] if turn["role"] == "assistant"]
        said = [turn["content"] or _call(turn) for turn in turns]
        assert taught == "".join(f"{text}<|im_end|>" for text in said)
        made = [call["function"] for turn in turns for call in turn.get("tool_calls", ())]
        assert tool_calls.calls_of(taught) == tool_calls.calls_of("\n".join(map(json.dumps, made)))
        assert example.text.startswith("<|im_start|>system\nTools:\n")
        assert all(f"\n{tool['function']['name']}: " in example.text for tool in row["tools"])


def _call(turn: Any) -> str:
    return json.dumps(turn["tool_calls"][0]["function"])
