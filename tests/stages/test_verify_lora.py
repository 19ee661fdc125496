"""An adapter as GGUF is judged like any file: on the base beside it, else on one made for the time being."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.pipeline.stage import Inputs, Work
from edgeft.stages import export, verify


def work(folder: Path) -> Work:
    folder.mkdir(parents=True)
    scratch = folder.with_suffix(".scratch")
    scratch.mkdir()
    return Work(folder, scratch)


def finished(place: Work, outcome: Outcome, stage: str, **params: Any) -> Artifact:
    artifact.finish(place.folder, outcome, stage=stage, fingerprint="e" * 64, params=params, inputs={}, environment={})
    return artifact.load(place.folder)


def verified(base: Path, adapter: Path, folder: Path, **options: Any) -> tuple[dict[str, Any], Work]:
    """Export and verify; the checks by name, and where the verification worked."""
    tuned = Artifact(adapter, "adapter", "train", "f" * 64, "d" * 64)
    params = export.Params(format="lora", type="f16", threads=1, **options)
    place = work(folder / "export")
    sources = {"base": base}
    done = export.run(params, Inputs({"adapter": tuned}, sources), place)
    made = finished(place, done, "export", **params.model_dump(mode="json"))
    data = work(folder / "data")
    talks = [(f"{n} + 4?", f"{n + 4}") for n in range(3)]
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in talks]
    rows = [{"id": str(n), "messages": messages} for n, messages in enumerate(turns)]
    files.write_jsonl(data.folder / "test.jsonl", rows)
    inputs = Inputs({"export": made, "adapter": tuned, "data": finished(data, Outcome("dataset"), "data")}, sources)
    judged = work(folder / "verify")
    outcome = verify.run(verify.Params(rows="test", limit=3), inputs, judged)
    verdict = files.read_json(judged.folder / "verdict.json")
    assert outcome.passed == all(check["passed"] for check in verdict["checks"])
    return {check["gate"]: check for check in verdict["checks"]}, judged


def test_on_a_base_made_for_the_time_being(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    checks, judged = verified(tiny_llama, tiny_adapter, tmp_path)
    assert len(checks) == 6
    assert all(check["passed"] for check in checks.values())
    assert checks["the same model"]["value"] < 1e-4
    assert sorted(path.name for path in (judged.scratch / "base").glob("*.gguf")) == ["tiny-llama-bf16.gguf"]
    assert not list(judged.folder.glob("*.gguf"))


def test_on_the_base_beside_it(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """A base of few bits is judged as such a file is."""
    checks, judged = verified(tiny_llama, tiny_adapter, tmp_path, options={"with_base": "q8_0"})
    assert all(check["passed"] for check in checks.values())
    assert 1e-5 < checks["the same model"]["value"] < 0.05
    assert not (judged.scratch / "base").exists()


def test_a_wrong_scale_is_caught(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """What the peer's converter does to a rank-stabilised adapter would not pass."""
    from edgeft.exporters.gguf import lora

    adapter = Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True, "lora_alpha": 4}))
    monkeypatch.setattr(lora, "_alpha", lambda loras, folder: 4.0)
    monkeypatch.setattr(lora._Moved, "__init__", _unscaled(lora._Moved.__init__))
    checks, _ = verified(tiny_llama, adapter, tmp_path)
    assert not checks["the same model"]["passed"]
    assert checks["token ids equal"]["passed"]


def _unscaled(original: Any) -> Any:
    return lambda self, base, rows=None, factor=1.0, columns=None: original(self, base, rows, columns=columns)


@pytest.mark.slow
def test_trained_on_four_bits(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    """The base made for it is the one that was trained on; the pristine one is another model here."""
    from edgeft.models.identity import base_digest
    from edgeft.weights.adapter import open_adapter

    adapter = Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))
    how = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32"}
    table = {
        "base": {"ref": "builtin:tiny", "digest": base_digest(tiny_llama)},
        "quantization": {**how, "weights": sorted(open_adapter(tiny_adapter).loras)},
        "compute_dtype": "float32",
    }
    (adapter / "training.json").write_text(json.dumps(table))
    exact, judged = verified(tiny_llama, adapter, tmp_path / "exact")
    assert exact["the same model"]["passed"]
    assert [path.name for path in (judged.scratch / "base").glob("*.gguf")] == ["tiny-as-trained-bf16.gguf"]
    pristine, _ = verified(tiny_llama, adapter, tmp_path / "pristine", merge_base="pristine")
    assert pristine["the same model"]["value"] > 10 * exact["the same model"]["value"]
