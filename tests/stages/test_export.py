"""The `export` and `merge` stages: they join what the domain packages do, and their Params reach it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeft import artifact
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import InputError
from edgeft.exporters import EXPORTS
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages import export, imatrix, merge
from tests.models_made import make_llama


@pytest.fixture
def inputs(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> Inputs:
    """An adapter artifact, as the train stage leaves it, with the names of its quantized weights."""
    from edgeft.models.identity import base_digest
    from edgeft.weights.adapter import open_adapter

    folder = Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))
    quantization = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32"}
    training = {
        "base": {"ref": "builtin:tiny", "digest": base_digest(tiny_llama)},
        "quantization": {**quantization, "weights": sorted(open_adapter(tiny_adapter).loras)},
    }
    (folder / "training.json").write_text(json.dumps(training))
    artifact.finish(
        folder, Outcome("adapter"), stage="train", fingerprint="f" * 64, params={}, inputs={}, environment={}
    )
    return Inputs({"adapter": artifact.load(folder)}, {"base": tiny_llama})


def finished(folder: Path, outcome: Outcome, stage: str) -> Artifact:
    artifact.finish(folder, outcome, stage=stage, fingerprint="e" * 64, params={}, inputs={}, environment={})
    return artifact.load(folder)


def work(tmp_path: Path, name: str) -> Work:
    for folder in (tmp_path / name, tmp_path / f"{name}.scratch"):
        folder.mkdir()
    return Work(tmp_path / name, tmp_path / f"{name}.scratch")


def test_gguf_artifact(inputs: Inputs, tmp_path: Path) -> None:
    place = work(tmp_path, "gguf")
    done = export.run(export.Params(format="gguf", type="q8_0", threads=1), inputs, place)
    found = finished(place.folder, done, "export")
    assert found.kind == "gguf"
    assert found.facts["merge_base"] == "dequantized"
    assert found.facts["base"] == "builtin:tiny"
    assert found.file(found.facts["file"]).name == "tiny-tuned-q8_0.gguf"
    assert set(found.files) == {"tiny-tuned-q8_0.gguf", "README.md", "Modelfile"}


def test_merge_base_reaches_the_weights(inputs: Inputs, tmp_path: Path) -> None:
    digests = set()
    for merge_base in ("dequantized", "pristine"):
        place = work(tmp_path, merge_base)
        done = export.run(export.Params(format="gguf", type="f16", merge_base=merge_base, threads=1), inputs, place)
        digests.add(finished(place.folder, done, "export").digest)
        assert done.facts["merge_base"] == merge_base
    assert len(digests) == 2


def test_model_artifact(inputs: Inputs, tmp_path: Path) -> None:
    place = work(tmp_path, "model")
    found = finished(place.folder, merge.run(merge.Params(threads=1), inputs, place), "merge")
    assert found.kind == "model"
    assert found.facts["merge_base"] == "dequantized"
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(found.files)
    from edgeft.weights import open_weights

    base, merged = open_weights(inputs.sources["base"]), open_weights(found.path)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not base[name].read().equal(merged[name].read())


def test_the_base_alone_can_be_exported(tiny_llama: Path, tmp_path: Path) -> None:
    place = work(tmp_path, "base")
    done = export.run(export.Params(format="gguf", type="q8_0"), Inputs(sources={"base": tiny_llama}), place)
    assert done.facts["merge_base"] is None
    assert done.facts["file"] == "tiny-llama-q8_0.gguf"


def test_unknown_formats_and_types(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown export format 'ggfu'"):
        export.run(export.Params(format="ggfu", type="f16"), inputs, work(tmp_path, "a"))
    with pytest.raises(InputError, match="unknown GGUF type 'q9'"):
        export.run(export.Params(format="gguf", type="q9"), inputs, work(tmp_path, "b"))


def test_threads_do_not_change_the_fingerprint() -> None:
    for params in (export.Params, merge.Params):
        extra = params.model_fields["threads"].json_schema_extra
        assert extra == {"fingerprint": False}


def test_the_table_names_what_the_artifact_kinds_are() -> None:
    assert set(EXPORTS) <= set(artifact.KINDS)


# --- the importance matrix ------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Artifact:
    """Token rows, as the data stage leaves them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "data"
    folder.mkdir()
    rows = [[(7 * row + 3 * place) % 300 for place in range(5 + row)] for row in range(12)]
    listed = pa.list_(pa.int32())
    columns = {
        "id": pa.array([str(row) for row in range(12)]),
        "input_ids": pa.array(rows, listed),
        "labels": pa.array(rows, listed),
    }
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return finished(folder, Outcome("dataset"), "data")


