"""What a GGUF file says about itself, and the README.md beside it with the exact commands to use it."""

from __future__ import annotations

from edgeft.exporters import ExportSource
from edgeft.exporters.gguf.types import FileType


def lineage(source: ExportSource) -> dict[str, str | int]:
    """`general.*` keys about where the model comes from."""
    if not source.base_ref:
        return {}
    found: dict[str, str | int] = {"general.base_model.count": 1, "general.base_model.0.name": source.base_ref}
    if source.adapter:
        found["general.finetune"] = source.name
    return found


def readme(source: ExportSource, files: list[str], kind: FileType) -> str:
    """Markdown: what the file (or its shards, in order) is and how to run it, from the folder it lies in."""
    file = files[0]
    what = (
        f"tuned from `{source.base_ref}`"
        if source.adapter and source.base_ref
        else f"`{source.base_ref or source.name}`"
    )
    whole, merge, more = file, "", ""
    if len(files) > 1:  # Ollama takes whole files only
        whole = f"{source.name}-{kind.name}.gguf"
        merge = f"    llama-gguf-split --merge {file} {whole}\n"
        more = f" It is in {len(files)} files; whoever opens the first finds the others beside it."
    return f"""# {source.name} ({kind.name})

`{file}`: {what}, as GGUF, {kind.help}. The chat template and the stop tokens are inside the file.{more}

llama.cpp:

    llama-cli -m {file} -cnv

Ollama:

{merge}    echo "FROM ./{whole}" > Modelfile
    ollama create {source.name.lower()} -f Modelfile
    ollama run {source.name.lower()}

Python (`pip install llama-cpp-python`):

    from llama_cpp import Llama

    model = Llama("{file}", n_ctx=0, verbose=False)
    answer = model.create_chat_completion([{{"role": "user", "content": "Hello"}}], temperature=0)
    print(answer["choices"][0]["message"]["content"])
"""
