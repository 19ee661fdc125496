"""An adapter alone as GGUF, for llama.cpp to put on a base file that several adapters share.

`export` is the "lora" row of `edgeft.exporters.EXPORTS`. llama.cpp adds `adapter.lora.alpha / rank * B @ A` to each
weight, with one alpha for the whole file; what rank-stabilised scales and per-module ranks and alphas ask beyond that
is folded into B here, so that its result is peft's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import InputError, ModelError, storage_errors
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf import card, ollama
from edgeft.exporters.gguf.export import available_cores, check_base, file_name
from edgeft.exporters.gguf.export import export as export_model
from edgeft.exporters.gguf.families import family_of, model_config
from edgeft.exporters.gguf.header import Header
from edgeft.exporters.gguf.places import Place, places
from edgeft.exporters.gguf.quantize import Quantizer
from edgeft.exporters.gguf.types import file_type
from edgeft.exporters.gguf.vocab import Vocabulary, as_taught, read_vocabulary
from edgeft.exporters.gguf.writer import write_file
from edgeft.files import write_text
from edgeft.models.identity import check_same_base
from edgeft.progress import Listener, silent
from edgeft.registry import suggestion
from edgeft.weights import Deferred, Weights
from edgeft.weights.adapter import CONFIG, Lora
from edgeft.weights.checkpoint import read_table
from edgeft.weights.fold import Finite
from edgeft.weights.merged import open_parts
from edgeft.weights.threads import torch_threads

if TYPE_CHECKING:
    import torch

# type -> the ggml type of A and B, and `general.file_type`.
_GGML: dict[str, tuple[str, int]] = {"f32": ("F32", 0), "f16": ("F16", 1), "bf16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
TYPES = tuple(_GGML)
_EMBEDDING = "token_embd.weight"
_ROWS = 1024  # compared at a time
_BLOCK = 32  # values that share a scale in Q8_0
_MERGED = "export the merged file instead: gguf-f16 or another gguf type"
# Settings of a LoraConfig that change something a GGUF adapter has no place for.
_NO_PLACE = {
    "use_dora": "DoRA",
    "modules_to_save": "weights saved whole (modules_to_save)",
    "trainable_token_indices": "trained single tokens",
    "lora_bias": "LoRA biases",
    "alora_invocation_tokens": "activated LoRA",
}


def check(base: Path, type_name: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise an `InputError` when no adapter of this base can be written as this type. Reads JSON only."""
    _ggml_type(type_name)
    check_base(base)


def export(
    source: ExportSource, type_name: str, folder: Path, options: Mapping[str, Any], listen: Listener = silent
) -> Exported:
    """Write `NAME-lora-TYPE.gguf` and a README.md into `folder`.

    options  threads; quantizer; with_base: a GGUF type: write the base beside it too, in this type. It is the base
             that the adapter was trained on (`source.merge_base`: as quantized in training, or pristine), with the
             template and the stop tokens of training

    A `ModelError` for what a GGUF adapter cannot hold: the merged file can.
    """
    matrix, number = _ggml_type(type_name)
    if source.adapter is None:
        raise InputError("there is no adapter to write", do="give --adapter, or export the base: gguf-f16")
    _check_adapter(source.adapter)
    config = model_config(source.base)
    family = family_of(config)
    family.check(config)
    with_base = options.get("with_base")
    own = read_vocabulary(source.base, config)
    if with_base is None:
        _check_taught(own, source)
    threads = int(options.get("threads") or available_cores())
    its = {"threads": threads, "quantizer": options.get("quantizer")}
    with torch_threads(threads), storage_errors(folder), Quantizer(threads) as quantizer:
        pairs = _pairs(source, config, family)
        if with_base is not None:
            base = dict(export_model(base_of(source), str(with_base), folder, its, listen).facts)
        tensors = dict(_tensors(pairs))
        types = {name: _fitting(matrix, tensor) for name, tensor in tensors.items()}
        metadata = _metadata(source, pairs.alpha, number)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        path = folder / file_name(source.name, f"lora-{type_name}")
        write_file(path, Header(family.ARCH, metadata, shapes, types), tensors, quantizer=quantizer, listen=listen)
    base_file = base["file"] if with_base is not None else file_name(base_of(source).name, "f16")
    taught = as_taught_by(own, source)
    refused = ollama.write_modelfile(
        folder, base_file, source.base, taught, config, adapter=path.name, system=source.taught().system
    )
    shipped = card.Shipped(path.name, f"a LoRA adapter in {type_name}", path.stat().st_size, refused)
    write_text(folder / "README.md", card.lora_readme(source, shipped, base_file, beside=with_base is not None))
    facts = {
        "format": "lora",
        "type": type_name,
        "file": path.name,
        "size": path.stat().st_size,
        "architecture": family.ARCH,
        "base": source.base_ref,
        "merge_base": source.folded_into(),
        "with_base": with_base,
        "base_file": base["file"] if with_base is not None else None,
        "modules": len(pairs.loras),
        "alpha": pairs.alpha,
        "scaled": sum(factor != 1 for factor in pairs.factors.values()),
        "tensors": dict(sorted(Counter(name.lower() for name in types.values()).items())),
        "modelfile": refused or ollama.FILE,
    }
    return Exported(facts, {"threads": threads})


