"""Metrics that a suite or an lm-eval task cannot have are told with their place, before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import Errors, RecipeError
from edgeft.models import base
from edgeft.recipe import load
from edgeft.recipe.check import check
from edgeft.recipe.tasks import tasks_in

HEAD = "base_model: builtin:sprout\ndata: {datasets: [{path: rows.jsonl}], test: [{path: t.jsonl}]}\neval:\n  suites:\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("rows.jsonl", "t.jsonl"):
        (tmp_path / name).write_text("{}\n")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "base.yaml").write_text("output_type: multiple_choice\nmetric_list: [{metric: acc}, {metric: mcc}]\n")
    (tasks / "mine.yaml").write_text("task: mine\ninclude: base.yaml\ndoc_to_text: !function utils.text\n")
    (tasks / "wiki.yaml").write_text(
        "task: wiki\noutput_type: loglikelihood_rolling\nmetric_list: [{metric: word_perplexity}]\n"
    )
    (tasks / "own.yml").write_text("task: own\nmetric_list: [{metric: !function utils.score}]\n")
    (tasks / "broken.yaml").write_text("a: [\n")
    return tmp_path


def faults(folder: Path, text: str) -> list[str]:
    """What `edgeft check` says, without the path before the line."""
    path = folder / "recipe.yaml"
    path.write_text(HEAD + text)
    try:
        found = check(load(path), base)
    except Errors as error:
        found = list(error.errors)
    except RecipeError as error:
        found = [error]
    return [str(fault).removeprefix(f"{path}:") for fault in found]


def test_tasks_are_read_from_their_files(folder: Path) -> None:
    assert tasks_in(folder / "tasks") == {
        "mine": ("acc",),
        "wiki": ("bits_per_byte",),
        "own": None,
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "    task: {rows: test, kind: choice, metrics: [accuracy, rougeL]}\n",
            ["5:58: suite 'task' is of the kind choice, which rougeL does not score\n"
             "its metrics: accuracy, accuracy_norm, macro_f1"],
        ),
        (
            "    task: {rows: test, kind: perplexity, metrics: [accuracy]}\n",
            ["5:52: suite 'task' is of the kind perplexity, which accuracy does not score\n"
             "its metrics: perplexity, bits_per_byte"],
        ),
        (
            "    task: {rows: test, kind: choice}\ngate: [task.rougeL >= 0.5]\n",
            ["6:13: gate 'task.rougeL >= 0.5': suite 'task' has no metric 'rougeL'\nknown: accuracy, loss"],
        ),
        (
            "    m: {rows: lm-eval:mine, include_path: tasks}\ngate: [m.acc_norm >= 0.5, m.acc >= 0.5]\n",
            ["6:8: gate 'm.acc_norm >= 0.5': the rows of the task have no acc_norm\nits rows have: acc"],
        ),
        (
            "    w: {rows: lm-eval:wiki, include_path: tasks}\ngate: [w.bits_per_byte rise <= 2%]\n",
            [],
        ),
        (
            "    m: {rows: lm-eval:mnie, include_path: tasks}\n",
            ["5:15: tasks has no task 'mnie'\ndid you mean lm-eval:mine?"],
        ),
        (
            "    m: {rows: lm-eval:mine, include_path: taks}\n",
            ["5:43: there is no folder taks\ninclude_path is a folder of lm-eval task files, relative to the recipe"],
        ),
        (
            "    m: {rows: test, include_path: tasks}\n",
            ["5:35: suite 'm' asks no lm-eval task, so it has no include_path\n"
             "write rows: lm-eval:TASK, or leave it out"],
        ),
        ("    m: {rows: lm-eval:gsm8k}\ngate: ['m.exact_match@strict-match >= 0.3']\n", []),
        ("    m: {rows: lm-eval:own, include_path: tasks}\ngate: [m.acc >= 0.3]\n", []),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_told_with_its_place(folder: Path, text: str, wanted: list[str]) -> None:
    assert faults(folder, text) == wanted


def test_a_whole_figure_is_named_as_one(folder: Path) -> None:
    (told,) = faults(folder, "    w: {rows: lm-eval:wiki, include_path: tasks}\ngate: [w.word_perplexity <= 30]\n")
    assert told.startswith("6:10: gate 'w.word_perplexity <= 30': word_perplexity is a figure of all rows of a task")
    assert told.endswith("bits_per_byte")
