"""tests/golden/data: one folder per fault of a dataset, its rows and the exact message (`expected.txt`).

`case.json` may set `type` (null: found out), `model` (true: the fault shows only with a tokenizer), `template` (a
Jinja text), `objective` and fields of `Plan`; `rows` names another file than rows.jsonl, `validation` a file of
held-out rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.data.prepare import Plan, prepare
from edgeft.data.rows import Entry, check_rows
from edgeft.errors import EdgeftError, Errors

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def settings_of(case: str) -> dict[str, Any]:
    path = GOLDEN / case / "case.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def entry_of(case: str, settings: dict[str, Any]) -> Entry:
    name = settings.pop("rows", "rows.jsonl")
    return Entry(GOLDEN / case / name, settings.pop("type", "messages"), f"data/{name}")


def expected(case: str) -> str:
    return (GOLDEN / case / "expected.txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("case", [case for case in CASES if not settings_of(case).get("model")])
def test_message_without_a_model(case: str) -> None:
    settings = settings_of(case)
    errors = check_rows([entry_of(case, settings)], settings.get("objective", "sft"))
    assert str(Errors(errors)) == expected(case)
    assert {error.exit_code for error in errors} == {2}


@pytest.mark.parametrize("case", [case for case in CASES if settings_of(case).get("model")])
def test_message_with_a_model(case: str, tiny_llama: Path, tmp_path: Path) -> None:
    from edgeft.models.tokenizer import load_tokenizer

    settings = settings_of(case)
    del settings["model"]
    tokenizer = load_tokenizer(tiny_llama, chat_template=settings.pop("template", None))
    entry = entry_of(case, settings)
    assert check_rows([entry], settings.get("objective", "sft")) == []
    if "validation" in settings:
        name = settings["validation"]
        settings["validation"] = [Entry(GOLDEN / case / name, "messages", f"data/{name}")]
    with pytest.raises(EdgeftError) as raised:
        prepare(Plan([entry], **settings), tokenizer, tmp_path)
    assert str(raised.value) == expected(case)
    assert raised.value.exit_code == 2


def test_every_kind_of_fault_has_a_golden_case() -> None:
    from edgeft.data.faults import FAULTS

    text = "\n".join(expected(case) for case in CASES)
    assert [kind for kind, found in FAULTS.items() if found.do not in text] == []