def base_of(source: ExportSource) -> ExportSource:
    """The base that the adapter goes on, as a source of its own: named by the base, and "as trained" when it was
    quantized in training and is exported so."""
    name = card.base_name(source)
    if source.folded_into() == "dequantized":
        return replace(source, fold=False, name=f"{name}-as-trained")
    return replace(source, fold=False, name=name, merge_base="pristine")


def as_taught_by(own: Vocabulary, source: ExportSource) -> Vocabulary:
    taught = source.taught()
    return as_taught(own, taught.chat_template, taught.stop_ids)


def _ggml_type(type_name: str) -> tuple[str, int]:
    if type_name not in _GGML:
        raise InputError(f"unknown type of a GGUF adapter {type_name!r}", do=suggestion(type_name, TYPES))
    return _GGML[type_name]


def _check_adapter(folder: Path) -> None:
    config = read_table(folder / CONFIG)
    for option, what in _NO_PLACE.items():
        if config.get(option):
            raise ModelError(f"the adapter has {what}, which a GGUF adapter cannot hold", where=folder, do=_MERGED)
    if config.get("bias", "none") != "none":
        raise ModelError("the adapter has trained biases, which a GGUF adapter cannot hold", where=folder, do=_MERGED)


def _check_taught(own: Vocabulary, source: ExportSource) -> None:
    """A shared base file prompts with the base's own template and stops where the base stops."""
    taught = as_taught_by(own, source)
    ends = ("eos", "eot", "eom")
    lacking = {taught.special.get(role) for role in ends} - {own.special.get(role) for role in ends} - {None}
    if taught.template != own.template or lacking:
        what = "another chat template" if taught.template != own.template else "other stop tokens"
        raise ModelError(
            f"the adapter was trained with {what} than its base has, which a shared base file would not use",
            where=source.adapter,
            do="write the base beside it (with_base: f16), or export the merged file",
        )


@dataclass(frozen=True)
class _Pairs:
    """By weight name: the adapter's matrices, their places (of linear layers: embeddings are laid out otherwise), and
    what B is multiplied with beside `alpha / rank`."""

    loras: Mapping[str, Lora]
    places: Mapping[str, list[Place]]
    factors: Mapping[str, float]
    alpha: float


def _pairs(source: ExportSource, config: Mapping[str, Any], family: Any) -> _Pairs:
    assert source.adapter is not None
    check_same_base(source.adapter, source.base)
    opened = open_parts(source.base, source.adapter, merge_base="pristine")  # checks that adapter and base fit
    adapter, weights = opened.adapter, opened.tensors
    _check_whole(adapter.replaced, weights, source.adapter)
    loras = {name: lora.fitted(weights[name].shape, opened.conv1d) for name, lora in adapter.loras.items()}
    embedded = {name for name, lora in adapter.loras.items() if lora.transposed}  # before fitting: as peft trained it
    _check_embedded(embedded, family.tensors(config, weights), weights, source.adapter)
    linear = {name: lora.transposed for name, lora in loras.items() if name not in embedded}
    found = places(family, config, weights, linear)
    alpha = _alpha(loras, source.adapter)
    factors = {name: lora.scale * lora.a.shape[0] / alpha for name, lora in loras.items()}
    close = {name: 1.0 if abs(factor - 1) < 1e-7 else factor for name, factor in factors.items()}
    return _Pairs(loras, found, close, alpha)


def _check_embedded(embedded: set[str], named: Weights, base: Weights, folder: Path) -> None:
    """A `ModelError` for a change of another embedding than the one of tokens, whose rows llama.cpp changes as it looks
    them up (positions are not), and of one that the family does not take over as it is."""
    for name in sorted(embedded):
        if named.get(_EMBEDDING) is not base[name]:
            raise ModelError(
                f"the adapter changes the embedding {name!r}; of a GGUF adapter llama.cpp adds that of tokens only",
                where=folder,
                do=_MERGED,
            )


