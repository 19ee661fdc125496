"""A classification head answers as plain transformers and peft do, in batches and one by one, and says its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.errors import ModelError
from edgeft.models.heads import labels_of
from edgeft.runtimes.classifier import Shares, open_classifier, softmax, together
from tests.training.made import run_training
from tests.training.rows_made import made, make_rows

LABELS = ("kitchen", "bedroom", "bath")
TEXTS = ["Turn the kitchen light on kitchen", "Turn the bath light on please bath", "Hi", "x" * 60, "Où est Anna?"]


@pytest.fixture(scope="module")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("head")
    rows = make_rows(place / "rows", "classification", tiny_llama)
    run_training(place / "adapter", tiny_llama, rows, objective="classification", adapter="lora", max_steps=12)
    return place / "adapter"


def oracle(base: Path, adapter: Path, ids: list[list[int]]) -> Any:
    """Probabilities of plain peft, one row at a time: nothing is padded."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, num_labels=len(LABELS), pad_token_id=317
    )
    model = PeftModel.from_pretrained(plain, adapter).eval()
    with torch.no_grad():
        found = [model(input_ids=torch.tensor([row])).logits[0] for row in ids]
    return torch.softmax(torch.stack(found).double(), dim=-1).numpy()


def test_probabilities_are_those_of_peft(tiny_llama: Path, adapter: Path) -> None:
    with open_classifier(tiny_llama, adapter, device="cpu") as ours:
        assert ours.labels == LABELS
        ids = [ours.encode(text) for text in TEXTS]
        done: list[int] = []
        found = ours.classify(TEXTS, on_done=done.append)
        assert found.dtype == np.float32
        assert found.shape == (len(TEXTS), len(LABELS))
        assert sum(done) == len(TEXTS)
        assert np.allclose(found, oracle(tiny_llama, adapter, ids), atol=1e-5)
        assert np.allclose(found, ours.classify(ids), atol=1e-6)
        assert np.allclose(softmax(ours.values(ids)), found, atol=1e-6)
        ours.batch_tokens = 1  # one row at a time: padding changes nothing
        assert np.allclose(found, ours.classify(TEXTS), atol=1e-5)


def test_texts_and_conversations_are_read_as_in_training(tiny_llama: Path, adapter: Path) -> None:
    from edgeft.data.encode import Settings, encoder
    from edgeft.data.rows import Row
    from tests.training.rows_made import tokenizer_of

    trained = encoder(tokenizer_of(tiny_llama), Settings("classification", labels=LABELS, stop_ids=(319,)))
    turns = [{"role": "user", "content": "Is it on?"}, {"role": "assistant", "content": "Yes."}]
    with open_classifier(tiny_llama, adapter, device="cpu") as ours:
        for value in ({"text": TEXTS[0]}, {"prompt": turns}):
            (row,) = trained.encode(Row("made:1", "made", 1, {**value, "label": "bath"}))
            assert ours.encode(next(iter(value.values()))) == list(row.columns["input_ids"])
        assert np.allclose(ours.classify([turns]), ours.classify([ours.encode(turns)]))


def test_what_cannot_be_read_is_refused(tiny_llama: Path, adapter: Path) -> None:
    with open_classifier(tiny_llama, adapter, device="cpu", context_length=8) as ours:
        with pytest.raises(ModelError, match="tokens do not fit into the context of 8"):
            ours.classify(["x" * 61])
        with pytest.raises(ModelError, match="outside the vocabulary"):
            ours.classify([[5, 99_999]])
    with pytest.raises(ModelError, match="there is no classification head here"):
        open_classifier(tiny_llama)


def test_labels_are_found_without_opening_anything(tiny_llama: Path, adapter: Path, tmp_path: Path) -> None:
    assert labels_of(tiny_llama) is None
    assert labels_of(adapter) == LABELS
    for name in ("adapter_config.json", "adapter_model.safetensors"):  # of another tool: no names are kept
        (tmp_path / name).write_bytes((adapter / name).read_bytes())
    assert labels_of(tmp_path) == ("LABEL_0", "LABEL_1", "LABEL_2")
    with open_classifier(tiny_llama, adapter, device="cpu") as ours, open_classifier(tiny_llama, tmp_path) as other:
        assert np.allclose(ours.classify(TEXTS), other.classify(TEXTS))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelError, match="the adapter's weights cannot be read"):
        labels_of(tmp_path)


def test_a_checkpoint_with_its_own_head(tiny_llama: Path, adapter: Path, tmp_path: Path) -> None:
    from edgeft.models.open import open_tuned

    whole = open_tuned(tiny_llama, adapter, device="cpu").merge_and_unload()
    whole.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    assert labels_of(tmp_path) == LABELS
    with open_classifier(tiny_llama, adapter, device="cpu") as ours, open_classifier(tmp_path) as other:
        assert other.name == "hf"
        assert np.allclose(ours.classify(TEXTS), other.classify(TEXTS), atol=1e-4)


def test_the_baseline_knows_the_labels_only(tiny_llama: Path) -> None:
    counts = [sum(row["label"] == i for row in made("classification", tiny_llama, 24)) for i in range(3)]
    with Shares(LABELS, counts) as baseline:
        found = baseline.classify(TEXTS)
    assert found.shape == (len(TEXTS), 3)
    assert found.argmax(axis=1).tolist() == [int(np.argmax(counts))] * len(TEXTS)
    assert np.allclose(found.sum(axis=1), 1.0)
    assert Shares(("a", "b"), [5, 0]).classify(["x"])[0].tolist() == pytest.approx([6 / 7, 1 / 7])


def test_batches_hold_no_more_tokens_than_they_may() -> None:
    batches = list(together([3, 9, 1, 9, 2], 18))
    assert batches == [[1, 3], [0, 4, 2]]
    assert list(together([50], 10)) == [[0]]


def test_training_keeps_the_head_as_peft_does(adapter: Path) -> None:
    """What exporters count on: a SEQ_CLS adapter, its head among the modules that peft saves whole, the labels."""
    from safetensors import safe_open

    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert "score" in config["modules_to_save"]
    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        assert tensors.get_slice("base_model.model.score.weight").get_shape()[0] == len(LABELS)
    assert json.loads((adapter / "training.json").read_text())["labels"] == list(LABELS)
    assert "AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=3)" in (
        adapter / "README.md"
    ).read_text(encoding="utf-8")
