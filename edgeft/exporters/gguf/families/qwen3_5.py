"""Qwen3.5 (text) as llama.cpp's `qwen35`: three layers of four have linear attention, the fourth a gated one.

llama.cpp pairs value heads with key heads by going round the key heads, Transformers by groups: the values' rows (and
the columns of the projection that reads them) are reordered. The draft layers (`mtp.*`) of published checkpoints, which
Transformers does not load, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import decoder, qwen2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.exporters.gguf.families.rearranged import Blocks, ColumnBlocks, Flat, MinusExp, PlusOne
from edgeft.weights import Deferred, Weights

ARCH = "qwen35"
ATTENTION = {**decoder.ATTENTION, **decoder.QK_NORMS}
LINEAR = {
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
    "linear_attn.A": "ssm_a",
}
_DT = {"linear_attn.dt": "ssm_dt"}  # a bias alone
NAMES = decoder.Names(
    {
        **decoder.GATED,
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "post_attention_norm",
        **ATTENTION,
        **LINEAR,
        **_DT,
    },
    decoder.TOP,
    biased=frozenset({"ssm_dt"}),
    optional=frozenset({*ATTENTION.values(), *LINEAR.values(), "ssm_dt"}),  # by the kind of layer, see `_check`
    query_rows=2,
)
_LINEAR_SIZES = (
    "linear_conv_kernel_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads",
    "linear_num_value_heads",
)  # fmt: skip
_SECTIONS = [11, 11, 10, 0]  # of the rotation of images; texts use the same position for all
_PERIOD = 4


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(
        config,
        head_dim=256,
        num_key_value_heads=4,
        rms_norm_eps=1e-6,
        partial_rotary_factor=0.25,
        full_attention_interval=_PERIOD,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_num_key_heads=16,
        linear_num_value_heads=32,
    )


def _linear_layers(config: Mapping[str, Any]) -> list[bool]:
    layers, period = int(config["num_hidden_layers"]), int(config["full_attention_interval"])
    kinds = config.get("layer_types") or [
        "full_attention" if (number + 1) % period == 0 else "linear_attention" for number in range(layers)
    ]
    decoder.refuse(
        len(kinds) != layers or not set(kinds) <= {"linear_attention", "full_attention"},
        f"config.json's layer_types are not the {layers} layers' kinds of attention",
    )
    return [kind == "linear_attention" for kind in kinds]


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    decoder.check_sizes(config, "rms_norm_eps", *_LINEAR_SIZES)
    decoder.check_activation(config, ARCH, "silu", "swish")
    decoder.refuse(config.get("attention_bias"), "llama.cpp's qwen35 has no bias of the attention's output")
    decoder.refuse(
        config["linear_num_value_heads"] % config["linear_num_key_heads"],
        "config.json's linear_num_value_heads are not a multiple of its linear_num_key_heads",
    )
    rope.check_rope(config, rope.SCALED, partial=True)
    _linear_layers(config)


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    rotation = rope.rope_of(config)
    sections = [*(rotation.get("mrope_section") or _SECTIONS), 0, 0, 0, 0][:4]
    qwen2.put_like_qwen(ARCH, config, put)
    put(f"{ARCH}.rope.dimension_sections", sections, "array")
    put(f"{ARCH}.ssm.conv_kernel", int(config["linear_conv_kernel_dim"]), "uint32")
    put(f"{ARCH}.ssm.state_size", int(config["linear_key_head_dim"]), "uint32")
    put(f"{ARCH}.ssm.group_count", int(config["linear_num_key_heads"]), "uint32")
    put(f"{ARCH}.ssm.time_step_rank", int(config["linear_num_value_heads"]), "uint32")
    inner = int(config["linear_value_head_dim"]) * int(config["linear_num_value_heads"])
    put(f"{ARCH}.ssm.inner_size", inner, "uint32")
    put(f"{ARCH}.attention.recurrent_layers", _linear_layers(config), "array")
    put(f"{ARCH}.full_attention_interval", int(config["full_attention_interval"]), "uint32")
    share = float(rotation["partial_rotary_factor"])
    put(f"{ARCH}.rope.dimension_count", int(decoder.head_dim(config) * share), "uint32")


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    config = _settings(config)
    called = {
        name.replace(".dt_bias", ".dt.bias").replace(".A_log", ".A.weight"): tensor
        for name, tensor in weights.items()
        if not name.startswith("mtp.")
    }

    def change(part: str, tensor: Deferred) -> Deferred:
        if part.endswith("_norm") and part != "ssm_norm":
            return PlusOne(tensor)
        if part.startswith("ssm_") or part in ("attn_qkv", "attn_gate"):
            return _linear(config, part, tensor)
        return tensor

    found = decoder.named(config, called, NAMES, change)
    _check(config, found)
    return {name.removesuffix(".weight") if ".ssm_a." in name else name: tensor for name, tensor in found.items()}


def _linear(config: Mapping[str, Any], part: str, tensor: Deferred) -> Deferred:
    """A tensor of the linear attention, its value heads reordered where it has any."""
    if part == "ssm_a":
        tensor = MinusExp(tensor)
    if part == "ssm_conv1d":
        tensor = Flat(tensor)
    width = int(config["linear_value_head_dim"])
    keys = 2 * int(config["linear_num_key_heads"]) * int(config["linear_key_head_dim"])
    values = int(config["linear_num_value_heads"]) * width
    # part -> rows (of the last one: columns) before the values, rows of a value head
    places = {
        "attn_qkv": (keys, width),
        "attn_gate": (0, width),
        "ssm_beta": (0, 1),
        "ssm_alpha": (0, 1),
        "ssm_a": (0, 1),
        "ssm_dt": (0, 1),
        "ssm_conv1d": (keys, width),
        "ssm_out": (0, width),
    }
    if part not in places:
        return tensor
    before, unit = places[part]
    size = tensor.shape[1] if part == "ssm_out" and len(tensor.shape) == 2 else tensor.n_rows
    if size != before + values // width * unit:
        raise ModelError(f"{tensor.name!r} has the shape {tensor.shape}, which is not that of config.json's heads")
    groups = int(config["linear_num_key_heads"])
    each = int(config["linear_num_value_heads"]) // groups
    if each == 1:
        return tensor
    heads = [before + (group * each + number) * unit for number in range(each) for group in range(groups)]
    bounds = [*([(0, before)] if before else []), *((start, start + unit) for start in heads)]
    return ColumnBlocks(tensor, bounds) if part == "ssm_out" else Blocks(tensor, bounds)


def _check(config: Mapping[str, Any], found: Mapping[str, Deferred]) -> None:
    for layer, linear in enumerate(_linear_layers(config)):
        wanted = [*(f"{part}.weight" for part in LINEAR.values()), "ssm_dt.bias"] if linear else []
        wanted += [] if linear else [f"{part}.weight" for part in ATTENTION.values()]
        absent = [name for name in wanted if f"blk.{layer}.{name}" not in found]
        if absent:
            raise ModelError(f"the checkpoint has no tensor for 'blk.{layer}.{absent[0]}' ({len(absent)} missing)")
