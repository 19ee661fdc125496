"""docs/recipes.md cannot lie: its tables are those of the schema, its example loads, its gate lines parse."""

from __future__ import annotations

import re
from pathlib import Path

from edgeft.recipe import load
from edgeft.recipe.gates import parse
from edgeft.recipe.names import EXPORTS, FIDELITY, METRICS, PROBE, SPEED
from tests.recipe.documented import BEGIN, END, PAGE, keys


def test_the_tables_are_those_of_the_schema() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert written == keys(), "run: python -m tests.recipe.documented"


def test_the_example_loads(tmp_path: Path) -> None:
    example, exports = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "exports.yaml").write_text(example.partition("export:")[0] + exports)
    assert load(tmp_path / "exports.yaml").computes_imatrix
    (tmp_path / "recipe.yaml").write_text(example)
    assert list(load(tmp_path / "recipe.yaml").export) == ["gguf-q4_k_m", "onnx-int4"]


def test_the_gate_lines_parse() -> None:
    lines = re.findall(r"^\| `([^`]*[<>]=[^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    suites = dict.fromkeys(("task", "general", "general/arithmetic"), ("exact_match", "loss"))
    assert len(lines) >= 5
    for line in lines:
        parse(line, suites, EXPORTS)


def test_every_metric_and_figure_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*METRICS, *FIDELITY, *PROBE, *SPEED))
