"""What training rows tell the users of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.data.told import told

BRIEF = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("rows", "system"),
    [
        ([{"messages": [BRIEF, HI]}, {"messages": [BRIEF, HI, HI]}], "Be brief."),
        ([{"prompt": [BRIEF, HI]}], "Be brief."),
        ([{"messages": [BRIEF, HI]}, {"messages": [HI]}], None),
        ([{"messages": [BRIEF, HI]}, {"messages": [{**BRIEF, "content": "Be long."}, HI]}], None),
        ([{"messages": [BRIEF, BRIEF, HI]}], None),
        ([{"messages": [{**BRIEF, "content": "  "}, HI]}], None),
        ([{"messages": [HI]}], None),
        ([{"text": "a text"}, {"prompt": "a question"}], None),
    ],
)
def test_the_one_system_message(rows: list[dict[str, Any]], system: str | None, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"a.jsonl:{number}", **row}) for number, row in enumerate(rows, 1)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    assert told(tmp_path) == {"datasets": ["a.jsonl"], "system": system}


def test_the_files_of_the_rows(tmp_path: Path) -> None:
    ids = ["b.jsonl:1", "b.jsonl:2", "x/a.jsonl:7", "with:colon.jsonl:3", "c.csv:12+sharegpt", None]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"id": name, "messages": [HI]}) + "\n" for name in ids))
    assert told(tmp_path)["datasets"] == ["b.jsonl", "c.csv", "with:colon.jsonl", "x/a.jsonl"]
