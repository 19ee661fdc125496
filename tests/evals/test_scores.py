from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.evals.evaluate import evaluate
from edgeft.evals.scores import FIELDS, read_rows, write_rows
from tests.evals.fakes import FakeRuntime
from tests.evals.test_evaluate import suite

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WIDE, NARROW = st.floats(allow_nan=False), st.floats(allow_nan=False, width=32)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "suite": TEXT,
            "id": TEXT,
            "prompt": st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=2),
            "answer": TEXT,
            "stopped": st.booleans(),
            "scores": st.dictionaries(TEXT, st.none() | WIDE, max_size=3),
            "loss": st.none() | WIDE,
            "logprobs": st.lists(NARROW, max_size=3),
            "choices": st.lists(
                st.fixed_dictionaries(
                    {"text": TEXT, "logprob": st.none() | WIDE, "reward": st.none() | WIDE}
                    | {"tokens": st.just(2), "bytes": st.just(3)}
                ),
                max_size=2,
            ),
            "notes": st.dictionaries(TEXT, TEXT, max_size=2),
        }
    ),
    max_size=4,
)


@settings(deadline=None)  # the first import of pyarrow takes its time
@given(rows=ROWS)
def test_rows_come_back_as_they_were(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for name in ("one", "two"):
        write_rows(folder / name, rows)
    assert read_rows(folder / "one") == [{**FIELDS, **row} for row in rows]
    assert [list(row["scores"]) for row in read_rows(folder / "one")] == [list(row["scores"]) for row in rows]  # type: ignore[call-overload]
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()


def test_an_evaluation_is_kept_whole(tmp_path: Path) -> None:
    found = evaluate(FakeRuntime(), [suite()]).rows
    write_rows(tmp_path / "rows.parquet", found)
    rows = read_rows(tmp_path / "rows.parquet")
    assert rows == [{**FIELDS, **row} for row in found]
    for row in rows:
        assert len(row["logprobs"]) == len(row["token_ids"]) == row["tokens"]
        assert -sum(row["logprobs"]) == pytest.approx(row["loss"], rel=1e-5)
        assert row["rendered"].endswith("<|im_start|>assistant\n")
        assert row["bytes"] == len(row["expected"].encode())


def test_a_field_that_no_reader_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a row has no field 'speed'"):
        write_rows(tmp_path / "rows.parquet", [{"suite": "s", "speed": 1.0}])
