"""onnxruntime-genai's builder with weights that are read, folded and quantized while the file is written.

    with streamed(builder.Model, weights, scratch):
        builder.create_model(...)

Three methods of the builder's base class are replaced for the time: `load_weights` gives a model of late tensors,
`make_initializer` puts them into the graph unread, `to_nbits` quantizes them slab by slab. The files are byte for byte
those of the builder alone; what cannot be carried is refused with its name. Called by `builder`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeft.exporters.onnx.late import STOCK, NotCarried, is_late, late
from edgeft.weights import Deferred, Weights
from edgeft.weights.dtypes import FLOATS, torch_dtype
from edgeft.weights.fold import Cast

# The builder's versions whose methods these hooks fit: another may compute what passes by them.
VERSIONS = ("0.18.0",)
_SURPLUS = (r"rotary_emb\.inv_freq$", r"\.attn\.(masked_)?bias$")


@contextlib.contextmanager
def streamed(base: Any, weights: Weights, scratch: Path) -> Iterator[None]:
    """Let the builder's classes (subclasses of `base`) take `weights` in the place of a checkpoint's.

    scratch  a folder for values that wait for their place in the file
    Raises `NotCarried` with the way out for what the hooks do not carry.
    """
    _check_version()
    before = {name: base.__dict__[name] for name in ("load_weights", "make_initializer", "to_nbits")}

    def load_weights(self: Any, input_path: str) -> Any:
        _check_builder(self)
        return _hollow_model(self, weights)

    def make_initializer(self: Any, tensor: Any, /, name: str, *, to: Any = None, raw: bool = False) -> None:
        if not is_late(tensor):
            before["make_initializer"](self, tensor, name, to=to, raw=raw)
            return
        if raw:
            raise NotCarried(f"the streamed export does not carry the encoded initializer {name!r}", do=STOCK)
        _register(self, tensor, name, to)

    def to_nbits(self: Any) -> Any:
        from edgeft.exporters.onnx import nbits

        return nbits.to_nbits(self, lambda: before["to_nbits"](self), scratch)

    hooks = {"load_weights": load_weights, "make_initializer": make_initializer, "to_nbits": to_nbits}
    try:
        for name, hook in hooks.items():
            setattr(base, name, hook)
        yield
    finally:
        for name, method in before.items():
            setattr(base, name, method)


def _check_version() -> None:
    import onnxruntime_genai

    if onnxruntime_genai.__version__ not in VERSIONS:
        raise NotCarried(
            f"the streamed export knows onnxruntime-genai {', '.join(VERSIONS)}, installed is "
            f"{onnxruntime_genai.__version__}",
            do=f"pip install onnxruntime-genai=={VERSIONS[-1]}, or {STOCK}",
        )


def _check_builder(builder: Any) -> None:
    """Refuse what would compute with the weights elsewhere than in the three hooks."""
    refused = {
        "weights that are quantized already": builder.quant_type is not None,
        "QDQ nodes (use_qdq)": builder.quant_attrs["use_qdq"],
        "weights packed for CUDA ahead of time (matmulnbits_weights_prepacked)": builder.ep == "cuda"
        and builder.matmul_attrs["weights_prepacked"] > 0,
        "mixtures of experts": builder.moe_attrs["num_experts"] > 0,
    }
    for what, found in refused.items():
        if found:
            raise NotCarried(f"the streamed export does not carry {what}", do=STOCK)
    for name in ("make_initializer", "to_nbits", "save_model"):
        if any(name in cls.__dict__ for cls in type(builder).__mro__[:-2]):
            raise NotCarried(f"the streamed export does not carry {type(builder).__name__}'s own {name}", do=STOCK)


def _hollow_model(builder: Any, weights: Weights) -> Any:
    """The transformers model of the builder's checkpoint with late tensors for parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(builder.model_name_or_path, trust_remote_code=False)
    dtype = config.dtype or torch_dtype(next(tensor.dtype for tensor in weights.values() if tensor.dtype in FLOATS))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    _check_surplus(model, weights)
    for name, source in sources(model, weights).items():
        module, _, leaf = name.rpartition(".")
        model.get_submodule(module)._parameters[leaf] = late(source)
    for name, buffer in list(model.named_buffers()):
        if name in weights:
            module, _, leaf = name.rpartition(".")
            model.get_submodule(module)._buffers[leaf] = weights[name].read().to(buffer.dtype)
    return model.eval()


def sources(model: Any, weights: Weights) -> dict[str, Deferred]:
    """Parameter -> its values in the parameter's dtype; tied parameters share one."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    shared: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        shared.setdefault(id(parameter), []).append(name)
    found = {}
    for names in shared.values():
        given = [name for name in names if name in weights]
        if not given:
            raise _unmapped(f"the checkpoint has no weight {names[0]!r}")
        source, parameter = weights[given[0]], parameters[names[0]]
        if source.shape != tuple(parameter.shape):
            raise _unmapped(f"{given[0]!r} is {source.shape}, the model wants {tuple(parameter.shape)}")
        if any(not _equal(source, weights[name]) for name in given[1:]):
            raise _unmapped(f"{' and '.join(given)} are tied by the config and differ")
        if torch_dtype(source.dtype) != parameter.dtype:
            source = Cast(source, _name(parameter.dtype))
        found |= dict.fromkeys(names, source)
    return found


def _equal(first: Deferred, second: Deferred) -> bool:
    import torch

    at = 0
    for chunk in first.chunks():
        if not torch.equal(chunk, second.rows(at, at + len(chunk))):
            return False
        at += len(chunk)
    return True


def _name(dtype: Any) -> str:
    return next(name for name in FLOATS if torch_dtype(name) == dtype)


def _check_surplus(model: Any, weights: Weights) -> None:
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    known |= {name for name, _ in model.named_buffers()}
    ignored = [*_SURPLUS, *(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())]
    surplus = [name for name in weights if name not in known and not any(re.search(key, name) for key in ignored)]
    if surplus:
        raise _unmapped(f"the checkpoint's {surplus[0]!r} is no weight of {type(model).__name__}")


def _unmapped(what: str) -> NotCarried:
    return NotCarried(f"the streamed export cannot place the checkpoint's weights: {what}", do=STOCK)


def _register(builder: Any, tensor: Any, name: str, to: Any) -> None:
    """As the builder's `make_initializer`, with values to be read later."""
    from onnx_ir.tensor_adapters import from_torch_dtype, to_torch_dtype

    from edgeft.exporters.onnx.slabs import FloatSlabs, initializer

    dtype = from_torch_dtype(tensor.dtype) if to is None else to
    slabs = FloatSlabs(tensor.source, tensor.turned, _name(to_torch_dtype(dtype)))
    written = initializer(slabs, name, dtype, tuple(tensor.shape))
    value = builder.make_value(name, written.dtype, written.shape)
    value.const_value = written
    builder.model.graph.register_initializer(value)
