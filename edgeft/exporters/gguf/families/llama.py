"""Llama 1 to 3.x as llama.cpp's `llama`: names, hyper-parameters, the order of rotated rows, rope scaling.

Sources: the tensor names and keys in the gguf package's constants; rope scaling as Transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.weights import Deferred, Weights

if TYPE_CHECKING:
    import torch

ARCH = "llama"
Put = Callable[[str, Any, str], None]

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_SKIPPED = re.compile(r"\.rotary_emb\.inv_freq$")
_NEEDED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
_ROPE_KINDS = ("default", "linear", "llama3", "yarn")


def check(config: Mapping[str, Any]) -> None:
    for key in _NEEDED:
        if not isinstance(config.get(key), int | float) or isinstance(config.get(key), bool):
            raise ModelError(f"config.json has no {key}")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ModelError(f"llama.cpp's llama computes silu, this model's hidden_act is {config['hidden_act']!r}")
    kind = _rope(config)["rope_type"]
    if kind not in _ROPE_KINDS:
        raise ModelError(
            f"edgeft cannot write rope scaling of the kind {kind!r}", do=f"known: {', '.join(_ROPE_KINDS)}"
        )
    if _head_dim(config) % 2:
        raise ModelError(f"the head size {_head_dim(config)} is odd, rotary embeddings need pairs")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    heads = int(config["num_attention_heads"])
    rope = _rope(config)
    put(f"{ARCH}.block_count", int(config["num_hidden_layers"]), "uint32")
    put(f"{ARCH}.context_length", int(config["max_position_embeddings"]), "uint32")
    put(f"{ARCH}.embedding_length", int(config["hidden_size"]), "uint32")
    put(f"{ARCH}.feed_forward_length", int(config["intermediate_size"]), "uint32")
    put(f"{ARCH}.attention.head_count", heads, "uint32")
    put(f"{ARCH}.attention.head_count_kv", _kv_heads(config), "uint32")
    _rope_metadata(rope, put)
    put(f"{ARCH}.rope.freq_base", float(rope["rope_theta"]), "float32")
    put(f"{ARCH}.attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]), "float32")
    if config.get("head_dim") is not None:
        put(f"{ARCH}.attention.key_length", int(config["head_dim"]), "uint32")
        put(f"{ARCH}.attention.value_length", int(config["head_dim"]), "uint32")
    put(f"{ARCH}.vocab_size", int(config["vocab_size"]), "uint32")
    put(f"{ARCH}.rope.dimension_count", _head_dim(config), "uint32")


def _rope_metadata(rope: Mapping[str, Any], put: Put) -> None:
    kind = rope["rope_type"]
    if kind not in ("linear", "yarn"):
        return  # llama3's factors are a tensor of their own
    put(f"{ARCH}.rope.scaling.type", kind, "string")
    put(f"{ARCH}.rope.scaling.factor", float(rope["factor"]), "float32")
    if kind == "yarn":
        put(f"{ARCH}.rope.scaling.original_context_length", int(rope["original_max_position_embeddings"]), "uint32")
        for ours, theirs in (
            ("attention_factor", "attn_factor"),
            ("beta_fast", "beta_fast"),
            ("beta_slow", "beta_slow"),
        ):
            if rope.get(ours) is not None:
                put(f"{ARCH}.rope.scaling.yarn_{theirs}", float(rope[ours]), "float32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    found: dict[str, Deferred] = {}
    if _rope(config)["rope_type"] == "llama3":
        found["rope_freqs.weight"] = RopeFactors(config)
    for name, tensor in weights.items():
        if _SKIPPED.search(name) or (name == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        found[_name(name)] = _arranged(name, tensor, config)
    _check_complete(config, found)
    return found


def _name(name: str) -> str:
    match = _LAYER.match(name)
    if match and match[2] in _PARTS:
        return f"blk.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    if name not in _TOP:
        raise ModelError(f"edgeft does not know the tensor {name!r} of a Llama model")
    return _TOP[name]


def _arranged(name: str, tensor: Deferred, config: Mapping[str, Any]) -> Deferred:
    part = name.rpartition(".")[0]
    if part.endswith((".q_proj", ".k_proj")):
        heads = int(config["num_attention_heads"]) if part.endswith(".q_proj") else _kv_heads(config)
        if tensor.n_rows % heads or tensor.n_rows // heads % 2:
            raise ModelError(f"{name!r} has {tensor.n_rows} rows, which {heads} heads do not divide")
        return Interleaved(tensor, tensor.n_rows // heads)
    return tensor


def _check_complete(config: Mapping[str, Any], found: Mapping[str, Deferred]) -> None:
    """A file with a tensor missing loads nowhere; say so now."""
    layers = range(int(config["num_hidden_layers"]))
    wanted = [
        "token_embd.weight",
        "output_norm.weight",
        *(f"blk.{n}.{part}.weight" for n in layers for part in _PARTS.values()),
    ]
    if not config.get("tie_word_embeddings"):
        wanted.append("output.weight")
    absent = [name for name in wanted if name not in found]
    if absent:
        raise ModelError(f"the checkpoint has no tensor for {absent[0]!r} ({len(absent)} missing)")
    rows = found["token_embd.weight"].n_rows
    if rows != int(config["vocab_size"]):
        raise ModelError(f"the embedding has {rows} rows, config.json's vocab_size is {config['vocab_size']}")


def _kv_heads(config: Mapping[str, Any]) -> int:
    found = config.get("num_key_value_heads")
    return int(config["num_attention_heads"] if found is None else found)


def _head_dim(config: Mapping[str, Any]) -> int:
    found = config.get("head_dim")
    return int(found) if found is not None else int(config["hidden_size"]) // int(config["num_attention_heads"])


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings, of `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before it)."""
    rope: dict[str, Any] = {"rope_theta": config.get("rope_theta") or 10000.0}
    rope.update(config.get("rope_scaling") or {})
    rope.update(config.get("rope_parameters") or {})
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    return rope


