"""LFM2 (dense) as llama.cpp's `lfm2`: short convolutions, and attention with norms of q and k in some layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Flat
from edgeft.weights import Deferred, Weights

ARCH = "lfm2"
ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
}
CONVOLUTION = {
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
}
NAMES = decoder.Names(
    {
        "operator_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        "feed_forward.w1": "ffn_gate",
        "feed_forward.w2": "ffn_down",
        "feed_forward.w3": "ffn_up",
        **ATTENTION,
        **CONVOLUTION,
    },
    {"model.embed_tokens": "token_embd", "model.embedding_norm": "token_embd_norm", "lm_head": "output"},
    biased=frozenset(),
    optional=frozenset({*ATTENTION.values(), *CONVOLUTION.values()}),  # by the kind of layer, see `tensors`
)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    found = decoder.settings(
        config,
        num_key_value_heads=8,
        norm_eps=1e-5,
        conv_L_cache=3,
        block_multiple_of=256,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=True,
        tie_word_embeddings=True,
        default_theta=1_000_000.0,
    )
    return {  # the last two by the names of the first configs
        **found,
        "intermediate_size": config.get("block_ff_dim") or config.get("intermediate_size"),
        "tie_word_embeddings": config.get("tie_embedding", found["tie_word_embeddings"]),
    }


def _attends(config: Mapping[str, Any]) -> list[bool]:
    """Which layers attend; the others convolve."""
    layers = int(config["num_hidden_layers"])
    chosen = config.get("full_attn_idxs")
    numbers = range(layers) if chosen is None else chosen
    kinds = config.get("layer_types") or ["full_attention" if n in numbers else "conv" for n in range(layers)]
    decoder.refuse(
        len(kinds) != layers or not set(kinds) <= {"conv", "full_attention"},
        f"config.json's layer_types are not the {layers} layers' kinds",
    )
    return [kind == "full_attention" for kind in kinds]


def _mlp_width(config: Mapping[str, Any]) -> int:
    """Inner width of the MLP: of the config, or two thirds of it, rounded up."""
    width = int(config["intermediate_size"])
    if not config["block_auto_adjust_ff_dim"]:
        return width
    multiple = int(config["block_multiple_of"])
    width = int(config["block_ffn_dim_multiplier"] * int(2 * width / 3))
    return -(-width // multiple) * multiple


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "norm_eps", "conv_L_cache", "block_multiple_of", "block_ffn_dim_multiplier")
    decoder.check_heads(config, ARCH)
    decoder.refuse(config.get("conv_bias"), "llama.cpp's lfm2 has no biases of the convolution")
    rope.check_rope(config, rope.SCALED)
    _attends(config)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    keys = [int(config["num_key_value_heads"]) if attends else 0 for attends in _attends(config)]
    put(f"{ARCH}.block_count", int(config["num_hidden_layers"]), "uint32")
    put(f"{ARCH}.context_length", int(config["max_position_embeddings"]), "uint32")
    put(f"{ARCH}.embedding_length", int(config["hidden_size"]), "uint32")
    put(f"{ARCH}.feed_forward_length", _mlp_width(config), "uint32")
    put(f"{ARCH}.attention.head_count", int(config["num_attention_heads"]), "uint32")
    put(f"{ARCH}.attention.head_count_kv", keys, "array")
    rope.put_rope(ARCH, rope.rope_of(config), put)
    put(f"{ARCH}.attention.layer_norm_rms_epsilon", float(config["norm_eps"]), "float32")
    put(f"{ARCH}.vocab_size", int(config["vocab_size"]), "uint32")
    put(f"{ARCH}.shortconv.l_cache", int(config["conv_L_cache"]), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    found = decoder.named(
        config, weights, NAMES, lambda part, tensor: Flat(tensor) if part == "shortconv.conv" else tensor
    )
    for layer, attends in enumerate(_attends(config)):
        wanted = [f"blk.{layer}.{part}.weight" for part in (ATTENTION if attends else CONVOLUTION).values()]
        absent = [name for name in wanted if name not in found]
        if absent:
            raise ModelError(f"the checkpoint has no tensor for {absent[0]!r} ({len(absent)} missing)")
    width = found["blk.0.ffn_gate.weight"].n_rows
    decoder.refuse(width != _mlp_width(config), f"the MLP has {width} rows, by config.json it has {_mlp_width(config)}")
    return found
