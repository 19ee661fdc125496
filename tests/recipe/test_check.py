"""What a recipe names outside itself. Missing ones are in tests/golden/recipe; here is what git cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.models import base
from edgeft.recipe import load
from edgeft.recipe.check import check, files_of

RECIPE = """base_model: builtin:sprout
data:
  datasets: [{path: rows.jsonl}]
  validation: [{path: v.jsonl}]
  test: [{path: t.jsonl}]
  chat_template: chat.jinja
eval: {suites: {task: {rows: test}, own: {rows: own.jsonl}, general: {rows: "builtin:general"}}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for name in ("rows.jsonl", "v.jsonl", "t.jsonl", "chat.jinja", "own.jsonl"):
        (tmp_path / name).write_text("{}\n")
    return tmp_path / "recipe.yaml"


def test_every_file_is_listed_under_its_key(path: Path) -> None:
    assert dict(files_of(load(path))) == {
        "data.datasets.0.path": "rows.jsonl",
        "data.validation.0.path": "v.jsonl",
        "data.test.0.path": "t.jsonl",
        "data.chat_template": "chat.jinja",
        "eval.suites.own.rows": "own.jsonl",
    }
    assert check(load(path), base) == []


def test_a_git_lfs_pointer(path: Path) -> None:
    (path.parent / "rows.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    (fault,) = check(load(path), base)
    assert str(fault) == f"{path}:3:21: rows.jsonl is a Git LFS pointer, not the data\nrun: git lfs pull"


def test_a_file_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self.name == "own.jsonl":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    recipe = load(path)
    monkeypatch.setattr(Path, "open", refuse)
    (fault,) = check(recipe, base)
    assert fault.what == "own.jsonl cannot be read: Permission denied"
    assert fault.where is not None
    assert fault.where.line == 7


def test_a_hub_id_that_is_not_here_yet_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(path.parent / "cache"))
    assert check(load(path, ["base_model=someone/something"]), base) == []
    assert check(load(path, ["base_model=someone/something@refs/pr/1"]), base) == []


def test_a_base_beside_the_recipe(path: Path, tiny_llama: Path) -> None:
    (path.parent / "model").symlink_to(tiny_llama)
    assert check(load(path, ["base_model=model"]), base) == []
    (path.parent / "empty").mkdir()
    (fault,) = check(load(path, ["base_model=empty"]), base)
    assert fault.what == "the base model has no config.json: empty"


def test_the_files_and_models_of_a_phase(path: Path) -> None:
    reward = "{type: json_schema, path: schema.json}"
    phases = f"""train:
  - {{name: one, objective: grpo, rewards: [{reward}], data: {{datasets: [{{path: rows.jsonl}}]}}}}
  - {{name: two, objective: distill, teacher: ../other/merge, data: {{datasets: [{{path: rows.jsonl}}]}}}}
"""
    path.write_text(path.read_text() + phases)
    told = [str(fault).splitlines()[0] for fault in check(load(path), base)]
    assert told == [
        f"{path}:9:70: there is no file schema.json",
        f"{path}:10:46: the teacher folder is not there: ../other/merge",
    ]
