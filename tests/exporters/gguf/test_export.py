"""One pass from base and adapter to GGUF: llama.cpp's own quantizer makes the same bytes, its runtime same answers."""

from __future__ import annotations

import ctypes
import errno
import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
import torch

from edgeft.errors import InputError, ModelError, StorageError
from edgeft.exporters import Exported, ExportSource
from edgeft.exporters.gguf import writer
from edgeft.exporters.gguf.export import check, export, file_name
from edgeft.exporters.gguf.ggml import log_text
from edgeft.exporters.gguf.types import TYPES
from edgeft.progress import Progress, silent
from edgeft.weights import open_weights
from tests.models_made import make_adapter, make_llama

QUANTIZED = [name for name, kind in TYPES.items() if not (kind.plain or kind.imatrix)]


def exported(source: ExportSource, type_name: str, folder: Path, **options: Any) -> tuple[Path, Exported]:
    folder.mkdir(parents=True, exist_ok=True)
    done = export(source, type_name, folder, {"threads": 1, **options}, silent)
    return folder / done.facts["file"], done


def requantized(path: Path, type_name: str, to: Path) -> bytes:
    """What llama.cpp's own quantizer makes of an unquantized file."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = TYPES[type_name].number, 1
    with log_text() as lines:
        code = llama_cpp.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(params))
    assert code == 0, "".join(lines)
    return to.read_bytes()


@pytest.fixture(scope="module")
def source(tiny_llama: Path, tiny_adapter: Path) -> ExportSource:
    return ExportSource(tiny_llama, tiny_adapter, merge_base="pristine", name="tiny", base_ref="builtin:tiny")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    """Widths that K-quants (96) and partly even 32-value blocks (80) do not divide; its head is not tied."""
    folder = tmp_path_factory.mktemp("narrow")
    return ExportSource(make_llama(folder / "base", hidden=96, intermediate=80, head_dim=24, tied=False), name="narrow")


@pytest.mark.parametrize("type_name", QUANTIZED)
def test_byte_for_byte_what_llama_cpp_quantizes(source: ExportSource, type_name: str, tmp_path: Path) -> None:
    """The whole file, header included: types, order and bytes are llama.cpp's own."""
    plain, _ = exported(source, "bf16", tmp_path / "plain")
    ours, done = exported(source, type_name, tmp_path / "ours", threads=3)
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf")
    assert done.facts["fallbacks"] == {}
    assert done.facts["size"] == ours.stat().st_size


