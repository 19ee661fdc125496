"""Open a base model with transformers, in 4 bits or not, and attach a peft adapter to it: checked, quiet, offline.

Used by `edgeft.training` (to train) and `edgeft.runtimes.hf` (to answer). Nothing is filled in at random here:
transformers and peft accept missing, left-over and NaN weights with a log line at most; all of them are a
`ModelError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft import extras
from edgeft.errors import MissingError, ModelError
from edgeft.models import base as bases
from edgeft.models.adapters import attach
from edgeft.models.heads import head_module, labels_of
from edgeft.models.identity import check_same_base, is_whole_model, read_training
from edgeft.models.quiet import quiet
from edgeft.models.tokenizer import first_line

if TYPE_CHECKING:
    import torch

_DENSE_BYTES = 8 << 30  # on CPU, dequantized weights up to this many bytes (float32) are kept instead of their 4 bits
DTYPES = ("float32", "bfloat16", "float16")
# What stays out of 4 bits in a classifier, as transformers matches names: the head, and an encoder's pooler before it.
_WHOLE = ("score", "classifier", "pooler", "head", r".*\.pooler")


@dataclass(frozen=True)
class Quantization:
    """How bitsandbytes holds weights in 4 bits. `dtype` is what they are dequantized to and computed in; `weights` are
    the names of the weights held so, as the checkpoint names them."""

    quant_type: str = "nf4"
    double_quant: bool = True
    blocksize: int = 64
    dtype: str = "float32"
    weights: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """The form of training.json."""
        return {**asdict(self), "weights": list(self.weights)}


def pick_device(device: str = "auto") -> str:
    """The device, "cuda" or "cpu"; a `MissingError` when CUDA is asked for and absent."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingError("there is no CUDA device", do="run on the CPU, or install a CUDA build of torch")
    return device


def pick_dtype(dtype: str = "auto", device: str = "cpu") -> str:
    """The dtype of the arithmetic: float32 on CPU; on CUDA bfloat16 where the device has it, else float16."""
    import torch

    if dtype != "auto":
        if dtype not in DTYPES:
            raise ModelError(f"unknown dtype {dtype!r}", do=f"known: {', '.join(DTYPES)}")
        return dtype
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def open_base(
    folder: Path,
    *,
    four_bit: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    quant_type: str = "nf4",
    double_quant: bool = True,
    labels: Sequence[str] | None = None,
) -> Any:
    """A base model folder as a transformers causal language model in eval mode, no parameter requiring gradients.

    four_bit   linear layers (not the embeddings, not the head) go through bitsandbytes' 4-bit quantization. On CUDA
    they
               stay in 4 bits. On CPU they are dequantized once, up to 8 GiB of float32: the same values that
               bitsandbytes would compute with at every step, without its bfloat16 shortcut on CPUs that have
               AVX512-BF16.
    dtype      of all other weights and of the arithmetic
    labels     open it with a sequence classification head for these labels (one: a reward) instead of its language
               head; a head that the checkpoint lacks starts with the same small random values every time

    `ModelError` for pickles, LFS pointers, remote code, missing, left-over, misshapen or NaN weights.
    """
    extras.require("train")
    bases.check(bases.Base(str(folder), "folder", folder))
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    how = Quantization(quant_type=quant_type, double_quant=double_quant, dtype=dtype) if four_bit else None
    model = _load(folder, device, dtype, how, labels)
    if labels is not None:
        model.edgeft_labels = tuple(labels)
    if how is not None:
        how = _settle_four_bit(model, how, dense=device == "cpu")
    model.edgeft_quantization = how
    _check_finite(model, folder)
    model.requires_grad_(False)
    return model.eval()


def open_tuned(base: Path, adapter: Path, *, device: str = "auto") -> Any:
    """The model that was trained: base as training.json says (4 bits, dtype), adapter attached and checked.

    An adapter of another tool (no training.json) is attached to the base in the dtype of `pick_dtype`, not in 4 bits.
    """
    check_same_base(adapter, base)
    training = read_training(adapter) or {}
    device = pick_device(device)
    labels = labels_of(adapter)
    if is_whole_model(adapter):
        return open_base(adapter, device=device, dtype=str(training.get("compute_dtype", "auto")), labels=labels)
    table: Mapping[str, Any] | None = training.get("quantization")
    dtype = str(training.get("compute_dtype", "auto"))
    model = open_base(
        base,
        four_bit=bool(table),
        device=device,
        dtype="auto" if device == "cpu" and dtype == "float16" else dtype,
        quant_type=str(table["quant_type"]) if table else "nf4",
        double_quant=bool(table["double_quant"]) if table else True,
        labels=labels,
    )
    return open_adapter(model, adapter)


