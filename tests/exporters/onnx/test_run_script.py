"""run.py and the layout of transformers.js: what lies beside a graph and runs without edgeft."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.exporters import ExportSource
from edgeft.exporters.onnx.decoder import export
from edgeft.exporters.onnx.run_script import chat_parts, run_script
from edgeft.models import template
from edgeft.runtimes.onnx import open_onnx
from tests.models_made import CHAT_TEMPLATE

LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'system' %}{{ raise_exception('no system') }}{% else %}{{ ' ' + m.content.strip() + ' </s>' }}"
    "{% endif %}{% endfor %}"
)
THINKS = CHAT_TEMPLATE.replace("message['content']", "(message['content'] if loop.last else message['content'][:3])")


@pytest.mark.parametrize(("text", "tokens"), [(CHAT_TEMPLATE, {}), (LLAMA2, {"bos_token": "<s>"})])
@pytest.mark.parametrize("system", [True, False])
def test_the_script_writes_conversations_as_the_template(text: str, tokens: dict[str, str], system: bool) -> None:
    messages = [{"role": role, "content": f" it's {role}\n"} for role in ["user", "assistant"] * 2 + ["user"]]
    if system:
        messages.insert(0, {"role": "system", "content": "Be brief."})
    space: dict[str, Any] = {"__name__": "run", "__file__": __file__}
    exec(run_script(text, tokens), space)
    if system and text == LLAMA2:
        with pytest.raises(SystemExit, match="takes no system message"):
            space["render"](messages)
        return
    assert space["render"](messages) == template.render(text, messages, add_generation_prompt=True, variables=tokens)


@pytest.mark.parametrize("text", [THINKS, CHAT_TEMPLATE + "{{ strftime_now('%Y') }}", "{{ oops("])
def test_templates_that_cannot_be_taken_apart(text: str) -> None:
    assert chat_parts(text, {}) is None
    assert "CHAT = None" in run_script(text, {})


def test_it_is_short() -> None:
    assert run_script(CHAT_TEMPLATE, {}).count("\n") < 150


@pytest.mark.parametrize("type_name", ["fp32", "int4"])
def test_it_answers_as_the_runtime(type_name: str, exported: Any) -> None:
    folder, _ = exported(type_name)
    assert run(sys.executable, folder) == expected(folder)


def run(python: str, folder: Path) -> str:
    command = [python, str(folder / "run.py"), "Turn the light on", "--max-tokens", "16", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder.parent, env={})
    assert done.stderr == ""
    return done.stdout.removesuffix("\n")


def expected(folder: Path) -> str:
    with open_onnx(folder, engine="plain", threads=1) as runtime:
        asked = runtime.render([{"role": "user", "content": "Turn the light on"}], add_generation_prompt=True)
        return runtime.generate([runtime.encode(asked)], max_tokens=16)[0].text


@pytest.mark.slow
def test_in_a_clean_environment_with_three_packages(exported: Any, tmp_path: Path) -> None:
    venv.create(tmp_path / "clean", with_pip=True)
    python = str(tmp_path / "clean" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "tokenizers", "numpy"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("no package index is within reach")
    names = ("torch", "transformers", "edgeft", "jinja2", "onnxruntime_genai")
    absent = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    found = subprocess.run([python, "-c", absent], capture_output=True, text=True, check=True, cwd=tmp_path, env={})
    assert found.stdout == "[]\n"
    folder, _ = exported("int4")
    assert run(python, folder) == expected(folder)


@pytest.mark.parametrize(
    ("type_name", "options", "file", "cache"),
    [
        ("fp32", {}, "model", None),
        ("fp16", {}, "model_fp16", {"fp16": "float16"}),
        ("int8", {}, "model_quantized", None),
        ("int4", {}, "model_q4", None),
        ("int4", {"device": "web"}, "model_q4f16", {"q4f16": "float16"}),
    ],
)
def test_the_layout_of_transformers_js(
    type_name: str, options: dict[str, Any], file: str, cache: Any, tiny_llama: Path, tmp_path: Path
) -> None:
    import onnxruntime

    export(ExportSource(tiny_llama), type_name, tmp_path, {**options, "layout": "transformers.js"})
    settings = json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]
    assert settings["use_external_data_format"] == {f"{file}.onnx": 1}
    assert settings.get("kv_cache_dtype") == cache
    assert f'dtype: "{settings["dtype"]}"' in (tmp_path / "README.md").read_text()
    assert (tmp_path / "onnx" / f"{file}.onnx_data").stat().st_ino == (tmp_path / "model.onnx.data").stat().st_ino
    ids = np.arange(5)[None]
    found = []
    for graph in (tmp_path / "model.onnx", tmp_path / "onnx" / f"{file}.onnx"):
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        feeds = {
            entry.name: np.zeros((1, 2, 0, 64), kinds[entry.type])
            for entry in session.get_inputs()
            if entry.name.startswith("past")
        }
        given = {"input_ids": ids, "attention_mask": np.ones((1, 5), np.int64), "position_ids": ids}
        names = {entry.name for entry in session.get_inputs()}
        found.append(session.run(["logits"], feeds | {key: given[key] for key in given if key in names})[0])
    assert np.array_equal(*found)
