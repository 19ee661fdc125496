"""What rounding the weights costs, told apart from what the graph gets wrong: the trained model with the file's own
dequantized weights answers as the file does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.decoder import export
from edgeft.runtimes.onnx import open_onnx
from edgeft.weights import open_weights
from tests.exporters.onnx.dequantized import weights_of

IDS = list(range(40, 80))


@pytest.mark.parametrize(
    ("type_name", "options"),
    [("int4", {}), ("int4", {"layers": "int8", "block_size": 16}), ("int8", {"embeddings": "float"})],
    ids=str,
)
def test_all_of_the_error_is_in_the_weights(
    type_name: str, options: dict[str, Any], tiny_llama: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    export(ExportSource(tiny_llama, tiny_adapter), type_name, tmp_path, {**options, "accuracy_level": 1})
    with open_onnx(tmp_path, engine="plain", threads=1) as runtime:
        shipped = runtime.logits(IDS)
    merged = open_weights(tiny_llama, tiny_adapter)
    held = weights_of(tmp_path / "model.onnx", (256, 128, 128))

    def logits(changed: dict[str, Any]) -> Any:
        model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
        if type_name == "int8":  # there the embeddings stay as they are
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        for name, parameter in model.named_parameters():
            parameter.data = merged.get(name, merged["model.embed_tokens.weight"]).read().float()
        for name, value in changed.items():
            model.get_submodule(name).weight.data = torch.tensor(value)
        with torch.inference_mode():
            return model(torch.tensor([IDS])).logits[0].numpy()

    of_the_graph = np.abs(shipped - logits(held)).max()
    of_the_weights = np.abs(logits(held) - logits({})).max()
    assert len(held) == 2 * 7 + 1
    assert of_the_graph < 1e-3 < of_the_weights
