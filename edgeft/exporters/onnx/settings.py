"""What stands beside the graph: genai_config.json, tokenizer files, chat template and README, as training had them.

Called by `decoder` after the builder has written its own. The builder guesses (a BOS id of 1 where there is no BOS),
reads stop tokens from configs only, and saves the tokenizer in a form that transformers 4 cannot load; all three are
put right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.exporters import ExportSource
from edgeft.exporters.card import code, front_matter, plain, relation_of, trained
from edgeft.exporters.onnx.options import TYPES, OnnxOptions
from edgeft.exporters.onnx.run_script import run_script
from edgeft.exporters.onnx.web import COMMANDS, called, lay_out
from edgeft.exporters.origin import origin_of
from edgeft.files import read_json, write_json, write_text

CONFIG = "genai_config.json"
_TAGS = ("onnx", "edgeft", "onnxruntime-genai")  # of the model card
# The tokenizer as it was trained with, byte for byte; onnxruntime-genai reads tokenizer.json and tokenizer_config.json.
_TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
_TEMPLATE = "chat_template.jinja"
_TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class Settings:
    """What a device must know: `context_length` tokens at most, `max_length` unless it says otherwise."""

    vocab_size: int
    context_length: int
    max_length: int
    stop_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int
    template: str | None


def settings_of(checkpoint: Path, adapter: Path | None, config: Mapping[str, Any], max_length: int | None) -> Settings:
    """Read from the tokenizer and configs of `checkpoint`; the template is the one the adapter was trained with."""
    from edgeft.models.stops import stop_ids
    from edgeft.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint, adapter=adapter)
    stops = stop_ids(checkpoint, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops[0] if stops else 0)
    template = tokenizer.chat_template
    length = int(config["max_position_embeddings"])
    return Settings(
        vocab_size=int(config["vocab_size"]),
        context_length=length,
        max_length=min(max_length or length, length),
        stop_ids=stops,
        bos_id=tokenizer.bos_token_id,
        pad_id=int(pad),
        template=template if isinstance(template, str) else None,
    )


def write_settings(
    folder: Path, checkpoint: Path, settings: Settings, source: ExportSource, type_name: str, options: OnnxOptions
) -> None:
    """Replace the builder's settings and tokenizer files in `folder`, and write its README and run.py."""
    _write_genai_config(folder / CONFIG, settings, options)
    _write_tokenizer(folder, checkpoint, settings)
    card = front_matter(source, relation_of(source, quantized="int" in type_name), _TAGS, "onnxruntime-genai")
    text = _readme(source, settings, type_name, options)
    write_text(folder / "README.md", "\n".join([*card, text, *trained(source)]))
    write_text(folder / "run.py", run_script(settings.template, special_tokens(folder / _TOKENIZER_CONFIG)))
    if options.layout == "transformers.js":
        head_size = int(read_json(folder / CONFIG)["model"]["decoder"]["head_size"])
        lay_out(folder, checkpoint, type_name, options.target, head_size)


def special_tokens(path: Path) -> dict[str, str]:
    """The special tokens that a template may name: "bos_token" -> "<s>"."""
    found = {}
    for key, value in read_json(path).items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            found[key] = text
    return found


def _write_genai_config(path: Path, settings: Settings, options: OnnxOptions) -> None:
    config = read_json(path)
    model = config["model"]
    model["eos_token_id"] = list(settings.stop_ids)
    model["pad_token_id"] = settings.pad_id
    model["bos_token_id"] = settings.bos_id if settings.bos_id is not None else settings.pad_id  # the key is required
    model["context_length"] = settings.context_length
    config["search"]["max_length"] = settings.max_length
    if options.target == "cpu":  # an fp16 graph was made for another provider
        model["decoder"]["session_options"]["provider_options"] = []
    write_json(path, config)


def _write_tokenizer(folder: Path, checkpoint: Path, settings: Settings) -> None:
    for name in _TOKENIZER_FILES:
        if (checkpoint / name).is_file():
            (folder / name).write_bytes((checkpoint / name).read_bytes())
    origin = checkpoint / _TOKENIZER_CONFIG
    config = read_json(origin if origin.is_file() else folder / _TOKENIZER_CONFIG)
    config.pop("chat_template", None)
    limit = config.get("model_max_length")
    if not isinstance(limit, int) or limit > settings.context_length:
        config["model_max_length"] = (
            settings.context_length
        )  # "no limit" is a number of 31 digits, which readers choke on
    write_json(folder / _TOKENIZER_CONFIG, config)
    if settings.template is None:
        (folder / _TEMPLATE).unlink(missing_ok=True)
    else:
        write_text(folder / _TEMPLATE, settings.template)


def _readme(source: ExportSource, settings: Settings, type_name: str, options: OnnxOptions) -> str:
    base = code(origin_of(source).reference or "a local base model")  # no place of this machine
    made = f"tuned from {base}" if source.adapter else base
    stops = json.dumps(list(settings.stop_ids))
    device = {"cpu": "CPUs", "mobile": "phones and small boards", "web": "browsers"}[options.device]
    python = _PYTHON.replace("MAX_LENGTH", str(settings.max_length))
    if options.adapter == "apart":  # as run.py does by itself
        python = python.replace("generator.append", _ACTIVATE.replace("NAME", source.name) + "generator.append", 1)
    web = COMMANDS.replace("DTYPE", called(type_name, options.target)[0]) if options.layout == "transformers.js" else ""
    return f"""# {plain(source.name)}, ONNX {type_name}

{made[:1].upper()}{made[1:]}, for ONNX Runtime on {device} ({options.target}): {TYPES[type_name]}.
Context {settings.context_length} tokens; generation ends at the token ids {stops}.

With edgeft, from this folder:

    edgeft chat .

Without edgeft, with plain ONNX Runtime (`pip install onnxruntime tokenizers numpy`):

    python run.py

Python with onnxruntime-genai (`pip install onnxruntime-genai`), from this folder:

```python
{python}```
{web}"""


_ACTIVATE = """adapters = og.Adapters(model)  # without these three lines it answers as the base
adapters.load("NAME.onnx_adapter", "NAME")
generator.set_active_adapter(adapters, "NAME")
"""


def adapter_readme(source: ExportSource, file: str, type_name: str) -> str:
    """The README.md beside an adapter file that stands alone."""
    return f"""# {source.name}, an adapter for ONNX Runtime

`{file}` goes on `{source.base_ref or "its base"}`, exported with `adapter: apart` as {type_name}; copy it beside that
folder's `model.onnx`, or load it from where it is:

```python
adapters = og.Adapters(model)
adapters.load("{file}", "{source.name}")
generator.set_active_adapter(adapters, "{source.name}")
```
"""


_PYTHON = """import json

import onnxruntime_genai as og

model = og.Model(".")
tokenizer = og.Tokenizer(model)
messages = [{"role": "user", "content": "Hello"}]
prompt = tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
ids = tokenizer.encode(prompt)

parameters = og.GeneratorParams(model)
parameters.set_search_options(max_length=min(len(ids) + 256, MAX_LENGTH), do_sample=False)
generator = og.Generator(model, parameters)
generator.append_tokens(ids)
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
"""
