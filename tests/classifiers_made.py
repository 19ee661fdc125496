"""Small bases for classifiers, one for each family: random weights, a tokenizer trained on a few words, an easy task.

    from tests.classifiers_made import FAMILIES, make_base, make_rows

The encoders are saved as language models or bare, as hubs have them: without a head, and BERT without its pooler.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.models_made import save_random

LABELS = ("light", "music", "weather")
_WORDS = {
    "light": ("lamp", "bright", "dim", "switch", "bulb", "glow"),
    "music": ("song", "play", "loud", "tune", "band", "dance"),
    "weather": ("rain", "sun", "storm", "snow", "wind", "cloud"),
}
_FILLER = (
    "the", "a", "in", "my", "room", "please", "now", "today", "can", "you", "some", "it", "is", "and", "for", "house",
    "to", "me", "at", "soon",
)  # fmt: skip
_SPECIALS = {"roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>")}
FAMILIES = ("bert", "roberta", "deberta", "modernbert", "llama", "qwen3")
CONTEXT = 96
STEPS = {"bert": 160}  # it learns slower than the others, whose 80 are enough


def make_rows(path: Path, count: int, seed: int = 0, *, unsure: float = 0.1) -> Path:
    """Rows of the form `classification`: a few filler words around words of the label; `unsure`: the share of rows
    whose label is drawn at random, so that no model is perfect."""
    drawn = random.Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            label = drawn.choice(LABELS)
            words = drawn.choices(_WORDS[label], k=2) + drawn.choices(_FILLER, k=drawn.randint(2, 12))
            drawn.shuffle(words)
            said = drawn.choice(LABELS) if drawn.random() < unsure else label
            stream.write(json.dumps({"text": " ".join(words), "label": said}) + "\n")
    return path


def make_tokenizer(folder: Path, family: str) -> dict[str, int]:
    """WordPiece with [CLS] and [SEP] around a text (RoBERTa: <s> and </s>, decoders: nothing); special ids by role."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    first, pad, last, unknown, mask = _SPECIALS.get(family, ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"))
    order = [first, pad, last, unknown, mask] if family == "roberta" else [pad, unknown, first, last, mask]
    tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = [*_FILLER, *(word for found in _WORDS.values() for word in found)]
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=order, show_progress=False)
    tokenizer.train_from_iterator([" ".join(words)] * 3, trainer)
    ids = {name: tokenizer.token_to_id(token) for name, token in (("first", first), ("last", last), ("pad", pad))}
    if family not in ("llama", "qwen3"):
        around = [(first, ids["first"]), (last, ids["last"])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1", special_tokens=around
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "pad_token": pad, "cls_token": first,
        "sep_token": last, "unk_token": unknown, "mask_token": mask, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return {**ids, "size": tokenizer.get_vocab_size()}


def make_base(folder: Path, family: str, *, hidden: int = 64, layers: int = 2, **more: Any) -> Path:
    """A random base of a family in `folder`, float32."""
    import transformers as hf

    ids = make_tokenizer(folder, family)
    shape = {
        "vocab_size": ids["size"], "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers,
        "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "pad_token_id": ids["pad"],
        "initializer_range": 0.08, "eos_token_id": None, "bos_token_id": None,
    }  # fmt: skip
    deberta = {
        "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0,
    }  # fmt: skip
    alternating = {"local_attention": 16, "global_attn_every_n_layers": 2}
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "bert": (hf.BertForMaskedLM, hf.BertConfig, {}),
        "roberta": (hf.RobertaForMaskedLM, hf.RobertaConfig, {"max_position_embeddings": CONTEXT + 2}),
        "deberta": (hf.DebertaV2Model, hf.DebertaV2Config, deberta),
        "modernbert": (hf.ModernBertForMaskedLM, hf.ModernBertConfig, alternating),
        "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, {"num_key_value_heads": 2}),
        "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {"num_key_value_heads": 2, "head_dim": 16}),
    }
    model, config, own = kinds[family]
    return save_random(folder, model, config(**{**shape, **own, **more}), dtype="float32")


def make_classifier(folder: Path, family: str, **more: Any) -> Path:
    """A whole random classifier of a family, its head included: what hubs have as a fine-tuned model."""
    import torch
    from transformers import AutoModelForSequenceClassification

    base = make_base(folder.parent / f"{folder.name}-base", family, **more)
    names = dict(enumerate(LABELS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(
            base, id2label=names, label2id={label: i for i, label in names.items()}, dtype=torch.float32
        )
    make_tokenizer(folder, family)
    model.save_pretrained(folder)
    return folder


def make_dataset(folder: Path, base: Path, count: int = 400, held_out: int = 100) -> Path:
    """A dataset artifact's files of `make_rows`, made by the data stage."""
    from edgeft.pipeline.stage import Inputs, Work
    from edgeft.stages import data as data_stage

    folder.mkdir(parents=True)
    sources = {"base": base}
    for key, rows, seed in (("datasets.0", count, 1), ("validation.0", held_out, 2)):
        sources[key] = make_rows(folder.parent / f"{folder.name}-{seed}.jsonl", rows, seed)
    kept = dict.fromkeys(("duplicates", "leakage", "near_duplicates"), "keep")
    params = data_stage.Params(
        datasets=[{"path": "a.jsonl", "type": "classification"}],  # type: ignore[list-item]
        validation=[{"path": "b.jsonl", "type": "classification"}],  # type: ignore[list-item]
        sequence_len=64,
        objective="classification",
        checks=kept,  # type: ignore[arg-type]
    )
    data_stage.run(params, Inputs(sources=sources), Work(folder, folder))
    return folder


def train_classifier(place: Path, family: str, **settings: Any) -> tuple[Path, Path, Path]:
    """(base, adapter, dataset) of a family, trained for some seconds."""
    from tests.training.made import run_training

    base = make_base(place / "base", family)
    dataset = make_dataset(place / "data", base)
    wanted = {
        "objective": "classification", "adapter": "lora", "max_steps": STEPS.get(family, 80), "learning_rate": 4e-3,
        "micro_batch_size": 16, "lora_r": 8, "lora_alpha": 16,
    }  # fmt: skip
    run_training(place / "adapter", base, dataset, **{**wanted, **settings})
    return base, place / "adapter", dataset
