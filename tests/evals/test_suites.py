from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import DataError, Errors, InputError
from edgeft.evals import suites
from tests.evals.fakes import conversation

METRICS = ["exact_match"]


def test_rows_become_questions_with_the_last_answer_expected() -> None:
    row = conversation("one?", "1", "a:1", "numbers")
    row["messages"] = [{"role": "system", "content": "Be brief."}, *row["messages"]]
    suite = suites.from_rows("s", [row], metrics=METRICS, max_tokens=9)
    (case,) = suite.cases
    assert [message["role"] for message in case.messages] == ["system", "user"]
    assert (case.id, case.expected, case.group, suite.max_tokens) == ("a:1", "1", "numbers", 9)


def test_limit_spreads_over_all_rows() -> None:
    rows = [conversation(f"q{i}", "a", str(i)) for i in range(10)]
    assert [case.id for case in suites.from_rows("s", rows, metrics=METRICS, limit=4).cases] == ["0", "2", "5", "7"]
    assert len(suites.from_rows("s", rows, metrics=METRICS, limit=40).cases) == 10


def test_faults_come_together() -> None:
    bad = {"id": "f:2", "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    worse = {"id": "f:3", "messages": "no"}
    with pytest.raises(Errors) as error:
        suites.from_rows("s", [conversation("q", "a", "f:1"), bad, worse], metrics=METRICS)
    assert [str(found) for found in error.value.errors] == [
        "f:2: suite 's': the last message must be the assistant's expected answer",
        "f:3: suite 's': a row needs at least a question and its answer under 'messages'",
    ]


def test_empty_double_and_unknown() -> None:
    with pytest.raises(InputError, match="no rows"):
        suites.from_rows("s", [], metrics=METRICS)
    row = conversation("q", "a", "f:1")
    with pytest.raises(DataError, match="two rows with the id 'f:1'"):
        suites.from_rows("s", [row, row], metrics=METRICS)
    with pytest.raises(InputError, match="unknown metric"):
        suites.from_rows("s", [row], metrics=["blue"])


def test_a_users_file_is_read_with_locations(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    good = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    path.write_text(good + "\n" + good)
    suite = suites.from_rows("s", suites.read_objects(path), metrics=METRICS)
    assert [case.id for case in suite.cases] == ["mine.jsonl:1", "mine.jsonl:3"]
    path.write_text(good + '{"messages": [}\n')
    with pytest.raises(DataError, match=r"mine\.jsonl:2:15: not JSON") as error:
        list(suites.read_objects(path))
    assert error.value.exit_code == 2
    with pytest.raises(DataError, match="cannot be read"):
        list(suites.read_objects(tmp_path / "none.jsonl"))


def test_a_packaged_suite_keeps_its_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    (tmp_path / "ordering.jsonl").write_text(row * 2)
    (tmp_path / "arithmetic.jsonl").write_text(row)
    monkeypatch.setitem(suites.BUILTINS, "general", tmp_path)
    suite = suites.builtin("general", "builtin:general", metrics=METRICS)
    assert [(case.id, case.group) for case in suite.cases] == [
        ("arithmetic:1", "arithmetic"),
        ("ordering:1", "ordering"),
        ("ordering:2", "ordering"),
    ]
    with pytest.raises(InputError, match="no built-in suite 'genral'") as error:
        suites.builtin("general", "builtin:genral", metrics=METRICS)
    assert error.value.do == "did you mean 'general'?"
