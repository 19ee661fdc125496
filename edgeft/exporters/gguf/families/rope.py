"""Rotary embeddings: what config.json says of them, as llama.cpp's keys and tensors. Used by the family modules.

Sources: Transformers' `modeling_rope_utils` for what the settings mean, the gguf package's constants for the keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families.decoder import Put, head_dim
from edgeft.weights import Deferred

if TYPE_CHECKING:
    import torch

SCALED = ("default", "linear", "yarn")  # kinds that are keys only
WITH_FACTORS = (*SCALED, "llama3")  # for the families whose graphs also read a tensor of factors


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings, of `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before it)."""
    rope: dict[str, Any] = {"rope_theta": config.get("rope_theta") or config.get("default_theta") or 10000.0}
    if config.get("partial_rotary_factor") is not None:
        rope["partial_rotary_factor"] = config["partial_rotary_factor"]
    rope.update(config.get("rope_scaling") or {})
    rope.update(config.get("rope_parameters") or {})
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    return rope


def rotations(config: Mapping[str, Any], full: float, sliding: float) -> dict[str, dict[str, Any]]:
    """The rotation of each kind of layer: one table each in `rope_parameters`, or the keys of older configs, whose
    base and scaling are those of the layers without a window. `full`, `sliding`: the bases when none is given."""
    given = config.get("rope_parameters") or {}
    whole = {"rope_theta": config.get("rope_theta") or full, **(config.get("rope_scaling") or {})}
    return {
        "full_attention": rope_of({"rope_parameters": {**whole, **(given.get("full_attention") or {})}}),
        "sliding_attention": rope_of(
            {"rope_parameters": {"rope_theta": sliding, **(given.get("sliding_attention") or {})}}
        ),
    }


def check_rope(config: Mapping[str, Any], kinds: tuple[str, ...], *, partial: bool = False) -> None:
    """Refuse kinds of scaling that a family's graph in llama.cpp does not know. `partial`: it can rotate a part."""
    rope = rope_of(config)
    check_kind(rope, kinds)
    size = head_dim(config)
    share = float(rope.get("partial_rotary_factor") or 1.0)
    if share != 1.0 and not partial:
        raise ModelError(f"this family rotates whole heads in llama.cpp, the model's partial_rotary_factor is {share}")
    if int(size * share) % 2:
        raise ModelError(f"the head size {int(size * share)} is odd, rotary embeddings need pairs")


def check_kind(rope: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    """Refuse settings of another kind, or without what their kind needs."""
    kind = rope["rope_type"]
    if kind not in kinds or "full_attention" in rope:
        found = "layers that differ" if "full_attention" in rope else repr(kind)
        raise ModelError(f"edgeft cannot write rope scaling of the kind {found}", do=f"known: {', '.join(kinds)}")
    needed = {"linear": ("factor",), "yarn": ("factor", "original_max_position_embeddings")}.get(kind, ())
    for key in needed:
        if not isinstance(rope.get(key), int | float):
            raise ModelError(f"config.json's rope scaling of the kind {kind!r} has no {key}")


def put_rope(arch: str, rope: Mapping[str, Any], put: Put) -> None:
    """The keys of a rotation: kind of scaling and base."""
    _put_scaling(arch, rope, put)
    put(f"{arch}.rope.freq_base", float(rope["rope_theta"]), "float32")


def _put_scaling(arch: str, rope: Mapping[str, Any], put: Put) -> None:
    kind = rope["rope_type"]
    if kind not in ("linear", "yarn"):
        return  # llama3's factors are a tensor of their own
    put(f"{arch}.rope.scaling.type", kind, "string")
    put(f"{arch}.rope.scaling.factor", float(rope["factor"]), "float32")
    if kind == "yarn":
        put(f"{arch}.rope.scaling.original_context_length", int(rope["original_max_position_embeddings"]), "uint32")
        for ours, theirs in (
            ("attention_factor", "attn_factor"),
            ("beta_fast", "beta_fast"),
            ("beta_slow", "beta_slow"),
        ):
            if rope.get(ours) is not None:
                put(f"{arch}.rope.scaling.yarn_{theirs}", float(rope[ours]), "float32")


def factors(config: Mapping[str, Any]) -> dict[str, Deferred]:
    """The tensor of rotary factors, where the kind of scaling has one."""
    return {"rope_freqs.weight": RopeFactors(config)} if rope_of(config)["rope_type"] == "llama3" else {}


class RopeFactors(Deferred):
    """Llama 3's rotary factors, one per pair of dimensions: by what each frequency is divided."""

    name, dtype = "rope_freqs.weight", "F32"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._rope, self._dim = rope_of(config), head_dim(config)
        self.shape = (self._dim // 2,)

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        import torch

        exponents = torch.arange(0, self._dim, 2, dtype=torch.float32) / self._dim
        frequencies = 1.0 / (float(self._rope["rope_theta"]) ** exponents)
        found = [self._factor(2 * math.pi / frequency) for frequency in frequencies]
        yield torch.tensor(found, dtype=torch.float32)[start:stop]

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