class Interleaved(Deferred):
    """Rows of each head reordered from two halves (Transformers' rotation) to pairs (llama.cpp's).

    Row h*n/2 + i of a head of n rows goes to row 2*i + h."""

    def __init__(self, base: Deferred, head_rows: int) -> None:
        self.base, self.head_rows = base, head_rows
        self.name, self.shape, self.dtype = base.name, base.shape, base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        unit = self.head_rows
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        first, last = start - start % unit, stop + -stop % unit  # whole heads
        at = first
        for chunk in self.base.chunks(max(unit, (rows or self.rows_for()) // unit * unit), start=first, stop=last):
            heads = chunk.reshape(-1, 2, unit // 2, *self.shape[1:]).transpose(1, 2).reshape(chunk.shape)
            yield heads[max(0, start - at) : min(chunk.shape[0], stop - at)]
            at += chunk.shape[0]


class RopeFactors(Deferred):
    """Llama 3's rotary factors, one per pair of dimensions: by what each frequency is divided."""

    name, dtype = "rope_freqs.weight", "F32"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._rope, self._dim = _rope(config), _head_dim(config)
        self.shape = (self._dim // 2,)

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        exponents = torch.arange(0, self._dim, 2, dtype=torch.float32) / self._dim
        frequencies = 1.0 / (float(self._rope["rope_theta"]) ** exponents)
        factors = [self._factor(2 * math.pi / frequency) for frequency in frequencies]
        yield torch.tensor(factors, dtype=torch.float32)[start:stop]

    def _factor(self, wavelength: Any) -> Any:
        rope = self._rope
        factor, low, high = (float(rope.get(key, default)) for key, default in _LLAMA3)
        old = float(rope.get("original_max_position_embeddings", 8192))
        if wavelength < old / high:
            return 1.0
        if wavelength > old / low:
            return factor
        smooth = (old / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)


_LLAMA3 = (("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0))
