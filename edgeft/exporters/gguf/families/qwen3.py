"""Qwen3 as llama.cpp's `qwen3`: norms of q and k, a head size of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, qwen2
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = "qwen3"
NAMES = decoder.Names({**decoder.PARTS, **decoder.QK_NORMS}, decoder.TOP)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, head_dim=128, rms_norm_eps=1e-6)


def check(config: Mapping[str, Any]) -> None:
    config = _settings(config)
    qwen2.check_like_qwen(ARCH, config)
    decoder.refuse(config.get("attention_bias"), "llama.cpp's qwen3 has no bias of the attention's output")


def metadata(config: Mapping[str, Any], put: Put) -> None:
    qwen2.put_like_qwen(ARCH, _settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return decoder.named(_settings(config), weights, NAMES)
