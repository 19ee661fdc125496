"""`merge_base: auto`: the candidate nearest to the trained model is taken, as it ships; and its way to the exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import artifact, files
from edgeft.artifact import Artifact, Outcome
from edgeft.errors import InputError, ModelError
from edgeft.evals.encoded import encode
from edgeft.evals.recorded import fitting, record
from edgeft.evals.suites import from_rows
from edgeft.pipeline.stage import Inputs, Work
from edgeft.recipe import load
from edgeft.stages import export, merge
from edgeft.stages import merge_base as stage
from edgeft.stages.targets import targets_of
from tests.evals.fakes import FakeRuntime
from tests.stages.made_run import MadeRun, answers, task_rows

RECIPE = """base_model: ./base
data: {datasets: [{path: a.jsonl}], validation: [{path: v.jsonl}], test: [{path: t.jsonl}]}
eval: {suites: {task: {rows: test, metrics: [json_match], max_tokens: 9}}}
merge: {merge_base: auto}
export: [gguf-f16, gguf-q4_k_m, lora-q8_0]
"""


def made_work(folder: Path) -> Work:
    for name in ("work", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Work(folder / "work", folder / "scratch")


def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: Mapping[str, FakeRuntime]
) -> tuple[MadeRun, Artifact]:
    """The stage over fake runtimes, one per candidate."""
    made = MadeRun(tmp_path / "run", monkeypatch)
    trained = FakeRuntime(answers(0.5), skill=2.0)
    monkeypatch.setattr(stage, "open_model", lambda inputs: trained)
    monkeypatch.setattr(stage, "_made", lambda params, inputs, name, work: candidates[name])
    work = made_work(tmp_path)
    given = Inputs({"data": made.artifacts["data"], "adapter": made.artifacts["train"]}, {"base": Path("base")})
    outcome = stage.run(stage.Params(limit=12), given, work)
    made._finish("merge_base", work, outcome, {"adapter": "train"}, {})
    assert trained.closed
    assert list(work.scratch.iterdir()) == []
    return made, made.artifacts["merge_base"]


@pytest.mark.parametrize(
    ("noise", "wanted"), [((0.01, 0.5), "dequantized"), ((0.5, 0.01), "pristine"), ((0.0, 0.0), "dequantized")]
)
def test_the_nearest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: tuple[float, float], wanted: str
) -> None:
    made = {
        name: FakeRuntime(answers(0.9), skill=2.0, noise=n) for name, n in zip(stage.CANDIDATES, noise, strict=True)
    }
    _, found = measured(tmp_path, monkeypatch, made)
    assert files.read_json(found.file("choice.json")) == {"chosen": wanted, "export": "merged"}
    figures = files.read_json(found.file("figures.json"))["candidates"]
    assert figures == found.facts["candidates"]
    assert figures["trained"]["exact_match"] == 0.5
    for name, value in zip(stage.CANDIDATES, noise, strict=True):
        assert (figures[name]["mean_kl"] > 1e-9) == (value > 0)
        assert set(figures[name]) >= {"loss", "exact_match", "answer_mean_kl", "top1_agreement"}
    assert all(runtime.closed for runtime in made.values())


def test_the_figures_are_not_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured again with other figures and the same outcome: nothing that reads the choice is built again."""
    digests = set()
    for number, noise in enumerate((0.3, 0.5)):
        made = {"dequantized": FakeRuntime(skill=2.0, noise=0.01), "pristine": FakeRuntime(skill=2.0, noise=noise)}
        digests.add(measured(tmp_path / str(number), monkeypatch, made)[1].digest)
    assert len(digests) == 1


class Broken(FakeRuntime):
    def logits(self, ids: Any) -> Any:
        return np.full((len(ids), self.vocab_size), np.nan, dtype=np.float32)


def test_a_candidate_that_is_not_finite_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"dequantized": Broken(), "pristine": FakeRuntime(skill=2.0, noise=0.5)}
    _, found = measured(tmp_path, monkeypatch, made)
    assert found.facts["chosen"] == "pristine"
    with pytest.raises(InputError, match="finite"):
        stage.choose({"dequantized": None, "pristine": None})


def test_the_report_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.report import terminal

    noisy = {"dequantized": FakeRuntime(skill=2.0, noise=0.5), "pristine": FakeRuntime(skill=2.0, noise=0.01)}
    made, found = measured(tmp_path, monkeypatch, noisy)
    trained = FakeRuntime(answers(0.95), skill=2.0)
    made.evaluate(FakeRuntime(), trained)
    page = made.report().file("report.html").read_text(encoding="utf-8")
    assert "Which base the adapter was folded into" in page
    assert "<td>pristine <span" in page
    kl = found.facts["candidates"]["dequantized"]["mean_kl"]
    assert f"merge base of merged: pristine (mean KL: dequantized {kl:.2g}, pristine" in terminal.summary(
        made.artifacts
    )


