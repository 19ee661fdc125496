"""`edgeft lr-find`: on a tiny model from the recipe to the page, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.cli.main import main
from tests.training.made import write_rows

Captured = pytest.CaptureFixture[str]

RECIPE = """\
base_model: {base}
data:
  datasets: [{{path: rows.jsonl}}]
  sequence_len: 128
train:
  - {{name: first, adapter: lora, lora_r: 4, threads: 1, learning_rate: 3e-3}}
  - {{name: second, adapter: lora, lora_r: 4, threads: 1, max_steps: 1}}
"""


def test_from_the_recipe_to_the_page(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", 24)
    (tmp_path / "r.yaml").write_text(RECIPE.format(base=tiny_llama))
    wanted = ["lr-find", "r.yaml", "--phase", "first", "--from", "1e-4", "--to", "1e30", "--steps", "30"]
    assert main(wanted) == 0
    out, err = capsys.readouterr()
    assert "never built" in err  # the data it reads was made on the way
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("diverged") for line in lines)
    assert any("← steepest" in line or ", steepest" in line for line in lines)
    assert "the recipe has 0.003" in lines
    assert lines[-1] == "plot: build/r/lr-find.html"
    page = Path("build/r/lr-find.html").read_text(encoding="utf-8")
    assert "learning rate" in page
    assert "<svg" in page
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / ".edgeft" / "store").iterdir())
    assert kept == ["data"]
    assert main([*wanted, "--plot", "mine.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"] == "train.first"
    assert told["plot"] == "mine.html"
    assert Path("mine.html").is_file()
    assert told["tenth_of_lowest"] == pytest.approx(told["lowest"] / 10)
    assert told["steepest"] < told["diverged"]
    rates = [point["rate"] for point in told["points"]]
    assert rates[0] == pytest.approx(1e-4)
    assert rates == sorted(rates)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--phase", "third"], 2, "the recipe has no phase 'third'\n  do: it has: first, second"),
        (["--from", "1", "--to", "0.5"], 2, "--from 1 is not below --to 0.5"),
    ],
)
def test_what_is_refused(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", 4)
    (tmp_path / "r.yaml").write_text(RECIPE.format(base="builtin:sprout"))
    assert main(["lr-find", "r.yaml", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message.splitlines()[0] in err


def test_grpo_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", 4)
    recipe = "base_model: builtin:sprout\ndata: {datasets: [{path: rows.jsonl}]}\n"
    recipe += "train: {objective: grpo, rewards: [{type: exact_match}]}\n"
    (tmp_path / "r.yaml").write_text(recipe)
    assert main(["lr-find", "r.yaml"]) == 2
    assert "grpo's stays around 0 whatever is learnt" in capsys.readouterr().err
    assert not (tmp_path / ".edgeft").exists()
