"""Rows of tool calling: what they offer reaches the template, and a call is the answer that is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.evals import suites
from edgeft.evals.evaluate import evaluate
from edgeft.evals.fidelity import examine
from edgeft.models import template
from edgeft.runtimes.hf import open_hf
from edgeft.stages.cases import answered
from tests.evals.fakes import FakeRuntime
from tests.models_made import make_llama

TOOL = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "light", "arguments": {"on": True}}}
ROW = {
    "id": "f:1",
    "messages": [
        {"role": "user", "content": "light on"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ],
    "tools": [TOOL],
}
TEMPLATE = """{%- if tools -%}{{ '<|im_start|>tools ' + tools | tojson + '<|im_end|>' }}{%- endif -%}
{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] -}}
{%- for call in m['tool_calls'] or [] -%}{{- call['function'] | tojson -}}{%- endfor -%}
{{- '<|im_end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


@pytest.mark.parametrize("kind", ["generation", "choice", "pairs"])
def test_what_a_row_offers_reaches_the_template(kind: str) -> None:
    rows = {
        "generation": ROW,
        "choice": {"id": "1", "question": "light on", "choices": ["yes", "no"], "answer": 0, "tools": [TOOL]},
        "pairs": {"id": "1", "prompt": "light on", "good": "yes", "bad": "no", "tools": [TOOL]},
    }
    suite = suites.from_rows(
        "s", [rows[kind]], metrics=["exact_match" if kind == "generation" else "accuracy"], kind=kind
    )
    (row,) = evaluate(FakeRuntime(), [suite]).rows
    assert row["rendered"].startswith(f"<|im_start|>tools\n{json.dumps([TOOL])}<|im_end|>")


def test_a_call_is_the_expected_answer_as_the_template_writes_it() -> None:
    said = f"<call>{json.dumps(CALL['function'])}"
    suite = suites.from_rows("s", [ROW], metrics=["exact_match"])
    right, wrong = (evaluate(FakeRuntime({"light on": text}), [suite]).rows[0] for text in (said, ""))
    assert (right["expected"], right["scores"]["exact_match"], wrong["scores"]["exact_match"]) == (said, 1.0, 0.0)
    assert right["tokens"] == len(said) + 1, "the loss is of the call and its end of turn"


def test_files_are_compared_with_their_tools() -> None:
    """A file whose template leaves the tools out renders other conversations than the trained model."""
    (case,) = answered([ROW])

    class Deaf(FakeRuntime):
        def render(self, messages: Any, *, add_generation_prompt: bool = False, tools: Any = ()) -> str:
            return super().render(messages, add_generation_prompt=add_generation_prompt)

    whole = examine(FakeRuntime(), FakeRuntime(), [case], logit_rows=1)["rendering"]
    deaf = examine(FakeRuntime(), Deaf(), [case], logit_rows=1)["rendering"]
    assert (whole["n"] - whole["equal"], deaf["n"] - deaf["equal"]) == (0, 2)


def test_tools_are_written_alike_by_transformers_and_by_our_own_templates(tmp_path: Path) -> None:
    make_llama(tmp_path, hidden=64, intermediate=64, layers=1)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with open_hf(tmp_path) as runtime:
        theirs = runtime.render(ROW["messages"], tools=[TOOL])  # type: ignore[arg-type]
    assert theirs == template.render(TEMPLATE, ROW["messages"], tools=[TOOL])  # type: ignore[arg-type]
    assert '"name": "light"' in theirs
