"""The model families that can be written as GGUF: architecture name of config.json -> its module.

A family module gives

    ARCH                                  llama.cpp's name of the architecture
    check(config) -> None                 raises `ModelError` for what it cannot express
    metadata(config, put) -> None         put(key, value, kind): hyper-parameters, as llama.cpp reads them
    tensors(config, weights) -> dict      GGUF tensor name -> `Deferred`, in file order

Adding one is one file, one row here and its line in the oracle test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.errors import ModelError
from edgeft.registry import Row, Table

FAMILIES: Table = {
    "LlamaForCausalLM": Row("edgeft.exporters.gguf.families.llama", "Llama 1 to 3.x and what is built like it"),
}


def family_of(config: Mapping[str, Any]) -> Any:
    """The module of a model's family. A `ModelError` lists the families there are."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    if name not in FAMILIES:
        raise ModelError(
            f"edgeft cannot write the architecture {name!r} as GGUF", do=f"architectures: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[str(name)].load()
