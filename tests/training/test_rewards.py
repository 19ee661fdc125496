"""Rewards of `grpo`: what each gives, and that a user's code runs only when it is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import InputError
from edgeft.training.rewards import Rewards


def judged(reward: dict[str, Any], answer: str, reference: Any, path: Path | None = None) -> float:
    files = {"rewards.0": path} if path else {}
    return Rewards.of([{"weight": 2.0, **reward}], files)([{"role": "user", "content": "Say on"}], answer, reference)


def test_rewards(tmp_path: Path) -> None:
    assert judged({"type": "exact_match"}, " on ", "on") == 2.0
    assert judged({"type": "exact_match"}, "off", "on") == 0.0
    assert judged({"type": "exact_match"}, '{"a": 1}', {"answer": {"a": 1}}) == 2.0
    assert judged({"type": "exact_match"}, " on ", {"answer": "on", "room": "hall"}) == 2.0
    with pytest.raises(InputError, match="a row with 'solution' only"):
        judged({"type": "exact_match"}, "on", {"solution": "on"})
    assert judged({"type": "regex", "pattern": r"^\d+$"}, "42", None) == 2.0
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["room"]}')
    assert judged({"type": "json_schema"}, '{"room": "hall"}', None, schema) == 2.0
    assert judged({"type": "json_schema"}, '{"roof": 1}', None, schema) == 0.0
    assert judged({"type": "json_schema"}, "hall", None, schema) == 0.0
    schema.write_text('{"type": "thing"}')
    with pytest.raises(InputError, match="not a JSON schema"):
        judged({"type": "json_schema"}, "{}", None, schema)
    with pytest.raises(InputError, match="grpo needs rewards"):
        Rewards.of([], {})


def test_code_runs_only_when_it_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    trace = tmp_path / "ran"
    file.write_text(
        f"open({str(trace)!r}, 'w').close()\ndef reward(prompt, answer, reference):\n"
        "    return len(answer) if prompt[-1]['content'] == 'Say on' else 0\n"
    )
    with pytest.raises(InputError, match="code of a reward file is not allowed to run"):
        judged({"type": "python", "allow_code": False}, "abc", None, file)
    assert not trace.exists()
    assert judged({"type": "python", "allow_code": True}, "abc", None, file) == 6.0
    file.write_text("def reward(prompt, answer, reference):\n    return float('nan')\n")
    with pytest.raises(InputError, match="the reward gave nan"):
        judged({"type": "python", "allow_code": True}, "abc", None, file)
