"""The other way to an ONNX file: Hugging Face's optimum, for what onnxruntime-genai's builder does not export.

optimum-onnx needs an older transformers than edgeft trains with, so it runs as `optimum_worker.py` in an environment of
its own; merging, quantizing, the runtime's settings and the proof are edgeft's. Called by `decoder` for
`backend: optimum`. The graph is optimum's own, so the folder also opens with its `ORTModelForCausalLM`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, MissingError, ModelError, RecipeError
from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.options import OnnxOptions
from edgeft.exporters.onnx.settings import CONFIG, Settings, settings_of, write_settings
from edgeft.files import read_json, write_json
from edgeft.progress import Listener, Progress

PYTHON = "EDGEFT_OPTIMUM_PYTHON"
_ENVIRONMENT = Path(".venv-optimum")
_INSTALL = (
    "python3 -m venv .venv-optimum && .venv-optimum/bin/pip install 'edgeft[optimum]' "
    f"(or name another environment's Python in {PYTHON})"
)
_PROBE = (
    "import importlib.util as u, sys; sys.exit(not (u.find_spec('optimum') and u.find_spec('optimum.exporters.onnx')))"
)
_WORKER = Path(__file__).with_name("optimum_worker.py")
_GRAPH = "model.onnx"
_BITS = {"int8": 8, "int4": 4}
_TYPES = ("fp32", *_BITS)


def check(type_name: str) -> None:
    """Raise a `RecipeError` for a type that is not made this way, a `MissingError` when optimum is not there."""
    if type_name not in _TYPES:
        raise RecipeError(f"backend: optimum makes no {type_name}", do=f"it makes {', '.join(_TYPES)}")
    python_with_optimum()


def python_with_optimum() -> Path:
    """The interpreter that has optimum-onnx: the one that EDGEFT_OPTIMUM_PYTHON names, this one, or that of
    `.venv-optimum` here. Raises `MissingError` with the command that makes one."""
    named = os.environ.get(PYTHON)
    candidates = [Path(named)] if named else [Path(sys.executable), _ENVIRONMENT / "bin" / "python"]
    for python in candidates:
        if python.is_file() and subprocess.run([python, "-I", "-c", _PROBE], capture_output=True).returncode == 0:
            return python
    where = f"{named}, which {PYTHON} names, has none" if named else "it cannot stand beside edgeft's transformers"
    raise MissingError(f"this needs optimum-onnx in an environment of its own: {where}", do=_INSTALL)


def export(
    source: ExportSource,
    type_name: str,
    folder: Path,
    options: OnnxOptions,
    head_size: int,
    scratch: Path,
    listen: Listener,
) -> tuple[Settings, dict[str, str]]:
    """Merge into `scratch`, have optimum write the graph, quantize it, describe it. (what a device must know, the
    versions that wrote the graph). Raises as `build` does."""
    from edgeft.exporters import hf

    python = python_with_optimum()
    merged = scratch / "merged"
    merged.mkdir()
    hf.export(source, merged, {} if options.threads is None else {"threads": options.threads}, listen)
    config = read_json(merged / "config.json")
    settings = settings_of(merged, source.adapter, config, options.max_length)
    for_transformers_4(merged)
    listen(Progress(1, 3, "step", "optimum traces the graph"))
    versions = build(merged, folder, python=python)
    if type_name in _BITS:
        quantize(
            folder / _GRAPH,
            bits=_BITS[type_name],
            block_size=options.block,
            accuracy_level=options.accuracy_level,
        )
    write_json(folder / CONFIG, runtime_settings(folder, config, head_size))
    write_settings(folder, merged, settings, source, type_name, options)
    return settings, versions


def build(checkpoint: Path, folder: Path, *, python: Path, task: str = "text-generation-with-past") -> dict[str, str]:
    """Have optimum write `checkpoint`'s graph, its tokenizer and configs into `folder`; the versions that did.

    checkpoint  a folder that transformers 4 reads; see `for_transformers_4`
    Raises `ModelError` with optimum's own words for what it does not export.
    """
    answer = checkpoint / "optimum.json"  # the checkpoint is a scratch folder
    done = subprocess.run(
        [python, "-I", _WORKER, checkpoint, folder, task, answer],  # -I: nothing of this process's paths or this folder
        capture_output=True,
        text=True,
        check=False,
    )
    told = read_json(answer) if answer.is_file() else {}
    if "refused" in told:
        raise ModelError(
            f"optimum does not export this model: {told['refused']}",
            where=checkpoint / "config.json",
            do="export it with backend: genai, or as GGUF",
        )
    if done.returncode or not (folder / _GRAPH).is_file():
        lines = done.stderr.strip().splitlines()
        raise EdgeftError(
            f"optimum's export ended with exit code {done.returncode}: {lines[-1] if lines else 'it said nothing'}",
            do=f"try it by hand: {python} -I {_WORKER} CHECKPOINT FOLDER {task} ANSWER",
        )
    return dict(told["versions"])


def for_transformers_4(folder: Path) -> None:
    """Say in config.json and tokenizer_config.json of `folder` what transformers 5 says elsewhere.

    transformers 4 does not know `rope_parameters`: it would take the default base of 10,000 without a word, and write a
    graph that is wrong at every position. `ModelError` for a rotary embedding per layer type, which it cannot be told.
    """
    config = read_json(folder / "config.json")
    rope = config.pop("rope_parameters", None)
    if isinstance(rope, Mapping):
        if any(isinstance(value, Mapping) for value in rope.values()):
            raise ModelError(
                "its rotary embeddings differ from layer to layer, which the transformers of optimum cannot be told",
                where=folder / "config.json",
                do="export it with backend: genai, or as GGUF",
            )
        settings = dict(rope)
        config["rope_theta"] = settings.pop("rope_theta", config.get("rope_theta", 10_000.0))
        partial = settings.pop("partial_rotary_factor", None)
        if partial is not None:
            config["partial_rotary_factor"] = partial
        kind = settings.pop("rope_type", "default")
        config["rope_scaling"] = None if kind == "default" else {"rope_type": kind, **settings}
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    write_json(folder / "config.json", config)
    described = folder / "tokenizer_config.json"
    if described.is_file():
        tokenizer = read_json(described)
        if tokenizer.get("tokenizer_class") == "TokenizersBackend":
            write_json(described, {**tokenizer, "tokenizer_class": "PreTrainedTokenizerFast"})


def quantize(graph: Path, *, bits: int, block_size: int, accuracy_level: int) -> None:
    """Rewrite the products of `graph` as MatMulNBits, in place, by ONNX Runtime's own quantizer.

    The model is held whole. Weights in blocks along the input, symmetric. The embeddings stay as they are, and so does
    an output layer that is tied to them: in optimum's graph it is no constant but their transpose.
    """
    import logging

    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)  # a line per node
    quantizer = MatMulNBitsQuantizer(
        onnx.load(str(graph)), bits=bits, block_size=block_size, is_symmetric=True, accuracy_level=accuracy_level
    )
    quantizer.process()
    data = graph.with_name(graph.name + ".data")
    for old in graph.parent.glob(f"{graph.name}_data*"):
        old.unlink()
    onnx.save_model(
        quantizer.model.model, str(graph), save_as_external_data=True, location=data.name, size_threshold=1024
    )
    data.chmod(graph.stat().st_mode)  # onnx writes it for its owner only


def runtime_settings(folder: Path, config: Mapping[str, Any], head_size: int) -> dict[str, Any]:
    """genai_config.json for optimum's graph: the same inputs by their names, the KV cache by its pattern.

    Form: onnxruntime-genai's configuration reference; what depends on the tokenizer is filled in by `settings`.
    """
    import onnx

    graph = onnx.load(str(folder / _GRAPH), load_external_data=False).graph
    named = {entry.name for entry in graph.input}
    inputs = {name: name for name in ("input_ids", "attention_mask", "position_ids") if name in named}
    cache = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    present = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    heads = int(config["num_attention_heads"])
    return {
        "model": {
            "bos_token_id": 0,
            "context_length": int(config["max_position_embeddings"]),
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": _GRAPH,
                "head_size": head_size,
                "hidden_size": int(config["hidden_size"]),
                "inputs": {**inputs, **cache},
                "outputs": {"logits": "logits", **present},
                "num_attention_heads": heads,
                "num_hidden_layers": int(config["num_hidden_layers"]),
                "num_key_value_heads": int(config.get("num_key_value_heads") or heads),
            },
            "eos_token_id": 0,
            "pad_token_id": 0,
            "type": "llama",  # onnxruntime-genai's name for any decoder with a plain KV cache
            "vocab_size": int(config["vocab_size"]),
        },
        "search": {
            "do_sample": False,
            "early_stopping": True,
            "max_length": int(config["max_position_embeddings"]),
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": False,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
        },
    }
