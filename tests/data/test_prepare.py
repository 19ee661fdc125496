"""Reading, splitting, measuring and writing a dataset, and the `data` stage that joins them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgeft.data.decide import find_equals, split_off
from edgeft.data.faults import Tally
from edgeft.data.masks import Masker
from edgeft.data.packing import pack
from edgeft.data.prepare import Plan, prepare, warnings_of
from edgeft.data.rows import Entry, read_rows, short_names
from edgeft.data.scan import DROPPED, SPLITS, Index, Reader, scan
from edgeft.data.show import shown, texts_of
from edgeft.data.statistics import length_figures, percentile
from edgeft.data.store import read_tokens
from edgeft.models.tokenizer import load_tokenizer
from edgeft.pipeline.stage import Inputs, Work
from edgeft.progress import silent
from edgeft.stages import data as stage


def line(question: str, answer: str = "Yes.") -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}, ensure_ascii=False)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbered(path: Path, count: int) -> Path:
    return write(path, [line(f"Question {i}?", f"Answer {i}.") for i in range(count)])


def test_gzip_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    raw = b"\xef\xbb\xbf" + line("Wo?").encode() + b"\r\n\n" + line("Är det så?").encode()
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(raw))
    rows, faults = read_rows(Entry(tmp_path / "rows.jsonl.gz"))
    assert faults == []
    assert [(row.id, row.value["messages"][0]["content"]) for row in rows] == [
        ("rows.jsonl.gz:1", "Wo?"),
        ("rows.jsonl.gz:3", "Är det så?"),
    ]


def test_prompt_completion_is_a_conversation(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ['{"system": "Be kind.", "prompt": "Hi", "completion": "Hello"}'])
    rows, faults = read_rows(Entry(path, "prompt_completion"))
    assert faults == []
    assert [turn["role"] for turn in rows[0].value["messages"]] == ["system", "user", "assistant"]


def test_names_in_ids_are_short_where_that_is_clear() -> None:
    assert short_names(["a/rows.jsonl", "b/rows.jsonl", "c/other.jsonl"]) == {
        "a/rows.jsonl": "a/rows.jsonl",
        "b/rows.jsonl": "b/rows.jsonl",
        "c/other.jsonl": "other.jsonl",
    }


def indexed(folder: Path, tally: Tally | None = None, **splits: Path) -> Index:
    groups = {name: [Entry(path)] for name, path in splits.items()}
    return scan(groups, "sft", tally or Tally(), folder / "spool", near=False, listen=silent)  # type: ignore[arg-type]


def ids_by_split(index: Index) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in SPLITS}
    for number, row in enumerate(index.read()):
        if index.split[number] != DROPPED:
            found[SPLITS[index.split[number]]].add(row.value["messages"][0]["content"])
    return found


def test_a_split_follows_content_and_seed_not_order(tmp_path: Path) -> None:
    source = numbered(tmp_path / "rows.jsonl", 100)
    index = indexed(tmp_path, train=source)
    split_off(index, validation=0.1, test=20, seed=3)
    first = ids_by_split(index)
    assert {name: len(found) for name, found in first.items()} == {"train": 70, "validation": 10, "test": 20}
    lines = source.read_text().splitlines()
    write(source, random.Random(1).sample(lines, len(lines)))
    index = indexed(tmp_path, train=source)
    split_off(index, validation=0.1, test=20, seed=3)
    assert ids_by_split(index) == first
    index = indexed(tmp_path, train=source)
    split_off(index, validation=0.1, test=20, seed=4)
    assert ids_by_split(index)["test"] != first["test"]


def test_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    index = indexed(tmp_path, train=write(tmp_path / "rows.jsonl", [line(f"Question {i % 10}?") for i in range(100)]))
    split_off(index, validation=0.2, test=None, seed=0)
    assert index.split.count(1) == 20
    found = find_equals(index, Tally(), Reader(index))
    assert found["duplicates"] == {"train": 72, "validation": 18, "test": 0}
    assert found["leakage"] == {"validation": {"rows": 0, "questions": 0, "examples": []}}


def test_leakage_is_counted_and_taken_out_of_training(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", [line("A?"), line("B?"), line("C?")])
    held = write(tmp_path / "b.jsonl", [line("B?"), line("C?", "No."), line("D?")])
    tally = Tally()
    index = indexed(tmp_path, tally, train=train, validation=held)
    found = find_equals(index, tally, Reader(index))
    assert found["leakage"] == {"validation": {"rows": 1, "questions": 2, "examples": ["b.jsonl:1"]}}
    assert ids_by_split(index)["train"] == {"A?", "C?"}
    told = tally.table()["leakage"]
    assert (told["policy"], told["rows"], told["dropped"]) == ("drop", 1, 1)
    assert told["examples"][0]["where"] == [f"{train}:2"]
    tally = Tally({"leakage": "keep"})
    index = indexed(tmp_path, tally, train=train, validation=held)
    find_equals(index, tally, Reader(index))
    assert ids_by_split(index)["train"] == {"A?", "B?", "C?"}


def test_packing_fills_and_never_overfills() -> None:
    generator = random.Random(0)
    lengths = [generator.randint(1, 60) for _ in range(300)]
    bins = pack(lengths, 64)
    assert sorted(index for found in bins for index in found) == list(range(300))
    assert max(sum(lengths[i] for i in found) for found in bins) <= 64
    assert len(bins) <= 1.05 * sum(lengths) / 64 + 1
    with pytest.raises(ValueError, match="row 1 has 65 tokens"):
        pack([3, 65], 64)


def test_figures_of_lengths() -> None:
    figures = length_figures([*range(1, 101)])
    assert (figures["min"], figures["p50"], figures["p90"], figures["p99"], figures["max"]) == (1, 50, 90, 99, 100)
    assert figures["mean"] == 50.5
    assert sum(entry["rows"] for entry in figures["histogram"]) == 100
    assert len(figures["histogram"]) <= 12
    assert percentile([7], 0.01) == 7


def run_stage(folder: Path, base: Path, source: Path, **section: Any) -> tuple[Any, list[str]]:
    warnings: list[str] = []
    params = stage.Params(datasets=[{"path": source.name, "type": "messages"}], **section)  # type: ignore[list-item]
    folder.mkdir()
    inputs = Inputs(sources={"base": base, "datasets.0": source})
    return stage.run(params, inputs, Work(folder, folder, warn=warnings.append)), warnings


def test_the_stage_writes_the_same_bytes_twice(tiny_llama: Path, tmp_path: Path) -> None:
    source = numbered(tmp_path / "rows.jsonl", 30)
    section = {"val_set_size": 0.2, "test_set_size": 5, "seed": 5, "sequence_len": 64}
    outcome, warnings = run_stage(tmp_path / "a", tiny_llama, source, **section)
    run_stage(tmp_path / "b", tiny_llama, source, **section)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "stats.json", "test.jsonl", "train.jsonl", "train.parquet", "validation.jsonl", "validation.parquet",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert outcome.kind == "dataset"
    assert outcome.facts["rows"] == {"train": 19, "validation": 6, "test": 5}
    assert outcome.facts["stop_ids"] == outcome.facts["end_of_turn_ids"] == [319]
    assert warnings == []


def test_the_parquet_holds_what_the_masker_gave(tiny_llama: Path, tmp_path: Path) -> None:
    source = numbered(tmp_path / "rows.jsonl", 12)
    run_stage(tmp_path / "out", tiny_llama, source, sequence_len=64)
    tokenizer = load_tokenizer(tiny_llama)
    masker = Masker(tokenizer)
    tokens = read_tokens(tmp_path / "out" / "train.parquet")
    assert tokens.names == [f"rows.jsonl:{i}" for i in range(1, 13)]
    for index, row in enumerate(read_rows(Entry(source))[0]):
        (example,) = masker.encode(row.value["messages"])
        assert tuple(tokens.ids[index].tolist()) == example.ids
        assert tuple(tokens.labels[index].tolist()) == example.labels
    rows = [json.loads(text) for text in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == tokens.names
    assert rows[2]["messages"][1] == {"role": "assistant", "content": "Answer 2."}


def test_shown_texts_join_to_the_row(tiny_llama: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [line("Grüße 你好 👩‍🚀?", "Ok 🚀")])
    run_stage(tmp_path / "out", tiny_llama, source, sequence_len=256)
    tokenizer = load_tokenizer(tiny_llama)
    (row,) = shown(tmp_path / "out" / "train.parquet", tokenizer)
    text = "".join(token["text"] for token in row["tokens"])
    assert text == "<|im_start|>user\nGrüße 你好 👩‍🚀?<|im_end|>\n<|im_start|>assistant\nOk 🚀<|im_end|>\n"
    assert "".join(token["text"] for token in row["tokens"] if token["trained"]) == "Ok 🚀<|im_end|>"
    assert texts_of([], tokenizer) == []


def test_long_rows_are_left_out_and_named(tiny_llama: Path, tmp_path: Path) -> None:
    lines = [line(f"Question {i}?") for i in range(4)] + [line("word " * 60)]
    outcome, warnings = run_stage(tmp_path / "out", tiny_llama, write(tmp_path / "rows.jsonl", lines), sequence_len=64)
    assert outcome.facts["rows"]["train"] == 4
    assert outcome.facts["too_long"]["train"] == 1
    assert warnings == ["1 train rows are longer than sequence_len 64 and left out (rows.jsonl:5)"]
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["splits"]["train"]["too_long"] == {"rows": 1, "examples": ["rows.jsonl:5"]}
    assert stats["splits"]["train"]["length"]["max"] > 64


def test_an_end_of_turn_that_generation_does_not_know_is_said(tiny_llama: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    prepared = prepare(Plan([Entry(numbered(tmp_path / "rows.jsonl", 3))]), tokenizer, tmp_path, stop_ids=[317])
    (said,) = warnings_of(prepared, [317], tokenizer)
    assert "'<|im_end|>'" in said
    assert warnings_of(prepared, [317, 319], tokenizer) == []


def test_a_template_of_the_user_goes_into_the_statistics(tiny_llama: Path, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text((tiny_llama / "chat_template.jinja").read_text().replace("<|im_start|>", "<|im_start|>the "))
    source = numbered(tmp_path / "rows.jsonl", 3)
    params = stage.Params(datasets=[{"path": "rows.jsonl"}], chat_template="own.jinja")  # type: ignore[list-item]
    (tmp_path / "out").mkdir()
    inputs = Inputs(sources={"base": tiny_llama, "datasets.0": source, "chat_template": template})
    stage.run(params, inputs, Work(tmp_path / "out", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["chat_template"] == template.read_text()
    (row,) = shown(tmp_path / "out" / "train.parquet", load_tokenizer(tiny_llama), count=1)
    assert row["tokens"][0]["text"] == "<|im_start|>"
    assert "".join(token["text"] for token in row["tokens"]).startswith("<|im_start|>the user\n")
