"""What training and shipping take: memory, disk and work, from a model's shape. Called by `edgeft.stages.estimates`.

Offline and without torch. Sizes of files are exact where they say so; memory is an estimate that leans to the high
side, of a step with the longest rows that the recipe allows. The formulas, all in bytes:

- weights. A linear layer in NF4: 0.5 a weight, plus one 8-bit constant per 64 weights and one float32 per 256 of those
  (double quantization); on CPU dequantized to float32 once, up to `DENSE_BYTES` (see `edgeft.models.open`). Everything
  else in the compute dtype.
- full fine-tuning. All weights in float32 on any device, with their gradients and the optimizer's moments.
- head. Of classification and rewards: labels x hidden weights, trained like an adapter; no logits over the vocabulary.
- adapter. r x (inputs + outputs) per layer; float32 weight and gradient (8 a parameter) and the optimizer's moments
  (AdamW 8, its 8-bit forms 2, Adafactor about 0).
- activations. Per layer what backward needs: the block's inputs and outputs, both norms' in float32, q, k, v, the MLP's
  four intermediates, and the float32 copy of its input that each adapted layer keeps. With gradient checkpointing one
  layer's worth, and the input of every layer.
- logits. Those of the trained positions and their gradient in float32; above `MOST_LOGITS` values they are never held
  whole (see `edgeft.training.objectives.sft`).
- overhead. Runtime, kernels, allocator: a constant per device.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.models.shapes import GGUF_EXPORTS, Shape, adapter_parameters, checkpoint_bytes, gguf_bytes, targeted

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
DENSE_BYTES = 8 << 30
MOST_LOGITS = 1 << 26
# Bytes of optimizer moments per trained parameter.
OPTIMIZER_BYTES = {"adamw_torch": 8, "paged_adamw_32bit": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0}
# Bytes that are there before a model is: interpreter and libraries on CPU; CUDA context, kernels, workspaces on a GPU.
OVERHEAD_BYTES = {"cpu": 900_000_000, "cuda": 700_000_000}
SLACK = 1.1  # fragmentation of the allocator


@dataclass(frozen=True)
class TrainingNeeds:
    """Bytes in the memory of the device that trains, by what they are for."""

    weights: int
    adapter: int
    activations: int
    logits: int
    overhead: int

    @property
    def total(self) -> int:
        return int((self.weights + self.adapter + self.activations + self.logits) * SLACK) + self.overhead


@dataclass(frozen=True)
class Size:
    """Bytes of a result; `exact` up to its header and tokenizer."""

    bytes: int
    exact: bool


def training(
    shape: Shape,
    *,
    adapter: str,
    rank: int,
    targets: str | list[str] = "all-linear",
    layers: list[int] | None = None,
    batch: int,
    length: int,
    checkpointing: bool,
    optimizer: str = "adamw_torch",
    device: str = "cuda",
    head: int = 0,
) -> TrainingNeeds:
    """Memory of training: `adapter` "qlora", "lora" or "full", `batch` rows of `length` tokens; `device` "cpu" computes
    in float32, "cuda" in 16 bits. `head`: labels of a head that stands in the place of the vocabulary's."""
    width = 4 if device == "cpu" else 2
    tokens = batch * length
    linear, rest = shape.linear_parameters, shape.parameters - shape.linear_parameters
    packed = adapter == "qlora" and not (device == "cpu" and 4 * linear <= DENSE_BYTES)
    weights = linear * (NF4_BYTES if packed else width) + rest * width
    trained = adapter_parameters(shape, rank, targets, layers) + head * shape.hidden
    moments = trained * (8 + OPTIMIZER_BYTES[optimizer])
    if adapter == "full":
        weights, moments = 4 * shape.parameters, shape.parameters * (4 + OPTIMIZER_BYTES[optimizer])
        targets = []  # no adapter keeps a copy of its input
    return TrainingNeeds(
        weights=int(weights),
        adapter=moments,
        activations=_activations(shape, tokens, width, targets, checkpointing),
        logits=2 * 4 * min(tokens * (head or shape.vocab), MOST_LOGITS),
        overhead=OVERHEAD_BYTES[device],
    )


def _activations(shape: Shape, tokens: int, width: int, targets: str | list[str], checkpointing: bool) -> int:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    kept = width * (4 * shape.hidden + 2 * queries + 2 * keys + 4 * shape.mlp)
    norms = 2 * 4 * shape.hidden
    copies = sum(
        4 * tensor.columns for tensor in shape.tensors() if tensor.layer == 0 and targeted(shape, tensor, targets)
    )
    layer = tokens * (kept + norms + copies)
    if checkpointing:
        return layer + shape.layers * tokens * shape.hidden * width
    return layer * shape.layers


def training_operations(shape: Shape, tokens: int, *, checkpointing: bool, full: bool = False) -> float:
    """Floating-point operations of training on this many tokens: 2 per weight forward, 2 backward (frozen weights need
    no gradient of their own; in `full` fine-tuning it is 2 more), 2 more when the forward pass is computed again;
    attention's own are left out."""
    head = shape.vocab * shape.hidden
    return float(tokens) * (shape.linear_parameters + head) * (4 + 2 * full + 2 * checkpointing)


def export_size(shape: Shape, export: str, *, imatrix: bool = False, overrides: bool = False) -> Size | None:
    """Bytes of an exported file; None for an export whose size is not known here. `imatrix`: a GGUF file quantized by
    an importance matrix; `overrides`: types of single tensors are asked for, so that the size is near at best."""
    if export in GGUF_EXPORTS:
        return Size(gguf_bytes(shape, export, imatrix=imatrix), exact=not overrides)
    embeddings = shape.vocab * shape.hidden
    if export == "onnx-fp32":
        return Size(4 * shape.parameters, exact=False)
    if export == "onnx-int8":
        return Size(int((shape.linear_parameters + embeddings) * (1 + 4 / 32)) + 4 * embeddings, exact=False)
    if export == "onnx-int4":  # 4-bit blocks of 32 with a float32 scale, output layer too; embeddings stay float32
        return Size(int((shape.linear_parameters + embeddings) * (0.5 + 4 / 32)) + 4 * embeddings, exact=False)
    return None


def merged_size(shape: Shape) -> Size:
    """Bytes of the merged checkpoint's tensors."""
    return Size(checkpoint_bytes(shape), exact=True)


def export_memory(shape: Shape, export: str) -> int:
    """Peak memory of writing an export: GGUF and the merged checkpoint go tensor by tensor (the largest in float32,
    twice); the ONNX builder holds the model in float32 and a copy of it."""
    if export.startswith("onnx"):
        return OVERHEAD_BYTES["cpu"] + 2 * 4 * shape.parameters
    largest = max(tensor.count for tensor in shape.tensors())
    return OVERHEAD_BYTES["cpu"] + 2 * 4 * largest
