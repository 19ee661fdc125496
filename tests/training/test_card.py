"""The adapter's model card says what hubs ask: base, licence, datasets."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from edgeft.training.card import card

TRAINING = {
    "data": {"rows": 5, "trained_tokens": 70},
    "quantization": None,
    "compute_dtype": "float32",
    "objective": "sft",
    "steps": 3,
    "datasets": ["/home/me/rows.jsonl", "org/rows"],
}


def test_base_licence_and_datasets(tmp_path: Path) -> None:
    base = tmp_path / "models--Acme--Tiny" / "snapshots" / ("a" * 40)
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en, de]\n---\n# Tiny\n")
    text = card(base, "Acme/Tiny", TRAINING, adapter=True)
    front = YAML(typ="safe").load(text.split("---\n")[1])
    assert (front["license"], front["language"], front["library_name"]) == ("apache-2.0", ["en", "de"], "peft")
    assert front["datasets"] == ["rows.jsonl", "org/rows"]
    assert str(tmp_path) not in text
    assert "/home/me" not in text
    assert "PeftModel.from_pretrained" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    base = tmp_path / "a\n<script>"
    base.mkdir()
    text = card(base, str(base), TRAINING | {"datasets": ["x\n---\nevil: 1"]}, adapter=False)
    front = YAML(typ="safe").load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert "evil" not in front
    assert "\n# Fine-tuned" in text
    assert "<script>" not in text
