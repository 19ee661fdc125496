"""The shape of a model, from its config.json or a table, without weights: tensors, parameter counts, file sizes.

Used by `edgeft plan` (through `edgeft.models.needs`), offline and without torch. Covers the decoder families whose
layers are those of Llama: q/k/v/o projections (or one for q, k and v) and a gated MLP. Sources: the families' modeling
files in transformers (names, shapes) and `llama_tensor_get_type` in llama.cpp (which tensors get more bits in a mix).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.models import base, mixes

_BOTH_SIDES = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")
# model_type -> what differs from Llama: biases of q/k/v, norms of q and k (over each head or the whole row), which
# other norms a layer has, matrices for q, k, v and for gate and up in one; and what its config class fills in.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "smollm3": {},
    "granite": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
    "ernie4_5": {},
    "gemma": {},
    "gemma2": {"norms": _BOTH_SIDES},
    "gemma3_text": {"norms": _BOTH_SIDES, "qk_norm": True},
    "exaone4": {"norms": _AFTER, "qk_norm": True},
    "olmo2": {"norms": _AFTER, "row_norm": True},
    "olmo3": {"norms": _AFTER, "row_norm": True},
    "phi3": {"fused": True},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 128},
    "ernie4_5": {"head_dim": 128, "tie_word_embeddings": True},
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 256, "tie_word_embeddings": True},
    "smollm3": {"tie_word_embeddings": True},
}
# The bases that edgeft's own recipes name, from their config.json on the hub, for plans made offline.
_COMMON = {"model_type": "llama", "tie_word_embeddings": True, "torch_dtype": "bfloat16"}


def _llama(
    hidden: int, layers: int, heads: int, kv: int, mlp: int, vocab: int, context: int, **more: Any
) -> dict[str, Any]:
    return _COMMON | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **more,
    }


KNOWN: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": _llama(576, 30, 9, 3, 1536, 49152, 8192),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _llama(960, 32, 15, 5, 2560, 49152, 8192),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _llama(2048, 24, 32, 32, 8192, 49152, 8192),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _llama(2048, 22, 32, 4, 5632, 32000, 2048, tie_word_embeddings=False),
    "meta-llama/Llama-3.2-1B-Instruct": _llama(2048, 16, 32, 8, 8192, 128256, 131072, head_dim=64),
    "meta-llama/Llama-3.2-3B-Instruct": _llama(3072, 28, 24, 8, 8192, 128256, 131072, head_dim=128),
    "Qwen/Qwen2.5-0.5B-Instruct": _llama(896, 24, 14, 2, 4864, 151936, 32768, model_type="qwen2"),
    "Qwen/Qwen2.5-1.5B-Instruct": _llama(1536, 28, 12, 2, 8960, 151936, 32768, model_type="qwen2"),
    "Qwen/Qwen2.5-3B-Instruct": _llama(2048, 36, 16, 2, 11008, 151936, 32768, model_type="qwen2"),
    "Qwen/Qwen3-0.6B": _llama(1024, 28, 16, 8, 3072, 151936, 40960, model_type="qwen3", head_dim=128),
}
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Tensor:
    """One parameter: `rows` x `columns` (rows 1 for vectors). `role` is its name's last part but "weight": q_proj, …"""

    name: str
    rows: int
    columns: int
    role: str
    layer: int | None = None
    vector: bool = False

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @property
    def linear(self) -> bool:
        """A linear layer inside a block: quantized by QLoRA, adapted by `all-linear`."""
        return self.layer is not None and not self.vector


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. `dtype_bytes` is that of the checkpoint."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    context: int
    tied: bool
    dtype_bytes: int = 2
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    row_norm: bool = False
    fused: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")

    def tensors(self) -> list[Tensor]:
        """Every parameter of the checkpoint; tied embeddings once."""
        return list(self._tensors())

    def _tensors(self) -> Iterator[Tensor]:
        yield Tensor("model.embed_tokens.weight", self.vocab, self.hidden, "embed_tokens")
        for layer in range(self.layers):
            yield from self._layer(layer)
        yield Tensor("model.norm.weight", 1, self.hidden, "norm", vector=True)
        if not self.tied:
            yield Tensor("lm_head.weight", self.vocab, self.hidden, "lm_head")

    def _layer(self, layer: int) -> Iterator[Tensor]:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        parts = {
            "qkv_proj": queries + 2 * keys, "q_proj": queries, "k_proj": keys, "v_proj": keys,
            "gate_up_proj": 2 * self.mlp, "gate_proj": self.mlp, "up_proj": self.mlp,
        }  # fmt: skip
        inputs = ("qkv_proj",) if self.fused else ("q_proj", "k_proj", "v_proj")
        widths = ("gate_up_proj",) if self.fused else ("gate_proj", "up_proj")
        matrices = (
            *((attention, role, parts[role], self.hidden, self.qkv_bias) for role in inputs),
            (attention, "o_proj", self.hidden, queries, self.o_bias),
            *((mlp, role, parts[role], self.hidden, self.mlp_bias) for role in widths),
            (mlp, "down_proj", self.hidden, self.mlp, self.mlp_bias),
        )
        for block, role, rows, columns, bias in matrices:
            yield Tensor(f"{block}.{role}.weight", rows, columns, role, layer)
            if bias:
                yield Tensor(f"{block}.{role}.bias", 1, rows, role, layer, vector=True)
        if self.qk_norm or self.row_norm:
            for role, width in (("q_norm", queries), ("k_norm", keys)):
                size = width if self.row_norm else self.head_dim
                yield Tensor(f"{attention}.{role}.weight", 1, size, role, layer, vector=True)
        for role in self.norms:
            yield Tensor(f"model.layers.{layer}.{role}.weight", 1, self.hidden, role, layer, vector=True)

    @property
    def parameters(self) -> int:
        """All parameters, tied embeddings once."""
        return sum(tensor.count for tensor in self.tensors())

    @property
    def linear_parameters(self) -> int:
        """Those in the blocks' linear layers."""
        return sum(tensor.count for tensor in self.tensors() if tensor.linear)


