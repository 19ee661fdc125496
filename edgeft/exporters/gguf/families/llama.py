"""Llama 1 to 3.x as llama.cpp's `llama`: rows of q and k in pairs, rope scaling of every kind, biases.

Sources: the tensor names and keys in the gguf package's constants; rope scaling as Transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Change, Put
from edgeft.exporters.gguf.families.rearranged import Interleaved
from edgeft.weights import Deferred, Weights

ARCH = "llama"
BIASED = frozenset({*decoder.ATTENTION.values(), *decoder.GATED.values()})
NAMES = decoder.Names(decoder.PARTS, decoder.TOP, biased=BIASED)


def check(config: Mapping[str, Any]) -> None:
    decoder.check_sizes(config, "rms_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    rope.check_rope(config, rope.WITH_FACTORS)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    put_like_llama(ARCH, decoder.with_head_dim(config), put)


def put_like_llama(arch: str, config: Mapping[str, Any], put: Put) -> None:
    """The keys of the families that llama.cpp's converter treats as Llamas."""
    decoder.put_sizes(arch, config, put)
    rope.put_rope(arch, rope.rope_of(config), put)
    decoder.put_rms(arch, config, put)
    decoder.put_head_dim(arch, config, put)
    put(f"{arch}.vocab_size", int(config["vocab_size"]), "uint32")
    put(f"{arch}.rope.dimension_count", decoder.head_dim(config), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return {**rope.factors(config), **decoder.named(config, weights, NAMES, paired(config))}


def paired(config: Mapping[str, Any]) -> Change:
    """Rows of q and k in the order of llama.cpp's rotation of neighbours."""

    def change(part: str, tensor: Deferred) -> Deferred:
        if part not in ("attn_q", "attn_k"):
            return tensor
        heads = int(config["num_attention_heads"]) if part == "attn_q" else decoder.kv_heads(config)
        if tensor.n_rows % heads or tensor.n_rows // heads % 2:
            raise ModelError(f"{tensor.name!r} has {tensor.n_rows} rows, which {heads} heads do not divide")
        return Interleaved(tensor, tensor.n_rows // heads)

    return change
