"""The same graph where transformers.js looks for it: `onnx/model_q4.onnx` and the like, with config.json at the top.

Called by `settings` for `layout: transformers.js`. The files are hard links to those of the layout above, where the
file system has them, so that nothing is stored twice.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from edgeft.files import read_json, remove_tree, write_json

# type -> what transformers.js calls it (`dtype`), and the file that it then asks for. No suffix is fp32.
DTYPES = {
    "fp32": ("fp32", "model"),
    "fp16": ("fp16", "model_fp16"),
    "int8": ("q8", "model_quantized"),
    "int4": ("q4", "model_q4"),
    "int4 fp16": ("q4f16", "model_q4f16"),  # 4-bit weights between 16-bit activations: graphs for WebGPU
}
COMMANDS = """
In a browser or in Node with transformers.js (`npm install @huggingface/transformers`), from the folder above this one:

```js
import { env, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = ".";
const chat = await pipeline("text-generation", "FOLDER", { dtype: "DTYPE" });
const messages = [{ role: "user", content: "Hello" }];
console.log((await chat(messages, { max_new_tokens: 128 }))[0].generated_text.at(-1).content);
```
"""


def called(type_name: str, provider: str) -> tuple[str, str]:
    """transformers.js's `dtype` of an export, and the name of its file."""
    return DTYPES["int4 fp16" if type_name == "int4" and provider != "cpu" else type_name]


def lay_out(folder: Path, checkpoint: Path, type_name: str, provider: str, head_size: int) -> None:
    """Add `onnx/NAME.onnx` with its data file, config.json and generation_config.json to an exported folder."""
    dtype, name = called(type_name, provider)
    place = folder / "onnx"
    remove_tree(place)
    place.mkdir()
    _relinked(folder / "model.onnx", place / f"{name}.onnx", f"{name}.onnx_data", head_size)
    _link(folder / "model.onnx.data", place / f"{name}.onnx_data")
    config = read_json(checkpoint / "config.json")
    # How the weights lie there: one data file beside the graph.
    settings: dict[str, Any] = {"dtype": dtype, "use_external_data_format": {f"{name}.onnx": 1}}
    if type_name == "fp16" or provider != "cpu":
        settings["kv_cache_dtype"] = {dtype: "float16"}
    config["transformers.js_config"] = settings
    write_json(folder / "config.json", config)
    template = folder / "chat_template.jinja"
    if template.is_file():  # transformers.js looks for it here only
        tokenizer = read_json(folder / "tokenizer_config.json")
        tokenizer["chat_template"] = template.read_text(encoding="utf-8")
        write_json(folder / "tokenizer_config.json", tokenizer)
    generation = checkpoint / "generation_config.json"
    if generation.is_file():
        write_json(folder / "generation_config.json", read_json(generation))


def link_graph(folder: Path, type_name: str, provider: str) -> None:
    """Add `onnx/NAME.onnx` to the folder of a classifier, whose config.json and tokenizer lie there already."""
    name = called(type_name, provider)[1]
    place = folder / "onnx"
    remove_tree(place)
    place.mkdir()
    if (folder / "model.onnx.data").is_file():
        _relinked(folder / "model.onnx", place / f"{name}.onnx", f"{name}.onnx_data", 0)
        _link(folder / "model.onnx.data", place / f"{name}.onnx_data")
    else:
        _link(folder / "model.onnx", place / f"{name}.onnx")


def _relinked(graph: Path, copy: Path, data: str, head_size: int) -> None:
    """A copy of a graph whose weights lie in the file `data` beside it, and that says how wide its cache is: the
    library makes an empty one of what the inputs say."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == "kv_cache_dim":
                size.dim_value = head_size
    onnx.save(model, copy)


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:
        shutil.copy2(file, link)