def from_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json (as a mapping) describes. A `ModelError` for a family that is not known or a config
    that lacks a size."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ModelError(f"the sizes of model type {family!r} are not known", do=f"known: {', '.join(FAMILIES)}")
    config = {**_DEFAULTS.get(str(family), {}), **{key: value for key, value in config.items() if value is not None}}
    try:
        heads = _size(config, "num_attention_heads")
        hidden = _size(config, "hidden_size")
        more = FAMILIES[family] | {
            "o_bias": bool(config.get("attention_bias")),
            "mlp_bias": bool(config.get("mlp_bias")),
        }
        more["qkv_bias"] = more.get("qkv_bias", False) or bool(config.get("attention_bias"))
        return Shape(
            family=family,
            hidden=hidden,
            layers=_size(config, "num_hidden_layers"),
            heads=heads,
            kv_heads=_size(config, "num_key_value_heads", heads),
            head_dim=_size(config, "head_dim", hidden // heads),
            mlp=_size(config, "intermediate_size"),
            vocab=_size(config, "vocab_size"),
            context=_size(config, "max_position_embeddings", 2048),
            tied=bool(config.get("tie_word_embeddings", False)),
            dtype_bytes=_DTYPE_BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4),
            **more,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's config.json does not give its sizes: {error}") from None


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ValueError(f"{key} is {value!r}")
    return value


def shape_of(ref: str, *, relative_to: Path | None = None) -> Shape | None:
    """The shape of a base model: from its folder when it is there, else from the table; None when neither knows it, or
    it is of another family. No network. A `ModelError` for a folder that is not there or a config that is broken."""
    found = base.find(ref, relative_to=relative_to)
    if found.folder is None:
        name = ref.partition("@")[0]
        return from_config(KNOWN[name]) if name in KNOWN else None
    path = found.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("the base model has no config.json", where=found.folder) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"config.json cannot be read: {error}", where=path) from None
    if not isinstance(config, dict):
        raise ModelError("config.json is not a JSON object", where=path)
    return from_config(config) if config.get("model_type") in FAMILIES else None


def checkpoint_bytes(shape: Shape) -> int:
    """Bytes of the tensors of a (merged) checkpoint in the base's dtype; safetensors adds a header of some kB."""
    return shape.parameters * shape.dtype_bytes


def adapter_parameters(
    shape: Shape, rank: int, targets: str | list[str] = "all-linear", layers: list[int] | None = None
) -> int:
    """Parameters of a LoRA adapter: rank x (inputs + outputs) per adapted layer. `layers`: [first, last], as the
    recipe's `lora_layers`."""
    chosen = (tensor for tensor in shape.tensors() if targeted(shape, tensor, targets, layers))
    return sum(rank * (tensor.rows + tensor.columns) for tensor in chosen)


def targeted(shape: Shape, tensor: Tensor, targets: str | list[str], layers: list[int] | None = None) -> bool:
    """Whether a tensor gets an adapter by the recipe's `lora_target_modules` and `lora_layers`."""
    if not tensor.linear or tensor.layer is None:
        return False
    if layers is not None:
        first, last = (value + shape.layers if value < 0 else value for value in layers)
        if not first <= tensor.layer <= last:
            return False
    if isinstance(targets, str):
        part = {"attention": ".self_attn.", "mlp": ".mlp."}.get(targets, "")
        return part in tensor.name
    module = tensor.name.removesuffix(".weight")
    return any(module == name or module.endswith(f".{name}") for name in targets)


GGUF_EXPORTS = tuple(f"gguf-{name}" for name in mixes.USUAL)
_ALIGNMENT = 32


def gguf_bytes(shape: Shape, export: str, *, imatrix: bool = False) -> int:
    """Bytes of a GGUF file's tensor data, padding included, exactly; the header with the vocabulary comes on top.
    `imatrix`: quantized by an importance matrix (types that need one always are)."""
    total = 0
    for tensor in shape.tensors():
        size, weights = mixes.BLOCKS[gguf_type(shape, tensor, export, imatrix=imatrix)]
        total += math.ceil(tensor.count * size // weights / _ALIGNMENT) * _ALIGNMENT
    return total


def gguf_type(shape: Shape, tensor: Tensor, export: str, *, imatrix: bool = False) -> str:
    """The ggml type of a tensor, as llama.cpp chooses it for a model of one expert: vectors stay float32, the rest is
    `edgeft.models.mixes`."""
    if tensor.vector:
        return "F32"
    name = export.removeprefix("gguf-")
    role = {"embed_tokens": "output" if shape.tied else "embeddings", "lm_head": "output"}.get(tensor.role, tensor.role)
    grouped = shape.heads // shape.kv_heads >= 4
    place = mixes.Place(role, tensor.columns, tensor.layer or 0, shape.layers, grouped)
    return mixes.type_of(name, place, imatrix=imatrix or name in mixes.NEED_IMATRIX)
