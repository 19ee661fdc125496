"""Every form of rows in every kind of file, found out or named, and what each objective makes of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.data.faults import Tally
from edgeft.data.formats import FORMATS, detected
from edgeft.data.prepare import Plan, prepare
from edgeft.data.reading import records
from edgeft.data.rows import Entry, Reading, read, read_rows
from edgeft.data.show import shown
from edgeft.data.store import read_columns
from edgeft.errors import DataError
from edgeft.models.tokenizer import load_tokenizer

ASKED = [{"role": "user", "content": "Hi"}]
TALK = [*ASKED, {"role": "assistant", "content": "Hello"}]
SYSTEM = {"role": "system", "content": "Be kind."}
# Form -> rows of it, and what each is normalised to for sft.
ROWS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "messages": [
        ({"messages": TALK}, {"messages": TALK}),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {**TALK[1], "weight": 0}]},
            {"messages": [ASKED[0], {**TALK[1], "train": False}]},
        ),
    ],
    "sharegpt": [
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, {"messages": TALK}),
        (
            {
                "system": "Be kind.",
                "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
            },
            {"messages": [SYSTEM, *TALK]},
        ),
    ],
    "alpaca": [
        ({"instruction": "Hi", "input": "", "output": "Hello"}, {"messages": TALK}),
        (
            {"instruction": "Say", "input": "it", "output": "Hello"},
            {"messages": [{"role": "user", "content": "Say\n\nit"}, TALK[1]]},
        ),
    ],
    "prompt_completion": [
        ({"prompt": "Hi", "completion": "Hello"}, {"messages": TALK}),
        ({"prompt": ASKED, "completion": [TALK[1]], "system": "Be kind."}, {"messages": [SYSTEM, *TALK]}),
    ],
    "text": [({"text": "Once upon a time."}, {"text": "Once upon a time."})],
    "classification": [
        ({"text": "Hi", "label": "Hello"}, {"messages": TALK, "label": "Hello"}),
        ({"messages": ASKED, "label": 3}, {"messages": [ASKED[0], {**TALK[1], "content": "3"}], "label": "3"}),
    ],
    "extraction": [
        (
            {"text": "Hi", "json": {"b": 1, "a": None}},
            {"messages": [ASKED[0], {**TALK[1], "content": '{"b": 1, "a": null}'}]},
        ),
        ({"text": "Hi", "json": '{"b":[]}'}, {"messages": [ASKED[0], {**TALK[1], "content": '{"b": []}'}]}),
    ],
}
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
NORMAL_PAIR = {"prompt": ASKED, "chosen": [TALK[1]], "rejected": [{"role": "assistant", "content": "Go away"}]}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def values(path: Path, objective: str = "sft", **entry: Any) -> list[dict[str, Any]]:
    rows, errors = read_rows(Entry(path, **entry), objective)
    assert errors == []
    return [row.value for row in rows]


@pytest.mark.parametrize("form", ROWS)
def test_each_form_is_found_out_and_normalised(form: str, tmp_path: Path) -> None:
    for raw, wanted in ROWS[form]:
        path = lines(tmp_path / "rows.jsonl", [raw])
        assert detected(raw) == form
        assert values(path) == values(path, form=form) == [wanted]


def test_every_form_is_tried() -> None:
    assert set(ROWS) | {"preference", "unpaired_preference", "prompts"} == set(FORMATS)


@pytest.mark.parametrize(
    "raw",
    [
        PAIR,
        {"prompt": ASKED, "chosen": [TALK[1]], "rejected": NORMAL_PAIR["rejected"]},
        {"chosen": TALK, "rejected": [*ASKED, *NORMAL_PAIR["rejected"]]},
        {"prompt": "Hi", "chosen": TALK, "rejected": [*ASKED, *NORMAL_PAIR["rejected"]]},
    ],
)
def test_preferences_in_their_ways_of_writing(raw: dict[str, Any], tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [raw])
    assert values(path, "dpo") == [NORMAL_PAIR]
    good, bad = values(path, "kto")
    assert (good["completion"], good["label"]) == (NORMAL_PAIR["chosen"], True)
    assert (bad["completion"], bad["label"]) == (NORMAL_PAIR["rejected"], False)
    assert [row.id for row in read_rows(Entry(path), "kto")[0]] == ["rows.jsonl:1/chosen", "rows.jsonl:1/rejected"]


def test_questions_with_a_reference(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "Hi", "solution": 7}])
    assert values(path, "grpo") == [{"prompt": ASKED, "reference": {"solution": 7}}]
    path = lines(tmp_path / "rows.jsonl", [{"messages": TALK}])
    assert values(path, "grpo") == [{"prompt": ASKED, "reference": {"answer": "Hello"}}]


def test_rows_that_do_not_serve_an_objective_are_refused_with_their_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"messages": TALK}])
    with pytest.raises(DataError, match="objective dpo cannot learn from messages rows") as raised:
        read_rows(Entry(path, name="rows.jsonl"), "dpo")
    assert (str(raised.value.where), raised.value.do) == ("rows.jsonl:1", "it needs rows of the type preference")


def test_fields_are_mapped_also_inside_objects(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"question": "Hi", "answers": {"best": "Hello"}, "prompt_id": 3}])
    assert values(path, fields={"prompt": "question", "completion": "answers.best"}) == [{"messages": TALK}]
    errors = read_rows(Entry(path, fields={"prompt": "query"}))[1]
    assert 'the row has no "query", which is to be its "prompt"' in str(errors[0])


def test_a_system_turn_for_rows_without_one(tmp_path: Path) -> None:
    rows = [{"messages": TALK}, {"messages": [{**SYSTEM, "content": "Own."}, *TALK]}]
    found = values(lines(tmp_path / "rows.jsonl", rows), system="Be kind.")
    assert [value["messages"][0]["content"] for value in found] == ["Be kind.", "Own."]


def test_arguments_of_tool_calls_become_objects(tmp_path: Path) -> None:
    call = {"id": "x1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "ok"},
        TALK[1],
    ]
    (value,) = values(lines(tmp_path / "rows.jsonl", [{"messages": turns, "tools": [{"name": "f"}]}]))
    wanted = {"id": "x1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert value["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [wanted]}
    assert value["tools"] == [{"name": "f"}]


PAIRS = [{"prompt": f'Question {i},\n"quoted"?', "completion": f"Ärger {i}"} for i in range(5)]


def as_csv(separator: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["prompt", "completion"], delimiter=separator)
    writer.writeheader()
    writer.writerows(PAIRS)
    return stream.getvalue().encode()


def as_parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(PAIRS), stream)
    return stream.getvalue()


def as_arrow() -> bytes:
    import pyarrow as pa

    table, stream = pa.Table.from_pylist(PAIRS), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def as_lines() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in PAIRS)


@pytest.mark.parametrize(
    ("name", "data", "places"),
    [
        ("a.jsonl", as_lines(), [1, 2, 3, 4, 5]),
        ("a.json", json.dumps(PAIRS, indent=1).encode(), [2, 6, 10, 14, 18]),
        ("b.json", as_lines(), [1, 2, 3, 4, 5]),
        ("a.csv", as_csv(","), [2, 4, 6, 8, 10]),
        ("a.tsv", as_csv("\t"), [2, 4, 6, 8, 10]),
        ("a.parquet", as_parquet(), [1, 2, 3, 4, 5]),
        ("a.arrow", as_arrow(), [1, 2, 3, 4, 5]),
    ],
)
def test_each_kind_of_file_gives_the_same_rows(name: str, data: bytes, places: list[int], tmp_path: Path) -> None:
    import zstandard

    (tmp_path / name).write_bytes(data)
    assert [line for line, _ in records(tmp_path / name)] == places
    wanted = values(tmp_path / name)
    assert [value["messages"][0]["content"] for value in wanted] == [row["prompt"] for row in PAIRS]
    assert [value["messages"][1]["content"] for value in wanted] == [row["completion"] for row in PAIRS]
    if name.endswith((".parquet", ".arrow")):
        return
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    (tmp_path / f"{name}.zst").write_bytes(zstandard.compress(data))
    assert values(tmp_path / f"{name}.gz") == values(tmp_path / f"{name}.zst") == wanted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), JSON), min_size=1, max_size=6), indent=st.none() | st.integers(0, 2))
def test_a_json_list_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None
) -> None:
    import edgeft.data.reading as reading

    path = tmp_path_factory.mktemp("json") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "_CHUNK", 7)  # elements cross chunks
        assert [row for _, row in records(path)] == rows


def test_a_folder_a_glob_and_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft import datafiles

    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        lines(folder / "data" / f"{name}.jsonl", [{"prompt": name, "completion": "x"}])

    def asked(path: Path, **entry: Any) -> list[str]:
        return [value["messages"][0]["content"] for value in values(path, **entry)]

    assert asked(folder, split="train") == ["train-00000-of-00002", "train-00001-of-00002"]
    assert asked(folder, split="test") == ["test-00000-of-00001"]
    assert "there is no split 'validation'" in str(read_rows(Entry(folder, split="validation"))[1][0])
    assert asked(folder / "data" / "train-*.jsonl") == ["train-00000-of-00002", "train-00001-of-00002"]
    assert [row.id for row in read_rows(Entry(folder, name="set", split="test"))[0]] == ["test-00000-of-00001.jsonl:1"]
    repository = tmp_path / "hub" / "datasets--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / "c0ffee")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    found = datafiles.find("org/name", relative_to=tmp_path)
    assert (found.kind, found.revision) == ("hub", "c0ffee")
    assert found.path is not None
    assert asked(found.path, split="test") == ["test-00000-of-00001"]
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/test-*\n---\n"
    (found.path / "README.md").write_text(card)
    assert asked(found.path, split="train") == ["test-00000-of-00001"], "the card's word counts"
    assert datafiles.find("org/other", relative_to=tmp_path).path is None


def test_the_cache_of_the_datasets_library_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft import datafiles

    folder = tmp_path / "org___name" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "name-train.arrow").write_bytes(as_arrow())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    found = datafiles.find("org/name", relative_to=tmp_path)
    assert found.path is not None
    assert len(values(found.path, split="train")) == 5


def test_faults_are_dropped_and_counted_by_policy(tmp_path: Path) -> None:
    rows = [{"messages": TALK}, {"messages": []}, {"messages": [*ASKED, *ASKED, TALK[1]]}, {"nothing": 1}]
    path = lines(tmp_path / "rows.jsonl", rows)
    tally = Tally({"broken": "drop", "empty_turns": "drop", "role_order": "keep"})
    found = list(read(Entry(path, "messages", "rows.jsonl"), tally, Reading()))
    assert [row.line for row in found] == [1, 3]
    assert tally.errors() == []
    counts = {name: (table["rows"], table["dropped"]) for name, table in tally.table().items() if table["rows"]}
    assert counts == {"broken": (1, 1), "empty_turns": (1, 1), "role_order": (1, 0)}
    assert tally.table()["broken"]["examples"][0]["where"] == ["rows.jsonl:4"]


def made(
    folder: Path, base: Path, rows: list[dict[str, Any]], **plan: Any
) -> tuple[dict[str, list[Any]], dict[str, Any], Any]:
    """(columns of train.parquet, stats, tokenizer) of a dataset of rows."""
    tokenizer = load_tokenizer(base)
    out = folder / "out"
    out.mkdir()
    prepared = prepare(Plan([Entry(lines(folder / "rows.jsonl", rows))], **plan), tokenizer, out)
    return read_columns(out / "train.parquet"), prepared.stats, tokenizer


def test_preference_columns(tiny_llama: Path, tmp_path: Path) -> None:
    columns, stats, tokenizer = made(tmp_path, tiny_llama, [PAIR], objective="dpo")
    assert list(columns) == ["id", "prompt_ids", "chosen_ids", "rejected_ids"]
    assert tokenizer.decode(columns["prompt_ids"][0]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(columns["chosen_ids"][0]) == "Hello<|im_end|>"
    assert tokenizer.decode(columns["rejected_ids"][0]) == "Go away<|im_end|>"
    assert (stats["rows_form"], stats["end_of_turn_ids"]) == ("preference", [319])
    good, bad = shown(tmp_path / "out" / "train.parquet", tokenizer)
    assert (good["note"], bad["note"]) == ("chosen", "rejected")
    assert "".join(token["text"] for token in bad["tokens"] if token["trained"]) == "Go away<|im_end|>"


def test_unpaired_columns(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "completion": "Hello", "label": True},
        {"prompt": "Hi", "completion": "No", "label": False},
    ]
    columns, stats, tokenizer = made(tmp_path, tiny_llama, rows, objective="kto")
    assert columns["label"] == [True, False]
    assert [tokenizer.decode(ids) for ids in columns["completion_ids"]] == ["Hello<|im_end|>", "No<|im_end|>"]
    assert stats["splits"]["train"]["labels"] == {"bad": 1, "good": 1}


def test_prompt_columns(tiny_llama: Path, tmp_path: Path) -> None:
    columns, _, tokenizer = made(tmp_path, tiny_llama, [{"prompt": "Hi", "solution": 7}], objective="grpo")
    assert tokenizer.decode(columns["prompt_ids"][0]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert json.loads(columns["prompt"][0]) == ASKED
    assert json.loads(columns["reference"][0]) == {"solution": 7}


def test_classification_columns_and_labels(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"text": f"It is {word}", "label": word} for word in ("good", "bad", "good")]
    columns, stats, tokenizer = made(tmp_path, tiny_llama, rows, objective="classification")
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == ["bad", "good"]
    assert columns["label"] == [1, 0, 1]
    assert columns["input_ids"][0].tolist() == tokenizer("It is good")["input_ids"]
    assert stats["splits"]["train"]["labels"] == {"bad": 1, "good": 2}


def test_windows_of_text_learn_every_token_once(tiny_llama: Path, tmp_path: Path) -> None:
    texts = ["word " * 40, "short", "Die Straße ist lang. " * 20]
    columns, stats, tokenizer = made(
        tmp_path, tiny_llama, [{"text": text} for text in texts], objective="cpt", sequence_len=32
    )
    learnt: dict[str, list[int]] = {}
    for name, ids, labels in zip(columns["id"], columns["input_ids"], columns["labels"], strict=True):
        assert len(ids) <= 32
        kept = learnt.setdefault(name.partition("/")[0], [])
        if kept:
            assert ids[0] == kept[-1], "a window begins with the last token of the one before"
            assert labels[0] == -100
        kept += [int(label) for label in labels if label != -100]
    end = tokenizer.eos_token_id
    assert list(learnt.values()) == [[*tokenizer(text)["input_ids"], end] for text in texts]
    assert stats["end_of_turn_ids"] == [end]


def test_samples_and_weights_are_seeded(tiny_llama: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    path = lines(tmp_path / "rows.jsonl", [{"prompt": f"Question {i}", "completion": "x"} for i in range(40)])

    def names(out: str, seed: int, **entry: Any) -> list[str]:
        (tmp_path / out).mkdir()
        prepare(Plan([Entry(path, **entry)], seed=seed), tokenizer, tmp_path / out)
        found: list[str] = read_columns(tmp_path / out / "train.parquet")["id"]
        return found

    ten = names("a", 1, sample=10)
    assert len(ten) == 10
    assert names("b", 1, sample=10) == ten
    assert names("c", 2, sample=10) != ten
    assert len(names("d", 1, weight=0.25)) == 10
    more = names("e", 1, weight=1.5)
    assert len(more) == 60
    assert sum(name.endswith(" (2)") for name in more) == 20
    assert len(set(more)) == 60


def test_cut_rows_are_counted_and_keep_what_is_trained(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": "word " * 60}, {"prompt": "Hi", "completion": "x"}]
    columns, stats, tokenizer = made(tmp_path, tiny_llama, rows, sequence_len=40, checks={"too_long": "truncate"})
    assert len(columns["input_ids"][0]) == 40
    assert tokenizer.decode(columns["labels"][0][-3:]) == tokenizer.decode(columns["input_ids"][0][-3:])
    assert stats["splits"]["train"]["truncated"]["rows"] == 1
    assert stats["checks"]["too_long"]["rows"] == 1
