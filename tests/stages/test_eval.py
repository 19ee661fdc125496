from __future__ import annotations

from pathlib import Path

import pytest

from edgeft import artifact, files
from edgeft.artifact import Outcome
from edgeft.errors import ModelError
from edgeft.evals import suites as packaged
from edgeft.evals.scores import read_rows
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe.judging import Suite
from edgeft.stages import eval as stage
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers, task_rows


def test_base_and_tuned_are_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    base, tuned = FakeRuntime(answers(0.0), name="hf"), FakeRuntime(answers(0.95), name="hf+adapter")
    made.evaluate(base, tuned)
    found = made.artifacts["eval.tuned"]
    summary = files.read_json(found.file("summary.json"))
    assert summary["task"]["exact_match"]["value"] == 0.95
    assert list(summary) == ["task", "general", "general/arithmetic", "general/ordering"]
    assert (found.kind, found.facts["runtime"]) == ("evaluation", "hf+adapter")
    assert found.facts["task.exact_match"] == 0.95
    assert made.artifacts["eval.base"].facts["task.exact_match"] == 0.0
    rows = read_rows(found.file("rows.parquet"))
    assert len(rows) == 80
    assert {row["group"] for row in rows} == {"", "arithmetic", "ordering"}
    assert found.measurements["latency"]["answers"] == 12
    assert found.volatile == ("speed.json",)
    assert base.closed
    assert tuned.closed


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for name in ("one", "two"):
        made = MadeRun(tmp_path / name, monkeypatch)
        made.evaluate(FakeRuntime(), FakeRuntime(answers(0.5)))
        digests.add(made.artifacts["eval.tuned"].digest)
    assert len(digests) == 1


def test_a_users_file_is_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.jsonl"
    files.write_jsonl(mine, [{"messages": row["messages"]} for row in task_rows(3)])
    monkeypatch.setattr(stage, "open_model", lambda inputs: FakeRuntime(answers()))
    (tmp_path / "work").mkdir()
    params = stage.Params(suites={"mine": Suite(rows="mine.jsonl", max_tokens=60)}, latency_rows=0)
    inputs = Inputs({}, {"base": tmp_path, "suites.mine": mine})
    stage.run(params, inputs, Work(tmp_path / "work", tmp_path / "scratch"))
    rows = read_rows(tmp_path / "work" / "rows.parquet")
    assert [row["id"] for row in rows] == ["mine.jsonl:1", "mine.jsonl:2", "mine.jsonl:3"]
    assert all(row["scores"]["exact_match"] == 1 for row in rows)


def test_max_tokens_and_limit_reach_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch)
    runtime = FakeRuntime(answers(), stops=False)
    monkeypatch.setattr(stage, "open_model", lambda inputs: runtime)
    params = stage.Params(suites={"task": Suite(rows="test", max_tokens=7, limit=5)}, batch_size=2, latency_rows=0)
    (tmp_path / "work").mkdir()
    inputs = Inputs({"data": made.artifacts["data"]}, {"base": tmp_path})
    stage.run(params, inputs, Work(tmp_path / "work", tmp_path / "scratch"))
    rows = read_rows(tmp_path / "work" / "rows.parquet")
    assert len(rows) == 5
    assert {row["generated"] for row in rows} == {7}
    assert not any(row["stopped"] for row in rows)
    assert [len(batch) for batch in runtime.asked] == [2, 2, 1]


def test_other_packaged_rows_give_other_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packaged.BUILTINS, "general", tmp_path)
    (tmp_path / "a.jsonl").write_text("one\n")
    suites = {"general": Suite(rows="builtin:general")}
    before = stage.Params(suites=suites)
    assert stage.Params.model_validate(before.model_dump()) == before
    (tmp_path / "a.jsonl").write_text("two\n")
    assert stage.Params(suites=suites) != before
    assert stage.Params(suites={"task": Suite(rows="test")}).builtin == {}


def test_a_missing_split_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    artifact.finish(
        tmp_path / "data", Outcome("dataset"), stage="data", fingerprint="f", params={}, inputs={}, environment={}
    )
    params = stage.Params(suites={"task": Suite(rows="test")})
    inputs = Inputs({"data": artifact.load(tmp_path / "data")}, {"base": tmp_path})
    with pytest.raises(ModelError, match=r"no file 'test\.jsonl'"):
        stage.questions_of(params.suites, inputs)


def test_the_base_is_asked_through_the_recipes_template(tiny_llama: Path, tmp_path: Path) -> None:
    """A base without tools in its template, or without any template, is given the same text as the tuned model."""
    own = "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    work = Work(tmp_path / "data", tmp_path)
    work.folder.mkdir()
    files.write_jsonl(work.folder / "test.jsonl", task_rows(2))
    for template in (None, own):
        files.write_json(work.folder / "stats.json", {"chat_template": template})
        artifact.finish(
            work.folder, Outcome("dataset"), stage="data", fingerprint="f", params={}, inputs={}, environment={}
        )
        data = artifact.load(work.folder)
        with stage.open_model(Inputs({"data": data}, {"base": tiny_llama})) as runtime:
            text = runtime.render([{"role": "user", "content": "Hi"}])
        assert text == ("<|im_start|>user: Hi<|im_end|>" if template else "<|im_start|>user\nHi<|im_end|>\n")
