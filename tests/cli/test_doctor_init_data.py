"""`edgeft doctor`, `init`, and `data show|stats`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft import extras
from edgeft.cli import machine
from edgeft.cli.main import main
from tests.cli import stages_faked

Captured = pytest.CaptureFixture[str]


def test_doctor_says_what_is_there(capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "processor", "memory", "disk", "GPU", "llama.cpp", "train", "gguf", "onnx"):
        assert f"\n  {word} " in out, word
    assert max(map(len, out.splitlines())) <= 80
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["cores"] >= 1
    assert told["machine"]["memory"] > 1e8
    assert told["llama_cpp"]["loads"] is True
    smallest, *_, largest = told["can"]
    assert smallest["needs"] < largest["needs"]


def test_doctor_names_the_command_for_what_is_missing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "gguf", (("no_such_module", "gguf"),))
    assert main(["doctor"]) == 0
    assert "missing gguf\n              pip install 'edgeft[gguf]'\n" in capsys.readouterr().out


def test_doctor_works_without_anything_installed(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "version", lambda name: None)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "GPU         unknown: torch is not installed" in out
    assert "llama.cpp   does not load: not installed" in out


def test_memory_is_read_without_proc_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:       16000 kB\nMemAvailable:    8000 kB\n")
    limit = tmp_path / "limit"
    limit.write_text("4096000\n")
    monkeypatch.setattr(machine, "MEMORY_INFO", info)
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (tmp_path / "none",))
    assert machine._memory() == (16_384_000, 8_192_000)
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (limit,))
    assert machine._memory() == (4_096_000, 4_096_000)
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "none")
    monkeypatch.setattr(machine, "MEMORY_LIMITS", ())
    assert machine._memory()[0] > 1e8


def test_a_cpu_build_of_torch_has_no_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", driver)
    for there, torch, expected in ((True, "2.13.0", True), (True, "2.13.0+cpu", False), (True, None, False),
                                   (False, "2.13.0", False)):  # fmt: skip
        driver.unlink(missing_ok=True)
        if there:
            driver.touch()
        monkeypatch.setattr(extras, "version", lambda name, torch=torch: torch)
        assert machine.has_cuda() is expected


def test_init_writes_a_recipe_that_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert capsys.readouterr().out.endswith("\nnow: edgeft run recipe.yaml\n")
    assert main(["check", "recipe.yaml"]) == 0
    capsys.readouterr()
    assert main(["init"]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main(["init", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0] == "recipe.yaml"


def test_init_lists_and_suggests(tmp_path: Path, capsys: Captured) -> None:
    assert main(["init", "--list"]) == 0
    assert "starter " in capsys.readouterr().out
    assert main(["init", "startr", "--dir", str(tmp_path)]) == 2
    assert "did you mean 'starter'?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def recipe(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe on a tiny base, for the real data stage."""
    monkeypatch.chdir(tmp_path)
    stages_faked.write_recipe(tmp_path, stages_faked.RECIPE.replace("builtin:sprout", str(tiny_llama)))
    rows = [stages_faked.ROW, {"messages": [{"role": "user", "content": "light off"}, stages_faked.ROW["messages"][1]]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[1]) + "\n")
    return "r.yaml"


def test_data_show_marks_what_is_trained_on(recipe: str, capsys: Captured) -> None:
    assert main(["data", "show", recipe]) == 0
    out = capsys.readouterr().out
    assert "<|im_start|>user\nlight on<|im_end|>\n<|im_start|>assistant\n⟦{}<|im_end|>⟧\n" in out
    assert main(["data", "show", recipe, "--json", "-n", "1"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert "".join(token["text"] for token in row["tokens"] if token["trained"]) == "{}<|im_end|>"
    assert err == ""
    assert main(["data", "show", recipe, "--split", "validation"]) == 2


def test_data_stats(recipe: str, capsys: Captured) -> None:
    assert main(["data", "stats", recipe]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[:2] == ["train", "1"]
    assert "1 test rows are training rows too" in out
    assert "\nleakage                1         1  drop      rows.jsonl:2\n" in out
    assert "tokens by role: " in out
    assert max(map(len, out.splitlines())) <= 80
    assert main(["data", "stats", recipe, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["splits"]["train"]["rows"] == 1
    assert (told["checks"]["leakage"]["rows"], told["checks"]["leakage"]["dropped"]) == (1, 1)


def test_check_names_the_line_of_rows_that_do_not_serve(recipe: str, tmp_path: Path, capsys: Captured) -> None:
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(pair) + "\n")
    assert main(["check", recipe]) == 2
    told = capsys.readouterr().err
    assert "r.yaml:3:14: rows.jsonl: objective sft cannot learn from preference rows" in told
    assert "it needs rows of the type messages or sharegpt or alpaca" in told


def test_check_says_the_forms_that_it_found_out(recipe: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Hi", "output": "Hello"}\n')
    assert main(["check", recipe]) == 0
    assert "\n  rows.jsonl: alpaca rows\n" in capsys.readouterr().out
