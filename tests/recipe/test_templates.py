"""`edgeft init`'s templates: whole, valid, and never written over anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.errors import InputError, StorageError, UsageError
from edgeft.models import base
from edgeft.recipe import load
from edgeft.recipe.check import check
from edgeft.recipe.templates import TEMPLATES, write_template


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_written_template_is_a_valid_recipe(name: str, tmp_path: Path) -> None:
    written = write_template(name, tmp_path / "new" / "folder")
    recipe = load(written[0])
    assert check(recipe, base) == []
    named = [
        recipe.resolve(entry.path) for entry in (*recipe.data.datasets, *recipe.data.validation, *recipe.data.test)
    ]
    assert sorted(named) == sorted(written[1:])


def test_the_data_is_sound() -> None:
    folder = Path(__file__).parents[2] / "edgeft" / "recipe" / "templates" / "data"
    questions: dict[str, str] = {}
    for path in (folder / f"{split}.jsonl" for split in ("train", "validation", "test")):
        for line in path.read_text(encoding="utf-8").splitlines():
            roles = [message["role"] for message in json.loads(line)["messages"]]
            assert roles == ["system", "user", "assistant"]
            _, question, answer = (message["content"] for message in json.loads(line)["messages"])
            assert answer in ("shopping", "calendar", "chore", "message")
            assert questions.setdefault(question, path.name) == path.name, "a question is in two splits"


def test_the_replay_rows_are_conversations_of_the_base() -> None:
    """They are the quickstart's, rows of the base's own corpus."""
    root = Path(__file__).parents[2]
    replay = (root / "edgeft" / "recipe" / "templates" / "data" / "replay.jsonl").read_bytes()
    assert replay == (root / "recipes" / "data" / "household" / "replay.jsonl").read_bytes()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"data/test.jsonl would be overwritten"):
        write_template("starter", tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["test.jsonl"]
    assert (tmp_path / "data" / "test.jsonl").read_text() == "mine"
    write_template("starter", tmp_path, overwrite=True)
    assert (tmp_path / "data" / "test.jsonl").read_text() != "mine"


def test_an_unknown_template(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no template 'startr'") as caught:
        write_template("startr", tmp_path)
    assert caught.value.do == "did you mean 'starter'?"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", str(tmp_path))

    monkeypatch.setattr("edgeft.files.write_bytes", refuse)
    with pytest.raises(StorageError, match="read-only"):
        write_template("starter", tmp_path)
