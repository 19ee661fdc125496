"""What families of decoders share: sizes of a config, their keys, names of tensors, and what must be there.

A family module says what is its own and calls these. Sources: names and keys in the gguf package's constants; defaults
as in Transformers' configuration classes, which fill them in when config.json leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeft.errors import ModelError
from edgeft.weights import Deferred, Weights

Put = Callable[[str, Any, str], None]
Change = Callable[[str, Deferred], Deferred]  # llama.cpp's part ("attn_q", "output_norm") and its tensor

TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
QK_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
PARTS = {**ATTENTION, **GATED, **NORMS}

QKV = frozenset({"attn_q", "attn_k", "attn_v"})
_SKIPPED = re.compile(r"\.rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")  # buffers that old checkpoints carry
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Names:
    """How a family calls its tensors. `parts` and `top`: module -> llama.cpp's part; `biased`: parts that may have a
    bias, `needs_bias` those that must; `optional`: parts that may be absent (by config, checked by the family);
    `query_rows`: how many times the heads' rows q has."""

    parts: Mapping[str, str]
    top: Mapping[str, str]
    biased: frozenset[str] = QKV
    needs_bias: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    layers: str = r"model\.layers\."
    query_rows: int = 1

    def of(self, name: str) -> tuple[str, str]:
        """llama.cpp's name of a checkpoint's tensor and its part. A `ModelError` for a tensor that is not known."""
        module, _, kind = name.rpartition(".")
        match = re.match(rf"{self.layers}(\d+)\.(.+)$", module)
        part = self.parts.get(match[2]) if match else self.top.get(module)
        allowed = kind == "weight" or (kind == "bias" and part in self.biased | self.needs_bias)
        if part is None or not allowed:
            raise ModelError(f"edgeft does not know the tensor {name!r} of a model of this family")
        return (f"blk.{match[1]}.{part}.{kind}" if match else f"{part}.{kind}"), part

    def wanted(self, layers: int, tied: bool) -> list[str]:
        """The tensors that must be there."""
        top = [part for part in self.top.values() if part not in self.optional and not (tied and part == "output")]
        inner = [part for part in self.parts.values() if part not in self.optional]
        blocks = [(f"blk.{number}.", part) for number in range(layers) for part in inner]
        return [
            f"{block}{part}.{kind}"
            for block, part in [*(("", part) for part in top), *blocks]
            for kind in ("weight", "bias")
            if kind == "weight" or part in self.needs_bias
        ]


# --- the config -----------------------------------------------------------------------------------------------------


def settings(config: Mapping[str, Any], /, **defaults: Any) -> dict[str, Any]:
    """The config with a family's defaults for what it leaves out."""
    return {**defaults, **{key: value for key, value in config.items() if value is not None or key not in defaults}}


def with_head_dim(config: Mapping[str, Any]) -> dict[str, Any]:
    """For families whose configuration class fills the head size in."""
    known = all(isinstance(config.get(key), int) for key in ("hidden_size", "num_attention_heads"))
    return settings(config, head_dim=head_dim(config)) if known else dict(config)


def kv_heads(config: Mapping[str, Any]) -> int:
    found = config.get("num_key_value_heads")
    return int(config["num_attention_heads"] if found is None else found)


def head_dim(config: Mapping[str, Any]) -> int:
    found = config.get("head_dim")
    return int(found) if found is not None else int(config["hidden_size"]) // int(config["num_attention_heads"])


def check_sizes(config: Mapping[str, Any], *more: str) -> None:
    """Refuse a config that lacks a size that its family needs."""
    for key in (*_SIZES, *more):
        if not isinstance(config.get(key), int | float) or isinstance(config.get(key), bool):
            raise ModelError(f"config.json has no {key}")


def check_activation(config: Mapping[str, Any], arch: str, *names: str, key: str = "hidden_act") -> None:
    """Refuse another activation than the one that llama.cpp's graph computes; the first name is the default."""
    if (found := config.get(key) or names[0]) not in names:
        raise ModelError(f"llama.cpp's {arch} computes {names[0]}, this model's {key} is {found!r}")


def check_heads(config: Mapping[str, Any], arch: str) -> None:
    """Refuse a head size of its own where llama.cpp's graph takes the hidden size by the heads."""
    if head_dim(config) * int(config["num_attention_heads"]) != int(config["hidden_size"]):
        raise ModelError(f"llama.cpp's {arch} has heads of hidden_size / num_attention_heads, this model's differ")


