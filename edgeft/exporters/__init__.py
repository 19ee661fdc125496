"""What a tuned model can be shipped as: the table of formats, and what every exporter is handed.

Read by `edgeft.stages.export` and by the list of targets. An exporter is one function

    export(source: ExportSource, type_name: str, folder: Path, options: Mapping, listen: Listener) -> Exported

that writes its files into `folder` (a fresh work folder; what it leaves there becomes the artifact) and raises an
`EdgeftError` otherwise. Light to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.registry import Row

if TYPE_CHECKING:
    from edgeft.weights import Weights

# format -> row; an export's name is FORMAT-TYPE ("gguf-q4_k_m"), and each module lists its types in TYPES.
EXPORTS: dict[str, Row] = {
    "gguf": Row(
        "edgeft.exporters.gguf.export:export", "one GGUF file for llama.cpp, Ollama and LM Studio", extra="gguf"
    ),
    "lora": Row(
        "edgeft.exporters.gguf.lora:export", "the adapter alone, as GGUF beside a shared base file", extra="gguf"
    ),
    "onnx": Row(
        "edgeft.exporters.onnx.export:export",
        "a folder for ONNX Runtime: what writes, or what gives labels",
        extra="onnx",
    ),
}


@dataclass(frozen=True)
class Taught:
    """What a tune fixes besides weights: the chat template (None: the base's own) and the ids that end an answer
    (empty: the base's own). Every file that ships carries these, or it would not stop where the trained model does.
    `system`: the one system message of all training rows, which examples of use show."""

    chat_template: str | None = None
    stop_ids: tuple[int, ...] = ()
    system: str | None = None


@dataclass(frozen=True)
class ExportSource:
    """What is exported: a base checkpoint, with an adapter folded in as each weight is read.

    base        folder of the base: config, tokenizer, safetensors
    adapter     folder of a peft adapter (an adapter artifact or any other), or None for the base as it is
    merge_base  "dequantized": fold into the 4-bit weights the adapter was trained on, dequantized (its `training.json`
                says which and how); "pristine": into the checkpoint's own. Equal when nothing was quantized
    name        a short name for people and for file names ("sprout-household")
    base_ref    the base model as the recipe names it, for metadata ("builtin:sprout", "Qwen/Qwen3-0.6B")
    fold        False: the base that the adapter goes on, without it, taught as the adapter was (see `gguf/lora.py`)
    """

    base: Path
    adapter: Path | None = None
    merge_base: str = "dequantized"
    name: str = "model"
    base_ref: str = ""
    fold: bool = True

    def folded_into(self) -> str | None:
        """What the adapter really is folded into ("pristine" when nothing was quantized); None without an adapter."""
        from edgeft.weights import quantization
        from edgeft.weights.checkpoint import read_config

        if self.adapter is None:
            return None
        if read_config(self.base).get("quantization_config"):
            return "dequantized"  # a 4-bit checkpoint: there is no other base
        if self.merge_base != "dequantized":
            return self.merge_base
        return "dequantized" if quantization(self.adapter) else "pristine"

    def weights(self) -> Weights:
        """The merged weights, each read (and folded) when asked for. Reads headers now, no values.

        A `ModelError` for what does not fit together, and for an adapter whose training.json names another base.
        """
        from edgeft.models.identity import check_same_base
        from edgeft.weights import open_base, open_weights

        if self.adapter:
            check_same_base(self.adapter, self.base)
        if not self.fold:
            return open_base(self.base, self.adapter, merge_base=self.merge_base)
        return open_weights(self.base, self.adapter, merge_base=self.merge_base)

    def taught(self) -> Taught:
        """What the adapter's training.json says it was taught with; nothing for an adapter of another tool."""
        from edgeft.models.identity import read_training

        training = (read_training(self.adapter) if self.adapter else None) or {}
        system = training.get("system")
        stop_ids = tuple(training.get("stop_ids") or ())
        return Taught(training.get("chat_template"), stop_ids, system if isinstance(system, str) else None)


@dataclass(frozen=True)
class Exported:
    """What an exporter hands back: reproducible facts and volatile measurements, as an artifact records them."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    volatile: tuple[str, ...] = ()