def open_adapter(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """`model` with the peft LoRA adapter of `folder` attached (a `PeftModel`).

    `ModelError` for a pickle, another adapter type, layers that the model lacks or that the file lacks, other shapes,
    NaN. Whether the base is the one trained on is `check_same_base`'s question (`open_tuned` asks it).
    """
    with quiet():
        return attach(model, folder, trainable=trainable)


def quantization_of(model: Any) -> Quantization | None:
    """How a model opened here (or its peft wrapper) holds its 4-bit weights; None when it does not."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    found: Quantization | None = getattr(inner, "edgeft_quantization", None)
    return found


def quantized_names(model: Any) -> list[str]:
    """Names of the weights that went through 4 bits, as the checkpoint names them, sorted."""
    how = quantization_of(model)
    return list(how.weights) if how else []


def _load(folder: Path, device: str, dtype: str, how: Quantization | None, labels: Sequence[str] | None = None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    torch_dtype = getattr(torch, dtype)
    settings: dict[str, Any] = {"device_map": {"": 0} if device == "cuda" else {"": device}}
    kind = AutoModelForCausalLM
    if labels is not None:
        kind = AutoModelForSequenceClassification
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if how is not None:
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=how.quant_type,
            bnb_4bit_use_double_quant=how.double_quant,
            bnb_4bit_compute_dtype=torch_dtype,
            llm_int8_skip_modules=list(_WHOLE) if labels is not None else None,
        )
    try:
        with quiet():
            model, report = kind.from_pretrained(
                str(folder),
                dtype=torch_dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they come back in the report, by name
                output_loading_info=True,
                **settings,
            )
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # transformers, safetensors and json raise their own kinds for damaged folders
        raise ModelError(f"the base model cannot be opened ({first_line(error)})", where=folder) from None
    if labels is not None:
        report = _start_head(model, report)
    _check_report(report, model, folder)
    return model


def _start_head(model: Any, report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a head that the checkpoint lacks values of its own, always the same; the report without it. The model says
    in `edgeft_started` which modules of it began so."""
    import torch

    generator = torch.Generator().manual_seed(0)
    missing = set(report.get("missing_keys") or ())
    heads = {name for name in missing if head_module(name)}
    for name in sorted(heads):
        parameter = model.get_parameter(name)
        start = torch.zeros(parameter.shape)
        if parameter.dim() > 1:
            start.normal_(0.0, 0.02, generator=generator)
        elif name.endswith(".weight"):  # of a norm
            start.fill_(1.0)
        parameter.data.copy_(start)
    model.edgeft_started = tuple(sorted({head_module(name) for name in heads}))
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = 0
    return {**report, "missing_keys": missing - heads, "unexpected_keys": []}


def _check_report(report: Mapping[str, Any], model: Any, folder: Path) -> None:
    """Refuse what transformers only logs: weights that it made up, could not place, or that have another shape."""
    mismatched = sorted(str(item[0]) for item in report.get("mismatched_keys") or ())
    if mismatched:
        raise ModelError(
            f"the weight {mismatched[0]!r}{_others(mismatched)} has another shape than config.json says", where=folder
        )
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelError(
            f"the checkpoint has no weight {missing[0]!r}{_others(missing)}: it would be random",
            where=folder,
            do="download the model again, or mend its config.json",
        )
    prefix = f"{model.base_model_prefix}."
    surplus = sorted(name for name in report.get("unexpected_keys") or () if name.startswith(prefix))
    if surplus:
        raise ModelError(
            f"the checkpoint's weight {surplus[0]!r}{_others(surplus)} has no place in the model of config.json",
            where=folder,
            do="download the model again, or mend its config.json",
        )


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _settle_four_bit(model: Any, how: Quantization, *, dense: bool) -> Quantization:
    """Name the 4-bit weights; with `dense`, put their dequantized values in place where memory allows."""
    import torch
    from bitsandbytes.nn import Linear4bit

    found = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    if not found:
        raise ModelError("no layer of this model can be held in 4 bits", do="write adapter: lora instead of qlora")
    for _, module in found:
        module.support_avx512bf16_for_cpu = False  # it would repack the weights to bfloat16 in eval mode
    size = sum(4 * module.in_features * module.out_features for _, module in found)
    if dense and size <= _DENSE_BYTES:
        for name, module in found:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, _dequantized(module, getattr(torch, how.dtype)))
        _forget_quantization(model)
    blocksize = int(found[0][1].weight.quant_state.blocksize)
    names = tuple(sorted(f"{name}.weight" for name, _ in found))
    return Quantization(how.quant_type, how.double_quant, blocksize, how.dtype, names)


def _dequantized(module: Any, dtype: torch.dtype) -> torch.nn.Linear:
    """A plain linear layer with the values that a 4-bit one computes with."""
    import torch
    from bitsandbytes import functional

    values = functional.dequantize_4bit(module.weight.data, module.weight.quant_state).to(dtype)
    linear = torch.nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(values, requires_grad=False)
    if module.bias is not None:
        linear.bias = torch.nn.Parameter(module.bias.data.to(dtype), requires_grad=False)
    return linear


def _forget_quantization(model: Any) -> None:
    """The model holds plain layers again: peft and transformers shall treat it so."""
    model.is_loaded_in_4bit = False
    model.is_quantized = False
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _check_finite(model: Any, folder: Path) -> None:
    """A `ModelError` that names the first weight with NaN or infinite values."""
    import torch

    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        if state is None:
            tensors = [parameter.data]
        else:  # a NaN block makes its maximum NaN, and the offset of a second quantization with it
            tensors = [state.offset, state.state2.absmax] if state.nested else [state.absmax]
        for tensor in tensors:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ModelError(
                    f"the weight {name!r} holds NaN or infinite values",
                    where=folder,
                    do="the checkpoint is damaged: download it again",
                )