def refuse(wrong: Any, what: str) -> None:
    """Raise a `ModelError` that says what llama.cpp cannot express when `wrong` is true."""
    if wrong:
        raise ModelError(what)


def sliding_layers(config: Mapping[str, Any], period: int | None = None) -> list[bool]:
    """Which layers attend to a window only: by `layer_types`, else all but every `period`-th."""
    layers = int(config["num_hidden_layers"])
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        refuse(
            len(kinds) != layers or not set(kinds) <= {"sliding_attention", "full_attention"},
            f"config.json's layer_types are not the {layers} layers' kinds of attention",
        )
        return [kind == "sliding_attention" for kind in kinds]
    return [period is not None and (number + 1) % period != 0 for number in range(layers)]


# --- its keys -------------------------------------------------------------------------------------------------------


def put_sizes(arch: str, config: Mapping[str, Any], put: Put) -> None:
    """Layers, context, widths and heads."""
    put(f"{arch}.block_count", int(config["num_hidden_layers"]), "uint32")
    put(f"{arch}.context_length", int(config["max_position_embeddings"]), "uint32")
    put(f"{arch}.embedding_length", int(config["hidden_size"]), "uint32")
    put(f"{arch}.feed_forward_length", int(config["intermediate_size"]), "uint32")
    put(f"{arch}.attention.head_count", int(config["num_attention_heads"]), "uint32")
    put(f"{arch}.attention.head_count_kv", kv_heads(config), "uint32")


def put_rms(arch: str, config: Mapping[str, Any], put: Put) -> None:
    put(f"{arch}.attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]), "float32")


def put_head_dim(arch: str, config: Mapping[str, Any], put: Put) -> None:
    """The head size, where the config gives one."""
    if config.get("head_dim") is not None:
        put(f"{arch}.attention.key_length", int(config["head_dim"]), "uint32")
        put(f"{arch}.attention.value_length", int(config["head_dim"]), "uint32")


def put_window(arch: str, size: Any, sliding: list[bool] | None, put: Put) -> None:
    """The sliding window; `sliding` where the layers that have one are not those that llama.cpp assumes."""
    put(f"{arch}.attention.sliding_window", int(size), "uint32")
    if sliding is not None:
        put(f"{arch}.attention.sliding_window_pattern", sliding, "array")


# --- its tensors ----------------------------------------------------------------------------------------------------


def named(
    config: Mapping[str, Any], weights: Weights, names: Names, change: Change = lambda part, tensor: tensor
) -> dict[str, Deferred]:
    """GGUF name -> tensor, in the checkpoint's order. A `ModelError` for a tensor that is unknown, missing, of another
    shape than config.json says."""
    tied = bool(config.get("tie_word_embeddings"))
    found: dict[str, Deferred] = {}
    for name, tensor in weights.items():
        if _SKIPPED.search(name) or (tied and name == "lm_head.weight"):
            continue
        target, part = names.of(name)
        if target in found:
            raise ModelError(f"the checkpoint has two tensors for {target!r}, one of them {name!r}")
        found[target] = change(part, tensor)
    absent = [name for name in names.wanted(int(config["num_hidden_layers"]), tied) if name not in found]
    if absent:  # a file with a tensor missing loads nowhere; say so now
        raise ModelError(f"the checkpoint has no tensor for {absent[0]!r} ({len(absent)} missing)")
    _check_shapes(config, found, names.query_rows)
    return found


def _check_shapes(config: Mapping[str, Any], found: Mapping[str, Deferred], query_rows: int) -> None:
    rows = found["token_embd.weight"].n_rows
    if rows != int(config["vocab_size"]):
        raise ModelError(f"the embedding has {rows} rows, config.json's vocab_size is {config['vocab_size']}")
    hidden, size = int(config["hidden_size"]), head_dim(config)
    queries, keys = int(config["num_attention_heads"]) * size, kv_heads(config) * size
    shapes = {
        "attn_q": (queries * query_rows, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
    }
    for name, tensor in found.items():
        part = name.split(".")[-2]
        if name.endswith(".weight") and part in shapes and tensor.shape != shapes[part]:
            raise ModelError(f"{tensor.name!r} has the shape {tensor.shape}, by config.json it has {shapes[part]}")
