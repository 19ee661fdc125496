"""What stands beside a classifier's graph: labels, config, tokenizer, README and run.py. Called by `classifier`.

`labels.json` is what edgeft and run.py read: the labels in the order of the head, the most tokens a text may have, the
padding. `config.json` says the same (`id2label`) to transformers.js and to optimum's ORTModelForSequenceClassification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource
from edgeft.exporters.card import code, front_matter, plain, relation_of, trained
from edgeft.exporters.onnx.classifier_script import run_script
from edgeft.exporters.onnx.options import OnnxOptions
from edgeft.exporters.onnx.settings import special_tokens
from edgeft.exporters.onnx.web import called, link_graph
from edgeft.exporters.origin import origin_of
from edgeft.files import read_json, write_json, write_text
from edgeft.models.heads import longest
from edgeft.weights.checkpoint import read_config

LABELS = "labels.json"
_TAGS = ("onnx", "edgeft", "onnxruntime", "text-classification")
_TYPES = {
    "fp32": "the trained weights unrounded",
    "fp16": "half the size of fp32; norms and positions are computed in 32 bits",
    "int8": "8-bit weights and activations (dynamic quantization)",
    "int4": "4-bit weights in blocks",
}


@dataclass(frozen=True)
class Head:
    """What a device must know of a classifier. `ends`: how many special tokens stand at the end of every text; they
    stay when a text is cut to `max_length` tokens."""

    labels: tuple[str, ...]
    max_length: int
    pad_id: int
    ends: int

    def shortened(self, ids: Sequence[int]) -> list[int]:
        """At most `max_length` of the ids, as training cut longer ones."""
        if len(ids) <= self.max_length:
            return list(ids)
        return [*ids[: self.max_length - self.ends], *ids[len(ids) - self.ends :]]

    def table(self) -> dict[str, Any]:
        """labels.json."""
        return {
            "labels": list(self.labels),
            "max_length": self.max_length,
            "pad_id": self.pad_id,
            "ends": self.ends,
        }

    def metadata(self) -> dict[str, str]:
        """Of the graph; the labels as JSON, in the form of config.json."""
        names = {str(number): label for number, label in enumerate(self.labels)}
        return {
            "id2label": json.dumps(names, ensure_ascii=False),
            "max_length": str(self.max_length),
            "pad_token_id": str(self.pad_id),
        }


def head_of(source: ExportSource, config: Mapping[str, Any], labels: Sequence[str], asked: int | None) -> Head:
    """config: of the opened model. asked: the most tokens that a text shall have, instead of the model's own."""
    from edgeft.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(source.base, adapter=source.adapter)
    limits = [longest(read_config(source.base)) or 512, tokenizer.model_max_length, *([asked] if asked else [])]
    bare, whole = (list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    ends = 0
    while ends < len(whole) and whole[len(whole) - 1 - ends] in tokenizer.all_special_ids:
        ends += 1
    if not bare or ends >= len(whole):
        raise ModelError("the tokenizer gives no token for the letter a", where=source.base)
    pad = config.get("pad_token_id")
    return Head(tuple(labels), int(min(limits)), int(pad) if isinstance(pad, int) and pad >= 0 else 0, ends)


def write_files(folder: Path, source: ExportSource, head: Head, type_name: str, options: OnnxOptions) -> None:
    """Everything but the graph, which is there."""
    write_json(folder / LABELS, head.table())
    write_json(folder / "config.json", _config(source, head))
    template = _write_tokenizer(folder, source, head)
    write_text(folder / "run.py", run_script(template, special_tokens(folder / "tokenizer_config.json")))
    card = front_matter(
        source, relation_of(source, quantized="int" in type_name), _TAGS, "onnxruntime", pipeline="text-classification"
    )
    text = _readme(source, head, type_name, options)
    write_text(folder / "README.md", "\n".join([*card, text, *trained(source)]))
    if options.layout == "transformers.js":
        link_graph(folder, type_name, options.target)


def _config(source: ExportSource, head: Head) -> dict[str, Any]:
    """The base's config as one of a classifier with these labels."""
    config = dict(read_config(source.base))
    for key in ("quantization_config", "torch_dtype", "transformers_version", "_name_or_path"):
        config.pop(key, None)
    name = str((config.get("architectures") or ["Model"])[0])
    stem = name.partition("For")[0].removesuffix("Model")
    return {
        **config,
        "architectures": [f"{stem}ForSequenceClassification"],
        "dtype": "float32",
        "id2label": {str(number): label for number, label in enumerate(head.labels)},
        "label2id": {label: number for number, label in enumerate(head.labels)},
        "pad_token_id": head.pad_id,
        "problem_type": "single_label_classification",
    }


def _write_tokenizer(folder: Path, source: ExportSource, head: Head) -> str | None:
    """tokenizer.json as transformers opens it (some classes change what the file says), its config, and the chat
    template when there is one, which is handed back."""
    from edgeft.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(source.base, adapter=source.adapter)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    write_text(folder / "tokenizer.json", backend.to_str(pretty=True))
    origin = source.base / "tokenizer_config.json"
    config = read_json(origin) if origin.is_file() else {}
    config.pop("chat_template", None)
    config["model_max_length"] = head.max_length
    if config.get("tokenizer_class") in (None, "TokenizersBackend"):
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(folder / "tokenizer_config.json", config)
    if (source.base / "special_tokens_map.json").is_file():
        write_json(folder / "special_tokens_map.json", read_json(source.base / "special_tokens_map.json"))
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return None
    write_text(folder / "chat_template.jinja", template)
    return template


def _readme(source: ExportSource, head: Head, type_name: str, options: OnnxOptions) -> str:
    base = code(origin_of(source).reference or "a local base model")  # no place of this machine
    made = f"tuned from {base}" if source.adapter else base
    labels = ", ".join(code(label) for label in head.labels)
    web = _WEB.replace("DTYPE", called(type_name, options.target)[0]) if options.layout == "transformers.js" else ""
    return f"""# {plain(source.name)}, ONNX {type_name}

A text classifier, {made}, for ONNX Runtime: {_TYPES[type_name]}.
Labels: {labels}. Texts of up to {head.max_length} tokens; longer ones are cut.

From this folder, with plain ONNX Runtime (`pip install onnxruntime tokenizers numpy`):

    python run.py "a text" "another text"

Python:

```python
{_PYTHON}```
{web}"""


_PYTHON = """import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

labels = json.load(open("labels.json"))["labels"]
session = onnxruntime.InferenceSession("model.onnx")
ids = np.array([Tokenizer.from_file("tokenizer.json").encode("a text").ids])
logits = session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
print(labels[logits[0].argmax()])
"""
_WEB = """
In a browser or in Node with transformers.js (`npm install @huggingface/transformers`), from the folder above this one:

```js
import { env, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = ".";
const classify = await pipeline("text-classification", "FOLDER", { dtype: "DTYPE" });
console.log(await classify("a text"));
```
"""