def _check_whole(replaced: Mapping[str, Deferred], base: Weights, folder: Path) -> None:
    """peft saves an adapted head or embedding whole beside its LoRA, usually as it is in the base: then it is not
    needed. A `ModelError` when it is another."""
    for name, tensor in replaced.items():
        chunks = zip(tensor.chunks(_ROWS), base[name].chunks(_ROWS), strict=True)
        if any(not bool((ours.to(theirs.dtype) == theirs).all()) for ours, theirs in chunks):
            raise ModelError(
                f"the adapter holds its own {name!r}, which a GGUF adapter cannot hold", where=folder, do=_MERGED
            )


def _alpha(loras: Mapping[str, Lora], folder: Path) -> float:
    """The file's one alpha: the one that leaves B of most modules as it is."""
    counts = Counter(float(f"{lora.scale * lora.a.shape[0]:.7g}") for lora in loras.values())
    alpha = counts.most_common(1)[0][0]
    if not alpha:
        raise ModelError("the adapter's scale is 0: it changes nothing", where=folder / CONFIG)
    return alpha


def _tensors(pairs: _Pairs) -> Iterator[tuple[str, Deferred]]:
    for name, lora in pairs.loras.items():
        factor = pairs.factors[name]
        if name not in pairs.places:  # the embedding of tokens: a row of A for each
            a, b = _Turned(lora.a), _Moved(lora.b, factor=factor)
            yield f"{_EMBEDDING}.lora_a", Finite(a, a.name, "the adapter's")
            yield f"{_EMBEDDING}.lora_b", Finite(b, b.name, "the adapter's")
            continue
        for place in pairs.places[name]:
            for side, matrix in (
                ("a", _Moved(lora.a, columns=place.columns)),
                ("b", _Moved(lora.b, place.rows, factor)),
            ):
                yield f"{place.tensor}.lora_{side}", Finite(matrix, matrix.name, "the adapter's")


class _Turned(Deferred):
    """A of an embedding, (rank, tokens), as llama.cpp looks rows up in it: (tokens, rank)."""

    def __init__(self, base: Deferred) -> None:
        self.base = base
        self.name, self.shape, self.dtype = base.name, base.shape[::-1], base.dtype

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        values = self.base.read().T.contiguous()  # as wide as the rank: small beside the embedding
        step = rows or self.rows_for()
        end = self.n_rows if stop is None else min(stop, self.n_rows)
        for at in range(start, end, step):
            yield values[at : min(at + step, end)]


class _Moved(Deferred):
    """A or B with its rows or columns where llama.cpp has them, times a factor (in float32, rounded when written)."""

    def __init__(
        self, base: Deferred, rows: list[int] | None = None, factor: float = 1.0, *, columns: list[int] | None = None
    ) -> None:
        self.base, self.order, self.columns, self.factor = base, rows, columns, factor
        self.name, self.shape = base.name, (base.shape[0] if rows is None else len(rows), *base.shape[1:])
        self.dtype = base.dtype if factor == 1 else "F32"

    def chunks(self, rows: int | None = None, *, start: int = 0, stop: int | None = None) -> Iterator[torch.Tensor]:
        values = self.base.read()  # a side is as long as the rank: small
        values = values if self.order is None else values[self.order]
        values = values if self.columns is None else values[:, self.columns]
        values = values if self.factor == 1 else values.float() * self.factor
        step = rows or self.rows_for()
        end = self.n_rows if stop is None else min(stop, self.n_rows)
        for at in range(start, end, step):
            yield values[at : min(at + step, end)]


def _fitting(matrix: str, tensor: Deferred) -> str:
    """Rows that 8-bit blocks do not divide (B of small ranks) stay 16-bit, as llama.cpp's converter keeps them."""
    return "F16" if matrix == "Q8_0" and tensor.shape[-1] % _BLOCK else matrix


def _metadata(source: ExportSource, alpha: float, number: int) -> list[tuple[str, Any, str]]:
    import gguf

    return [
        ("general.type", "adapter", "string"),
        ("adapter.type", "lora", "string"),
        ("general.name", source.name, "string"),
        *card.lineage(source),
        ("adapter.lora.alpha", alpha, "float32"),
        ("general.quantization_version", gguf.GGML_QUANT_VERSION, "uint32"),
        ("general.file_type", number, "uint32"),
    ]


def base_type(source: ExportSource) -> str:
    """The GGUF type that holds the base's weights without loss: by the dtype of the largest."""
    weights = base_of(source).weights()
    largest = max(weights.values(), key=lambda tensor: tensor.numel)
    return file_type({"F32": "f32", "F16": "f16"}.get(largest.dtype, "bf16")).name
