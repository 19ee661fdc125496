"""Pairs put to a reward model: the values are those that training saw and that plain peft gives; refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft import files
from edgeft.errors import InputError, ModelError
from edgeft.evals import scores, suites
from edgeft.evals.evaluate import evaluate
from edgeft.pipeline.stage import Inputs, Work
from edgeft.runtimes import open_any, open_reward, open_runtime
from edgeft.stages import data as data_stage
from edgeft.stages import eval as eval_stage
from tests.evals.fakes import FakeRuntime
from tests.training.made import ROOMS, dataset_artifact, run_training

METRICS = ["pair_accuracy", "accuracy"]


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(dataset, adapter) of a reward model that was trained a few steps."""
    place = tmp_path_factory.mktemp("reward")
    rows = [
        {
            "prompt": f"Light in the {ROOMS[i % 4]}? ({i})",
            "chosen": f"on {ROOMS[i % 4]}",
            "rejected": "off" * (1 + i % 2),
        }
        for i in range(24)
    ]
    source = place / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "data").mkdir()
    params = data_stage.Params(
        datasets=[{"path": source.name, "type": "preference"}],  # type: ignore[list-item]
        val_set_size=8, sequence_len=128, objective="reward",
    )  # fmt: skip
    work = Work(place / "data", place / "data")
    data_stage.run(params, Inputs(sources={"base": tiny_llama, "datasets.0": source}), work)
    run_training(
        place / "adapter",
        tiny_llama,
        place / "data",
        objective="reward",
        adapter="lora",
        max_steps=2,
        learning_rate=1e-2,
    )
    return place / "data", place / "adapter"


def pairs(dataset: Path) -> suites.Suite:
    return suites.from_rows("task", files.read_jsonl(dataset / "validation.jsonl"), metrics=METRICS, kind="pairs")


def test_the_values_are_those_of_training_and_of_plain_peft(trained: tuple[Path, Path], tiny_llama: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    from edgeft.models.open import open_tuned
    from edgeft.training import forms
    from edgeft.training.objectives import reward

    dataset, adapter = trained
    found = evaluate(open_reward(tiny_llama, adapter), [pairs(dataset)])
    told = torch.tensor([[choice["reward"] for choice in row["choices"]] for row in found.rows])
    pad_id = json.loads((tiny_llama / "config.json").read_text())["pad_token_id"]
    rows = forms.read("preference", dataset / "validation.parquet", pad_id)
    batch = rows.batch([(i,) for i in range(len(rows.names))])
    assert [row["id"] for row in found.rows] == rows.names
    with torch.no_grad():
        seen = torch.stack(reward.rewards(open_tuned(tiny_llama, adapter, device="cpu"), batch), dim=1)
    assert torch.allclose(told, seen, atol=1e-5)

    plain = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=1, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, str(adapter)).eval()
    prompt, better = (rows._prompts[0], rows._chosen[0])  # type: ignore[attr-defined]
    ids = torch.tensor([[*prompt.tolist(), *better.tolist()]])
    with torch.no_grad():
        assert float(model(input_ids=ids).logits[0, 0]) == pytest.approx(float(told[0, 0]), abs=1e-5)

    losses = -torch.nn.functional.logsigmoid(told[:, 0] - told[:, 1])
    assert [row["loss"] for row in found.rows] == pytest.approx(losses.tolist(), abs=1e-5)
    right = (told[:, 0] > told[:, 1]).float()
    figures = found.summary["task"]
    assert figures["pair_accuracy"]["value"] == figures["accuracy"]["value"] == pytest.approx(float(right.mean()))
    assert figures["loss"]["value"] == pytest.approx(float(losses.mean()), abs=1e-5)


def test_the_stage_asks_the_head_before_and_after(trained: tuple[Path, Path], tiny_llama: Path, tmp_path: Path) -> None:
    dataset, adapter = trained
    suite = {"rows": "validation", "kind": "pairs", "metrics": METRICS}
    params = eval_stage.Params(suites={"task": suite}, head="reward")  # type: ignore[dict-item]
    values = []
    for name, more in (("base", {}), ("tuned", {"adapter": dataset_artifact(adapter)})):
        (tmp_path / name).mkdir()
        inputs = Inputs(artifacts={"data": dataset_artifact(dataset), **more}, sources={"base": tiny_llama})
        eval_stage.run(params, inputs, Work(tmp_path / name, tmp_path / name))
        values.append([row["choices"][0]["reward"] for row in scores.read_rows(tmp_path / name / scores.ROWS)])
    assert values[0] != values[1]
    head = open_reward(tiny_llama)
    ids = head.encode(head.render([{"role": "user", "content": "a"}]))
    assert head.rewards([ids]).shape == (1,)


def test_it_is_asked_for_pairs_and_for_nothing_else(trained: tuple[Path, Path], tiny_llama: Path) -> None:
    dataset, adapter = trained
    model: Any = open_any(adapter, base=tiny_llama)
    written = suites.from_rows("w", files.read_jsonl(dataset / "validation.jsonl"), metrics=["exact_match"])
    with pytest.raises(InputError, match="is a reward model and writes no answers"):
        evaluate(model, [written])
    alone = suites.from_rows("a", [{"good": "a", "bad": "b"}], metrics=["pair_accuracy"], kind="pairs")
    with pytest.raises(InputError, match="has no question"):
        evaluate(model, [alone])
    with pytest.raises(ModelError, match="this is a reward model"):
        open_runtime(adapter, base=tiny_llama)


def test_equal_answers_are_no_preference() -> None:
    from edgeft.evals.metrics import pair_accuracy

    def row(good: float, bad: float, key: str) -> dict[str, Any]:
        return {"choices": [{"reward": None, "logprob": None, key: good}, {"reward": None, "logprob": None, key: bad}]}

    for key in ("reward", "logprob"):
        found = [pair_accuracy.score(row(*values, key)) for values in ((0.2, 0.1), (0.1, 0.2), (0.1, 0.1))]
        assert found == [1.0, 0.0, 0.0]
    likelier = suites.from_rows("p", [{"good": "a b", "bad": "b a"}], metrics=METRICS, kind="pairs")
    (asked,) = evaluate(FakeRuntime(), [likelier]).rows
    assert asked["scores"]["pair_accuracy"] == asked["scores"]["accuracy"]