def test_recorded_logits_are_the_runtimes_own(tmp_path: Path) -> None:
    runtime = FakeRuntime(skill=1.0)
    suite = from_rows("v", task_rows(), metrics=["exact_match"])
    rows = [(case.id, encode(runtime, case)) for case in suite.cases]
    kept = record(runtime, rows, tmp_path / "logits")
    ids = [item.ids for _, item in rows]
    for found, wanted in zip(kept.logits_batch(ids), runtime.logits_batch(ids), strict=True):
        assert np.array_equal(found, wanted)
    size = (tmp_path / "logits").stat().st_size
    assert size == 4 * runtime.vocab_size * sum(map(len, ids))
    assert fitting(rows, runtime.vocab_size, size) == rows
    fewer = fitting(rows, runtime.vocab_size, size // 3)
    assert 5 < len(fewer) < 14
    assert len(fitting(rows, runtime.vocab_size, 1)) == 1


def test_targets_of_auto(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    found = {target.name: target for target in targets_of(load(tmp_path / "recipe.yaml"))}
    assert [name for name in found if name.startswith("merge_base")] == ["merge_base", "merge_base.gguf-q4_k_m"]
    assert found["merge"].inputs == {"adapter": "train", "choice": "merge_base"}
    assert found["export.gguf-f16"].inputs == {"adapter": "train", "choice": "merge_base"}
    assert found["export.gguf-q4_k_m"].inputs == {"adapter": "train", "choice": "merge_base.gguf-q4_k_m"}
    assert found["export.lora-q8_0"].inputs == {"adapter": "train", "choice": "merge_base"}
    params: Any = found["merge_base.gguf-q4_k_m"].params
    assert (params.export, params.metrics, params.max_tokens) == ("gguf-q4_k_m", ["json_match"], 9)
    plain = {target.name for target in targets_of(load(tmp_path / "recipe.yaml", ["merge.merge_base=pristine"]))}
    assert not any(name.startswith("merge_base") for name in plain)


# --- the real thing, on a random model ---------------------------------------------------------------------------


@pytest.fixture
def inputs(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> Inputs:
    """A dataset and an adapter artifact as the stages leave them; the base was quantized in training."""
    from edgeft.models.identity import base_digest
    from edgeft.weights.adapter import open_adapter

    data = tmp_path / "data"
    data.mkdir()
    files.write_jsonl(data / "validation.jsonl", task_rows(4))
    adapter = Path(shutil.copytree(tiny_adapter, tmp_path / "adapter"))
    how = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32"}
    training = {
        "base": {"ref": "builtin:tiny", "digest": base_digest(tiny_llama)},
        "quantization": {**how, "weights": sorted(open_adapter(tiny_adapter).loras)},
    }
    (adapter / "training.json").write_text(json.dumps(training))
    for folder, kind, name in ((data, "dataset", "data"), (adapter, "adapter", "train")):
        artifact.finish(folder, Outcome(kind), stage=name, fingerprint="f" * 64, params={}, inputs={}, environment={})
    return Inputs({"data": artifact.load(data), "adapter": artifact.load(adapter)}, {"base": tiny_llama})


@pytest.mark.parametrize("name", ["merged", "gguf-q8_0"])
def test_a_real_choice_reaches_the_merge_and_the_export(inputs: Inputs, tmp_path: Path, name: str) -> None:
    work = made_work(tmp_path / "measured")
    outcome = stage.run(stage.Params(export=name, max_tokens=4, threads=1), inputs, work)
    figures = outcome.facts["candidates"]
    assert outcome.facts["chosen"] == "dequantized"
    assert figures["dequantized"]["mean_kl"] < figures["pristine"]["mean_kl"] / 3
    assert list(work.scratch.iterdir()) == []
    artifact.finish(
        work.folder, outcome, stage="merge_base", fingerprint="e" * 64, params={}, inputs={}, environment={}
    )
    chosen = Inputs({**inputs.artifacts, "choice": artifact.load(work.folder)}, inputs.sources)
    assert export.source_of(chosen, "auto").merge_base == "dequantized"
    done = merge.run(merge.Params(merge_base="auto", threads=1), chosen, made_work(tmp_path / "merged"))
    assert done.facts["merge_base"] == "dequantized"
    with pytest.raises(InputError, match="recipe"):
        merge.run(merge.Params(merge_base="auto"), inputs, made_work(tmp_path / "refused"))
    (work.folder / "choice.json").write_text('{"chosen": "auto"}')
    with pytest.raises(ModelError, match="names no merge base"):
        export.source_of(chosen, "auto")
