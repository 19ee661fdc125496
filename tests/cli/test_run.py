"""`edgeft run`, `plan`, `report`, `check` on the command line, with instant stages: what is told, and the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Outcome
from edgeft.cli.main import main
from edgeft.errors import DataError, Location, StorageError
from edgeft.pipeline.stage import Inputs, Work
from tests.cli import stages_faked

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe in the current folder, its stages instant."""
    monkeypatch.chdir(tmp_path)
    stages_faked.install(monkeypatch)
    stages_faked.write_recipe(tmp_path)
    return "r.yaml"


def run_json(capsys: Captured, *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_a_run_tells_each_target_the_table_the_files_and_the_commands(recipe: str, capsys: Captured) -> None:
    assert main(["run", recipe]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0] == "[1/9] data: never built"
    assert lines[1].startswith("data: built in ")
    assert any(line.startswith("task             exact_match         10.0 %    90.0 %") for line in lines), out
    path = "build/r/export.gguf-q8_0/tiny-q8_0.gguf"
    assert any(line.startswith(f"  {path} ") and line.endswith("1.0 kB") for line in lines)
    for command in (f"  GGUF={path}", '  llama-cli -m "$GGUF"', "  build/r/report/report.html",
                    "  edgeft chat build/r/export.gguf-q8_0"):  # fmt: skip
        assert command in lines
    assert Path(path).is_file()
    assert max(map(len, lines)) <= 80


def test_again_nothing_is_built(recipe: str, capsys: Captured) -> None:
    main(["run", recipe])
    capsys.readouterr()
    assert main(["run", recipe]) == 0
    out = capsys.readouterr().out
    assert "built in" not in out
    assert "everything is up to date (9 targets)" in out


def test_a_dry_run_names_what_changes_and_why(recipe: str, capsys: Captured) -> None:
    main(["run", recipe])
    capsys.readouterr()
    assert main(["run", recipe, "-n", "--set", "train.learning_rate=1e-4"]) == 0
    rows = {line.split()[0]: line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines()[:8]}
    assert rows["data"] == "up to date"
    assert rows["train"] == "will run       learning_rate 0.0002 → 0.0001"
    assert rows["eval.base"] == "up to date"
    assert rows["eval.tuned"] == "may run        input train will be rebuilt"


def test_a_plan_as_json_has_what_it_takes(recipe: str, capsys: Captured) -> None:
    code, plan, _ = run_json(capsys, "plan", recipe)
    assert code == 0
    assert [one["name"] for one in plan["targets"]] == [
        "data", "train", "eval.base", "eval.tuned", "probe", "gate", "export.gguf-q8_0", "verify.gguf-q8_0", "report",
    ]  # fmt: skip
    train = plan["targets"][1]
    assert (train["status"], train["reasons"][0]["kind"]) == ("will run", "never")
    assert train["takes"]["ram"] > 1e8
    assert not Path("build").exists()


def test_targets_limit_the_run(recipe: str, capsys: Captured) -> None:
    code, result, err = run_json(capsys, "run", recipe, "data")
    assert (code, [one["name"] for one in result["targets"]]) == (0, ["data"])
    assert result["targets"][0]["status"] == "built"
    assert result["targets"][0]["link"] == "build/r/data"
    assert err.startswith("[1/1] data: never built\n")


def test_an_unknown_target_gets_a_suggestion(recipe: str, capsys: Captured) -> None:
    assert main(["run", recipe, "trian"]) == 2
    assert capsys.readouterr().err == "edgeft: the recipe has no target 'trian'\n  did you mean 'train'?\n"


def test_always_make_builds_again(recipe: str, capsys: Captured) -> None:
    main(["run", recipe, "data"])
    capsys.readouterr()
    assert main(["run", recipe, "data", "-B"]) == 0
    assert "[1/1] data: forced (-B)" in capsys.readouterr().out


def test_a_failed_gate_ends_with_4_and_says_why(recipe: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    stages_faked.install(monkeypatch, gate=stages_faked.failing_gate)
    assert main(["run", recipe]) == 4
    out, err = capsys.readouterr()
    assert err == ("edgeft: gate: the tuned model fails 1 of 1 check\n  task.exact_match >= 0.5: 0.4 of 10 rows\n")
    assert "export.gguf-q8_0: blocked: gate did not pass" in out
    assert not Path("build/r/export.gguf-q8_0").exists()
    assert Path("build/r/report").exists()
    capsys.readouterr()
    assert main(["run", recipe]) == 4  # and so it does the next time
    assert "gate: did NOT pass (as before)" in capsys.readouterr().out


def test_a_failed_stage_ends_with_its_own_code(recipe: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(params: Any, inputs: Inputs, work: Work) -> Outcome:
        raise StorageError("the disk is full", where="/data", do="free some space")

    stages_faked.install(monkeypatch, train=full)
    assert main(["run", recipe]) == 1
    out, err = capsys.readouterr()
    assert err == "/data: the disk is full\n  free some space\n"
    assert "train: failed after 0." in out


def test_an_unexpected_failure_shows_its_traceback_with_debug(
    recipe: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(params: Any, inputs: Inputs, work: Work) -> Outcome:
        return 1 // 0  # type: ignore[return-value]

    stages_faked.install(monkeypatch, train=broken)
    assert main(["run", recipe]) == 1
    err = capsys.readouterr().err
    assert err.startswith("edgeft: train failed: ZeroDivisionError: ")
    assert "Traceback" not in err
    assert main(["run", recipe, "--debug"]) == 1
    assert "return 1 // 0" in capsys.readouterr().err


def test_every_failure_is_told_with_keep_going(recipe: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(params: Any, inputs: Inputs, work: Work) -> Outcome:
        raise DataError("bad row", where=Location("rows.jsonl", 1))

    stages_faked.install(monkeypatch, train=bad, report=bad)
    assert main(["run", recipe, "-k"]) == 2
    out, err = capsys.readouterr()
    assert err == "rows.jsonl:1: bad row\n"
    assert "eval.base: built in" in out
    code, result, err = run_json(capsys, "run", recipe, "-k")
    assert (code, result["exit_code"]) == (2, 2)
    failed = [one for one in result["targets"] if one["status"] == "failed"]
    assert [one["error"]["text"] for one in failed] == ["rows.jsonl:1: bad row"] * 2


def test_ctrl_c_ends_with_130(recipe: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(params: Any, inputs: Inputs, work: Work) -> Outcome:
        raise KeyboardInterrupt

    stages_faked.install(monkeypatch, train=interrupted)
    assert main(["run", recipe]) == 130
    assert capsys.readouterr().err == "edgeft: interrupted\n  run the same command again to go on from here\n"


def test_recipe_errors_come_with_their_place(recipe: str, capsys: Captured) -> None:
    Path(recipe).write_text(stages_faked.RECIPE.replace("learning_rate", "learnig_rate"), encoding="utf-8")
    assert main(["run", recipe]) == 2
    assert capsys.readouterr().err.startswith("r.yaml:6:3: ")


def test_the_report_can_be_written_again(recipe: str, capsys: Captured) -> None:
    main(["run", recipe])
    capsys.readouterr()
    assert main(["report", recipe]) == 0
    assert capsys.readouterr() == ("build/r/report/report.html\n", "report: up to date\n")
    code, told, _ = run_json(capsys, "report", recipe)
    assert (code, told["report"]) == (0, "build/r/report/report.html")


def test_check_tells_everything_at_once(recipe: str, capsys: Captured) -> None:
    assert main(["check", recipe]) == 0
    assert (
        capsys.readouterr().out
        == "r.yaml: ok (9 targets, 2 rows)\n  rows.jsonl: messages rows\n  test.jsonl: messages rows\n"
    )
    Path("rows.jsonl").write_text('{"messages": [}\n', encoding="utf-8")
    Path("test.jsonl").unlink()
    assert main(["check", recipe]) == 2
    err = capsys.readouterr().err
    assert "r.yaml:4:" in err
    assert "rows.jsonl:1:" in err
    code, told, err = run_json(capsys, "check", recipe)
    assert (code, told["ok"], len(told["errors"]), err) == (2, False, 2, "")
    assert {error["where"]["file"] for error in told["errors"]} == {"r.yaml", "rows.jsonl"}


def test_targets_complete(recipe: str) -> None:
    import click

    from edgeft.cli.main import cli

    context = click.Context(cli)
    command = cli.get_command(context, "run")
    assert command is not None
    inner = command.make_context("run", [recipe], parent=context, resilient_parsing=True)
    argument = next(one for one in command.params if one.name == "targets")
    assert [item.value for item in argument.shell_complete(inner, "e")] == [
        "eval.base", "eval.tuned", "export.gguf-q8_0",
    ]  # fmt: skip


def test_check_reads_the_rows_of_each_phase_for_its_own_objective(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.jsonl").write_text(json.dumps(stages_faked.ROW) + "\n", encoding="utf-8")
    Path("pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    text = """\
base_model: builtin:sprout
data: {datasets: [{path: talk.jsonl}]}
train:
  - {name: sft, adapter: lora}
  - {name: dpo, adapter: lora, objective: dpo, data: {datasets: [{path: PAIRS}]}}
"""
    Path("r.yaml").write_text(text.replace("PAIRS", "pairs.jsonl"), encoding="utf-8")
    assert main(["check", "r.yaml"]) == 0
    assert "  talk.jsonl: messages rows\n  pairs.jsonl: preference rows\n" in capsys.readouterr().out
    Path("r.yaml").write_text(text.replace("PAIRS", "none.jsonl"), encoding="utf-8")
    assert main(["check", "r.yaml"]) == 2
    assert "r.yaml:5:73: there is no file none.jsonl" in capsys.readouterr().err
