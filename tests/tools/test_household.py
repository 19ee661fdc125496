"""The quickstart's data: what tools/make_household.py writes, and that its splits are honest."""

import json
import re

import pytest

from tools import make_household
from tools.base import corpus
from tools.base.skills import home
from tools.household_frames import TOOLS

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, str]]]:
    found = {}
    for split in SPLITS:
        lines = (make_household.FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        found[split] = [{m["role"]: m["content"] for m in json.loads(line)["messages"]} for line in lines]
    return found


def _pattern(frame: str) -> str:
    return re.sub(r"\{\w+\}", "{}", frame.lstrip("="))


def test_committed_files_are_what_the_generator_writes() -> None:
    for name, content in make_household.files().items():
        assert (make_household.FOLDER / name).read_text(encoding="utf-8") == content, name


def test_no_frame_stands_in_two_splits() -> None:
    assert make_household.shared_frames() == []
    seen: dict[str, str] = {}
    for _, by_split in TOOLS.values():
        for split, frames in by_split.items():
            for frame in frames:
                assert seen.setdefault(_pattern(frame), split) == split, frame


def test_no_sentence_stands_in_two_splits(rows) -> None:
    sentences = {split: {row["user"] for row in rows[split]} for split in SPLITS}
    for split in SPLITS:
        assert len(sentences[split]) == len(rows[split]) == make_household.SIZES[split]
    assert not sentences["train"] & (sentences["validation"] | sentences["test"])
    assert not sentences["validation"] & sentences["test"]


def test_answers_are_compact_tool_calls_with_the_words_that_were_said(rows) -> None:
    for split in SPLITS:
        assert {json.loads(row["assistant"])["tool"] for row in rows[split]} == set(TOOLS)
        for row in rows[split]:
            call = json.loads(row["assistant"])
            assert json.dumps(call, separators=(",", ":")) == row["assistant"]
            arguments, _ = TOOLS[call.pop("tool")]
            assert tuple(call) == arguments
            for name, value in call.items():
                assert name == "state" or str(value) in row["user"]


def test_the_base_never_saw_the_task(rows) -> None:
    home_frames = {_pattern(frame) for frames, _ in home.SPOKEN.values() for frame in frames}
    frames = {_pattern(f) for _, by_split in TOOLS.values() for split in by_split.values() for f in split}
    assert not home_frames & frames
    assert set(TOOLS) <= set(corpus.FORBIDDEN)
    sentences = {row["user"] for split in SPLITS for row in rows[split]}
    for row in corpus.rows(3000):
        assert not any(
            sentence in exchange.ask for exchange in row.exchanges for sentence in sentences & {exchange.ask}
        )
