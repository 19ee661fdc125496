"""A synthetic model of real shape, written shard by shard: random bfloat16 weights, a tokenizer of full size, a LoRA.

    python tools/bench/synthetic.py FOLDER [--shape q06]

writes FOLDER/base and FOLDER/adapter. Used by the other benchmarks; nothing in it means anything but its sizes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-form model. All weight widths are those of the real model it stands for."""

    vocab: int
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool = True


SHAPES = {
    "tiny": Shape(4096, 256, 2, 512, 4, 2, 64),
    "q06": Shape(151_936, 1024, 28, 3072, 16, 8, 128),  # Qwen3-0.6B
    "q17": Shape(151_936, 2048, 28, 6144, 16, 8, 128),  # Qwen3-1.7B
    "q4": Shape(151_936, 2560, 36, 9728, 32, 8, 128),  # Qwen3-4B
    "q8": Shape(151_936, 4096, 36, 12_288, 32, 8, 128, tied=False),  # Qwen3-8B
}
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_base(folder: Path, shape: Shape, *, seed: int | None = 0) -> Path:
    """Write config, tokenizer and weights into `folder`. seed: None for zeros, as a hole in the file."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder, shape.vocab)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocab,
        "dtype": "bfloat16",
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids["<|im_end|>"]}))
    _write_safetensors(folder / "model.safetensors", dict(_base_tensors(shape)), "BF16", seed)
    return folder


def make_lora(folder: Path, shape: Shape, *, rank: int = 16, seed: int = 1) -> Path:
    """Write a peft LoRA adapter of all seven projections."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(_PROJECTIONS),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    tensors: dict[str, tuple[int, ...]] = {}
    for name, size in _base_tensors(shape):
        if any(name.endswith(f"{part}.weight") for part in _PROJECTIONS):
            module = "base_model.model." + name.removesuffix(".weight")
            tensors[f"{module}.lora_A.weight"] = (rank, size[1])
            tensors[f"{module}.lora_B.weight"] = (size[0], rank)
    _write_safetensors(folder / "adapter_model.safetensors", tensors, "F32", seed)
    return folder


def quantized_training(adapter: Path, shape: Shape) -> None:
    """Add a training.json that says the projections were held in NF4, as edgeft's training writes it."""
    names = [name for name, _ in _base_tensors(shape) if any(name.endswith(f"{p}.weight") for p in _PROJECTIONS)]
    table = {"quant_type": "nf4", "double_quant": True, "blocksize": 64, "dtype": "float32", "weights": names}
    (adapter / "training.json").write_text(json.dumps({"quantization": table}))


def _base_tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab, hidden)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{at}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        yield f"{at}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}.mlp.up_proj.weight", (inner, hidden)
        yield f"{at}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocab, hidden)


def _write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], dtype: str, seed: int | None) -> None:
    size = {"BF16": 2, "F32": 4}[dtype]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        end = at + int(np.prod(shape)) * size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    generator = np.random.default_rng(seed)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        if seed is None:
            stream.truncate(8 + len(raw) + at)
            return
        for shape in tensors.values():
            _write_random(stream, generator, shape, dtype)


def _write_random(stream: object, generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> None:
    left = int(np.prod(shape))
    while left:
        count = min(left, 1 << 22)
        values = generator.standard_normal(count, dtype=np.float32)
        values = values * 0.02 if len(shape) > 1 else 1 + values * 0.1
        # bfloat16 is the upper half of float32; the lowest bits do not matter here, so they are cut off.
        raw = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else values.astype(np.float32)
        stream.write(raw.tobytes())  # type: ignore[attr-defined]
        left -= count


def _write_tokenizer(folder: Path, size: int) -> dict[str, int]:
    """A byte-level BPE of nearly `size` tokens: all bytes, then all pairs of bytes, then pairs with a third."""
    letters = _byte_letters()
    merges = itertools.chain(
        itertools.product(letters, letters), ((a + b, c) for a, b, c in itertools.product(letters, letters, letters))
    )
    chosen = list(itertools.islice(merges, size - 256 - 293 if size > 10_000 else size - 256 - 32))
    tokens = [*letters, *(left + right for left, right in chosen)]
    special = {text: len(tokens) + number for number, text in enumerate(_SPECIAL)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True,
            }
            for text, number in special.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate(tokens)},
            "merges": [list(pair) for pair in chosen],
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    return special


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="q06")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    make_base(given.folder / "base", shape)
    make_lora(given.folder / "adapter", shape)


if __name__ == "__main__":
    main()
