"""`run.py`, which lies beside every exported graph: chats with onnxruntime, tokenizers and numpy, without edgeft.

The chat template is not rendered there: what stands around each message is found out here and written into the script;
templates that cannot be taken apart so are rendered with Jinja. Called by `settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.errors import ModelError
from edgeft.models.template import render

_BLANKS = "\n \t\n"
_SYSTEM, _USER, _ANSWER, _AGAIN = "<<system>>", "<<user>>", "<<answer>>", "<<again>>"


def run_script(template: str | None, tokens: Mapping[str, str]) -> str:
    """The text of run.py. tokens: the special tokens that the template may name."""
    parts = None if template is None else chat_parts(template, tokens)
    needed = dict(tokens) if parts is None else {}
    return _SCRIPT.replace("_CHAT_", repr(parts)).replace("_SPECIAL_TOKENS_", repr(needed))


def chat_parts(template: str, tokens: Mapping[str, str]) -> dict[str, Any] | None:
    """What the template writes around messages: start, after_user, after_assistant, end (with the beginning of an
    answer) and, when it takes a system message, start_system and after_system; strip: contents lose their outer blanks.
    None when it does not write every conversation so, or writes today's date."""
    if "strftime_now" in template:
        return None

    def rendered(*contents: str, system: bool = False, blanks: str = "") -> str:
        roles = [*(["system"] if system else []), *(["user", "assistant"] * len(contents))]
        messages = [
            {"role": role, "content": f"{blanks}{content}{blanks}"}
            for role, content in zip(roles, contents, strict=False)
        ]
        return render(template, messages, add_generation_prompt=True, variables=tokens)

    try:
        start, after_user, after_answer, end = _split(rendered(_USER, _ANSWER, _AGAIN), _USER, _ANSWER, _AGAIN)
        parts: dict[str, Any] = {"start": start, "after_user": after_user, "after_assistant": after_answer, "end": end}
        parts["strip"] = f"{_BLANKS}{_USER}{_BLANKS}" not in rendered(_USER, blanks=_BLANKS)
        long = (_USER, _ANSWER, "third", "fourth", "fifth")
        if rendered(*long) != _joined(parts, long, system=False):
            return None
    except (ModelError, ValueError):
        return None
    try:
        before, between, _ = _split(rendered(_SYSTEM, _USER, system=True), _SYSTEM, _USER)
        parts |= {"start_system": before, "after_system": between}
        if rendered(_SYSTEM, *long, system=True) != _joined(parts, (_SYSTEM, *long), system=True):
            return None
    except (ModelError, ValueError):
        pass  # it takes no system message
    return parts


def _split(text: str, *marks: str) -> list[str]:
    """What stands around the marks; a `ValueError` when one is not there just once."""
    found = []
    for mark in marks:
        before, text = text.split(mark)
        found.append(before)
    return [*found, text]


def _joined(parts: Mapping[str, Any], contents: Sequence[str], *, system: bool) -> str:
    roles = [*(["system"] if system else []), *(["user", "assistant"] * len(contents))]
    text = str(parts["start_system" if system else "start"])
    for role, content in zip(roles[: len(contents) - 1], contents, strict=False):
        text += content + parts[f"after_{role}"]
    return text + contents[-1] + str(parts["end"])