def test_an_importance_matrix_reaches_the_file(inputs: Inputs, dataset: Artifact, tmp_path: Path) -> None:
    place = work(tmp_path, "matrix")
    given = Inputs({"adapter": inputs["adapter"], "data": dataset}, inputs.sources)
    done = imatrix.run(imatrix.Params(), given, place)
    made = finished(place.folder, done, "imatrix")
    assert made.kind == "imatrix"
    assert done.facts == {"rows": 12, "tokens": sum(range(5, 17)), "weights": 14, "unseen": []}
    again = work(tmp_path, "again")
    assert finished(again.folder, imatrix.run(imatrix.Params(), given, again), "imatrix").digest == made.digest
    place = work(tmp_path, "by artifact")
    params = export.Params(format="gguf", type="q2_k_s", threads=1)
    by_artifact = Inputs({"adapter": inputs["adapter"], "imatrix": made}, inputs.sources)
    one = export.run(params, by_artifact, place)
    assert one.facts["imatrix"]["datasets"] == ["train.parquet"]
    place = work(tmp_path, "by file")
    by_file = Inputs({"adapter": inputs["adapter"]}, {**inputs.sources, "imatrix": made.file("imatrix.gguf")})
    assert export.run(params, by_file, place).facts == one.facts
    place = work(tmp_path, "without")
    with pytest.raises(InputError, match="importance matrix"):
        export.run(params, inputs, place)


@pytest.mark.parametrize(("tokens", "count"), [(1000, 12), (60, 5), (1, 1)])
def test_rows_are_taken_from_all_over(tokens: int, count: int) -> None:
    rows = [[row] * (5 + row) for row in range(12)]
    found = imatrix.spread(rows, tokens)
    assert len(found) == count
    assert sum(map(len, found)) <= max(tokens, 5)


def test_what_fell_back_is_said_once(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=96, intermediate=80, head_dim=24)
    said: list[str] = []
    place = work(tmp_path, "out")
    place = Work(place.folder, place.scratch, warn=said.append)
    done = export.run(export.Params(format="gguf", type="q4_k_m", threads=1), Inputs(sources={"base": base}), place)
    assert len(said) == len({tuple(pair) for pair in done.facts["fallbacks"].values()})
    assert any("more: the rows do not divide into blocks of q4_k, stored as q5_0 instead" in text for text in said)
    assert done.facts["fallbacks"]["blk.0.attn_q.weight"] == ["q4_k", "q5_0"]


def test_who_quantizes_reaches_the_exporter_and_a_fallback_is_said(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeft.exporters.gguf.kquants import trust

    made = {}
    for quantizer, fast in (("fast", ["q4_k"]), ("ggml", [])):
        params = export.Params(format="gguf", type="q4_k_s", threads=1, quantizer=quantizer)
        done = export.run(params, inputs, work(tmp_path, quantizer))
        assert [name for name in done.measurements["fast_types"] if name == "q4_k"] == fast
        made[quantizer] = done.facts
    assert made["fast"] == made["ggml"]
    monkeypatch.setattr(trust, "trusted", lambda *_: False)
    said: list[str] = []
    place = work(tmp_path, "differs")
    done = export.run(
        export.Params(format="gguf", type="q4_k_s", threads=1),
        inputs,
        Work(place.folder, place.scratch, warn=said.append),
    )
    assert any("does not give the bytes of the installed llama-cpp-python" in text for text in said)
    assert done.facts == made["ggml"]
