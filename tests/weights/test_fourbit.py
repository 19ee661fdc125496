"""A bitsandbytes 4-bit checkpoint: its values are bitsandbytes' own; merging from it alone; and damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeft.errors import ModelError
from edgeft.exporters import ExportSource, hf
from edgeft.weights import open_weights
from tests.models_made import make_adapter, make_llama

SMALL: dict[str, Any] = {"hidden": 64, "intermediate": 104, "head_dim": 16}
WEIGHT = "model.layers.0.mlp.down_proj.weight"


def packed(base: Path, folder: Path, *, double: bool = True, kind: str = "nf4", storage: str = "uint8") -> Path:
    """The checkpoint as transformers saves it in 4 bits; the tokenizer's files beside it."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=getattr(torch, storage),
    )
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=how, device_map="cpu", dtype="auto")
    model.save_pretrained(folder)
    for path in base.glob("*token*"):
        shutil.copy(path, folder)
    shutil.copy(base / "chat_template.jinja", folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("made") / "base", tied=False, **SMALL)


@pytest.fixture(scope="module")
def four_bit(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(base, tmp_path_factory.mktemp("packed") / "base")


def expected(folder: Path) -> dict[str, torch.Tensor]:
    """What bitsandbytes' own dequantization of the loaded checkpoint gives."""
    from bitsandbytes.functional import QuantState, dequantize_4bit

    tensors = load_file(folder / "model.safetensors")
    found = {}
    for name, tensor in tensors.items():
        parts = {key: value for key, value in tensors.items() if key.startswith(name + ".")}
        if any("quant_state" in key for key in parts):
            parts = {key.removeprefix(name + "."): value for key, value in parts.items()}
            state = QuantState.from_dict(parts, device=torch.device("cpu"))
            found[name] = dequantize_4bit(tensor.view(torch.uint8).reshape(-1, 1), state)
        elif not any(name.startswith(f"{other}.") for other in tensors):
            found[name] = tensor
    return found


@pytest.mark.parametrize(
    "how", [{}, {"double": False}, {"kind": "fp4"}, {"storage": "bfloat16"}], ids=["nf4", "plain", "fp4", "as-bf16"]
)
def test_values_are_those_of_bitsandbytes(base: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    folder = packed(base, tmp_path / "packed", **how)
    wanted, found = expected(folder), open_weights(folder)
    assert set(found) == set(wanted) == set(open_weights(base))
    for name, tensor in found.items():
        assert (tensor.shape, tensor.dtype) == (tuple(wanted[name].shape), "BF16")
        assert torch.equal(tensor.read(), wanted[name]), name
        assert torch.equal(torch.cat(list(tensor.chunks(7, start=1, stop=60))), wanted[name][1:60])
    assert not torch.equal(found[WEIGHT].read(), open_weights(base)[WEIGHT].read())


def test_float16_weights_stay_float16(tmp_path: Path) -> None:
    folder = packed(make_llama(tmp_path / "base", dtype="float16", **SMALL), tmp_path / "packed")
    assert open_weights(folder)[WEIGHT].dtype == "F16"
    assert torch.equal(open_weights(folder)[WEIGHT].read(), expected(folder)[WEIGHT])


def test_merge_from_the_four_bit_checkpoint_alone(base: Path, four_bit: Path, tmp_path: Path) -> None:
    """Equal to peft's merge into the dequantized model; what is written is a plain 16-bit checkpoint."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = make_adapter(tmp_path / "adapter", base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model.load_state_dict(expected(four_bit))
    wanted = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    out = tmp_path / "merged"
    out.mkdir()
    hf.export(ExportSource(four_bit, adapter, name="m", base_ref="m"), out, {"threads": 1})
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    written = load_file(out / "model.safetensors")
    assert set(written) == set(wanted)
    assert all(torch.equal(written[name], wanted[name]) for name in written)
    assert AutoModelForCausalLM.from_pretrained(out, dtype="auto").dtype == torch.bfloat16


def test_gguf_from_the_four_bit_checkpoint_alone(four_bit: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    from edgeft.exporters.gguf.export import export

    export(ExportSource(four_bit, name="m", base_ref="m"), "f16", tmp_path, {"threads": 1})
    (path,) = tmp_path.glob("*.gguf")
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    wanted = expected(four_bit)[WEIGHT].half().numpy()
    assert (tensors["blk.0.ffn_down.weight"].data == wanted).all()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantized \(gptq\)"),
        ({"quant_method": "awq"}, r"\(awq\)"),
        ({"quant_method": "fp8"}, r"\(fp8\)"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, r"\(bitsandbytes 8-bit\)"),
        ("yes", r"\(unknown\)"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "no weight has a quant_state"),
    ],
)
def test_other_quantizations_are_refused_by_name(base: Path, tmp_path: Path, table: Any, says: str) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": table}))
    with pytest.raises(ModelError, match=says):
        open_weights(folder)


STATE = f"{WEIGHT}.quant_state.bitsandbytes__nf4"


def blob(**changes: Any) -> torch.Tensor:
    state = {
        "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 104],
        "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.2,
    }  # fmt: skip
    return raw(json.dumps({**state, **changes}).encode())


def raw(data: bytes) -> torch.Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (STATE, raw(b'{"quant_type": "nf4"'), "cannot be read"),
        (STATE, raw(b"\xff\xfe"), "cannot be read"),
        (STATE, raw(b"[1]"), "cannot be read"),
        (STATE, raw(b"{}" + b" " * 5000), "5002 bytes"),
        (STATE, blob(dtype="int3"), "does not know its 'int3'"),
        (STATE, blob(shape=[64, 105]), "needs 3360"),
        (STATE, blob(shape=[1 << 60, 1 << 60]), "absurd"),
        (STATE, blob(shape=[-64, -104]), "absurd"),
        (STATE, blob(shape=[]), "absurd"),
        (STATE, blob(blocksize=0), "absurd"),
        (STATE, blob(blocksize=128), "52 blocks of 128"),
        (STATE, blob(nested_offset=float("inf")), "absurd"),
        (STATE, blob(quant_type="fp4"), "of the type 'fp4'"),
        (f"{WEIGHT}.absmax", torch.zeros(5, dtype=torch.uint8), "5 block maxima"),
        (f"{WEIGHT}.absmax", None, "0 block maxima"),
        (f"{WEIGHT}.nested_absmax", None, "not there"),
        (f"{WEIGHT}.nested_quant_map", torch.zeros(3), "another size"),
        (WEIGHT, torch.zeros(7, 1, dtype=torch.uint8), "7 bytes"),
        (WEIGHT, None, "not the weight"),
    ],
)
def test_damaged_states(four_bit: Path, tmp_path: Path, name: str, value: torch.Tensor | None, says: str) -> None:
    folder = Path(shutil.copytree(four_bit, tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name)
    tensors |= {} if value is None else {name: value}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=says):
        open_weights(folder)


def test_nan_in_the_block_maxima(four_bit: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(four_bit, tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{WEIGHT}.nested_absmax"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="NaN"):
        open_weights(folder)[WEIGHT].read()
