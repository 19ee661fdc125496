"""OLMo 3 as llama.cpp's `olmo2`: OLMo 2 with a window in three layers of four, which rotate without scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, olmo2, rope
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = olmo2.ARCH
_PERIOD = 4
_THETA = 500_000.0


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, rms_norm_eps=1e-5, sliding_window=4096)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    olmo2.check_layers(config)
    decoder.sliding_layers(config)
    rotations = rope.rotations(config, _THETA, _THETA)
    rope.check_kind(rotations["full_attention"], rope.SCALED)
    rope.check_kind(rotations["sliding_attention"], ("default",))
    decoder.refuse(
        rotations["full_attention"]["rope_theta"] != rotations["sliding_attention"]["rope_theta"],
        "llama.cpp's olmo2 rotates all layers by one base, this model's rope_parameters name two",
    )


def metadata(config: Mapping[str, Any], put: Put) -> None:
    config = _settings(config)
    rotations = rope.rotations(config, _THETA, _THETA)
    decoder.put_sizes(ARCH, config, put)
    rope.put_rope(ARCH, rotations["full_attention"], put)
    put(f"{ARCH}.rope.freq_base_swa", float(rotations["sliding_attention"]["rope_theta"]), "float32")
    decoder.put_rms(ARCH, config, put)
    decoder.put_head_dim(ARCH, config, put)
    decoder.put_window(ARCH, config["sliding_window"], decoder.sliding_layers(config, _PERIOD), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(config, weights, olmo2.NAMES)
