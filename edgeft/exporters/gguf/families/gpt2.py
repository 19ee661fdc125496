"""GPT-2 as llama.cpp's `gpt2`: learned positions, matrices stored input by output, q, k and v in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Transposed
from edgeft.weights import Deferred, Weights

ARCH = "gpt2"
_TOP = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
BIASED = frozenset({*PARTS.values(), "output_norm"})
NAMES = decoder.Names(
    PARTS, {**_TOP, "lm_head": "output"}, needs_bias=BIASED, biased=frozenset(), layers=r"h\."
)  # the names below "transformer."
_TURNED = frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"})


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config under the names that other decoders use."""
    found = decoder.settings(config, layer_norm_epsilon=1e-5, tie_word_embeddings=True)
    positions = config.get("n_positions") or config.get("n_ctx")
    names = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
    width = config.get("n_inner") or (4 * config["n_embd"] if isinstance(config.get("n_embd"), int) else None)
    return {
        **found,
        **{theirs: config.get(ours) for theirs, ours in names.items()},
        "max_position_embeddings": positions,
        "intermediate_size": width,
        "num_key_value_heads": None,
        "head_dim": None,
    }


def check(config: Mapping[str, Any]) -> None:
    decoder.check_sizes(_settings(config), "layer_norm_epsilon")
    decoder.check_activation(config, ARCH, "gelu_new", "gelu_pytorch_tanh", key="activation_function")
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        decoder.refuse(config.get(key), f"llama.cpp's gpt2 does not know {key}")
    decoder.refuse(not config.get("scale_attn_weights", True), "llama.cpp's gpt2 scales the attention's scores")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    put(f"{ARCH}.block_count", int(config["num_hidden_layers"]), "uint32")
    put(f"{ARCH}.context_length", int(config["max_position_embeddings"]), "uint32")
    put(f"{ARCH}.embedding_length", int(config["hidden_size"]), "uint32")
    put(f"{ARCH}.feed_forward_length", int(config["intermediate_size"]), "uint32")
    put(f"{ARCH}.attention.head_count", int(config["num_attention_heads"]), "uint32")
    put(f"{ARCH}.attention.layer_norm_epsilon", float(config["layer_norm_epsilon"]), "float32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    below = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    found = decoder.named(config, below, NAMES, _turned)
    decoder.refuse(
        found["position_embd.weight"].n_rows != int(config["max_position_embeddings"]),
        f"the checkpoint has {found['position_embd.weight'].n_rows} positions, config.json "
        f"{config['max_position_embeddings']}",
    )
    return found


def _turned(part: str, tensor: Deferred) -> Deferred:
    return Transposed(tensor) if part in _TURNED and len(tensor.shape) == 2 else tensor
