"""Measure an importance matrix: rows through the model in transformers, squares of what each weight is multiplied with.

The definition is that of llama.cpp's imatrix tool: per weight matrix of the blocks and input column the sum of squared
activations over all tokens, and the number of tokens; per expert over the tokens routed to it. The output layer and the
embeddings are left out, as there. Called by `edgeft.stages.imatrix`.

A weight is found by hooks on the modules that the checkpoint names; experts, which transformers holds as one parameter
of three dimensions, by watching the products with its slices.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError
from edgeft.exporters.gguf.families import family_of, model_config
from edgeft.exporters.gguf.families.rearranged import ColumnBlocks
from edgeft.exporters.gguf.imatrix import Entry, Imatrix
from edgeft.progress import Listener, Progress, silent
from edgeft.weights import Deferred, open_weights

if TYPE_CHECKING:
    import torch

CHUNK = 512  # tokens; what `chunk_count` counts in
_BATCH = 2048  # tokens of one forward pass, padding included
_BLOCK = re.compile(r"^blk\.(\d+)\.(.+)\.weight$")
_EXPERTS = re.compile(r"_exps$")
_ROUTER = "ffn_gate_inp.weight"  # measured where it can be, as llama.cpp does; it never is quantized
_UNQUANTIZED = ("_norm.weight", "conv1d.weight", "conv.weight")  # and no products of matrices


def compute(
    base: Path,
    adapter: Path | None,
    rows: Sequence[Sequence[int]],
    *,
    dataset: str,
    listen: Listener = silent,
) -> tuple[Imatrix, list[str]]:
    """The importance matrix of a base with its adapter over token rows, each its own sequence; and the names of the
    quantized weights that could not be watched. A `ModelError` when there are no rows."""
    from edgeft.models.open import open_base, open_tuned

    if not rows:
        raise ModelError("there are no rows to compute an importance matrix on")
    config = model_config(base)
    tensors = family_of(config).tensors(config, open_weights(base))
    model = open_tuned(base, adapter) if adapter else open_base(base)
    entries, unseen = watch(model, tensors, rows, listen=listen)
    total = sum(map(len, rows))
    return Imatrix(entries, (dataset,), max(1, total // CHUNK), CHUNK), unseen


def watch(
    model: Any, tensors: Mapping[str, Deferred], rows: Sequence[Sequence[int]], *, listen: Listener = silent
) -> tuple[dict[str, Entry], list[str]]:
    """Entries of the weights in `tensors` (GGUF name -> its tensor, whose `name` is the checkpoint's), measured on an
    opened model (a `PeftModel` or plain, in eval mode), and the names that no product was seen of."""
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if _BLOCK.match(name) and len(tensor.shape) > 1 and not name.endswith(_UNQUANTIZED)
    }
    sums = _Sums()
    experts = _expert_parameters(inner, wanted)
    total, done = sum(map(len, rows)), 0
    with ExitStack() as stack:
        for name, tensor in wanted.items():
            module = _module(inner, tensor) if len(tensor.shape) == 2 else None
            if module is not None:
                stack.callback(module.register_forward_pre_hook(sums.hook(name, tensor), with_kwargs=True).remove)
        if experts:
            stack.enter_context(_eager_experts(inner))
            stack.enter_context(_watching_slices(experts, sums))
        stack.enter_context(torch.inference_mode())
        device = next(inner.parameters()).device
        for ids, mask in _batches(rows, padded=not experts):
            sums.mask = None if bool(mask.all()) else mask.to(device)
            inner.base_model(input_ids=ids.to(device), attention_mask=mask.to(device).long(), use_cache=False)
            done += int(mask.sum())
            listen(Progress(done, total, "token", "measuring"))
    entries = {name: _ordered(entry, wanted[name]) for name, entry in sums.entries().items()}
    return entries, sorted(name for name in wanted if name not in entries and not name.endswith(_ROUTER))


def _ordered(entry: Entry, tensor: Deferred | None) -> Entry:
    """The columns in the order that the file has them, where that is not the model's."""
    import numpy as np

    sums, blocks = entry.sums, []
    while tensor is not None:
        if isinstance(tensor, ColumnBlocks):
            blocks.append(tensor.bounds)
        tensor = getattr(tensor, "base", None)
    for bounds in reversed(blocks):
        sums = np.concatenate([sums[:, first:last] for first, last in bounds], axis=1)
    return Entry(sums, entry.counts)


class _Sums:
    """Sums (float64, per matrix and column) and counts by weight. `mask` [rows, tokens]: what is no padding."""

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}

    def hook(self, name: str, tensor: Deferred) -> Any:
        width = tensor.shape[-1]

        def before(module: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            values = arguments[0] if arguments else next(iter(keywords.values()))
            if values.shape[-1] == width:
                self.add(name, values)

        return before

    def add(self, name: str, values: torch.Tensor, matrix: int = 0, matrices: int = 1) -> None:
        """Count the rows of `values` […, columns] for one matrix of a weight."""
        import torch

        if matrices == 1 and self.mask is not None and values.shape[:-1] == self.mask.shape:
            values = values[self.mask]
        values = values.reshape(-1, values.shape[-1]).float()
        if name not in self._sums:
            shape = (matrices, values.shape[-1])
            self._sums[name] = torch.zeros(shape, dtype=torch.float64, device=values.device)
            self._counts[name] = torch.zeros(matrices, dtype=torch.int64)
        self._sums[name][matrix] += (values * values).sum(0, dtype=torch.float64)
        self._counts[name][matrix] += values.shape[0]

    def entries(self) -> dict[str, Entry]:
        import numpy as np

        found = {}
        for name, total in self._sums.items():
            sums = total.cpu().numpy().astype(np.float32)
            if not np.isfinite(sums).all():
                raise ModelError(f"the activations of {name} are not finite: the model is damaged")
            found[name] = Entry(sums, self._counts[name].numpy().astype(np.float32))
        return found


def _paths(model: Any, tensor: Deferred | None) -> Iterator[str]:
    """Where a tensor's weight may stand in the model: by its checkpoint name, or that of what it was made of; some
    checkpoints leave the base model's prefix out."""
    while tensor is not None:
        path = str(getattr(tensor, "name", "")).removesuffix(".weight")
        yield from (path, f"{model.base_model_prefix}.{path}")
        tensor = getattr(tensor, "base", None)


def _module(model: Any, tensor: Deferred) -> Any | None:
    """The module that multiplies with a tensor."""
    modules = dict(model.named_modules())
    return next((modules[path] for path in _paths(model, tensor) if path in modules), None)


def _batches(rows: Sequence[Sequence[int]], *, padded: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, mask) of rows of like length, padded on the right, where nothing a causal model computes reaches back from;
    row by row when padding would be routed to experts."""
    import torch

    ordered = sorted((row for row in rows if len(row)), key=len)
    at = 0
    while at < len(ordered):
        count = 1
        while padded and at + count < len(ordered) and (count + 1) * len(ordered[at + count]) <= _BATCH:
            count += 1
        batch = ordered[at : at + count]
        ids = torch.zeros((count, len(batch[-1])), dtype=torch.long)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for place, row in enumerate(batch):
            ids[place, : len(row)] = torch.tensor([int(token) for token in row])
            mask[place, : len(row)] = True
        yield ids, mask
        at += count


# --- experts --------------------------------------------------------------------------------------------------------


def _expert_parameters(model: Any, wanted: Mapping[str, Deferred]) -> list[tuple[Any, list[str]]]:
    """Each three-dimensional parameter with the GGUF names of the weights that lie in it, by address."""
    found: dict[int, tuple[Any, list[str]]] = {}
    stacks = [(name, parameter) for name, parameter in model.named_parameters() if parameter.dim() == 3]
    for name, tensor in wanted.items():
        match = _BLOCK.match(name)
        if not match or not _EXPERTS.search(match[2]):
            continue
        paths, down = set(_paths(model, tensor)), "down" in match[2]
        for path, parameter in stacks:
            layer = re.search(r"\.(\d+)\.", path)
            alike = layer and layer[1] == match[1] and ("down" in path.rpartition(".")[2]) == down
            here = path.removesuffix(".weight") in paths or alike
            if here and (parameter.shape[0], parameter.shape[-1]) == (tensor.shape[0], tensor.shape[-1]):
                found.setdefault(parameter.data_ptr(), (parameter, []))[1].append(name)
                break
    return [found[address] for address in sorted(found)]


@contextmanager
def _eager_experts(model: Any) -> Iterator[None]:
    """Let transformers multiply expert by expert, where it can be watched."""
    before = model.get_experts_implementation()
    model.set_experts_implementation("eager")
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def _watching_slices(experts: list[tuple[Any, list[str]]], sums: _Sums) -> Any:
    """A context in which `linear(x, parameter[expert])` counts x for that expert."""
    import torch
    from torch.overrides import TorchFunctionMode

    starts = [parameter.data_ptr() for parameter, _ in experts]

    class Watching(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
            if function is torch.nn.functional.linear and len(arguments) > 1 and arguments[1].dim() == 2:
                weight = arguments[1]
                parameter, names = experts[max(0, bisect.bisect_right(starts, weight.data_ptr()) - 1)]
                away = weight.data_ptr() - parameter.data_ptr()
                expert, rest = divmod(away, parameter.stride(0) * parameter.element_size())
                if 0 <= expert < parameter.shape[0] and rest == 0 and weight.shape == parameter.shape[1:]:
                    for name in names:
                        sums.add(name, arguments[0], expert, parameter.shape[0])
            return function(*arguments, **(keywords or {}))

    return Watching()
