"""The rows of the recipes for single objectives: those that tools/make_objectives.py writes, in honest splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tools import make_objectives, preference_frames
from tools.base import corpus, words


def test_committed_files_are_what_the_generator_writes() -> None:
    for name, content in make_objectives.files().items():
        assert (make_objectives.FOLDER / name).read_text(encoding="utf-8") == content, name


@pytest.mark.parametrize("folder", [name for name, named in make_objectives.FILES.items() if "test" in named])
def test_no_test_row_asks_what_training_asks(folder: str) -> None:
    asked = {
        split: {make_objectives.asked(row) for row in make_objectives.rows(folder, split)}
        for split in make_objectives.FILES[folder]
    }
    assert not asked["test"] & set().union(*(found for split, found in asked.items() if split in ("train", "log")))
    assert not asked["test"] & asked["validation"]


def _frames(found: Any) -> Iterator[str]:
    """Every frame in a split's entry, its slots without their names."""
    if isinstance(found, str):
        yield re.sub(r"\{\w+\}", "{}", found)
    else:
        for entry in found:
            yield from _frames(entry)


@pytest.mark.parametrize(
    "splits",
    [
        preference_frames.REQUESTS,
        preference_frames.WRITES,
        *preference_frames.AMOUNTS.values(),
        *preference_frames.COMPLAINTS.values(),
        *preference_frames.NOTES.values(),
        preference_frames.LOG_BEGINS,
        preference_frames.LOG_EVENTS,
    ],
)
def test_no_frame_of_the_test_rows_is_one_of_training(splits: dict[str, Any]) -> None:
    assert not set(_frames(splits["test"])) & set(_frames(splits["train"]))


def test_the_test_rooms_are_new() -> None:
    assert not set(preference_frames.ROOMS["test"]) & set(preference_frames.ROOMS["train"])
    assert set(preference_frames.ROOMS["test"]) <= set(words.ROOMS)


def test_neither_side_of_the_home_pairs_is_always_the_better_one() -> None:
    rows = make_objectives.rows("home", "test")
    done = [str(row["chosen"]).startswith("Done") for row in rows]
    assert 0.4 < sum(done) / len(done) < 0.6
    for row in rows:
        assert {str(row["chosen"])[:4], str(row["rejected"])[:4]} == {"Done", "Sorr"}


def test_the_replayed_pairs_hold_no_problem_of_the_general_suites() -> None:
    held = {exchange.ask for family in make_objectives.REPLAYED for exchange in corpus.held_out(family, 80)}
    assert not held & {make_objectives.asked(row) for row in make_objectives.rows("replay", "pairs")}
