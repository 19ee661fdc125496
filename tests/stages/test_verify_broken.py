"""Real files of a tiny model, broken on purpose as exporters break them: each is caught, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages import export, verify
from tests.models_made import CHAT_TEMPLATE, END_OF_TEXT, make_llama
from tests.runtimes.gguf_edited import edited, swapped

Verify = Callable[..., dict[str, Any]]


def work(folder: Path) -> Work:
    folder.mkdir(parents=True)
    scratch = folder.with_suffix(".scratch")
    scratch.mkdir()
    return Work(folder, scratch)


def finished(place: Work, outcome: Outcome, stage: str, **params: Any) -> Artifact:
    artifact.finish(place.folder, outcome, stage=stage, fingerprint="e" * 64, params=params, inputs={}, environment={})
    return artifact.load(place.folder)


def with_bos(folder: Path, **model: Any) -> Path:
    """A tiny Llama whose template begins with its BOS token."""
    make_llama(folder, hidden=256, intermediate=256, layers=2, dtype="float32", **model)
    (folder / "chat_template.jinja").write_text("{{- bos_token -}}\n" + CHAT_TEMPLATE, encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": END_OF_TEXT}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_bos(tmp_path_factory.mktemp("bos") / "bos-llama", seed=3)


@pytest.fixture(scope="module")
def shipped(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    found = {}
    for name in ("gguf-f16", "gguf-q4_k_m"):
        format_, _, type_ = name.partition("-")
        place = work(tmp_path_factory.mktemp("export") / name)
        params = export.Params(format=format_, type=type_, threads=1)
        done = export.run(params, Inputs({}, {"base": base}), place)
        found[name] = finished(place, done, "export", **params.model_dump(mode="json"))
    return found


def verified(base: Path, made: Artifact, folder: Path) -> dict[str, Any]:
    """The verdict on an export, and its diagnosis as (cause, what) pairs."""
    data = work(folder / "data")
    talks = [(f"What is {n} plus 4?", f"The answer is {n + 4}.") for n in range(3)]
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in talks]
    rows = [{"id": str(n), "messages": messages} for n, messages in enumerate(turns)]
    files.write_jsonl(data.folder / "test.jsonl", rows)
    inputs = Inputs({"export": made, "data": finished(data, Outcome("dataset"), "data")}, {"base": base})
    judged = work(folder / "verify")
    outcome = verify.run(verify.Params(rows="test", limit=3), inputs, judged)
    fidelity = files.read_json(judged.folder / "fidelity.json")
    failed = [
        check["gate"] for check in files.read_json(judged.folder / "verdict.json")["checks"] if not check["passed"]
    ]
    named = [(entry["cause"], entry["what"]) for entry in fidelity["diagnosis"]]
    return {"passed": outcome.passed, "failed": failed, "named": named, "fidelity": fidelity, "facts": outcome.facts}


@pytest.fixture
def broken(base: Path, shipped: dict[str, Artifact], tmp_path: Path) -> Verify:
    def judge(name: str, **changes: Any) -> dict[str, Any]:
        good = shipped[name]
        place = work(tmp_path / f"broken-{len(list(tmp_path.iterdir()))}")
        path = good.path / good.facts["file"]
        edited(path, place.folder / path.name, **changes)
        made = finished(place, Outcome("gguf", facts=good.facts), "export", **good.params)
        return verified(base, made, place.scratch / "verified")

    return judge


@pytest.mark.parametrize("name", ["gguf-f16", "gguf-q4_k_m"])
def test_whole_files_pass_and_nothing_is_named(
    base: Path, shipped: dict[str, Artifact], name: str, tmp_path: Path
) -> None:
    found = verified(base, shipped[name], tmp_path)
    assert (found["passed"], found["failed"], found["named"]) == (True, [], [])
    assert found["fidelity"]["conversion"]["tensors"]["wrong"] == found["fidelity"]["conversion"]["settings"] == []


@pytest.mark.parametrize("name", ["gguf-f16", "gguf-q4_k_m"])
@pytest.mark.parametrize("tensor", ["blk.0.attn_q.weight", "blk.1.attn_k.weight"])
def test_swapped_rows_in_q_or_k(broken: Verify, name: str, tensor: str) -> None:
    """Two rows of one matrix: little enough that the divergence alone would pass as a quantization's."""
    found = broken(name, tensor={tensor: swapped(5, 40)})
    assert found["named"] == [("conversion", "swapped rows in q/k")]
    assert "weights of the source" in found["failed"]
    assert f"{tensor}: rows 5 and 40 are swapped" in found["facts"]["notes"][0]


