"""StableLM 2 and 3B as llama.cpp's `stablelm`: layer norms with biases, a part of each head rotates, norms per head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Stacked
from edgeft.weights import Deferred, Weights

ARCH = "stablelm"
PER_HEAD = {"self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm"}
_HEAD = re.compile(r"^(.+\.[qk]_layernorm)\.norms\.(\d+)\.weight$")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, layer_norm_eps=1e-5, partial_rotary_factor=0.25)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "layer_norm_eps")
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.check_heads(config, ARCH)
    decoder.refuse(config.get("tie_word_embeddings"), "llama.cpp's stablelm needs an output layer of its own")
    rope.check_rope(config, ("default",), partial=True)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    rotation = rope.rope_of(config)
    decoder.put_sizes(ARCH, config, put)
    put(
        f"{ARCH}.rope.dimension_count",
        int(float(rotation["partial_rotary_factor"]) * decoder.head_dim(config)),
        "uint32",
    )
    if rotation["rope_theta"] != 10000.0:
        put(f"{ARCH}.rope.freq_base", float(rotation["rope_theta"]), "float32")
    put(f"{ARCH}.use_parallel_residual", bool(config.get("use_parallel_residual", False)), "bool")
    put(f"{ARCH}.attention.layer_norm_epsilon", float(config["layer_norm_eps"]), "float32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    parts = dict(decoder.PARTS)
    norms = frozenset({"attn_norm", "ffn_norm", "output_norm"})
    if config.get("use_parallel_residual"):
        del parts["post_attention_layernorm"]
    if config.get("qk_layernorm"):
        parts |= PER_HEAD
    needs_bias = norms | decoder.QKV if config.get("use_qkv_bias") else norms
    names = decoder.Names(parts, decoder.TOP, biased=frozenset(), needs_bias=needs_bias)
    return decoder.named(config, _with_stacked_norms(config, weights), names)


def _with_stacked_norms(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    """The norms of q and k, one vector for each head, as one matrix of all heads."""
    found: dict[str, Deferred] = {}
    single: dict[str, dict[int, Deferred]] = {}
    for name, tensor in weights.items():
        match = _HEAD.match(name)
        if not match:
            found[name] = tensor
            continue
        queries = match[1].endswith(".q_layernorm")
        heads = int(config["num_attention_heads"]) if queries else decoder.kv_heads(config)
        vectors = single.setdefault(match[1], {})
        vectors[int(match[2])] = tensor
        if len(vectors) == heads:
            if set(vectors) != set(range(heads)):
                raise ModelError(f"the norms of {match[1]!r} are not those of {heads} heads")
            found[f"{match[1]}.weight"] = Stacked(match[1], [vectors[number] for number in range(heads)])
    return found
