"""Encoders as bases of classifiers: a head, and a pooler that the checkpoint lacks, start anew, are trained and saved
whole; what is saved opens in plain peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.models.heads import head_module, labels_of, longest
from edgeft.models.open import open_base
from edgeft.runtimes.classifier import open_classifier
from edgeft.training.targets import target_modules
from tests.classifiers_made import CONTEXT, FAMILIES, LABELS, make_base, train_classifier

TEXTS = ["play a loud song", "rain and storm for today", "the lamp"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bert") / "base", "bert")


def test_the_head_begins_the_same_every_time(base: Path) -> None:
    first, second = (open_base(base, device="cpu", labels=LABELS) for _ in range(2))
    assert first.edgeft_started == ("bert.pooler", "classifier")
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert float(first.bert.pooler.dense.weight.std()) > 0.01


def test_four_bits_leave_the_head_out(base: Path) -> None:
    model = open_base(base, four_bit=True, device="cpu", labels=LABELS)
    held = model.edgeft_quantization.weights
    assert "bert.encoder.layer.0.intermediate.dense.weight" in held
    assert not [name for name in held if head_module(name.removesuffix(".weight"))]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("all-linear", 6),
        ("attention", 4),
        ("mlp", 2),
        (["query", "value"], None),
    ],
)
def test_which_layers_get_an_adapter(wanted: Any, expected: int | None, base: Path) -> None:
    """Of each layer; never of the head, which is trained whole."""
    found = target_modules(open_base(base, device="cpu", labels=LABELS), wanted, None)
    if expected is None:
        assert found == wanted
        return
    assert len(found) == 2 * expected
    assert not [name for name in found if "pooler" in name or "classifier" in name]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_and_opens_in_peft(family: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base, adapter, _ = train_classifier(tmp_path, family)
    rows = [json.loads(line) for line in (adapter / "heldout.jsonl").read_text().splitlines()]
    right = [sum(row[when]["accuracy"] for row in rows) / len(rows) for when in ("before", "after")]
    assert right[1] > right[0] + 0.2
    assert labels_of(adapter) == LABELS
    pad = json.loads((base / "config.json").read_text())["pad_token_id"]
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, pad_token_id=pad)
    model = PeftModel.from_pretrained(plain.float(), adapter).eval()
    with open_classifier(base, adapter, device="cpu") as ours:
        found = ours.classify(TEXTS)
        with torch.no_grad():
            for text, shares in zip(TEXTS, found, strict=True):
                logits = model(input_ids=torch.tensor([ours.encode(text)])).logits[0]
                assert torch.allclose(torch.softmax(logits, -1), torch.tensor(shares), atol=1e-5)


def test_the_longest_text_of_a_family() -> None:
    """RoBERTa counts positions from behind its padding token on."""
    assert longest({"model_type": "bert", "max_position_embeddings": CONTEXT, "pad_token_id": 0}) == CONTEXT
    assert longest({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}) == 512
    assert longest({"model_type": "t5"}) is None
