"""A model's parameters from its config.json alone: names, shapes, dtype, no values. Used to size exports beforehand."""

from __future__ import annotations

from pathlib import Path

from edgeft import extras
from edgeft.errors import ModelError
from edgeft.models.quiet import quiet
from edgeft.models.tokenizer import first_line


def parameters_of(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Parameter name -> (shape, dtype as torch names it: "bfloat16"), in the model's order; tied ones once.

    Built by transformers without memory for values. A `ModelError` when it cannot make a model of the config.
    """
    extras.require("train")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises its own kinds for configs it does not know
        raise ModelError(f"no model can be made of config.json ({first_line(error)})", where=folder) from None
    dtype = str(config.dtype or torch.float32).rpartition(".")[2]
    return {name: (tuple(parameter.shape), dtype) for name, parameter in model.named_parameters()}
