"""What is particular to ONNX folders: files that lie about where they are, and what onnxruntime-genai itself does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import ModelError
from edgeft.runtimes.onnx import open_onnx

ASK = [{"role": "user", "content": "Hi"}]


def edit_config(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "genai_config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    return edit


def point_data_at(location: str) -> Callable[[Path], None]:
    """Let the graph's weights lie elsewhere."""

    def edit(folder: Path) -> None:
        import onnx

        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        onnx.save(model, folder / "model.onnx")
        shutil.copy(folder / "model.onnx.data", folder.parent / "outside.data")

    return edit


def link_data_out(folder: Path) -> None:
    (folder / "model.onnx.data").rename(folder.parent / "outside.data")
    (folder / "model.onnx.data").symlink_to(folder.parent / "outside.data")


def cut_data(folder: Path) -> None:
    path = folder / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:-100])


def spoil_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"\xff" * 100)


def set_option(**options: Any) -> Callable[[Path], None]:
    return edit_config(lambda config: config["model"]["decoder"]["session_options"].update(options))


def set_model(**values: Any) -> Callable[[Path], None]:
    return edit_config(lambda config: config["model"].update(values))


def set_graph(name: str) -> Callable[[Path], None]:
    return edit_config(lambda config: config["model"]["decoder"].update(filename=name))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (point_data_at("../outside.data"), "'../outside.data' points outside the model's folder"),
        (point_data_at("/etc/hostname"), "'/etc/hostname' points outside the model's folder"),
        (point_data_at("gone.data"), "the file 'gone.data' is missing"),
        (link_data_out, "'model.onnx.data' points outside the model's folder"),
        (cut_data, "the file is cut off"),
        (spoil_graph, "this is not a readable ONNX file"),
        (set_graph("../model.onnx"), "points outside the model's folder"),
        (set_graph("other.onnx"), "the file 'other.onnx' is missing"),
        (set_option(custom_ops_library="/tmp/evil.so"), "'custom_ops_library' would load native code"),
        (set_model(vocab_size="many"), "model.vocab_size must be a positive whole number"),
        (set_model(decoder=None), "it describes no decoder"),
        (lambda folder: (folder / "genai_config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "genai_config.json").write_text("[]"), "a JSON object is expected"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "onnxruntime-genai cannot load this folder"),
    ],
)
def test_a_tampered_folder_is_refused(
    tamper: Callable[[Path], None], message: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_onnx, tmp_path / "copy")
    tamper(folder)
    with pytest.raises(ModelError, match=message):
        open_onnx(folder)


def test_an_untouched_copy_opens(tiny_onnx: Path, tmp_path: Path) -> None:
    with open_onnx(shutil.copytree(tiny_onnx, tmp_path / "copy")) as runtime:
        assert runtime.name == "onnx fp32"


def test_it_answers_as_onnxruntime_genai_itself(
    opened: dict[str, Any], prompts: list[list[int]], tiny_onnx: Path
) -> None:
    """The library's own greedy search over the same folder, from the text on."""
    import onnxruntime_genai as genai

    model = genai.Model(str(tiny_onnx))
    for ids, answer in zip(prompts[:4], opened["onnx"].generate(prompts[:4], max_tokens=12), strict=True):
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=len(ids) + 12, do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        said = answer.ids[:-1] if answer.stopped else answer.ids  # the library leaves the stop token out
        assert list(said) == generator.get_sequence(0)[len(ids) :].tolist()


def test_its_tokenizer_is_the_devices(opened: dict[str, Any], tiny_onnx: Path) -> None:
    """Where onnxruntime-genai's tokenizer differs from training's, the runtime shows it: no Unicode normalisation."""
    import onnxruntime_genai as genai

    decomposed = "cafe\u0301"
    expected = genai.Tokenizer(str(tiny_onnx)).encode(decomposed).tolist()
    assert opened["onnx"].encode(decomposed) == expected
    assert opened["hf"].encode(decomposed) != expected


def test_rows_in_pieces(opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.runtimes import onnx

    ids = [(7 * i) % 300 for i in range(300)]
    whole = opened["onnx"].logits(ids)
    monkeypatch.setattr(onnx, "_KEPT_OUTPUTS", 320 * 64)
    pieces = opened["onnx"].logits(ids)
    assert pieces.shape == (300, 320)
    assert np.abs(pieces - whole).max() < 1e-4


def test_text_leaves_special_tokens_out(opened: dict[str, Any]) -> None:
    ids = [318, *opened["onnx"].encode("Hi é"), 319]
    assert opened["onnx"].decode(ids) == opened["hf"].decode(ids) == opened["gguf"].decode(ids) == "Hi é"
    assert opened["onnx"].decode([319]) == opened["hf"].decode([319]) == opened["gguf"].decode([319]) == ""


def test_a_template_in_the_tokenizers_settings(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_onnx, tmp_path / "copy")
    (folder / "chat_template.jinja").unlink()
    with open_onnx(folder) as runtime, pytest.raises(ModelError, match="no chat template"):
        runtime.render(ASK)
    path = folder / "tokenizer_config.json"
    template = "{{ messages[0].content }}{{ eos_token }}"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    with open_onnx(folder) as runtime:
        assert runtime.render(ASK) == "Hi<|im_end|>"


def test_onnxruntime_says_nothing(tiny_onnx: Path) -> None:
    code = "import sys; from pathlib import Path; from edgeft.runtimes.onnx import open_onnx\n"
    code += "with open_onnx(Path(sys.argv[1])) as runtime: runtime.generate([[1, 2, 3]], max_tokens=2)"
    done = subprocess.run([sys.executable, "-c", code, str(tiny_onnx)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