@pytest.mark.parametrize("type_name", ["q8_0", "q4_k_m", "q4_0", "iq4_xs"])
def test_widths_that_a_type_cannot_hold_fall_back_as_llama_cpp_does(
    narrow: ExportSource, type_name: str, tmp_path: Path
) -> None:
    plain, _ = exported(narrow, "bf16", tmp_path / "plain")
    ours, done = exported(narrow, type_name, tmp_path / "ours")
    assert ours.read_bytes() == requantized(plain, type_name, tmp_path / "theirs.gguf")
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(ours).tensors}
    assert done.facts["fallbacks"]
    for name, (meant, got) in done.facts["fallbacks"].items():
        assert types[name] == got != meant, name


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_checkpoint_dtypes(dtype: str, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", dtype=dtype)
    plain, _ = exported(ExportSource(base), "f16" if dtype == "float16" else "f32", tmp_path / "plain")
    ours, _ = exported(ExportSource(base), "q4_k_m", tmp_path / "ours")
    assert ours.read_bytes() == requantized(plain, "q4_k_m", tmp_path / "theirs.gguf")


def test_f16_holds_the_merged_values(source: ExportSource, tmp_path: Path) -> None:
    """Rounded to the checkpoint's bfloat16 first, as the merged checkpoint is; q and k rows in llama.cpp's order."""
    path, _ = exported(source, "f16", tmp_path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = open_weights(source.base, source.adapter, merge_base="pristine")
    names = {
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "token_embd.weight": "model.embed_tokens.weight",
    }
    for theirs, ours in names.items():
        assert tensors[theirs].tensor_type == gguf.GGMLQuantizationType.F16
        assert np.array_equal(tensors[theirs].data, weights[ours].read().half().numpy())
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    query = weights["model.layers.1.self_attn.q_proj.weight"].read().half()
    pairs = query.reshape(4, 2, 32, 256).transpose(1, 2).reshape(256, 256)
    assert np.array_equal(tensors["blk.1.attn_q.weight"].data, pairs.numpy())
    assert "output.weight" not in tensors  # tied


def test_the_same_bytes_again_and_with_other_threads(source: ExportSource, tmp_path: Path) -> None:
    first, _ = exported(source, "q4_k_m", tmp_path / "a", threads=1)
    second, _ = exported(source, "q4_k_m", tmp_path / "b", threads=2)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "README.md").read_bytes() == (tmp_path / "b" / "README.md").read_bytes()


def test_who_quantizes_does_not_show(source: ExportSource, tmp_path: Path) -> None:
    made = {}
    for quantizer in ("fast", "ggml"):
        path, done = exported(source, "q4_k_m", tmp_path / quantizer, quantizer=quantizer, threads=2)
        made[quantizer] = path.read_bytes()
        wanted = ["q4_k", "q6_k"] if quantizer == "fast" else []
        assert done.measurements["fast_types"] == wanted
    assert made["fast"] == made["ggml"]


@pytest.mark.parametrize("chunk_rows", [16, 64, 100])
def test_chunks_do_not_show(
    source: ExportSource, chunk_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = exported(source, "q4_k_m", tmp_path / "whole")
    monkeypatch.setattr("edgeft.weights.deferred.Deferred.rows_for", lambda self, nbytes=0: chunk_rows)
    pieces, _ = exported(source, "q4_k_m", tmp_path / "pieces")
    assert whole.read_bytes() == pieces.read_bytes()


def test_progress_counts_every_byte(source: ExportSource, tmp_path: Path) -> None:
    seen: list[Progress] = []
    export(source, "q8_0", tmp_path, {"threads": 1}, seen.append)
    assert [item.done for item in seen] == sorted(item.done for item in seen)
    assert seen[-1].done == seen[-1].total


def test_facts_and_metadata(source: ExportSource, tmp_path: Path) -> None:
    path, done = exported(source, "q4_k_m", tmp_path)
    assert done.facts["tensors"] == {"f32": 5, "q4_k": 12, "q6_k": 3}
    assert done.facts["merge_base"] == "pristine"
    assert done.facts["base"] == "builtin:tiny"
    fields = gguf.GGUFReader(path).fields
    assert fields["general.file_type"].contents() == 15
    assert fields["general.name"].contents() == "tiny"
    assert fields["general.base_model.0.name"].contents() == "builtin:tiny"
    assert fields["llama.attention.head_count_kv"].contents() == 2
    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"
    assert fields["tokenizer.chat_template"].contents() == (source.base / "chat_template.jinja").read_text()
    json.dumps(dict(done.facts), allow_nan=False)
    assert path.name in (tmp_path / "README.md").read_text()


# --- in llama.cpp ---------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    models: list[llama_cpp.Llama] = []

    def open_file(path: Path) -> llama_cpp.Llama:
        models.append(llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1))
        return models[-1]

    yield open_file
    for model in models:
        model.close()


def assert_same_answers(source: ExportSource, model: llama_cpp.Llama) -> None:
    """Logits agree with Transformers to float16's accuracy, and greedy continuations word for word."""
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(source.base, dtype=torch.float32).eval()
    weights = open_weights(source.base, source.adapter, merge_base=source.merge_base)
    merged.load_state_dict({name: tensor.read().float() for name, tensor in weights.items()}, strict=False)
    ids = [299, 17, 33, 250, 4, 99, 120, 301, 45, 45, 7, 200]
    with torch.no_grad():
        want = merged(torch.tensor([ids])).logits[0].numpy()
    model.reset()
    model.eval(ids)
    got = np.array(model.scores[: len(ids)])
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()
    assert np.array_equal(got.argmax(-1), want.argmax(-1))
    greedy = merged.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    found: list[int] = []
    for token in model.generate(ids, temp=0.0, reset=True):
        found.append(token)
        if len(found) == 12:
            break
    assert found == greedy[0, len(ids) :].tolist()


def test_llama_cpp_answers_as_transformers_does(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    assert_same_answers(source, opened(exported(source, "f16", tmp_path)[0]))


@pytest.mark.parametrize(
    "rope",
    [
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    ],
    ids=["llama3", "linear"],
)
def test_rope_scaling(rope: dict[str, Any], opened: Any, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=32, heads=4, rope_parameters=rope)
    source = ExportSource(base)
    assert_same_answers(source, opened(exported(source, "f32", tmp_path / "out")[0]))


def test_biases_and_an_untied_head(opened: Any, tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, tied=False, attention_bias=True)
    weights = {name: tensor.read() for name, tensor in open_weights(base).items()}
    generator = torch.Generator().manual_seed(5)
    for name, values in weights.items():
        if name.endswith(".bias"):
            weights[name] = torch.randn(values.shape, generator=generator).to(values.dtype)
    from safetensors.torch import save_file

    save_file(weights, base / "model.safetensors", {"format": "pt"})
    source = ExportSource(base)
    assert_same_answers(source, opened(exported(source, "f32", tmp_path / "out")[0]))


def test_token_ids_and_stop_tokens(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from edgeft.evals.awkward import STRINGS

    model = opened(exported(source, "q8_0", tmp_path)[0])
    tokenizer = Tokenizer.from_file(str(source.base / "tokenizer.json"))
    compared = 0
    for string in STRINGS:
        if string.required:
            compared += 1
            found = model.tokenize(string.text.encode(), add_bos=False, special=True)
            assert found == tokenizer.encode(string.text).ids, string.name
    assert compared > 20
    assert model.tokenize(b"hello", add_bos=True)[0] != model.token_bos()  # add_bos is off
    assert model.token_eos() == tokenizer.token_to_id("<|im_end|>")


# --- what is refused, and that nothing stays behind -----------------------------------------------------------------


def test_unknown_type(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match="q4_k_x") as caught:
        check(tiny_llama, "q4_k_x")
    assert "did you mean" in str(caught.value)


def config_with(base: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM.*\n.*LlamaForCausalLM"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"vocab_size": 100}, "vocab_size is 100"),
    ],
)
def test_models_that_gguf_cannot_hold(tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check(config_with(tiny_llama, tmp_path / "base", **changes), "q8_0")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"num_hidden_layers": 3}, "no tensor for 'blk.2"), ({"num_attention_heads": 3}, "3 heads do not divide")],
)
def test_weights_that_do_not_fit_the_config(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    base = config_with(tiny_llama, tmp_path / "base", **changes)
    with pytest.raises(ModelError, match=says):
        exported(ExportSource(base), "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_vocabulary_larger_than_the_tokenizer_is_padded(tiny_llama: Path, opened: Any, tmp_path: Path) -> None:
    """Many checkpoints have a few rows more than tokens."""
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16, vocab_size=300)
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([embedding, embedding[:20]])
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    path, done = exported(ExportSource(base), "q8_0", tmp_path / "out")
    assert done.facts["vocab_size"] == 320
    assert opened(path).n_vocab() == 320


def test_values_beyond_float16(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", hidden=64, intermediate=96, head_dim=16)
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="16-bit floats") as caught:
        exported(ExportSource(base), "f16", tmp_path / "out")
    assert "bf16" in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
    exported(ExportSource(base), "bf16", tmp_path / "out")


def test_adapter_of_another_base(source: ExportSource, tmp_path: Path) -> None:
    """By its training.json's digest, even when every shape fits."""
    adapter = Path(shutil.copytree(source.adapter or Path(), tmp_path / "adapter"))
    (adapter / "training.json").write_text(json.dumps({"base": {"ref": "some/model", "digest": "0" * 64}}))
    with pytest.raises(ModelError, match="another base model") as caught:
        exported(ExportSource(source.base, adapter), "q8_0", tmp_path / "out")
    assert "some/model" in str(caught.value)


def test_nan_leaves_nothing_behind(source: ExportSource, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = Path(shutil.copytree(source.adapter or Path(), tmp_path / "adapter"))
    tensors = load_file(adapter / "adapter_model.safetensors")
    key = next(key for key in tensors if "layers.1.mlp.down_proj.lora_A" in key)
    tensors[key][0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="NaN"):
        exported(ExportSource(source.base, adapter), "q4_k_m", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_seen_before(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(StorageError, match=r"the disk has 1\.0 kB left"):
        exported(source, "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_fills_up(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    original = writer._write_tensor

    def fail_later(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(writer, "_write_tensor", fail_later)
    with pytest.raises(StorageError, match="full"):
        exported(source, "q8_0", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_real_limit_of_the_file_size(source: ExportSource, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(StorageError, match="larger than"):
            exported(source, "q8_0", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())


def test_a_read_only_folder(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out"))

    monkeypatch.setattr(writer, "write_header", refuse)
    with pytest.raises(StorageError, match="permission denied"):
        exported(source, "q8_0", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "file"),
    [("sprout-tuned", "sprout-tuned-f16.gguf"), ("a/b c:d", "a-b-c-d-f16.gguf"), ("...", "model-f16.gguf")],
)
def test_file_names(name: str, file: str) -> None:
    assert file_name(name, "f16") == file


def test_scratch_files_cannot_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where memory files do not exist, the header's scratch file goes away."""
    monkeypatch.delattr("os.memfd_create")
    with writer.scratch_file(tmp_path) as path:
        Path(path).write_bytes(b"x")
    assert not list(tmp_path.iterdir())


def test_adapters_made_elsewhere_fold_too(tiny_llama: Path, tmp_path: Path) -> None:
    """An adapter without training.json is folded into the pristine base, and the facts say so."""
    adapter = make_adapter(tmp_path / "adapter", tiny_llama, targets=("v_proj",))
    _, done = exported(ExportSource(tiny_llama, adapter), "q8_0", tmp_path / "out")
    assert done.facts["merge_base"] == "pristine"


# --- shards ---------------------------------------------------------------------------------------------------------


def test_shards_hold_the_file_and_llama_cpp_opens_them(source: ExportSource, opened: Any, tmp_path: Path) -> None:
    whole, _ = exported(source, "q8_0", tmp_path / "whole")
    first, done = exported(source, "q8_0", tmp_path / "split", max_shard_size="300KB")
    paths = sorted((tmp_path / "split").glob("*.gguf"))
    assert len(paths) > 3
    assert [path.name for path in paths] == done.facts["shards"]
    assert first.name == f"tiny-q8_0-00001-of-{len(paths):05d}.gguf"
    assert done.facts["size"] == sum(path.stat().st_size for path in paths)
    assert "llama-gguf-split --merge" in (tmp_path / "split" / "README.md").read_text()
    readers = [gguf.GGUFReader(path) for path in paths]
    one = gguf.GGUFReader(whole)
    found = [tensor for reader in readers for tensor in reader.tensors]
    assert [tensor.name for tensor in found] == [tensor.name for tensor in one.tensors]
    for ours, theirs in zip(found, one.tensors, strict=True):
        assert (ours.tensor_type, bytes(ours.data)) == (theirs.tensor_type, bytes(theirs.data)), ours.name
    for number, reader in enumerate(readers):
        assert reader.fields["split.no"].contents() == number
        assert reader.fields["split.count"].contents() == len(paths)
        assert reader.fields["split.tensors.count"].contents() == len(found)
    assert {key for key in one.fields if "." in key} < set(readers[0].fields)
    assert not any(key.startswith(("general.", "llama.", "tokenizer.")) for key in readers[1].fields)
    assert all(sum(tensor.n_bytes for tensor in reader.tensors) <= 300_000 for reader in readers)
    ids = [299, 17, 33, 250, 4, 99]
    split, plain = opened(first), opened(whole)
    for model in (split, plain):
        model.eval(ids)
    assert np.array_equal(np.array(split.scores[:6]), np.array(plain.scores[:6]))


def test_a_file_that_fits_is_not_split(source: ExportSource, tmp_path: Path) -> None:
    path, done = exported(source, "q8_0", tmp_path, max_shard_size="5GB")
    assert path.name == "tiny-q8_0.gguf"
    assert "shards" not in done.facts


def test_the_folder_of_shards_opens(source: ExportSource, tmp_path: Path) -> None:
    from edgeft.errors import ModelError
    from edgeft.runtimes import open_runtime

    first, _ = exported(source, "q8_0", tmp_path, max_shard_size="500KB")
    with open_runtime(tmp_path) as runtime:
        assert runtime.vocab_size == 320
    sorted(tmp_path.glob("*.gguf"))[-1].unlink()
    with pytest.raises(ModelError, match=r"one \.gguf file is expected"):
        open_runtime(tmp_path)
    assert first.exists()


def test_what_the_reader_finds_is_told_where_it_writes(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads ahead hands its errors on, and ends with the export."""
    import threading

    from edgeft.weights.fold import Finite

    def broken(self: Any, *_: Any, **__: Any) -> Iterator[Any]:
        raise ModelError("the file is cut short")
        yield

    monkeypatch.setattr(Finite, "chunks", broken)
    with pytest.raises(ModelError, match="cut short"):
        exported(source, "q8_0", tmp_path)
    assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