def test_a_wrong_rope_base(broken: Verify) -> None:
    found = broken("gguf-q4_k_m", put={"llama.rope.freq_base": 500000.0})
    assert found["named"] == [("conversion", "wrong rope base")]
    assert "settings of the source" in found["failed"]
    assert "llama.rope.freq_base is 500000.0, the source says 10000.0" in found["facts"]["notes"][0]


@pytest.mark.parametrize(
    "changes", [{"drop": ["tokenizer.ggml.eos_token_id"]}, {"put": {"tokenizer.ggml.eos_token_id": 317}}]
)
def test_a_missing_end_of_turn(broken: Verify, changes: dict[str, Any]) -> None:
    """llama.cpp still knows ChatML's by its text, other programs do not: the setting is missed all the same."""
    found = broken("gguf-f16", **changes)
    assert found["named"] == [("stop tokens", "missing end-of-turn")]
    assert found["failed"] == ["settings of the source"]


def test_a_dropped_bos(broken: Verify) -> None:
    found = broken("gguf-f16", put={"tokenizer.chat_template": CHAT_TEMPLATE})
    assert found["named"] == [("tokenizer", "dropped BOS")]
    assert "rendering equal" in found["failed"]


def test_a_dropped_bos_setting(broken: Verify) -> None:
    found = broken("gguf-f16", drop=["tokenizer.ggml.bos_token_id"])
    assert ("tokenizer", "dropped BOS") in found["named"]
    assert not found["passed"]


@pytest.mark.parametrize("cut", ["{%- if add_generation_prompt", "<|im_end|>"])
def test_a_truncated_template(broken: Verify, cut: str) -> None:
    """Cut between blocks (it renders, without the assistant's turn) and in the middle of one (it is no template)."""
    whole = "{{- bos_token -}}\n" + CHAT_TEMPLATE
    found = broken("gguf-f16", put={"tokenizer.chat_template": whole[: whole.index(cut)]})
    assert found["named"] == [("template", "truncated template")]
    assert "rendering equal" in found["failed"]


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("genai_config.json", {"eos_token_id": 317}, ("stop tokens", "missing end-of-turn")),
        ("chat_template.jinja", "{%- if add_generation_prompt", ("template", "truncated template")),
        ("chat_template.jinja", None, ("tokenizer", "dropped BOS")),
    ],
)
def test_broken_onnx_folders(
    base: Path, onnx: Artifact, name: str, change: Any, named: tuple[str, str], tmp_path: Path
) -> None:
    place = work(tmp_path / "broken")
    shutil.copytree(onnx.path, place.folder, dirs_exist_ok=True)
    (place.folder / "artifact.json").unlink()
    file = place.folder / name
    text = file.read_text()
    if isinstance(change, dict):
        config = json.loads(text)
        config["model"] |= change
        file.write_text(json.dumps(config))
    else:
        file.write_text(CHAT_TEMPLATE if change is None else text[: text.index(change)])
    found = verified(base, finished(place, Outcome("onnx", facts=onnx.facts), "export", **onnx.params), tmp_path)
    assert found["named"] == [named]
    assert not found["passed"]


@pytest.fixture(scope="module")
def onnx(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    place = work(tmp_path_factory.mktemp("export") / "onnx-fp32")
    params = export.Params(format="onnx", type="fp32", threads=1)
    done = export.run(params, Inputs({}, {"base": base}), place)
    return finished(place, done, "export", **params.model_dump(mode="json"))