_SCRIPT = r'''"""Chat with the ONNX model in this folder. Needs: pip install onnxruntime tokenizers numpy

    python run.py                        a conversation; an empty line ends it
    python run.py "Turn on the light"    one answer
"""

import argparse
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
# What stands around each message, as the model was taught. None: its template is rendered, which needs jinja2.
CHAT = _CHAT_
SPECIAL_TOKENS = _SPECIAL_TOKENS_


def render(messages):
    """The conversation as text, with the beginning of the answer."""
    if CHAT is None:
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # pip install jinja2

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals.update(strftime_now=lambda form: datetime.now().strftime(form), raise_exception=refuse)
        template = environment.from_string((HERE / "chat_template.jinja").read_text(encoding="utf-8"))
        return template.render(messages=messages, add_generation_prompt=True, **SPECIAL_TOKENS)
    text = CHAT["start"]
    for message in messages:
        if message["role"] == "system":
            text = CHAT["start_system"] if "start_system" in CHAT else refuse("this model takes no system message")
        content = message["content"].strip() if CHAT["strip"] else message["content"]
        text += content + CHAT["end" if message is messages[-1] else "after_" + message["role"]]
    return text


def refuse(why):
    raise SystemExit(why)


class Model:
    """The graph with its cache: what it has read is kept, so that each token is read once."""

    def __init__(self, threads, provider):
        model = json.loads((HERE / "genai_config.json").read_text(encoding="utf-8"))["model"]
        decoder, stops = model["decoder"], model["eos_token_id"]
        self.stops = set(stops if isinstance(stops, list) else [stops])
        self.context = model["context_length"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(HERE / decoder["filename"]), options, providers=[provider])
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        self.after = {}  # input that holds a part of the cache -> the output that is it afterwards
        for key, name in decoder["inputs"].items():
            for layer in range(decoder["num_hidden_layers"] if key.startswith("past_") else 0):
                after = decoder["outputs"]["present_" + key.removeprefix("past_")]
                if name.replace("%d", str(layer)) in self.inputs:
                    self.after[name.replace("%d", str(layer))] = after.replace("%d", str(layer))
        self.head_size = decoder["head_size"]
        self.adapter = self.read_adapter()
        self.forget()

    def read_adapter(self):
        """The inputs of an adapter that lies beside the graph."""
        files = sorted(HERE.glob("*.onnx_adapter"))
        if not files:
            return {}
        file = onnxruntime.AdapterFormat.read_adapter(str(files[0]))
        return {name: np.array(value.numpy()) for name, value in file.get_parameters().items()}

    def forget(self):
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        self.ids, self.cache = [], {}
        for name in self.after:
            entry = self.inputs[name]
            sizes = {"batch_size": 1, "past_sequence_length": 0}
            shape = [size if isinstance(size, int) else sizes.get(size, self.head_size) for size in entry.shape]
            self.cache[name] = np.zeros(shape, dtype=kinds[entry.type])

    def read(self, ids):
        """The logits after the last of `ids`; what was read before and stands at their start is not read again."""
        same = ids[: len(self.ids)] == self.ids and len(ids) > len(self.ids)
        if not same:
            self.forget()
        new, past = ids[len(self.ids) :], len(self.ids)
        known = {
            "input_ids": np.array([new], dtype=np.int64),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "position_ids": np.arange(past, len(ids), dtype=np.int64)[None],
            **self.cache,
        }
        feeds = {name: known[name] for name in self.inputs} | self.adapter
        logits, *cache = self.session.run(["logits", *self.after.values()], feeds)
        self.cache, self.ids = dict(zip(self.after, cache)), list(ids)
        return logits[0, -1].astype(np.float64)


def choose(logits, temperature, random):
    if temperature <= 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / temperature)
    return int(random.choice(len(weights), p=weights / weights.sum()))


def answer(model, tokenizer, messages, options, random):
    """Print the answer as it comes; returns it."""
    ids = tokenizer.encode(render(messages), add_special_tokens=False).ids
    found, told = [], 0
    while len(found) < options.max_tokens and len(ids) + len(found) < model.context:
        token = choose(model.read(ids + found), options.temperature, random)
        if token in model.stops:
            break
        found.append(token)
        text = tokenizer.decode(found, skip_special_tokens=True).rstrip("\ufffd")
        print(text[told:], end="", flush=True)
        told = max(told, len(text))
    text = tokenizer.decode(found, skip_special_tokens=True)
    print(text[told:])
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("message", nargs="?")
    parser.add_argument("--system", help="what the system message says")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0 lets ONNX Runtime choose")
    parser.add_argument("--provider", default="CPUExecutionProvider")
    options = parser.parse_args()
    model = Model(options.threads, options.provider)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    random = np.random.default_rng(options.seed)
    messages = [{"role": "system", "content": options.system}] if options.system else []
    said = options.message or input("> ")
    while said:
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": answer(model, tokenizer, messages, options, random)})
        said = "" if options.message else input("> ")


if __name__ == "__main__":
    main()
'''
