"""The end of a run: where the files are, and the exact commands to use each, with the system message that all training
rows had. Pure text; called by `edgeft run`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeft.artifact import Artifact
from edgeft.files import human_size, read_json
from edgeft.models.heads import REWARD, labels_of
from edgeft.models.identity import TRAINING
from edgeft.recipe.names import LABELLED

MODELFILE = "Modelfile"
SHIPPED = ("adapter", "model", "gguf", "lora", "onnx")


def files_and_commands(artifacts: Mapping[str, Artifact], links: Mapping[str, Path], recipe: str) -> Iterator[str]:
    """Lines for the terminal, about what is linked into `build/`: by target name, artifacts and the links to them."""
    shipped = [(name, artifacts[name], links[name]) for name in links if artifacts[name].kind in SHIPPED]
    if not shipped:
        return
    yield ""
    yield "Files"
    for _, artifact, link in shipped:
        path = main_file(artifact, link)
        yield f"  {path!s:<64} {human_size(artifact.size()):>10}"
    report = next((links[name] for name in links if artifacts[name].kind == "report"), None)
    if report is not None:
        yield f"  {report / 'report.html'}"
    system = system_of(artifacts)
    by_kind: dict[str, tuple[Artifact, Path]] = {}
    for _, artifact, link in shipped:  # the last of a kind is the smallest: recipes list exports from large to small
        by_kind[artifact.kind] = (artifact, link)
    if "gguf" in by_kind:
        artifact, link = by_kind["gguf"]
        made = MODELFILE in artifact.files
        yield from gguf_commands(main_file(artifact, link), recipe, modelfile=made, system=system)
    if "lora" in by_kind:
        yield from lora_commands(*by_kind["lora"], system)
    if "onnx" in by_kind:
        artifact, link = by_kind["onnx"]
        labels = artifact.facts.get("task") == "classification"
        yield from label_commands(link) if labels else onnx_commands(link, system)
    if "model" in by_kind:
        yield from model_commands(by_kind["model"][1], system)
    heads = [link for _, artifact, link in shipped if labels_of(artifact.path) is not None]
    if any(artifact.facts.get("task") == "classification" for _, artifact, _ in shipped):
        return
    whole = [link for _, artifact, link in shipped if artifact.kind != "lora" or artifact.facts.get("base_file")]
    whole = [link for link in whole if link not in heads]
    if heads:
        yield ""
        rewards = labels_of(heads[-1]) == REWARD
        yield "Judge it on other pairs of answers" if rewards else "Judge it on other rows with labels"
        kind = "pairs" if rewards else LABELLED
        yield f"  edgeft eval {shlex.quote(str(heads[-1]))} --kind {kind} --suite ROWS.jsonl"
    if whole:
        yield ""
        yield "Talk to any of them"
        yield f"  edgeft chat {shlex.quote(str(whole[-1]))}{_option('--system', system)}"


def system_of(artifacts: Mapping[str, Artifact]) -> str | None:
    """The system message that the last training's rows all had, by its training.json."""
    told = None
    for artifact in artifacts.values():
        if TRAINING in artifact.files:
            found = read_json(artifact.path / TRAINING).get("system")
            told = found if isinstance(found, str) else None
    return told


def _option(name: str, system: str | None) -> str:
    """A command's option with the system message; nothing for one of several lines, which is better put in a file."""
    return f" {name} {shlex.quote(system)}" if system and system.isprintable() else ""


def _messages(system: str | None) -> str:
    """A conversation as Python and JSON both write it."""
    first = [{"role": "system", "content": system}] if system else []
    return json.dumps([*first, {"role": "user", "content": "Hello"}], ensure_ascii=False)


def main_file(artifact: Artifact, link: Path) -> Path:
    """The file that a person hands around: the .gguf itself, else the folder."""
    if artifact.kind == "gguf":
        names = sorted(name for name in artifact.files if name.endswith(".gguf"))
        if len(names) == 1 or artifact.facts.get("shards") == names:  # of shards the first: it names the others
            return link / names[0]
    if artifact.kind == "lora" and artifact.facts.get("file") in artifact.files:
        return link / str(artifact.facts["file"])
    return link


def gguf_commands(path: Path, recipe: str, *, modelfile: bool, system: str | None = None) -> Iterator[str]:
    yield ""
    yield f"  GGUF={shlex.quote(str(path))}"
    yield "llama.cpp"
    yield f'  llama-cli -m "$GGUF"{_option("-sys", system)}'
    yield '  llama-server -m "$GGUF" --port 8080'
    yield "Ollama"
    name = re.sub(r"[^a-z0-9._-]+", "-", recipe.lower()).strip("-") or "tuned"
    if modelfile:
        place = shlex.quote(str(path.with_name(MODELFILE)))
        yield f"  ollama create {name} -f {place} && ollama run {name}"
    else:  # its README.md says why there is none
        yield '  echo "FROM $PWD/$GGUF" > Modelfile'
        yield f"  ollama create {name} -f Modelfile && ollama run {name}"
    yield "Python (pip install llama-cpp-python)"
    yield "  from llama_cpp import Llama"
    yield f'  path = "{path}"'
    yield "  model = Llama(path, n_ctx=0, verbose=False)"
    yield f"  messages = {_messages(system)}"
    yield '  print(model.create_chat_completion(messages)["choices"][0]["message"])'


def lora_commands(artifact: Artifact, link: Path, system: str | None = None) -> Iterator[str]:
    """An adapter as GGUF, on the base file beside it, or on one that has to be given."""
    base = artifact.facts.get("base_file")
    yield ""
    if base:
        yield f"  BASE={shlex.quote(str(link / str(base)))}"
    else:
        yield "  BASE=base.gguf  # a GGUF file of the base; the README.md beside the adapter says how to make it"
    yield f"  LORA={shlex.quote(str(main_file(artifact, link)))}"
    yield "llama.cpp, the adapter on its base"
    yield f'  llama-cli -m "$BASE" --lora "$LORA"{_option("-sys", system)}'
    yield '  llama-server -m "$BASE" --lora "$LORA" --port 8080'
    if not base:
        yield "edgeft"
        yield f'  edgeft chat "$LORA" --base "$BASE"{_option("--system", system)}'


def onnx_commands(folder: Path, system: str | None = None) -> Iterator[str]:
    yield ""
    yield "ONNX Runtime (pip install onnxruntime-genai)"
    yield "  import json, onnxruntime_genai as og"
    yield f'  model = og.Model("{folder}")'
    yield "  tokenizer = og.Tokenizer(model)"
    yield f"  messages = json.dumps({_messages(system)})"
    yield "  prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)"
    yield "  parameters = og.GeneratorParams(model)"
    yield "  parameters.set_search_options(max_length=256)"
    yield "  generator = og.Generator(model, parameters)"
    yield "  generator.append_tokens(tokenizer.encode(prompt))"
    yield "  while not generator.is_done():"
    yield "      generator.generate_next_token()"
    yield "  print(tokenizer.decode(generator.get_sequence(0)))"


def label_commands(folder: Path) -> Iterator[str]:
    yield ""
    yield "A label for each text (pip install onnxruntime tokenizers numpy)"
    yield f'  python {shlex.quote(str(folder / "run.py"))} "a text" "another text" --all'


def model_commands(folder: Path, system: str | None = None) -> Iterator[str]:
    yield ""
    yield "Transformers (pip install transformers torch)"
    yield "  from transformers import pipeline"
    yield f'  model = pipeline("text-generation", "{folder}")'
    yield f"  print(model({_messages(system)}, max_new_tokens=64))"
