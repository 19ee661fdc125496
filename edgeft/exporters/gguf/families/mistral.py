"""Mistral as llama.cpp's `llama`. The sliding window of the first Mistral is not in llama.cpp's graph: within the
window both are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.exporters.gguf.families import decoder, llama
from edgeft.exporters.gguf.families.decoder import Put
from edgeft.weights import Deferred, Weights

ARCH = llama.ARCH


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.settings(config, num_key_value_heads=8, rms_norm_eps=1e-6)


def check(config: Mapping[str, Any]) -> None:
    llama.check(_settings(config))


def metadata(config: Mapping[str, Any], put: Put) -> None:
    llama.metadata(_settings(config), put)


def tensors(config: Mapping[str, Any], weights: Weights) -> dict[str, Deferred]:
    return llama.tensors(_settings(config), weights)
